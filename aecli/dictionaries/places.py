"""The places (row, latent) at which a code of n latents is not 0, and what is computed there alone.

A dense step of a dictionary takes six products of 2·B·d·n operations: of the encoder, the decoder,
and their gradients. All but k of the n activations of a row are 0, so that all but the encoder's
own can be taken at B·k places, of 2·B·d·k operations each. No `(B, n)` and no `(B, k, d)` tensor is
made: each is a sum of rows of a matrix with weights, torch's `embedding_bag`, or the products of
pairs of rows, torch's `sampled_addmm`.

By latent rather than by row, a weight's row is read once for all places that need it: products of
2,048 rows at 256 of 65,536 latents each took a sixth of the time so.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

BLOCK = 1 << 20
"""Numbers of a gradient that are corrected at once: they stay in a processor's cache."""


def at_once(features: int, device: torch.device) -> int:
    """Return how many rows of so many features stay in a processor's cache; elsewhere 0: all."""
    return max(1, BLOCK // features) if device.type == "cpu" else 0


@dataclass(frozen=True)
class Places:
    """M places in bags: a bag is the part of a code that is decoded on its own.

    The bags of B rows are B; where some latents are decoded apart (those of an auxiliary loss, of
    a level), they are 2B and more, and bag g·B + b belongs to row b.
    """

    index: Tensor
    """The latent of each place, `(M,)`, int32, bag by bag."""
    ends: Tensor
    """Where the bags begin and end, `(bags + 1,)`, int32: 0, …, M."""
    rows: int
    """B."""
    latents: int
    """n."""
    each: int | None = None
    """The places of every bag, where all have as many and this is known without a look."""

    @classmethod
    def of_counts(cls, index: Tensor, counts: Tensor, latents: int) -> "Places":
        """Return the places of B bags with these numbers of places, `(B,)`."""
        ends = F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))
        return cls(index.int(), ends, len(counts), latents)

    @classmethod
    def of_each(cls, index: Tensor, latents: int) -> "Places":
        """Return the places of B bags of k places each, `(B, k)`."""
        rows, k = index.shape
        ends = torch.arange(0, rows * k + 1, k, dtype=torch.int32, device=index.device)
        return cls(index.int().flatten(), ends, rows, latents, k)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def bags(self) -> int:
        """How many bags there are."""
        return len(self.ends) - 1

    @cached_property
    def counts(self) -> Tensor:
        """The places of each bag, `(bags,)`."""
        return self.ends.diff()

    @cached_property
    def bag(self) -> Tensor:
        """The bag of each place, `(M,)`, int32."""
        numbers = torch.arange(self.bags, dtype=torch.int32, device=self.index.device)
        return numbers.repeat_interleave(self.counts, output_size=len(self))

    @property
    def row(self) -> Tensor:
        """The row of each place, `(M,)`, int32."""
        return self.bag if self.bags == self.rows else self.bag % self.rows

    @cached_property
    def by_latent(self) -> tuple[Tensor, Tensor]:
        """The order of the places by their latents, `(M,)`, and where each begins, `(n + 1,)`.

        Three sums and products go over the places of a latent: the order is found once.
        """
        ordered, order = self.index.sort(stable=True)
        latents = torch.arange(self.latents + 1, dtype=torch.int32, device=order.device)
        return order, torch.searchsorted(ordered, latents, out_int32=True)

    @cached_property
    def bag_by_latent(self) -> Tensor:
        """The bags of the places in the order of their latents, `(M,)`, int32."""
        return self.bag.index_select(0, self.by_latent[0])

    def split(self, size: int) -> list["Places"]:
        """Return these places of B bags as those of `size` rows after the other."""
        firsts = range(0, self.rows, size)
        if len(firsts) < 2:
            return [self]
        if self.each is not None:
            cuts = [first * self.each for first in firsts]
        else:  # one look for all
            cuts = self.ends[:-1:size].tolist()
        parts = []
        for first, (start, stop) in zip(firsts, pairwise([*cuts, len(self)]), strict=True):
            rows = min(size, self.rows - first)
            ends = self.ends[first : first + rows + 1] - start
            parts.append(Places(self.index[start:stop], ends, rows, self.latents, self.each))
        return parts

    def beside(self, other: "Places") -> "Places":
        """Return these places, and then bags of others of the same rows."""
        ends = torch.cat([self.ends, other.ends[1:] + len(self)])
        return Places(torch.cat([self.index, other.index]), ends, self.rows, self.latents)

    def where(self, kept: Tensor) -> "Places":
        """Return the places of which `kept` `(M,)` is true."""
        running = F.pad(kept.cumsum(0, dtype=torch.int32), (1, 0))
        return Places(self.index[kept], running[self.ends.long()], self.rows, self.latents)

    def in_levels(self, level: Tensor, levels: int) -> tuple["Places", Tensor]:
        """Return these places of B bags in a bag for each row and level, and their order, `(M,)`.

        `level` `(M,)` says in which of the `levels` each place is.
        """
        bag = level.int() * self.rows + self.bag
        bag, order = bag.sort(stable=True)
        numbers = torch.arange(levels * self.rows + 1, dtype=torch.int32, device=bag.device)
        ends = torch.searchsorted(bag, numbers, out_int32=True)
        return Places(self.index[order], ends, self.rows, self.latents), order

    def sums(self, values: Tensor, matrix: Tensor) -> Tensor:
        """Return Σ of the values `(M,)` times their latents' rows of a `(n, d)` matrix, by bag.

        `(bags, d)`: a sparse code times the decoder.
        """
        return _sums(self.index, self.ends, values, matrix)

    def sums_by_latent(
        self,
        values: Tensor,
        matrix: Tensor,
        into: Tensor,
        *,
        add: bool = False,
    ) -> None:
        """Write Σ of the values `(M,)` times their rows of a matrix, by latent, into `(n, d)`.

        Args:
            values: by which the rows are multiplied.
            matrix: has a row for each bag, or one for each of the B rows.
            into: where the sums are written.
            add: whether they are added to what is there.
        """
        order, ends = self.by_latent
        rows = self.bag_by_latent
        rows = rows if len(matrix) == self.bags else rows % self.rows
        values = values.index_select(0, order)
        for latents, places in self._blocks(ends, matrix.shape[1]):
            inside = ends[latents.start : latents.stop + 1] - places.start
            part = _sums(rows[places], inside, values[places], matrix)
            into[latents] = part.add_(into[latents]) if add else part

    def _blocks(self, ends: Tensor, features: int) -> Iterator[tuple[slice, slice]]:
        """Yield some latents after the other, and where their places lie in their order.

        On a processor the sums of some stay in its cache until they are finished; elsewhere one
        block is all, whose ends are known without a look.
        """
        on_cpu = ends.device.type == "cpu"
        size = at_once(features, ends.device) or self.latents
        bounds = [*range(0, self.latents, size), self.latents]
        cuts = ends[bounds].tolist() if on_cpu else [0, len(self)]
        for latents, places in zip(pairwise(bounds), pairwise(cuts), strict=True):
            yield slice(*latents), slice(*places)

    def totals(self, values: Tensor) -> Tensor:
        """Return the sum of the values `(M,)` of each latent, `(n,)`."""
        return values.new_zeros(self.latents).index_add_(0, self.index, values)

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ⟨left[bag], right[latent]⟩ at each place, `(M,)`, of `(bags, d)` and `(n, d)`."""
        if not len(self):
            return left.new_empty(0)
        order, ends = self.by_latent
        size = (self.latents, self.bags)
        pattern = _csr(ends, self.bag_by_latent, left.new_zeros(len(self)), size)
        ordered = torch.sparse.sampled_addmm(pattern, right, left.T, beta=0.0).values()
        return torch.empty_like(ordered).scatter_(0, order, ordered)

    def code(self, values: Tensor) -> Tensor:
        """Return the values `(M,)` as a sparse matrix (COO), `(B, n)`."""
        at = torch.stack([self.row, self.index]).long()
        size = (self.rows, self.latents)
        return torch.sparse_coo_tensor(at, values, size, check_invariants=False)


def _sums(index: Tensor, ends: Tensor, values: Tensor, matrix: Tensor) -> Tensor:
    return F.embedding_bag(
        index, matrix, ends, per_sample_weights=values, mode="sum", include_last_offset=True
    )


def _csr(ends: Tensor, index: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():  # torch says once that these tensors are in beta state
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(ends, index, values, size, check_invariants=False)


class _Decoded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, code: Tensor, weight: Tensor, places: Places) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.places = places
        return places.sums(code, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return ctx.places.products(grad.contiguous(), weight), None, None


def decoded(code: Tensor, weight: Tensor, places: Places) -> Tensor:
    """Return Σ_i z_i · weight[i] for each bag, `(bags, d)`, differentiable by the code alone.

    Args:
        code: z at the places, `(M,)`.
        weight: W_dec, `(n, d)`, a constant here; its gradient is `Gradients`' affair.
        places: the M places.
    """
    return _Decoded.apply(code, weight.detach(), places)
