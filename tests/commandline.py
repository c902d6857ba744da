"""The command line as a test calls it: in this process, or, four seconds slower, in one of its own.

`aecli(…)` is the usual one. A process of its own is for what only a process has: signals, pipes,
what is imported, other processes.
"""

import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from aecli import plugins
from aecli.cli import main

COMMAND = (sys.executable, "-m", "aecli")


FOREIGN = re.compile(
    r"DictConfig|ListConfig|Integer|Optional\b|subclass|defaults list|append to|Multiple values"
    r"|force-add|Sweeper does|NoneType|__init__|keyword argument|dataloader|dereferenc|raised while"
    r"|of type '|Errno|Interpolation|Could not|Cannot|Error\b|Exception|Traceback|backend found"
)
"""Words of Hydra, OmegaConf, Lightning and Python that say nothing to who typed a setting."""


def is_one_line(answer: CompletedProcess[str]) -> bool:
    """Tell whether a command was refused by one line in the words of a command line."""
    return (
        answer.returncode in (1, 2)
        and answer.stderr.startswith("aecli: ")
        and answer.stderr.count("\n") == 1
        and not FOREIGN.search(answer.stderr)
    )


def aecli(*words: str, cwd: Path, **environment: str) -> CompletedProcess[str]:
    """Run `aecli WORDS` in this process, in the folder `cwd`; return its exit status and output."""
    out, err = io.StringIO(), io.StringIO()
    with (
        as_a_process(),
        patch.dict(os.environ, environment),
        patch.object(sys, "argv", ["aecli", *words]),
        chdir(cwd),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = _exit_status()
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())


def aecli_process(*words: str, cwd: Path, **environment: str) -> CompletedProcess[str]:
    """Run `aecli WORDS` in a process of its own."""
    return subprocess.run(
        [*COMMAND, *words],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def started(*words: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start `aecli WORDS` in a process of its own, and do not wait for it."""
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _exit_status() -> int:
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201
            return 1
        return end.code or 0
    except BaseException:  # whatever would end the process with a traceback
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def as_a_process() -> Iterator[None]:
    """Start with the state of a new process, and put back what the command changes of this one."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
    handlers = {number: signal.getsignal(number) for number in numbers}
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    states = [(log, log.handlers[:], log.level, log.propagate, log.disabled) for log in loggers]
    _clear()
    try:
        with (
            patch.dict(os.environ),
            without_plugins(),
            patch.object(Hydra, "get_mode", Hydra.get_mode),
            patch.object(ConfigLoaderImpl, "get_group_options", ConfigLoaderImpl.get_group_options),
            patch.object(threading, "excepthook", threading.excepthook),
            patch.object(logging, "raiseExceptions", logging.raiseExceptions),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("default")  # they go to the run's log, not to pytest
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                yield
            finally:
                logging.captureWarnings(False)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for log, handlers, *state in states:
            for handler in set(log.handlers) - set(handlers):
                handler.close()
            log.handlers, (log.level, log.propagate, log.disabled) = handlers, state
        _clear()


@contextmanager
def without_plugins() -> Iterator[None]:
    """Start without the plugins that were named before; forget those that are named now."""
    with patch.dict(plugins._typed, clear=True), patch.object(sys, "path", sys.path[:]):
        try:
            yield
        finally:
            for module in [m for m in sys.modules if plugins.plugin_of(m)]:
                del sys.modules[module]


def _clear() -> None:
    if loky := sys.modules.get("joblib.externals.loky"):
        loky.get_reusable_executor().shutdown(wait=True)  # its processes stay in their folder
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
