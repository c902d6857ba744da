"""The encoder's product, `(B, n)`, a few rows at a time, and the largest numbers of each row."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from aecli.dictionaries.places import Places

CHUNK = 1 << 24
"""Pre-activations that are held at once."""
PART = 2048
"""Bags in a part of a batch, whose gradients are added to those of the parts before.

What a step holds beside them grows with it; each part costs a pass over them.
"""
BLOCKS = (4, 8, 32, 64, 128)
"""Of columns; the maxima of 16 take longer than those of 4 or 32 (torch 2.13, AVX-512)."""
LARGE = 32


@dataclass(frozen=True)
class Encoder:
    """a = (x − b_dec) W_encᵀ + b_enc of B examples, which is never held as a whole.

    Args:
        x: the examples, `(B, d)`.
        weight: W_enc, `(n, d)`.
        bias: `(n,)`.
        dtype: of the products. If it is not that of the weight, a selection is made from products
            of fewer bits, and takes the exact numbers at the places that it chooses.
        pre_bias: b_dec, `(d,)`; None for 0.
        scratch: memory that may be written to while a is computed; None for new memory.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor
    dtype: torch.dtype = torch.float32
    pre_bias: Tensor | None = None
    scratch: Tensor | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the products are those of the weight itself."""
        return self.dtype == self.weight.dtype

    def chunks(self) -> Iterator[Tensor]:
        """Yield a of a few rows after the other, `(C, n)`: a buffer that the next one overwrites.

        The caller may write to it.
        """
        weight, bias = self._rounded
        buffer = self._buffer()
        for part in self._around(self.rows):
            yield torch.addmm(bias, part.to(self.dtype), weight.T, out=buffer[: len(part)])

    def _buffer(self) -> Tensor:
        rows, latents = min(self.rows, len(self.x)), len(self.weight)
        if self.scratch is not None:
            numbers = self.scratch.view(-1).view(self.dtype)
            if len(numbers) >= rows * latents:
                return numbers[: rows * latents].view(rows, latents)
        return self.weight.new_empty(rows, latents, dtype=self.dtype)

    def chunk(self, number: int) -> Tensor:
        """Return one of the `chunks` anew."""
        weight, bias = self._rounded
        part = self.around(self.x.split(self.rows)[number])
        return torch.addmm(bias, part.to(self.dtype), weight.T)

    @property
    def rows(self) -> int:
        """The rows of a chunk."""
        return max(1, CHUNK // len(self.weight))

    def around(self, x: Tensor) -> Tensor:
        """Return examples without the pre-bias."""
        return x if self.pre_bias is None else x - self.pre_bias

    def _around(self, rows: int) -> Iterator[Tensor]:
        return map(self.around, self.x.split(rows))

    @cached_property
    def _rounded(self) -> tuple[Tensor, Tensor]:
        return self.weight.to(self.dtype), self.bias.to(self.dtype)

    @cached_property
    def margin(self) -> Tensor:
        """What a product may be off by: some six standard deviations of its rounding."""
        squares = [torch.linalg.vector_norm(part).square() for part in self._around(PART)]
        each = torch.stack(squares).sum() * torch.linalg.vector_norm(self.weight).square()
        size = len(self.x) * len(self.weight) * self.x.shape[1]
        return 8 * torch.finfo(self.dtype).eps * (each / size).sqrt()

    def at(self, places: Places) -> Tensor:
        """Return the exact a at places of B bags, `(M,)`."""
        parts = zip(places.split(PART), self._around(PART), strict=True)
        products = torch.cat([part.products(x, self.weight) for part, x in parts])
        return products.add_(self.bias.index_select(0, places.index))


def largest(a: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest numbers of each row of `(C, n)` and their columns, `(C, k)` both.

    As `torch.topk` does, in no order. Of blocks of columns the k with the largest maxima hold the k
    largest numbers: n/s maxima and k·s numbers are looked at for blocks of s, in place of n. Of the
    k·s it is done again.
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
    values, places = largest(held, k)
    return values, best.gather(1, places // size) * size + places % size


def _block(columns: int, k: int) -> int:
    """Return the size of blocks for which least is looked at; 0 if none pays."""
    # The k·s numbers of large blocks are looked at by blocks again: they count less.
    looked_at = {
        size: columns // size + k * size // (4 if size >= LARGE else 1)
        for size in BLOCKS
        if columns % size == 0 and columns // size >= 2 * k
    }
    best = min(looked_at, key=looked_at.__getitem__, default=0)
    return best if best and looked_at[best] < columns / 2 else 0


def above(a: Tensor, floor: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
