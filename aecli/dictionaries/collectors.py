"""Where the places of a code are found, in pre-activations that come a few rows at a time.

A step of `TopK` waits for nothing on a GPU while no latent is dead. The others wait where the size
of a tensor depends on numbers: `Above` and `LargestOfBatch` for how many places a chunk has, the
latter for its floors, too; AuxK for how many latents are dead, and how many of their
pre-activations are above 0; `Places.split`, of a batch in several parts, for where they are cut.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from aecli.dictionaries.places import Places
from aecli.dictionaries.products import LARGE, Encoder, above, largest
from aecli.distributed import are_several, gathered, total
from aecli.distributed import largest as largest_of_all
from aecli.size import check_fits

SLACK = 4
"""Of products of few bits one place more is looked at exactly for each of so many, and 8 more."""
MANY_OF_ALL = 0.25
"""Share of the latents from which on a copy of their columns takes more time than all columns."""
MANY, BYTES = 1 << 23, 80
"""Places whose memory is looked after, and what a step holds for each."""
ENOUGH, PLENTY = 1.25, 2.0
"""Numbers of a chunk that are held, at least and about, by those that would be its share."""


class Found(NamedTuple):
    """What was found in pre-activations."""

    places: Places
    values: Tensor
    """The pre-activations there, `(M,)`."""

    def split(self, size: int) -> list["Found"]:
        """Return what was found of `size` rows after the other."""
        parts = self.places.split(size)
        return list(map(Found, parts, self.values.split([len(part) for part in parts])))


class Collector(ABC):
    """Finds places in the pre-activations of a batch, which come a few rows at a time."""

    shifts = False
    """Whether it looks at pre-activations to which `collected`'s shift has been added."""

    @abstractmethod
    def add(self, a: Tensor) -> None:
        """Look at the pre-activations of the next rows, `(C, n)`; leave them as they are."""

    @abstractmethod
    def found(self) -> Found:
        """Return the places, and the pre-activations there."""

    def chosen(self, found: Found) -> Found:
        """Return those places that stay by the exact pre-activations there."""
        return found


class Largest(Collector):
    """The k largest pre-activations of each row.

    Args:
        k: how many.
        encoder: of the pre-activations.
        latents: to choose from; None for n.
    """

    def __init__(self, k: int, encoder: Encoder, latents: int | None = None) -> None:
        self.latents = len(encoder.weight)
        most = self.latents if latents is None else latents
        self.k = min(k, most)
        slack = 0 if encoder.is_exact else 8 + self.k // SLACK
        self.looked_at = min(self.k + slack, most)
        self._values = encoder.x.new_empty(len(encoder.x), self.looked_at)
        self._index = torch.empty_like(self._values, dtype=torch.int32)
        self._done = 0

    def add(self, a: Tensor) -> None:
        """Look at the next rows."""
        self._add(*largest(a, self.looked_at))

    def _add(self, values: Tensor, index: Tensor) -> None:
        rows = slice(self._done, self._done + len(values))
        self._values[rows], self._index[rows] = values, index
        self._done = rows.stop

    def found(self) -> Found:
        """Return the places of the largest numbers."""
        return Found(Places.of_each(self._index, self.latents), self._values.flatten())

    def chosen(self, found: Found) -> Found:
        """Return the k largest of each row."""
        if self.looked_at == self.k:
            return found
        places, values = found
        best, order = values.view(places.rows, -1).topk(self.k, dim=1, sorted=False)
        index = places.index.view(places.rows, -1).gather(1, order)
        return Found(Places.of_each(index, self.latents), best.flatten())


class LargestOfSome(Largest):
    """Of some latents the k largest pre-activations of each row.

    It may write to what it looks at, so that it has to be the last one to look.

    Args:
        k: how many.
        encoder: of the pre-activations.
        some: the latents to choose from, `(D,)`.
        shift: is added to the pre-activations of each latent, `(n,)`; None for nothing.
    """

    shifts = True

    def __init__(self, k: int, encoder: Encoder, some: Tensor, shift: Tensor | None) -> None:
        super().__init__(k, encoder, len(some))
        # Of few their columns are copied; of many the others' are put out of the way.
        self._some = None if len(some) > MANY_OF_ALL * self.latents else some
        self._count = len(some)
        if self._some is not None:  # in whole blocks
            self._some = torch.cat([some, some[:1].expand(-len(some) % LARGE)])
        added = encoder.bias.new_zeros(self.latents) if shift is None else shift
        out = torch.full_like(added, -torch.inf).index_copy_(0, some, added.index_select(0, some))
        self._added = out.to(encoder.dtype)

    def add(self, a: Tensor) -> None:
        """Look at the next rows; write to them."""
        if self._some is None:
            super().add(a.add_(self._added))
            return
        a = a.index_select(1, self._some).add_(self._added[self._some])
        a[:, self._count :] = -torch.inf
        values, index = largest(a, self.looked_at)
        self._add(values, self._some[index])


