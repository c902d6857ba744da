"""What the directories of runs tell without their models: settings and metrics. No torch here."""

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from aecli.errors import SettingError
from aecli.text import one_line
from aecli.untrusted import read_json, read_yaml

log = logging.getLogger(__name__)

CONFIG = Path(".hydra") / "config.yaml"
SEED = "seed"
ELSEWHERE = (
    "output_dir",
    "resume",
    "pictures_every",
    "eval",
    "published",
    "objective",
    "sweeper",
)
"""Root keys that say where a run lies and what is shown of it, not what it is."""
PLACES = ("dataset.root", "dataset.source")
HIGHER_IS_BETTER = ("elbo", "bound", "psnr", "ssim", "active_units")
"""Metrics of which more is better; of all others less is."""

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


class Group(NamedTuple):
    """Runs that differ in the seed alone."""

    settings: dict[str, Value]
    records: list[Record]

    def values(self, metric: str) -> list[float]:
        """Return the metric of each run that has it."""
        return [r.metrics[metric] for r in self.records if metric in r.metrics]

    def told(self, metric: str) -> str:
        """Return "mean ± standard deviation" over the runs, "" if none has the metric."""
        values = self.values(metric)
        if not values:
            return ""
        spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
        return f"{mean(values):.4g}{spread}"


def find(specs: Sequence[str], output_dir: Path) -> list[Path]:
    """Return the directories of runs that `specs` mean: runs, folders of runs, patterns.

    Without any: those of the newest sweep, or all under `output_dir` if there is none.

    Raises `SettingError` if there are none.
    """
    if not specs:
        sweeps = sorted(output_dir.glob("sweeps/*/"), key=lambda path: path.stat().st_mtime_ns)
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
    return list(dict.fromkeys(found))


def read(directories: Iterable[Path]) -> list[Record]:
    """Return what the finished runs tell; the others are named on the log."""
    records = []
    unfinished = []
    for directory in directories:
        record = _read(directory)
        if record is None:
            unfinished.append(directory)
        else:
            records.append(record)
    if unfinished:
        names = ", ".join(one_line(path.name) for path in unfinished[:5])
        more = f" and {len(unfinished) - 5} more" if len(unfinished) > 5 else ""
        log.warning("left out, not finished or damaged: %s%s", names, more)
    return records


def matching(records: Sequence[Record], wanted: Sequence[str]) -> list[Record]:
    """Return the runs that each of `wanted`, KEY=VALUE, is true of; VALUE may be a,b or a pattern.

    Raises `SettingError` if no run has the key, or none is left.
    """
    for text in wanted:
        key, _, allowed = text.partition("=")
        if not any(key in record.settings for record in records):
            raise SettingError(f"{key}: no run has this setting{_hint(key, records)}")
        values = {str(record.settings.get(key)) for record in records}
        records = [r for r in records if _is_among(r.settings.get(key), allowed.split(","))]
        if not records:
            raise SettingError(
                f"{text}: no run has it; {key} is one of {', '.join(sorted(values))}"
            )
    return list(records)


def grouped(records: Iterable[Record]) -> list[Group]:
    """Return the runs in groups that differ in the seed alone."""
    groups: dict[frozenset, Group] = {}
    for record in records:
        settings = {key: value for key, value in record.settings.items() if key != SEED}
        key = frozenset(settings.items())
        groups.setdefault(key, Group(settings, [])).records.append(record)
    return list(groups.values())


def differing(groups: Sequence[Group]) -> list[str]:
    """Return the keys that tell the groups apart: those typed, or all if these do not suffice."""
    keys = dict.fromkeys(key for group in groups for key in group.settings)
    varied = [key for key in keys if len({group.settings.get(key) for group in groups}) > 1]
    typed = {key for group in groups for record in group.records for key in record.typed}
    shown = [key for key in varied if key in typed]
    told = {tuple(group.settings.get(key) for key in shown) for group in groups}
    return sorted(shown if len(told) == len(groups) else varied, key=lambda key: key.count("."))


def ranked(groups: Iterable[Group], metric: str) -> list[Group]:
    """Return the groups that have the metric, the best first."""
    having = [group for group in groups if group.values(metric)]
    return sorted(having, key=lambda g: mean(g.values(metric)), reverse=more_is_better(metric))


def more_is_better(metric: str) -> bool:
    """Tell the direction of a metric such as "val/elbo"."""
    name = metric.rpartition("/")[2]
    return name in HIGHER_IS_BETTER or name.endswith("accuracy")


def _below(folder: Path) -> Iterator[Path]:
    for path, folders, _ in os.walk(folder):
        if (Path(path) / CONFIG).is_file():
            folders.clear()  # what lies in a run is no run
            yield Path(path)
        folders.sort(key=lambda name: (len(name.split("_")[0]), name))  # 2_… before 10_…


def _read(directory: Path) -> Record | None:
    try:
        told = read_json(directory / "metrics.json")
        config = read_yaml(directory / CONFIG)
        typed = read_yaml(directory / ".hydra" / "overrides.yaml")
        settings = dict(_flat(config)) | {key: str(v) for key, v in told["choices"].items()}
        keys = frozenset(override.lstrip("+~").partition("=")[0] for override in typed)
        return Record(directory, settings, keys, _metrics(told))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # whatever an unfinished or damaged run's files can raise


def _metrics(told: Mapping[str, Any]) -> dict[str, float]:
    values = {name: told.get(name) for name in ("epochs", "train_seconds")}
    for split in ("val", "test"):
        values |= {f"{split}/{name}": value for name, value in told.get(split, {}).items()}
    values.pop("test/seed", None)
    return {k: v for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if name.startswith("_") or key in ELSEWHERE or key in PLACES:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        elif isinstance(value, list):
            yield key, f"[{','.join(map(str, value))}]"
        elif not (isinstance(value, str) and "${" in value):  # it follows another setting
            yield key, value


def _is_among(value: Value, allowed: Sequence[str]) -> bool:
    return any(fnmatchcase(str(value), text) or _same_number(value, text) for text in allowed)


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
