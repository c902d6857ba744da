"""`aecli eval`: test metrics of runs, as a table, `metrics.json` and pictures."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import lightning.pytorch as pl
from omegaconf import DictConfig, OmegaConf
from rich.markup import escape
from rich.table import Column, Table
from torch.utils.tensorboard import SummaryWriter

from aecli import figures
from aecli.commands.latents_report import Latents, LatentsReport
from aecli.config import typed
from aecli.data import Batches, SyntheticData
from aecli.errors import SettingError, check_bool, check_choice, check_int, check_seed, shortened
from aecli.evaluation import metrics
from aecli.evaluation.annealing import Annealing
from aecli.evaluation.finetune import Finetuning
from aecli.evaluation.likelihood import marginal_nll
from aecli.evaluation.own import computed, own_metrics
from aecli.evaluation.pictures import drawn
from aecli.evaluation.probe import Probe
from aecli.evaluation.rate_distortion import draw_rate_distortion
from aecli.evaluation.recovery import recovery
from aecli.evaluation.support import check_splits
from aecli.evaluation.theory import Theory
from aecli.hydra_keys import is_below
from aecli.malloc import keep_freed_memory
from aecli.models import VAE, Dictionary
from aecli.models.losses import SplitLosses
from aecli.overrides import key_of
from aecli.progress import Tracked, show
from aecli.runs.find import Run, find
from aecli.runs.load import Loaded, load
from aecli.runs.metrics_file import read_metrics, update_metrics
from aecli.runs.paths import BEST, LAST, METRICS, PICTURES, check_writable, shown
from aecli.text import counted, one_line

log = logging.getLogger(__name__)

PROTOCOLS = ("probe", "finetune", "none")
SIDE_BY_SIDE = (
    "mse",
    "sse",
    "ssim",
    "elbo",
    "marginal_nll",
    "explained_variance",
    "l0",
    "dead_share",
    "mcc",
    "f1",
    "probe_error",
    "finetune_error",
    "gap_sampled",
    "aggregate_kl",
    "generated_kernel_prior",
    "generated_kernel_fitted",
    "train_seconds",
)
"""Metrics of the table over several runs."""


def main(config: DictConfig) -> None:
    """Evaluate the runs that `run=` means."""
    check_idle(config.eval, typed())
    runs = find(config.run, config.output_dir)
    place = {"device": config.device, **config.dataset}
    results = {run: evaluate(run, config.eval, config.seed, **place) for run in runs}
    if len(results) > 1:
        _print_side_by_side(results, config.eval)
        if config.eval.pictures:
            draw_rate_distortion(results)


def evaluate(
    run: Run,
    settings: DictConfig,
    seed: int,
    device: str = "auto",
    root: str | None = None,
    file: str | None = None,
    files: Any = None,
    targets: Any = None,
) -> dict[str, float]:
    """Compute a run's test metrics as `settings` say, write and print them; return them by name.

    `seed` is that of what the estimates draw; `root`, `file` or `files`, and `targets`, is where
    the data lies now.
    """
    check_settings(settings)
    keep_freed_memory()
    theory = Theory(settings)
    if settings.checkpoint == LAST:
        run = run.at(LAST)
    log.info("evaluating %s", shown(run.checkpoint))
    # Before the work: what would be refused after it.
    check_writable(run.directory, PICTURES, METRICS)
    read_metrics(run.directory)
    loaded = load(run, device, root, file, files, targets)
    theory.check(loaded)
    check_splits(loaded.model, loaded.data, ("test",), loaded.choices.get("likelihood", ""))
    loaded.model.noise.fit(loaded.data.values(), loaded.card.shape)
    report = LatentsReport(loaded, settings)  # before the work: it may hold a mistake
    own = own_metrics(loaded.config.get("plugins", []))
    pl.seed_everything(check_seed("seed", seed), verbose=False)
    start = time.monotonic()
    losses = loaded.model.losses()
    levels = _noise_levels(loaded, settings)
    values = _measure(loaded, losses, settings, levels, seed)
    measured = theory.measure(loaded, seed)
    values |= measured.values
    test_split = loaded.data.batches("test", settings.batch_size, seed)
    values |= computed(own, loaded.model, test_split, values)
    seconds = time.monotonic() - start
    latents = report(losses, test_split)
    own_units = {name: metric.unit for name, (_, metric) in own.items()}
    _print(loaded, values, settings, {**own_units, **measured.how})
    if latents is not None:
        show(latents.table)
    pictures = {}
    if settings.pictures:
        pictures = drawn(loaded, settings.noise, levels)
        pictures |= {name: figures.pixels_of(each) for name, each in measured.figures.items()}
        if latents is not None:
            pictures["firing_rates"] = latents.picture
    test = _record(loaded, settings, seed, seconds, values)
    if own:  # what `aecli compare` has to know of them
        test["own_metrics"] = {name: metric.more_is_better for name, (_, metric) in own.items()}
    if measured.values:
        test["theory"] = {"how": measured.how, **measured.details}
    if latents is not None:
        test["firing_rates"] = latents.rates
    _write(run, test, pictures, {} if latents is None else latents.pages)
    _log(loaded, values, pictures, latents)
    return values


def _record(
    loaded: Loaded, settings: DictConfig, seed: int, seconds: float, values: Mapping[str, float]
) -> dict[str, Any]:
    """Return what `metrics.json` says of an evaluation: how it was made, and its values."""
    test = {
        "checkpoint": loaded.run.checkpoint.name,
        "seed": seed,
        "seconds": round(seconds, 1),
        "settings": OmegaConf.to_container(settings),
        **values,
    }
    # What the interval of an experiment's error is made from.
    if settings.protocol != "none" and loaded.data.is_labelled:
        labelled = loaded.labelled_data(settings.classes, None)
        test["classified_images"] = len(labelled.splits["test"])
    return test


def _write(
    run: Run, test: Mapping[str, Any], pictures: Mapping[str, Any], pages: Mapping[str, bytes]
) -> None:
    """Write the metrics with their pictures and pages, all or none of them, and say where."""
    run.check_there()
    folder = run.directory / PICTURES
    beside = {folder / f"{name}.png": figures.png(picture) for name, picture in pictures.items()}
    written = {folder / name: content for name, content in pages.items()}
    path = update_metrics(run.directory, {"test": test}, beside | written)
    log.info("written: %s%s", shown(path), f", {shown(folder)}/*.png" if pictures else "")
    for page in written:
        log.info("written: %s", shown(page))


def _log(
    loaded: Loaded,
    values: Mapping[str, float],
    pictures: Mapping[str, Any],
    latents: Latents | None,
) -> None:
    """Add the values and the pictures to the run's TensorBoard log."""
    with SummaryWriter(str(loaded.run.directory)) as writer:
        if latents is not None:
            writer.add_histogram("test/log10_of_the_firing_rates", latents.logarithms, loaded.step)
        for name, value in values.items():
            writer.add_scalar(f"test/{name}", value, loaded.step)
        for name, picture in pictures.items():
            writer.add_image(f"test/{name}", picture, loaded.step)


