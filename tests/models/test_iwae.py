import pytest
import torch
from torch.distributions import Independent, Normal

from aecli.evaluation.likelihood import importance_bound
from aecli.likelihoods import Bernoulli
from aecli.models import IWAE, VAE
from aecli.networks import MLP
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.sparsity import L1, Sparsity


def make(variant=IWAE, sparsity=None, **settings):
    torch.manual_seed(0)
    return variant(
        network=MLP((1, 8, 8), [16], "tanh"),
        code_dim=5,
        noise=Noise(),
        sparsity=sparsity or Sparsity(),
        likelihood=Bernoulli(),
        optimizer=Optimization("adam", 1e-3),
        **settings,
    )


@pytest.fixture
def x(images):
    return images.round()


def test_loss_is_the_log_mean_weight_of_torch_distributions(x):
    model = make(samples=4)
    torch.manual_seed(1)
    terms = model.terms(x)
    torch.manual_seed(1)
    posterior = model.posterior(x)
    z = posterior.sample(4)
    q = Independent(Normal(posterior.mean, (0.5 * posterior.log_variance).exp()), 1)
    prior = Independent(Normal(torch.zeros(5), torch.ones(5)), 1)
    log_p = torch.stack([model.decode(z_i).log_prob(x) for z_i in z])
    log_w = log_p + prior.log_prob(z) - q.log_prob(z)
    bound = (log_w.exp().mean(0).log()).mean()
    assert terms.loss.item() == pytest.approx(-bound.item(), rel=1e-4)
    assert terms.nll.item() == pytest.approx(-log_p.mean().item(), rel=1e-5)
    assert terms.code.shape == (4 * 16, 5)
    assert set(model.reported(terms)) == {"loss", "penalty", "nll", "kl", "elbo", "bound"}


def test_one_sample_is_the_vae_in_expectation(x):
    x = x[:1]
    with torch.no_grad():
        one = make(samples=1).terms(x.expand(20000, -1, -1, -1)).loss
        vae = make(VAE).terms(x.expand(20000, -1, -1, -1)).loss
    assert one.item() == pytest.approx(vae.item(), rel=2e-3)


def test_the_bound_tightens_with_more_samples(x):
    with torch.no_grad():
        x = x.repeat(200, 1, 1, 1)
        losses = [make(samples=k).terms(x).loss.item() for k in (1, 5, 50)]
    assert losses[0] > losses[1] > losses[2]


def test_it_is_what_eval_estimates(x):
    model = make(samples=5)
    torch.manual_seed(1)
    loss = model.terms(x).loss
    torch.manual_seed(1)
    assert -importance_bound(model, x, 5, at_once=1000).mean().item() == pytest.approx(loss.item())


def test_gradients_weigh_the_samples_by_their_share(x):
    """∇ log (1/k) Σ w_i = Σ w̃_i ∇ log w_i (Burda et al. 2015, eq. 13), for the decoder."""
    model = make(samples=3)
    torch.manual_seed(1)
    model.terms(x[:1]).loss.backward()
    bias = model.decoder[-2].bias
    got = bias.grad.clone()
    torch.manual_seed(1)
    posterior = model.posterior(x[:1])
    z = posterior.sample(3)
    log_w = torch.stack(
        [model.log_weight(posterior, z_i, model.decode(z_i).log_prob(x[:1])) for z_i in z]
    )
    shares = log_w.softmax(0).detach()
    (expected,) = torch.autograd.grad(-(shares * log_w).sum(), bias)
    assert torch.allclose(got, expected, atol=1e-6)


def test_a_penalty_joins_the_loss_but_not_the_bound(x):
    model = make(sparsity=L1(0.5), samples=3)
    terms = model.terms(x)
    reported = model.reported(terms)
    assert (reported["loss"] + reported["bound"]).item() == pytest.approx(
        terms.penalty.item(), rel=1e-3
    )
