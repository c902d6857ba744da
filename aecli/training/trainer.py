"""Lightning's Trainer as a run needs it: loop, checkpoints, logs, and what it refuses."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from omegaconf import DictConfig, OmegaConf

from aecli.build import build
from aecli.config import is_sweep, plain
from aecli.distributed import launched
from aecli.errors import SettingError, check_int, check_number
from aecli.machine import check_processes
from aecli.models import Autoencoder
from aecli.runs.checkpoint import AtomicCheckpointIO
from aecli.runs.paths import BEST, CHECKPOINTS, LAST
from aecli.runs.rebuilt import rebuilt
from aecli.runs.records import typed_keys
from aecli.training.arguments import NOT_LIGHTNINGS
from aecli.training.callbacks import (
    BestEpoch,
    KeepConfiguration,
    KeepRandomState,
    StopOnSigterm,
)
from aecli.training.loop import EpochLoop
from aecli.training.progress_bar import Progress
from aecli.training.speed import Arithmetic
from aecli.training.tensorboard import Events, TensorBoardPages

MONITOR = "val/loss"


def own_callbacks(config: DictConfig) -> tuple[BestEpoch, Timer]:
    """Return the callbacks of a training that are asked for their results at its end."""
    # By epoch: a run ends, and goes on, with whole ones. Lightning adds no timer beside this one.
    return BestEpoch(config.objective), Timer(config.trainer.get("max_time"), interval="epoch")


def build_trainer(
    config: DictConfig,
    directory: Path,
    choices: Mapping[str, str],
    callbacks: list[pl.Callback],
    arithmetic: Arithmetic,
) -> pl.Trainer:
    """Return the trainer of a run, with the callbacks that every run has and those given.

    Raises `SettingError` for a setting that Lightning would trip over.
    """
    every = check_int("pictures_every", config.pictures_every, 0)
    storage = AtomicCheckpointIO()
    together = launched()
    if together and config.trainer.get("strategy") != "ddp":
        raise SettingError("trainer: several processes were started; they need trainer=ddp")
    nodes = config.trainer.get("num_nodes")
    if nodes not in (None, 1) and not together:
        raise SettingError(
            f"trainer.num_nodes={nodes}: the processes of several machines are started by torchrun"
            " or srun (docs/scaling.md), and this one would wait for the others in vain"
        )
    settings = {k: v for k, v in plain(config.trainer).items() if k not in NOT_LIGHTNINGS}
    trainer: pl.Trainer = build(
        OmegaConf.create({"trainer": settings}),
        "trainer",
        **({"devices": together.per_node, "num_nodes": together.nodes} if together else {}),
        precision=arithmetic.precision,
        default_root_dir=str(directory),
        logger=Events(directory, name="", version=""),
        callbacks=[
            *callbacks,
            KeepConfiguration(config, choices, arithmetic),
            KeepRandomState(),
            StopOnSigterm(),
            TensorBoardPages(config, choices, _typed(directory), every),
            Progress(),
            *_checkpoints(directory),
            *_early_stopping(config.early_stopping),
        ],
        plugins=[storage],
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # nothing is logged by step, only by epoch
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # batches are split in data/
    )
    if isinstance(trainer.precision_plugin, MixedPrecision):
        # Lightning's own clips no gradients of a fused optimizer, as it would unscale them later.
        # Those of bfloat16 are not scaled, and float16 with clipping is refused.
        plain_clip = partial(Precision.clip_gradients, trainer.precision_plugin)
        trainer.precision_plugin.clip_gradients = plain_clip  # type: ignore[method-assign]
    storage.rebuilt = partial(rebuilt, trainer=trainer, epochs=config.trainer.max_epochs)
    EpochLoop.put_into(trainer)
    return trainer


def _typed(directory: Path) -> Iterable[str]:
    """Return the keys that were typed for a run, none if this cannot be read."""
    with suppress(Exception):  # whatever half a file can raise
        return sorted(typed_keys(directory))
    return []


def check_together(
    config: DictConfig, choices: Mapping[str, str], model: Autoencoder, trainer: pl.Trainer
) -> None:
    """Refuse what several processes cannot train together."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of those that Lightning will start
    asked = f"trainer.devices={config.trainer.devices}"
    if not model.takes_plain_steps:
        raise SettingError(f"{asked}: this model or optimizer takes one process, one device")
    if not model.sparsity.takes_parts:
        raise SettingError(f"{asked}: sparsity={choices.get('sparsity')} takes one process")
    if choices.get("pretraining", "none") != "none":
        raise SettingError(f"{asked}: pretraining={choices['pretraining']} takes one process")
    if is_sweep():
        raise SettingError(
            f"{asked}: a sweep's jobs take one device each; leave -m out, or let the jobs run side"
            " by side with launcher=joblib or launcher=submitit_slurm"
        )
    if trainer.strategy.root_device.type == "cpu" and not launched():
        check_processes(asked, trainer.world_size)


class Stopping(EarlyStopping):
    """Ends a training early; at once if it goes on after it was ended, and is to be no longer."""

    length: int | None = 0
    """`trainer.max_epochs` of the training."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End what was ended before it was written down."""
        if self.stopped_epoch and self.length == trainer.max_epochs:
            trainer.should_stop = True
        self.length = trainer.max_epochs

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state, and the length."""
        return super().state_dict() | {"length": self.length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a state."""
        super().load_state_dict(state_dict)
        self.length = state_dict["length"]


class EpochCheckpoint(ModelCheckpoint):
    """Saves after an epoch is logged, and does not ask after each batch whether to."""

    on_train_batch_end = pl.Callback.on_train_batch_end


def _checkpoints(directory: Path) -> list[ModelCheckpoint]:
    common: dict[str, Any] = {
        "dirpath": directory / CHECKPOINTS,
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
        "save_on_train_epoch_end": True,
    }
    return [
        EpochCheckpoint(filename=BEST, monitor=MONITOR, mode="min", save_top_k=1, **common),
        EpochCheckpoint(filename=LAST, **common),
    ]


def _early_stopping(config: DictConfig) -> list[EarlyStopping]:
    if config.patience is None:
        if config.min_delta:
            raise SettingError(
                f"early_stopping.min_delta={config.min_delta}: goes with early_stopping.patience"
            )
        return []
    patience = check_int("early_stopping.patience", config.patience, 1)
    min_delta = check_number("early_stopping.min_delta", config.min_delta, low=0)
    return [Stopping(MONITOR, patience=patience, min_delta=min_delta, mode="min")]