def check_settings(settings: DictConfig) -> None:
    """Raise `SettingError` for a value that no run can be evaluated with.

    A training whose experiment evaluates itself asks at its start.
    """
    Theory(settings)
    for key, least in (("batch_size", 1), ("importance_samples", 0), ("decoded_at_once", 1)):
        check_int(f"eval.{key}", settings[key], least)
    check_choice("eval.checkpoint", settings.checkpoint, (BEST, LAST))
    check_choice("eval.protocol", settings.protocol, PROTOCOLS)
    check_bool("eval.pictures", settings.pictures)
    metrics.noises_of(settings.noise, settings.noise_levels)
    Finetuning(**settings.finetune)
    Probe(**settings.probe)
    Annealing(**settings.ais)


def check_idle(settings: DictConfig, overrides: Sequence[str]) -> None:
    """Raise `SettingError` for a setting that is typed and would do nothing beside the others."""
    protocol = settings.protocol
    idle = {
        "eval.finetune": ("eval.protocol=finetune", protocol != "finetune"),
        "eval.probe": ("eval.protocol=probe", protocol != "probe"),
        "eval.train_size": ("eval.protocol=probe", protocol == "none"),
        "eval.noise": ("eval.noise_levels=[0.1]", not settings.noise_levels),
        "eval.ais.chains": ("eval.ais.steps=1000", settings.ais.steps == 0),
        "eval.ais.images": ("eval.ais.steps=1000", settings.ais.steps == 0),
    }
    for override in overrides:
        for setting, (needed, is_idle) in idle.items():
            if is_idle and is_below(key_of(override), [setting]):
                raise SettingError(
                    f"{shortened(override)}: goes with another setting; add {needed}"
                )


