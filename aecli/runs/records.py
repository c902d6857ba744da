"""Finished runs without their models: settings and metrics, from files alone. No torch here."""

import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from fnmatch import fnmatchcase
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from aecli.errors import SettingError
from aecli.overrides import key_of
from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import CONFIG, OVERRIDES, SWEEP, number_of
from aecli.text import first_line, one_line
from aecli.tree import leaves
from aecli.untrusted import CODE_DIM, read_yaml, size_of_code

log = logging.getLogger(__name__)

SEED = "seed"
ELSEWHERE = (
    "output_dir",
    "resume",
    "pictures_every",
    "eval",
    "published",
    "objective",
    "plugins",
    "sweeper",
)
"""Root keys that are no settings of the model, its data or its training."""
ROOTS, SOURCE = ("dataset.root", "dataset.source"), "dataset.source."
"""Where the data lies. The option of `dataset` says which it is, but for a folder of images."""
FOLDER = "aecli.data.ImageData"
HIDDEN = "_"
"""What the last part of a key begins with that nobody types, such as `model._target_`."""
HIGHER_IS_BETTER = (
    "elbo",
    "gap_elbo",
    "gap_log_p",
    "bound",
    "psnr",
    "ssim",
    "active_units",
    "explained_variance",
    "cosine",
    "mcc",
    "mmcs",
    "uniqueness",
    "f1",
    "precision",
    "recall",
    "probe_converged",
)
"""Metrics of which more is better; of all others less is."""
BEST_AT_1 = ("norm_ratio",)
"""Metrics of which neither more nor less is better."""
HIGHER_OF = ("generated_precision_", "generated_recall_")
"""How metrics begin that there are several of, and of which more is better."""

MOST_OWN = 20
"""Metrics of plugins in a table; all are in the CSV."""
MOST_REASONS = 5
"""Damaged runs of which the reason is logged."""

Value = float | int | bool | str | None


class Record(NamedTuple):
    """A finished run."""

    directory: Path
    settings: dict[str, Value]
    """By the key that is typed: "model" → "vae", "model.beta" → 1.0, "network.hidden" → "[400]"."""
    typed: frozenset[str]
    """The keys that were typed."""
    metrics: dict[str, float]
    """By the name that TensorBoard has: "val/loss", "test/mse"; and "epochs", "train_seconds"."""
    evaluation: dict[str, Value]
    """The settings of `aecli eval` that made the test metrics, such as "eval.train_size"."""
    version: str
    """Of the aecli that trained it, "" if unknown."""
    own: Mapping[str, bool] = {}
    """The test metrics of plugins: whether more is better."""
    is_pruned: bool = False
    """Whether a search has ended it early, by a comparison with others."""


def find(specs: Sequence[str], output_dir: Path) -> list[Path]:
    """Return the directories of runs that `specs` mean: runs, folders of runs, patterns.

    Without any: those of the newest sweep, or all under `output_dir` if there is none. A run that
    several of `specs` name is returned once.

    Raises `SettingError` if there are none.
    """
    if not specs:
        sweeps = sorted(output_dir.glob("sweeps/*/"), key=_begun)
        found = next((runs for sweep in reversed(sweeps) if (runs := list(_below(sweep)))), None)
        found = found or list(_below(output_dir))
        if not found:
            raise SettingError(f"no runs under {output_dir}/; aecli train makes them")
        return found
    found = []
    for spec in specs:
        paths = [Path(spec)] if Path(spec).is_dir() else map(Path, sorted(glob(spec)))  # noqa: PTH207
        runs = [run for path in paths if path.is_dir() for run in _below(path)]
        if not runs:
            raise SettingError(f"{spec}: no run lies there; must be a run, a folder or a pattern")
        found += runs
    return list({path.resolve(): path for path in found}.values())


