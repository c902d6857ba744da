"""The loop over an epoch's batches, for networks so small that Lightning costs as much as they do.

For every batch Lightning's loop goes through some 40 hooks, contexts and counters, whether anybody
uses them or not. `EpochLoop` trains to the same weights, but calls only the hooks that somebody
has written. Lightning's own loop runs where a training needs more: several devices, scaled
gradients, gradients that are clipped or accumulated, steps that are not plain ones (PCA, L-BFGS), a
profiler, or a hook in `INSIDE` or `OF_THE_MODEL`. Batches must lie on the device already. A step
that skips its batch by returning None is refused, and so is `self.log` in a step or in a hook of a
batch (by Lightning, which then has no place for the value): log once an epoch.

An epoch that takes long is saved within: every `SAVED_EVERY` seconds, as the run's last checkpoint.
A training that goes on from it skips the batches that it has had, and has drawn the same random
numbers and added up the same sums as one that was never interrupted.

Lightning has no public way to replace the loop of a `Trainer`. Taken from its private parts are
the class `_TrainingEpochLoop` with its counters, `_num_ready_batches_reached` and
`_batches_that_stepped`, and the type `_DataFetcher`. Without `EpochLoop.put_into` a training runs
in Lightning's loop and ends with the same weights, later.
"""

import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from typing_extensions import override

from aecli.data import Batches
from aecli.distributed import are_several, gathered
from aecli.errors import SettingError
from aecli.models import Autoencoder
from aecli.runs.paths import LAST, checkpoint_path

