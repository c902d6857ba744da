"""What `aecli train` says and writes down: before a training, of its end, and what is next."""

import logging
import math
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
from aecli.models import VAE, Autoencoder
from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import as_typed, shown
from aecli.runs.resume import LENGTH, laid_out
from aecli.text import counted
from aecli.training.callbacks import BestEpoch
from aecli.training.speed import Arithmetic

LEAST_EPOCHS = 5
"""Of a training that was meant to be one."""

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


def warmup(model: VAE, trainer: pl.Trainer, batches: int) -> str:
    """Return a line about a warm-up of β that the training is too short for, or ""."""
    steps = math.ceil(batches / trainer.accumulate_grad_batches)
    needed = model.warmup_steps or model.warmup_epochs * steps
    ends = [epochs * steps for epochs in [trainer.max_epochs or -1] if epochs > 0]
    ends += [trainer.max_steps] if trainer.max_steps > 0 else []
    if not ends or min(ends) >= needed:
        return ""
    key, value = "warmup_epochs", f"{model.warmup_epochs:g}"
    if model.warmup_steps:
        key, value = "warmup_steps", str(model.warmup_steps)
    reached = model.beta * min(ends) / needed
    return (
        f"model.{key}={value}: longer than the training, which ends at a beta of {reached:.3g};"
        f" validation takes {model.beta:g}"
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
    # Of a table a file is read rather than a picture of its rows.
    place = " out=samples.csv" if is_table(config.dataset) and model.has_prior else ""
    lines = [f"eval {run}{typed}", f"sample {run} kind={kind}{place}{typed}"]
    if is_table(config.dataset):
        lines.append(f"score {run} out=scores.csv{typed}")
    if not config.dataset.get("targets"):  # the page is of what a model makes of its own input
        lines.append(f"explore {run} out=explore.html{typed}")
    return "\n".join(
        [
            "next:",
            *(f"  aecli {line}" for line in lines),
            f"  tensorboard --logdir {quote(config.output_dir)}",
            *_longer(config, directory),
        ]
    )


def is_table(dataset: DictConfig) -> bool:
    """Return whether a data set is the columns of a table."""
    return str(dataset.get("_target_", "")).endswith(".TableData")


def _longer(config: DictConfig, directory: Path) -> list[str]:
    """Return how to train for longer, where one of the last epochs was the best and it can be."""
    metrics = read_metrics(directory)
    epochs = metrics.get("epochs", 0)
    is_whole = config.trainer.max_epochs == epochs >= LEAST_EPOCHS
    was_falling = metrics.get("best_epoch", 0) > 0.9 * epochs
    if config.published is not None or laid_out(config) or not (is_whole and was_falling):
        return []
    line = f"aecli train {as_typed('resume', directory)} {LENGTH}={2 * epochs}"
    typed = plugins.as_typed(config.plugins)
    return [f"the validation loss was still falling; to train for longer:\n  {line}{typed}"]


def _parameters(model: Autoencoder) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
