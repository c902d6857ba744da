"""How many threads a training computes with."""

import logging
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from aecli.data import DataModule
from aecli.models import Autoencoder
from aecli.threads import Sharing

log = logging.getLogger(__name__)

LEAST_WORK = 1_000_000
"""Multiplications of a forward pass for each thread: with fewer, one thread less is as fast."""


def multiplications(model: Autoencoder, data: DataModule) -> float:
    """Return the multiplications in a forward pass of a training batch."""
    x, seen = next(iter(data.batches("train"))).given
    counter = FlopCounterMode(display=False)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), counter:
        model.eval().terms(x[:1], None if seen is None else seen[:1])
    model.train()
    batch = data.batch_size or len(data.splits["train"])
    return batch * counter.get_total_flops() / 2  # an addition goes with each


class Threads(Callback):
    """Trains with fewer threads where there is little work, or while other programs take cores.

    How much work there is follows from the settings. The free cores are looked at again and again.

    Args:
        work: the multiplications in a forward pass of a batch.
        stay: never change the number during a training. The last bits of a sum depend on it.
    """

    def __init__(self, work: float, stay: bool) -> None:
        self.work, self.stay = work, stay
        self.before = torch.get_num_threads()
        self.sharing: Sharing | None = None

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.strategy.root_device.type != "cpu" or trainer.world_size > 1:
            return
        most = max(1, min(self.before, round(self.work / LEAST_WORK)))
        if most < self.before:
            log.info("threads: %d of %d, since the network is small", most, self.before)
            torch.set_num_threads(most)
        if not self.stay:
            with suppress(OSError):  # some systems do not say what their cores do
                self.sharing = Sharing(most)

    @override
    def on_train_batch_start(self, *args: Any) -> None:
        if self.sharing is not None and self.sharing.look():
            log.info(
                "threads: %d of %d while other programs take cores (trainer.deterministic=true"
                " keeps all, for the same last bits each time)",
                torch.get_num_threads(),
                self.sharing.most,
            )

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        torch.set_num_threads(self.before)

    @override
    def on_exception(self, *args: Any) -> None:
        torch.set_num_threads(self.before)
