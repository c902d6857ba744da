"""`resume=`: what a run that was interrupted goes on with, and what it refuses."""

from collections.abc import Collection
from math import inf
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from aecli import __version__
from aecli.errors import SettingError, check_int
from aecli.runs.checkpoint import Stored, stored, stored_beside
from aecli.runs.metrics_file import read_metrics, write_text
from aecli.runs.paths import LAST, checkpoint_path, shown
from aecli.untrusted import read_yaml

LENGTH = "trainer.max_epochs"
PARTS = ("model", "network", "noise", "sparsity", "likelihood", "optimizer", "trainer", "seed")
"""What makes a job of a sweep what it is."""
GOES_WITH = {"resume", "output_dir", LENGTH}
"""Settings that may be typed with resume=…"""


def last_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint that a run goes on from; None if it has not come so far."""
    path = checkpoint_path(directory, LAST)
    return path if path.is_file() else None


def interrupted(directory: Path) -> Stored:
    """Return what the run in `directory` was made with.

    Raises `SettingError` if that cannot be read, or if another version of aecli made it.
    """
    last = last_checkpoint(directory)
    if last is None and read_metrics(directory):
        raise SettingError(f"resume={shown(directory)}: its checkpoints/{LAST}.ckpt is missing")
    try:
        found = stored(last) if last else stored_beside(directory)
    except SettingError as error:
        raise SettingError(str(error).replace("run=", "resume=", 1)) from error
    if found.version != __version__:
        raise SettingError(
            f"resume={shown(directory)}: was made by aecli {found.version}, and this is"
            f" {__version__}: go on with that one, or train anew"
        )
    return found


def check_typed(
    config: DictConfig, then: DictConfig, typed: Collection[str], directory: Path
) -> None:
    """Refuse settings that a run cannot change on its way; take a new length over into `then`."""
    for key in sorted(set(typed) - GOES_WITH):
        raise SettingError(f"{key}: a resumed run keeps its settings; leave it out")
    if LENGTH not in typed:
        return
    epochs, before = check_int(LENGTH, config.trainer.max_epochs, 1), then.trainer.max_epochs
    for key in ("optimizer.schedule", "optimizer.warmup", "sparsity.k_start"):
        value = OmegaConf.select(then, key)
        if value not in (None, 0, "constant", then.sparsity.get("k")):
            raise SettingError(f"{LENGTH}={epochs}: {key}={value} is laid out over {before} epochs")
    then.trainer.max_epochs = epochs
    path = directory / ".hydra" / "config.yaml"  # what `aecli compare` tells runs apart by
    told = OmegaConf.create(read_yaml(path))
    told.trainer.max_epochs = epochs
    write_text(path, OmegaConf.to_yaml(told))


def check_same(config: DictConfig, then: DictConfig, directory: Path) -> None:
    """Refuse to take another job's checkpoint for that of this job of a sweep."""
    for part in PARTS:
        ours, theirs = (
            OmegaConf.to_container(c, resolve=True).get(part)  # type: ignore[union-attr]
            for c in (config, then)
        )
        if ours != theirs:
            raise SettingError(
                f"{shown(directory)}: holds a job with another {part}; hydra.sweep.subdir must"
                " give each job a directory of its own"
            )


def is_trained(config: DictConfig, directory: Path) -> bool:
    """Tell whether a run's training is over; its own evaluation may still be missing."""
    # An early stop, or max_steps, ends a training before its last epoch.
    metrics = read_metrics(directory)  # its epochs are written at the end of the training
    return "epochs" in metrics and metrics.get("asked_epochs", inf) >= config.trainer.max_epochs


def is_done(config: DictConfig, directory: Path) -> bool:
    """Tell whether nothing is left to do for a run."""
    reported = config.published is None or "experiment" in read_metrics(directory)
    return is_trained(config, directory) and reported