def _noise_levels(loaded: Loaded, settings: DictConfig) -> list[float]:
    """Return the levels of noise that are measured, and say which are not."""
    levels = metrics.levels_of(settings.noise, settings.noise_levels, loaded.card)
    if left_out := [f"{level:g}" for level in settings.noise_levels if level not in levels]:
        log.info(
            "eval.noise_levels: %s of the features are none of these few; not measured",
            ", ".join(left_out),
        )
    return levels


def _measure(
    loaded: Loaded,
    losses: SplitLosses,
    settings: DictConfig,
    levels: Sequence[float],
    seed: int,
) -> dict[str, float]:
    model, data = loaded.model, loaded.data
    classify = _classification(loaded, settings)  # before the work: it may hold a mistake
    annealing = Annealing(**settings.ais)
    test = data.batches("test", settings.batch_size, seed)
    values: dict[str, float] = metrics.reconstruction(
        model, Tracked(test, "measuring the reconstructions"), losses
    )
    values |= metrics.noisy_reconstruction(
        model,
        Tracked(test, f"measuring the reconstructions from {settings.noise} noise"),
        settings.noise,
        levels,
        loaded.card.features,
    )
    if isinstance(model, Dictionary) and isinstance(data, SyntheticData):
        parts = data.drawn("test", settings.batch_size)
        tracked = Tracked(parts, "comparing with the known dictionary")
        values |= recovery(model, data.dictionary.features, tracked)
    if model.has_prior:
        values |= _likelihood(cast(VAE, model), test, settings, annealing)
    return values | (classify() if classify else {})


def _likelihood(
    model: VAE, test: Batches, settings: DictConfig, annealing: Annealing
) -> dict[str, float]:
    """Return what only a model with a prior has."""
    values: dict[str, float] = {"active_units": metrics.active_units(model, test)}
    if not model.likelihood.is_density:
        return values
    samples = settings.importance_samples
    if samples:
        tracked = Tracked(test, f"estimating -log p(x) by {samples} importance samples")
        values["marginal_nll"] = marginal_nll(model, tracked, samples, settings.decoded_at_once)
    if annealing.steps:
        values["marginal_nll_ais"] = annealing(model, test, settings.decoded_at_once)
    return values


def _classification(loaded: Loaded, settings: DictConfig) -> Callable[[], dict[str, float]] | None:
    """Return what computes the test errors of the classifier that `eval.protocol` trains, if any.

    Raises `SettingError` for classes or a number of images that the data does not have.
    """
    protocol = settings.protocol
    if protocol == "none":
        return None
    if not loaded.data.is_labelled:
        log.info("eval.protocol=%s: left out, the data has no labels", protocol)
        return None
    data = loaded.labelled_data(settings.classes, settings.train_size)
    if len(data.splits["train"].labels.unique()) < 2:
        log.info("eval.protocol=%s: left out, the training split has one class only", protocol)
        return None
    if protocol == "finetune":
        return lambda: Finetuning(**settings.finetune)(loaded.model, data)
    return lambda: Probe(**settings.probe)(loaded.model, data, settings.batch_size)


