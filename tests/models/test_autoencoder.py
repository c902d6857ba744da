import pytest
import torch

from aecli.errors import SettingError
from aecli.likelihoods import MSE, Bernoulli
from aecli.models import Autoencoder
from aecli.networks import MLP
from aecli.noise import Masking, Noise
from aecli.optimizers import Optimization
from aecli.sparsity import KL, L1, Sparsity, TopK


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
