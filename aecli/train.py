"""`aecli train`: build a model and its data, fit, and tell where the run is."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import date
from pathlib import Path

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from omegaconf import DictConfig

from aecli import __version__
from aecli.build import build
from aecli.callbacks import (
    BestEpoch,
    Events,
    KeepConfiguration,
    KeepRandomState,
    TensorBoardPages,
)
from aecli.data import InMemoryDataModule
from aecli.directories import alone_in, shown
from aecli.distributed import end_with_parent, launched, leave, rank
from aecli.errors import SettingError, check_int, check_number, check_seed
from aecli.evaluate import evaluate
from aecli.experiment import report
from aecli.loop import EpochLoop
from aecli.models import Autoencoder
from aecli.progress import Progress
from aecli.pruning import pruning
from aecli.resume import check_typed, interrupted, is_done, is_trained, last_checkpoint
from aecli.runs import (
    BEST,
    LAST,
    AtomicCheckpointIO,
    find,
    parts,
    read_metrics,
    stored,
    update_metrics,
)
from aecli.signals import StopOnSigterm, stop_on_sigterm
from aecli.speed import FASTEST, FULL, Arithmetic, fastest

log = logging.getLogger(__name__)

MONITOR = "val/loss"


def main(config: DictConfig) -> float:
    """Train one run of the command line; return its value of the objective, for a sweeper."""
    quieten()
    stop_on_sigterm()
    if rank() > 0 and not launched():
        end_with_parent()
    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    with alone_in(directory) if rank() == 0 else nullcontext():
        return _run(config, directory, hydra)


def _run(config: DictConfig, directory: Path, hydra: DictConfig) -> float:
    in_sweep = hydra.mode == RunMode.MULTIRUN
    choices, last = parts(hydra.runtime.choices), last_checkpoint(directory)
    # A job of a sweep that has a checkpoint already goes on: a queue may have started it again.
    if last or (config.resume and not in_sweep):
        then = interrupted(directory)
        if not in_sweep:
            typed = {override.split("=")[0].lstrip("+~") for override in hydra.overrides.task}
            check_typed(config, then.config, typed)
        config, choices = then.config, then.choices
        if is_done(config, directory):
            if not in_sweep:
                epochs = read_metrics(directory)["epochs"]
                raise SettingError(f"resume={shown(directory)}: is done, {epochs} epochs long")
            log.info("done already: %s", shown(directory))
            return _objective(config, directory)
        log.info("going on with %s", shown(directory))
    if config.sweeper is not None and not in_sweep:
        raise SettingError("sweeper=optuna: searches by a sweep of runs; add -m")
    if not is_trained(config, directory):
        train(config, directory, choices, last, pruning(config) if in_sweep else ())
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
    return read_metrics(directory)["val"][config.objective.removeprefix("val/")]


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
    data.setup()
    model.likelihood.check(data.values())
    best, timer = BestEpoch(config.objective), Timer()
    kept = [best, timer, *callbacks]
    wanted = config.trainer.precision == FASTEST
    arithmetic = Arithmetic(FULL if wanted else config.trainer.precision, compiled=False)
    trainer = _trainer(config, directory, choices, kept, arithmetic)
    log.info(_headline(choices, data, model, trainer))
    if trainer.world_size > 1:
        _check_together(config, choices, model, trainer)
        data.check_parts(trainer.world_size)
    if wanted:
        then = stored(last).arithmetic if last else None
        steps = (trainer.max_epochs or 0) * len(data.train_dataloader())
        arithmetic = (
            Arithmetic(*then) if then else fastest(model, data, trainer.strategy.root_device, steps)
        )
        trainer = _trainer(config, directory, choices, kept, arithmetic)
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
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
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
        trainer.save_checkpoint(directory / "checkpoints" / f"{name}.ckpt")


def _trainer(
    config: DictConfig,
    directory: Path,
    choices: Mapping[str, str],
    callbacks: list[pl.Callback],
    arithmetic: Arithmetic,
) -> pl.Trainer:
    every = check_int("pictures_every", config.pictures_every, 0)
    check_int("trainer.max_epochs", config.trainer.max_epochs, 0)
    for key in ("limit_train_batches", "limit_val_batches"):
        if config.trainer.get(key) is not None:
            check_number(f"trainer.{key}", config.trainer[key], low=0, open_low=True)
    if config.trainer.get("fast_dev_run"):
        raise SettingError("trainer.fast_dev_run: leaves no run behind; use trainer=debug")
    together = launched()
    if together and config.trainer.get("strategy") != "ddp":
        raise SettingError("trainer: several processes were started; they need trainer=ddp")
    trainer: pl.Trainer = build(
        config,
        "trainer",
        **({"devices": together.a_node, "num_nodes": together.nodes} if together else {}),
        precision=arithmetic.precision,
        default_root_dir=str(directory),
        logger=Events(directory, name="", version=""),
        callbacks=[
            *callbacks,
            KeepConfiguration(config, choices, arithmetic),
            KeepRandomState(),
            StopOnSigterm(),
            TensorBoardPages(config, choices, every),
            Progress(),
            *_checkpoints(directory),
            *_early_stopping(config.early_stopping),
        ],
        plugins=[AtomicCheckpointIO()],
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # nothing is logged by step, only by epoch
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    EpochLoop.put_into(trainer)
    return trainer


def _check_together(
    config: DictConfig, choices: Mapping[str, str], model: Autoencoder, trainer: pl.Trainer
) -> None:
    """Refuse what several processes cannot train together."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of those that Lightning will start
    asked = f"trainer.devices={config.trainer.devices}"
    if not model.takes_plain_steps:
        raise SettingError(f"{asked}: this model or optimizer takes one process, one device")
    if choices.get("pretraining", "none") != "none":
        raise SettingError(f"{asked}: pretraining={choices['pretraining']} takes one process")
    if config.trainer.precision == FASTEST:
        raise SettingError(f"{asked}: trainer.precision=fastest is measured on one device")
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise SettingError(
            f"{asked}: a sweep's jobs take one device each; leave -m out, or let the jobs run side"
            " by side with launcher=joblib or launcher=submitit_slurm"
        )
    cores = os.cpu_count() or 1
    if trainer.strategy.root_device.type == "cpu" and trainer.world_size > cores and not launched():
        raise SettingError(f"{asked}: there are {cores} processors")


