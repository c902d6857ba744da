"""Rows of a known dictionary's features, drawn as they are needed: of any number."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aecli.data.activations import RowNumbers
from aecli.data.array_card import ArrayCard
from aecli.data.batches import Batch, Batches
from aecli.data.mixed import ahead
from aecli.data.module import DataModule
from aecli.data.ranges import Ranges
from aecli.data.records import Card, Records, ends_and_between
from aecli.data.shards import RowArray
from aecli.data.splits import Examples, Split, Splitting
from aecli.data.true_dictionary import Firings, TrueDictionary
from aecli.errors import SettingError, check_int, check_seed
from aecli.randomness import derived_seed
from aecli.text import counted

BLOCK = 256
"""Rows that are drawn together."""
LOOKED_AT = 1024
"""Training rows that show what values there are."""
MOST_HELD_OUT = 10_000_000
"""Rows of validation or test."""


class Drawn(NamedTuple):
    """Consecutive rows, and what they are sums of."""

    x: Tensor
    """`(n, d)`."""
    firings: Firings


class Stream:
    """An endless sequence of rows, each of them a function of a seed and its place.

    Args:
        dictionary: whose features the rows are sums of.
        seed: another one gives other rows.
    """

    def __init__(self, dictionary: TrueDictionary, seed: int) -> None:
        self.dictionary, self.seed = dictionary, seed
        self._number, self._block = -1, Drawn(torch.empty(0), Firings(*[torch.empty(0)] * 3))

    def rows(self, start: int, end: int) -> Drawn:
        """Return the rows of some places, at least one."""
        parts = []
        for number in range(start // BLOCK, -(-end // BLOCK)):
            x, firings = self._drawn(number)
            first, last = max(0, start - number * BLOCK), min(BLOCK, end - number * BLOCK)
            edges = torch.tensor([first, last])
            here = slice(*torch.searchsorted(firings.row, edges).tolist())
            row, feature, value = (part[here] for part in firings)
            parts.append((x[first:last], row + (number * BLOCK - start), feature, value))
        x, row, feature, value = map(torch.cat, zip(*parts, strict=True))
        return Drawn(x, Firings(row, feature, value))

    def _drawn(self, number: int) -> Drawn:
        """Return a block; the last one is kept, as the next rows may be its, too."""
        if number != self._number:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, number))
            firings = self.dictionary.draw(BLOCK, generator)
            self._block = Drawn(self.dictionary.sums(firings, BLOCK), firings)
            self._number = number
        return self._block


class SplitRows(RowArray):
    """The rows of all splits, one split after the other, each from a stream of its own.

    Args:
        dictionary: whose features they are sums of.
        sizes: rows of each split.
        seed: of the streams.
    """

    dtype = torch.float32

    def __init__(self, dictionary: TrueDictionary, sizes: dict[str, int], seed: int) -> None:
        self.sizes = sizes
        self.streams = [Stream(dictionary, derived_seed(seed, name)) for name in sizes]
        self.ends = np.cumsum(list(sizes.values()))
        self.shape = (int(self.ends[-1]), dictionary.width)

    def taken(self, rows: Tensor) -> Tensor:
        """Return some rows `(n,)`, n > 0, as bytes `(n, size)`; neighbours are drawn together."""
        places = rows.numpy()
        apart = np.diff(places) != 1
        apart |= np.diff(np.searchsorted(self.ends, places, side="right")) != 0
        edges = [0, *np.flatnonzero(apart) + 1, len(places)]
        parts = [self.drawn(int(places[a]), int(places[b - 1]) + 1).x for a, b in pairwise(edges)]
        return torch.cat(parts).view(torch.uint8)

    def drawn(self, start: int, end: int) -> Drawn:
        """Return consecutive rows of one split, at least one, and what they are sums of."""
        number = int(np.searchsorted(self.ends, start, side="right"))
        first = int(self.ends[number]) - list(self.sizes.values())[number]
        return self.streams[number].rows(start - first, end - first)

    def ranges(self) -> dict[str, Ranges]:
        """Return the rows of each split."""
        return {
            name: Ranges(torch.tensor([int(end) - size]), torch.tensor([size]))
            for (name, size), end in zip(self.sizes.items(), self.ends, strict=True)
        }


class SyntheticFeatures:
    """The source of such rows: see `SyntheticData`."""

    def __init__(self, dictionary: TrueDictionary, sizes: dict[str, int], seed: int) -> None:
        self.dictionary, self.sizes, self.seed = dictionary, sizes, seed

    def read(self, root: str | None, card: Card | None) -> Records:
        """Return the rows, none of which is drawn yet; `root` is not needed."""
        known = self.dictionary
        alone = known.count - known.in_trees
        understood = (
            f"a known dictionary of {known.count:,} features in {known.width:,} dimensions:"
            f" {counted(known.trees, 'trees')} of {known.in_trees:,} features,"
            f" {alone:,} in none; rows are drawn as they are needed"
        )
        return Records(SplitRows(known, self.sizes, self.seed), understood=understood)

    def fit(self, records: Records, rows: Tensor | Ranges) -> ArrayCard:
        """Return the card of rows that are left as they are."""
        zero, one = torch.zeros(()).double(), torch.ones(()).double()
        return ArrayCard("rows", (self.dictionary.width,), "float32", zero, one)


class OwnSplitting(Splitting):
    """The splits that the rows were drawn for."""

    def __call__(self, records: Records) -> dict[str, Any]:
        """Return the rows of the training, validation and test split."""
        return records.data.ranges()

    def said(self, records: Records) -> str:
        """Return nothing: none is drawn from another."""
        return ""


class SyntheticData(DataModule):
    """Rows x `(d,)` that are sparse sums of known features: see `TrueDictionary`.

    They are drawn on the way, `BLOCK` together, each by a seed and its place, so that a pass can
    begin anywhere. Each pass of a training has rows of its own, by the run's seed and the epoch.
    The validation and the test split are the same in every run of a `seed`; so is the "train" split
    that other commands look at.

    Args:
        rows: training rows of an epoch.
        validation_size, test_size: rows of these splits.
        batch_size: rows a step.
        seed: of the dictionary and of these splits.
        shape, features: found in the data.
        binarize: none; these rows are not binarized.
        dictionary: the other arguments of `TrueDictionary`.
    """

    def __init__(
        self,
        rows: int,
        validation_size: int,
        test_size: int,
        batch_size: int = 1024,
        seed: int = 0,
        shape: Sequence[int] | None = None,
        features: Any = None,
        binarize: str = "none",
        **dictionary: Any,
    ) -> None:
        if binarize != "none":
            raise SettingError(f"dataset.binarize={binarize}: features are not binarized")
        check_int("dataset.batch_size", batch_size, 1)  # a whole pass would be no batch
        check_int("dataset.rows", rows, 1)
        if rows < batch_size:
            raise SettingError(
                f"dataset.rows={rows}: must be at least dataset.batch_size={batch_size}"
            )
        sizes = {"train": rows}
        for name, size in (("validation", validation_size), ("test", test_size)):
            sizes[name] = check_int(f"dataset.{name}_size", size, 1, MOST_HELD_OUT)
        check_seed("dataset.seed", seed)
        known = TrueDictionary(seed=seed, **dictionary)
        source = SyntheticFeatures(known, sizes, seed)
        super().__init__(
            source, None, shape, batch_size, validation_size, test_size=test_size, split_seed=seed
        )
        self.dictionary = known
        self.splitting = OwnSplitting(validation_size, test_size, None, None, seed)

    def move(self, device: torch.device) -> None:
        """Send batches to `device`."""
        self.device = device

    def shuffled(self, name: str, batch_size: int | None, seed: Callable[[], int]) -> Batches:
        """Return the batches of a pass over rows that `seed` draws, as many as a split has."""
        return DrawnBatches(self.dictionary, self.splits[name], batch_size or 1, self.device, seed)

    def drawn(self, name: str, batch_size: int) -> "DrawnParts":
        """Return the rows of a split in its own order, with what they are sums of."""
        return DrawnParts(self.splits[name], batch_size)

    def values(self, name: str = "train") -> Tensor:
        """Return values of x in some rows of a split that show whether a likelihood fits them."""
        return ends_and_between(self._some(LOOKED_AT, name))

    def mean(self) -> Tensor:
        """Return the mean of some training rows, `(d,)`."""
        return self.some(1 << 15).double().mean(dim=0).float()

    def some(self, count: int) -> Tensor:
        """Return training rows `(count, d)`; where the split has fewer, some come again."""
        return self._some(count, "train")

    def _some(self, count: int, name: str) -> Tensor:
        rows = self.rows[name]
        taken = self.splits["train"].examples.taken(rows[torch.arange(count) % len(rows)])
        return taken.view(torch.float32)

    def _examples(self, records: Records, card: Card) -> Examples:
        rows = records.data
        if not isinstance(rows, SplitRows):  # given in memory
            return super()._examples(records, card)
        values = torch.empty(rows.shape, dtype=rows.dtype, device="meta")  # a shape, no memory
        labels = torch.zeros(1, dtype=torch.long).expand(len(rows))
        return Examples(values, card, labels, RowNumbers(), rows)


class DrawnParts:
    """The rows of a split and what they are sums of, `batch_size` at a time."""

    def __init__(self, split: Split, batch_size: int) -> None:
        self.split, self.batch_size = split, batch_size

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[Drawn]:
        rows = self.split.examples.file
        assert isinstance(rows, SplitRows), "drawn"
        for part in self.split.rows.split(self.batch_size):
            yield rows.drawn(int(part[0]), int(part[-1]) + 1)


class DrawnBatches(Batches):
    """Batches of rows that a seed draws; a thread draws the next one while one is used.

    Args:
        dictionary: whose features they are sums of.
        split: says how many rows a pass has.
        batch_size, device, seed: see `Batches`.
    """

    def __init__(
        self,
        dictionary: TrueDictionary,
        split: Split,
        batch_size: int,
        device: torch.device,
        seed: Callable[[], int],
    ) -> None:
        super().__init__(split, batch_size, device, seed)
        self.dictionary = dictionary

    def __iter__(self) -> Iterator[Batch]:
        assert self.seed is not None, "of a training"
        stream = Stream(self.dictionary, derived_seed(self.dictionary.seed, "pass", self.seed()))
        edges = [0, *self.ends, len(self.split)][self.done :]
        self.done = 0
        with ThreadPoolExecutor(1) as thread:
            for x, weight in ahead(self._parts(stream, edges), thread):
                x = x.to(self.device)
                label = torch.zeros(len(x), dtype=torch.long, device=self.device)
                yield Batch(x, x, label, weight)

    def _parts(self, stream: Stream, edges: list[int]) -> Iterator[tuple[Tensor, float]]:
        """Yield this process's part of each batch, and its weight."""
        rank, parts = self.part
        for start, end in pairwise(edges):
            own = torch.arange(start, end).tensor_split(parts)[rank]
            yield stream.rows(int(own[0]), int(own[-1]) + 1).x, parts * len(own) / (end - start)
