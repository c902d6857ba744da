"""What the checksum in a checkpoint costs."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

from aecli.commands.train import train
from aecli.config import composed
from aecli.runs import archive, checkpoint
from aecli.runs.archive import CHECKSUM, load_archive
from aecli.runs.find import Run
from aecli.runs.load import load
from aecli.runs.paths import LAST, checkpoint_path

LARGE = ("model=ae", "network.hidden=[2500,2500]", "trainer.max_epochs=1", "pictures_every=0")
"""A run whose checkpoint has 156 MB: 13 million weights, and Adam's two moments of each."""
TURNS = 7


def saving() -> float:
    """Return the time of saving a checkpoint of 156 MB over that without its checksum."""

    def save(path: Path, contents: dict[str, object]) -> None:
        checkpoint.AtomicCheckpointIO().save_checkpoint(contents, path)

    return _ratio(save, checkpoint)


def loading() -> float:
    """Return the time of loading a run of 156 MB over that without verifying its checksum."""
    return _ratio(lambda path, contents: load(Run(path.parent.parent, path)), archive)


def _ratio(work: Callable[[Path, dict[str, object]], object], module: object) -> float:
    """Return the median time of `work` over that with the module's checksum known in advance."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        choices = {"model": "ae", "dataset": "digits"}
        train(composed("train", *LARGE), Path(folder), choices)
        path = checkpoint_path(Path(folder), LAST)
        contents = load_archive(path)
        known = torch.load(path, weights_only=True)[CHECKSUM]
        for _ in range(TURNS):
            start = time.perf_counter()
            work(path, contents)
            middle = time.perf_counter()
            with patch.object(module, "checksum", lambda *_: known):
                work(path, contents)
            ratios.append((middle - start) / (time.perf_counter() - middle))
    return median(ratios)
