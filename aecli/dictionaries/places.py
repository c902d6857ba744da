"""The places (row, latent) at which a code of n latents is not 0, and what is computed there alone.

A dense step of a dictionary takes six products of 2·B·d·n operations: of the encoder, the decoder,
and their gradients. All but k of the n activations of a row are 0, so that all but the encoder's
own can be taken at B·k places, of 2·B·d·k operations each. No `(B, n)` and no `(B, k, d)` tensor is
made: each is a sum of rows of a matrix with weights, torch's `embedding_bag`, or the products of
pairs of rows, torch's `sampled_addmm`.
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
        return cls(index.int().flatten(), ends, rows, latents)

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

        Both weights' gradients are sums over the places of a latent: the order is found once.
        """
        ordered, order = self.index.sort(stable=True)
        latents = torch.arange(self.latents + 1, dtype=torch.int32, device=order.device)
        return order.int(), torch.searchsorted(ordered, latents, out_int32=True)

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
        into: Tensor | None = None,
        less: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return Σ of the values `(M,)` times their rows of a matrix, by latent, `(n, d)`.

        Args:
            values: by which the rows are multiplied.
            matrix: has a row for each bag, or one for each of the B rows.
            into: where the sums are written, `(n, d)`; None for new memory.
            less: shares `(n,)` and a matrix `(n, d)`: shares times their rows are subtracted.
        """
        order, ends = self.by_latent
        rows = (self.bag if len(matrix) == self.bags else self.row)[order]
        values = values[order]
        sums = matrix.new_empty(self.latents, matrix.shape[1]) if into is None else into
        for latents, places in self._blocks(ends, matrix.shape[1]):
            first, last = latents.start, latents.stop
            inside = ends[first : last + 1] - places.start
            part = _sums(rows[places], inside, values[places], matrix)
            if less is not None:
                part.addcmul_(less[0][latents, None], less[1][latents], value=-1)
            sums[latents] = part
        return sums

    def _blocks(self, ends: Tensor, features: int) -> Iterator[tuple[slice, slice]]:
        """Yield some latents after the other, and where their places lie in their order.

        On a processor the sums of some stay in its cache until they are finished; elsewhere one
        block is all, whose ends are known without a look.
        """
        on_cpu = ends.device.type == "cpu"
        size = max(1, BLOCK // features) if on_cpu else self.latents
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
        size = (self.bags, self.latents)
        pattern = _csr(self.ends, self.index, left.new_zeros(len(self)), size)
        return torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0).values()

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


class _Encoded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        pre_bias: Tensor,
        places: Places,
        memory: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.places, ctx.memory = places, memory
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        _, _, of_weight, of_bias, of_pre_bias, *_ = ctx.needs_input_grad
        into = _free(ctx.memory, weight)
        d_weight = ctx.places.sums_by_latent(grad, x, into) if of_weight else None
        d_bias = ctx.places.totals(grad) if of_bias or of_pre_bias else None
        # Each place has −weight[latent] as its derivative by the pre-bias.
        d_pre_bias = -(d_bias @ weight) if of_pre_bias and d_bias is not None else None
        return None, None, d_weight, d_bias, d_pre_bias, None, None


def _free(memory: Tensor | None, weight: Tensor) -> Tensor | None:
    """Return the memory for a gradient, unless the weight's gradient lies there: it is added to."""
    # Another tensor on the same memory: autograd takes one that nobody else holds without a copy.
    return None if memory is None or weight.grad is not None else memory.detach()


def encoded(
    values: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    pre_bias: Tensor,
    places: Places,
    memory: Tensor | None = None,
) -> Tensor:
    """Return the pre-activations at places, differentiable by the encoder's parameters.

    Args:
        values: ⟨x[row], weight[latent]⟩ + bias[latent], `(M,)`, as the selection has them.
        x: the examples without the pre-bias, `(B, d)`.
        weight: W_enc, `(n, d)`.
        bias: b_enc, `(n,)`.
        pre_bias: b_dec, `(d,)`, which was subtracted.
        places: the M places.
        memory: where the weight's gradient is written, `(n, d)`; None for new memory.
    """
    return _Encoded.apply(values, x.detach(), weight, bias, pre_bias, places, memory)


class _Decoded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        code: Tensor,
        weight: Tensor,
        places: Places,
        on_sphere: bool,
        memory: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(code, weight)
        ctx.places, ctx.on_sphere, ctx.memory = places, on_sphere, memory
        return places.sums(code, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        code, weight = ctx.saved_tensors
        places: Places = ctx.places
        grad = grad.contiguous()
        d_code = places.products(grad, weight)
        if not ctx.needs_input_grad[1]:
            return d_code, None, None, None, None
        # The gradient's part along a row of the weight is what its products add up to.
        along = (places.totals(code * d_code), weight) if ctx.on_sphere else None
        d_weight = places.sums_by_latent(code, grad, _free(ctx.memory, weight), along)
        return d_code, d_weight, None, None, None


def decoded(
    code: Tensor,
    weight: Tensor,
    places: Places,
    *,
    on_sphere: bool,
    memory: Tensor | None = None,
) -> Tensor:
    """Return Σ_i z_i · weight[i] for each bag, `(bags, d)`, differentiable by code and weight.

    Args:
        code: z at the places, `(M,)`.
        weight: W_dec, `(n, d)`.
        places: the M places.
        on_sphere: whether the rows of the weight are of norm 1 and stay so: the gradient's part
            along each row is left out. It is then the gradient of the same function of
            weight[i] / ‖weight[i]‖.
        memory: where the weight's gradient is written, `(n, d)`; None for new memory.
    """
    return _Decoded.apply(code, weight, places, on_sphere, memory)
