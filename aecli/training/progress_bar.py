"""The progress of a training: a bar on a terminal, short plain lines elsewhere."""

import logging
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm
from typing_extensions import override

from aecli.progress import is_terminal
from aecli.terminal import OPEN, end_bar

log = logging.getLogger(__name__)

LINE_EVERY = 2.0
"""The least number of seconds between two plain lines."""
REDRAWN_EVERY = 0.25
"""The least number of seconds between two drawings of the bar."""


class Progress(Callback):
    """Shows the epoch, the speed and the validation loss, until the training ends in any way."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
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
            OPEN.append(self._bar)

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            self._bar.set_description(_epoch(trainer), refresh=False)

    @override
    def on_train_batch_end(self, *args: Any) -> None:
        if self._bar is not None:
            self._bar.update()  # which draws every REDRAWN_EVERY seconds at most

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = trainer.callback_metrics.get("val/loss")
        value = "" if loss is None else f"val/loss {loss:.4g}"
        now = time.monotonic()
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if self._bar is not None:
            self._bar.set_postfix_str(value)
        elif last or now - self._last >= LINE_EVERY:
            self._last = now
            log.info("%s  %s  %.0f s", _epoch(trainer), value, now - self._start)

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._bar is not None:
            end_bar(self._bar)
            self._bar = None


def _epoch(trainer: Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
