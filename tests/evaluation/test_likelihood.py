import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from aecli.data import Batch
from aecli.evaluation.likelihood import importance_bound, marginal_nll
from aecli.likelihoods import Gaussian
from aecli.models import VAE
from tests.evaluation.test_metrics import parts

SIGMA = 0.7


@pytest.fixture
def linear_gaussian():
    """x = W z + b + SIGMA ε: log p(x) and the posterior are known."""
    model = VAE(**parts((1, 2, 2), Gaussian(SIGMA)), code_dim=2).double().requires_grad_(False)
    weight, bias = model.decoder[0].weight, model.decoder[0].bias
    # q has the true posterior's mean and the prior's variance: not it, but not far from it.
    gain = torch.linalg.solve(weight.T @ weight + SIGMA**2 * torch.eye(2).double(), weight.T)
    model.encoder[1].weight.copy_(torch.cat([gain, torch.zeros(2, 4)]))
    model.encoder[1].bias.copy_(torch.cat([-gain @ bias, torch.zeros(2)]))
    exact = MultivariateNormal(bias, weight @ weight.T + SIGMA**2 * torch.eye(4).double())
    x = exact.sample((20,)).view(20, 1, 2, 2)
    return model, x, exact.log_prob(x.flatten(1))


def test_importance_bound_converges_and_never_falls_as_samples_grow(linear_gaussian):
    model, x, exact = linear_gaussian
    means, errors = [], []
    for samples, repeats in [(1, 4000), (4, 2000), (16, 1000), (256, 100)]:
        many = x.repeat(repeats, 1, 1, 1)
        bound = importance_bound(model, many, samples, at_once=10**6)
        gap = (bound.view(repeats, len(x)) - exact).mean(1)
        means.append(gap.mean().item())
        errors.append(gap.std().item() / math.sqrt(repeats))
    assert means == sorted(means)
    assert means[0] < -0.05
    assert means[-1] == pytest.approx(0, abs=0.02)
    assert all(mean < 4 * error for mean, error in zip(means, errors, strict=True))


def test_importance_bound_is_exact_at_the_true_posterior_with_one_sample(linear_gaussian):
    model, x, _ = linear_gaussian
    # A diagonal W makes the true posterior diagonal, so that the encoder can hold it.
    diagonal = torch.tensor([[1.0, 0], [0, 2.0], [0, 0], [0, 0]]).double()
    model.decoder[0].weight.copy_(diagonal)
    model.decoder[0].bias.zero_()
    precision = 1 + diagonal.square().sum(0) / SIGMA**2
    model.encoder[1].weight.zero_()
    model.encoder[1].weight[:2] = diagonal.T / SIGMA**2 / precision[:, None]
    model.encoder[1].bias.copy_(torch.cat([torch.zeros(2), -precision.log()]))
    marginal = MultivariateNormal(
        torch.zeros(4).double(), diagonal @ diagonal.T + SIGMA**2 * torch.eye(4).double()
    )
    bound = importance_bound(model, x, samples=1, at_once=100)
    assert torch.allclose(bound, marginal.log_prob(x.flatten(1)))


def test_marginal_nll_decodes_in_bounded_pieces(linear_gaussian):
    model, x, exact = linear_gaussian
    decoded = []
    model.decoder.register_forward_hook(lambda _, inputs, __: decoded.append(len(inputs[0])))
    batches = [Batch(part, part, torch.zeros(len(part))) for part in x.split(12)]
    value = marginal_nll(model, batches, samples=2000, at_once=50)
    assert max(decoded) <= 50
    assert sum(decoded) == 2000 * 20
    assert value == pytest.approx(-exact.mean().item(), abs=0.02)


def test_many_small_shares_add_up_whatever_is_decoded_together(linear_gaussian, monkeypatch):
    model, x, _ = linear_gaussian
    weights = -2500 + 2 * torch.randn(3000, 1)
    given = iter(weights)
    monkeypatch.setattr(VAE, "log_weight", lambda *_: next(given)[None])
    bound = importance_bound(model.float(), x[:1].float(), samples=3000, at_once=1)
    expected = weights.double().logsumexp(dim=0) - math.log(3000)
    assert bound.item() == pytest.approx(expected.item(), abs=5e-4)
