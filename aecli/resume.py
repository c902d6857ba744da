"""`resume=`: what a run that was interrupted goes on with, and what it refuses."""

from collections.abc import Collection
from math import inf
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from aecli import __version__
from aecli.directories import shown
from aecli.errors import SettingError
from aecli.runs import LAST, Stored, read_metrics, stored, stored_beside

LENGTH = "trainer.max_epochs"
GOES_WITH = {"resume", "output_dir", LENGTH}
"""Settings that may be typed with resume=…"""


def last_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint that a run goes on from; None if it has not come so far."""
    path = directory / "checkpoints" / f"{LAST}.ckpt"
    return path if path.is_file() else None


def interrupted(directory: Path) -> Stored:
    """Return what the run in `directory` was made with.

    Raises `SettingError` if that cannot be read, or if another version of aecli made it.
    """
    last = last_checkpoint(directory)
    found = stored(last) if last else stored_beside(directory)
    if found.version != __version__:
        raise SettingError(
            f"resume={shown(directory)}: was made by aecli {found.version}, and this is"
            f" {__version__}: go on with that one, or train anew"
        )
    return found


def check_typed(config: DictConfig, then: DictConfig, typed: Collection[str]) -> None:
    """Refuse settings that a run cannot change on its way; take a new length over into `then`."""
    for key in sorted(set(typed) - GOES_WITH):
        raise SettingError(f"{key}: a resumed run keeps its settings; leave it out")
    if LENGTH not in typed:
        return
    epochs, before = config.trainer.max_epochs, then.trainer.max_epochs
    for key in ("optimizer.schedule", "optimizer.warmup", "sparsity.k_start"):
        value = OmegaConf.select(then, key)
        if value not in (None, 0, "constant", then.sparsity.get("k")):
            raise SettingError(f"{LENGTH}={epochs}: {key}={value} is laid out over {before} epochs")
    then.trainer.max_epochs = epochs


def is_trained(config: DictConfig, directory: Path) -> bool:
    """Tell whether a run's training is over; its own evaluation may still be missing."""
    # An early stop, or max_steps, ends a training before its last epoch.
    metrics = read_metrics(directory)  # its epochs are written at the end of the training
    return "epochs" in metrics and metrics.get("asked_epochs", inf) >= config.trainer.max_epochs


def is_done(config: DictConfig, directory: Path) -> bool:
    """Tell whether nothing is left to do for a run."""
    reported = config.published is None or "experiment" in read_metrics(directory)
    return is_trained(config, directory) and reported
