"""No number of an evaluation depends on the batches that it is computed in."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger

from aecli.build import build
from aecli.evaluation import metrics
from aecli.evaluation.likelihood import marginal_nll
from tests.conftest import VARIANTS, configure

SMALL = (
    "network.hidden=[16]",
    "dataset.classes=[0,1,2]",
    "dataset.validation_size=300",
    "dataset.train_size=64",
)
KINDS = [(f"model={variant}",) for variant in VARIANTS] + [
    ("model=sparse_ae", "sparsity.momentum=0.9", "noise=gaussian"),
    ("model=ae", "noise=salt_and_pepper", "sparsity=l1"),
    ("model=vae", "model.samples=3", "noise=masking", "sparsity=kl"),
    ("model=vae", "prior=vamp", "prior.pseudo_inputs=7", "model.samples=2"),
    ("model=iwae", "sparsity=topk", "sparsity.k=3", "noise=masking"),
]


@pytest.mark.parametrize("overrides", KINDS, ids=" ".join)
def test_two_batch_sizes_give_the_same_metrics(overrides):
    config, _ = configure(*overrides, *(SMALL if "_sae" not in str(overrides) else SMALL[1:]))
    data = build(config, "dataset")
    data.setup()
    model = build(config, "model")
    if "model=pca" in overrides:
        x = data.splits["train"].values.flatten(1).double() / 16
        with torch.no_grad():
            model.solve(x.sum(dim=0), x.T @ x, len(x))
    elif "_sae" in str(overrides):
        model.start_at(data.some(64))
    else:
        with torch.no_grad():
            for weight in model.encoder.parameters():
                weight.mul_(4)  # as drawn, the codes of all images are nearly the same
    several = [measured(model, data, size) for size in (7, 64, 1000)]
    assert {"loss", "penalty", "mse"} <= set(several[0])
    assert ("clean_loss" in several[0]) == (not model.noise.is_none)
    for other in several[1:]:
        assert other == pytest.approx(several[0], rel=2e-4, abs=1e-6)


def measured(model, data, size):
    """Return validation through Lightning, and all metrics of the test split."""
    data.batch_size = size
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=DummyLogger(),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (values,) = trainer.validate(model, datamodule=data, verbose=False)
    model.eval()
    test = data.batches("test", size, 5)
    values |= metrics.reconstruction(model, test)
    values |= metrics.noisy_reconstruction(model, test, "masking", [0.5])
    if model.has_prior:
        values["active"] = metrics.active_units(model, test)
        values["marginal_nll"] = marginal_nll(model, test, 5, at_once=size)
    data.trainer = None
    return values


def test_draws_of_a_validation_are_those_of_each_epoch_and_each_seed():
    config, _ = configure("model=vae", *SMALL)
    passes = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        data = build(config, "dataset")
        data.setup()
        for _ in range(2):
            batch = next(iter(data.val_dataloader()))
            passes.append(batch.draws.normal(batch.x))
    assert all(torch.equal(passes[0], other) for other in passes[1:])
