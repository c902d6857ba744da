"""Priors against torch.distributions, quadrature and the exact likelihood of a Gaussian model."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from aecli.build import build
from aecli.errors import SettingError
from aecli.evaluation.annealing import Annealing
from aecli.evaluation.likelihood import importance_bound
from aecli.likelihoods import Bernoulli, Gaussian
from aecli.models import IWAE, VAE
from aecli.models.vae import Posterior
from aecli.networks import MLP
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.priors import Prior, Standard, Vamp, log_mixture
from aecli.randomness import TORCH, FixedDraws
from aecli.sparsity import Sparsity
from tests.conftest import configure

SHAPE = (1, 4, 4)
SIGMA = 0.7


class Sampled(Standard):
    """N(0, I) that does not know its KL."""

    kl = Prior.kl


def model(prior, variant=VAE, likelihood=None, hidden=(8,), **settings):
    return variant(
        network=MLP(SHAPE, list(hidden), "tanh"),
        noise=Noise(),
        sparsity=Sparsity(),
        likelihood=likelihood or Bernoulli(),
        optimizer=Optimization("adam", 1e-3),
        prior=prior,
        **{"code_dim": 2} | settings,
    )


def vamp(count=5, scale=3.0, **settings):
    """Return a VAE whose encoder tells its pseudo-inputs apart, in double precision."""
    made = model(Vamp(SHAPE, count), **settings).double()
    with torch.no_grad():
        for weight in made.encoder.parameters():
            weight.mul_(scale)
    return made


def mixture(made):
    """Return p(z) as torch has it."""
    mean, log_variance = made.posterior(made.prior.inputs)
    parts = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(mean))), parts)


def test_standard_is_the_normal_of_torch():
    z = torch.randn(3, 4, 5)
    expected = Normal(0.0, 1.0).log_prob(z).sum(-1)
    assert torch.allclose(Standard().log_prob(z), expected, atol=1e-5)
    made = model(None)
    assert isinstance(made.prior, Standard)
    torch.manual_seed(1)
    drawn = made.sample_prior(7)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.randn(7, 2))
    like = torch.zeros(2, 5, dtype=torch.float64)
    assert Standard().sample(like, 3).shape == (3, 2, 5)
    assert Standard().sample(like).dtype == torch.float64


def test_the_kl_by_samples_is_without_bias_and_so_is_its_gradient():
    mean, log_variance = torch.randn(3, 4).requires_grad_(), torch.randn(3, 4).requires_grad_()
    posterior = Posterior(mean, log_variance)
    exact = Standard().kl(posterior, torch.empty(0))
    assert torch.equal(exact, posterior.kl())
    estimates, gradients = [], []
    for _ in range(400):
        estimate = Sampled().kl(posterior, posterior.sample(200))
        estimates.append(estimate.detach())
        gradients.append(torch.cat(torch.autograd.grad(estimate.sum(), [mean, log_variance])))
    expected = torch.cat(torch.autograd.grad(exact.sum(), [mean, log_variance]))
    for drawn, wanted in ((estimates, exact), (gradients, expected)):
        values = torch.stack(drawn)
        error = values.std(0) / math.sqrt(len(values))
        assert ((values.mean(0) - wanted).abs() < 5 * error + 1e-6).all()
        assert (error < 0.02).all()


@pytest.mark.parametrize("variant", [VAE, IWAE])
def test_models_take_the_kl_of_their_prior(variant):
    x = torch.rand(4, *SHAPE).round()
    made = vamp(variant=variant, samples=3)
    torch.manual_seed(2)
    terms = made.terms(x.double())
    torch.manual_seed(2)
    posterior = made.posterior(x.double())
    z = posterior.sample(3)
    kl = (posterior.log_prob(z) - mixture(made).log_prob(z)).mean()
    assert terms.kl.item() == pytest.approx(kl.item())
    log_p = made.log_likelihood(x.double(), z.flatten(0, 1))
    weight = log_p + mixture(made).log_prob(z) - posterior.log_prob(z)
    bound = weight.logsumexp(0).mean() - math.log(3) if variant is IWAE else weight.mean()
    assert terms.loss.item() == pytest.approx(-bound.item())


@pytest.mark.parametrize("shift", [0.0, -12.0])
def test_vamp_is_the_mixture_of_torch(shift):
    """Also with posteriors so narrow that float32 alone would lose the distance."""
    made = vamp(40)
    with torch.no_grad():
        made.encoder[-1].bias[2:] += shift
    p = mixture(made)
    z = torch.cat([p.sample((500,)), 4 * torch.randn(500, 2)]).double().view(2, 500, 2)
    assert torch.allclose(made.log_prior(z), p.log_prob(z), rtol=1e-9, atol=1e-7)
    mean, log_variance = (part.detach().float() for part in made.prior.components())
    parts = Independent(Normal(mean.double(), (0.5 * log_variance.double()).exp()), 1)
    rounded = MixtureSameFamily(Categorical(torch.ones(40).double()), parts)
    single = log_mixture(z.float(), mean, log_variance)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), rounded.log_prob(z.float().double()), rtol=1e-6)
    half = log_mixture(z.bfloat16(), mean.bfloat16(), log_variance.bfloat16())
    assert half.dtype == torch.float32


def test_a_component_of_almost_no_width_gives_no_density_above_its_own():
    z = torch.randn(50, 3)
    log_p = log_mixture(z, z, torch.full((50, 3), -60.0))
    highest = 1.5 * (60 - math.log(2 * math.pi))
    assert (log_p <= highest + 1e-3).all()


def test_samples_have_the_mean_and_the_covariance_of_the_mixture():
    made = vamp(5)
    p = mixture(made)
    draws = made.prior.sample(torch.empty(200_000, 2).double()).detach()
    means, deviations = p.component_distribution.mean, p.component_distribution.stddev
    mean = means.mean(0)
    apart = means - mean
    covariance = (deviations.square().mean(0).diag() + apart.T @ apart / 5).detach()
    assert apart.norm() > 0.5
    assert torch.allclose(draws.mean(0), mean, atol=0.02)
    assert torch.allclose(draws.T.cov(), covariance, atol=0.03)
    assert made.sample_prior(7).shape == (7, 2)


def test_log_p_by_importance_samples_is_that_by_quadrature():
    made = vamp(4, code_dim=1).requires_grad_(False)
    with torch.no_grad():
        for weight in made.decoder.parameters():
            weight.mul_(3)
    x = torch.rand(6, *SHAPE).round().double()
    z = torch.linspace(-30, 30, 20_001).double()[:, None]
    log_p = mixture(made).log_prob(z)[:, None] + made.log_likelihood(
        x, z.repeat_interleave(len(x), 0)
    )
    exact = torch.trapezoid(log_p.exp(), z[:, 0], dim=0).log()
    bounds = importance_bound(made, x.repeat(20, 1, 1, 1), 10_000, at_once=10**6).view(20, 6)
    bound = bounds.logsumexp(0) - math.log(20)
    assert torch.allclose(bound, exact, atol=0.02)
    normal = model(None, code_dim=1).double().requires_grad_(False)
    normal.load_state_dict(made.state_dict(), strict=False)
    assert (importance_bound(normal, x, 1000, 10**6) - exact).abs().max() > 0.05


def test_annealing_finds_the_exact_likelihood_under_a_mixture():
    made = vamp(3, likelihood=Gaussian(SIGMA), hidden=()).requires_grad_(False)
    made.encoder[1].bias[:2] += 6  # a start from N(0, I) would be far off
    weight, bias = made.decoder[0].weight, made.decoder[0].bias
    mean, log_variance = made.prior.components()
    covariance = weight * log_variance.exp()[:, None] @ weight.T
    parts = MultivariateNormal(
        mean @ weight.T + bias, covariance + SIGMA**2 * torch.eye(16).double()
    )
    exact = MixtureSameFamily(Categorical(torch.ones(3).double()), parts)
    x = exact.sample((8,))
    annealing = Annealing(steps=60, chains=30, images=8)
    estimate = annealing.log_likelihood(made, x.view(8, *SHAPE), TORCH)
    assert torch.allclose(estimate, exact.log_prob(x), atol=0.2)
    assert (estimate - exact.log_prob(x)).mean().item() == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("prior", [Standard(), Vamp(SHAPE, 7)])
def test_samples_belong_to_their_examples(prior):
    made = model(prior)
    like = torch.zeros(100, 2)
    whole = made.prior.sample(like, 3, draws=FixedDraws(1, 0))
    parts = [
        made.prior.sample(part, 3, draws=FixedDraws(1, start))
        for start, part in ((0, like[:30]), (30, like[30:]))
    ]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert not torch.equal(whole[0], whole[1])


def test_pseudo_inputs_start_as_examples_and_stay_in_the_range_of_the_data():
    made = vamp(64)
    x = torch.rand(64, *SHAPE).double() * 3 - 1
    x[:, :, 0] = -1
    made.prior.fit(torch.tensor([-1.0, 2.0]), lambda count: x[:count])
    inputs = made.prior.inputs
    assert (inputs - x).abs().max() < 6 * 0.03
    assert 0.02 < (inputs - x)[:, :, 1:].std() < 0.04
    assert inputs.min() == -1
    assert inputs.max() <= 2
    z = torch.randn(10, 2).double()
    made.log_prior(z).sum().backward()
    assert (inputs.grad != 0).all()  # those at the end of the range can leave it
    with torch.no_grad():
        inputs.sub_(5)
    expected = made.posterior(torch.full((1, *SHAPE), -1.0).double()).mean
    assert torch.allclose(made.prior.components()[0], expected.expand(64, -1))


def test_every_parameter_gets_the_gradient_of_its_finite_difference():
    made = vamp(3)
    x = torch.rand(4, *SHAPE).round().double()

    def loss():
        torch.manual_seed(3)
        return made.terms(x).loss

    loss().backward()
    for parameter in (made.prior.inputs, made.encoder[1].weight, made.encoder[3].bias):
        flat, gradient = parameter.detach().view(-1), parameter.grad.view(-1)
        for place in (0, len(flat) // 2, len(flat) - 1):
            flat[place] += 1e-6
            above = loss().item()
            flat[place] -= 2e-6
            below = loss().item()
            flat[place] += 1e-6
            assert gradient[place].item() == pytest.approx((above - below) / 2e-6, rel=1e-4)
    assert all((p.grad != 0).any() for p in made.parameters())


def test_kept_encodes_once_and_forgets():
    made = vamp(4)
    z, encoded = torch.randn(9, 2).double(), []
    made.encoder.register_forward_hook(lambda *_: encoded.append(1))
    before = made.log_prior(z)
    with made.prior.kept():
        assert torch.equal(made.log_prior(z), before)
        assert torch.equal(made.log_prior(z), before)
    assert len(encoded) == 2
    with torch.no_grad():
        made.prior.inputs.neg_().add_(1)
    assert not torch.equal(made.log_prior(z), before)


def test_impossible_settings_are_refused():
    with pytest.raises(SettingError, match=r"prior\.pseudo_inputs=0: must be a whole number"):
        Vamp(SHAPE, 0)
    with pytest.raises(SettingError, match=r"model\.prior=3: is no prior; choose one by prior=…"):
        model(3)
    config, _ = configure("model=vae", "prior=vamp", "network.batch_norm=true")
    with pytest.raises(SettingError, match=r"prior=vamp: .*network\.batch_norm=true"):
        build(config, "model")


def test_an_encoder_of_ones_own_that_normalizes_a_batch_is_refused_too():
    encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    with pytest.raises(SettingError, match="prior=vamp: needs the encoder of an example by itself"):
        Vamp((1, 8, 8), 3).attach(SimpleNamespace(encoder=encoder, posterior=None))


def test_examples_for_the_prior_come_from_all_over_the_training_split():
    config, _ = configure("dataset.train_size=64")
    data = build(config, "dataset")
    data.setup()
    training = next(iter(data.batches("train", 64))).original
    assert torch.equal(data.some(64), training)
    assert torch.equal(data.some(16), training[::4])
    assert torch.equal(data.some(128), training.repeat_interleave(2, 0))


def test_a_prior_of_ones_own_needs_two_methods():
    class Wide(Prior):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def log_prob(self, z):
            return Normal(0.0, self.scale).log_prob(z).sum(-1)

        def sample(self, like, *samples, draws=TORCH):
            return self.scale * draws.normal(like, *samples)

    made = model(Wide())
    x = torch.rand(4, *SHAPE).round()
    made.terms(x).loss.backward()
    assert made.prior.scale.grad is not None
    assert importance_bound(made, x, 5, 100).isfinite().all()
    assert Annealing(3, 2, 4).log_likelihood(made, x, TORCH).isfinite().all()