def _print(
    loaded: Loaded,
    values: Mapping[str, float],
    settings: DictConfig,
    own_units: Mapping[str, str],
) -> None:
    title = f"{loaded.choices['model']} on {loaded.choices['dataset']}, test set"
    if loaded.card.target_shape is not None:
        title += ", errors of its targets"
    table = Table("metric", "value", "unit", title=title, title_justify="left")
    units = _units(settings, loaded.card.shape, len(loaded.data.splits["test"]))
    for name, value in values.items():
        unit = units.get("mse" if name.startswith("mse") else name, "")
        table.add_row(name, f"{value:.5g}", own_units.get(name, unit))
    show(table)


def _units(settings: DictConfig, shape: Sequence[int], count: int) -> dict[str, str]:
    """Return the metrics' units and, of an estimate, its direction and how it was made.

    Of `count` test examples of a shape.
    """
    example = "image" if len(shape) == 3 else "example"
    feature = "feature" if len(shape) == 1 else "pixel"
    feature += " and channel" if len(shape) == 3 and shape[0] > 1 else ""
    ais, nats, bound = settings.ais, f"nats per {example}", "≥ -log p(x)"
    return {
        "mse": f"squared error per {feature}",
        "sse": f"squared error per {example}",
        "nll": nats,
        "kl": nats,
        "contraction": nats,
        "elbo": f"{nats}, ≤ log p(x)",
        "bound": f"{nats}, ≤ log p(x)",
        "marginal_nll": f"{nats}, {bound}, {settings.importance_samples} importance samples",
        "marginal_nll_ais": f"{nats}, {bound}, {ais.chains} chains of {ais.steps} steps,"
        f" {counted(min(ais.images, count), f'{example}s')}",
        "psnr": "dB",
        "probe_error": "%",
        "probe_error_pixels": "%",
        "finetune_error": "%",
        "l0": f"units per {example}",
        "explained_variance": "of the variance",
        "norm_ratio": "1: unbiased",
        "cosine": f"mean over {example}s",
        "mcc": "mean |cosine|, of pairs",
        "mmcs": "mean largest cosine",
        "uniqueness": "true features per latent",
        "f1": "of the firing, mean over latents",
        "precision": "of the firing, mean over latents",
        "recall": "of the firing, mean over latents",
        "dead_share": f"of the units, on {count:,} examples",
        "active_units": "latents",
    }


def _print_side_by_side(results: Mapping[Run, Mapping[str, float]], settings: DictConfig) -> None:
    """Print a table with a row a run, without the columns that no run has."""
    rows = {run: read_metrics(run.directory) | dict(values) for run, values in results.items()}
    noisy = [name for values in results.values() for name in values if name.startswith("mse_")]
    own = [name for row in rows.values() for name in row["test"].get("own_metrics", {})]
    columns = [
        name
        for name in dict.fromkeys([*SIDE_BY_SIDE, *noisy[-1:], *own])
        if any(isinstance(values.get(name), int | float) for values in rows.values())
    ]
    title = "test set"
    if "marginal_nll" in columns:
        samples = settings.importance_samples
        title += f" (marginal_nll: ≥ -log p(x), {samples} importance samples)"
    heads = (Column(name, overflow="fold") for name in ("run", *columns))
    table = Table(*heads, title=title, title_justify="left")
    names = _without_common_end([run.directory.name for run in rows])
    for name, values in zip(names, rows.values(), strict=True):
        cells = (values.get(column) for column in columns)
        texts = (f"{cell:.4g}" if isinstance(cell, int | float) else "" for cell in cells)
        table.add_row(escape(one_line(name)), *texts)
    show(table)


def _without_common_end(names: list[str]) -> list[str]:
    """Leave out of a sweep's run names the settings that all of them end with."""
    parts = [name.split("_") for name in names]
    while all(len(part) > 2 and part[-1] == parts[0][-1] for part in parts):
        parts = [part[:-1] for part in parts]
    return ["_".join(part) for part in parts]
