"""A directory of its own for every run: nothing that is there already is written to."""

import sys
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from aecli.errors import SettingError


class NewDirectory(Callback):
    """Hydra's callback that makes the run's, or the sweep's, directory before anything else."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the directory of a single run, or take that of the run to go on with."""
        HydraConfig.instance().set_config(config)  # its name is made of hydra.* keys
        if config.resume is None:
            _claim(config.hydra.run)
        else:
            _take(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the directory of a sweep, or take that of the sweep to go on with."""
        if config.resume is None:
            _claim(config.hydra.sweep)
        else:
            _take_sweep(config)
        # Each job is composed anew, from the overrides: so it has to be among them.
        sweep = config.hydra.sweep.dir.replace("\\", "\\\\").replace("'", "\\'")
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{sweep}'")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Name the jobs that failed; say how to compare the others."""
        sweep = Path(config.hydra.sweep.dir)
        jobs = [path for path in sweep.iterdir() if (path / ".hydra").is_dir()]
        failed = failures(jobs)
        if len(failed) < len(jobs):
            print(f"sweep: {shown(sweep)}\nnext:")  # noqa: T201
            for line in ("aecli compare", "aecli eval run=", "tensorboard --logdir "):
                print(f"  {line}{'' if line == 'aecli compare' else shown(sweep)}")  # noqa: T201
        if failed:
            _exit(f"{len(failed)} of {len(jobs)} jobs failed:" + "".join(failed))


SWEEP = "multirun.yaml"
ERROR = "error.txt"
"""In the directory of a sweep's job: why it failed."""


def failures(jobs: Iterable[Path]) -> list[str]:
    """Return a line for each of the jobs that failed: its name, why, and where its log is."""
    told = []
    for job in sorted(jobs, key=number_of):
        if (job / ERROR).is_file():
            why = (job / ERROR).read_text().strip().splitlines()
            log = f" (log: {shown(job / 'train.log')})" if (job / "train.log").is_file() else ""
            told.append(f"\n  {job.name}: {why[-1] if why else 'no reason told'}{log}")
    return told


def number_of(job: Path) -> tuple[int, str]:
    """Return what sorts a sweep's jobs as they were numbered, 2 before 10."""
    number = job.name.split("_")[0]
    return (int(number) if number.isdigit() else -1, job.name)


def _claim(node: DictConfig) -> None:
    try:
        with read_write(node), open_dict(node):
            node.dir = str(make_new(Path(node.dir)))
    except OSError as error:
        _exit(f"output_dir: {error.filename}: {error.strerror}")


def _take(config: DictConfig) -> None:
    from aecli.runs import find

    try:
        runs = find(config.resume, config.output_dir)
    except SettingError as error:
        _exit(str(error).replace("run=", "resume=", 1))
    if len(runs) > 1:
        _exit(f"resume={config.resume}: holds {len(runs)} runs; name one of them")
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.run.dir = str(runs[0].directory)
        config.hydra.output_subdir = None  # its configuration is there already


def _take_sweep(config: DictConfig) -> None:
    sweep = Path(config.resume).expanduser()
    if (sweep / ".hydra").is_dir():
        _exit(f"resume={config.resume}: is a run, not a sweep; leave out --multirun")
    if not (sweep / SWEEP).is_file():
        _exit(f"resume={config.resume}: no sweep lies there; must be its directory")
    then = _sweep_of(OmegaConf.load(sweep / SWEEP).hydra.overrides.task)
    if then != _sweep_of(config.hydra.overrides.task):
        _exit(f"resume={config.resume}: that sweep was {' '.join(then)}; type the same line")
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(sweep)


def _sweep_of(typed: Iterable[str]) -> list[str]:
    """Return what was typed that makes a sweep what it is."""
    return [text for text in typed if text.split("=")[0] not in ("resume", "launcher")]


def _exit(message: str) -> NoReturn:
    # Hydra would only warn of an exception in a callback, and go on.
    print(f"aecli: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(1)


def make_new(path: Path) -> Path:
    """Make and return `path`, or `path-2`, `path-3`, … if there is something at it already.

    Two processes that ask at the same moment get two directories: making one is atomic.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        new = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            new.mkdir()
        except FileExistsError:
            continue
        return new
    raise AssertionError("unreachable")


def shown(path: Path | str) -> str:
    """Return a path as one would type it here: relative if it lies below the working directory."""
    path = Path(path).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
