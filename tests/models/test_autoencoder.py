import pytest
import torch

from aecli.build import build
from aecli.errors import SettingError
from aecli.likelihoods import MSE, Bernoulli
from aecli.models import Autoencoder, Losses
from aecli.networks import MLP
from aecli.noise import Masking, Noise
from aecli.optimizers import Optimization
from aecli.sparsity import KL, L1, Sparsity, TopK
from tests.conftest import configure


def autoencoder(noise=None, sparsity=None, likelihood=None, code_dim=5):
    return Autoencoder(
        MLP((1, 8, 8), [16], "relu"),
        code_dim,
        noise or Noise(),
        sparsity or Sparsity(),
        likelihood or MSE(),
        Optimization("adam", 1e-3),
    )


def test_loss_is_the_squared_error_summed_over_pixels_mean_over_images(images):
    model = autoencoder()
    expected = (model.reconstruct(images) - images).square().flatten(1).sum(1).mean()
    assert torch.allclose(model.terms(images).loss, expected)


def test_noise_corrupts_the_input_and_not_the_target(images):
    class Black(Masking):
        def corrupt(self, x):
            return torch.zeros_like(x)

    model = autoencoder(noise=Black(1.0)).train()
    output = model.decode(model.encode(torch.zeros_like(images))).mean
    expected = (output - images).square().flatten(1).sum(1).mean()
    assert torch.allclose(model.terms(images).loss, expected)
    assert torch.allclose(model.reconstruct(images), model.decode(model.encode(images)).mean)


def test_the_penalty_joins_the_loss(images):
    terms = autoencoder(sparsity=L1(0.7)).terms(images)
    assert terms.penalty > 0
    assert torch.allclose(terms.loss, terms.nll + terms.penalty)


def test_only_densities_report_a_nll(images):
    model = autoencoder()
    assert set(model.reported(model.terms(images))) == {"loss", "penalty"}
    model = autoencoder(likelihood=Bernoulli())
    assert set(model.reported(model.terms(images.round()))) == {"loss", "penalty", "nll"}


@pytest.mark.parametrize("sparsity", [Sparsity(), L1(0.1), KL(0.1, 1, units=5), TopK(2, units=5)])
def test_every_parameter_gets_a_gradient(sparsity, images):
    model = autoencoder(noise=Masking(0.3), sparsity=sparsity)
    model.terms(images).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("code_dim", [0, -3, 2.5, "many"])
def test_impossible_code_sizes_are_refused(code_dim):
    with pytest.raises(SettingError, match=f"model.code_dim={code_dim}: must be a whole number"):
        autoencoder(code_dim=code_dim)


@pytest.mark.parametrize("overrides", [("model=dae",), ("model=vae", "noise=masking")])
def test_with_a_noise_validation_is_denoising_by_the_same_draws_each_time(overrides):
    config, _ = configure(*overrides, "network.hidden=[8]")
    model, data = build(config, "model").eval(), build(config, "dataset")
    data.setup()

    def losses():
        values = Losses(model)
        with torch.no_grad():
            for batch in data.val_dataloader():
                values.add(batch, {})
        return values.compute()

    first, again = losses(), losses()
    assert first == again
    assert first["loss"] != pytest.approx(first["clean_loss"], rel=1e-3)
    (batch,) = data.batches("validation", 200)
    corrupted = model.noise.corrupt(batch.x, batch.draws.of("noise"))
    assert (corrupted != batch.x).any()
    with torch.no_grad():
        noisy = model.terms(batch.x, corrupted, batch.draws.of("code"))
        clean = model.terms(batch.x, batch.x, batch.draws.of("code"))
    assert first["loss"] == pytest.approx(noisy.loss.item(), rel=1e-5)
    assert first["clean_loss"] == pytest.approx(clean.loss.item(), rel=1e-5)
    assert first["penalty"] == 0


def test_without_a_noise_there_is_one_loss():
    config, _ = configure("model=ae", "network.hidden=[8]")
    model, data = build(config, "model").eval(), build(config, "dataset")
    data.setup()
    values = Losses(model)
    values.add(next(iter(data.val_dataloader())), {})
    assert "clean_loss" not in values.compute()


@pytest.mark.parametrize(
    "words",
    [
        ["model=ae", "network.hidden=[8]"],
        ["model=vae", "likelihood=bernoulli", "network=linear_tied", "model.code_dim=4"],
        ["model=vae", "network=conv", "likelihood=continuous_bernoulli"],
        ["model=ae", "network=resnet", "likelihood=gaussian"],
    ],
)
def test_the_output_bias_is_that_of_the_mean_image(words):
    """With no other weights in the last layer, every reconstruction is the mean image."""
    config, _ = configure(*words, "network.output_bias=data")
    model, data = build(config, "model").eval(), build(config, "dataset")
    data.setup()
    assert model.output_bias == "data"
    model.start_output(data.mean())
    last = next(m for m in reversed(list(model.decoder.modules())) if hasattr(m, "weight"))
    with torch.no_grad():
        last.weight.zero_()
    mean = data.mean()
    if "network=conv" in words or "network=resnet" in words:
        mean = mean.mean().expand(mean.shape)
    x = next(iter(data.val_dataloader())).x[:3]
    found = model.reconstruct(x).detach()
    assert torch.allclose(found, mean.clamp(1e-3, 1 - 1e-3).expand_as(found), atol=1.001e-3)
