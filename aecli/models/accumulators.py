"""Sums over an epoch that stay on the device: the host reads nothing before the epoch ends.

Where several processes train together, what is computed at its end is over all of them. A
checkpoint within an epoch carries what was summed so far: `state` gives it, and `load` takes it,
checked, into a sum that nothing was added to yet.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aecli.distributed import largest, total
from aecli.errors import SettingError
from aecli.sparsity import Sparsity

BATCHES = 1024
"""Whose means are collected before they are added up: fewer operations than batch by batch."""
NUMBERS = 1 << 16
"""Activations that are collected before they are summed: fewer operations than batch by batch."""


class Means:
    """Means over examples: a batch counts as often as it has examples."""

    def __init__(self) -> None:
        self._keys: tuple[str, ...] = ()
        self._values: list[Tensor] = []
        self._counts: list[int] = []
        self._sums: Tensor | None = None
        """Of each value times its count, then of the counts, of the batches before these."""

    def add(self, means: Mapping[str, Tensor], count: int) -> None:
        """Add the scalar means over a batch of `count` examples; the same keys each time."""
        self._keys = tuple(means)
        self._values += [value.detach() for value in means.values()]
        self._counts.append(count)
        if len(self._counts) >= BATCHES:
            self._take()

    def _take(self) -> None:
        """Add up the batches since the last time."""
        if not self._counts:
            return
        if len(self._values) != len(self._keys) * len(self._counts):
            raise SettingError("resume: what was added up of its epoch is not this model's")
        device = self._values[-1].device  # those of a checkpoint lie on the processor
        every = torch.stack([value.to(device) for value in self._values])
        values = every.view(-1, len(self._keys)).double()
        counts = torch.tensor(self._counts, dtype=torch.float64).to(device)
        sums = torch.cat([counts @ values, counts.sum()[None]])
        if self._sums is not None:
            if len(self._sums) != len(sums):
                raise SettingError("resume: what was added up of its epoch is not this model's")
            sums = sums + self._sums.to(device)
        self._sums, self._values, self._counts = sums, [], []

    def compute(self) -> dict[str, float]:
        """Return the mean over all examples added, by key."""
        self._take()
        if self._sums is None:
            return {}
        sums = total(self._sums)
        return dict(zip(self._keys, (sums[:-1] / sums[-1]).tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """Return what was added, summed or not: that it was asked for changes no last bit."""
        values = torch.stack(self._values).cpu() if self._values else torch.empty(0)
        sums = None if self._sums is None else self._sums.cpu()
        counts = torch.tensor(self._counts, dtype=torch.int64)
        return {"keys": list(self._keys), "values": values, "counts": counts, "sums": sums}

    def load(self, state: Mapping[str, Any], units: int) -> None:
        """Go on with the sums of a state; raise `SettingError`, or any error, if it is none."""
        keys, values, counts, sums = (state[name] for name in ("keys", "values", "counts", "sums"))
        are_names = isinstance(keys, list) and all(re.fullmatch(r"[a-z]\w{,40}", k) for k in keys)
        if not are_names or bool(keys) != bool(len(counts) or sums is not None):
            raise SettingError("has names that are none")
        check_sums(values, (len(keys) * len(counts),))
        if not all(count >= 1 for count in counts.tolist()):
            raise SettingError("has counts that are none")
        if sums is not None:
            check_sums(sums, (len(keys) + 1,), torch.float64)
            self._sums = sums.clone()
        self._keys = tuple(keys)
        self._values, self._counts = list(values.clone().unbind()), list(map(int, counts.tolist()))


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
        device = self._pending[-1].device  # what a checkpoint had lies on the processor
        pending = [code.to(device) for code in self._pending]
        codes = torch.cat(pending) if len(pending) > 1 else pending[0]
        active = self.sparsity.active(codes).count_nonzero()
        wide = torch.promote_types(codes.dtype, torch.float32)  # half floats would round each sum
        sums = torch.cat([codes.sum(dim=0, dtype=wide).double(), active[None].double()])
        # Not aminmax, which takes ten times as long along the columns.
        extremes = torch.stack([-codes.amin(dim=0), codes.amax(dim=0)])
        if self._sums is not None and self._extremes is not None:
            sums = sums.add_(self._sums.to(device))
            extremes = extremes.maximum(self._extremes.to(device))
        self._sums, self._extremes = sums, extremes
        self._count += len(codes)
        self._pending, self._pending_numbers = [], 0

    def state(self) -> dict[str, Any]:
        """Return what was added, summed or not: that it was asked for changes no last bit."""
        pending = torch.cat(self._pending).cpu() if self._pending else None
        sums = None if self._sums is None else self._sums.cpu()
        extremes = None if self._extremes is None else self._extremes.cpu()
        return {"count": self._count, "pending": pending, "sums": sums, "extremes": extremes}

    def load(self, state: Mapping[str, Any], units: int) -> None:
        """Go on with the sums of a state; raise `SettingError`, or any error, if it is none.

        `units` is K.
        """
        pending, sums, extremes = (state[name] for name in ("pending", "sums", "extremes"))
        self._count = state["count"]
        if not isinstance(self._count, int) or not 0 <= self._count < 1 << 62:
            raise SettingError("has a count that is none")
        if (sums is None) != (extremes is None) or (sums is None) != (self._count == 0):
            raise SettingError("has sums of nothing")
        if pending is not None:
            check_sums(pending, (len(pending), units))
            self._pending, self._pending_numbers = [pending.clone()], pending.numel()
        if sums is not None:
            check_sums(sums, (units + 1,), torch.float64)
            check_sums(extremes, (2, units))
            self._sums, self._extremes = sums.clone(), extremes.clone()

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
    def unit_means(self) -> Tensor | None:
        """Mean activation ρ̂_j of each unit, `(K,)`; over all processes. None without any codes."""
        self._take()
        return None if self._sums is None else self._means()[:-1]

    def _means(self) -> Tensor:
        assert self._sums is not None, "no codes were added"
        sums = total(torch.cat([self._sums, self._sums.new_tensor([self._count])]))
        return sums[:-1] / sums[-1]


def check_sums(found: Any, shape: Sequence[int], dtype: torch.dtype | None = None) -> None:
    """Refuse what is no finite tensor of a shape and, if one is given, a type."""
    fits = isinstance(found, Tensor) and found.shape == torch.Size(shape)
    if not fits or not found.is_floating_point() or dtype not in (None, found.dtype):
        raise SettingError(f"must have a tensor of shape {tuple(shape)}")
    if found.layout != torch.strided or not found.isfinite().all():
        raise SettingError("has numbers that are not finite")
