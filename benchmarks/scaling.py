"""How the cost of an epoch grows with the training set."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import torch

from aecli.commands.train import train
from aecli.config import composed

FEW, MANY = 6_000, 600_000


class Resized(pl.Callback):
    """Gives the training set another size, by leaving images out or repeating them; times it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.seconds: list[float] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Resize."""
        splits = trainer.datamodule.splits
        split = splits["train"]
        index = torch.arange(self.size) % len(split)
        splits["train"] = replace(split, rows=split.rows[index])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop it: the last batch of the epoch is done."""
        self.seconds.append(time.perf_counter() - self.start)


def per_image() -> float:
    """Return the seconds an image of an epoch of 600,000 images over those of one of 6,000."""
    few = _seconds(FEW, epochs=20)
    many = _seconds(MANY, epochs=1)
    return many / few


def _seconds(size: int, epochs: int) -> float:
    resized = Resized(size)
    settings = ["model=vae", "dataset=mnist", "pictures_every=0", f"trainer.max_epochs={epochs}"]
    with tempfile.TemporaryDirectory() as folder:
        choices = {"model": "vae", "dataset": "mnist"}
        train(composed("train", *settings), Path(folder), choices, callbacks=[resized])
    steady = resized.seconds[1:] or resized.seconds
    return sum(steady) / len(steady) / size
