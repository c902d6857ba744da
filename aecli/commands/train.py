"""`aecli train`: build a model and its data, fit, and print where the run is."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from aecli import files
from aecli.build import build
from aecli.commands import train_report
from aecli.commands.evaluate import check_idle, check_settings, evaluate
from aecli.config import is_sweep, plain
from aecli.data import DataModule
from aecli.distributed import end_with_parent, launched, leave, rank
from aecli.errors import SettingError, check_int, check_seed
from aecli.evaluation.support import check_splits
from aecli.malloc import keep_freed_memory
from aecli.models import VAE, Autoencoder, Dictionary
from aecli.overrides import key_of
from aecli.pretraining import Pretraining
from aecli.runs.checkpoint import Stored, parts, stored
from aecli.runs.experiment import report
from aecli.runs.find import find
from aecli.runs.metrics_file import read_metrics, update_metrics
from aecli.runs.paths import BEST, CONFIG, LAST, checkpoint_path, lock, shown
from aecli.runs.resume import LENGTH, State, check_same, check_typed, laid_out
from aecli.signals import stop_on_sigterm
from aecli.sweeps.pruning import Pruning, pruning
from aecli.text import counted
from aecli.training.arguments import check_arguments, check_limits
from aecli.training.average import averages
from aecli.training.callbacks import GoesOn
from aecli.training.combinations import check_combination
from aecli.training.contract import check_parts, pretrained
from aecli.training.memory import check_memory
from aecli.training.quiet import quieten
from aecli.training.source_contract import set_up
from aecli.training.speed import FASTEST, Arithmetic, fastest_step
from aecli.training.threads import Threads, multiplications
from aecli.training.trainer import build_trainer, check_together, own_callbacks

log = logging.getLogger(__name__)


def main(config: DictConfig) -> float:
    """Train one run of the command line; return its value of the objective, for a sweeper."""
    quieten()
    stop_on_sigterm()
    if rank() > 0 and not launched():
        end_with_parent()
    directory = Path(HydraConfig.get().runtime.output_dir)
    with lock(directory, "trains it") if rank() == 0 else nullcontext():
        return run(config, directory)


def run(config: DictConfig, directory: Path) -> float:
    """Train, or resume, the run in `directory`; return its value of the objective."""
    hydra, in_sweep = HydraConfig.get(), is_sweep()
    if config.sweeper is not None and not in_sweep:
        raise SettingError("sweeper=optuna: searches by a sweep of runs; add -m")
    choices, state = parts(hydra.runtime.choices), State.read(directory)
    typed = config  # a study's storage is what was typed, never what a checkpoint says
    # A job of a sweep that has a checkpoint is resumed: a queue may have started it again.
    if state.last or (config.resume and not in_sweep):
        config, choices = _resumed(config, state, None if in_sweep else hydra.overrides.task)
        if state.is_done(config):
            if not in_sweep:
                epochs = state.metrics["epochs"]
                can_grow = epochs == config.trainer.max_epochs and not laid_out(config)
                longer = f"; to train it for longer add {LENGTH}={2 * epochs}" if can_grow else ""
                raise SettingError(
                    f"resume={shown(directory)}: is done, {counted(epochs, 'epochs')} long{longer}"
                )
            log.info("done already: %s", shown(directory))
            return _objective(config, directory)
        log.info("going on with %s", shown(directory))
    if config.published is not None:
        if config.eval is None:
            raise SettingError(
                f"experiment={choices.get('experiment')}: has a published result and no eval to be"
                " held against it; add /eval: standard to its defaults"
            )
        check_settings(config.eval)  # before the training: it may hold a mistake
        check_idle(config.eval, hydra.overrides.task)
    if not state.is_trained(config):
        train(config, directory, choices, state.last, pruning(typed) if in_sweep else ())
    if rank() > 0:
        return 0.0  # the first of several processes does the rest
    if config.published is not None:
        (run,) = find(str(directory))
        values = evaluate(run, config.eval, config.seed, root=config.dataset.get("root"))
        report(choices["experiment"], config, values, directory)
    if not in_sweep:  # a sweep says once, at its end, what to do next
        log.info(train_report.next_lines(config, directory))
    return _objective(config, directory)


def _resumed(
    config: DictConfig, state: State, overrides: Sequence[str] | None
) -> tuple[DictConfig, dict[str, str]]:
    """Return the configuration and the choices that a run was started with.

    `overrides` are those typed with `resume=`; None in a sweep, whose jobs repeat all of theirs.
    Raises `SettingError` where `config` asks for another run.
    """
    found = state.resumable()
    if overrides is None:
        check_same(config, found.config, state.directory)
    else:
        typed = {key_of(override) for override in overrides}
        check_typed(config, found.config, typed, state.directory)
    return found.config, found.choices


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
    checkpoint of the same configuration, training resumes after its last full epoch. `callbacks`
    are added to those that every run has. Raises `SettingError` for a setting that cannot work.
    """
    # Adam's moments of silent pixels and units decay into denormal numbers, on which a CPU is many
    # times slower. Threads inherit this from the one that starts them: so before everything.
    torch.set_flush_denormal(True)
    pl.seed_everything(check_seed("seed", config.seed), verbose=False)
    check_arguments(plain(config.trainer))
    before = stored(last) if last else None
    data: DataModule = build(config, "dataset")
    if before and before.data:
        data.of_run(*before.data)
    set_up(config, choices, data)
    if data.understood:
        log.info(data.understood)
    _fill(config, data, directory)
    batches = {"train": len(data.train_dataloader()), "val": len(data.val_dataloader())}
    check_limits(plain(config.trainer), batches)
    model: Autoencoder = build(config, "model")
    check_parts(config, choices, model, data)
    check_memory(config, data)
    pretraining: Pretraining = build(config, "pretraining")
    check_combination(config, choices, model, data, pretraining)
    _start(model, data, choices.get("likelihood", ""), is_new=last is None)
    if isinstance(model, Dictionary):
        keep_freed_memory()
    threads = Threads(multiplications(model, data), stay=bool(config.trainer.deterministic))
    arithmetic = _arithmetic(config, model, data, before)
    arithmetic.prepare(model)
    best, timer = own_callbacks(config)
    own = [best, timer, threads, *averages(config, model), *callbacks]
    if last is not None:
        own.append(GoesOn(directory))
    trainer = build_trainer(config, directory, choices, own, arithmetic)
    log.info(train_report.headline(choices, data, model, trainer))
    if isinstance(model, VAE) and (hint := train_report.warmup(model, trainer, batches["train"])):
        log.info(hint)
    if trainer.world_size > 1:
        check_together(config, choices, model, trainer)
    data.check_batches(trainer.world_size, model.smallest_batch)
    pretrain_seconds = None
    if last is None:
        with pretrained(config, choices, model):
            pretrain_seconds = _pretrain(pretraining, trainer, model, data)
    _fit(trainer, model, data, directory, last)
    leave()
    if rank() > 0:
        return
    if best.epoch == 0:
        raise SettingError("trainer: ended before any validation, so that there is no best epoch")
    seconds = timer.time_elapsed("train")
    results = train_report.results(
        trainer, model, choices, arithmetic, best, seconds, pretrain_seconds
    )
    if any(isinstance(callback, Pruning) and callback.has_pruned for callback in callbacks):
        results["pruned"] = True
    update_metrics(directory, results)
    train_report.say(results, trainer, directory)


