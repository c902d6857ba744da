"""A run's directory: what lies where, and how a path is made, locked and printed. No torch here.

<run>/.hydra/            the configuration as typed and composed
<run>/checkpoints/       best.ckpt (least val/loss) and last.ckpt
<run>/metrics.json       validation metrics; those of the test set after `aecli eval`
<run>/events.out…        TensorBoard
<run>/train.log          the log, with every warning
<run>/eval/, samples/    what the other two commands make
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Any

from filelock import FileLock, Timeout

from aecli.errors import SettingError
from aecli.files import numbered, refuse_links
from aecli.text import one_line
from aecli.untrusted import read_bytes

OUTPUTS = "outputs"
"""Where runs lie if nothing else is said."""
CHECKPOINTS, BEST, LAST = "checkpoints", "best", "last"
METRICS = "metrics.json"
CONFIG, OVERRIDES, HYDRA = (Path(".hydra") / f"{n}.yaml" for n in ("config", "overrides", "hydra"))
"""What Hydra writes: the settings as composed, as typed, and its own, with the chosen options."""
PICTURES, SAMPLES = "eval", "samples"
"""Folders in a run's directory."""

PLACES = ("root", "file", "files", "targets")
"""Settings of a data set that say where it lies."""
OF_ARRAYS = ("labels", "ids")
"""Settings that name an array in its file, or a file with one of these endings."""
ARRAYS = (".npy", ".npz", ".safetensors", ".pt", ".h5")

SWEEP = "multirun.yaml"

LOCK = ".lock"
"""In the directory of a run or of a sweep: held by the process that works on it."""

ERROR = "error.txt"
"""In the directory of a sweep's job: why it failed."""


def files_of(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings of a data set that name files or folders: paths, patterns, lists."""
    named = [*PLACES, *(["drop"] if "files" in dataset else [])]
    named += [key for key in OF_ARRAYS if str(dataset.get(key)).lower().endswith(ARRAYS)]
    return {key: value for key in named if (value := dataset.get(key))}


def checkpoint_path(directory: Path, name: str) -> Path:
    """Return where a run's checkpoint `name`, "best" or "last", lies if it has one."""
    return directory / CHECKPOINTS / f"{name}.ckpt"


def check_writable(directory: Path, *names: str) -> None:
    """Refuse a run that is, or has under one of `names`, a link: nothing is written through one."""
    refuse_links(directory, *(directory / name for name in names))


def run_of(checkpoint: Path) -> Path | None:
    """Return the run's directory that a checkpoint lies in; None if it lies elsewhere."""
    run = checkpoint.parent.parent
    return run if checkpoint.parent.name == CHECKPOINTS and (run / ".hydra").is_dir() else None


def failures(jobs: Iterable[Path]) -> list[str]:
    """Return a line for each of the jobs that failed: its name, why, and where its log is."""
    lines = []
    for job in sorted(jobs, key=number_of):
        if (job / ERROR).is_file():
            why = read_bytes(job / ERROR).decode(errors="replace").strip().splitlines()
            log = f" (log: {shown(job / 'train.log')})" if (job / "train.log").is_file() else ""
            reason = one_line(why[-1], 1000) if why else "no reason given"
            lines.append(f"\n  {one_line(job.name)}: {reason}{log}")
    return lines


def number_of(job: Path) -> tuple[int, str]:
    """Return what sorts a sweep's jobs as they were numbered, 2 before 10."""
    number = job.name.split("_")[0]
    return (int(number) if number.isdecimal() else -1, job.name)


def newest(outputs: Path) -> Iterator[Path]:
    """Return the directories of the runs under `outputs`, the newest first."""
    made = [*outputs.glob("*/*/.hydra/config.yaml"), *outputs.glob("sweeps/*/*/.hydra/config.yaml")]
    for config in sorted(made, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        yield config.parent.parent


def discard(directory: Path) -> None:
    """Remove the directory of a run that nothing was written to but its settings and its log."""
    with suppress(OSError):
        for path in [*(directory / ".hydra").glob("*.yaml"), *directory.glob("*.log")]:
            path.unlink()
        (directory / LOCK).unlink(missing_ok=True)
        (directory / ".hydra").rmdir()
        directory.rmdir()


def discard_refused(directory: Path) -> None:
    """Remove a run's directory if its training was refused before it began."""
    if not (directory / CHECKPOINTS).exists() and not any(directory.glob("events*")):
        discard(directory)


def discard_empty_sweep(directory: Path) -> None:
    """Remove a sweep's directory if it has nothing but the settings: no job of it has begun."""
    with suppress(OSError):
        if {path.name for path in directory.iterdir()} <= {SWEEP, LOCK}:
            for name in (SWEEP, LOCK):
                (directory / name).unlink(missing_ok=True)
            directory.rmdir()


def make_new(path: Path) -> Path:
    """Make and return `path`, or `path-2`, `path-3`, … if there is something at it already.

    Two processes that ask at the same moment get two directories: making one is atomic.
    Raises `SettingError` if `path` has no name, such as `.`: runs don't mix with a user's files.
    """
    if path.name in ("", ".."):
        raise SettingError(f"{path}: must be the path of a new directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    names = numbered(path.name)
    while True:
        new = path.with_name(next(names))
        try:
            new.mkdir()
        except FileExistsError:
            continue
        return new


@contextmanager
def lock(directory: Path, what: str) -> Iterator[None]:
    """Hold a lock on `directory` in a block; it ends with this process, however that ends.

    Raises `SettingError` if another process has it: that one does `what` at this moment.
    """
    path = directory / LOCK
    refuse_links(path)
    try:
        held = FileLock(path).acquire(timeout=0)
    except Timeout:
        raise SettingError(f"{shown(directory)}: another aecli {what} at this moment") from None
    with held:
        yield


def shown(path: Path | str) -> str:
    """Return a path as one would type it here: relative if it lies below the working directory."""
    path = Path(path).absolute()
    near = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return one_line(near, longest=1000)


def as_typed(key: str, path: Path | str) -> str:
    """Return `KEY=PATH` as it is to be typed, with the quotes that a shell and Hydra want."""
    path = shown(path)
    if re.fullmatch(r"[\w./+~:-]+", path, re.ASCII):
        return f"{key}={path}"
    # In quotes, Hydra takes a backslash for itself before a quote and at the end alone.
    escaped = re.sub(r'(\\*)("|$)', lambda end: 2 * end[1] + end[2].replace('"', r"\""), path)
    return quote(f'{key}="{escaped}"')
