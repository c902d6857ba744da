"""Steps of sparse dictionaries over the one product that they cannot do without.

    python -m benchmarks.dictionaries                 # all rows, on a quiet machine: half an hour
    python -m benchmarks.dictionaries topk            # the rows with this in their name
    python -m benchmarks.dictionaries --latents 8192 --rows 1024 --turns 3

The product is x W_encᵀ in float32, 2·B·d·n operations, in chunks of rows into one buffer. A step is
all that a training does with a batch: selection, loss, gradients, Adam, atoms of norm 1, dead
latents, sums of the epoch. Both take turns; a figure is the median of the ratios of neighbours,
with their least and largest. By the wall; with `--cpu` by the processor's time, which other
programs disturb less, and which counts the threads' together.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from aecli.build import build
from aecli.config import composed
from aecli.data import Batch
from aecli.dictionaries.products import CHUNK
from aecli.malloc import keep_freed_memory
from aecli.models import Dictionary

FEATURES, ATOMS, ACTIVE = 576, 8192, 40
"""Of the rows: sums of 40 of 8192 directions, and noise."""
GOALS = {
    "topk": 1.3,
    "topk, 10 % dead": 1.3,
    "topk, half dead": 1.3,
    "topk in bfloat16": 0.65,
    "topk over dense autograd": 0.25,
    "batch_topk": 1.8,
    "jumprelu": 1.8,
    "gated": 1.8,
}
WIDTHS = (8192, 16384, 32768, 65536, 131072)
BATCHES = (1024, 4096, 16384)


def examples(rows: int) -> Tensor:
    """Return rows like a network's activations, `(rows, FEATURES)`."""
    atoms = F.normalize(torch.randn(ATOMS, FEATURES), dim=1)
    # The k-th direction is there as often as Zipf's law says, with an exponent of a half.
    which = torch.multinomial(torch.arange(1, ATOMS + 1).rsqrt(), rows * ACTIVE, replacement=True)
    size = 1 + torch.rand(rows, ACTIVE)
    sums = F.embedding_bag(which.view(rows, -1), atoms, per_sample_weights=size, mode="sum")
    return sums + 0.03 * torch.randn(rows, FEATURES)


class Stepper:
    """A dictionary and a batch to step on.

    Args:
        variant: such as "topk".
        latents, rows: n and B.
        dead: share of the latents that are dead at each step.
        mixed: whether selections are made from bfloat16.
    """

    def __init__(
        self, variant: str, latents: int, rows: int, dead: float = 0, mixed: bool = False
    ) -> None:
        words = [f"model={variant}_sae", f"model.code_dim={latents}", f"dataset.shape=[{FEATURES}]"]
        words += ["sparsity.start_l0=32"] if variant in ("gated", "l1") else ["sparsity.k=32"]
        self.model: Dictionary = build(composed("train", *words), "model").train()
        self.x, self.mixed = examples(rows), mixed
        self.model.start_at(self.x[:4096])
        self.model.steady = True
        self.optimizer = self.model.optimization.optimizer(self.model.parameters())
        self.dead = torch.randperm(latents)[: int(dead * latents)]

    def step(self) -> None:
        """Take a step."""
        model = self.model
        model.rows_since_active[self.dead] = model.dead_after
        self.optimizer.zero_grad()
        batch = Batch(self.x, self.x, torch.zeros(len(self.x)))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            loss = model.training_step(batch, 0)
        loss.backward()
        self.optimizer.step()
        model.on_train_batch_end(None, batch, 0)

    @torch.no_grad()
    def product(self) -> None:
        """Compute the encoder's product alone."""
        weight = self.model.W_enc
        size = max(1, CHUNK // len(weight))
        buffer = self.x.new_empty(min(size, len(self.x)), len(weight))
        for part in self.x.split(size):
            torch.mm(part, weight.T, out=buffer[: len(part)])

    def dense(self) -> None:
        """Take a step of the same loss as one would type it, with dense tensors."""
        model = self.model
        self.optimizer.zero_grad()
        a = (self.x - model.b_dec) @ model.W_enc.T + model.b_enc
        values, kept = a.topk(32, dim=1)
        code = torch.zeros_like(a).scatter(1, kept, values.relu())
        loss = (self.x - code @ model.W_dec - model.b_dec).square().sum(dim=1).mean()
        loss.backward()
        self.optimizer.step()
        model.on_train_batch_end(None, None, 0)

    @torch.no_grad()
    def agreement(self) -> float:
        """Return the share of the places of exact products that those in bfloat16 have, too."""
        found = []
        for mixed in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                places = self.model.coded(self.x).places
            found.append(places.row.long() * places.latents + places.index)
        return float(torch.isin(*found).double().mean())


class Clock:
    """Times functions in turns."""

    def __init__(self, turns: int, by_cpu: bool) -> None:
        self.turns, self.now = turns, time.process_time if by_cpu else time.perf_counter

    def seconds(self, function: Callable[[], None]) -> float:
        """Return the seconds that a call takes."""
        start = self.now()
        function()
        return self.now() - start

    def ratios(self, one: Callable[[], None], other: Callable[[], None]) -> list[float]:
        """Return the ratios of one over other, in their order."""
        one(), other()
        pairs = [(self.seconds(one), self.seconds(other)) for _ in range(self.turns)]
        return sorted(first / second for first, second in pairs)


def show(name: str, ratios: list[float], more: str = "") -> None:
    """Print a figure."""
    goal = f"goal ≤ {GOALS[name]}" if name in GOALS else ""
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"{name:28} {median(ratios):6.2f}   {spread:14} {goal:14} {more}", flush=True)  # noqa: T201