class Above(Collector):
    """All pre-activations above a floor.

    Args:
        floor: the floor; as a tensor on the encoder's device nobody waits for it.
        encoder: of the pre-activations.
    """

    def __init__(self, floor: float | Tensor, encoder: Encoder) -> None:
        self.latents, self.floor = len(encoder.weight), floor
        self.is_exact = encoder.is_exact
        self._least = floor if self.is_exact else floor - encoder.margin
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []
        self._places = self._rows = 0

    def add(self, a: Tensor) -> None:
        """Look at the next rows."""
        self._found.append(above(a, self._least))
        self._places, self._rows = self._places + len(self._found[-1][2]), self._rows + len(a)
        if self._places > MANY:
            active = self._places // self._rows
            what = (
                f"sparsity: {active:,} of {self.latents:,} latents are active on a row, and a step"
            )
            check_fits(what, BYTES * self._places)

    def found(self) -> Found:
        """Return the places above the floor."""
        return joined(self._found, self.latents)

    def chosen(self, found: Found) -> Found:
        """Return the places above the floor."""
        if self.is_exact:
            return found
        kept = found.values > self.floor
        return Found(found.places.where(kept), found.values[kept])


class LargestOfBatch(Collector):
    """The B·k largest positive pre-activations of a batch of B rows, over all processes.

    Of each chunk of C rows those above a floor are held, some 2·C·k of them; the floor follows from
    the chunk before. A chunk of which too few were held, because others have less, is computed
    again: what is returned is exact.

    Args:
        k: mean number for a row.
        encoder: of the pre-activations.
        floor: of the first chunk.
    """

    def __init__(self, k: int, encoder: Encoder, floor: float = 0.0) -> None:
        self.encoder, self.k, self.floor = encoder, k, max(floor, 0.0)
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []
        self._floors: list[float] = []

    def add(self, a: Tensor) -> None:
        """Look at the next rows."""
        share, plenty = self.k * len(a), int(PLENTY * self.k * len(a))
        if not self._found and self.floor == 0:
            self.floor = self._lowered(a)
        found = above(a, self.floor)
        if self.floor > 0 and len(found[2]) < ENOUGH * share:
            self.floor = self._lowered(a)
            found = above(a, self.floor)
        self._found.append(found)
        self._floors.append(self.floor)
        if len(found[2]) > plenty:
            self.floor = _least(found[2], plenty)

    def _lowered(self, a: Tensor) -> float:
        """Return a floor above which there is plenty in a chunk."""
        few = min(a.shape[1], int(1.5 * PLENTY * self.k))
        return _least(largest(a, few)[0].flatten(), int(PLENTY * self.k * len(a)))

    def found(self) -> Found:
        """Return the places that may be among the largest."""
        while True:
            least = self.least(torch.cat([values for _, _, values in self._found]))
            lacking = [i for i, floor in enumerate(self._floors) if floor > least]
            for number in lacking:
                self._found[number] = above(self.encoder.chunk(number), least)
                self._floors[number] = least
            if not _largest_of_all(len(lacking), self.encoder.x.device):
                return joined(self._found, len(self.encoder.weight))

    def least(self, values: Tensor) -> float:
        """Return the least of the B·k largest of the values of all processes; 0 if all are."""
        return _least(torch.cat(gathered(values)), self.k * self._rows)

    @cached_property
    def _rows(self) -> int:
        """B, of all processes."""
        x = self.encoder.x
        return int(total(torch.tensor(len(x), device=x.device))) if are_several() else len(x)

    def chosen(self, found: Found) -> Found:
        """Return the places of the largest."""
        places, values = found
        least = self.least(values)
        kept = values >= least if least > 0 else values > 0
        return Found(places.where(kept), values[kept])


def collected(
    encoder: Encoder, collectors: Sequence[Collector], shift: Tensor | None
) -> list[Found]:
    """Return what collectors find, with the exact pre-activations there.

    `shift` `(n,)` is what the encoder's bias was lessened by, if anything.
    """
    for a in encoder.chunks():
        for collector in collectors:
            collector.add(a)
    every = []
    for collector in collectors:
        found = collector.found()
        is_shifted = collector.shifts
        if not encoder.is_exact:
            found = found._replace(values=encoder.at(found.places))
            if is_shifted:
                found = _shifted(found, shift)
        found = collector.chosen(found)
        every.append(found if is_shifted else _shifted(found, shift))
    return every


def _shifted(found: Found, shift: Tensor | None) -> Found:
    if shift is None:
        return found
    return found._replace(values=found.values + shift.index_select(0, found.places.index))


def joined(found: list[tuple[Tensor, Tensor, Tensor]], latents: int) -> Found:
    """Return the places and the numbers of chunks of rows as `above` found them."""
    counts, index, values = map(torch.cat, zip(*found, strict=True))
    return Found(Places.of_counts(index, counts, latents), values.float())


def _largest_of_all(count: int, device: torch.device) -> int:
    """Return the largest of the counts of all processes; for one alone the host knows it."""
    return int(largest_of_all(torch.tensor(count, device=device))) if are_several() else count


def _least(values: Tensor, count: int) -> float:
    """Return the `count`-th largest value; 0 if there are fewer, or if it is less."""
    if len(values) < count:
        return 0.0
    return max(0.0, float(values.float().kthvalue(len(values) - count + 1).values))
