"""A directory of its own for every run: nothing that is there already is written to."""

import sys
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

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
        """Claim the directory of a sweep; its runs are numbered within."""
        if config.resume is not None:
            _exit(f"resume={config.resume}: goes on with one run; leave out --multirun")
        _claim(config.hydra.sweep)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Say how to compare the runs of the sweep."""
        sweep = shown(config.hydra.sweep.dir)
        print(f"sweep: {sweep}\nnext:\n  aecli eval run={sweep}\n  tensorboard --logdir {sweep}")  # noqa: T201


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
