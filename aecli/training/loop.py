"""The loop over an epoch's batches, for networks whose step takes no longer than Lightning's own.

For every batch Lightning's loop goes through some 40 hooks, contexts and counters, whether anybody
listens or not. `EpochLoop` does the same in the same order, but calls only the hooks that somebody
has. Where a run needs another of Lightning's services (several devices, gradients clipped or added
up, L-BFGS's closure, a profiler), Lightning's own loop runs.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.optim import Optimizer

BETWEEN = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""Hooks between the parts of a step: where somebody has one, Lightning's loop runs."""


class EpochLoop(_TrainingEpochLoop):
    """Batch after batch: forward, backward, optimizer, schedule, and the hooks around them."""

    @classmethod
    def put_into(cls, trainer: Trainer) -> None:
        """Let a trainer use this loop."""
        loop = trainer.fit_loop.epoch_loop
        trainer.fit_loop.epoch_loop = cls(trainer, loop.min_steps, loop.max_steps)

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Find out, once an epoch, what each batch needs."""
        super().on_run_start(data_fetcher)
        trainer = self.trainer
        self._is_plain = _is_plain(trainer)
        waits = self._is_plain and _validates_by_epochs(trainer)
        self._plain_batches = trainer.num_training_batches if waits else 0
        self._before = _hooks(trainer, "on_train_batch_start")
        self._after = _hooks(trainer, "on_train_batch_end")
        mixed = isinstance(trainer.precision_plugin, MixedPrecision)
        self._precision = trainer.precision_plugin.forward_context if mixed else nullcontext
        if self._is_plain:
            (optimizer,) = trainer.optimizers
            self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self._step = _step(optimizer)

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on one batch."""
        if self.restarting or not self._is_plain:
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
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()
        steps = self.automatic_optimization.optim_progress.optimizer.step
        steps.increment_ready()
        self._step()
        steps.increment_completed()
        progress.increment_processed()

        if trainer.lr_scheduler_configs:
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
            if self._num_ready_batches_reached():
                self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        for hook in self._after:
            hook({"loss": loss.detach()}, batch, index)
        progress.increment_completed()

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Validate where it is time to, and what else Lightning does after a batch."""
        trainer = self.trainer
        asked = self.restarting or trainer.should_stop or trainer.received_sigterm
        if asked or self.batch_idx + 1 >= self._plain_batches:
            super().on_advance_end(data_fetcher)
        else:
            self._batches_that_stepped += 1


def _is_plain(trainer: Trainer) -> bool:
    precision = trainer.precision_plugin
    return (
        type(trainer.strategy) is SingleDeviceStrategy
        and (
            type(precision) is Precision
            or (type(precision) is MixedPrecision and precision.scaler is None)
        )
        and isinstance(trainer.profiler, PassThroughProfiler)
        and trainer.lightning_module.automatic_optimization
        and trainer.accumulate_grad_batches == 1
        and not trainer.gradient_clip_val
        and not isinstance(trainer.optimizers[0], torch.optim.LBFGS)
        and not any(_hooks(trainer, name) for name in BETWEEN)
    )


def _step(optimizer: Optimizer) -> Callable[[], Any]:
    """Return the optimizer's step without the entry for torch's profiler that torch puts around it.

    The hooks around a step are left out with it: where the optimizer has one, it is its own step.
    """
    step = type(optimizer).step
    hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    if hooks or not getattr(step, "hooked", False):
        return optimizer.step
    optimizer._opt_called = True  # else a schedule would warn that it moves before any step
    return partial(step.__wrapped__, optimizer)


def _validates_by_epochs(trainer: Trainer) -> bool:
    return (
        trainer.check_val_every_n_epoch is not None
        and trainer._val_check_time_interval is None
        and trainer.val_check_batch >= trainer.num_training_batches
    )


def _hooks(trainer: Trainer, name: str) -> list[Callable[..., Any]]:
    """Return the callbacks' hooks of this name, then the model's, those that are not empty."""
    model = trainer.lightning_module
    hooks: list[Callable[..., Any]] = [
        partial(getattr(callback, name), trainer, model)
        for callback in trainer.callbacks
        if getattr(type(callback), name) is not getattr(Callback, name)
    ]
    if getattr(type(model), name) is not getattr(LightningModule, name):
        hooks.append(getattr(model, name))
    return hooks
