"""Sums over an epoch that stay on the device: the host reads nothing before the epoch ends.

Where several processes train together, what is computed at its end is over all of them.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from aecli.distributed import largest, total
from aecli.sparsity import Sparsity

NUMBERS = 1 << 16
"""Activations that are collected before they are summed: fewer operations than batch by batch."""


class Means:
    """Means over examples: a batch counts as often as it has examples."""

    def __init__(self) -> None:
        self._keys: tuple[str, ...] = ()
        self._values: list[Tensor] = []
        self._counts: list[int] = []

    def add(self, means: Mapping[str, Tensor], count: int) -> None:
        """Add the scalar means over a batch of `count` examples; the same keys each time."""
        self._keys = tuple(means)
        self._values += [value.detach() for value in means.values()]
        self._counts.append(count)

    def compute(self) -> dict[str, float]:
        """Return the mean over all examples added, by key."""
        if not self._counts:
            return {}
        values = torch.stack(self._values).view(-1, len(self._keys)).double()
        counts = torch.tensor(self._counts, dtype=torch.float64).to(values.device)
        sums = total(torch.cat([counts @ values, counts.sum()[None]]))
        return dict(zip(self._keys, (sums[:-1] / sums[-1]).tolist(), strict=True))


class Activity:
    """The health of a code: how active its units are over a whole set of examples.

    Args:
        sparsity: of the code; says when a unit is active, and when it is dead.
    """

    def __init__(self, sparsity: Sparsity) -> None:
        self.sparsity = sparsity
        self._count = 0
        self._pending: list[Tensor] = []
        self._pending_numbers = 0
        self._sums: Tensor | None = None
        """Of each unit's activations, then of all active units, `(K + 1,)`."""
        self._extremes: Tensor | None = None
        """Of each unit: minus the lowest activation, and the highest, `(2, K)`."""

    def add(self, code: Tensor) -> None:
        """Add the codes `(B, K)` of a batch."""
        self._pending.append(code.detach())
        self._pending_numbers += code.numel()
        if self._pending_numbers >= NUMBERS:
            self._take()

    def _take(self) -> None:
        if not self._pending:
            return
        codes = torch.cat(self._pending) if len(self._pending) > 1 else self._pending[0]
        active = self.sparsity.active(codes).count_nonzero()
        sums = torch.cat([codes.sum(dim=0).double(), active[None].double()])
        # Not aminmax, which takes ten times as long along the columns.
        extremes = torch.stack([-codes.amin(dim=0), codes.amax(dim=0)])
        self._sums = sums if self._sums is None else self._sums.add_(sums)
        self._extremes = extremes if self._extremes is None else self._extremes.maximum(extremes)
        self._count += len(codes)
        self._pending, self._pending_numbers = [], 0

    def compute(self) -> dict[str, float]:
        """Return the mean activation, the active units per example (L0), the dead share."""
        self._take()
        if self._sums is None or self._extremes is None:
            return {}
        minus_lowest, highest = largest(self._extremes)
        dead = self.sparsity.is_dead(-minus_lowest, highest)
        means = self._means()
        values = torch.stack([means[:-1].mean(), means[-1], dead.double().mean()])
        return dict(zip(("mean_activation", "l0", "dead_share"), values.tolist(), strict=True))

    @property
    def unit_means(self) -> Tensor:
        """Mean activation ρ̂_j of each unit, `(K,)`; over all processes."""
        self._take()
        return self._means()[:-1]

    def _means(self) -> Tensor:
        assert self._sums is not None, "no codes were added"
        sums = total(torch.cat([self._sums, self._sums.new_tensor([self._count])]))
        return sums[:-1] / sums[-1]
