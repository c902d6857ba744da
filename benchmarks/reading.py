"""What reading activations from the disk costs: 10 GB of shards, page cache cold and warm.

    python -m benchmarks.reading FOLDER                 # makes 10 GB there, and deletes them
    python -m benchmarks.reading FOLDER --step 2.5      # seconds of the step that waits for a batch

Rows of 576 float16 in shards of 75 MB, batches of 4096, as `dataset=activations` makes them. In the
place of a training step are products of 256 of the rows with the encoder of a sparse dictionary of
65,536 latents, again and again until `--step` seconds are over; 2.5 s is what the whole batch takes
on two cores, and a step takes longer than this product alone. Reported is the share of the time in
which a step waits for its batch, and what the reading thread takes of the processors: the seconds
of a product over those before anything was read.

Cold: the cache of files is emptied of the shards before (POSIX_FADV_DONTNEED). The memory is the
most that the process had while it read, over what it had before.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from aecli.data import ActivationData
from benchmarks.large_array import memory

WIDTH, ROWS, BATCH, LATENTS = 576, 65_536, 4096, 65_536
CHUNK = 256
"""Rows of a product."""


def make(folder: Path, size: float) -> None:
    """Write shards of random rows, `size` bytes in all; each has rows of its own."""
    generator = np.random.default_rng(0)
    block = generator.standard_normal((ROWS, WIDTH), np.float32).astype(np.float16)
    for number in range(round(size / block.nbytes)):
        np.save(folder / f"{number:04}.npy", np.roll(block, number, axis=1))
    os.sync()


def forget(folder: Path) -> None:
    """Let the system forget what it has of the shards in its cache."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Step:
    """The work of a step: products of 256 rows with an encoder's matrix, for some seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.weight = torch.randn(WIDTH, LATENTS)
        self.out = torch.empty(CHUNK, LATENTS)

    def __call__(self, x: torch.Tensor) -> float:
        """Take a step; return the seconds of one product."""
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < self.seconds:
            at = count * CHUNK % (len(x) - CHUNK + 1)
            torch.mm(x[at : at + CHUNK], self.weight, out=self.out)
            count += 1
        return (time.perf_counter() - start) / count


def passed(data: ActivationData, step: Step, steps: int, seed: int) -> tuple[float, float, float]:
    """Take some steps of a pass.

    Return the share of the time that they wait for batches, the seconds until the first of these,
    and the median seconds of a product.
    """
    batches = iter(data.shuffled("train", BATCH, lambda: seed))
    waited, products = [], []
    start = time.perf_counter()
    for _ in range(steps):
        before = time.perf_counter()
        x = next(batches).x
        waited.append(time.perf_counter() - before)
        products.append(step(x))
    whole = time.perf_counter() - start
    return sum(waited) / whole, waited[0], median(products)


def main() -> None:
    """Run what is typed."""
    parser = argparse.ArgumentParser(prog="benchmarks.reading")
    parser.add_argument("folder", type=Path, help="where the shards are made")
    parser.add_argument("--gb", type=float, default=10, help="of the shards (10)")
    parser.add_argument("--step", type=float, default=2.5, help="seconds of a step (2.5)")
    parser.add_argument("--steps", type=int, default=60, help="of each pass (60)")
    typed = parser.parse_args()
    say = sys.stdout.write
    with tempfile.TemporaryDirectory(dir=typed.folder, prefix="reading-") as name:
        folder = Path(name)
        make(folder, typed.gb * 1e9)
        forget(folder)
        start = time.perf_counter()
        data = ActivationData(
            str(folder / "*.npy"), shape=None, batch_size=BATCH, validation_size=None
        )
        data.setup("fit")
        say(f"{data.understood}\nopened in {time.perf_counter() - start:.2f} s, cold\n")
        step = Step(typed.step)
        held = next(iter(data.batches("train"))).x
        alone = median(step(held) for _ in range(5))
        for number, kind in enumerate(("cold", "warm")):
            if kind == "cold":
                forget(folder)
            else:
                read_all(folder)
            before = memory("VmRSS")
            share, first, product = passed(data, step, typed.steps, number)
            most = memory("VmHWM") - before
            say(
                f"{kind}: waits {share:.2%} of {typed.steps} steps of {typed.step:g} s, the first"
                f" one {first:.2f} s; a product takes {product / alone:.3f} of its time alone; at"
                f" most {most / 1e6:.0f} MB more memory\n"
            )


def read_all(folder: Path) -> None:
    """Bring the shards into the cache of files."""
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


if __name__ == "__main__":
    main()
