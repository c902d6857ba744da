"""`aecli runs`: what lies under `outputs/`, and what of it may go. Imports no torch."""

import argparse
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.cells import cell_len

from aecli.commands.words import Parser
from aecli.errors import SettingError
from aecli.runs import records
from aecli.runs.listed import (
    EMPTY,
    FAILED,
    FINISHED,
    RESUMABLE,
    Listed,
    foreign_files,
    is_locked,
    is_ours,
    listed,
)
from aecli.runs.paths import CONFIG, LOCK, OUTPUTS, SWEEP, lock, shown
from aecli.text import counted, one_line

DAY = 24 * 60 * 60
HEAD = ("model", "data set", "epochs", "val/loss", "size", "state", "run")
TEXTS = {0, 1, 5, 6}
"""Columns that stand on the left."""

DESCRIPTION = """\
Lists runs, the newest first: epochs of those asked for, val/loss of the best epoch, size on disk,
and the state:
  finished   trained to its end
  resumable  interrupted; aecli train resume=RUN goes on with it
  no epoch   ended before its first epoch, so that there is nothing to go on with
  failed     a sweep's job that could not run
  running    in progress, or begun in the last ten minutes
  damaged    aecli verify says why

--prune names what can go: runs that failed or have no epoch and, with --older-than, whatever was
not changed for so long. It deletes them with --yes only. It never deletes a run in progress, a
directory that is not a run's or has other files in it, nor anything behind a link.
"""
EXAMPLES = """\
examples:
  aecli runs
  aecli runs outputs/vae-mnist
  aecli runs --prune                            says what it would delete
  aecli runs --prune --older-than 30 --yes      deletes it
"""


class Condemned(NamedTuple):
    """A run that can go, and why."""

    run: Listed
    why: str


def main(arguments: Sequence[str]) -> None:
    """List the runs that `arguments` name, all under `outputs/` without any; prune if asked to.

    Raises `SettingError` if there are none.
    """
    parser = _parser()
    asked = parser.parse_args(arguments)
    parser.refuse_run(asked.folders)
    if not asked.prune and (asked.yes or asked.older_than is not None):
        raise SettingError(f"--{'yes' if asked.yes else 'older-than'}: goes with --prune")
    for folder in asked.folders:
        if not Path(folder).is_dir():
            raise SettingError(f"{folder}: no such folder; must be a run's, or one with runs in it")
    found = listed(records.find(asked.folders or [_outputs()], Path(OUTPUTS)))
    if asked.prune:
        _prune(found, _days(asked.older_than), really=asked.yes)
    else:
        _show([_cells(one) for one in found], HEAD)
        size = _size(sum(one.size for one in found))
        print(f"{counted(len(found), 'runs')}, {size}")  # noqa: T201


def _parser() -> Parser:
    parser = Parser(
        prog="aecli runs",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="default: outputs")
    parser.add_argument("--prune", action="store_true", help="say what can be deleted, and why")
    parser.add_argument("--yes", action="store_true", help="with --prune: delete it")
    parser.add_argument("--older-than", metavar="DAYS", help="with --prune: old runs, too")
    return parser


def _outputs() -> str:
    if not Path(OUTPUTS).is_dir():
        raise SettingError(f"no runs under {OUTPUTS}/; aecli train makes them")
    return OUTPUTS


def _days(typed: str | None) -> float | None:
    if typed is None:
        return None
    try:
        days = float(typed)
    except ValueError:
        days = -1.0
    if not 0 < days < 100_000:
        raise SettingError(f"--older-than {typed}: must be a number of days, above 0")
    return days


def _cells(one: Listed) -> list[str]:
    of = "" if one.asked_epochs is None else f"/{one.asked_epochs}"
    done = "?" if one.state == RESUMABLE else "0" if one.epochs is None else str(one.epochs)
    best = "–" if one.best is None else f"{one.best:.4g}"
    names = (one_line(name, 20) for name in (one.model, one.dataset))
    return [*names, f"{done}{of}", best, _size(one.size), one.state, shown(one.directory)]


def _show(rows: Sequence[Sequence[str]], head: Sequence[str]) -> None:
    """Print rows in columns, the path last: it is never cut off."""
    table = [list(head), *map(list, rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            cell + " " * (width - cell_len(cell))
            if column in TEXTS
            else " " * (width - cell_len(cell)) + cell
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())  # noqa: T201


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def _prune(found: Sequence[Listed], days: float | None, *, really: bool) -> None:
    condemned = [Condemned(one, why) for one in found if (why := _why(one, days))]
    kept, gone = [], []
    for one in condemned:
        reason = _reason_to_keep(one.run.directory)
        if reason is None and really:
            reason = _delete(one.run.directory)
        if reason is None:
            gone.append(one)
        else:
            kept.append(f"kept: {shown(one.run.directory)}: {reason}")
    if gone:
        _show([[*_cells(one.run)[:-2], one.why, _cells(one.run)[-1]] for one in gone], _HEAD_WHY)
    for line in kept:
        print(line)  # noqa: T201
    size = _size(sum(one.run.size for one in gone))
    those, every = counted(len(gone), "runs"), counted(len(found), "runs")
    if not gone:
        print(f"nothing to delete among {every}")  # noqa: T201
    elif really:
        print(f"deleted: {those}, {size}")  # noqa: T201
    else:
        print(f"would delete {len(gone):,} of {every}, {size}; add --yes to do it")  # noqa: T201


_HEAD_WHY = (*HEAD[:-2], "why", HEAD[-1])


def _why(one: Listed, days: float | None) -> str:
    """Return why a run can go, "" if it stays."""
    if one.state in (FAILED, EMPTY):
        return one.state
    age = (time.time() - one.changed) / DAY
    if days is not None and one.state in (FINISHED, RESUMABLE) and age > days:
        return f"{age:.0f} days old"
    return ""


def _reason_to_keep(directory: Path) -> str | None:
    """Return why a directory is not to be deleted, None if it may be."""
    if directory.is_symlink():
        return "is a link"
    try:
        if not is_ours(directory):
            return "its settings are not those of a run"
        foreign = foreign_files(directory)
    except (SettingError, OSError) as error:
        return one_line(error)
    if foreign:
        return f"has files that aecli has not made: {records.some(foreign)}"
    return None


def _delete(directory: Path) -> str | None:
    """Delete a run's directory; return why it was not, or not in full, None if it is gone.

    Its settings go last: what is left of an interrupted deletion can be pruned again.
    """
    try:
        with lock(directory, "trains it"):
            if is_locked(directory.parent):
                return "its sweep is in progress"
            last = (CONFIG.parts[0], LOCK)
            names = [path.name for path in directory.iterdir() if path.name not in last]
            for name in [*names, *last]:
                path = directory / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            directory.rmdir()
    except SettingError:
        return "cannot be locked: it is in progress"
    except OSError as error:
        return f"cannot be deleted ({error.strerror or error})"
    _remove_empty(directory.parent)
    return None


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a sweep or of a model of which all runs are gone."""
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {SWEEP, LOCK}:
            for name in (SWEEP, LOCK):
                (folder / name).unlink(missing_ok=True)
        folder.rmdir()