def steps(arguments: argparse.Namespace, clock: Clock) -> None:
    """Print the rows of steps over products."""
    size = (arguments.latents, arguments.rows)
    rows: dict[str, dict[str, float]] = {
        "topk": {},
        "topk, 10 % dead": {"dead": 0.1},
        "topk, half dead": {"dead": 0.5},
        "topk in bfloat16": {"mixed": True},
        **{name: {} for name in ("batch_topk", "matryoshka", "jumprelu", "gated", "l1")},
    }
    for name, settings in rows.items():
        if arguments.only in name:
            one = Stepper(re.split("[, ]", name)[0], *size, **settings)  # type: ignore[arg-type]
            more = f"selections agree on {one.agreement():.4%}" if one.mixed else ""
            show(name, clock.ratios(one.step, one.product), more)
    if arguments.only in (name := "topk over dense autograd"):
        one = Stepper("topk", *size)
        show(name, clock.ratios(one.step, one.dense))


def widths(arguments: argparse.Namespace, clock: Clock) -> None:
    """Print the time for each row and latent, over that of the first width."""
    if arguments.only not in (name := "topk, time a row and latent"):
        return
    made = [(n, Stepper("topk", n, arguments.rows)) for n in WIDTHS]
    for _, one in made:
        one.step()
    turns = [[clock.seconds(one.step) / n for n, one in made] for _ in range(clock.turns)]
    each = [median(turn[i] / turn[0] for turn in turns) for i in range(len(made))]
    told = ", ".join(f"n={n}: {value:.2f}" for n, value in zip(WIDTHS, each, strict=True))
    print(f"{name}: {told}   goal: within 15 %")  # noqa: T201


def memory(arguments: argparse.Namespace) -> None:
    """Print the peak memory over weights and the optimizer's state, for several batches."""
    if arguments.only not in "topk, memory":
        return
    for rows in BATCHES:
        command = [sys.executable, "-m", "benchmarks.dictionaries", "--peak", str(rows)]
        command += ["--latents", str(arguments.latents), "--threads", str(arguments.threads)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        print(  # noqa: T201
            f"topk, 10 % dead, memory, B = {rows}: {json.loads(told):.0f} MB over weights and Adam"
        )


def peak(latents: int, rows: int) -> float:
    """Return the megabytes that a training has at most over its weights and Adam's state."""
    before = _status("VmRSS")
    one = Stepper("topk", latents, rows, dead=0.1)
    for _ in range(3):
        one.step()
    kept = 3 * sum(weight.nbytes for weight in one.model.parameters())
    return (_status("VmHWM") - before - kept) / 1e6


def _status(name: str) -> int:
    """Return bytes of this process: VmRSS, what it has, or VmHWM, the most that it had."""
    return 1024 * int(re.findall(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="?", default="", help="rows with this in their name")
    parser.add_argument("--latents", type=int, default=65536)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="by the processor's time")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    if arguments.peak:
        print(json.dumps(peak(arguments.latents, arguments.peak)))  # noqa: T201
        return
    clock = Clock(arguments.turns, arguments.cpu)
    print(f"n = {arguments.latents}, d = {FEATURES}, k = 32, B = {arguments.rows}")  # noqa: T201
    steps(arguments, clock)
    widths(arguments, clock)
    memory(arguments)


if __name__ == "__main__":
    main()
