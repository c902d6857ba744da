"""Shuffled batches of rows that stay on the disk."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from aecli.data.batches import Batch, Batches
from aecli.data.ranges import Ranges
from aecli.data.splits import Examples, Split
from aecli.randomness import derived_seed

MIXED = 128 << 20
"""Bytes of rows that are shuffled together; as many are being read meanwhile."""

T = TypeVar("T")


class MixedBatches(Batches):
    """Batches in an order that a seed draws, of a split whose rows are blocks of a file.

    The blocks are shuffled, and cut into groups of `MIXED` bytes. The rows of a group are read into
    memory and shuffled; batches are cut from them one after the other. So each block is read once,
    as a whole, and which rows a batch has follows from the seed and its number: a pass can begin at
    any batch, by reading the group that this one lies in. A thread reads the next group while the
    batches of one are used. Targets are read beside their rows, in the same blocks.

    Args:
        split: the examples, whose `rows` are the blocks.
        batch_size, device, seed, part: see `Batches`.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        device: torch.device,
        seed: Callable[[], int],
        part: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(split, batch_size, device, seed, part=part)

    def __iter__(self) -> Iterator[Batch]:
        assert self.seed is not None, "of a training"
        rank, parts = self.part
        edges = [0, *self.ends, len(self.split)][self.done :]
        groups = self._groups(self.seed(), edges[0])
        self.done = 0
        with ThreadPoolExecutor(1) as thread:
            coming = ahead(groups, thread)
            group = next(coming).on(self.device)
            for start, end in pairwise(edges):
                own = torch.arange(start, end).tensor_split(parts)[rank]
                pieces = []
                while len(own):
                    while int(own[0]) >= group.end:  # all of a group may be other processes'
                        group = next(coming).on(self.device)
                    here, own = own.tensor_split([group.end - int(own[0])])
                    places = group.order[here - group.start].to(self.device)
                    pieces.append([rows.index_select(0, places) for rows in group.rows])
                cards = (part.card for part in self._read)
                stored = map(torch.cat, zip(*pieces, strict=True))
                x, *target = (card.scaled(v) for card, v in zip(cards, stored, strict=True))
                label = torch.zeros(len(x), dtype=torch.long, device=self.device)
                batch = Batch(x, x, label, parts * len(x) / (end - start))
                yield batch._replace(target=target[0]) if target else batch

    @property
    def _read(self) -> list[Examples]:
        """What is read: the rows and, if there are any, their targets."""
        examples = self.split.examples
        return [examples] if examples.targets is None else [examples, examples.targets]

    def _groups(self, seed: int, first: int) -> Iterator["_Group"]:
        """Yield the groups of a pass, from that on which has its row `first`."""
        read, blocks = self._read, self.split.rows
        assert isinstance(blocks, Ranges), "blocks of a file"
        order = torch.randperm(len(blocks.ends), generator=_generator(seed))
        size = sum(part.values[:1].nbytes for part in read) * len(blocks)
        count = min(-(-size // MIXED), len(order))
        groups = [blocks.chosen(some).in_order() for some in order.tensor_split(count)]
        ends = list(accumulate(map(len, groups)))
        for number, (rows, end) in enumerate(zip(groups, ends, strict=True)):
            if end > first:
                mixed = torch.randperm(len(rows), generator=_generator(derived_seed(seed, number)))
                taken = [part.taken(rows[:]) for part in read]
                yield _Group(end - len(rows), end, taken, mixed)


class _Group(NamedTuple):
    start: int
    """Its first row's place in the pass."""
    end: int
    rows: list[Tensor]
    """As they are kept, in the order of the file: the rows, and their targets if there are any."""
    order: Tensor
    """In which they are used."""

    def on(self, device: torch.device) -> "_Group":
        """Return the group with its rows in the memory of a device."""
        return self._replace(rows=[rows.to(device) for rows in self.rows])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ahead(items: Iterator[T], thread: ThreadPoolExecutor) -> Iterator[T]:
    """Yield the same items; the next one is made by a thread while one is used."""
    waiting = thread.submit(next, items, None)
    while (item := waiting.result()) is not None:
        waiting = thread.submit(next, items, None)
        yield item
