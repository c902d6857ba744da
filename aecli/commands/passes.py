"""The examples that a command takes through a run's model: new ones, or those of its splits."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig
from torch import Tensor

from aecli.commands.places import refuse_read
from aecli.data import Batch, DataModule
from aecli.errors import SettingError, check_int
from aecli.runs.find import find_one
from aecli.runs.load import Loaded, check_places, load
from aecli.runs.paths import PLACES, files_of, shown

log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """A batch, and how a user finds its examples again."""

    batch: Batch
    columns: dict[str, np.ndarray | str]
    """`id` `(B,)`, the `split` that all share and, where the examples have one, `label` `(B,)`."""


class Pass:
    """The examples of some splits, a batch at a time, each split in its own order."""

    def __init__(self, data: DataModule, names: list[str], batch_size: int) -> None:
        self.data, self.names, self.batch_size = data, names, batch_size
        self.count = sum(len(data.splits[name]) for name in names)
        """Examples in all."""

    def __len__(self) -> int:
        return sum(len(self.data.batches(name, self.batch_size)) for name in self.names)

    def __iter__(self) -> Iterator[Piece]:
        for name in self.names:
            split, start = self.data.splits[name], 0
            for batch in self.data.batches(name, self.batch_size):
                end = start + len(batch.x)
                ids = split.examples.ids[split.rows[start:end].numpy(force=True)]
                columns: dict[str, np.ndarray | str] = {"id": ids, "split": name}
                if self.data.is_labelled:
                    columns["label"] = self._labels(batch.label)
                start = end
                yield Piece(batch, columns)

    def _labels(self, labels: Tensor) -> np.ndarray:
        """Return the names of the classes, or the numbers where these have none."""
        names = self.data.class_names
        numbers = labels.numpy(force=True)
        return np.array(names, object)[numbers] if names else numbers


def opened(config: DictConfig, out: Path, device: str | None = None) -> Loaded:
    """Return the one run that `run=` means; refuse to write over what it was trained on.

    It is on `device` or, if that is None, on `config.device`.
    """
    run = find_one(config.run, config.output_dir)
    log.info("with %s", shown(run.checkpoint))
    loaded = load(run, device or config.device)
    own = loaded.config.dataset
    if not is_known(own):
        refuse_read(out, list(files_of(own).values()))
    return loaded


def say_written(out: Path, pieces: Pass) -> None:
    """Print what was written; of rows of several splits without their ids, in which order."""
    order = ""
    if out.suffix == ".npy" and len(pieces.names) > 1:
        order = f" (rows of {', then '.join(pieces.names)}; an .npz has their ids, too)"
    log.info("written: %s%s", shown(out), order)


def is_known(dataset: DictConfig) -> bool:
    """Return whether a data set is one that all know, such as MNIST, and not a user's own."""
    return "source" in dataset and str(dataset.source.get("_target_")).startswith("aecli.")


def examples(loaded: Loaded, config: DictConfig) -> Pass:
    """Return the new examples that `dataset.…` names; without it those of the run's own splits.

    Raises `SettingError` for a setting that the run's data set does not have, and for examples
    that do not go with its data card.
    """
    size = check_int("batch_size", config.batch_size, 1)
    typed, own = check_places(loaded.config, config.dataset), loaded.config.dataset
    if "targets" not in config.dataset:  # of a command that has no use for them
        loaded = loaded.without_targets()
    if not typed:
        return Pass(loaded.data, list(loaded.data.splits), size)
    if is_known(own):
        own.root = typed["root"]
        return Pass(loaded.data, list(loaded.data.splits), size)
    places = [key for key in PLACES if key in own and key != "targets"]
    if not any(key in typed for key in places):
        key, value = next(iter(typed.items()))
        place = " or ".join(f"dataset.{key}=…" for key in places)
        raise SettingError(f"dataset.{key}={value}: is of new data; add {place}")
    data = loaded.new_data(**typed)
    if data.understood:
        log.info(data.understood)
    return Pass(data, list(data.splits), size)
