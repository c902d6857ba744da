"""What data of one's own costs: MNIST as 70,000 PNG files beside dataset=mnist.

The files and the cache of their pixels lie in a temporary folder as long as this process lives.
"""

import atexit
import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from joblib import Parallel, delayed
from PIL import Image

from aecli.build import build
from aecli.commands.evaluate import evaluate
from aecli.commands.train import train
from aecli.config import composed
from aecli.data import DataModule
from aecli.data.images import ImageFolder
from aecli.data.picture_cache import decoded
from aecli.data.picture_files import find as find_pictures
from aecli.runs.find import find
from benchmarks import pillow

AT_ONCE = 256
"""Pictures that a process of plain Pillow decodes before it takes more; aecli takes as many."""
ALIKE = ("model=vae", "network=mlp", "likelihood=bernoulli", "dataset.validation_size=5000")
EPOCHS = 20
"""Of the trainings whose test ELBO is compared."""


@cache
def folder() -> Path:
    """Return a temporary folder with `png/{train,test}/LABEL/NUMBER.png`."""
    atexit.register(shutil.rmtree, made := Path(tempfile.mkdtemp()))
    data: DataModule = build(composed("train", "dataset=mnist"), "dataset")
    records = data.source.read(data.root, None)
    assert records.labels is not None, "MNIST has labels"
    for split, rows in records.splits.items():
        for label in range(10):
            (made / "png" / split / str(label)).mkdir(parents=True)
        for row in rows.tolist():
            path = made / "png" / split / str(int(records.labels[row])) / f"{row:05}.png"
            Image.fromarray(records.data[row, 0].numpy()).save(path)
    return made


def set_up(*words: str) -> tuple[DataModule, float]:
    """Return a data set that is set up, and the seconds that it took."""
    data: DataModule = build(composed("train", *ALIKE, *words), "dataset")
    place = folder() / "cache"
    start = time.perf_counter()
    with patch("aecli.data.picture_cache.data_root", lambda root: place):
        data.setup()
    return data, time.perf_counter() - start


def images() -> tuple[DataModule, float]:
    """Return `set_up` of the PNG files."""
    return set_up("dataset=images", f"dataset.root={folder() / 'png'}")


def decoding_over_pillow() -> float:
    """Return the rate of the first decoding, written to the cache, over that of Pillow alone.

    Pillow alone: each file to an array, which is thrown away, in processes or in threads, whichever
    is faster. Both know the files, and start their own processes.
    """
    pictures = find_pictures(folder() / "png")
    paths = [f"{pictures.root}/{name}" for name in pictures.names]
    parts = [paths[first : first + AT_ONCE] for first in range(0, len(paths), AT_ONCE)]
    _pillow(parts, "threading")  # the files are in the system's cache
    alone = min(_pillow(parts, backend) for backend in ("loky", "threading"))
    place = folder() / "first"
    start = time.perf_counter()
    with patch("aecli.data.picture_cache.data_root", lambda root: place):
        decoded(pictures, ImageFolder().reading(None))
    own = time.perf_counter() - start
    end_processes()
    shutil.rmtree(place)
    return alone / own


def _pillow(parts: Sequence[Sequence[str]], backend: str) -> float:
    """Return the seconds of Pillow alone."""
    parallel = Parallel(-1, backend, batch_size=1)
    start = time.perf_counter()
    sum(parallel(delayed(pillow.decoded)(part) for part in parts))
    seconds = time.perf_counter() - start
    end_processes()
    return seconds


def end_processes() -> None:
    """End joblib's processes, which wait for more."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)


def start_up_over_mnist() -> float:
    """Return the seconds from the files to the first batch, less those of dataset=mnist."""
    images()  # decoded
    return images()[1] - set_up("dataset=mnist")[1]


def epoch_over_mnist() -> float:
    """Return the time of a training epoch on the files, decoded before, over dataset=mnist's.

    The two take turns, batch by batch, with copies of the same model.
    """
    config = composed("train", *ALIKE, "dataset=mnist")
    model = build(config, "model").train()
    steps = [
        _steps(copy.deepcopy(model), data) for data in (images()[0], set_up("dataset=mnist")[0])
    ]
    seconds = np.zeros(2)
    going = True
    while going:
        for which, step in enumerate(steps):
            start = time.perf_counter()
            going = step()
            seconds[which] += time.perf_counter() - start
    return float(seconds[0] / seconds[1])


def _steps(model: torch.nn.Module, data: DataModule) -> Callable[[], bool]:
    """Return a function that does the next step of an epoch, and tells whether there was one."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    batches = iter(data.train_dataloader())

    def step() -> bool:
        batch = next(batches, None)
        if batch is None:
            return False
        optimizer.zero_grad()
        model.terms(batch.x).loss.backward()
        optimizer.step()
        return True

    return step


def elbo_difference() -> float:
    """Return how far apart, in nats, the test ELBOs are of trainings on the files and on MNIST."""
    images()
    png = f"dataset.root={folder() / 'png'}"
    return abs(_elbo("dataset=images", png) - _elbo("dataset=mnist"))


def _elbo(*words: str) -> float:
    config = composed("train", *ALIKE, *words, f"trainer.max_epochs={EPOCHS}", "pictures_every=0")
    cheap = composed("eval", "eval.protocol=none", "eval.pictures=false").eval
    cheap.importance_samples = 0
    place = folder() / "cache"
    with (
        tempfile.TemporaryDirectory() as directory,
        patch("aecli.data.picture_cache.data_root", lambda root: place),
    ):
        choices = {"model": "vae", "dataset": words[0].partition("=")[2]}
        train(config, Path(directory), choices)
        (run,) = find(directory)
        return evaluate(run, cheap, seed=0)["elbo"]
