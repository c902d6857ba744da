"""Sparsity: pre-activation a → (code z, penalty). Owns the nonlinearity of the code.

All shapes are `(B, K)` for B examples and K code units. The penalty is a scalar that joins the
loss, in its units (nats per example). It is a function of the units' mean activations alone: of
those over the batch in training, of those over the whole split in an evaluation, which therefore
does not depend on its batches.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aecli.distributed import are_several, total
from aecli.errors import SettingError, check_choice, check_int, check_number

LEAST = 1e-6
"""The least mean activation at which float32 resolves the KL divergence."""


class SparseCode(NamedTuple):
    """What a sparsity makes of the pre-activation."""

    code: Tensor
    """z, `(B, K)`."""
    penalty: Tensor
    """Scalar, added to the loss."""


class Sparsity(nn.Module):
    """Base class: a → (z, penalty). This one is no sparsity: z = a (a linear code), penalty 0.

    A subclass defines `forward`, through which a gradient reaches a, and, if it has a penalty,
    `penalty`: outside training the two agree, that of a batch with that of its mean code. It
    overrides `active` and `dead_range` where a unit that is off is not 0, `anneal` and `is_steady`
    where it has a schedule, `takes_parts` and `smallest_batch` where a code depends on its batch.
    """

    dead_range = 0.0
    """Largest difference between two activations of a dead unit."""
    takes_parts = True
    """Whether the code of a part of a batch is that part of the code of the batch."""

    def forward(self, a: Tensor) -> SparseCode:
        """Return the code `(B, K)` of the pre-activation `a` `(B, K)` and its penalty."""
        return SparseCode(a, a.new_zeros(()))

    def penalty(self, mean: Tensor) -> Tensor:
        """Return the penalty of examples whose units have these mean activations, `(K,)`."""
        return mean.new_zeros(())

    def active(self, code: Tensor) -> Tensor:
        """Return which units of the code `(B, K)` count as active: those that are not 0."""
        return code != 0

    def is_dead(self, lowest: Tensor, highest: Tensor) -> Tensor:
        """Return which units can be taken away, from their extreme activations over a set, `(K,)`.

        A dead unit is a constant: the same code with its mean in its place decodes to the same.
        """
        return highest - lowest <= self.dead_range

    @property
    def is_none(self) -> bool:
        """Whether the code is the pre-activation itself, without a penalty."""
        return type(self) is Sparsity

    @property
    def is_steady(self) -> bool:
        """Whether there is no schedule."""
        return True

    @property
    def smallest_batch(self) -> tuple[int, str]:
        """The examples that a training batch needs, and the setting that asks for them."""
        return 1, ""

    def anneal(self, fraction: float) -> None:
        """Move a schedule to `fraction` of the training, in [0, 1]. Most have none."""


class L1(Sparsity):
    """z = max(a, 0), penalty = weight · Σ_j |z_j|, mean over the batch.

    Args:
        weight: λ ≥ 0, nats per unit of activation.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = check_number("sparsity.weight", weight, low=0)

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"weight={self.weight:g}"

    def forward(self, a: Tensor) -> SparseCode:
        """Rectify; penalize the sum of the activations."""
        code = a.relu()
        return SparseCode(code, self.penalty(code.mean(dim=0, dtype=_wide(code))))

    def penalty(self, mean: Tensor) -> Tensor:
        """Return weight · Σ_j of the mean activations, which are not negative."""
        return self.weight * mean.sum()


class Sigmoid(Sparsity):
    """z = sigmoid(a), penalty 0: a code in (0, 1) as a hidden layer of the classic networks."""

    dead_range = 1e-3

    def forward(self, a: Tensor) -> SparseCode:
        """Squash to (0, 1)."""
        return SparseCode(a.sigmoid(), a.new_zeros(()))

    def active(self, code: Tensor) -> Tensor:
        """A sigmoid is never 0: a unit is active when it is more on than off."""
        return code > 0.5


