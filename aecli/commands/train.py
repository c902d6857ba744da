"""`aecli train`: build a model and its data, fit, and tell where the run is."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from shlex import quote

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Timer
from omegaconf import DictConfig

from aecli import __version__
from aecli.build import build
from aecli.commands.evaluate import evaluate
from aecli.data import InMemoryDataModule
from aecli.distributed import end_with_parent, launched, leave, rank
from aecli.errors import SettingError, check_seed
from aecli.models import Autoencoder
from aecli.runs.checkpoint import parts, stored
from aecli.runs.experiment import report
from aecli.runs.find import find
from aecli.runs.metrics_file import read_metrics, update_metrics
from aecli.runs.paths import BEST, LAST, as_typed, checkpoint_path, lock, shown
from aecli.runs.resume import (
    check_same,
    check_typed,
    interrupted,
    is_done,
    is_trained,
    last_checkpoint,
)
from aecli.signals import stop_on_sigterm
from aecli.sweeps.pruning import pruning
from aecli.training.callbacks import BestEpoch
from aecli.training.speed import FASTEST, FULL, Arithmetic, fastest
from aecli.training.trainer import build_trainer, check_together

log = logging.getLogger(__name__)


def main(config: DictConfig) -> float:
    """Train one run of the command line; return its value of the objective, for a sweeper."""
    quieten()
    stop_on_sigterm()
    if rank() > 0 and not launched():
        end_with_parent()
    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    with lock(directory, "trains it") if rank() == 0 else nullcontext():
        return _run(config, directory, hydra)


def _run(config: DictConfig, directory: Path, hydra: DictConfig) -> float:
    in_sweep = hydra.mode == RunMode.MULTIRUN
    if config.sweeper is not None and not in_sweep:
        raise SettingError("sweeper=optuna: searches by a sweep of runs; add -m")
    choices, last = parts(hydra.runtime.choices), last_checkpoint(directory)
    ours = config  # a study's storage is what was typed, never what a checkpoint says
    # A job of a sweep that has a checkpoint already goes on: a queue may have started it again.
    if last or (config.resume and not in_sweep):
        then = interrupted(directory)
        if in_sweep:
            check_same(config, then.config, directory)
        else:
            typed = {override.split("=")[0].lstrip("+~") for override in hydra.overrides.task}
            check_typed(config, then.config, typed, directory)
        config, choices = then.config, then.choices
        if is_done(config, directory):
            if not in_sweep:
                epochs = read_metrics(directory)["epochs"]
                raise SettingError(f"resume={shown(directory)}: is done, {epochs} epochs long")
            log.info("done already: %s", shown(directory))
            return _objective(config, directory)
        log.info("going on with %s", shown(directory))
    if not is_trained(config, directory):
        train(config, directory, choices, last, pruning(ours) if in_sweep else ())
    if rank() > 0:
        return 0.0  # the first of several processes does the rest
    if config.published is not None:
        (run,) = find(str(directory), config.output_dir)
        values = evaluate(run, config.eval, config.seed, root=config.dataset.root)
        report(choices["experiment"], config, values, directory)
    if not in_sweep:  # a sweep says once, at its end, what to do next
        log.info(_next_lines(directory, config.output_dir, choices["model"]))
    return _objective(config, directory)


def _objective(config: DictConfig, directory: Path) -> float:
    value = read_metrics(directory).get("val", {}).get(config.objective.removeprefix("val/"))
    if not isinstance(value, int | float):
        raise SettingError(f"{shown(directory / 'metrics.json')}: has no {config.objective}")
    return value


def train(
    config: DictConfig,
    directory: Path,
    choices: Mapping[str, str],
    last: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> None:
    """Train the model that `config` describes into `directory`.

    `choices` names the option of each group, for the people who read the run. With `last`, a
    checkpoint of the same configuration, training goes on after its last full epoch. `callbacks`
    join those that every run has. Raises `SettingError` for a setting that cannot work.
    """
    # Adam's moments of silent pixels and units decay into denormal numbers, on which a CPU is many
    # times slower. Threads take this over from the one that starts them: so before everything.
    torch.set_flush_denormal(True)
    pl.seed_everything(check_seed("seed", config.seed), verbose=False)
    data = build(config, "dataset")
    model = build(config, "model")
    pretrain = build(config, "pretraining")
    data.setup("fit")
    model.likelihood.check(data.values())
    best, timer = BestEpoch(config.objective), Timer()
    kept = [best, timer, *callbacks]
    wanted = config.trainer.precision == FASTEST
    arithmetic = Arithmetic(FULL if wanted else config.trainer.precision, compiled=False)
    trainer = build_trainer(config, directory, choices, kept, arithmetic)
    log.info(_headline(choices, data, model, trainer))
    if trainer.world_size > 1:
        check_together(config, choices, model, trainer)
        data.check_parts(trainer.world_size)
    if wanted:
        then = stored(last).arithmetic if last else None
        steps = (trainer.max_epochs or 0) * len(data.train_dataloader())
        arithmetic = (
            Arithmetic(*then) if then else fastest(model, data, trainer.strategy.root_device, steps)
        )
        trainer = build_trainer(config, directory, choices, kept, arithmetic)
        if arithmetic.compiled:
            model.compile_terms()
    start = time.monotonic()
    if last is None:
        device = trainer.strategy.root_device
        data.move(device)
        with trainer.precision_plugin.forward_context():
            pretrain(model.to(device), data)
    pretrain_seconds = time.monotonic() - start
    try:
        _fit(trainer, model, data, directory, last)
    except MisconfigurationException as error:
        raise SettingError(f"trainer: {error}") from error
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        raise  # a queue's, which starts the job again
    leave()
    if rank() > 0:
        return
    if best.epoch == 0:
        raise SettingError("trainer: ended before any validation, so that there is no best epoch")
    results = {
        "version": __version__,
        "torch": torch.__version__,
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
        "train_seconds": round(pretrain_seconds + timer.time_elapsed("train"), 1),
        "val": best.metrics,
    }
    update_metrics(directory, results)
    stopper = trainer.early_stopping_callback
    early = " (stopped early)" if stopper is not None and stopper.stopped_epoch else ""
    log.info("done: {epochs} epochs in {train_seconds:.0f} s".format(**results) + early)
    values = "  ".join(f"{name} {value:.4g}" for name, value in best.metrics.items())
    epoch = f", best epoch {best.epoch}" if trainer.max_epochs else ""
    log.info("validation%s: %s", epoch, values)
    log.info("run: %s", shown(directory))


def _fit(
    trainer: pl.Trainer,
    model: Autoencoder,
    data: InMemoryDataModule,
    directory: Path,
    last: Path | None,
) -> None:
    if trainer.max_epochs:
        trainer.fit(model, datamodule=data, ckpt_path=last)
        return
    # No training: a run of the weights as they are, pretrained perhaps.
    trainer.validate(model, datamodule=data, verbose=False)
    for name in (BEST, LAST):
        trainer.save_checkpoint(checkpoint_path(directory, name))


def quieten() -> None:
    """Send what other libraries say to the run's log; the terminal is for what a user can use."""
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is no news
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _headline(
    choices: Mapping[str, str], data: InMemoryDataModule, model: Autoencoder, trainer: pl.Trainer
) -> str:
    device = trainer.strategy.root_device
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    several = f", {trainer.world_size} processes" if trainer.world_size > 1 else ""
    images = {name: len(split.images.labels) for name, split in data.splits.items()}
    return (
        f"{choices['model']} on {choices['dataset']}: {images['train']:,} training and"
        f" {images['validation']:,} validation images, {_parameters(model):,} parameters,"
        f" {device.type}{threads}{several}"
    )


def _parameters(model: Autoencoder) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _next_lines(directory: Path, output_dir: str, model: str) -> str:
    run = as_typed("run", directory)
    kind = "prior" if model in ("vae", "iwae") else "reconstruct"
    return (
        f"next:\n"
        f"  aecli eval {run}\n"
        f"  aecli sample {run} kind={kind}\n"
        f"  tensorboard --logdir {quote(output_dir)}"
    )
