"""`resume=`: how far a run has come, what it was started with, and what may change on its way."""

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from aecli import __version__, files
from aecli.errors import SettingError, check_int
from aecli.runs.checkpoint import Stored, stored, stored_beside
from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import CONFIG, LAST, METRICS, checkpoint_path, shown
from aecli.text import counted
from aecli.untrusted import read_yaml

LENGTH = "trainer.max_epochs"
PARTS = (
    "model",
    "network",
    "noise",
    "sparsity",
    "likelihood",
    "optimizer",
    "prior",
    "trainer",
    "seed",
)
"""Keys that must match before a job of a sweep may use a checkpoint."""
GOES_WITH = {"resume", "output_dir", "plugins", LENGTH}
"""Settings that may be typed with resume=…"""


def last_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint that a run resumes from; None before its first epoch has ended."""
    path = checkpoint_path(directory, LAST)
    # What is no regular file is refused when it is read.
    return path if os.path.lexists(path) else None


@dataclass(frozen=True)
class State:
    """How far the run in a directory has come, by its files."""

    directory: Path
    last: Path | None
    """The checkpoint that training resumes from, if there is one."""
    metrics: Mapping[str, Any]
    """The contents of `metrics.json`; empty before the training has ended."""

    @classmethod
    def read(cls, directory: Path) -> "State":
        """Return the state of the run in `directory`; raise `SettingError` if it is damaged."""
        return cls(directory, last_checkpoint(directory), read_metrics(directory))

    def is_trained(self, config: DictConfig) -> bool:
        """Return whether the training has ended; an experiment's evaluation may be missing."""
        # An early stop, or max_time, ends a training before its last epoch.
        asked = self.metrics.get("asked_epochs", inf)
        return "epochs" in self.metrics and asked >= config.trainer.max_epochs

    def is_done(self, config: DictConfig) -> bool:
        """Return whether nothing is left to do."""
        is_reported = config.published is None or "experiment" in self.metrics
        return self.is_trained(config) and is_reported

    def resumable(self) -> Stored:
        """Return `stored`; raise `SettingError` if another version of aecli wrote it, too."""
        found = self.stored()
        if found.version != __version__:
            raise SettingError(
                f"resume={shown(self.directory)}: was made by aecli {found.version}, and this is"
                f" {__version__}: resume it with that version, or train anew"
            )
        return found

    def stored(self) -> Stored:
        """Return the configuration that the run was started with.

        Raises `SettingError` if it cannot be read.
        """
        where = f"resume={shown(self.directory)}"
        if self.last is None and self.metrics:
            raise SettingError(f"{where}: its checkpoints/{LAST}.ckpt is missing")
        try:
            return stored(self.last) if self.last else stored_beside(self.directory)
        except SettingError as error:
            error.args = (str(error).replace("run=", "resume=", 1),)
            raise


def check_typed(
    config: DictConfig, stored: DictConfig, typed: Collection[str], directory: Path
) -> None:
    """Refuse typed settings that a resumed run cannot change; copy a new length into `stored`.

    A length that was typed before, and not reached, stays.
    """
    for key in sorted(set(typed) - GOES_WITH):
        raise SettingError(f"{key}: a resumed run keeps its settings; leave it out")
    before = stored.trainer.max_epochs
    if LENGTH in typed:
        epochs = check_int(LENGTH, config.trainer.max_epochs, 1)
    else:
        epochs = _length_beside(directory)
        if epochs <= before:
            return
    for setting in laid_out(stored):
        raise SettingError(
            f"{LENGTH}={epochs}: {setting} is laid out over {counted(before, 'epochs')}"
        )
    stored.trainer.max_epochs = epochs


def laid_out(config: DictConfig) -> list[str]:
    """Return the settings that are laid out over a training's length, by which it cannot grow."""
    keys = ("optimizer.schedule", "optimizer.warmup", "sparsity.k_start", "sparsity.warmup")
    values = {key: OmegaConf.select(config, key) for key in keys}
    constant = (None, 0, "constant", config.sparsity.get("k"))
    return [f"{key}={value}" for key, value in values.items() if value not in constant]


def _length_beside(directory: Path) -> int:
    """Return the epochs that a run's settings ask for; 0 if they do not say."""
    with suppress(SettingError, OSError):
        settings = read_yaml(directory / CONFIG)
        trainer = settings.get("trainer") if isinstance(settings, dict) else None
        epochs = trainer.get("max_epochs") if isinstance(trainer, dict) else None
        return epochs if type(epochs) is int else 0
    return 0


def go_on(directory: Path, epochs: int) -> None:
    """Write down how long a run is to become, before the first new weights replace its old ones.

    What was measured of the shorter training was measured on those, and goes.
    """
    _write_length(directory, epochs)
    (directory / METRICS).unlink(missing_ok=True)


def _write_length(directory: Path, epochs: int) -> None:
    path = directory / CONFIG  # read by `aecli compare`
    if _length_beside(directory) not in (0, epochs):
        written = OmegaConf.create(read_yaml(path))
        written.trainer.max_epochs = epochs
        files.write(path, OmegaConf.to_yaml(written))


def check_same(config: DictConfig, stored: DictConfig, directory: Path) -> None:
    """Refuse the checkpoint of another job in the directory of this job of a sweep.

    A run that was made longer since, by `resume=` of it alone, is none: it keeps its length.
    """
    config = config.copy()
    longer = max(stored.trainer.max_epochs, _length_beside(directory))
    if longer > config.trainer.max_epochs:
        config.trainer.max_epochs = stored.trainer.max_epochs = longer
        _write_length(directory, longer)  # Hydra has written that of the sweep
    for key in ("shape", "features", "target_shape"):  # found in the data since
        if key in config.dataset and config.dataset[key] is None:
            config.dataset[key] = stored.dataset[key]
    for part in PARTS:
        if _plain(config, part) != _plain(stored, part):
            raise SettingError(
                f"{shown(directory)}: holds a job with another {part}; hydra.sweep.subdir must"
                " give each job a directory of its own"
            )


def _plain(config: DictConfig, part: str) -> Any:
    value = config.get(part)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
