"""Time aecli's training against a hand-written loop.

    python -m benchmarks.throughput             # all rows
    python -m benchmarks.throughput vae         # those with this in their name

A training is held against a bare loop, in turns in one process: an epoch of the bare loop, then
one of `aecli train` with all that a user gets (progress bar, TensorBoard, checkpoints), its
validation timed apart. See benchmarks/README.md.
"""

import argparse
import copy
import json
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import lightning.pytorch as pl
import matplotlib
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from aecli import __version__, progress
from aecli.config import composed
from aecli.train import train
from benchmarks import bare, evaluation, processes, scaling

OUTPUTS = Path("outputs") / "throughput"
OVER_BARE = "× bare"
LONG = 1000
"""Epochs asked for, of which a few are run: trainer=fast compiles for long trainings only."""


class Row(NamedTuple):
    """A comparison with the bare loop."""

    name: str
    settings: tuple[str, ...]
    loss: Callable[[nn.Module, nn.Module, Tensor], Tensor]
    goal: float
    same: float = 1e-4
    """Largest relative difference between the losses of the two after the first epoch."""


class Measurement(NamedTuple):
    """Anything else, measured a few times."""

    name: str
    measure: Callable[[], float]
    unit: str
    goal: float
    repeats: int = 5
    at_least: bool = False


ROWS = [
    Row("vae", ("model=vae",), bare.vae, 1.05),
    Row("vae, trainer=fast", ("model=vae", "trainer=fast"), bare.vae, 0.75, same=1e-2),
    Row("ae", ("model=ae",), bare.ae, 1.10),
    Row("dae", ("model=dae",), bare.dae, 1.10),
    Row("sparse_ae", ("model=sparse_ae",), bare.sparse_ae, 1.10),
    Row("ksparse_ae", ("model=ksparse_ae", "sparsity.k_start=25"), bare.ksparse_ae, 1.10),
]


MEASUREMENTS = [
    Measurement("aecli alone", processes.bare_command, "s", 0.3),
    Measurement("aecli train --help", processes.help_command, "CPU s", 1.0),
    Measurement("a wrong option", processes.wrong_option, "CPU s", 1.0),
    Measurement("start-up over importing Lightning", processes.start_up, "ratio", 1.25),
    Measurement("memory over importing torch and Lightning", processes.memory, "MB", 150),
    Measurement(
        "-log p(x), rate over that of the matrix products",
        evaluation.importance_sampling,
        "%",
        70,
        at_least=True,
    ),
    Measurement("an image of 600,000 over one of 6,000", scaling.per_image, "ratio", 1.1, 3),
]


class Pairs(pl.Callback):
    """Runs an epoch of the bare loop before each epoch of the training, and times both."""

    def __init__(self, loss: Callable[[nn.Module, nn.Module, Tensor], Tensor], pairs: int) -> None:
        self.loss, self.pairs = loss, pairs
        self.seconds: list[tuple[float, float]] = []
        self.losses: list[tuple[float, float]] = []
        self.bare: bare.Bare | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the last epoch's clock; run the bare epoch; open a new clock."""
        self._close(trainer)
        data = trainer.datamodule
        if self.bare is None:
            encoder, decoder = copy.deepcopy(nn.ModuleList([pl_module.encoder, pl_module.decoder]))
            pixels, _, maximum = data.splits["train"].images
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            dynamic = data.binarize == "dynamic"
            images = pixels / maximum
            self.bare = bare.Bare(
                self.loss, encoder, decoder, images, data.batch_size, rate, dynamic
            )
        seed = data._epoch_seed()
        with torch.random.fork_rng():  # the same random numbers for both
            start = time.perf_counter()
            self.bare_loss = self.bare.epoch(seed)
            self.bare_seconds = time.perf_counter() - start
        self.start, self.validation = time.perf_counter(), 0.0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self.paused = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let it go on."""
        self.validation += time.perf_counter() - self.paused

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after the last pair."""
        trainer.should_stop = trainer.current_epoch + 1 == self.pairs

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the last epoch's clock."""
        self._close(trainer)

    def _close(self, trainer: pl.Trainer) -> None:
        if self.bare is not None:
            seconds = time.perf_counter() - self.start - self.validation
            self.seconds.append((self.bare_seconds, seconds))
            self.losses.append((self.bare_loss, float(trainer.callback_metrics["train/loss"])))


