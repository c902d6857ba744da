"""`aecli verify`: whether the files of runs are what was written: checksums, settings, metrics."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.markup import escape
from rich.table import Column, Table

from aecli import plugins
from aecli.commands.words import Parser
from aecli.errors import SettingError
from aecli.plugins import UntrustedError
from aecli.progress import Tracked, show
from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import (
    CHECKPOINTS,
    CONFIG,
    ERROR,
    HYDRA,
    METRICS,
    OUTPUTS,
    OVERRIDES,
    PICTURES,
    SAMPLES,
    SWEEP,
    check_writable,
    failures,
    run_of,
    shown,
)
from aecli.runs.records import read_record
from aecli.text import first_line
from aecli.untrusted import read_yaml, resolved

FINE, MISSING, DAMAGED, UNTRUSTED, FAILED = "ok", "–", "damaged", "not read", "failed"

DESCRIPTION = """\
Reads the files of runs as the other commands do, and says which of them eval, sample, compare or
train resume= would refuse: checkpoints (the checksum of everything in them, settings, weights, the
state of the training), the settings in .hydra/, metrics.json, and a sweep's multirun.yaml. Changes
nothing. Data sets are not read.
"""


class Checked(NamedTuple):
    """What was found in a run's directory, or of a checkpoint that lies elsewhere."""

    place: Path
    cells: list[str]
    """One of the words above for the checkpoints, the settings and the metrics."""
    reasons: list[str]
    """A line for each damaged file."""
    asks: str
    """What to type where plugins are needed to read the checkpoints."""

    @property
    def has_failed(self) -> bool:
        """Whether it is a sweep's job that failed, which is no damage."""
        return self.cells[0] == FAILED


def main(arguments: Sequence[str]) -> None:
    """Verify the runs that `arguments` name, all under `outputs/` without any; print a table.

    Raises `SettingError` naming every damaged file, or if there are no runs.
    """
    parser = Parser(prog="aecli verify", description=DESCRIPTION)
    parser.add_argument(
        "places",
        nargs="*",
        metavar="FOLDER, RUN, CHECKPOINT or plugins=[NAME]",
        help="default: outputs",
    )
    asked = parser.parse_args(arguments).places
    parser.refuse_run(asked)
    typed = [word for word in asked if word.startswith("plugins=")]
    for word in typed:
        plugins.trust(plugins.of_word(word))
    paths = [Path(text) for text in asked if text not in typed] or [Path(OUTPUTS)]
    places = list(dict.fromkeys(place for path in paths for place in _places(path)))
    checked = [_check(place) for place in Tracked(places, "verifying")]
    table = Table(Column("run", overflow="fold"), "checkpoints", "settings", "metrics")
    for one in checked:
        table.add_row(escape(shown(one.place)), *one.cells)
    show(table)
    if failed := [one.place for one in checked if one.has_failed]:
        print(f"{len(failed)} of {len(checked)} failed in training:{''.join(failures(failed))}")  # noqa: T201
    damaged = [one for one in checked if one.reasons]
    unknown = [one for one in checked if one.asks and not one.reasons]
    said = ""
    if damaged:
        reasons = "".join(f"\n  {_named(one, why)}" for one in damaged for why in one.reasons)
        said = f"{len(damaged)} of {len(checked)} runs are damaged:{reasons}"
    if unknown:
        asks = "".join(f"\n  {shown(one.place)}: {one.asks}" for one in unknown)
        begin = "\n" if said else ""
        said += f"{begin}{len(unknown)} of {len(checked)} runs were not read in full:{asks}"
    if said:
        raise SettingError(said)


def _named(one: Checked, reason: str) -> str:
    """Return the reason with the run's name, which most lines begin with already."""
    name = shown(one.place)
    return reason if name in reason else f"{name}: {reason}"