def read(directories: Iterable[Path]) -> list[Record]:
    """Return the records of the finished runs; log the names of the others, and why."""
    records, unfinished, pruned, damaged = [], [], [], []
    for directory in directories:
        try:
            record = read_record(directory)
            if record is None:
                unfinished.append(directory.name)
            elif record.is_pruned:
                pruned.append(directory.name)
            else:
                records.append(record)
        except SettingError as error:
            damaged.append(first_line(error))
    if unfinished:
        log.warning("left out, not finished: %s", some(unfinished))
    if pruned:
        log.warning("left out, ended early by the search: %s", some(pruned))
    for reason in damaged[:MOST_REASONS]:
        log.warning("left out: %s", one_line(reason))
    if len(damaged) > MOST_REASONS:
        log.warning("left out: %s more, damaged, too", len(damaged) - MOST_REASONS)
    return records


def matching(records: Sequence[Record], wanted: Sequence[str]) -> list[Record]:
    """Return the runs that have all settings `wanted`, KEY=VALUE; VALUE may be a,b or a pattern.

    Raises `SettingError` if no run has the key, or none is left.
    """
    for text in wanted:
        key, _, allowed = text.partition("=")
        if not any(key in record.settings for record in records):
            raise SettingError(f"{key}: no run has this setting{_hint(key, records)}")
        values = ordered({record.settings.get(key) for record in records})
        texts = BETWEEN.split(allowed)
        records = [r for r in records if _is_among(r.settings.get(key), texts)]
        if not records:
            known = some(["null" if value is None else value_text(value) for value in values])
            raise SettingError(f"{text}: no run has it; {key} is one of {known}")
    return list(records)


def more_is_better(metric: str, records: Iterable[Record] = ()) -> bool:
    """Return whether a metric such as "val/elbo" is better the larger it is.

    What a plugin says of its own metrics, the `records` of the runs that have them say.
    """
    for record in records:
        if metric in record.own:
            return record.own[metric]
    name = metric.rpartition("/")[2]
    return name in HIGHER_IS_BETTER or name.startswith(HIGHER_OF) or name.endswith("accuracy")


def loss_of(metric: str, value: float, records: Iterable[Record] = ()) -> float:
    """Return a number that is less the better the value of a metric is."""
    if metric.rpartition("/")[2] in BEST_AT_1:
        return abs(value - 1)
    return -value if more_is_better(metric, records) else value


LARGEST = 1e100
"""Of a metric, whose squares are added up; no model has such a one."""
LONGEST = 40
"""Characters of a value that are printed."""


def value_text(value: Value) -> str:
    """Return a setting as it is typed, cut off if it is long; "–" where a run does not have it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return one_line(text, LONGEST)


def ordered(values: Iterable[Value]) -> list[Value]:
    """Return values of a setting in their order: numbers by size, before all others."""

    def key(value: Value) -> tuple[bool, float, str]:
        is_number = isinstance(value, int | float) and abs(value) < math.inf
        return (not is_number, value if is_number else 0, str(value))  # type: ignore[return-value]

    return sorted(values, key=key)


def some(names: Sequence[str], most: int = 5) -> str:
    """Return the first few of `names` in a line, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(one_line, names[:most])) + more


def _begun(sweep: Path) -> int:
    """Return when a sweep was begun: its folder changes later, too, by an evaluation."""
    with suppress(OSError):
        return (sweep / SWEEP).stat().st_mtime_ns
    return sweep.stat().st_mtime_ns


def _below(folder: Path) -> Iterator[Path]:
    def warn(error: OSError) -> None:
        log.warning("left out: %s: %s", one_line(error.filename), error.strerror)

    for path, folders, _ in os.walk(folder, onerror=warn):
        if os.path.isfile(os.path.join(path, CONFIG)):  # noqa: PTH113, PTH118 - thousands of them
            folders.clear()  # what lies in a run is no run
            yield Path(path)
        folders.sort(key=lambda name: number_of(Path(name)))


