"""The k largest pre-activations: of each row, or as many of a batch."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from aecli.dictionaries.collectors import Above, Collector, Largest, LargestOfBatch
from aecli.dictionaries.products import Encoder
from aecli.dictionaries.selection import Selection, Step
from aecli.distributed import largest
from aecli.errors import check_int, check_list, check_number, refused

FOLLOWS = 0.99
"""The share of the running threshold that stays at each step."""
NEARLY = 0.8
"""The share of the threshold above which a step begins to look."""
START_AT = 4096
"""Rows on which a threshold is found at the start."""


class TopK(Selection):
    """z = ReLU(a) on the k largest of each row and 0 elsewhere (Gao et al. 2024, arXiv 2406.04093).

    a is `(B, n)`. Not to be confused with `aecli.sparsity.TopK`, the linear code of 2013.

    Args:
        k: latents that stay, 1 … n.
        units: n, the latents.
    """

    def __init__(self, k: int, units: int) -> None:
        super().__init__()
        units = check_int("model.code_dim", units, 1)
        self.k = self.start_l0 = check_int("sparsity.k", k, 1, units, f"model.code_dim={units}")

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"k={self.k}"

    def collector(self, encoder: Encoder) -> Collector:
        """Return what finds the k largest of each row."""
        return Largest(self.k, encoder)

    def dense(self, a: Tensor, bias: Tensor) -> Tensor:
        """Return max(a, 0) on the k largest of each row."""
        values, index = a.topk(self.k, dim=1)
        return torch.zeros_like(a).scatter(1, index, values.relu())


class BatchTopK(TopK):
    """z = ReLU(a) on the B·k largest of a batch, 0 elsewhere (Bussmann et al. 2024, 2412.06410).

    A row has as many latents as it needs, k in the mean. At inference, where a code must not depend
    on the others of its batch, z = a where a > θ: θ is the running mean of the least positive a
    that stayed, from the start on, over the last hundred steps. L0 is then no longer k, and is
    measured.

    Args:
        k: latents that stay in the mean of a batch, 1 … n.
        units: n, the latents.
    """

    threshold: Tensor
    steps: Tensor

    def __init__(self, k: int, units: int) -> None:
        super().__init__(k, units)
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def collector(self, encoder: Encoder) -> Collector:
        """Return what finds the B·k largest; in an evaluation those above θ."""
        if self.training:
            return LargestOfBatch(self.k, encoder, NEARLY * float(self.threshold))
        return Above(self.threshold, encoder)

    def dense(self, a: Tensor, bias: Tensor) -> Tensor:
        """Return a where it is above θ."""
        return a * (a > self.threshold)

    @torch.no_grad()
    def start(self, encoder: Encoder, bias: Tensor, variance: Tensor) -> None:
        """Start θ where k latents are active on training rows."""
        self.threshold.fill_(threshold_of(self.k, encoder))

    @torch.no_grad()
    def observe(self, code: Tensor) -> None:
        """Move θ towards the least positive z of a step."""
        positive = code.masked_fill(code <= 0, torch.inf)
        least = -largest(-(positive.amin() if len(code) else code.new_tensor(torch.inf)))
        self.steps += 1
        follows = ((1 + self.steps) / (10 + self.steps)).clamp_max(FOLLOWS)
        moved = torch.lerp(least, self.threshold, follows.to(least))
        self.threshold.copy_(torch.where(least.isfinite(), moved, self.threshold))


class Matryoshka(BatchTopK):
    """`BatchTopK` whose first latents reconstruct on their own (Bussmann et al. 2025, 2503.17547).

    Of prefixes m_1 < … < m_L = n of the latents each has x̂^(j) = b_dec + Σ_{i ≤ m_j} z_i W_dec,i,
    and the loss is Σ_j ‖x − x̂^(j)‖²: the penalty is that of all prefixes but the last. An atom is
    decoded once: x̂^(j) is x̂^(j−1) and what the latents in between add.

    Args:
        k, units: see `BatchTopK`.
        shares: m_j / n, rising to 1.
    """

    bounds: Tensor

    def __init__(self, k: int, units: int, shares: Sequence[float]) -> None:
        super().__init__(k, units)
        each = partial(check_number, low=0, high=1, open_low=True)
        self.shares = check_list("sparsity.shares", shares, each, "[0.25,0.5,1]")
        sizes = [max(1, round(share * units)) for share in self.shares]
        if self.shares[-1] != 1 or sizes != sorted(set(sizes)):
            raise refused(
                "sparsity.shares",
                shares,
                f"shares of the {units} latents that rise to 1, such as [0.25,0.5,1]",
            )
        self.levels = len(sizes)
        bounds = torch.tensor(sizes[:-1], dtype=torch.int32)
        self.register_buffer("bounds", bounds, persistent=False)

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"k={self.k}, shares={self.shares}"

    def level_of(self, index: Tensor) -> Tensor:
        """Return the first prefix that has each of some latents `(M,)`."""
        return torch.searchsorted(self.bounds, index, right=True, out_int32=True)

    def penalty(self, step: Step) -> Tensor:
        """Return the squared errors of all prefixes but the last."""
        around = step.target - step.pre_bias
        return (around - step.levels[:-1]).square().sum() / step.rows


@torch.no_grad()
def threshold_of(k: int, encoder: Encoder) -> float:
    """Return the number above which k pre-activations of a row are in the mean; at least 0."""
    every = max(1, len(encoder.x) // START_AT)  # from all over them
    some = replace(encoder, x=encoder.x[::every][:START_AT].contiguous())
    collector = LargestOfBatch(k, some)
    for a in some.chunks():
        collector.add(a)
    return collector.least(collector.found().values)
