"""Latents that are active above a threshold: JumpReLU, gated, and the plain ReLU."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from aecli.dictionaries.collectors import Above, Collector
from aecli.dictionaries.places import Places, decoded
from aecli.dictionaries.products import Encoder
from aecli.dictionaries.selection import Selection, Step
from aecli.dictionaries.topk import threshold_of
from aecli.distributed import total
from aecli.errors import check_int, check_number


class _Jump(torch.autograd.Function):
    """z = a · 1[a > θ]; ∂z/∂a = 1[a > θ], ∂z/∂θ := −(θ/ε) · 1[|a − θ| < ε/2]."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, threshold: Tensor, width: Tensor) -> Tensor:
        ctx.save_for_backward(a, threshold, width)
        return a * (a > threshold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, threshold, width = ctx.saved_tensors
        near = (a - threshold).abs() < width / 2
        return grad * (a > threshold), -(threshold / width) * near * grad, None


class _Heaviside(torch.autograd.Function):
    """H = 1[a > θ]; ∂H/∂a := 0, ∂H/∂θ := −(1/ε) · 1[|a − θ| < ε/2]."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, threshold: Tensor, width: Tensor) -> Tensor:
        ctx.save_for_backward(a, threshold, width)
        return (a > threshold).to(a.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, threshold, width = ctx.saved_tensors
        near = (a - threshold).abs() < width / 2
        return None, -near.to(grad) * grad / width, None


LEAST_UNIT = 1e-12


class JumpReLU(Selection):
    """z = a · 1[a > θ], θ_i ≥ 0 of each latent; penalty λ · V · L0, L0 = mean_B Σ_i 1[a_i > θ_i].

    Rajamanoharan et al. 2024 (arXiv 2407.14435, eq. 7 to 12). The step functions have no gradient
    by θ; with the rectangle K = 1[|a − θ| < ε/2] it is taken to be −(θ/ε) K of z and −(1/ε) K of
    the count, which in the mean over the data is that of the expected loss. K acts on a, not on z.

    λ, ε and θ are in the paper's units, in which the data's V = E‖x − x̄‖² is 1: the penalty is
    λ · V · L0, the rectangle ε · √V wide, and what is learned is θ/√V (not its logarithm, which
    Adam hardly moves), so that Adam's steps mean the same for data of any scale. It is clamped at
    0, and starts where `start_l0` latents of a row are active. An atom is of norm 1.

    Args:
        weight: λ ≥ 0, share of the variance for each active latent.
        bandwidth: ε > 0, in units of √V.
        start_l0: latents active at the start, 1 … n.
        units: n, the latents.
    """

    unit: Tensor

    def __init__(self, weight: float, bandwidth: float, start_l0: int, units: int) -> None:
        super().__init__()
        units = check_int("model.code_dim", units, 1)
        self.weight = check_number("sparsity.weight", weight, low=0)
        self.bandwidth = check_number("sparsity.bandwidth", bandwidth, low=0, open_low=True)
        self.start_l0 = _checked_l0(start_l0, units)
        self.threshold_share = nn.Parameter(torch.zeros(units))
        self.register_buffer("unit", torch.ones(()))

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"weight={self.weight:g}, bandwidth={self.bandwidth:g}, start_l0={self.start_l0}"

    @property
    def threshold(self) -> Tensor:
        """θ, `(n,)`."""
        return self.threshold_share * self.unit

    @property
    def width(self) -> Tensor:
        """The rectangle's."""
        return self.bandwidth * self.unit

    @property
    def shift(self) -> Tensor:
        """θ: places are found where a − θ is above −ε/2, or 0."""
        return self.threshold

    def collector(self, encoder: Encoder) -> Collector:
        """Return what finds a > θ, and in training a > θ − ε/2."""
        return Above(-0.5 * self.width if self.training else 0.0, encoder)

    def dense(self, a: Tensor, bias: Tensor) -> Tensor:
        """Return a where it is above θ."""
        return a * (a > self.threshold)

    def activation(self, a: Tensor, places: Places, bias: Tensor) -> Tensor:
        """Return z `(M,)`."""
        return _Jump.apply(a, self.threshold.index_select(0, places.index), self.width)

    def l0(self, step: Step) -> Tensor:
        """Return the active latents of the step's rows, over B."""
        thresholds = self.threshold.index_select(0, step.places.index)
        return _Heaviside.apply(step.a, thresholds, self.width).sum() / step.rows

    def penalty(self, step: Step) -> Tensor:
        """Return λ · V · L0."""
        return self.weight * step.variance * self.l0(step)

    @torch.no_grad()
    def start(self, encoder: Encoder, bias: Tensor, variance: Tensor) -> None:
        """Start θ where `start_l0` latents are active, and ε in the data's units."""
        self.unit.copy_(variance.sqrt().clamp_min(LEAST_UNIT))  # of constant data it would be 0
        self.threshold_share.fill_(threshold_of(self.start_l0, encoder) / float(self.unit))

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamp θ at 0."""
        self.threshold_share.clamp_(min=0)


class JumpReLUToTarget(JumpReLU):
    """`JumpReLU` with the penalty λ · V · (L0/k − 1)², which draws L0 to k.

    Rajamanoharan et al. 2024, appendix. The thresholds start where L0 is k.

    Args:
        k: the L0 to come to, 1 … n.
        weight: λ ≥ 0, share of the variance.
        bandwidth, units: see `JumpReLU`.
    """

    def __init__(self, k: int, weight: float, bandwidth: float, units: int) -> None:
        self.k = check_int("sparsity.k", k, 1, units, f"model.code_dim={units}")
        super().__init__(weight, bandwidth, k, units)

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"k={self.k}, weight={self.weight:g}, bandwidth={self.bandwidth:g}"

    def of_batch(self, code: Tensor, rows: int) -> Tensor:
        """Return L0, over all processes."""
        active = (code != 0).sum()
        active, count = total(torch.stack([active, torch.full_like(active, rows)]))
        return active / count

    def penalty(self, step: Step) -> Tensor:
        """Return λ · V · (L0/k − 1)², with L0 of the whole batch, for the step's share of its rows.

        Its gradient is that by the step's part of L0: those of all steps add up to the batch's.
        """
        assert step.of_batch is not None
        excess, own = step.of_batch / self.k - 1, self.l0(step)
        of_rows = excess.square() * (len(step.target) / step.rows)
        return self.weight * step.variance * (of_rows + 2 * excess / self.k * (own - own.detach()))

    def of_split(self, penalty: float, l0: float, variance: float) -> float:
        """Return λ · V · (L0/k − 1)² of the whole split."""
        return self.weight * variance * (l0 / self.k - 1) ** 2


class Gated(Selection):
    """z = 1[π > 0] · max(e^r (π − b_gate) + b_mag, 0) (Rajamanoharan et al. 2024, 2404.16014).

    π = (x − b_dec) W_encᵀ + b_gate says whether a latent is active, r and b_mag how much: the
    penalty that makes π sparse does not shrink z. It is

        mean_B (λ ‖π₊‖₁ + ‖x − x̂_frozen(π₊)‖²), π₊ = max(π, 0),

    where x̂_frozen decodes by W_dec and b_dec without a gradient to them: by it the gate learns.
    b_gate is the encoder's bias; it starts where `start_l0` latents of a row are active.

    Args:
        weight: λ ≥ 0, squared error per unit of π.
        start_l0: latents active at the start, 1 … n.
        units: n, the latents.
    """

    def __init__(self, weight: float, start_l0: int, units: int) -> None:
        super().__init__()
        units = check_int("model.code_dim", units, 1)
        self.weight = check_number("sparsity.weight", weight, low=0)
        self.start_l0 = _checked_l0(start_l0, units)
        self.r_mag = nn.Parameter(torch.zeros(units))
        self.b_mag = nn.Parameter(torch.zeros(units))

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"weight={self.weight:g}, start_l0={self.start_l0}"

    def collector(self, encoder: Encoder) -> Collector:
        """Return what finds π > 0."""
        return Above(0.0, encoder)

    def dense(self, a: Tensor, bias: Tensor) -> Tensor:
        """Return the magnitudes where π is above 0."""
        return (a > 0) * (self.r_mag.exp() * (a - bias) + self.b_mag).relu()

    def activation(self, a: Tensor, places: Places, bias: Tensor) -> Tensor:
        """Return z `(M,)` of π at places where it is above 0."""
        gate, scale, own = (p.index_select(0, places.index) for p in (bias, self.r_mag, self.b_mag))
        return (scale.exp() * (a - gate) + own).relu()

    def penalty(self, step: Step) -> Tensor:
        """Return what makes the gate sparse, and what lets it learn."""
        positive = step.a.relu()
        output = decoded(positive, step.decoder, step.places)
        around = step.target - step.pre_bias.detach()
        error = F.mse_loss(output, around, reduction="sum")
        return (self.weight * positive.sum() + error) / step.rows

    @torch.no_grad()
    def start(self, encoder: Encoder, bias: Tensor, variance: Tensor) -> None:
        """Start b_gate where `start_l0` latents are active."""
        bias.sub_(threshold_of(self.start_l0, encoder))


class NormL1(Selection):
    """z = max(a, 0), penalty = λ mean_B Σ_i z_i ‖W_dec,i‖ (Anthropic, April 2024 update).

    The norms of the atoms are free: only the product of z and norm counts, so that none can pay
    less by a small z and a large atom. λ rises from 0 over the first part of the training, and the
    rate falls to 0 over its last fifth (`optimizer.schedule=trapezoid`). The usual λ = 5 goes with
    rows whose mean norm is √d.

    Args:
        weight: λ ≥ 0, squared error per unit of activation.
        warmup: share of the training over which λ rises, in [0, 1].
        start_l0: latents active at the start, 1 … n.
        units: n, the latents.
    """

    has_unit_rows = False

    def __init__(self, weight: float, warmup: float, start_l0: int, units: int) -> None:
        super().__init__()
        units = check_int("model.code_dim", units, 1)
        self.weight = check_number("sparsity.weight", weight, low=0)
        self.warmup = check_number("sparsity.warmup", warmup, low=0, high=1)
        self.start_l0 = _checked_l0(start_l0, units)
        self.warmth = 1.0

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"weight={self.weight:g}, warmup={self.warmup:g}, start_l0={self.start_l0}"

    def anneal(self, fraction: float) -> None:
        """Warm λ up."""
        self.warmth = min(fraction / self.warmup, 1.0) if self.warmup else 1.0

    def collector(self, encoder: Encoder) -> Collector:
        """Return what finds a > 0."""
        return Above(0.0, encoder)

    def dense(self, a: Tensor, bias: Tensor) -> Tensor:
        """Return max(a, 0)."""
        return a.relu()

    def penalty(self, step: Step) -> Tensor:
        """Return λ mean_B Σ_i z_i ‖W_dec,i‖."""
        norms = step.norms.index_select(0, step.places.index)
        cost = (step.code * norms).sum() / step.rows
        return self.weight * (self.warmth if self.training else 1.0) * cost

    @torch.no_grad()
    def start(self, encoder: Encoder, bias: Tensor, variance: Tensor) -> None:
        """Start b_enc where `start_l0` latents are active."""
        bias.sub_(threshold_of(self.start_l0, encoder))


def _checked_l0(start_l0: int, units: int) -> int:
    return check_int("sparsity.start_l0", start_l0, 1, units, f"model.code_dim={units}")
