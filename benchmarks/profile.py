"""Where the time of a training step goes: in the script that most people write, and in aecli.

    python -m benchmarks.profile

A VAE on grey MNIST, an epoch in one and an epoch in the other, in turns. Printed, and written as
`profile.json` and `profile.png` into `outputs/throughput/`.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as pl
import matplotlib
import torch
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from torch.optim import Adam
from torch.utils.data.dataloader import _BaseDataLoaderIter

from aecli import progress
from aecli.commands.train import train
from aecli.config import composed
from aecli.data.module import Batches
from aecli.models import Autoencoder
from aecli.models.accumulators import Activity, Means
from benchmarks.others import PlainLightning, Script
from benchmarks.throughput import GREY, OUTPUTS, Pairs, machine, quiet

PLAIN, AECLI = "plain Lightning", "aecli"
PARTS = ("batch", "forward", "backward", "optimizer", "metrics", "progress bar", "loop")
"""The last is what none of the others takes."""
PAIRS = 7


class Clock:
    """Seconds of each part, without those of the parts that it calls."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._inner = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            whole = time.perf_counter() - start
            self.seconds[name] += whole - self._inner.pop()
            self._inner[-1] += whole

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return a function whose calls count for a part."""

        @wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            with self.part(part):
                return function(*args, **keywords)

        return call

    def put_in(self) -> None:
        """Time the parts of both loops."""
        places = [
            (_BaseDataLoaderIter, "__next__", "batch"),
            (Script, "training_step", "forward"),
            (pl.LightningModule, "log", "metrics"),
            (TQDMProgressBar, "on_train_batch_end", "progress bar"),
            (RichProgressBar, "on_train_batch_end", "progress bar"),
            (Autoencoder, "training_step", "forward"),
            (Means, "add", "metrics"),
            (Activity, "add", "metrics"),
            (progress.Progress, "on_train_batch_end", "progress bar"),
            (torch.Tensor, "backward", "backward"),
        ]
        for owner, name, part in places:
            setattr(owner, name, self.timed(getattr(owner, name), part))
        Adam([torch.nn.Parameter(torch.zeros(1))])  # torch puts its profiler's entry around `step`
        step = self.timed(Adam.step, "optimizer")
        step.__wrapped__ = self.timed(Adam.step.__wrapped__, "optimizer")  # what aecli calls
        Adam.step = step  # type: ignore[method-assign]
        batches = Batches.__iter__

        def timed(own: Batches) -> Iterator[Any]:
            iterator = batches(own)
            following = self.timed(lambda: next(iterator, None), "batch")
            return iter(following, None)

        Batches.__iter__ = timed  # type: ignore[method-assign]


class Profile(Pairs):
    """Notes the milliseconds of a step by part, for both loops."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(PlainLightning, PAIRS + 1)
        self.clock = clock
        self.parts: dict[str, list[dict[str, float]]] = {PLAIN: [], AECLI: []}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self.other_parts = dict.fromkeys(PARTS, 0.0)
        self.clock.seconds = dict.fromkeys(PARTS, 0.0)
        super().on_train_epoch_start(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the epoch of both."""
        whole = time.perf_counter() - self.start - self.apart
        parts = self.clock.seconds
        super().on_validation_start(trainer, pl_module)
        ends = {PLAIN: (self.other_seconds, self.other_parts), AECLI: (whole, parts)}
        for name, (seconds, own) in ends.items():
            own["loop"] = seconds - sum(own.values())
            steps = trainer.num_training_batches
            self.parts[name].append({part: 1000 * own[part] / steps for part in PARTS})

    def _step(self) -> None:
        self.clock.seconds, own = self.other_parts, self.clock.seconds
        super()._step()
        self.clock.seconds = own


def main() -> None:
    """Measure, print, write and draw."""
    quiet()
    clock = Clock()
    clock.put_in()
    profile = Profile(clock)
    settings = [*GREY, "dataset=mnist", f"trainer.max_epochs={PAIRS + 1}"]
    with tempfile.TemporaryDirectory() as folder:
        choices = {"model": "vae", "dataset": "mnist"}
        train(composed("train", *settings), Path(folder), choices, callbacks=[profile])
    medians = {
        # The first epoch warms caches up.
        name: {part: median(epoch[part] for epoch in epochs[1:]) for part in PARTS}
        for name, epochs in profile.parts.items()
    }
    for name, parts in medians.items():
        told = "  ".join(f"{part} {value:.2f}" for part, value in parts.items())
        print(f"{name}: {sum(parts.values()):.2f} ms a step: {told}")  # noqa: T201
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "milliseconds": medians}
    (OUTPUTS / "profile.json").write_text(json.dumps(report, indent=2) + "\n")
    draw(medians, OUTPUTS / "profile.png")


def draw(medians: dict[str, dict[str, float]], path: Path) -> None:
    """Draw a bar for each loop, the parts of a step one after the other."""
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 2.2), layout="constrained")
    for number, part in enumerate(PARTS):
        before = [sum(list(parts.values())[:number]) for parts in medians.values()]
        axes.barh(
            list(medians), [parts[part] for parts in medians.values()], left=before, label=part
        )
    axes.set_xlabel("milliseconds of a training step (VAE 784-400-20, batch 128)")
    axes.invert_yaxis()
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.45, 1.0), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
