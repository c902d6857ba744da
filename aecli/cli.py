"""The command line: the first word picks a configuration, Hydra does the rest.

Imports neither torch nor lightning: help, completion and mistyped options answer at once.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, NoReturn

from aecli.distributed import end_children, launched, rank
from aecli.failures import (
    discard_directory,
    discard_sweep,
    forget_failure,
    how_to_go_on,
    report,
    say,
)
from aecli.signals import (
    Ending,
    Terminated,
    ending,
    exit_on_signals,
    importing,
    raise_on_signals,
    signal_behind,
)
from aecli.terminal import end_bars, open_closed_streams

COMMANDS = {
    "train": "aecli.commands.train",
    "eval": "aecli.commands.evaluate",
    "sample": "aecli.commands.sample",
    "encode": "aecli.commands.encode",
    "score": "aecli.commands.score",
    "reconstruct": "aecli.commands.reconstruct",
    "decode": "aecli.commands.decode",
    "data": "aecli.commands.data",
    "export": "aecli.commands.export",
    "explore": "aecli.commands.explore",
}
"""The commands, each the name of a configuration in `conf/` and of the module that runs it."""

PLAIN_COMMANDS = {
    "compare": "aecli.commands.compare",
    "runs": "aecli.commands.runs",
    "verify": "aecli.commands.verify",
    "cite": "aecli.commands.cite",
    "tour": "aecli.commands.tour",
}
"""The commands that need no configuration, each with the module whose `main` takes the words."""

HELP = {"-h", "--help"}
RERUN = "--experimental-rerun"
"""A flag of Hydra's that unpickles a file."""

USAGE = """\
aecli trains, evaluates, uses and compares autoencoders.

  aecli data   dataset=digits        what a run would see of a data set
  aecli train  [SETTING=VALUE ...]   train a model, into a new directory under outputs/
  aecli eval   run=latest            its test metrics, as a table and pictures
  aecli sample run=latest            images from it
  aecli encode run=latest out=codes.csv        the codes of examples, its own or new ones
  aecli score  run=latest out=scores.csv       how unusual each example is
  aecli reconstruct run=latest out=clean/      what the model makes of each example
  aecli decode run=latest codes=codes.csv out=images/      examples from codes
  aecli export run=latest out=model.onnx       the model as a file for other programs
  aecli explore run=latest out=explore.html    the model as a page to play with, in a browser
  aecli compare                      the runs of the newest sweep, side by side
  aecli runs                         what lies under outputs/, and what may go (--prune)
  aecli verify [RUN ...]             whether the files of runs are undamaged
  aecli cite   run=latest            BibTeX of the methods that a run used
  aecli tour                         what autoencoders do, in eight pictures

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

    The exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted by Ctrl-C, 143 terminated by
    SIGTERM, 75 a training terminated by SIGTERM, which `resume=` continues.
    """
    open_closed_streams()
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    at_once = partial(_ending, word)
    exit_on_signals(at_once)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `aecli … | head` ends like any command
    if word == "--config-name" and len(sys.argv) > 2:  # a process that replays sys.argv
        del sys.argv[1]
        word = sys.argv[1]
    if word in ("-sc", "--shell_completion", "--shell-completion"):
        word = _completed_command()
    if word in (*HELP, "help"):
        print(USAGE, end="")  # noqa: T201
        sys.exit(0)
    if "--version" in sys.argv[1:]:
        from aecli import __version__

        print(f"aecli {__version__}")  # noqa: T201
        sys.exit(0)
    for text in sys.argv[1:]:
        flag = text.partition("=")[0]
        if len(flag) > 2 and RERUN.startswith(flag):  # Hydra takes its flags shortened, too
            _fail(2, f"{flag}: runs whatever is pickled in a file; aecli does not take it")
    if word not in (*COMMANDS, *PLAIN_COMMANDS):
        commands = [*COMMANDS, *PLAIN_COMMANDS]
        later = [other for other in sys.argv[2:] if other in commands]
        first = f"; it comes first: aecli {later[0]} {word}" if "=" in word and later else ""
        known = ", ".join(commands)
        _fail(2, f"no command '{word}': must be one of {known} (see aecli --help){first}")
    try:
        os.getcwd()  # noqa: PTH109 (the error is what it is called for)
    except FileNotFoundError:
        _fail(1, f"{word}: the folder that it was typed in is gone; cd into another one")
    if word != "train" and launched():
        _fail(1, f"{word}: takes one process; start it without torchrun or srun")
    try:
        if word in PLAIN_COMMANDS:
            _run_plain(word, sys.argv[2:])
        else:
            _run(word)
    except (KeyboardInterrupt, Terminated) as stopped:
        exit_on_signals(at_once)
        number = signal.SIGINT
        if isinstance(stopped, Terminated):
            end_children()
            number = signal.SIGTERM
        advice = str(stopped) or _advice(word)  # a command may say itself how to go on
        status, line = _ending(word, number, advice)
        end_bars()
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # a terminal shows ^C where it was typed
        sys.stderr.write(line)
        sys.exit(status)
    finally:
        exit_on_signals(at_once)