SAVED_EVERY = 600.0
"""Seconds of an epoch after which it is saved, and again after each as many."""
SAVING_TAKES = 0.02
"""Share of the time that saving within epochs may take: large models are saved less often."""
AGREED_EVERY = 64
"""Batches after which several processes ask the first one whether it is time to save."""
INSIDE = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""Hooks within a step, of a callback or the model."""
OF_THE_MODEL = (
    "on_train_batch_start",  # may end the epoch by returning −1
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    "backward",
    "configure_gradient_clipping",
    "optimizer_step",
    "optimizer_zero_grad",
)
"""Hooks by which a model changes what a step is."""


class EpochLoop(_TrainingEpochLoop):
    """For each batch: forward, backward, optimizer, schedule, and the hooks around them."""

    @classmethod
    def put_into(cls, trainer: Trainer) -> None:
        """Replace the loop of a trainer by this one."""
        loop = trainer.fit_loop.epoch_loop
        trainer.fit_loop.epoch_loop = cls(trainer, loop.min_steps, loop.max_steps)

    @override
    def reset(self) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before")
            super().reset()  # which does not know that the batches can be skipped

    @override
    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        # What a batch needs is found out once an epoch.
        super().on_run_start(data_fetcher)
        trainer = self.trainer
        self._last_saved, self._save_every = time.monotonic(), SAVED_EVERY
        self._is_one_of_several = are_several()
        if self.restarting:
            self._go_on_within(data_fetcher)
        self._is_lean = _can_be_lean(trainer)
        model = trainer.lightning_module
        self._takes_plain_steps = isinstance(model, Autoencoder) and model.takes_plain_steps
        waits = self._is_lean and _validates_by_epochs(trainer)
        self._batches_without_validation = int(trainer.num_training_batches) if waits else 0
        self._before = _hooks(trainer, "on_train_batch_start")
        self._after = _hooks(trainer, "on_train_batch_end")
        mixed = isinstance(trainer.precision_plugin, MixedPrecision)
        self._precision = trainer.precision_plugin.forward_context if mixed else nullcontext
        if self._is_lean:
            (self._optimizer,) = trainer.optimizers
            groups = self._optimizer.param_groups
            self._parameters = [parameter for group in groups for parameter in group["params"]]

    @override
    def advance(self, data_fetcher: _DataFetcher) -> None:
        if self.restarting or not self._is_lean:
            super().advance(data_fetcher)
            return
        trainer, progress = self.trainer, self.batch_progress
        batch, _, _ = next(data_fetcher)
        index = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        for hook in self._before:
            hook(batch, index)
        progress.increment_started()

        with self._precision():
            loss = trainer.lightning_module.training_step(batch, index)
        if not isinstance(loss, Tensor):
            raise TypeError(f"training_step returned {type(loss).__name__}: must be the loss")
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()
        steps = self.automatic_optimization.optim_progress.optimizer.step
        steps.increment_ready()
        self._optimizer.step()
        steps.increment_completed()
        progress.increment_processed()

        if trainer.lr_scheduler_configs:
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
            if self._num_ready_batches_reached():
                self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        for hook in self._after:
            hook({"loss": loss.detach()}, batch, index)
        progress.increment_completed()

    @override
    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        # Lightning's looks whether to validate; most batches of an epoch need no look.
        trainer = self.trainer
        asked = self.restarting or trainer.should_stop or trainer.received_sigterm
        if asked or self.batch_idx + 1 >= self._batches_without_validation:
            super().on_advance_end(data_fetcher)
        else:
            self._batches_that_stepped += 1
        if self._is_one_of_several or self._is_time_to_save():
            self._save_within()

    def _is_time_to_save(self) -> bool:
        return time.monotonic() - self._last_saved >= self._save_every

    def _save_within(self) -> None:
        """Save the run between two steps, if it is time."""
        trainer, done = self.trainer, self.batch_idx + 1
        is_between = (
            done < trainer.num_training_batches and not done % trainer.accumulate_grad_batches
        )
        if not is_between or not self._takes_plain_steps or trainer.should_stop:
            return
        if self._is_one_of_several and (
            done % AGREED_EVERY or not gathered(self._is_time_to_save())[0]
        ):
            return
        start = time.monotonic()
        trainer.save_checkpoint(checkpoint_path(Path(trainer.default_root_dir), LAST))
        self._last_saved = time.monotonic()
        self._save_every = max(SAVED_EVERY, (self._last_saved - start) / SAVING_TAKES)

    def _go_on_within(self, data_fetcher: _DataFetcher) -> None:
        """Leave out the batches that were trained on; start the callbacks as at an epoch's start.

        Lightning leaves out the hooks.
        """
        done, trainer = self.batch_progress.current.ready, self.trainer
        (batches,) = data_fetcher.combined_loader.flattened
        if not isinstance(batches, Batches) or not 0 < done < trainer.num_training_batches:
            raise SettingError(
                f"resume: {done} batches of an epoch are done, of {trainer.num_training_batches}"
            )
        batches.done = done
        for hook in _hooks(trainer, "on_train_epoch_start"):
            hook()


def _can_be_lean(trainer: Trainer) -> bool:
    model, precision = trainer.lightning_module, trainer.precision_plugin
    return (
        type(trainer.strategy) is SingleDeviceStrategy
        and (
            type(precision) is Precision
            or (type(precision) is MixedPrecision and precision.scaler is None)
        )
        and isinstance(trainer.profiler, PassThroughProfiler)  # type: ignore[attr-defined]
        and isinstance(model, Autoencoder)
        and model.takes_plain_steps
        and trainer.accumulate_grad_batches == 1
        and not trainer.gradient_clip_val
        and not any(_hooks(trainer, name) for name in INSIDE)
        and not any(_has_own(model, LightningModule, name) for name in OF_THE_MODEL)
    )


def _validates_by_epochs(trainer: Trainer) -> bool:
    batches = trainer.val_check_batch  # None: by time
    return (
        trainer.check_val_every_n_epoch is not None
        and batches is not None
        and batches >= trainer.num_training_batches
    )


def _hooks(trainer: Trainer, name: str) -> list[Callable[..., Any]]:
    """Return the hooks of this name: the callbacks', then the model's, those that were written."""
    model = trainer.lightning_module
    callbacks: Iterable[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    hooks: list[Callable[..., Any]] = [
        partial(getattr(callback, name), trainer, model)
        for callback in callbacks
        if _has_own(callback, Callback, name)
    ]
    if _has_own(model, LightningModule, name):
        hooks.append(getattr(model, name))
    return hooks


def _has_own(part: object, base: type, name: str) -> bool:
    return getattr(type(part), name) is not getattr(base, name)
