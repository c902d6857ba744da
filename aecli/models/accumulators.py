"""Sums over an epoch that stay on the device: the host reads nothing before the epoch ends.

Where several processes train together, what is computed at its end is over all of them.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from aecli.distributed import are_several, total

SCALARS, NUMBERS = 1 << 6, 1 << 15
"""Means, and activations, after which sums are taken: a few operations then, not for each batch."""


class Means:
    """Means over examples: a batch counts as often as it has examples."""

    def __init__(self) -> None:
        self._count = 0
        self._keys: tuple[str, ...] = ()
        self._pending: list[Tensor] = []
        self._pending_count = self._pending_size = 0
        self._sum: Tensor | None = None

    def add(self, means: Mapping[str, Tensor], count: int) -> None:
        """Add the scalar means over a batch of `count` examples; the same keys each time."""
        if count != self._pending_size or len(self._pending) >= SCALARS:
            self._take()
        self._keys, self._pending_size = tuple(means), count
        self._pending += [value.detach() for value in means.values()]
        self._pending_count += count

    def _take(self) -> None:
        if self._pending:
            values = torch.stack(self._pending).view(-1, len(self._keys)).sum(dim=0)
            total = torch.zeros_like(values) if self._sum is None else self._sum
            self._sum = total.add_(values, alpha=self._pending_size)
            self._count += self._pending_count
            self._pending, self._pending_count = [], 0

    def compute(self) -> dict[str, float]:
        """Return the mean over all examples added, by key."""
        self._take()
        if self._sum is None:
            return {}
        values = self._sum
        if are_several():
            values = total(torch.cat([values.double(), values.new_tensor([self._count]).double()]))
            return dict(zip(self._keys, (values[:-1] / values[-1]).tolist(), strict=True))
        return dict(zip(self._keys, (values / self._count).tolist(), strict=True))


class Activity:
    """The health of a code: how active its units are over a whole set of images.

    Args:
        active: tells which units of codes `(B, K)` are active, `(B, K)` bool.
    """

    def __init__(self, active: Callable[[Tensor], Tensor]) -> None:
        self.active = active
        self._count = 0
        self._pending: list[Tensor] = []
        self._pending_numbers = 0
        self._active: Tensor | None = None
        self._total: Tensor | None = None

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
        total, active = codes.sum(dim=0), self.active(codes).sum(dim=0)
        self._total = total if self._total is None else self._total + total
        self._active = active if self._active is None else self._active + active
        self._count += len(codes)
        self._pending, self._pending_numbers = [], 0

    @property
    def unit_means(self) -> Tensor:
        """Mean activation ρ̂_j of each unit, `(K,)`."""
        self._take()
        assert self._total is not None, "no codes were added"
        return self._total / self._count

    def compute(self) -> dict[str, float]:
        """Return the mean activation, the active units per image (L0), the share of dead units.

        A unit is dead if no image activated it. Called once, at the end.
        """
        self._take()
        if self._active is None or self._total is None:
            return {}
        if are_several():
            sums = [self._total.double(), self._active.double()]
            sums.append(sums[0].new_tensor([self._count]))
            *both, count = total(torch.cat(sums)).split(len(self._total))
            self._total, self._active, self._count = *both, int(count)
        values = torch.stack(
            [
                self.unit_means.mean(),
                self._active.sum() / self._count,
                (self._active == 0).float().mean(),
            ]
        )
        return dict(zip(("mean_activation", "l0", "dead_share"), values.tolist(), strict=True))
