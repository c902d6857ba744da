"""What `aecli train` says and writes down: before a training, of its end, and what is next."""

import logging
import platform
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from shlex import quote
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig

from aecli import __version__, plugins
from aecli.build import build
from aecli.data import DataModule
from aecli.machine import processor
from aecli.models import Autoencoder
from aecli.runs.paths import as_typed, shown
from aecli.text import counted
from aecli.training.callbacks import BestEpoch
from aecli.training.speed import Arithmetic

log = logging.getLogger(__name__)


def headline(
    choices: Mapping[str, str], data: DataModule, model: Autoencoder, trainer: pl.Trainer
) -> str:
    """Return the line before a training: what is trained, on what, and where."""
    device = trainer.strategy.root_device
    threads = f", {counted(torch.get_num_threads(), 'threads')}" if device.type == "cpu" else ""
    several = f", {trainer.world_size} processes" if trainer.world_size > 1 else ""
    sizes = {name: len(split) for name, split in data.splits.items()}
    what = "images" if data.card is not None and len(data.card.shape) == 3 else "rows"
    return (
        f"{choices['model']} on {choices['dataset']}: {sizes['train']:,} training and"
        f" {sizes['validation']:,} validation {what}, {_parameters(model):,} parameters,"
        f" {device.type}{threads}{several}"
    )


def results(
    trainer: pl.Trainer,
    model: Autoencoder,
    choices: Mapping[str, str],
    arithmetic: Arithmetic,
    best: BestEpoch,
    seconds: float,
    pretrain_seconds: float | None,
) -> dict[str, Any]:
    """Return what a training writes into `metrics.json`.

    `train_seconds` has those of the pretraining in it, but in a resumed run, which does not know
    them.
    """
    return {
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "device": trainer.strategy.root_device.type,
        "threads": torch.get_num_threads(),
        "processes": trainer.world_size,
        "precision": arithmetic.precision,
        "date": date.today().isoformat(),
        "choices": dict(choices),
        "parameters": _parameters(model),
        "epochs": trainer.current_epoch,
        "asked_epochs": trainer.max_epochs,
        "best_epoch": best.epoch,
        "train_seconds": round(seconds + (pretrain_seconds or 0), 1),
        "pretrain_seconds": None if pretrain_seconds is None else round(pretrain_seconds, 1),
        "val": best.metrics,
    }


def say(results: Mapping[str, Any], trainer: pl.Trainer, directory: Path) -> None:
    """Print how the training went and where the run is."""
    stopper = trainer.early_stopping_callback
    early = " (stopped early)" if stopper is not None and stopper.stopped_epoch else ""
    length = counted(results["epochs"], "epochs")
    log.info("done: %s in %.0f s%s", length, results["train_seconds"], early)
    values = "  ".join(f"{name} {value:.4g}" for name, value in results["val"].items())
    epoch = f", best epoch {results['best_epoch']}" if results["asked_epochs"] else ""
    log.info("validation%s: %s", epoch, values)
    log.info("run: %s", shown(directory))


def next_lines(config: DictConfig, directory: Path) -> str:
    """Return what a user may type after a training, a line each."""
    run = as_typed("run", directory)
    model: Autoencoder = build(config, "model")
    kind = "prior" if model.has_prior else "reconstruct"
    typed = plugins.as_typed(config.plugins)
    # The page is of what a model makes of its own input.
    page = f"  aecli explore {run} out=explore.html{typed}\n"
    return (
        f"next:\n"
        f"  aecli eval {run}{typed}\n"
        f"  aecli sample {run} kind={kind}{typed}\n"
        f"{'' if config.dataset.get('targets') else page}"
        f"  tensorboard --logdir {quote(config.output_dir)}"
    )


def _parameters(model: Autoencoder) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