def _fill(config: DictConfig, data: DataModule, directory: Path) -> None:
    """Write what was found in the data into the configuration, for the parts that need it."""
    card, target = data.card, data.card.target_shape
    found = {
        "shape": list(card.shape),
        "features": card.features,
        "target_shape": None if target is None else list(target),
    }
    new = [key for key, value in found.items() if value != config.dataset.get(key, value)]
    for key in new:
        config.dataset[key] = found[key]
    if new and rank() == 0:
        config.model.code_dim = config.model.code_dim  # the number, and not how it is found
        files.write(directory / CONFIG, OmegaConf.to_yaml(config))  # read by `aecli compare`


def _start(model: Autoencoder, data: DataModule, likelihood: str, is_new: bool) -> None:
    """Fit to the training data what a model needs of it; the weights, too, if they are new ones."""
    assert data.shape is not None, "set up"
    values = data.values()
    model.likelihood.check(values)
    check_splits(model, data, ("validation", "test"), likelihood)
    model.noise.fit(values, data.shape)
    if is_new and model.output_bias is not None:
        model.start_output(data.mean())
    if is_new and model.start_rows:
        count = min(model.start_rows, len(data.splits["train"]))
        model.start_at(data.some(count), data.some_targets(count))
    if isinstance(model, VAE):
        model.prior.fit(values, data.some)


def _arithmetic(
    config: DictConfig, model: Autoencoder, data: DataModule, before: Stored | None
) -> Arithmetic:
    """Return the arithmetic of a training: as set, as before, or the fastest on its device."""
    settings = config.trainer
    if settings.precision != FASTEST:
        return Arithmetic(settings.precision, compiled=False)
    if before and before.arithmetic:
        return Arithmetic(*before.arithmetic)
    epochs = check_int("trainer.max_epochs", settings.max_epochs, 0)
    keys = ("accelerator", "devices", "strategy")
    try:  # Fabric takes the device that a Trainer of the same settings will take
        fabric = Fabric(**{key: settings[key] for key in keys if key in settings})
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise SettingError(f"trainer: {' '.join(str(error).split())}") from error
    if fabric.world_size > 1 or launched():
        raise SettingError(
            f"trainer.precision={FASTEST}: is measured on one device; several processes need"
            " trainer.precision=32-true or bf16-mixed"
        )
    return fastest_step(model, data, fabric.device, epochs * len(data.train_dataloader()))


def _pretrain(
    pretraining: Pretraining, trainer: pl.Trainer, model: Autoencoder, data: DataModule
) -> float:
    """Train layer by layer, if so set; return the seconds that it took."""
    start = time.monotonic()
    device = trainer.strategy.root_device
    data.move(device)
    with trainer.precision_plugin.forward_context():
        pretraining(model.to(device), data)
    return time.monotonic() - start


def _fit(
    trainer: pl.Trainer,
    model: Autoencoder,
    data: DataModule,
    directory: Path,
    last: Path | None,
) -> None:
    if not trainer.max_epochs:  # a run of the weights as they are, pretrained perhaps
        trainer.validate(model, datamodule=data, verbose=False)
        for name in (BEST, LAST):
            trainer.save_checkpoint(checkpoint_path(directory, name))
        return
    try:
        trainer.fit(model, datamodule=data, ckpt_path=last)
    except MisconfigurationException as error:
        raise SettingError(f"trainer: {error}") from error
    except SystemExit as stop:
        # Lightning answers Ctrl-C by exiting while it handles the KeyboardInterrupt: there is no
        # public way to tell this from a queue's exit, which starts the job again.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
