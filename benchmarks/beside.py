"""How fast a training is beside other work on the same cores: another training, a busy program.

    python -m benchmarks.beside            # the table, and docs/beside.png

Each loop trains the VAE on MNIST's grey values in a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

BUSY = [sys.executable, "-c", "while True: pass"]
"""A program that takes a core, and no more."""
START = 14.0
"""Seconds after which all processes have imported what they need, and begin at the same moment."""
WARM, SECONDS = 2.0, 5.0
"""Seconds of training before the steps are counted, and those in which they are."""
SETTINGS = ("model=vae", "dataset=mnist", "dataset.binarize=none", "likelihood=cross_entropy")
LOOPS = ("aecli", "bare loop", "plain Lightning", "pythae")
ALL_THREADS = "aecli, all threads"
"""With trainer.deterministic=true, which leaves the threads as they are."""
BESIDE = ("alone", "two at once", "beside a busy core")
REPEATS = 3


def rates(loop: str, beside: str) -> list[float]:
    """Return the steps a second of each training of `loop`, all at the same time."""
    environment = {name: v for name, v in os.environ.items() if name != "OMP_NUM_THREADS"}
    at = time.time() + START
    line = [sys.executable, "-m", "benchmarks.beside", "--train", loop, "--at", str(at)]
    processes = [
        subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2 if beside == "two at once" else 1)
    ]
    busy = subprocess.Popen(BUSY) if beside == "beside a busy core" else None
    try:
        return [float(process.communicate()[0].split()[-1]) for process in processes]
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()


def sum_of_two_over_one() -> float:
    """Return the sum of the rates of two trainings at once over the rate of one alone."""
    return sum(rates("aecli", "two at once")) / sum(rates("aecli", "alone"))


def beside_a_busy_core_over_alone() -> float:
    """Return the rate of a training beside a busy core over that alone."""
    return sum(rates("aecli", "beside a busy core")) / sum(rates("aecli", "alone"))


def sharing_over_all_threads() -> float:
    """Return the time of a step alone that looks for free cores over that of one that does not."""
    return sum(rates(ALL_THREADS, "alone")) / sum(rates("aecli", "alone"))


def _train(loop: str, at: float) -> None:
    """Train, and print the steps a second once they are counted."""
    import lightning.pytorch as pl
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from aecli.commands.train import train
    from aecli.config import composed
    from benchmarks import bare, others
    from benchmarks.throughput import quiet

    quiet()
    kinds: dict[str, Any] = {
        "bare loop": lambda model, data: bare.Bare(bare.vae, model, data),
        "plain Lightning": others.PlainLightning,
        "pythae": others.Pythae,
    }

    class Counted(pl.Callback):
        """Counts the steps between two moments; then the process has done its duty."""

        def __init__(self) -> None:
            self.steps, self.start = 0, 0.0

        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            time.sleep(max(0.0, at - time.time()))
            register_optimizer_step_post_hook(lambda *_: self.step())
            if loop in kinds:
                other = kinds[loop](pl_module, trainer.datamodule)
                for seed in range(1000):
                    for _ in other.epoch(seed):
                        pass

        def step(self) -> None:
            """Count a step, or print the rate and leave."""
            now = time.time() - at
            if now < WARM:
                return
            if not self.start:
                self.start = now
            elif now - self.start < SECONDS:
                self.steps += 1
            else:
                print(self.steps / (now - self.start), flush=True)  # noqa: T201
                os._exit(0)

    settings = [*SETTINGS, "trainer.max_epochs=1000", "pictures_every=0"]
    if loop == ALL_THREADS:
        settings.append("trainer.deterministic=true")
    with tempfile.TemporaryDirectory() as folder:
        choices = {"model": "vae", "dataset": "mnist"}
        train(composed("train", *settings), Path(folder), choices, callbacks=[Counted()])


def main() -> None:
    """Measure all loops, print a table, draw it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--at", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("docs") / "beside.png")
    asked = parser.parse_args()
    if asked.train:
        _train(asked.train, asked.at)
        return
    loops = [loop for loop in LOOPS if loop != "pythae" or find_spec("pythae")]
    found: dict[str, dict[str, list[float]]] = {loop: {b: [] for b in BESIDE} for loop in loops}
    for _ in range(REPEATS):
        for loop in loops:
            for beside in BESIDE:
                found[loop][beside].append(sum(rates(loop, beside)))
                print(loop, beside, f"{found[loop][beside][-1]:.0f} steps/s", flush=True)  # noqa: T201
    medians = {loop: {b: median(found[loop][b]) for b in BESIDE} for loop in loops}
    print(json.dumps(medians, indent=2))  # noqa: T201
    draw(medians, asked.output)


def draw(medians: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draw a group of bars for each kind of company."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    colors: Sequence[str] = ("#4878a8", "#a9c4de", "#999999", "#c98b4a", "#7a9a5a")
    width = 0.8 / len(medians)
    for number, (loop, values) in enumerate(medians.items()):
        places = [place + (number - (len(medians) - 1) / 2) * width for place in range(len(BESIDE))]
        bars = axes.bar(places, [values[b] for b in BESIDE], width, color=colors[number])
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
        bars.set_label(loop)
    axes.set_xticks(range(len(BESIDE)), ["alone", "two at once, their sum", "beside a busy core"])
    axes.set_ylabel("training steps a second")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
