"""Train on an array of 10 GB: the memory it takes, and its rate over that of one in memory.

    python -m benchmarks.large_array FOLDER             # makes 10 GB there, and deletes them
    python -m benchmarks.large_array FOLDER --gb 40     # larger than the memory of most machines

Each training is a process of its own. Its memory is the most that it had at once, until the end of
its epoch, over what it had after the imports; pages of the file that it has mapped count. For the
rate, trainings that map a file of `--compared` GB and trainings that read the same file into memory
take turns: each needs that much memory, and the cache of files as much again.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import lightning.pytorch as pl
import numpy as np

from aecli.commands.train import train
from aecli.config import composed
from aecli.data import arrays

WIDTH = 512
"""Numbers in a row: 1 kB of float16."""
BLOCK = 1 << 15
"""Rows that are drawn; a file repeats them."""
STEPS, WARM_UP = 3000, 100
TURNS = 5


class Clock(pl.Callback):
    """Times the steps of an epoch after the first ones, by the wall and by the processor."""

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Note when the warm-up ends, and each step after it."""
        index = arguments[-1]
        if index == WARM_UP:
            self.start = time.perf_counter(), time.process_time()
        elif index > WARM_UP:
            now = time.perf_counter(), time.process_time()
            self.wall, self.cpu = (end - start for end, start in zip(now, self.start, strict=True))


def memory(what: str) -> int:
    """Return bytes of this process: VmRSS, what it has, or VmHWM, the most that it had."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, "needs Linux"
    return int(found[1]) * 1024


def trained(file: str, in_memory: bool) -> dict[str, float]:
    """Train for an epoch of `STEPS` steps in this process; return what it took."""
    imported, clock = memory("VmRSS"), Clock()
    settings = [
        *("model=vae", "dataset=array", f"dataset.file={file}", "dataset.validation_size=10000"),
        *("pictures_every=0", "trainer.max_epochs=1", f"trainer.limit_train_batches={STEPS}"),
    ]
    limit = 1 << 60 if in_memory else arrays.IN_MEMORY
    with patch.object(arrays, "IN_MEMORY", limit), tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        choices = {"model": "vae", "dataset": "array"}
        train(composed("train", *settings), Path(folder), choices, callbacks=[clock])
        whole = time.perf_counter() - start
    steps = STEPS - WARM_UP - 1
    return {
        "memory": memory("VmHWM") - imported,
        "wall": clock.wall / steps,
        "cpu": clock.cpu / steps,
        "start": whole - clock.wall,
    }


def in_a_process(file: Path, in_memory: bool = False) -> dict[str, float]:
    """Return what `trained` returns in a new process."""
    words = [sys.executable, "-m", "benchmarks.large_array", "--train", str(file)]
    words += ["--in-memory"] * in_memory
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def make(file: Path, size: float) -> None:
    """Write an array of `size` bytes, a block of rows again and again."""
    rows = int(size) // (2 * WIDTH)
    block = np.random.default_rng(0).standard_normal((BLOCK, WIDTH)).astype(np.float16)
    with file.open("wb") as out:
        header = {"descr": block.dtype.str, "fortran_order": False, "shape": (rows, WIDTH)}
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, rows, BLOCK):
            out.write(memoryview(block[: rows - start]).cast("B"))


def compare(folder: Path, size: float, compared: float) -> None:
    """Print the memory of a training on an array of `size` bytes, and its rate."""
    file = folder / "large_array.npy"
    say = sys.stdout.write
    try:
        make(file, size)
        large = in_a_process(file)
        say(f"{size / 1e9:.3g} GB, mapped: {large['memory'] / 1e9:.2f} GB over the imports,")
        say(f" {1 / large['wall']:.0f} steps a second, {large['start']:.0f} s before and after\n")
        make(file, compared)
        ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
        for turn in range(1, TURNS + 1):
            say(f"{compared / 1e9:.3g} GB, turn {turn}:")
            mapped, read = (in_a_process(file, own) for own in (False, True))
            for name, one in (("mapped", mapped), ("in memory", read)):
                say(f" {name} {one['memory'] / 1e9:.2f} GB, {1 / one['wall']:.0f} steps a second;")
            for clock, found in ratios.items():
                found.append(read[clock] / mapped[clock])
            say(_ratios(ratios))
    finally:
        file.unlink(missing_ok=True)


def _ratios(ratios: dict[str, list[float]]) -> str:
    """Return a line with the medians so far."""
    wall, cpu = (median(found) for found in ratios.values())
    return f" medians: rate {wall:.2f}, by the processor's time {cpu:.2f}\n"


def main() -> None:
    """Run what is typed."""
    parser = argparse.ArgumentParser(prog="benchmarks.large_array")
    parser.add_argument("folder", nargs="?", type=Path, help="where the file is made")
    parser.add_argument("--gb", type=float, default=10, help="of the array (10)")
    parser.add_argument("--compared", type=float, default=3, help="of that for the rate (3)")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--in-memory", action="store_true", help=argparse.SUPPRESS)
    typed = parser.parse_args()
    if typed.train:
        result = trained(typed.train, typed.in_memory)
        os.write(1, json.dumps(result).encode() + b"\n")
    elif typed.folder is None:
        parser.error("the folder where the file is made is needed")
    else:
        compare(typed.folder, typed.gb * 1e9, typed.compared * 1e9)


if __name__ == "__main__":
    main()