def _ending(command: str, number: int, advice: str = "") -> Ending:
    status, line = ending(command, number, advice)
    return Ending(status, line if rank() == 0 else "")  # the first of several processes says it


def _advice(command: str) -> str:
    if command == "train":
        return how_to_go_on(command)
    return "; nothing is half written: start it again"


class Gone(BaseException):
    """One of several processes has ended before the others."""


class Bug(Exception):  # noqa: N818 (an error is what causes it)
    """An error that no mistake of a user can cause, for Hydra to hand through."""


class Failure(NamedTuple):
    """What is said of an error."""

    message: str
    is_bug: bool


def _run(command: str) -> None:
    """Run a command that Hydra configures."""
    if sys.argv[1] == command:
        # Rewritten, not deleted: processes that Lightning starts replay sys.argv.
        sys.argv[1:2] = ["--config-name", command]
    else:
        sys.argv[1:1] = ["--config-name", command]
    _check_words(command)
    wants_traceback = _prepare_hydra()
    import hydra

    job = _job(command, wants_traceback)
    raise_on_signals()
    try:
        hydra.main(version_base="1.3", config_path="pkg://aecli.conf", config_name=command)(job)()
    except Gone:
        if rank() > 0:
            sys.exit(1)  # the first says it
        _fail(1, f"another process of this run has gone{how_to_go_on(command)}")
    except Bug as bug:
        raise bug.__cause__ or bug from None
    except Exception as error:
        if stopped := signal_behind(error):
            raise stopped from None
        if wants_traceback:
            raise
        from aecli.messages import plain

        message = plain(error, command)
        discard_sweep()
        _fail(1, message)


def _check_words(command: str) -> None:
    """Sort what was typed after the command, and refuse what no configuration can answer to."""
    from aecli.errors import SettingError
    from aecli.overrides import checked, key_of

    words = sys.argv[3:]
    if rank() > 0 and not launched():
        # Lightning has started this process with the words of the first one, and behind them others
        # of its own, such as hydra.run.dir: these win.
        words = list({key_of(word): word for word in words}.values())
    try:
        sys.argv[3:] = checked(command, words)
    except SettingError as error:
        _fail(1, str(error))