class KL(Sigmoid):
    """z = sigmoid(a), penalty = β Σ_j KL(ρ ‖ ρ̂_j) (Ng, CS294A notes 2011, p. 15).

    KL(ρ ‖ ρ̂) = ρ log(ρ/ρ̂) + (1−ρ) log((1−ρ)/(1−ρ̂)), with ρ̂_j the mean activation of unit j.
    In training ρ̂ is that of the batch, or, with a momentum m, of the data set as the running
    mean ρ̂ ← m ρ̂ + (1−m) · batch mean. The gradient goes through the batch mean in full in both
    cases (the running mean only moves the point where it is taken), so that β means the same.
    Outside training ρ̂ is that of the examples at hand, with or without a momentum.

    Args:
        target: ρ in [10⁻⁶, 1 − 10⁻⁶].
        weight: β ≥ 0, nats.
        units: K, the size of the code.
        momentum: None for the batch mean, else m in [0, 1).
    """

    running_mean: Tensor

    def __init__(
        self, target: float, weight: float, units: int, momentum: float | None = None
    ) -> None:
        super().__init__()
        self.target = check_number("sparsity.target", target, low=LEAST, high=1 - LEAST)
        self.weight = check_number("sparsity.weight", weight, low=0)
        if momentum is not None:
            check_number("sparsity.momentum", momentum, low=0, high=1, open_high=True)
        self.momentum = momentum
        # It starts at the target, where the penalty is 0: no jolt before it has seen data.
        units = check_int("model.code_dim", units, 1)
        self.register_buffer("running_mean", torch.full((units,), self.target))

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"target={self.target:g}, weight={self.weight:g}, momentum={self.momentum}"

    def forward(self, a: Tensor) -> SparseCode:
        """Squash to (0, 1); penalize mean activations away from the target."""
        code = a.to(_wide(a)).sigmoid()  # of bfloat16 it would be 1 from a = 6 on
        mean = code.mean(dim=0)
        if self.training and are_several():
            # ρ̂ over the whole batch; the gradient goes through this part of it.
            sums = total(torch.cat([code.sum(dim=0), code.new_tensor([len(code)])]))
            mean = mean + (sums[:-1] / sums[-1] - mean).detach()
        if self.momentum is not None and self.training:
            self.running_mean.lerp_(mean.detach(), 1 - self.momentum)
            mean = mean + (self.running_mean - mean).detach()
        return SparseCode(code, self.penalty(mean))

    def penalty(self, mean: Tensor) -> Tensor:
        """Return β Σ KL(ρ ‖ ρ̂) for the mean activations ρ̂ `(K,)`."""
        return self.weight * bernoulli_kl(self.target, mean).sum()


def bernoulli_kl(target: float, mean: Tensor) -> Tensor:
    """Return KL(ρ ‖ ρ̂) in nats, elementwise, between Bernoulli variables of these means."""
    # A saturated sigmoid gives exactly 0 or 1 in float32: the clamp keeps the value finite.
    mean = mean.clamp(LEAST, 1 - LEAST)
    return target * (target / mean).log() + (1 - target) * ((1 - target) / (1 - mean)).log()


def _wide(code: Tensor) -> torch.dtype:
    """Return the type that means are computed in: float32 at least."""
    return torch.promote_types(code.dtype, torch.float32)


ANNEAL = 0.5


