"""A training in this process, for a notebook or a script: what it changes here, it puts back.

Signals, warnings, the log, Hydra's singletons and the random numbers of Python, NumPy and torch are
as before when it ends. Trainings in several threads take turns, since those things are one for all.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from aecli import files
from aecli.commands.train import run
from aecli.config import composed, refuse_unknown, typed_plugins
from aecli.distributed import launched
from aecli.errors import SettingError, shortened
from aecli.flags import sorted_words
from aecli.messages import plain
from aecli.overrides import checked
from aecli.plugins import trust
from aecli.runs.paths import CONFIG, HYDRA, OVERRIDES, discard_refused, lock
from aecli.sweeps.hydra_callbacks import directory_of
from aecli.terminal import Console
from aecli.text import SafeFormatter
from aecli.training.quiet import QUIETENED, quieten

COMMAND = "train"

_turn = threading.Lock()


def train(words: Sequence[str], shown: bool = True) -> Path:
    """Train the run of `words`, those of `aecli train`, and return its directory.

    Nothing is printed unless it is to be `shown`. Raises `SettingError` with the line that the
    command would print.
    """
    silence = nullcontext() if shown else redirect_stdout(StringIO())  # also without a bar
    with _turn, _own_hydra(), isolate_rng(), silence:
        whole = _configuration(words)
        HydraConfig.instance().set_config(whole)  # the run's name is made of its keys
        trust(typed_plugins(whole))
        config = whole.copy()
        with open_dict(config):
            del config["hydra"]
        refuse_unknown(config)
        _refuse_several(config)
        directory = Path(directory_of(whole)).absolute()
        with read_write(whole.hydra), open_dict(whole.hydra):
            whole.hydra.run.dir = whole.hydra.runtime.output_dir = str(directory)
        HydraConfig.instance().set_config(whole)
        if config.resume is None:
            _write(config, whole, directory)
        with _logged(directory, shown), lock(directory, "trains it"):
            try:
                run(config, directory)
            except SettingError:
                if config.resume is None:
                    discard_refused(directory)
                raise
        return directory


def _configuration(words: Sequence[str]) -> DictConfig:
    """Return the configuration of the words, with Hydra's own settings in it."""
    for word in words:
        if not isinstance(word, str):
            raise SettingError(f"{shortened(word)}: must be a text, such as 'model=vae'")
    _, flags = sorted_words(list(words))
    if flags:
        raise SettingError(
            f"{shortened(flags[0])}: is a flag of the command line; aecli.train takes settings"
        )
    try:
        return composed(COMMAND, *checked(COMMAND, words), of_hydra=True)
    except SettingError:
        raise
    except Exception as error:  # what Hydra and OmegaConf raise about what was typed
        raise SettingError(plain(error, COMMAND)) from error


def _refuse_several(config: DictConfig) -> None:
    """Refuse a training by several processes: each would run the whole script."""
    trainer = config.trainer
    if launched() or trainer.get("strategy") or trainer.get("devices") not in (None, 1):
        raise SettingError(
            "trainer: aecli.train is one process with one device; type aecli train … for several"
        )


def _write(config: DictConfig, whole: DictConfig, directory: Path) -> None:
    """Write what Hydra writes into the directory of a run of the command line."""
    files.write(directory / CONFIG, OmegaConf.to_yaml(config))
    files.write(directory / HYDRA, OmegaConf.to_yaml(OmegaConf.masked_copy(whole, "hydra")))
    files.write(directory / OVERRIDES, OmegaConf.to_yaml(whole.hydra.overrides.task))


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Put aside what this process has set up of Hydra, and put it back at the end."""
    before = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().hydra, HydraConfig.instance().cfg = None, None
    try:
        yield
    finally:  # Hydra itself may have put another object in the place of the singleton
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = before


@contextmanager
def _logged(directory: Path, shown: bool) -> Iterator[None]:
    """Keep the log of a run; if `shown`, print its lines unless the process has its own log."""
    ours, of_warnings = logging.getLogger("aecli"), logging.getLogger("py.warnings")
    loggers = [ours, of_warnings, *map(logging.getLogger, QUIETENED)]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    raises, captures = logging.raiseExceptions, warnings.showwarning.__module__ == "logging"
    kept = logging.FileHandler(directory / f"{COMMAND}.log")
    kept.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers: list[logging.Handler] = [kept]
    if shown and not ours.hasHandlers():
        printed = Console(sys.stdout)
        printed.setFormatter(SafeFormatter("%(message)s"))
        handlers.append(printed)
    try:
        with warnings.catch_warnings():
            quieten()
            ours.setLevel(min(ours.level or logging.INFO, logging.INFO))
            ours.propagate, of_warnings.propagate = shown and ours.propagate, False
            of_warnings.addHandler(kept)
            for handler in handlers:
                ours.addHandler(handler)
            yield
    finally:
        for handler in handlers:
            ours.removeHandler(handler)
        of_warnings.removeHandler(kept)
        kept.close()
        for logger, level, propagates in before:
            logger.setLevel(level)
            logger.propagate = propagates
        logging.raiseExceptions = raises
        if not captures:
            logging.captureWarnings(False)
