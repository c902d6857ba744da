"""Which arithmetic is fastest on this device, found by timing it."""

import logging
import time
from contextlib import nullcontext
from copy import deepcopy
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aecli.data import DataModule
from aecli.models import Autoencoder

log = logging.getLogger(__name__)

FASTEST = "fastest"
"""The value of `trainer.precision` and `eval.finetune.precision` that asks for the timing."""
FULL, MIXED = "32-true", "bf16-mixed"
FEW = 2
"""Steps that warm a candidate up, and again those of its first timing."""
ROUNDS = 5
"""Timings of each candidate, of which the median counts; also the products of `fastest_product`."""
STEPS = 20
"""Steps in each of these timings."""
HOPELESS = 3
"""A candidate this many times slower than the best is dropped after its first timing."""
COMPILE_PAYS = 120.0
"""Seconds of training from which on compiling is tried, which takes 10 to 60 seconds; what it makes
is kept on the disk, and takes 3 the next time."""


Given = tuple[Tensor, Tensor | None]
"""A batch, as `Batch.given`."""


class Arithmetic(NamedTuple):
    """How the steps of a training are computed."""

    precision: str
    """As Lightning names it."""
    compiled: bool
    """Whether `torch.compile` compiled the terms of the loss."""
    channels_last: bool = False
    """Whether the weights of convolutions lie in memory with their channels last."""

    def __str__(self) -> str:
        parts = {"compiled": self.compiled, "channels last": self.channels_last}
        return " ".join([self.precision, *(name for name, holds in parts.items() if holds)])

    def prepare(self, model: Autoencoder) -> None:
        """Let a model compute its terms in this arithmetic; Lightning takes the precision."""
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        if self.compiled:
            model.compile_terms()


def fastest_step(
    model: Autoencoder, data: DataModule, device: torch.device, steps: float
) -> Arithmetic:
    """Return the arithmetic in which a training step of the model is fastest, and print it.

    Steps of copies of the model are timed; the model, the data and the random numbers stay as they
    are. `steps` is the length of the training: compiling is tried only for long ones.
    """
    full = Arithmetic(FULL, compiled=False)
    if not model.takes_plain_steps:
        log.info("fastest: %s, the only one for this model and optimizer", full)
        return full
    with torch.random.fork_rng():
        batch = next(iter(data.shuffled("train", data.batch_size, lambda: 0)))
        x, seen = batch.given
        given = x.to(device), None if seen is None else seen.to(device)
        candidates = [full, Arithmetic(MIXED, compiled=False)]
        if any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in model.modules()):
            candidates += [one._replace(channels_last=True) for one in candidates]
        timed = _time(model, given, candidates)
        best = min(timed, key=timed.__getitem__)
        seconds = steps * timed[best]
        if seconds > COMPILE_PAYS and model.is_steady:
            log.info("compiling, for a training of about %.0f minutes", seconds / 60)
            timed |= _time(model, given, [best, best._replace(compiled=True)])
            best = min(timed, key=timed.__getitem__)
    times = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in timed.items())
    log.info("fastest: %s (a step takes: %s)", best, times)
    return best


def fastest_product(device: torch.device) -> str:
    """Return the precision in which matrix products of a usual size are faster on `device`.

    For small classifiers, whose training is too short to time its own steps.
    """
    # Of ones: random numbers drawn here would change those drawn afterwards.
    x = torch.ones(100, 1000, device=device)
    weight = torch.ones(1000, 1000, device=device)
    seconds = {}
    for precision in (FULL, MIXED):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == MIXED):
            float((x @ weight).sum())  # warms caches up
            start = time.perf_counter()
            for _ in range(ROUNDS):
                y = x @ weight
            float(y.sum())  # waits for a GPU
        seconds[precision] = time.perf_counter() - start
    return min(seconds, key=seconds.__getitem__)


def _time(
    model: Autoencoder, given: Given, candidates: list[Arithmetic]
) -> dict[Arithmetic, float]:
    """Return the seconds that a step takes in each arithmetic, medians of timings in turns."""
    steppers = {candidate: _Stepper(model, given, candidate) for candidate in candidates}
    for stepper in steppers.values():
        stepper.seconds(FEW)  # warms caches up, and compiles
    first = {name: stepper.seconds(FEW) for name, stepper in steppers.items()}
    hopeful = [name for name in candidates if first[name] <= HOPELESS * min(first.values())]
    rounds = [{name: steppers[name].seconds(STEPS) for name in hopeful} for _ in range(ROUNDS)]
    return first | {name: median(seconds[name] for seconds in rounds) for name in hopeful}


class _Stepper:
    """A copy of a model that takes steps on one batch."""

    def __init__(self, model: Autoencoder, given: Given, arithmetic: Arithmetic) -> None:
        self.model, self.given = deepcopy(model).to(given[0].device).train(), given
        arithmetic.prepare(self.model)
        self.mixed = arithmetic.precision == MIXED
        self.optimizer = model.optimization.optimizer(self.model.parameters())

    def seconds(self, steps: int) -> float:
        """Take this many steps; return the seconds of one, their mean."""
        device = self.given[0].device.type
        start = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(device, torch.bfloat16) if self.mixed else nullcontext():
                loss = self.model.terms(*self.given).loss
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / steps