def main() -> None:
    """Run what the command line asks for; print, write and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="?", default="", help="part of the rows' names")
    parser.add_argument("--pairs", type=int, default=7, help="pairs of epochs beside the first (7)")
    parser.add_argument("--output", type=Path, default=OUTPUTS, help=f"folder ({OUTPUTS})")
    asked = parser.parse_args()
    progress.is_terminal = lambda: True  # the bar is on, wherever this is run
    logging.getLogger().setLevel(logging.ERROR)
    results = [measure(row, asked.pairs) for row in ROWS if asked.name in row.name]
    results += [repeat(wanted) for wanted in MEASUREMENTS if asked.name in wanted.name]
    if not results:
        parser.error(f"no row has {asked.name!r} in its name")
    asked.output.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "rows": results}
    (asked.output / "throughput.json").write_text(json.dumps(report, indent=2) + "\n")
    if ratios := [result for result in results if result["unit"] == OVER_BARE]:
        draw(ratios, asked.output / "throughput.png")
    show(results)


def measure(row: Row, pairs: int) -> dict[str, Any]:
    """Return a row's ratios: the median, and the quartiles as their spread."""
    print(f"{row.name} …", file=sys.stderr)  # noqa: T201
    both = Pairs(row.loss, pairs + 1)
    settings = [*row.settings, "dataset=mnist", f"trainer.max_epochs={LONG}"]
    choices = {"model": row.name, "dataset": "mnist"}
    with tempfile.TemporaryDirectory() as folder:
        train(composed("train", *settings), Path(folder), choices, callbacks=[both])
    bare_loss, loss = both.losses[0]
    if abs(loss / bare_loss - 1) > row.same:
        sys.exit(f"{row.name}: the loops differ: {bare_loss} and {loss} after one epoch")
    # The first epoch warms caches up.
    steady = both.seconds[1:]
    ratios = [seconds / bare_seconds for bare_seconds, seconds in steady]
    return summary(row.name, ratios, OVER_BARE, row.goal) | {
        "settings": settings,
        "bare_seconds": median(seconds for seconds, _ in steady),
        "pairs": steady,
        "loss_difference": abs(loss / bare_loss - 1),
    }


def repeat(wanted: Measurement) -> dict[str, Any]:
    """Return the median of a few measurements."""
    print(f"{wanted.name} …", file=sys.stderr)  # noqa: T201
    values = [wanted.measure() for _ in range(wanted.repeats)]
    return summary(wanted.name, values, wanted.unit, wanted.goal, wanted.at_least)


def summary(
    name: str, values: Sequence[float], unit: str, goal: float, at_least: bool = False
) -> dict[str, Any]:
    """Return the median, the quartiles as the spread, and the goal."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    reached = middle >= goal if at_least else middle <= goal
    told = f"{'≥' if at_least else '≤'} {goal:g}: {'reached' if reached else 'missed'}"
    spread = {"quartiles": [low, high], "unit": unit}
    return {"name": name, "value": middle, **spread, "limit": goal, "goal": told}


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": pl.__version__,
        "aecli": __version__,
        "date": date.today().isoformat(),
    }


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def show(results: Sequence[Mapping[str, Any]]) -> None:
    """Print the table."""
    table = Table("row", "median", "quartiles", "unit", "goal")
    for r in results:
        low, high = r["quartiles"]
        table.add_row(
            r["name"],
            f"{r['value']:.3g}",
            f"{low:.3g} to {high:.3g}",
            r["unit"],
            r["goal"],
        )
    Console().print(table)


def draw(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the ratios as bars, the goals as ticks."""
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.5 * len(results) + 1.2), layout="constrained")
    names = [r["name"] for r in results]
    spread = [
        [r["value"] - r["quartiles"][0] for r in results],
        [r["quartiles"][1] - r["value"] for r in results],
    ]
    axes.barh(names, [r["value"] for r in results], xerr=spread, color="#4878a8")
    axes.plot([r["limit"] for r in results], names, "|", color="black", markersize=18, label="goal")
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_xlabel("time of a training epoch over that of the bare loop")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
