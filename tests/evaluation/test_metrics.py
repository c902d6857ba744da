import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from aecli.data.module import Batches, Split
from aecli.data.sources import Images
from aecli.errors import SettingError
from aecli.evaluation import metrics
from aecli.likelihoods import MSE, Gaussian
from aecli.models import VAE, Autoencoder
from aecli.networks import MLP
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.sparsity import Sparsity

SIGMA = 0.7


@pytest.fixture
def batches():
    pixels = torch.randint(0, 256, (50, 1, 12, 12), dtype=torch.uint8)
    return Batches(
        Split(Images(pixels, torch.arange(50) % 3, 255)), batch_size=16, device=torch.device("cpu")
    )


def parts(shape, likelihood):
    return {
        "network": MLP(shape, [], "relu"),
        "noise": Noise(),
        "sparsity": Sparsity(),
        "likelihood": likelihood,
        "optimizer": Optimization("adam", 1e-3),
    }


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
        bound = metrics.importance_bound(model, many, samples, at_once=10**6)
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
    bound = metrics.importance_bound(model, x, samples=1, at_once=100)
    assert torch.allclose(bound, marginal.log_prob(x.flatten(1)))


def test_marginal_nll_decodes_in_bounded_pieces(linear_gaussian):
    model, x, exact = linear_gaussian
    decoded = []
    model.decoder.register_forward_hook(lambda _, inputs, __: decoded.append(len(inputs[0])))
    batches = [(part, part, None) for part in x.split(12)]
    value = metrics.marginal_nll(model, batches, samples=2000, at_once=50)
    assert max(decoded) <= 50
    assert sum(decoded) == 2000 * 20
    assert value == pytest.approx(-exact.mean().item(), abs=0.02)


def test_reconstruction_averages_over_examples(batches):
    model = Autoencoder(**parts((1, 12, 12), MSE()), code_dim=4).eval().requires_grad_(False)
    values = metrics.reconstruction(model, batches)
    image = torch.cat([batch.image for batch in batches])
    error = (model.reconstruct(image) - image).square().flatten(1)
    mse = error.mean(1)
    assert values["sse"] == pytest.approx(error.sum(1).mean().item(), rel=1e-5)
    assert values["mse"] == pytest.approx(mse.mean().item(), rel=1e-5)
    assert values["psnr"] == pytest.approx((-10 * mse.log10()).mean().item(), rel=1e-5)
    assert values["loss"] == pytest.approx(values["sse"], rel=1e-5)
    assert values["l0"] == 4
    whole = metrics.ssim(model.reconstruct(image), image).item()
    assert values["ssim"] == pytest.approx(whole, rel=1e-4)


def test_ssim_of_itself_is_one(images):
    assert metrics.ssim(images, images).item() == pytest.approx(1, abs=1e-5)
    assert metrics.ssim(1 - images, images).item() < 0.2


def test_noisy_reconstruction_compares_with_the_clean_image(batches):
    model = Autoencoder(**parts((1, 12, 12), MSE()), code_dim=144).eval().requires_grad_(False)
    eye = torch.eye(144)
    for layer in (model.encoder[1], model.decoder[0]):
        layer.weight.copy_(eye)
        layer.bias.zero_()
    values = metrics.noisy_reconstruction(model, batches, "masking", [0.0, 0.5])
    energy = torch.cat([batch.image for batch in batches]).square().mean().item()
    assert values["mse_masking_0"] == pytest.approx(0, abs=1e-12)
    assert values["mse_masking_0.5"] == pytest.approx(energy / 2, rel=0.05)
    with pytest.raises(SettingError, match=r"eval\.noise=fog"):
        metrics.noisy_reconstruction(model, batches, "fog", [0.5])


def test_active_units_counts_latents_whose_mean_moves(batches):
    model = VAE(**parts((1, 12, 12), Gaussian(1.0)), code_dim=4).eval().requires_grad_(False)
    model.encoder[1].weight[2:4] = 0
    assert metrics.active_units(model, batches) == 2


def test_probe_error_of_separable_and_of_random_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    features = rng.normal(size=(400, 5)).astype(np.float32)
    chance = metrics.probe_error(
        (features[:200], labels[:200]), (features[200:], labels[200:]), 100
    )
    assert chance == pytest.approx(50, abs=12)
    features[:, 0] += 8 * labels
    clean = metrics.probe_error((features[:200], labels[:200]), (features[200:], labels[200:]), 100)
    assert clean < 1