def read_record(directory: Path) -> Record | None:
    """Return the record of a run; None if its training has not ended.

    Raises `SettingError` if one of its files is damaged, missing, or not one of a run.
    """
    metrics = read_metrics(directory)
    if "epochs" not in metrics:
        return None
    try:
        config, keys = read_yaml(directory / CONFIG), typed_keys(directory)
        settings = dict(_settings(config)) | {key: str(v) for key, v in metrics["choices"].items()}
        version = str(metrics.get("version", ""))[:LONGEST]
        evaluation, own = _evaluation(metrics), _own(metrics)
        values, is_pruned = _metrics(metrics), metrics.get("pruned") is True
        return Record(directory, settings, keys, values, evaluation, version, own, is_pruned)
    except SettingError:
        raise
    except FileNotFoundError as error:
        raise SettingError(f"{one_line(error.filename)}: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SettingError(f"{one_line(directory)}: its files are not those of a run") from error


def typed_keys(directory: Path) -> frozenset[str]:
    """Return the keys that were typed for a run.

    Raises whatever the reading of a damaged file raises.
    """
    return frozenset(key_of(override) for override in read_yaml(directory / OVERRIDES))


def _metrics(stored: Mapping[str, Any]) -> dict[str, float]:
    values = {name: stored.get(name) for name in ("epochs", "train_seconds")}
    for split in ("val", "test"):
        values |= {f"{split}/{name}": value for name, value in stored.get(split, {}).items()}
    for no_metric in ("test/seed", "test/classified_images"):
        values.pop(no_metric, None)
    return {name: value for name, value in values.items() if _is_finite(value)}


def _own(stored: Mapping[str, Any]) -> dict[str, bool]:
    own = stored.get("test", {}).get("own_metrics", {})
    return {f"test/{name}": value is True for name, value in islice(own.items(), MOST_OWN)}


def _evaluation(stored: Mapping[str, Any]) -> dict[str, Value]:
    test = stored.get("test", {})
    settings = {**test.get("settings", {}), "checkpoint": test.get("checkpoint")}
    return {key: _value(value) for key, value in leaves(settings, "eval.")}


def _is_finite(value: Any) -> TypeGuard[float]:
    try:
        is_number = isinstance(value, int | float) and type(value) is not bool
        return is_number and abs(value) < LARGEST
    except OverflowError:  # a whole number beyond all floats
        return False


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    places = places_of(config.get("dataset") or {})
    for key, value in leaves(config):
        root = key.partition(".")[0]
        if root in ELSEWHERE or key in places or key.startswith(SOURCE):
            continue
        if isinstance(value, str) and CODE_DIM.fullmatch(value):
            if (config.get("dataset") or {}).get("shape"):
                yield key, size_of_code(value, config)
        elif not (isinstance(value, str) and "${" in value):  # it follows another setting
            yield key, _value(value)


def places_of(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings of a data set that say where it lies, and not which it is."""
    return () if dataset.get("_target_") == FOLDER else ROOTS


def _value(value: Any) -> Value:
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return value if isinstance(value, float | int | str | None) else str(value)


BETWEEN = re.compile(r",(?![^\[]*\])")
"""What stands between values: a comma that is not within a list."""


def _is_among(value: Value, allowed: Sequence[str]) -> bool:
    text = "null" if value is None else str(value)
    text = text.lower() if isinstance(value, bool) else text
    # A bracket is that of a list, and not of a pattern.
    patterns = [pattern.replace("[", "[[]") for pattern in allowed]
    return any(fnmatchcase(text, pattern) for pattern in patterns) or any(
        _same_number(value, number) for number in allowed
    )


def _same_number(value: Value, text: str) -> bool:
    try:
        return isinstance(value, int | float) and float(text) == value
    except ValueError:
        return False


def _hint(typed: str, records: Sequence[Record]) -> str:
    known = sorted({key for record in records for key in record.settings})
    close = get_close_matches(typed, known, n=3)
    if not close:
        close = [key for key in known if key.endswith(f".{typed}")]
    return f"; did you mean {' or '.join(close)}?" if close else ""
