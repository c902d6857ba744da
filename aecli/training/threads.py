"""How many threads a training computes with."""

import logging
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from aecli.data import InMemoryDataModule
from aecli.threads import Sharing

log = logging.getLogger(__name__)

LEAST_WORK = 1_000_000
"""Multiplications of a forward pass for each thread: with fewer, one thread less is as fast."""


class Threads(Callback):
    """Trains with fewer threads where the network is small, or while other programs take cores.

    How small is a matter of the settings, and stays. The free cores are looked at again and again.

    Args:
        stay: never change the number during a training. The last bits of a sum depend on it.
    """

    def __init__(self, stay: bool) -> None:
        self.stay = stay
        self.before = torch.get_num_threads()
        self.sharing: Sharing | None = None

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.strategy.root_device.type != "cpu" or trainer.world_size > 1:
            return
        data: InMemoryDataModule = trainer.datamodule  # type: ignore[attr-defined]
        batch = data.batch_size or len(data.splits["train"])
        work = batch * sum(p.numel() for p in pl_module.parameters() if p.ndim > 1)
        most = max(1, min(self.before, round(work / LEAST_WORK)))
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
