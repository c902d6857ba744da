"""Where the places of a code are found, in pre-activations that come a few rows at a time."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from aecli.dictionaries.places import Places
from aecli.dictionaries.products import Encoder, above, largest
from aecli.distributed import gathered, total
from aecli.distributed import largest as largest_of_all
from aecli.size import check_fits

SLACK = 4
"""Of products of few bits one place more is looked at exactly for each of so many, and 8 more."""
MANY, BYTES = 1 << 23, 80
"""Places whose memory is looked after, and what a step holds for each."""
ENOUGH, PLENTY = 1.25, 2.0
"""Numbers of a chunk that are held, at least and about, by those that would be its share."""


class Collector(ABC):
    """Finds places in the pre-activations of a batch, which come a few rows at a time."""

    @abstractmethod
    def add(self, a: Tensor) -> None:
        """Look at the pre-activations of the next rows, `(C, n)`; leave them as they are."""

    @abstractmethod
    def found(self) -> tuple[Places, Tensor]:
        """Return the places, and the pre-activations there, `(M,)`."""

    def chosen(self, places: Places, values: Tensor) -> tuple[Places, Tensor]:
        """Return those places that stay by the exact pre-activations there."""
        return places, values


class Largest(Collector):
    """The k largest pre-activations of each row, of all latents or of some.

    Args:
        k: how many.
        encoder: of the pre-activations.
        among: the latents to choose from, `(D,)`; None for all.
        shift: is added to the pre-activations of each latent, `(n,)`; None for nothing.
    """

    def __init__(
        self, k: int, encoder: Encoder, among: Tensor | None = None, shift: Tensor | None = None
    ) -> None:
        self.latents = len(encoder.weight)
        self.among, self.shift = among, shift
        most = self.latents if among is None else len(among)
        self.k = min(k, most)
        slack = 0 if encoder.is_exact else 8 + self.k // SLACK
        self.looked_at = min(self.k + slack, most)
        self._values: list[Tensor] = []
        self._index: list[Tensor] = []
        if among is not None and most % 8:  # blocks of 8
            among = torch.cat([among, among[:1].expand(8 - most % 8)])
        self._columns = among

    def add(self, a: Tensor) -> None:
        """Look at the next rows."""
        if self._columns is not None and self.among is not None:
            a = a.index_select(1, self._columns)
            if self.shift is not None:
                a += self.shift[self._columns]
            a[:, len(self.among) :] = -torch.inf
        values, index = largest(a, self.looked_at)
        self._values.append(values)
        self._index.append(index.int() if self.among is None else self.among[index].int())

    def found(self) -> tuple[Places, Tensor]:
        """Return the places of the largest numbers."""
        index = torch.cat(self._index)
        return Places.of_each(index, self.latents), torch.cat(self._values).flatten().float()

    def chosen(self, places: Places, values: Tensor) -> tuple[Places, Tensor]:
        """Return the k largest of each row; of some latents, those above 0: often few are."""
        if self.looked_at > self.k:
            best, order = values.view(places.rows, -1).topk(self.k, dim=1, sorted=False)
            index = places.index.view(places.rows, -1).gather(1, order)
            places, values = Places.of_each(index, self.latents), best.flatten()
        if self.among is None:
            return places, values
        kept = values > 0
        return places.where(kept), values[kept]


class Above(Collector):
    """All pre-activations above a floor.

    Args:
        floor: the floor.
        encoder: of the pre-activations.
    """

    def __init__(self, floor: float, encoder: Encoder) -> None:
        self.latents, self.floor = len(encoder.weight), floor
        self.margin = encoder.margin
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []
        self._places = self._rows = 0

    def add(self, a: Tensor) -> None:
        """Look at the next rows."""
        self._found.append(above(a, self.floor - self.margin))
        self._places, self._rows = self._places + len(self._found[-1][2]), self._rows + len(a)
        if self._places > MANY:
            active = self._places // self._rows
            what = (
                f"sparsity: {active:,} of {self.latents:,} latents are active on a row, and a step"
            )
            check_fits(what, BYTES * self._places)

    def found(self) -> tuple[Places, Tensor]:
        """Return the places above the floor."""
        return joined(self._found, self.latents)

    def chosen(self, places: Places, values: Tensor) -> tuple[Places, Tensor]:
        """Return the places above the floor."""
        if not self.margin:
            return places, values
        kept = values > self.floor
        return places.where(kept), values[kept]


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

    def found(self) -> tuple[Places, Tensor]:
        """Return the places that may be among the largest."""
        while True:
            least = self.least(torch.cat([values for _, _, values in self._found]))
            lacking = [i for i, floor in enumerate(self._floors) if floor > least]
            for number in lacking:
                self._found[number] = above(self.encoder.chunk(number), least)
                self._floors[number] = least
            if not largest_of_all(self.encoder.x.new_tensor(float(len(lacking)))):
                return joined(self._found, len(self.encoder.weight))

    def least(self, values: Tensor) -> float:
        """Return the least of the B·k largest of the values of all processes; 0 if all are."""
        count = self.k * int(total(self.encoder.x.new_tensor(float(len(self.encoder.x)))))
        return _least(torch.cat(gathered(values)), count)

    def chosen(self, places: Places, values: Tensor) -> tuple[Places, Tensor]:
        """Return the places of the largest."""
        least = self.least(values)
        kept = values >= least if least > 0 else values > 0
        return places.where(kept), values[kept]


def joined(found: list[tuple[Tensor, Tensor, Tensor]], latents: int) -> tuple[Places, Tensor]:
    """Return the places and the numbers of chunks of rows as `above` found them."""
    counts, index, values = map(torch.cat, zip(*found, strict=True))
    return Places.of_counts(index, counts, latents), values.float()


def _least(values: Tensor, count: int) -> float:
    """Return the `count`-th largest value; 0 if there are fewer, or if it is less."""
    if len(values) < count:
        return 0.0
    return max(0.0, float(values.float().kthvalue(len(values) - count + 1).values))
