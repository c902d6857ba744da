import itertools

import numpy as np
import pytest
import torch

from aecli.data import Batch, Batches
from aecli.errors import SettingError
from aecli.evaluation import metrics
from aecli.likelihoods import MSE, Gaussian, Mixed
from aecli.models import VAE, Autoencoder
from aecli.networks import MLP
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.sparsity import Sparsity
from tests.conftest import CONF
from tests.data.grey import split_of


@pytest.fixture
def batches():
    pixels = torch.randint(0, 256, (50, 1, 12, 12), dtype=torch.uint8)
    return Batches(
        split_of(pixels, torch.arange(50) % 3),
        batch_size=16,
        device=torch.device("cpu"),
    )


def parts(shape, likelihood):
    return {
        "network": MLP(shape, [], "relu"),
        "noise": Noise(),
        "sparsity": Sparsity(),
        "likelihood": likelihood,
        "optimizer": Optimization("adam", 1e-3),
    }


def test_reconstruction_averages_over_examples(batches):
    model = Autoencoder(**parts((1, 12, 12), MSE()), code_dim=4).eval().requires_grad_(False)
    values = metrics.reconstruction(model, batches)
    image = torch.cat([batch.original for batch in batches])
    error = (model.reconstruct(image) - image).square().flatten(1)
    mse = error.mean(1)
    assert values["sse"] == pytest.approx(error.sum(1).mean().item(), rel=1e-5)
    assert values["mse"] == pytest.approx(mse.mean().item(), rel=1e-5)
    assert values["psnr"] == pytest.approx((-10 * mse.log10()).mean().item(), rel=1e-5)
    assert values["loss"] == pytest.approx(values["sse"], rel=1e-5)
    assert values["l0"] == 4
    whole = metrics.ssim(model.reconstruct(image), image).item()
    assert values["ssim"] == pytest.approx(whole, rel=1e-4)


def ssim_by_hand(x, y, window):
    """SSIM of two images `(H, W)` by Wang et al.'s formula, window by window."""
    size, values = len(window), []
    for i, j in itertools.product(range(x.shape[0] - size + 1), range(x.shape[1] - size + 1)):
        a, b = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
        covariance = (window * (a - mean_a) * (b - mean_b)).sum()
        luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        structure = (2 * covariance + 0.03**2) / (var_a + var_b + 0.03**2)
        values.append(luminance * structure)
    return np.mean(values)


@pytest.mark.parametrize("shape", [(28, 28), (11, 13), (8, 8), (7, 20)])
def test_ssim_is_wangs_formula_where_the_window_fits(shape):
    rng = np.random.default_rng(0)
    image = rng.random((3, 1, *shape))
    output = image + 0.2 * rng.normal(size=image.shape)
    if min(shape) >= 11:
        side = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
        window = np.outer(side, side) / side.sum() ** 2
    else:
        window = np.full((7, 7), 1 / 49)
    pairs = zip(output.clip(0, 1)[:, 0], image[:, 0], strict=True)
    expected = np.mean([ssim_by_hand(x, y, window) for x, y in pairs])
    value = metrics.ssim(torch.from_numpy(output), torch.from_numpy(image))
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_ssim_of_itself_is_one_and_tiny_images_have_none(images):
    assert metrics.ssim(images, images).item() == pytest.approx(1, abs=1e-5)
    assert metrics.ssim(images[..., :6, :6], images[..., :6, :6]) is None


def test_ssim_of_colours_is_the_mean_of_the_channels():
    images = torch.rand(2, 4, 3, 12, 12)
    each = [metrics.ssim(images[0, :, [c]], images[1, :, [c]]).item() for c in range(3)]
    assert metrics.ssim(*images).item() == pytest.approx(np.mean(each), rel=1e-5)


def test_psnr_and_ssim_do_not_depend_on_the_range_of_the_data(batches):
    """Of images that are moved and stretched, they stay."""
    model = Autoencoder(**parts((1, 12, 12), MSE()), code_dim=4).eval().requires_grad_(False)
    plain = metrics.reconstruction(model, batches)
    wide = [b._replace(x=6 * b.x - 2, original=6 * b.original - 2) for b in batches]
    model.encoder[1].bias += model.encoder[1].weight.sum(dim=1) * 2 / 6
    model.encoder[1].weight /= 6
    model.decoder[0].weight *= 6
    model.decoder[0].bias.mul_(6).sub_(2)
    model.noise.fit(torch.tensor([-2.0, 4.0]), (1, 12, 12))
    moved = metrics.reconstruction(model, wide)
    assert moved["mse"] == pytest.approx(36 * plain["mse"], rel=1e-4)
    for name in ("psnr", "ssim"):
        assert moved[name] == pytest.approx(plain[name], rel=1e-4)


