"""What `aecli encode` costs over the network's forward pass that it cannot do without."""

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from aecli.commands.encode import main
from aecli.commands.train import train
from aecli.config import composed
from aecli.runs.find import find
from aecli.runs.load import load

ROWS, FEATURES = 1_000_000, 784
TURNS = 3
CHOICES = {"model": "vae", "dataset": "array"}


def parquet() -> float:
    """Return the time of `aecli encode` into a Parquet file over that of the forward pass alone.

    Of a million rows of 784 bytes in an `.npy`, as many as MNIST's pixels, by the network of
    `model=vae`, from after the imports to the renamed file: reading, scaling, ids are in it. The
    forward pass is `model.encode` on as many batches of the same size, made before. The two take
    turns.
    """
    with tempfile.TemporaryDirectory() as folder:
        return median(_turns(Path(folder)))


@torch.inference_mode(False)
def _turns(folder: Path) -> list[float]:
    file = folder / "x.npy"
    rows = np.random.default_rng(0).integers(0, 256, size=(ROWS, FEATURES), dtype=np.uint8)
    np.save(file, rows)
    np.save(folder / "few.npy", rows[:1000])
    words = ("model=vae", "dataset=array", f"dataset.file={folder}/few.npy", "pictures_every=0")
    train(composed("train", *words, "trainer.max_epochs=1"), folder / "run", CHOICES)
    place = (f"run={folder}/run", f"dataset.file={file}", f"out={folder}/codes.parquet")
    config = composed("encode", *place, "overwrite=true", "device=cpu")
    model = load(*find(config.run), device="cpu").model
    batches = torch.randn(20, config.batch_size, FEATURES)
    ratios = []
    for _ in range(TURNS):
        start = time.perf_counter()
        main(config)
        middle = time.perf_counter()
        with torch.inference_mode():
            for number in range(ROWS // config.batch_size):
                model.encode(batches[number % len(batches)])
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return ratios
