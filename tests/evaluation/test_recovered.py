"""A small known dictionary is found by training: more and more of it, and more than by L1."""

import pytest
import torch

from aecli.build import build
from aecli.data import Batch
from aecli.evaluation.recovery import recovery
from tests.conftest import configure

DATA = (
    "dataset=synthetic_features",
    "dataset.true_features=512",
    "dataset.width=64",
    "dataset.trees=4",
    "dataset.validation_size=4000",
    "dataset.batch_size=512",
)
LATENTS, STEPS = 128, 1500


def course(variant, *words):
    """Train; return the recovery before, half-way and after, and the last fit."""
    config, _ = configure(
        *DATA, f"model={variant}_sae", f"model.code_dim={LATENTS}", "optimizer.lr=3e-3", *words
    )
    data = build(config, "dataset")
    data.setup("fit")
    config.dataset.shape = [64]
    torch.manual_seed(0)
    model = build(config, "model").train()
    model.start_at(data.some(8192))
    model.steady = True
    optimizer = model.optimization.optimizer(model.parameters())
    features = data.dictionary.features
    found = []
    for step, batch in enumerate(data.shuffled("train", 512, lambda: 0)):
        if step in (0, STEPS // 3, STEPS):
            model.eval()
            values = recovery(model, features, data.drawn("validation", 1000))
            losses = model.losses()
            for part in data.batches("validation", 1000):
                losses.add(part, {})
            found.append(values | losses.compute())
            model.train()
        if step == STEPS:
            return found
        assert isinstance(batch, Batch)
        optimizer.zero_grad()
        model.training_step(batch, step).backward()
        optimizer.step()
        model.on_train_batch_end(None, batch, step)
    raise AssertionError("too few rows")


@pytest.mark.slow
def test_more_and_more_is_found_and_more_than_by_l1():
    start, half, end = course("batch_topk", "sparsity.k=5")
    for name in ("mcc", "f1", "explained_variance"):
        assert start[name] + 0.05 < half[name] < end[name] - 0.02, name
    *_, plain = course("l1", "sparsity.weight=2", "sparsity.start_l0=20")
    assert abs(plain["l0"] - end["l0"]) < 1
    for name in ("mcc", "f1"):
        assert plain[name] < end[name] - 0.03, name
