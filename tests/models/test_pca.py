import numpy as np
import pytest
import torch
from sklearn import decomposition

from aecli.build import build
from aecli.data import Digits
from aecli.errors import SettingError
from aecli.likelihoods import MSE, Bernoulli, ContinuousBernoulli, Gaussian, Mixed
from aecli.models import PCA
from aecli.noise import Masking, Noise
from aecli.optimizers import Optimization
from aecli.sparsity import L1, Sparsity
from tests.commandline import aecli
from tests.conftest import configure


def pca(code_dim=10, noise=None, sparsity=None, likelihood=None):
    optimizer = Optimization("adam", 1e-3)
    return PCA(
        (1, 8, 8),
        code_dim,
        noise or Noise(),
        sparsity or Sparsity(),
        likelihood or MSE(),
        optimizer,
    )


def solve(model, x):
    x = x.flatten(1).double()
    model.solve(x.sum(0), x.T @ x, len(x))


def test_is_scikit_learns():
    records = Digits().read(None, None)
    x, y = (records.data[records.splits[name]] / 16 for name in ("train", "test"))
    model = pca()
    solve(model, x)
    reference = decomposition.PCA(10, svd_solver="full").fit(x.flatten(1).numpy())
    codes = reference.transform(y.flatten(1).numpy())
    # The sign of a component is nobody's choice.
    assert np.allclose(np.abs(model.encode(y).numpy()), np.abs(codes), atol=1e-4)
    expected = reference.inverse_transform(codes)
    assert np.allclose(model.reconstruct(y).flatten(1).numpy(), expected, atol=1e-5)


def test_all_components_lose_nothing(images):
    model = pca(64)
    solve(model, images)
    assert torch.allclose(model.reconstruct(images), images, atol=1e-5)


def test_reaches_the_published_error_on_mnist(mnist):
    """13.87: Hinton & Salakhutdinov, Science 2006."""
    config, _ = configure("model=pca", "dataset=mnist", f"dataset.root={mnist}")
    data = build(config, "dataset")
    data.setup()
    model = build(config, "model")
    train, test = (data.splits[name].values / 255 for name in ("train", "test"))
    solve(model, train)
    sse = (model.reconstruct(test) - test).square().flatten(1).sum(1).mean().item()
    assert model.code_dim == 30
    assert sse == pytest.approx(13.87, abs=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": Masking(0.1)}, "model=pca .* noise=none"),
        ({"sparsity": L1(0.1)}, "model=pca .* sparsity=none"),
        (
            {"likelihood": Mixed([["number", 64]], 1.0, learn_sigma=True)},
            "model=pca: .*likelihood=mse, not mixed",
        ),
        ({"likelihood": Bernoulli()}, "model=pca: .* takes likelihood=mse or gaussian"),
        ({"likelihood": ContinuousBernoulli()}, "takes likelihood=mse or gaussian"),
        ({"likelihood": MSE(output="sigmoid")}, "takes likelihood=mse or gaussian"),
        ({"likelihood": Gaussian(0.2, learn_sigma=True)}, "no gradient steps to learn it by"),
        ({"code_dim": 65}, "model.code_dim=65: an example has only 64"),
    ],
)
def test_parts_that_it_has_no_use_for_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        pca(**settings)


def test_no_epoch_at_all_is_refused(tmp_path):
    done = aecli("train", "model=pca", "trainer.max_epochs=0", cwd=tmp_path)
    assert done.stderr == (
        "aecli: trainer.max_epochs=0: model=pca is solved in its first epoch; set 1\n"
    )