def quieten() -> None:
    """Send what other libraries say to the run's log; the terminal is for what a user can use."""
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is no news
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


class EpochCheckpoint(ModelCheckpoint):
    """Saves after a validation, and does not ask after each batch whether to."""

    on_train_batch_end = pl.Callback.on_train_batch_end


def _checkpoints(directory: Path) -> list[ModelCheckpoint]:
    folder = directory / "checkpoints"
    common = {"dirpath": folder, "enable_version_counter": False, "auto_insert_metric_name": False}
    return [
        EpochCheckpoint(filename=BEST, monitor=MONITOR, mode="min", save_top_k=1, **common),
        EpochCheckpoint(filename=LAST, **common),
    ]


def _early_stopping(config: DictConfig) -> list[EarlyStopping]:
    if config.patience is None:
        return []
    patience = check_int("early_stopping.patience", config.patience, 1)
    min_delta = check_number("early_stopping.min_delta", config.min_delta, low=0)
    return [EarlyStopping(MONITOR, patience=patience, min_delta=min_delta, mode="min")]


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
    run = shown(directory)
    kind = "prior" if model in ("vae", "iwae") else "reconstruct"
    return (
        f"next:\n"
        f"  aecli eval run={run}\n"
        f"  aecli sample run={run} kind={kind}\n"
        f"  tensorboard --logdir {output_dir}"
    )
