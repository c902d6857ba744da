"""The optimizer and its schedule, as one setting that checks itself."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from aecli.errors import SettingError, check_choice, check_number
from aecli.text import first_line


class LBFGS(torch.optim.LBFGS):
    """L-BFGS on loss + (λ/2) Σ ‖W‖², W the weights without the biases (Ng, CS294A notes 2011).

    torch's has no weight decay; here it belongs to the cost, as the line search needs it. The
    batch should be the whole training set: dataset.batch_size=null.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, **settings: Any
    ) -> None:
        super().__init__(params, lr, **settings)
        self.weight_decay = check_number("optimizer.weight_decay", weight_decay, low=0)

    def step(self, closure: Callable[[], Any]) -> Any:
        """Take `max_iter` iterations on what `closure` computes and differentiates."""
        weights = [p for group in self.param_groups for p in group["params"] if p.ndim > 1]

        @torch.enable_grad()
        def cost() -> Any:
            loss = closure()
            with torch.no_grad():
                for weight in weights:
                    loss = loss + 0.5 * self.weight_decay * weight.square().sum()
                    weight.grad.add_(weight, alpha=self.weight_decay)
            return loss

        return super().step(cost)


ALGORITHMS: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "adagrad": Adagrad,
    "lbfgs": LBFGS,
}


def burda(done: float) -> float:
    """Return 10^(−i/7) in stage i of 3^i parts, i = 0 … 7 (Burda et al. 2015, §5)."""
    ends = [(3 ** (stage + 1) - 1) // 2 for stage in range(8)]  # 1, 4, 13, …, 3280
    stage = sum(done * ends[-1] >= end for end in ends[:-1])
    return 10 ** (-stage / 7)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "steps": lambda done: 1.0,  # with settings of its own
    "burda": burda,
}


class Optimization:
    """An optimizer of `torch.optim` and the course of its learning rate over the training.

    Args:
        algorithm: a name in `ALGORITHMS`.
        lr: learning rate > 0 at its peak.
        schedule: "constant"; "linear" or "cosine" down to 0 at the end of training; "steps", down
            by `step_factor` after each of the shares `steps` of the training; "burda", the eight
            stages of Burda et al.: 3^i parts of the training at the rate 10^(−i/7), i = 0 … 7.
        warmup: share of the training, in [0, 1), over which the rate first climbs from 0.
        steps, step_factor: of schedule=steps: shares in (0, 1), and a factor in (0, 1].
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
        steps: Sequence[float] = (),
        step_factor: float = 0.1,
        **settings: Any,
    ) -> None:
        self.algorithm = ALGORITHMS[check_choice("optimizer.algorithm", algorithm, ALGORITHMS)]
        self.schedule = SCHEDULES[check_choice("optimizer.schedule", schedule, SCHEDULES)]
        if schedule == "steps":
            within = {"low": 0, "high": 1, "open_low": True}
            shares = [check_number("optimizer.steps", share, **within) for share in steps]
            factor = check_number("optimizer.step_factor", step_factor, **within)
            self.schedule = lambda done: factor ** sum(done >= share for share in shares)
        self.warmup = check_number("optimizer.warmup", warmup, low=0, high=1, open_high=True)
        lr = check_number("optimizer.lr", lr, low=0, open_low=True)
        # One fused kernel per step instead of a handful of operations per parameter.
        fused = {} if self.algorithm is LBFGS else {"fused": True}
        self.settings = {"lr": lr, **fused, **settings}
        weight = nn.Parameter(torch.zeros(1, device="cpu"))  # also where only shapes are built
        weight.grad = torch.zeros(1, device="cpu")
        try:
            self.optimizer([weight]).step(lambda: 0.0)
        except (TypeError, ValueError, RuntimeError) as error:
            given = ", ".join(f"{key}={value}" for key, value in settings.items())
            raise SettingError(f"optimizer={algorithm} ({given}): {first_line(error)}") from error

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