class TopK(Sparsity):
    """z = a on the k largest units of each example and 0 elsewhere (Makhzani & Frey 2013, §2.1).

    The gradient goes through the kept units alone. In training k falls linearly from `k_start`
    to `k` over the first `anneal` of the steps (§4.2.1); outside training round(alpha · k) units
    stay (§2.1), with the final k, so that validation means the same at every epoch.

    Args:
        k: units kept at the end of training, 1 … K.
        units: K, the size of the code.
        by: "value" as in the paper, or "magnitude" (|a|).
        k_start: units kept at the start, k … K; None for k throughout.
        anneal: share of the training over which k falls, in (0, 1].
        alpha: factor on k outside training, ≥ 1; at most K units stay.
    """

    RANKS = ("value", "magnitude")

    def __init__(
        self,
        k: int,
        units: int,
        by: str = "value",
        k_start: int | None = None,
        anneal: float = ANNEAL,
        alpha: float = 1.0,
    ) -> None:
        super().__init__()
        units = check_int("model.code_dim", units, 1)
        self.k = check_int("sparsity.k", k, 1, units, f"model.code_dim={units}")
        if k_start is not None:
            check_int(
                "sparsity.k_start", k_start, k, units, f"from sparsity.k to model.code_dim={units}"
            )
        self.by = check_choice("sparsity.by", by, self.RANKS)
        self.k_start = k if k_start is None else k_start
        self.share = check_number("sparsity.anneal", anneal, low=0, high=1, open_low=True)
        if k_start is None and anneal != ANNEAL:
            raise SettingError(f"sparsity.anneal={anneal}: goes with sparsity.k_start")
        self.alpha = check_number("sparsity.alpha", alpha, low=1)
        self.units = units
        self.k_now = self.k_start

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        schedule = (
            f", k_start={self.k_start}, anneal={self.share:g}" if self.k_start > self.k else ""
        )
        return f"k={self.k}, units={self.units}, by={self.by}, alpha={self.alpha:g}{schedule}"

    @property
    def is_steady(self) -> bool:
        """Whether k stays the same."""
        return self.k_start == self.k

    def anneal(self, fraction: float) -> None:
        """Set the k of training for `fraction` of the steps done."""
        done = min(fraction / self.share, 1.0)
        self.k_now = round(self.k_start + (self.k - self.k_start) * done)

    def forward(self, a: Tensor) -> SparseCode:
        """Keep the k largest pre-activations of each example."""
        k = self.k_now if self.training else min(round(self.alpha * self.k), self.units)
        rank = a.detach().abs() if self.by == "magnitude" else a.detach()
        kept = rank.topk(k, dim=1, sorted=False).indices
        code = torch.zeros_like(a).scatter(1, kept, a.gather(1, kept))
        return SparseCode(code, a.new_zeros(()))


class Lifetime(Sparsity):
    """z = max(a, 0), in training on the largest activations of each unit over the batch alone.

    Of the B activations of a unit the round(rate · B) largest stay, the others are set to 0, and
    the gradient goes through those that stay alone. Outside training nothing is set to 0: the
    features are those of a plain ReLU. The fully connected winner-take-all autoencoder (Makhzani
    & Frey, NIPS 2015, arXiv 1409.2752, §2). Not to be confused with `TopK`, which keeps k units of
    each example. Each unit learns from every batch in which any of its pre-activations is above 0.

    Args:
        rate: share of a batch in which a unit may be active, in [10⁻⁶, 1].
    """

    takes_parts = False

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = check_number("sparsity.rate", rate, low=LEAST, high=1)

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"rate={self.rate:g}"

    @property
    def smallest_batch(self) -> tuple[int, str]:
        """The fewest examples of which one activation of each unit stays."""
        least = math.ceil(0.5 / self.rate)
        return least + (not round(self.rate * least)), f"sparsity.rate={self.rate:g}"

    def forward(self, a: Tensor) -> SparseCode:
        """Rectify; in training keep each unit's largest activations over the batch."""
        code = a.relu()
        if self.training:
            kept = round(self.rate * len(a))
            if kept == 0:
                raise SettingError(
                    f"sparsity.rate={self.rate:g}: keeps no activation in a batch of {len(a)}; the"
                    f" batch must have {self.smallest_batch[0]} examples"
                )
            winners = code.detach().topk(kept, dim=0, sorted=False).indices
            code = torch.zeros_like(code).scatter(0, winners, code.gather(0, winners))
        return SparseCode(code, a.new_zeros(()))
