"""Time aecli's training against a hand-written loop.

    python -m benchmarks.throughput             # all rows
    python -m benchmarks.throughput vae         # those with this in their name

A training is held against a bare loop, in turns in one process: a step of the bare loop, then one
of `aecli train` with all that a user gets (progress bar, TensorBoard, checkpoints), its validation
timed apart. See benchmarks/README.md.
"""

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import date
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple, Protocol

import lightning.pytorch as pl
import matplotlib
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from aecli import __version__, progress
from aecli.commands.train import train
from aecli.config import composed
from aecli.data import Batch, DataModule
from aecli.machine import processor
from benchmarks import (
    bare,
    beside,
    checkpoints,
    encoding,
    evaluation,
    others,
    own_data,
    processes,
    scaling,
    several,
)

OUTPUTS = Path("outputs") / "throughput"
LONG = 1000
"""Epochs asked for, of which a few are run: trainer=fast compiles for long trainings only."""


class Loop(Protocol):
    """Somebody's training loop."""

    def epoch(self, seed: int) -> Generator[None, None, float]:
        """Train for an epoch, pausing after each step if it can; return its mean loss."""


class Row(NamedTuple):
    """A comparison with another loop."""

    name: str
    settings: tuple[str, ...]
    loop: Callable[[pl.LightningModule, DataModule], Loop]
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


def over_bare(
    name: str,
    loss: Callable[[nn.Module, nn.Module, Tensor], Tensor],
    goal: float,
    *settings: str,
    same: float = 1e-4,
) -> Row:
    """Return the comparison of a model with the hand-written loop for its loss."""
    return Row(f"{name} over the bare loop", settings, partial(bare.Bare, loss), goal, same)


GREY = ("model=vae", "dataset.binarize=none", "likelihood=cross_entropy")

CONV = (*GREY, "network=conv")
PHOTOS = "photos.npy"
"""Stands for a file of `bare.photos`, made for a row; other rows are of MNIST."""
COLOUR = (*CONV, "dataset=array", f"dataset.file={PHOTOS}")
FAST = "trainer=fast"

ROWS = [
    over_bare("vae", bare.vae, 0.95, "model=vae"),
    over_bare("vae, grey values,", bare.vae, 0.95, *GREY),
    over_bare("vae, trainer=fast,", bare.vae, 0.5, "model=vae", FAST, same=1e-2),
    over_bare("ae", bare.ae, 0.95, "model=ae"),
    over_bare("dae", bare.dae, 0.95, "model=dae"),
    over_bare("sparse_ae", bare.sparse_ae, 0.95, "model=sparse_ae"),
    over_bare("ksparse_ae", bare.ksparse_ae, 0.95, "model=ksparse_ae", "sparsity.k_start=25"),
    over_bare("vae, convolutions,", bare.vae, 1.03, *CONV),
    over_bare("vae, convolutions, trainer=fast,", bare.vae, 0.6, *CONV, FAST, same=1e-2),
    over_bare("vae, convolutions, 3 × 64 × 64,", bare.vae, 1.03, *COLOUR),
    over_bare(
        "vae, convolutions, 3 × 64 × 64, trainer=fast,", bare.vae, 0.6, *COLOUR, FAST, same=1e-2
    ),
]

OTHERS = [
    Row("vae, grey values, over pythae 0.1.2", GREY, others.Pythae, 0.65, same=2e-2),
    Row("vae, grey values, over plain Lightning", GREY, others.PlainLightning, 1.0, same=2e-2),
]
"""Their order of images and random numbers are their own; with the extra `benchmark`."""


MEASUREMENTS = [
    Measurement("aecli alone", processes.bare_command, "s", 0.3),
    Measurement("aecli train --help", processes.help_command, "CPU s", 0.35),
    Measurement("a wrong option", processes.wrong_option, "CPU s", 1.0),
    Measurement("start-up over importing Lightning", processes.start_up, "ratio", 0.9),
    Measurement("memory over importing torch and Lightning", processes.memory, "MB", 150),
    Measurement(
        "-log p(x), rate over that of the matrix products",
        evaluation.importance_sampling,
        "%",
        85,
        at_least=True,
    ),
    Measurement(
        "decoding 70,000 PNG files, rate over that of Pillow alone",
        own_data.decoding_over_pillow,
        "ratio",
        0.8,
        at_least=True,
    ),
    Measurement(
        "an epoch on 70,000 PNG files over dataset=mnist", own_data.epoch_over_mnist, "ratio", 1.05
    ),
    Measurement(
        "starting on 70,000 PNG files, less dataset=mnist", own_data.start_up_over_mnist, "s", 1
    ),
    Measurement(
        "test ELBO on PNG files, less dataset=mnist", own_data.elbo_difference, "nats", 0.5, 2
    ),
    Measurement(
        "a million codes in a Parquet file over the forward pass", encoding.parquet, "ratio", 1.3, 2
    ),
    Measurement("an image of 600,000 over one of 6,000", scaling.per_image, "ratio", 1.1, 3),
    Measurement("saving a checkpoint over without its checksum", checkpoints.saving, "ratio", 1.03),
    Measurement(
        "loading a checkpoint over without its checksum", checkpoints.loading, "ratio", 1.03
    ),
    Measurement("aecli compare of 1,000 runs", several.compare, "s", 1, 3),
    Measurement(
        "two trainings at once, the sum of their rates over one alone",
        beside.sum_of_two_over_one,
        "ratio",
        1.3,
        3,
        at_least=True,
    ),
    Measurement(
        "a training beside a busy core over alone",
        beside.beside_a_busy_core_over_alone,
        "ratio",
        0.45,
        3,
        at_least=True,
    ),
    Measurement(
        "looking for free cores over not, alone", beside.sharing_over_all_threads, "ratio", 1.02, 3
    ),
    Measurement(
        "2 jobs by joblib over one after the other", several.jobs_side_by_side, "ratio", 0.62, 3
    ),
    Measurement("aecli eval of six runs", several.evaluate_six, "CPU s", 75, 2),
    Measurement("2 processes over 1 core", several.two_processes_over_one_core, "ratio", 1, 3),
    Measurement(
        "2 processes over 2 threads", several.two_processes_over_two_threads, "ratio", 1, 3
    ),
]


