"""Progress of a training: a bar on a terminal, short plain lines elsewhere."""

import logging
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from aecli.progress import is_terminal

log = logging.getLogger(__name__)

LINE_EVERY = 2.0
"""Seconds between two plain lines of a training, at least."""
REDRAWN_EVERY = 0.25
"""The same between two looks of a training's bar."""


class Progress(Callback):
    """Epoch, speed and validation loss."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar, or start the clock of the lines."""
        self._start = self._last = time.monotonic()
        if is_terminal() and trainer.is_global_zero:
            steps = trainer.num_training_batches * (trainer.max_epochs or 0)
            self._bar = tqdm(
                total=steps or None,
                initial=trainer.global_step,  # of a resumed run
                unit="batch",
                dynamic_ncols=True,
                mininterval=REDRAWN_EVERY,
                leave=False,
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the epoch."""
        if self._bar is not None:
            self._bar.set_description(_epoch(trainer), refresh=False)

    def on_train_batch_end(self, *args: Any) -> None:
        """Count; the bar redraws itself by time, not by batch."""
        if self._bar is not None:
            self._bar.update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the validation loss."""
        loss = trainer.callback_metrics.get("val/loss")
        told = "" if loss is None else f"val/loss {loss:.4g}"
        now = time.monotonic()
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if self._bar is not None:
            self._bar.set_postfix_str(told)
        elif last or now - self._last >= LINE_EVERY:
            self._last = now
            log.info("%s  %s  %.0f s", _epoch(trainer), told, now - self._start)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar, however the training ended."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _epoch(trainer: Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
