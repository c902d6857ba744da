"""What happens around a training: its configuration and its random numbers kept, its best epoch."""

import math
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch import Tensor
from typing_extensions import override

from aecli.data import DataModule
from aecli.distributed import gathered
from aecli.errors import SettingError, check_int, check_number
from aecli.randomness import derived_seed
from aecli.runs.checkpoint import KEY, pack, pack_data
from aecli.runs.resume import go_on
from aecli.signals import stop

LARGEST_WORLD = 1024
"""Processes whose random states are read from a checkpoint."""


def data_of(trainer: Trainer) -> DataModule:
    """Return the data of a training."""
    return cast(DataModule, trainer.datamodule)  # type: ignore[attr-defined]


class KeepConfiguration(Callback):
    """Puts the run's configuration into every checkpoint."""

    def __init__(
        self,
        config: DictConfig,
        choices: Mapping[str, str],
        arithmetic: tuple[str, bool, bool] | None = None,
    ) -> None:
        self.packed = pack(config, choices, arithmetic)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.packed["data"] = pack_data(data_of(trainer))

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[KEY] = self.packed


class GoesOn(Callback):
    """Writes down, before the first new weights are kept, that a run is to become longer."""

    def __init__(self, directory: Path) -> None:
        self.directory: Path | None = directory

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """At the end of the first new epoch; a checkpoint follows."""
        if self.directory is not None and trainer.is_global_zero:
            go_on(self.directory, int(trainer.max_epochs or 0))
        self.directory = None


class KeepRandomState(Callback):
    """Keeps torch's random state: a resumed run draws the numbers that an uninterrupted one would.

    Each of several processes has a state of its own, so that they draw different noise.
    """

    def __init__(self) -> None:
        self.loaded: list[dict[str, Any]] | None = None

    @override
    def state_dict(self) -> dict[str, Any]:
        state = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        return {"processes": gathered(state)}

    def checked(self, state: Any, where: str) -> dict[str, Any]:
        """Return a copy of a loaded state if torch takes it, else raise `SettingError`."""
        try:
            processes = [
                {
                    "cpu": _random_state(one["cpu"], "cpu"),
                    "cuda": [_random_state(device, "cuda") for device in one["cuda"]],
                }
                for one in state["processes"][:LARGEST_WORLD]
            ]
        except Exception as error:  # whatever torch raises at a made-up state
            raise SettingError(f"{where}: is no state of torch's random numbers") from error
        return {"processes": processes}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Until the next epoch starts: what Lightning does before it may draw numbers.
        self.loaded = state_dict["processes"]

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank:
            torch.manual_seed(derived_seed(torch.initial_seed(), "rank", trainer.global_rank))

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.loaded is None:
            return
        if len(self.loaded) != trainer.world_size:
            raise SettingError(
                f"resume: {trainer.world_size} processes go on with a run of {len(self.loaded)};"
                " start as many as there were"
            )
        state = self.loaded[trainer.global_rank]
        torch.set_rng_state(state["cpu"])
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        self.loaded = None


def _random_state(state: Tensor, device: str) -> Tensor:
    """Return a copy of a generator's state; raises whatever a generator raises at a made-up one."""
    if device == "cpu" or torch.cuda.is_available():
        torch.Generator(device).set_state(state)
    return state.clone()


class StopOnSigterm(Callback):
    """Ends a training at SIGTERM as `aecli.signals` does.

    Lightning's own handler waits for the end of the batch and for all other processes.
    """

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.before = signal.getsignal(signal.SIGTERM)  # Lightning's is not in place yet

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.before is not stop:
            return

        def stop_all(number: int, frame: FrameType | None) -> None:
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signal.SIGTERM)  # those that Lightning started
            stop(number, frame)

        signal.signal(signal.SIGTERM, stop_all)


class BestEpoch(Callback):
    """Remembers the validation metrics of the epoch with the least val/loss.

    `objective` is the metric that a sweeper will ask for: one that the model has.
    """

    def __init__(self, objective: str) -> None:
        self.objective = objective
        self.metrics: dict[str, float] = {"loss": math.inf}
        self.epoch = 0

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "epoch": self.epoch}

    def checked(self, state: Any, where: str) -> dict[str, Any]:
        """Return a copy of a loaded state if it is one, else raise `SettingError`."""
        if not isinstance(state, dict) or not isinstance(state.get("metrics"), dict):
            raise SettingError(f"{where}: must have metrics and an epoch")
        epoch = check_int(f"{where}: epoch", state.get("epoch"), 0)
        if epoch == 0:  # within the first one
            return {"metrics": {"loss": math.inf}, "epoch": 0}
        metrics = {
            name: check_number(f"{where}: {name}", value)
            for name, value in state["metrics"].items()
            if isinstance(name, str) and re.fullmatch(r"[a-z]\w*", name)
        }
        if "loss" not in metrics:
            raise SettingError(f"{where}: has no loss")
        return {"metrics": metrics, "epoch": epoch}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics, self.epoch = state_dict["metrics"], state_dict["epoch"]

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = {
            name.removeprefix("val/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        if self.objective.removeprefix("val/") not in values:
            known = ", ".join(f"val/{name}" for name in values)
            raise SettingError(f"objective={self.objective}: must be one of {known} for this model")
        if values["loss"] < self.metrics["loss"]:
            self.metrics, self.epoch = values, trainer.current_epoch + 1
