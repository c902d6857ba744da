"""The optimizer and its schedule, as one setting that checks itself."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from aecli.errors import SettingError, check_bool, check_choice, check_int, check_list, check_number


class LBFGS(torch.optim.LBFGS):
    """L-BFGS on loss + (λ/2) Σ ‖W‖², W the weights without the biases (Ng, CS294A notes 2011).

    torch's has no weight decay; here it belongs to the cost, as the line search needs it. The
    batch should be the whole training set: dataset.batch_size=null.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, **settings: Any
    ) -> None:
        super().__init__(params, lr, **settings)
        self.weight_decay = weight_decay

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
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


Course = Callable[[float], float]
"""The share of the learning rate in force after a fraction of the training."""

FACTOR = 0.1
DECAY = 0.2
ROUNDING = 1e-9
"""Of shares that add up to 1."""


def steps_down(shares: Sequence[float], factor: Any) -> Course:
    """Return the course that falls by `factor` after each of the `shares`."""
    factor = check_number("optimizer.step_factor", factor, low=0, high=1, open_low=True)
    return lambda done: factor ** sum(done >= share for share in shares)


def trapezoid(decay: Any, warmup: float) -> Course:
    """Return the course that stays at 1 and falls to 0 over the last `decay` of the training."""
    most = 1.0 - warmup
    decay = check_number("optimizer.decay", decay, low=0, high=1, open_low=True)
    if decay > most + ROUNDING:
        raise SettingError(
            f"optimizer.decay={decay:g}: with optimizer.warmup={warmup:g} at most {most:g} of the"
            " training are left"
        )
    return lambda done: min(1.0, (1.0 - done) * most / decay)


COURSES: dict[str, Course] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "burda": burda,
}
SCHEDULES = (*COURSES, "steps", "trapezoid")
OVER_ALL = ("burda", "steps")
"""Those whose stages are parts of the whole training; the others begin after the warm-up."""


def _share(key: str, value: Any) -> float:
    return check_number(key, value, low=0, high=1, open_high=True)


def _not_negative(key: str, value: Any) -> float:
    return check_number(key, value, low=0)


def _count(key: str, value: Any) -> int:
    return check_int(key, value, 1)


def _history(key: str, value: Any) -> int:
    return check_int(key, value, 1, 1000, "steps kept, each as large as all weights")


def _betas(key: str, value: Any) -> tuple[float, ...]:
    return tuple(check_list(key, value, _share, "[0.9,0.999]", length=2))


def _line_search(key: str, value: Any) -> str | None:
    return None if value is None else check_choice(key, value, ("strong_wolfe",))


SETTINGS: dict[str, Callable[[str, Any], Any]] = {
    "betas": _betas,
    "eps": _not_negative,
    "weight_decay": _not_negative,
    "amsgrad": check_bool,
    "momentum": _share,
    "nesterov": check_bool,
    "max_iter": _count,
    "history_size": _history,
    "line_search_fn": _line_search,
    "tolerance_grad": _not_negative,
    "tolerance_change": _not_negative,
}
"""The settings of torch's algorithms, each with its check; which of them an algorithm has, it says
by its constructor's arguments."""


