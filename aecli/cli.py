"""The command line: the first word picks a configuration, Hydra does the rest.

Imports neither torch nor lightning: help, completion and mistyped options answer at once.
"""

import errno
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any

from aecli.distributed import launched, rank
from aecli.text import printable

COMMANDS = {
    "train": "aecli.commands.train",
    "eval": "aecli.commands.evaluate",
    "sample": "aecli.commands.sample",
}
"""The commands, each the name of a configuration in `conf/` and of the module that runs it."""
ALONE = {"compare": "aecli.commands.compare", "verify": "aecli.commands.verify"}
"""The commands without a configuration, which read the directories of runs."""

RERUN = "--experimental-rerun"
"""A flag of Hydra's that unpickles a file."""

RESUMABLE = 75
"""Exit status of a training that was told to go by SIGTERM: sysexits.h's "try again later"."""

USAGE = """\
aecli trains, evaluates, samples and compares autoencoders.

  aecli train  [SETTING=VALUE ...]   train a model, into a new directory under outputs/
  aecli eval   run=latest            its test metrics, as a table and pictures
  aecli sample run=latest            images from it
  aecli compare                      the runs of the newest sweep, side by side
  aecli verify [RUN ...]             whether the files of runs are undamaged

Examples:
  aecli train                                   a VAE on 8x8 digits, in under a minute
  aecli train model=dae dataset=mnist noise=gaussian noise.std=0.3
  aecli train experiment=hinton2006/pca         a paper's setting, and its number beside yours
  aecli train -m model=pca,ae,dae,sparse_ae,ksparse_ae,vae dataset=mnist
  aecli train -m model=vae model.beta=0.5,1,4 launcher=joblib    side by side, on all cores

`aecli train --help` lists every model, part and setting; `--cfg job` shows a whole configuration.
Completion in bash: eval "$(aecli -sc install=bash)"
"""


def main() -> None:
    """Run the command in `sys.argv` and exit.

    The exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted, 75 told to go and resumable.
    """
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `aecli … | head` ends like any command
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word == "--config-name" and len(sys.argv) > 2:  # a process that replays sys.argv
        del sys.argv[1]
        word = sys.argv[1]
    if word in ("-sc", "--shell_completion", "--shell-completion"):
        word = _completed_command()
    if word in ("-h", "--help", "help"):
        print(USAGE, end="")  # noqa: T201
        sys.exit(0)
    if word == "--version":
        from aecli import __version__

        print(f"aecli {__version__}")  # noqa: T201
        sys.exit(0)
    if word in ALONE:
        _run_alone(ALONE[word], sys.argv[2:])
        return
    for text in sys.argv[1:]:
        flag = text.partition("=")[0]
        if len(flag) > 2 and RERUN.startswith(flag):  # Hydra takes its flags shortened, too
            _fail(2, f"{flag}: runs whatever is pickled in a file; aecli does not take it")
    if word not in COMMANDS:
        known = ", ".join([*COMMANDS, *ALONE])
        _fail(2, f"no command '{word}': must be one of {known} (see aecli --help)")
    if word != "train" and launched():
        _fail(1, f"{word}: takes one process; start it without torchrun or srun")
    if sys.argv[1] == word:
        # Rewritten, not deleted: processes that Lightning starts replay sys.argv.
        sys.argv[1:2] = ["--config-name", word]
    else:
        sys.argv[1:1] = ["--config-name", word]
    _run(word)


class Gone(BaseException):
    """One of several processes has ended before the others."""


