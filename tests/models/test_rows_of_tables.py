"""A VAE's bound on a table means something: it is below log p(x), of the entries that are there."""

import pytest
import torch

from aecli.evaluation.likelihood import importance_bound
from aecli.likelihoods import Mixed
from aecli.models import VAE
from aecli.models.vae import log_normal
from aecli.networks import MLP
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.sparsity import Sparsity

FEATURES = [["number", 2], ["category", 3]]


@pytest.fixture(params=[False, True], ids=["whole", "masked"])
def trained(request):
    """Return a VAE with one latent, trained for a moment, and rows of a table."""
    z = torch.randn(64, 1)
    numbers = torch.cat([z, -z], dim=1) + 0.3 * torch.randn(64, 2)
    x = torch.cat([numbers, torch.eye(3)[(z[:, 0] > 0).long() + (z[:, 0] > 1)]], dim=1)
    features = FEATURES
    if request.param:
        features = [*FEATURES, ["mask", 3]]
        there = (torch.rand(64, 3) > 0.3).float()
        x = torch.cat([x * there[:, [0, 1, 2, 2, 2]], there], dim=1)
    model = VAE(
        network=MLP((x.shape[1],), [16], "tanh"),
        code_dim=1,
        noise=Noise(),
        sparsity=Sparsity(),
        likelihood=Mixed(features, 1.0, learn_sigma=True),
        optimizer=Optimization("adam", 1e-2),
        samples=100,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.terms(x).loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False), x


def test_the_elbo_is_a_bound_on_log_p_by_brute_force(trained):
    model, x = trained
    z = torch.linspace(-8, 8, 1601)[:, None]
    prior = log_normal(z, torch.zeros(()), torch.zeros(()))
    log_joint = model.decode(z).log_prob  # of one row at a time, for all z
    log_p = torch.stack(
        [(log_joint(row.expand(1601, -1)) + prior).logsumexp(0) for row in x]
    ) + torch.log(torch.tensor(16 / 1600))
    terms = model.terms(x)
    elbo = -(terms.nll + terms.kl)
    assert elbo < log_p.mean()
    assert elbo > log_p.mean() - 1  # it is no loose one
    estimate = importance_bound(model, x, samples=2000, at_once=64_000)
    torch.testing.assert_close(estimate, log_p, atol=0.05, rtol=0)
