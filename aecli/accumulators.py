"""Sums over an epoch that stay on the device: the host reads nothing before the epoch ends."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Means:
    """Means over examples: a batch counts as often as it has examples."""

    def __init__(self) -> None:
        self._count = 0
        self._keys: tuple[str, ...] = ()
        self._sum: Tensor | None = None

    def add(self, means: Mapping[str, Tensor], count: int) -> None:
        """Add the scalar means over a batch of `count` examples; the same keys each time."""
        values = torch.stack(list(means.values())).detach().mul_(count)
        if self._sum is None:
            self._keys, self._sum = tuple(means), values
        else:
            self._sum += values
        self._count += count

    def compute(self) -> dict[str, float]:
        """Return the mean over all examples added, by key."""
        if self._sum is None:
            return {}
        return dict(zip(self._keys, (self._sum / self._count).tolist(), strict=True))


class Activity:
    """The health of a code: how active its units are over a whole set of images."""

    def __init__(self) -> None:
        self._count = 0
        self._active: Tensor | None = None
        self._total: Tensor | None = None

    def add(self, code: Tensor, active: Tensor) -> None:
        """Add the codes `(B, K)` of a batch, and which of their units are active, `(B, K)` bool."""
        total, counts = code.detach().sum(dim=0), active.sum(dim=0)
        if self._active is None or self._total is None:
            self._total, self._active = total, counts
        else:
            self._total += total
            self._active += counts
        self._count += len(code)

    @property
    def unit_means(self) -> Tensor:
        """Mean activation ρ̂_j of each unit, `(K,)`."""
        assert self._total is not None, "no codes were added"
        return self._total / self._count

    def compute(self) -> dict[str, float]:
        """Return the mean activation, the active units per image (L0), the share of dead units.

        A unit is dead if no image activated it.
        """
        if self._active is None:
            return {}
        values = torch.stack(
            [
                self.unit_means.mean(),
                self._active.sum() / self._count,
                (self._active == 0).float().mean(),
            ]
        )
        return dict(zip(("mean_activation", "l0", "dead_share"), values.tolist(), strict=True))