def _places(path: Path) -> Iterator[Path]:
    """Yield the directories of runs at and below a path; a checkpoint stands for itself."""
    if path.is_file():
        yield path
        return
    found = False
    for folder, folders, files in os.walk(path):
        inside = {*folders, *files}
        if ".hydra" in inside or CHECKPOINTS in inside:
            folders.clear()  # what lies in a run is no run
        if not inside.isdisjoint((".hydra", CHECKPOINTS, SWEEP)):
            found = True
            yield Path(folder)
        folders.sort()
    if not found:
        raise SettingError(f"{shown(path)}: no run lies there; must be a run, a folder or a file")


def _check(place: Path) -> Checked:
    reasons: list[str] = []
    asks = ""

    def cell(checks: Iterable[Callable[[], object]]) -> str:
        """Make the checks; return what the table says of the files that they are of."""
        nonlocal asks
        result = MISSING
        for check in checks:
            result = FINE if result == MISSING else result
            try:
                check()
            except UntrustedError as error:
                asks, result = error.asks, UNTRUSTED
            except (SettingError, OSError) as error:
                # The key of the command that would say so; here the path alone was typed.
                reason = re.sub("^(run|resume)=", "", str(error))
                if reason not in reasons:
                    reasons.append(reason)
                    result = DAMAGED
        return result

    if place.is_file():
        found = cell([partial(_check_weights, place)])
        return Checked(run_of(place) or place, [found, "", ""], reasons, asks)
    # In this order: what two of them find is a mistake of the file that the first one reads.
    metrics, checkpoints = cell(_checks_of_metrics(place)), cell(_checks_of_checkpoints(place))
    if _has_failed(place):
        checkpoints = FAILED
    elif checkpoints == FINE and not _checkpoints(place):
        checkpoints = MISSING  # a training without a whole epoch can be resumed, too
    settings = cell(_checks_of_settings(place))
    return Checked(place, [checkpoints, settings, metrics], reasons, asks)


def _checkpoints(place: Path) -> list[Path]:
    return sorted((place / CHECKPOINTS).glob("*.ckpt"))


def _has_failed(place: Path) -> bool:
    """Return whether a sweep's job ended before its first checkpoint, and said why."""
    return (place / ERROR).is_file() and not _checkpoints(place)


Checks = Iterator[Callable[[], object]]


def _checks_of_metrics(place: Path) -> Checks:
    if os.path.lexists(place / METRICS):
        yield partial(check_writable, place, METRICS)  # eval
        yield partial(read_metrics, place)  # eval, compare and train


def _checks_of_checkpoints(place: Path) -> Checks:
    checkpoints = _checkpoints(place)
    if checkpoints:
        yield partial(check_writable, place, PICTURES, SAMPLES)  # eval and sample
    for path in checkpoints:
        yield partial(_check_weights, path)  # eval and sample
    if os.path.lexists(place / ".hydra") and not _has_failed(place):
        yield partial(_check_training, place)  # train resume=


def _checks_of_settings(place: Path) -> Checks:
    for path in (CONFIG, OVERRIDES, HYDRA, Path(SWEEP)):
        if os.path.lexists(place / path):
            yield partial(_check_settings, place / path)
    if os.path.lexists(place / ".hydra"):
        yield partial(read_record, place)  # compare


def _check_weights(path: Path) -> None:
    from aecli.runs.archive import verify_entries  # imports torch: after the command line is read
    from aecli.runs.checkpoint import opened

    opened(path)
    try:
        verify_entries(path)
    except Exception as error:  # whatever a damaged archive can raise
        raise SettingError(f"{shown(path)}: damaged ({first_line(error)})") from error


def _check_training(place: Path) -> None:
    from aecli.runs.resume import State  # imports torch
    from aecli.training.quiet import quieten
    from aecli.training.resumable import check_resumable

    quieten()
    check_resumable(State.read(place))


def _check_settings(path: Path) -> None:
    settings = read_yaml(path)
    if path.name == CONFIG.name:
        if not isinstance(settings, dict):
            raise SettingError(f"{shown(path)}: damaged (it holds no settings)")
        resolved(settings, shown(path))
