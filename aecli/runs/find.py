"""Which runs `run=` means. No torch here."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from aecli.config import is_sweep
from aecli.errors import SettingError
from aecli.patterns import expanded
from aecli.runs.paths import (
    BEST,
    LAST,
    OUTPUTS,
    as_typed,
    checkpoint_path,
    newest,
    number_of,
    run_of,
    shown,
)

log = logging.getLogger(__name__)

LEVELS = 4
"""Of folders below a folder in which runs are looked for: outputs/sweeps/DATE/JOB has three."""


@dataclass(frozen=True)
class Run:
    """A trained model on disk."""

    directory: Path
    checkpoint: Path

    def at(self, name: str) -> "Run":
        """Return the run with the checkpoint `name`, "best" or "last"."""
        checkpoint = checkpoint_path(self.directory, name)
        return Run(self.directory, checkpoint) if checkpoint.is_file() else self

    def check_there(self) -> None:
        """Raise `SettingError` if it has been deleted: nothing is written into its place."""
        if not self.checkpoint.is_file():
            raise SettingError(f"{shown(self.directory)}: has been deleted meanwhile")


def find_one(spec: str, output_dir: str = OUTPUTS) -> Run:
    """Return the one run that `run=spec` means.

    Raises `SettingError` if there are several, or none.
    """
    runs = find(spec, output_dir)
    if len(runs) > 1:
        such = as_typed("run", runs[-1].directory)
        raise SettingError(
            f"run={spec}: holds {len(runs)} runs; name one of them, such as {such}, or see"
            " them by aecli runs"
        )
    return runs[0]


def find(spec: str, output_dir: str = OUTPUTS) -> list[Run]:
    """Return the runs that `run=spec` means.

    "latest" is the newest with a checkpoint under `output_dir`; else a checkpoint file, a run's
    directory, a folder with all runs in it, such as a sweep's, or a pattern of these.

    Raises `SettingError` if there is none, and for an `output_dir` that nothing is looked for in.
    """
    if not output_dir.strip():
        raise SettingError(f"output_dir='{output_dir}': must be a folder, such as {OUTPUTS}")
    if spec == "latest":
        return [_latest(Path(output_dir))]
    if output_dir != OUTPUTS and not is_sweep():  # a sweep of evaluations keeps its logs there
        raise SettingError(f"output_dir={output_dir}: goes with run=latest, not with run={spec}")
    path = expanded(spec)
    if path.is_file():
        # What is made of a file that lies elsewhere gets a folder of its own beside it.
        return [Run(run_of(path) or path.with_name(f"{path.stem}-aecli"), path)]
    if path.is_dir():
        found = list(_below(path))
    else:
        matches = map(Path, sorted(glob(str(path))))  # noqa: PTH207
        found = [run for match in matches if match.is_dir() for run in _below(match)]
    if found:
        return list({run.directory.resolve(): run for run in found}.values())
    if not path.is_dir():
        raise SettingError(
            f"run={spec}: no such file or directory; must be a run's directory, a sweep's or a"
            " folder's, a pattern of these, a checkpoint file, or latest"
        )
    if (path / ".hydra").is_dir():
        raise SettingError(
            f"run={spec}: has no checkpoint: its training stopped before the end of an epoch, or"
            " has not come so far yet"
        )
    raise SettingError(f"run={spec}: not a run's directory: it has no checkpoints in it")


def _below(folder: Path, levels: int = LEVELS) -> Iterator[Run]:
    """Yield the run in a folder or, if it is none, all in the folders of it."""
    if run := run_in(folder):
        yield run
    elif levels and not (folder / ".hydra").is_dir():
        children = [Path(entry) for entry in os.scandir(folder) if entry.is_dir()]
        for child in sorted(children, key=number_of):
            if (child / ".hydra").is_dir() and not run_in(child):
                log.warning("left out: %s has no checkpoint", shown(child))
            yield from _below(child, levels - 1)


def run_in(directory: Path) -> Run | None:
    """Return the run in a directory, with its best checkpoint or else its last; None if none."""
    for name in (BEST, LAST):
        checkpoint = checkpoint_path(directory, name)
        if os.path.lexists(checkpoint):  # what is no regular file is refused when it is read
            return Run(directory, checkpoint)
    return None


def _latest(outputs: Path) -> Run:
    for directory in newest(outputs):
        if run := run_in(directory):
            return run
    raise SettingError(
        f"run=latest: no run with a checkpoint under {outputs}/; aecli train makes one"
    )