def test_rows_have_errors_and_neither_psnr_nor_ssim():
    x = torch.randn(40, 5)
    model = Autoencoder(**parts((5,), MSE()), code_dim=2).eval().requires_grad_(False)
    values = metrics.reconstruction(model, [Batch(x, x, torch.zeros(40))])
    assert values["sse"] == pytest.approx(5 * values["mse"], rel=1e-5)
    assert not {"psnr", "ssim"} & set(values)


def test_what_is_missing_has_no_error_and_does_not_count():
    """A row of two numbers and a category of 3, with a mask of 3 columns, the first missing."""
    columns = [["number", 2], ["category", 3], ["mask", 3]]
    likelihood = Mixed(columns, sigma=1.0, learn_sigma=False)
    x = torch.tensor([[0.0, 2, 0, 1, 0, 0, 1, 1]]).repeat(40, 1)
    model = Autoencoder(**parts((8,), likelihood), code_dim=2).eval().requires_grad_(False)
    error = (model.reconstruct(x) - x)[:, 1:5].square().sum(1).mean().item()
    batch = Batch(x, x, torch.zeros(40))
    model.validation_step(batch, 0)
    assert model._validation.compute()["mse"] == pytest.approx(error / 4, rel=1e-5)
    values = metrics.reconstruction(model, [batch])
    assert values["sse"] == pytest.approx(error, rel=1e-5)
    assert values["mse"] == pytest.approx(error / 4, rel=1e-5)
    noisy = metrics.noisy_reconstruction(model, [batch], "masking", [0.0], columns)
    assert noisy["mse_masking_0"] == pytest.approx(error / 4, rel=1e-5)


def test_the_kinds_of_noise_are_those_of_the_command_line():
    options = {path.stem for path in (CONF / "noise").glob("*.yaml")} - {"none"}
    assert set(metrics.NOISES) == options


def test_noisy_reconstruction_compares_with_the_clean_image(batches):
    model = Autoencoder(**parts((1, 12, 12), MSE()), code_dim=144).eval().requires_grad_(False)
    eye = torch.eye(144)
    for layer in (model.encoder[1], model.decoder[0]):
        layer.weight.copy_(eye)
        layer.bias.zero_()
    values = metrics.noisy_reconstruction(model, batches, "masking", [0.0, 0.5])
    energy = torch.cat([batch.original for batch in batches]).square().mean().item()
    assert values["mse_masking_0"] == pytest.approx(0, abs=1e-12)
    assert values["mse_masking_0.5"] == pytest.approx(energy / 2, rel=0.05)
    with pytest.raises(SettingError, match=r"eval\.noise=fog"):
        metrics.noisy_reconstruction(model, batches, "fog", [0.5])
    near = metrics.noisy_reconstruction(model, batches, "masking", [0.5, 0.5000001])
    assert list(near) == ["mse_masking_0.5", "mse_masking_0.5000001"]


def test_noise_stays_in_the_range_of_the_models_data(batches):
    model = Autoencoder(**parts((1, 12, 12), MSE()), code_dim=4)
    model.noise.fit(torch.tensor([-2.0, 4.0]), (1, 12, 12))
    (noise,) = metrics.noises(model, "salt_and_pepper", [1.0]).values()
    assert noise.corrupt(torch.rand(2, 1, 12, 12)).unique().tolist() == [-2, 4]


def test_active_units_counts_latents_whose_mean_moves(batches):
    model = VAE(**parts((1, 12, 12), Gaussian(1.0)), code_dim=4).eval().requires_grad_(False)
    model.encoder[1].weight[2:4] = 0
    assert metrics.active_units(model, batches) == 2
    x = torch.rand(1, 1, 12, 12)
    assert metrics.active_units(model, [Batch(x, x, torch.zeros(1))]) == 0
