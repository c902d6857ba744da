"""Every variant with every network that takes it, on examples of every shape."""

import pytest
import torch

from aecli.build import build
from aecli.data import Batch
from aecli.evaluation import metrics
from tests.conftest import DICTIONARIES, LAYERED, NETWORKS, configure

SHAPES = [(13,), (1, 8, 8), (3, 9, 12), (4, 11, 8)]
FOR_IMAGES = ("conv", "resnet")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("variant", LAYERED)
def test_a_step_of_training_and_an_evaluation(variant, network):
    words = (f"model={variant}", f"network={network}", "likelihood=gaussian")
    words += ("model.code_dim=5",) if variant == "pca" else ("model.code_dim=100",)
    config, _ = configure(*words)
    for shape in SHAPES:
        if variant == "pca" or len(shape) == 3 or network not in FOR_IMAGES:
            config.dataset.shape = list(shape)
            check(build(config, "model"), torch.rand(6, *shape))


@pytest.mark.parametrize("variant", DICTIONARIES)
def test_a_step_and_an_evaluation_of_a_dictionary(variant):
    config, _ = configure(f"model={variant}", "model.code_dim=100")
    for shape in SHAPES:
        config.dataset.shape = list(shape)
        model, x = build(config, "model"), torch.rand(40, *shape)
        model.start_at(x)
        check(model, x)


def check(model, x):
    if model.automatic_optimization:
        named = dict(model.named_parameters())
        before = {name: weight.clone() for name, weight in named.items()}
        optimizer = model.optimization.optimizer(list(named.values()))
        model.terms(x).loss.backward()
        optimizer.step()
        assert all(weight.isfinite().all() for weight in named.values())
        changed = {name for name, weight in named.items() if not torch.equal(weight, before[name])}
        assert changed == set(named)
    else:
        rows = x.flatten(1).double()
        model.solve(rows.sum(0), rows.T @ rows, len(x))
    model.eval().requires_grad_(False)
    assert model.reconstruct(x).shape == x.shape
    batch = Batch(x, x, torch.zeros(len(x), dtype=torch.long))
    values = metrics.reconstruction(model, [batch])
    values |= metrics.noisy_reconstruction(model, [batch], "gaussian", [0.3])
    assert values["mse"] > 0
    assert ("psnr" in values) == (x.dim() == 4)