def _run(command: str) -> None:
    from aecli.signals import stop_on_sigterm

    if command == "train":
        stop_on_sigterm()
    import hydra
    from hydra._internal.hydra import Hydra
    from omegaconf.errors import OmegaConfBaseException

    from aecli.config import register
    from aecli.distributed import lost_connection
    from aecli.errors import SettingError
    from aecli.messages import plain
    from aecli.signals import Terminated
    from aecli.sweeps import sweeper

    def job(config: Any) -> Any:
        try:
            _forget_failure()
            _refuse_unknown(config)
            return importlib.import_module(COMMANDS[command]).main(config)
        except (SettingError, OSError, OmegaConfBaseException) as error:  # not a bug
            if traceback_wanted:
                raise
            told = str(error) if isinstance(error, SettingError) else str(error).splitlines()[0]
            if getattr(error, "errno", None) == errno.ENOSPC:
                told = f"no space left on the disk; make room{_how_to_go_on(command)}"
            # Not raised: Hydra would add lines of its own, and the other jobs of a sweep go on.
            failed.append(told)
        except Exception as error:
            if "WORLD_SIZE" in os.environ and lost_connection(error):
                raise Gone from error
            if traceback_wanted or not _is_sweep():
                bugs.append(error)
                raise
            traceback.print_exc()
            told = f"{type(error).__name__}: {error}"
        _tell(told)
        return None

    failed: list[str] = []
    bugs: list[Exception] = []
    register()
    sweeper.register()
    if not any(word.startswith("hydra.mode") for word in sys.argv):
        # Only -m asks for a sweep. Hydra would compose the whole configuration to look whether
        # something in it does, and then compose it again.
        Hydra.get_mode = lambda self, **_: None  # type: ignore[method-assign]
    # Further processes of this run inherit the variable as it is set below.
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1" and rank() == 0
    # TensorBoard's thread hands its errors, such as a full disk, to whoever writes next.
    threading.excepthook = lambda thread: logging.warning("in a thread: %s", thread.exc_value)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors over, to be told here
    try:
        hydra.main(version_base="1.3", config_path="pkg://aecli.conf", config_name=command)(job)()
    except Gone:
        _fail(1, f"another process of this run has gone{_how_to_go_on(command)}")
    except KeyboardInterrupt:
        _fail(130, f"interrupted{_how_to_go_on(command)}")
    except Terminated:
        _end_children()
        _fail(RESUMABLE, f"terminated{_how_to_go_on(command)}")
    except Exception as error:
        if error in bugs or traceback_wanted:
            raise
        _fail(1, plain(error))
    if failed:
        sys.exit(1)


def _run_alone(module: str, arguments: list[str]) -> None:
    from aecli.errors import SettingError

    try:
        importlib.import_module(module).main(arguments)
    except KeyboardInterrupt:
        _fail(130, "interrupted")
    except (SettingError, OSError) as error:
        _fail(1, str(error))


def _refuse_unknown(config: Any) -> None:
    """Refuse root keys added by + that nothing would read."""
    from dataclasses import fields

    from omegaconf import OmegaConf

    from aecli.errors import SettingError

    known = [field.name for field in fields(OmegaConf.get_type(config))]
    for key in set(config) - set(known):
        raise SettingError(f"{key}: no such setting; must be one of {', '.join(known)}")


def _fail(code: int, message: str) -> None:
    if rank() == 0:
        print(f"aecli: {printable(message)}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


def _tell(failure: str) -> None:
    """Say why a job failed; if it is one of a sweep, leave that in its directory, too."""
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from aecli.runs.paths import ERROR

    if rank() > 0:
        return  # the first of several processes says it
    job = ""
    if _is_sweep():
        job = f"job {HydraConfig.get().job.num}: "
        (Path(HydraConfig.get().runtime.output_dir) / ERROR).write_text(f"{printable(failure)}\n")
    print(f"aecli: {job}{printable(failure)}", file=sys.stderr)  # noqa: T201


def _forget_failure() -> None:
    """Take away what an earlier try of a sweep's job left: it is tried again."""
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from aecli.runs.paths import ERROR

    if _is_sweep():
        (Path(HydraConfig.get().runtime.output_dir) / ERROR).unlink(missing_ok=True)


def _end_children() -> None:
    """End the jobs that a sweep runs side by side: what they saved stays."""
    from psutil import NoSuchProcess, Process

    for process in Process().children(recursive=True):
        with suppress(NoSuchProcess):
            process.kill()


def _how_to_go_on(command: str) -> str:
    """Return what to type to go on with a training that was interrupted."""
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from aecli.runs.paths import as_typed

    if command != "train" or not HydraConfig.initialized():
        return ""
    hydra = HydraConfig.get()
    if _is_sweep():
        return f"; to go on with it: the same line and {as_typed('resume', hydra.sweep.dir)}"
    if not (Path(hydra.run.dir) / ".hydra").is_dir():
        return ""
    how = "started as before, " if launched() else ""
    return f"; to go on with it: {how}aecli train {as_typed('resume', hydra.run.dir)}"


def _is_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.get().mode == RunMode.MULTIRUN


def _completed_command() -> str:
    """Return the command that the line under completion is about, and take it out of the line.

    The shell asks with the whole line in COMP_LINE; Hydra knows nothing of the first word. While
    that word itself is being typed, print the commands and exit.
    """
    name, *words = os.environ.get("COMP_LINE", "aecli train ").split(" ")
    if len(words) < 2:
        print(*COMMANDS, *ALONE)  # noqa: T201
        sys.exit(0)
    command, *rest = words
    if command not in COMMANDS:
        sys.exit(0)
    os.environ["COMP_LINE"] = " ".join([name, *rest])
    return command
