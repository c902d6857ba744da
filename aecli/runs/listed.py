"""What lies in the directories of runs, finished or not: read from files alone. No torch here."""

import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from aecli.errors import SettingError
from aecli.files import refuse_links
from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    ERROR,
    HYDRA,
    LAST,
    LOCK,
    METRICS,
    PICTURES,
    SAMPLES,
    checkpoint_path,
    shown,
)
from aecli.untrusted import read_yaml

FINISHED, RUNNING, FAILED = "finished", "running", "failed"
RESUMABLE, EMPTY, DAMAGED = "resumable", "no epoch", "damaged"
STARTING = 600
"""Seconds after its last change in which a run without an epoch may be one that is starting."""
KEYS = {"model", "dataset", "trainer", "likelihood", "objective", "pictures_every", "output_dir"}
"""What the settings of every run have; those of other programs that use Hydra have not."""
OURS = re.compile(
    rf"{re.escape(METRICS)}|{re.escape(ERROR)}|{re.escape(LOCK)}"
    r"|train(_ddp_process_\d+)?\.log"
    r"|\.hydra/(config|hydra|overrides)\.yaml"
    rf"|{CHECKPOINTS}/({BEST}|{LAST})\.ckpt"
    rf"|{PICTURES}/((reconstructions|filters|activations|codes|firing_rates|gap|gradients"
    r"|aggregate|generated)\.png|top_rows\.(csv|html))"
    rf"|{SAMPLES}/(prior|reconstruct|interpolate|manifold|traverse)(-\d+)?\.(npz|png)"
    r"|events\.out\.tfevents\.[^/]*|projector_config\.pbtxt"
    r"|\d{5,}/codes/(metadata\.tsv|sprite\.png|tensors\.tsv)"
    r"|(.*/)?\.[^/]*\.part"  # of a writer that was killed
    rf"|{CHECKPOINTS}|{PICTURES}|{SAMPLES}",  # a link to somewhere else
)
"""Files in a run's directory that aecli, Hydra and TensorBoard write there."""


class Listed(NamedTuple):
    """A run's directory, and what it says of the run."""

    directory: Path
    state: str
    """`FINISHED`, `RUNNING`, `FAILED`, `RESUMABLE`, `EMPTY` (without an epoch) or `DAMAGED`."""
    model: str
    dataset: str
    epochs: int | None
    """Of the training that has ended."""
    asked_epochs: int | None
    best: float | None
    """val/loss of the best epoch."""
    size: int
    """Bytes of its files."""
    changed: float
    """When a file of it was last written, seconds since 1970."""


def listed(directories: Iterable[Path]) -> list[Listed]:
    """Return the runs in directories, the newest first, without what other programs have made."""
    now = time.time()
    found = [one for directory in directories if (one := _listed(directory, now))]
    return sorted(found, key=lambda one: _begun(one.directory), reverse=True)


def _begun(directory: Path) -> int:
    try:
        return (directory / CONFIG).stat().st_mtime_ns
    except OSError:  # deleted a moment ago
        return 0


def _listed(directory: Path, now: float) -> Listed | None:
    size, changed = _extent(directory)
    try:
        metrics = read_metrics(directory)
        choices = metrics.get("choices")
        config: dict[str, Any] = {}
        if choices is None or "epochs" not in metrics:
            if not is_ours(directory):
                return None
            config = read_yaml(directory / CONFIG)
            choices = _of(read_yaml(directory / HYDRA), "hydra", "runtime", "choices")
    except (SettingError, OSError):
        return Listed(directory, DAMAGED, "", "", None, None, None, size, changed)
    asked = metrics.get("asked_epochs", _of(config, "trainer", "max_epochs"))
    best = metrics.get("val", {}).get("loss")
    return Listed(
        directory,
        _state(directory, "epochs" in metrics, now - changed),
        str(_of(choices, "model") or ""),
        str(_of(choices, "dataset") or ""),
        metrics.get("epochs"),
        asked if isinstance(asked, int) else None,
        best if isinstance(best, int | float) else None,
        size,
        changed,
    )


def _state(directory: Path, is_finished: bool, age: float) -> str:
    has_epoch = os.path.lexists(checkpoint_path(directory, LAST))
    has_failed = os.path.lexists(directory / ERROR)
    if is_locked(directory):
        return RUNNING
    if is_finished:
        return FINISHED
    if is_locked(directory.parent):  # the sweep may come to it, or try it again
        return RUNNING
    if has_failed:
        return FAILED
    if has_epoch:
        return RESUMABLE
    return RUNNING if age < STARTING else EMPTY


def is_ours(directory: Path) -> bool:
    """Return whether a directory is that of a run of aecli, by its settings.

    Raises `SettingError` if they are damaged, `FileNotFoundError` if there are none.
    """
    config = read_yaml(directory / CONFIG)
    return isinstance(config, dict) and config.keys() >= KEYS


def foreign_files(directory: Path) -> list[str]:
    """Return what aecli does not write in a run's directory, as paths in it; a link is one."""
    paths = (Path(entry.path).relative_to(directory) for entry in _files(str(directory)))
    return sorted(str(path) for path in paths if not OURS.fullmatch(path.as_posix()))


def refuse_links_in(directory: Path) -> None:
    """Refuse a run that has a link, or what is no file, in the place of a file that aecli writes.

    What is written into a run that may be a stranger's must not end up somewhere else.
    """
    for entry in _files(str(directory)):
        path = Path(entry.path)
        if OURS.fullmatch(path.relative_to(directory).as_posix()):
            refuse_links(path)
            if not entry.is_file():
                raise SettingError(f"{shown(path)}: is no ordinary file; move it away")
    refuse_links(directory / ".hydra", *directory.glob("[0-9]*"), *directory.glob("[0-9]*/codes"))


def is_locked(directory: Path) -> bool:
    """Return whether a process works on a run's, or a sweep's, directory."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:  # somebody else's: who knows
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _extent(directory: Path) -> tuple[int, float]:
    """Return the bytes of all files below a directory, and when the last was written."""
    size, changed = 0, 0.0
    for entry in _files(str(directory)):
        with suppress(OSError):  # deleted a moment ago
            status = entry.stat(follow_symlinks=False)
            size, changed = size + status.st_size, max(changed, status.st_mtime)
    return size, changed


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry


def _of(tree: Any, *path: str) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
