"""Many whole numbers as ranges of consecutive ones: 16 bytes a range, however long it is."""

from collections.abc import Iterator

import torch
from torch import Tensor


class Ranges:
    """The numbers s_1, s_1 + 1, …, s_1 + n_1 − 1, s_2, …: read like a tensor `(N,)` of them.

    Args:
        starts: s, `(R,)`, int64.
        lengths: n, `(R,)`, int64, each above 0.
    """

    device = torch.device("cpu")

    def __init__(self, starts: Tensor, lengths: Tensor) -> None:
        self.starts, self.lengths = starts, lengths
        self.ends = lengths.cumsum(0)
        """Up to which place each range goes."""

    @classmethod
    def of_mask(cls, mask: Tensor) -> "Ranges":
        """Return the places at which a mask `(N,)` is true."""
        edges = mask.byte().diff(prepend=torch.zeros(1).byte(), append=torch.zeros(1).byte())
        changes = edges.nonzero().flatten()  # bytes wrap around: 1 where it begins, 255 behind it
        return cls(changes[::2], changes[1::2] - changes[::2])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, places: Tensor | slice) -> Tensor:
        if isinstance(places, slice):
            places = torch.arange(*places.indices(len(self)))
        number = torch.searchsorted(self.ends, places, right=True)
        return places + (self.starts + self.lengths - self.ends)[number]

    def index_select(self, dim: int, places: Tensor) -> Tensor:
        """Return the numbers at some places, as a tensor does."""
        return self[places]

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield all numbers, `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def chosen(self, which: Tensor) -> "Ranges":
        """Return some of the ranges, by their numbers `(n,)` and in that order."""
        return Ranges(self.starts[which], self.lengths[which])

    def cut(self, count: int) -> tuple["Ranges", "Ranges"]:
        """Return the first `count` numbers, and the others."""
        whole = int(torch.searchsorted(self.ends, count, right=True))
        first = self.chosen(torch.arange(whole))
        rest = self.chosen(torch.arange(whole, len(self.ends)))
        if over := count - len(first):  # a range in two
            part = torch.tensor([over])
            first = Ranges(
                torch.cat([first.starts, rest.starts[:1]]), torch.cat([first.lengths, part])
            )
            starts, lengths = rest.starts.clone(), rest.lengths.clone()
            starts[0] += over
            lengths[0] -= over
            rest = Ranges(starts, lengths)
        return first, rest

    def in_order(self) -> "Ranges":
        """Return the same ranges, sorted by their starts."""
        return self.chosen(self.starts.argsort())


def blocks(count: int, size: int) -> Ranges:
    """Return 0, 1, …, count − 1 in ranges of `size`; the last may be shorter."""
    starts = torch.arange(0, count, size)
    return Ranges(starts, (count - starts).clamp_max(size))