def _prepare_hydra() -> bool:
    """Register aecli's configurations; return whether the user wants tracebacks."""
    import logging
    import threading

    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.hydra import Hydra
    from hydra.core.plugins import Plugins

    from aecli.config import register
    from hydra_plugins.aecli import OptunaSweeper

    register()
    Plugins.instance().register(OptunaSweeper)  # Hydra finds it itself only in a wheel
    if not any(word.startswith("hydra.mode") for word in sys.argv):
        # Only -m asks for a sweep. Hydra would compose the whole configuration to look whether
        # something in it does, and then compose it again.
        Hydra.get_mode = lambda self, **_: None  # type: ignore[method-assign]
    if HELP.intersection(sys.argv):
        # The help lists the options of every group twice, each time in a new copy of the store.
        options = cache(ConfigLoaderImpl.get_group_options)
        ConfigLoaderImpl.get_group_options = options  # type: ignore[assignment, method-assign]
    # TensorBoard's thread hands its errors, such as a full disk, to whoever writes next.
    threading.excepthook = lambda thread: logging.warning("in a thread: %s", thread.exc_value)
    # Further processes of this run inherit the variable as it is set below.
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1" and rank() == 0
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, to be printed here
    return wants_traceback


def _job(command: str, wants_traceback: bool) -> Callable[[Any], Any]:
    """Return what Hydra calls with the configuration of a run, or of each job of a sweep."""

    def job(config: Any) -> Any:
        from aecli import plugins
        from aecli.config import is_sweep, refuse_unknown, typed_plugins
        from aecli.distributed import lost_connection

        try:
            forget_failure()
            refuse_unknown(config)
            with importing(partial(_ending, command, advice=_advice(command))):
                module = importlib.import_module(COMMANDS[command])
                plugins.trust(typed_plugins(config))
            return module.main(config)
        except Exception as error:
            if stopped := signal_behind(error):
                raise stopped from None
            if lost_connection(error):
                raise Gone from error
            message, is_bug = _verdict(error)
            if is_bug and (wants_traceback or not is_sweep()):
                raise Bug from error
            if wants_traceback:
                raise
            if is_bug:
                import traceback

                traceback.print_exc()
            # Not raised: Hydra would print lines of its own, and end the other jobs of a sweep.
            report(message + (how_to_go_on(command) if _is_of_the_disk(error) else ""))
            if not is_sweep():
                if command == "train" and not config.resume and not _is_of_the_disk(error):
                    discard_directory()
                sys.exit(1)
        return None

    return job


def _verdict(error: Exception) -> Failure:
    """Return one line that tells a user what an error is, and whether it is a bug."""
    from omegaconf.errors import OmegaConfBaseException

    from aecli.errors import SettingError
    from aecli.messages import of_omegaconf, of_system

    if isinstance(error, SettingError):
        return Failure(str(error), is_bug=False)
    if isinstance(error, OSError):
        return Failure(of_system(error), is_bug=False)
    if isinstance(error, OmegaConfBaseException):
        return Failure(of_omegaconf(error), is_bug=False)
    return Failure(f"{type(error).__name__}: {error}", is_bug=True)


def _is_of_the_disk(error: Exception) -> bool:
    from aecli.files import WriteError

    return isinstance(error, OSError | WriteError)


def _run_plain(command: str, words: list[str]) -> None:
    """Run a command that reads its own words."""
    with importing(partial(_ending, command)):
        main = importlib.import_module(PLAIN_COMMANDS[command]).main
    raise_on_signals()
    try:
        main(words)
    except Exception as error:
        if stopped := signal_behind(error):
            raise stopped from None
        message, is_bug = _verdict(error)
        if is_bug or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        _fail(1, message)


def _fail(code: int, message: str) -> NoReturn:
    say(message)
    sys.exit(code)


def _completed_command() -> str:
    """Return the command that the line under completion is about, and take it out of the line.

    The shell asks with the whole line in COMP_LINE; Hydra knows nothing of the first word. While
    that word itself is being typed, print the commands and exit.
    """
    name, *words = os.environ.get("COMP_LINE", "aecli train ").split(" ")
    if len(words) < 2:
        print(*COMMANDS, *PLAIN_COMMANDS)  # noqa: T201
        sys.exit(0)
    command, *rest = words
    if command not in COMMANDS:
        sys.exit(0)
    os.environ["COMP_LINE"] = " ".join([name, *rest])
    return command
