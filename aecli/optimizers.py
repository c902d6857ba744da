"""The optimizer and its schedule, as one setting that checks itself."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from aecli.errors import SettingError, check_choice, check_number

ALGORITHMS: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "adagrad": Adagrad,
}
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}


class Optimization:
    """An optimizer of `torch.optim` and the course of its learning rate over the training.

    Args:
        algorithm: a name in `ALGORITHMS`.
        lr: learning rate > 0 at its peak.
        schedule: "constant", or "linear" or "cosine" down to 0 at the end of training.
        warmup: share of the training, in [0, 1), over which the rate first climbs from 0.
        settings: the algorithm's own, as torch names them (weight_decay, betas, momentum, …).

    Raises:
        SettingError: for an unknown name, a value out of range or one that torch refuses.
    """

    def __init__(
        self,
        algorithm: str,
        lr: float,
        schedule: str = "constant",
        warmup: float = 0.0,
        **settings: Any,
    ) -> None:
        self.algorithm = ALGORITHMS[check_choice("optimizer.algorithm", algorithm, ALGORITHMS)]
        self.schedule = SCHEDULES[check_choice("optimizer.schedule", schedule, SCHEDULES)]
        self.warmup = check_number("optimizer.warmup", warmup, low=0, high=1, open_high=True)
        # One fused kernel per step instead of a handful of operations per parameter.
        lr = check_number("optimizer.lr", lr, low=0, open_low=True)
        self.settings = {"lr": lr, "fused": True, **settings}
        weight = nn.Parameter(torch.zeros(1))
        weight.grad = torch.zeros(1)
        try:
            self.optimizer([weight]).step()
        except (TypeError, ValueError, RuntimeError) as error:
            given = ", ".join(f"{key}={value}" for key, value in settings.items())
            told = (str(error).splitlines() or [type(error).__name__])[0]
            raise SettingError(f"optimizer={algorithm} ({given}): {told}") from error

    @property
    def is_constant(self) -> bool:
        """Whether the learning rate never changes."""
        return self.warmup == 0 and self.schedule is SCHEDULES["constant"]

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimizer of these parameters."""
        return self.algorithm(parameters, **self.settings)

    def scheduler(self, optimizer: Optimizer, steps: float) -> LambdaLR:
        """Return the schedule over `steps` optimizer steps (may be infinite)."""
        return LambdaLR(optimizer, lambda step: self.factor(step / steps))

    def factor(self, done: float) -> float:
        """Return the share of `lr` in force after the fraction `done` of the training."""
        if done < self.warmup:
            return done / self.warmup
        return self.schedule(min((done - self.warmup) / (1 - self.warmup), 1.0))
