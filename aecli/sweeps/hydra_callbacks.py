"""Hydra's callbacks: a new directory for every run and sweep, so that nothing is overwritten."""

import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from aecli import plugins
from aecli.distributed import agree, end_with_parent, launched, prepare_for_lightning, rank
from aecli.errors import SettingError
from aecli.files import refuse_links
from aecli.messages import of_omegaconf
from aecli.overrides import key_of
from aecli.patterns import expanded
from aecli.runs.listed import refuse_links_in
from aecli.runs.paths import LOCK, SWEEP, as_typed, failures, lock, make_new, newest, shown
from aecli.sweeps.slurm import watch_by_squeue
from aecli.sweeps.study import IDENTITY, STORAGE, without_password
from aecli.text import installs, one_line, printable
from aecli.untrusted import read_yaml

SILENCE = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "CRITICAL", "handlers": []},
}
"""The logging of all but the first of several processes."""


class Failures(Callback):
    """Hydra's callback that names the jobs of a sweep that failed, at its end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Let the sweep's folder be named by the job."""
        HydraConfig.instance().set_config(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print a line for each of them and exit with status 1, if there are any."""
        sweep = Path(config.hydra.sweep.dir)
        jobs = [path for path in sweep.glob("[!.]*/") if path.is_dir()]
        if failed := failures(jobs):
            _exit(f"{len(failed)} of {len(jobs)} jobs failed:" + "".join(failed))


class NewDirectory(Failures):
    """Hydra's callback that makes the run's, or the sweep's, directory before anything else."""

    def __init__(self) -> None:
        self.held = ExitStack()
        """The lock on the sweep of this process."""

    def __getstate__(self) -> dict[str, Any]:
        return {"owner": os.getpid()}  # the jobs in other processes get a copy, without the lock

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Let a process that the sweep has started for its jobs end with the sweep."""
        if getattr(self, "owner", None) == os.getppid():
            end_with_parent()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the directory of a single run, or take that of the run to go on with."""
        HydraConfig.instance().set_config(config)  # its name is made of hydra.* keys
        failure, directory = None, ""
        try:
            prepare_for_lightning()
            if rank() == 0:
                directory = directory_of(config)
        except Exception as error:
            failure = error
        if launched():  # their clocks differ, and so would the names
            try:
                directory = agree(directory)
            except SettingError as error:
                _exit(error)
        if failure is not None and rank() == 0:
            _exit(failure)
        if launched() and not directory:
            sys.exit(1)  # the first of them says why
        with read_write(config.hydra), open_dict(config.hydra):
            if directory:
                config.hydra.run.dir = directory
            if rank() > 0 or config.resume is not None:
                config.hydra.output_subdir = None  # it is written already
            if rank() > 0:
                config.hydra.job_logging = SILENCE

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the directory of a sweep, or take that of the sweep to go on with."""
        try:
            directory = self._sweep(config)
            self.held.enter_context(lock(Path(directory), "runs this sweep"))
            if config.hydra.runtime.choices["hydra/launcher"] == "submitit_slurm":
                watch_by_squeue()
        except Exception as error:
            _exit(error)
        # Each job is composed anew, from the overrides: so it has to be among them.
        sweep = directory.replace("\\", "\\\\").replace("'", "\\'")
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = directory
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{sweep}'")
        HydraConfig.instance().set_config(config)  # for who asks after an interruption

    def _sweep(self, config: DictConfig) -> str:
        if launched():
            raise SettingError("--multirun: a sweep's jobs are single processes; not by torchrun")
        if config.sweeper is not None and find_spec("optuna") is None:
            raise SettingError(f"sweeper=optuna: not installed; {installs('sweep')}")
        return _claim(config, config.hydra.sweep) if config.resume is None else _take_sweep(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Say how to compare the runs; name the jobs that failed."""
        sweep = Path(config.hydra.sweep.dir)
        jobs = [path for path in sweep.iterdir() if (path / ".hydra").is_dir()]
        if len(failures(jobs)) < len(jobs):
            print(f"sweep: {shown(sweep)}\nnext:")  # noqa: T201
            print(f"  aecli compare {quote(shown(sweep))}")  # noqa: T201
            typed = plugins.as_typed(config.plugins)
            print(f"  aecli eval {as_typed('run', sweep)}{typed}")  # noqa: T201
            print(f"  tensorboard --logdir {quote(shown(sweep))}")  # noqa: T201
        self.held.close()
        super().on_multirun_end(config)


def directory_of(config: DictConfig) -> str:
    """Return the directory of a single run: a new one, made here, or that of the run to resume."""
    return _claim(config, config.hydra.run) if config.resume is None else _take(config)


def _claim(config: DictConfig, node: DictConfig) -> str:
    """Make the new directory that `node`, one of Hydra's, describes."""
    if not config.output_dir.strip():
        raise SettingError(f"output_dir='{config.output_dir}': must be a folder, such as outputs")
    try:
        return str(make_new(Path(node.dir)))
    except OSError as error:
        typed = [key_of(word) for word in config.hydra.overrides.hydra]
        own = next((key for key in typed if key in ("hydra.run.dir", "hydra.sweep.dir")), None)
        key = own or "output_dir"
        raise SettingError(f"{key}: {error.filename}: {error.strerror}") from error


def _take(config: DictConfig) -> str:
    """Return the directory of the run that `resume=` means."""
    resume, outputs = config.resume, Path(config.output_dir)
    if resume == "latest":
        if directory := next(newest(outputs), None):
            return str(directory)
        raise SettingError(f"resume=latest: no run under {outputs}/; aecli train makes one")
    path = expanded(resume)
    if path.is_file() and path.parent.name == "checkpoints":
        path = path.parent.parent
    if not path.is_dir():
        raise SettingError(f"resume={resume}: no such directory; must be a run's, or latest")
    if (path / SWEEP).is_file():
        raise SettingError(
            f"resume={resume}: is a sweep; name one of its runs, or repeat the sweep's line"
        )
    if not (path / ".hydra").is_dir():
        raise SettingError(f"resume={resume}: not a run's directory: it has no .hydra in it")
    refuse_links(path)
    refuse_links_in(path)
    return str(path)


def _take_sweep(config: DictConfig) -> str:
    """Return the directory of the sweep that `resume=` means."""
    sweep = expanded(config.resume)
    if (sweep / ".hydra").is_dir():
        raise SettingError(f"resume={config.resume}: is a run, not a sweep; leave out --multirun")
    if not (sweep / SWEEP).is_file():
        raise SettingError(f"resume={config.resume}: no sweep lies there; must be its directory")
    try:
        before = _sweep_of(read_yaml(sweep / SWEEP)["hydra"]["overrides"]["task"])
    except Exception as error:  # whatever half a file can raise
        raise SettingError(f"{sweep / SWEEP}: damaged; start the sweep anew") from error
    if before != _sweep_of(config.hydra.overrides.task):
        line = one_line(without_password(" ".join(map(quote, before))), 1000)
        raise SettingError(f"resume={config.resume}: that sweep was {line}; type the same line")
    jobs = list(sweep.glob("[0-9]*"))
    refuse_links(sweep, *(sweep / name for name in (SWEEP, LOCK, STORAGE, IDENTITY)), *jobs)
    for job in jobs:
        refuse_links_in(job)
    return str(sweep)


def _sweep_of(typed: Iterable[str]) -> list[str]:
    """Return the overrides that define a sweep, without those that say how to run it."""
    how = ("resume", "launcher", "sweeper.trials", "sweeper.at_once")
    return [text for text in typed if text.split("=")[0] not in how]


def _exit(reason: Exception | str) -> NoReturn:
    if isinstance(reason, OmegaConfBaseException):
        reason = of_omegaconf(reason)
    # Hydra would only warn of an exception in a callback, and go on.
    print(f"aecli: {printable(reason)}", file=sys.stderr)  # noqa: T201
    sys.exit(1)
