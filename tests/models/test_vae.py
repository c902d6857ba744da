import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from aecli.errors import SettingError
from aecli.likelihoods import Bernoulli, Gaussian
from aecli.models import VAE
from aecli.models.vae import Posterior, log_normal
from aecli.networks import MLP, EncoderDecoder, Network
from aecli.noise import Masking, Noise
from aecli.optimizers import Optimization
from aecli.sparsity import KL, L1, Sparsity, TopK


def vae(sparsity=None, likelihood=None, **settings):
    return VAE(
        network=MLP((1, 8, 8), [16], "tanh"),
        code_dim=5,
        noise=Noise(),
        sparsity=sparsity or Sparsity(),
        likelihood=likelihood or Bernoulli(),
        optimizer=Optimization("adam", 1e-3),
        **settings,
    )


@pytest.fixture
def posterior():
    return Posterior(torch.randn(3, 4), torch.randn(3, 4))


def test_kl_is_that_of_torch_distributions(posterior):
    q = Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    expected = kl_divergence(q, Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(posterior.kl(), expected, rtol=1e-5)


def test_kl_is_its_monte_carlo_estimate(posterior):
    z = posterior.sample(200_000)
    zero = torch.zeros(())
    estimate = posterior.log_prob(z) - log_normal(z, zero, zero)
    error = estimate.std(0) / 200_000**0.5
    assert ((estimate.mean(0) - posterior.kl()).abs() < 5 * error).all()


def test_samples_and_densities_are_those_of_the_normal(posterior):
    z = posterior.sample(100_000)
    deviation = (0.5 * posterior.log_variance).exp()
    assert torch.allclose(z.mean(0), posterior.mean, atol=0.03)
    assert torch.allclose(z.std(0), deviation, rtol=0.02)
    expected = Normal(posterior.mean, deviation).log_prob(z).sum(-1)
    assert torch.allclose(posterior.log_prob(z), expected, atol=1e-4)


def test_reparameterized_gradients_are_finite_differences(images):
    model = vae(likelihood=Gaussian(0.5)).double()
    x = images.double()

    def loss():
        torch.manual_seed(3)
        return model.terms(x).loss

    loss().backward()
    weight = model.encoder[3].weight  # gives μ (rows 0-4) and log σ² (rows 5-9)
    for row, column in [(0, 0), (4, 7), (5, 1), (9, 15)]:
        with torch.no_grad():
            weight[row, column] += 1e-5
            above = loss()
            weight[row, column] -= 2e-5
            below = loss()
            weight[row, column] += 1e-5
        expected = (above - below).item() / 2e-5
        assert weight.grad[row, column].item() == pytest.approx(expected, rel=1e-5)


def test_loss_is_minus_the_elbo_and_beta_weighs_the_kl(images):
    model = vae(beta=4.0)
    terms = model.terms(images.round())
    assert torch.allclose(terms.loss, terms.nll + 4 * terms.kl)
    assert torch.allclose(model.reported(terms)["elbo"], -(terms.nll + terms.kl))


def test_the_mean_over_samples_of_z_estimates_the_same_nll(images):
    x = images.round()
    model = vae()
    single = torch.stack([model.terms(x).nll for _ in range(400)])
    model.samples = 400
    terms = model.terms(x)
    assert terms.nll.item() == pytest.approx(single.mean().item(), abs=single.std().item() / 4)
    assert terms.code.shape == (400 * 16, 5)


@pytest.mark.parametrize("sparsity", [Sparsity(), L1(0.1), KL(0.1, 1, units=5), TopK(2, units=5)])
def test_any_sparsity_and_noise_trains_every_parameter(sparsity, images):
    model = vae(sparsity=sparsity)
    model.noise = Masking(0.3)
    model.terms(images.round()).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad != 0).any(), name


def test_sparsity_belongs_to_the_decoder(images):
    model = vae(sparsity=TopK(2, units=5)).eval()
    z = model.encode(images)
    assert torch.equal(z, model.posterior(images).mean)
    assert torch.equal(model.decode(z).mean, model.decode(model.sparsity(z).code).mean)
    assert ((model.terms(images.round()).code != 0).sum(1) == 2).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": -1}, "model.beta=-1"),
        ({"samples": 0}, "model.samples=0: must be a whole number of at least 1"),
        ({"warmup_epochs": 1, "warmup_steps": 5}, "set one of the two"),
        ({"warmup_steps": 1.5}, "model.warmup_steps=1.5"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        vae(**settings)


class Linear(Network):
    """p(z) = N(0, 1), p(x|z) = N(w z, σ²) and q(z|x) = N(a x, s²), all of one number."""

    def build(self, code_dim, outputs):
        return EncoderDecoder(nn.Linear(1, 2), nn.Linear(1, 1, bias=False))


def linear(gradient):
    """Return the model with w = 2, σ = ½ and its true posterior, N(w x / (w² + σ²), …)."""
    model = VAE(
        network=Linear(),
        code_dim=1,
        noise=Noise(),
        sparsity=Sparsity(),
        likelihood=Gaussian(0.5),
        optimizer=Optimization("adam", 1e-3),
        gradient=gradient,
    )
    with torch.no_grad():
        model.decoder.weight.fill_(2.0)
        model.encoder.weight.copy_(torch.tensor([[2 / 4.25], [0.0]]))
        model.encoder.bias.copy_(torch.tensor([0.0, math.log(0.25 / 4.25)]))
    return model


def gradients(model, count=50_000):
    """Return the gradients with respect to μ and log σ² of x = 0.7 for many draws, `(count, 2)`."""
    torch.manual_seed(0)
    outputs = []
    model.encoder.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    loss = model.terms(torch.full((count, 1), 0.7)).loss
    return torch.autograd.grad(loss, outputs)[0] * count


def test_stl_has_no_variance_at_the_true_posterior():
    plain, stl = gradients(linear("plain")), gradients(linear("stl"))
    assert stl.abs().max() < 1e-4
    assert (plain.std(0) > 0.05).all()
    assert (plain.mean(0).abs() < 5 * plain.std(0) / len(plain) ** 0.5).all()


def test_stl_has_the_mean_of_the_exact_gradient():
    model = linear("stl")
    with torch.no_grad():
        model.encoder.bias.add_(torch.tensor([0.3, 1.0]))
    got = gradients(model)
    # −ELBO = ½ ((x − w μ)² + w² s²) / σ² + ½ (μ² + s² − log s²) + const.
    mean, variance = 1.4 / 4.25 + 0.3, 0.25 / 4.25 * math.e
    expected = torch.tensor(
        [
            -2 * (0.7 - 2 * mean) / 0.25 + mean,
            variance * (0.5 * 4 / 0.25 + 0.5) - 0.5,
        ]
    )
    assert ((got.mean(0) - expected).abs() < 5 * got.std(0) / len(got) ** 0.5).all()


def test_the_kl_is_not_rounded_to_bfloat16(images):
    model = vae()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.encoder(images).dtype == torch.bfloat16
        assert {part.dtype for part in model.posterior(images)} == {torch.float32}
        assert model.terms(images.round()).kl.dtype == torch.float32
