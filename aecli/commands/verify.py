"""`aecli verify`: whether the files of runs are what was written: checksums, settings, metrics."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.markup import escape
from rich.table import Column, Table

from aecli.commands.words import Parser
from aecli.errors import SettingError
from aecli.progress import Tracked, show
from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import CHECKPOINTS, run_of, shown
from aecli.text import first_line
from aecli.untrusted import read_yaml, resolved

OUTPUTS = Path("outputs")
FINE, MISSING, DAMAGED = "ok", "–", "damaged"

DESCRIPTION = """\
Reads the files of runs and says which are damaged: the checksum of everything in a checkpoint, its
settings and weights, .hydra/config.yaml and metrics.json. Changes nothing.
"""


class Checked(NamedTuple):
    """What was found in a run's directory, or of a checkpoint that lies elsewhere."""

    place: Path
    cells: list[str]
    """`FINE`, `MISSING` or `DAMAGED` for the checkpoints, the settings and the metrics."""
    reasons: list[str]
    """A line for each damaged file."""


def main(arguments: Sequence[str]) -> None:
    """Verify the runs that `arguments` name, all under `outputs/` without any; print a table.

    Raises `SettingError` naming every damaged file, or if there are no runs.
    """
    parser = Parser(prog="aecli verify", description=DESCRIPTION)
    parser.add_argument(
        "places",
        nargs="*",
        type=Path,
        metavar="FOLDER, RUN or CHECKPOINT",
        help="default: outputs",
    )
    asked = parser.parse_args(arguments).places or [OUTPUTS]
    places = list(dict.fromkeys(place for path in asked for place in _places(path)))
    checked = [_check(place) for place in Tracked(places, "verifying")]
    table = Table(Column("run", overflow="fold"), "checkpoints", "settings", "metrics")
    for one in checked:
        table.add_row(escape(shown(one.place)), *one.cells)
    show(table)
    damaged = [one for one in checked if one.reasons]
    if damaged:
        reasons = "".join(f"\n  {reason}" for one in damaged for reason in one.reasons)
        raise SettingError(f"{len(damaged)} of {len(checked)} runs are damaged:{reasons}")


def _places(path: Path) -> Iterator[Path]:
    """Yield the directories of runs at and below a path; a checkpoint stands for itself."""
    if path.is_file():
        yield path
        return
    found = False
    for folder, folders, _ in os.walk(path):
        if ".hydra" in folders or CHECKPOINTS in folders:
            folders.clear()  # what lies in a run is no run
            found = True
            yield Path(folder)
        folders.sort()
    if not found:
        raise SettingError(f"{shown(path)}: no run lies there; must be a run, a folder or a file")


def _check(place: Path) -> Checked:
    reasons: list[str] = []

    def cell(paths: Sequence[Path], check: Callable[[Path], object]) -> str:
        """Check each of the paths; return what the table says of them."""
        before = len(reasons)
        for path in paths:
            try:
                check(path)
            except (SettingError, OSError) as error:
                reasons.append(str(error).removeprefix("run="))
        if len(reasons) > before:
            return DAMAGED
        return FINE if paths else MISSING

    if place.is_file():
        return Checked(run_of(place) or place, [cell([place], _check_checkpoint), "", ""], reasons)
    checkpoints = sorted((place / CHECKPOINTS).glob("*.ckpt"))
    settings = [path for path in [place / ".hydra" / "config.yaml"] if path.exists()]
    metrics = [place] if (place / "metrics.json").exists() else []
    cells = [
        cell(checkpoints, _check_checkpoint),
        cell(settings, _check_settings),
        cell(metrics, read_metrics),
    ]
    return Checked(place, cells, reasons)


def _check_checkpoint(path: Path) -> None:
    from aecli.runs.archive import verify_entries  # imports torch: after the command line is read
    from aecli.runs.checkpoint import stored

    stored(path)
    try:
        verify_entries(path)
    except Exception as error:  # whatever a damaged archive can raise
        raise SettingError(f"{shown(path)}: damaged ({first_line(error)})") from error


def _check_settings(path: Path) -> None:
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        raise SettingError(f"{shown(path)}: damaged (it holds no settings)")
    resolved(settings, shown(path))