class Optimization:
    """Base class: an optimizer of `torch.optim` and the course of its rate over the training.

    A subclass in a plugin brings other algorithms: it adds them to `ALGORITHMS`, by name, and the
    checks of settings of theirs to `SETTINGS`.

    Args:
        algorithm: a name in `ALGORITHMS`.
        lr: learning rate > 0 at its peak.
        schedule: "constant"; "linear" or "cosine" down to 0 at the end of training; "steps", down
            by `step_factor` after each of the shares `steps` of the training; "burda", the eight
            stages of Burda et al.: 3^i parts of the training at the rate 10^(−i/7), i = 0 … 7;
            "trapezoid": constant, and linear to 0 over the last share `decay` of the training.
        warmup: share of the training, in [0, 1), over which the rate first climbs from 0.
        steps, step_factor: of schedule=steps: shares in (0, 1), and a factor in (0, 1].
        decay: of schedule=trapezoid: a share in (0, 1 − warmup].
        settings: the algorithm's own, out of `SETTINGS`.

    Raises:
        SettingError: for an unknown name, a value out of range, or one without an effect.
    """

    ALGORITHMS: ClassVar[Mapping[str, type[Optimizer]]] = ALGORITHMS
    """The algorithms by name; which settings one has, its constructor's arguments say."""
    SETTINGS: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = SETTINGS
    """The check of each setting, called with its key and its value."""

    def __init__(
        self,
        algorithm: str,
        lr: float,
        schedule: str = "constant",
        warmup: float = 0.0,
        steps: Sequence[float] = (),
        step_factor: float = FACTOR,
        decay: float = DECAY,
        **settings: Any,
    ) -> None:
        name = check_choice("optimizer.algorithm", algorithm, self.ALGORITHMS)
        self.algorithm = self.ALGORITHMS[name]
        self.schedule = check_choice("optimizer.schedule", schedule, SCHEDULES)
        inside = partial(check_number, low=0, high=1, open_low=True, open_high=True)
        may_be_empty = schedule != "steps"
        given = check_list(
            "optimizer.steps",
            steps,
            inside,
            "[0.5,0.75]",
            may_be_empty=may_be_empty,
            distinct=True,
        )
        self.warmup = _share("optimizer.warmup", warmup)
        if decay != DECAY and schedule != "trapezoid":
            raise SettingError(f"optimizer.decay={decay}: goes with optimizer.schedule=trapezoid")
        if schedule == "steps":
            self.course = steps_down(given, step_factor)
        elif given or step_factor != FACTOR:
            key, value = ("steps", given) if given else ("step_factor", step_factor)
            raise SettingError(f"optimizer.{key}={value}: goes with optimizer.schedule=steps")
        elif schedule == "trapezoid":
            self.course = trapezoid(decay, self.warmup)
        else:
            self.course = COURSES[schedule]
        lr = check_number("optimizer.lr", lr, low=0, open_low=True)
        # One fused kernel per step instead of a handful of operations per parameter.
        fused = {"fused": True} if "fused" in signature(self.algorithm).parameters else {}
        self.settings = {"lr": lr, **fused, **self._checked(algorithm, settings)}
        if self.settings.get("nesterov") and not self.settings.get("momentum"):
            raise SettingError("optimizer.nesterov=true: needs optimizer.momentum above 0")

    def _checked(self, algorithm: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        kinds = self.algorithm.__mro__[:2]  # LBFGS hands its settings on to torch's
        names = {name for kind in kinds for name in signature(kind).parameters}
        known = [name for name in self.SETTINGS if name in names]
        for name, value in settings.items():
            if name not in known:
                raise SettingError(
                    f"optimizer.{name}={value}: no such setting of {algorithm}; must be one of"
                    f" {', '.join(known)}"
                )
        return {name: self.SETTINGS[name](f"optimizer.{name}", v) for name, v in settings.items()}

    @property
    def is_constant(self) -> bool:
        """Whether the learning rate never changes."""
        return self.schedule == "constant" and self.warmup == 0

    @property
    def remedy(self) -> str:
        """What to change where the training diverges."""
        if self.settings.get("eps", 1.0) < torch.finfo(torch.float32).tiny:
            return f"optimizer.eps={self.settings['eps']:g} divides by 0 where a gradient is 0"
        clip = "" if issubclass(self.algorithm, LBFGS) else " trainer.gradient_clip_val=1,"
        return (
            f"try an optimizer.lr below {self.settings['lr']:g},{clip} or settings nearer to their"
            " defaults"
        )

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimizer of these parameters."""
        return self.algorithm(parameters, **self.settings)

    def scheduler(self, optimizer: Optimizer, steps: float) -> LambdaLR:
        """Return the schedule over `steps` optimizer steps (may be infinite)."""
        return LambdaLR(optimizer, lambda step: self.factor(step / steps))

    def factor(self, done: float) -> float:
        """Return the share of `lr` in force after the fraction `done` of the training."""
        climbed = done / self.warmup if done < self.warmup else 1.0
        if self.schedule in OVER_ALL:
            return climbed * self.course(min(done, 1.0))
        return climbed * self.course(min(max(0.0, done - self.warmup) / (1 - self.warmup), 1.0))