class Pairs(pl.Callback):
    """Trains another loop along with the run, and times both.

    After each step of the run the other loop does its step (a whole epoch after the first, if it
    knows no pause): what else the machine does then slows both down alike.
    """

    def __init__(self, loop: Callable[[pl.LightningModule, DataModule], Loop], pairs: int) -> None:
        self.build, self.pairs = loop, pairs
        self.seconds: list[tuple[float, float]] = []
        self.losses: list[tuple[float, float]] = []
        self.other: Loop | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the last epoch's clock; open a new one."""
        self._close(trainer)
        if self.other is None:
            self.other = self.build(pl_module, trainer.datamodule)
        self.steps = self.other.epoch(trainer.datamodule._epoch_seed())
        self.other_seconds, self.apart = 0.0, 0.0
        self.start = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, index: int
    ) -> None:
        """Keep the random state for the other loop's step, and its batch in the first epoch."""
        before = time.perf_counter()
        self.random_state = torch.get_rng_state()
        if isinstance(self.other, bare.Bare):
            self.other.drawn = None if trainer.current_epoch else batch.x
        self.apart += time.perf_counter() - before

    def on_train_batch_end(self, *args: Any) -> None:
        """Let the other loop do the same step."""
        before = time.perf_counter()
        with torch.random.fork_rng():
            torch.set_rng_state(self.random_state)
            start = time.perf_counter()
            self._step()
            self.other_seconds += time.perf_counter() - start
        self.apart += time.perf_counter() - before

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock; end the other loop's epoch."""
        self.paused = time.perf_counter()
        self._step()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let it go on."""
        self.apart += time.perf_counter() - self.paused

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after the last pair."""
        trainer.should_stop = trainer.current_epoch + 1 == self.pairs

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the last epoch's clock."""
        self._close(trainer)

    def _step(self) -> None:
        try:
            next(self.steps)
        except StopIteration as end:
            if end.value is not None:  # asked again after its end, it returns None
                self.other_loss = end.value

    def _close(self, trainer: pl.Trainer) -> None:
        if self.other is not None:
            seconds = time.perf_counter() - self.start - self.apart
            self.seconds.append((self.other_seconds, seconds))
            self.losses.append((self.other_loss, float(trainer.callback_metrics["train/loss"])))


def main() -> None:
    """Run what the command line asks for; print, write and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="?", default="", help="part of the rows' names")
    parser.add_argument("--pairs", type=int, default=7, help="pairs of epochs beside the first (7)")
    parser.add_argument("--output", type=Path, default=OUTPUTS, help=f"folder ({OUTPUTS})")
    asked = parser.parse_args()
    quiet()
    if not (pythae := find_spec("pythae")):
        print('not measured: pythae, plain Lightning; pip install -e ".[benchmark]"')  # noqa: T201
    rows = ROWS + OTHERS if pythae else ROWS
    asked.output.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for wanted in (*rows, *MEASUREMENTS):
        if asked.name in wanted.name:
            is_row = isinstance(wanted, Row)
            results.append(measure(wanted, asked.pairs) if is_row else repeat(wanted))
            report = {"machine": machine(), "rows": results}  # what is measured is kept
            (asked.output / "throughput.json").write_text(json.dumps(report, indent=2) + "\n")
    if not results:
        parser.error(f"no row has {asked.name!r} in its name")
    if ratios := [result for result in results if "pairs" in result]:
        draw(ratios, asked.output / "throughput.png")
    show(results)


def quiet() -> None:
    """Keep logs away, but not the progress bar: it is part of what is timed."""
    progress.is_terminal = lambda: True
    logging.getLogger().setLevel(logging.ERROR)


def measure(row: Row, pairs: int) -> dict[str, Any]:
    """Return a row's ratios: the median, and the quartiles as their spread."""
    print(f"{row.name} …", file=sys.stderr)  # noqa: T201
    both = Pairs(row.loop, pairs + 1)
    dataset = "array" if "dataset=array" in row.settings else "mnist"
    choices = {"model": row.name, "dataset": dataset}
    with tempfile.TemporaryDirectory() as folder:
        if dataset == "array":
            bare.photos(Path(folder) / PHOTOS)
        settings = [word.replace(PHOTOS, f"{folder}/{PHOTOS}") for word in row.settings]
        settings += [f"dataset={dataset}", f"trainer.max_epochs={LONG}"]
        train(composed("train", *settings), Path(folder), choices, callbacks=[both])
    other_loss, loss = both.losses[0]
    if abs(loss / other_loss - 1) > row.same:
        sys.exit(f"{row.name}: the loops differ: {other_loss} and {loss} after one epoch")
    # The first epoch warms caches up.
    steady = both.seconds[1:]
    ratios = [seconds / other_seconds for other_seconds, seconds in steady]
    return summary(row.name, ratios, "ratio", row.goal) | {
        "settings": settings,
        "other_seconds": median(seconds for seconds, _ in steady),
        "pairs": steady,
        "loss_difference": abs(loss / other_loss - 1),
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
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": pl.__version__,
        "aecli": __version__,
        "date": date.today().isoformat(),
    }


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
    axes.set_xlabel("time of a training epoch over that of the other loop")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
