"""The encoder's product, `(B, n)`, a few rows at a time, and the largest numbers of each row."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from aecli.dictionaries.places import Places

CHUNK = 1 << 24
"""Pre-activations that are held at once."""
BLOCKS = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Encoder:
    """a = x W_encᵀ + b_enc of B examples, which is never held as a whole.

    Args:
        x: the examples without the pre-bias, `(B, d)`.
        weight: W_enc, `(n, d)`.
        bias: `(n,)`.
        dtype: of the products. If it is not that of the weight, a selection is made from products
            of fewer bits, and takes the exact numbers at the places that it chooses.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor
    dtype: torch.dtype = torch.float32

    @property
    def is_exact(self) -> bool:
        """Whether the products are those of the weight itself."""
        return self.dtype == self.weight.dtype

    def chunks(self) -> Iterator[Tensor]:
        """Yield a of a few rows after the other, `(C, n)`: a buffer that the next one overwrites.

        The caller may write to it.
        """
        x, weight, bias = self._rounded
        buffer = x.new_empty(min(self.rows, len(x)), len(weight))
        for part in x.split(self.rows):
            yield torch.addmm(bias, part, weight.T, out=buffer[: len(part)])

    def chunk(self, number: int) -> Tensor:
        """Return one of the `chunks` anew."""
        x, weight, bias = self._rounded
        return torch.addmm(bias, x.split(self.rows)[number], weight.T)

    @property
    def rows(self) -> int:
        """The rows of a chunk."""
        return max(1, CHUNK // len(self.weight))

    @cached_property
    def _rounded(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.x.to(self.dtype), self.weight.to(self.dtype), self.bias.to(self.dtype)

    @cached_property
    def margin(self) -> float:
        """What a product may be off by: some six standard deviations of its rounding."""
        if self.is_exact:
            return 0.0
        squares = self.x.square().mean() * self.weight.square().mean() * self.x.shape[1]
        return 8 * torch.finfo(self.dtype).eps * float(squares.sqrt())

    def at(self, places: Places) -> Tensor:
        """Return the exact a at places, `(M,)`."""
        products = places.products(self.x, self.weight)
        return products.add_(self.bias.index_select(0, places.index))


def largest(a: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest numbers of each row of `(C, n)` and their columns, `(C, k)` both.

    As `torch.topk` does, in no order. Of blocks of columns the k with the largest maxima hold the k
    largest numbers: n/s maxima and k·s numbers are looked at for blocks of s, in place of n.
    """
    rows, columns = a.shape
    size = _block(columns, k)
    if size == 0:
        return a.topk(k, dim=1, sorted=False)
    blocks = a.view(rows, -1, size)
    best = blocks.amax(dim=2).topk(k, dim=1, sorted=False).indices
    count = columns // size
    first = torch.arange(0, rows * count, count, device=a.device)[:, None]
    held = a.view(-1, size).index_select(0, (best + first).flatten()).view(rows, -1)
    values, places = held.topk(k, dim=1, sorted=False)
    return values, best.gather(1, places // size) * size + places % size


def _block(columns: int, k: int) -> int:
    """Return the size of blocks for which least is looked at; 0 if none pays."""
    looked_at = {size: columns // size + k * size for size in BLOCKS if columns % size == 0}
    best = min(looked_at, key=looked_at.__getitem__, default=0)
    return best if best and looked_at[best] < columns / 2 else 0


def above(a: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return where numbers of `(C, n)` are above a floor, row by row.

    How many they are in each row `(C,)`, their columns and the numbers themselves `(M,)`.
    """
    rows, columns = a.shape
    size = next((s for s in (64, 32, 16, 8, 4, 2) if columns % s == 0), 1)
    blocks = a.view(-1, size)
    hits = (blocks.amax(dim=1) > floor).nonzero().squeeze(1)
    held = blocks.index_select(0, hits)
    is_above = held > floor
    place, column = is_above.nonzero(as_tuple=True)
    number = hits[place] * size + column
    counts = torch.bincount(number // columns, minlength=rows)
    return counts, number % columns, held[is_above]
