"""What single latents of a dictionary do: how often each is active, and on which rows the most."""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from aecli.data import Batch
from aecli.errors import SettingError, check_int, check_list
from aecli.models import Dictionary

MOST_ROWS = 1000
"""Rows of a latent that are kept at most."""
LATENTS = 10
"""Latents that are shown where none are named."""
DECADES = 7
"""Of firing rates below 1; seldomer ones are counted with the lowest."""
LOG_BINS = 5
BINS = 1 << LOG_BINS
"""Of the histogram of a latent's activations."""


class Active(NamedTuple):
    """A row on which a latent is active."""

    place: int
    """In the split, from 0."""
    activation: float


class Latent(NamedTuple):
    """A latent on the N rows of a split."""

    number: int
    """From 0 to n − 1."""
    active: int
    """The rows on which it is active: z > 0."""
    rate: float
    """`active` / N."""
    mean: float
    """Of z over those rows; 0 if there are none."""
    bins: list[int]
    """How many of them have z in [0, width), [width, 2 · width), …: `BINS` of them."""
    width: float
    rows: list[Active]
    """Those with the largest z, in falling order; of equals those first that come first."""


def check_shown(top_rows: int | None, latents: Sequence[int] | None, units: int) -> None:
    """Raise `SettingError` for settings of the top rows that a dictionary of n latents lacks."""
    if top_rows is None:
        if latents is not None:
            raise SettingError(f"eval.latents={list(latents)}: goes with eval.top_rows, such as 20")
        return
    check_int("eval.top_rows", top_rows, 1, MOST_ROWS)
    if latents is not None:
        why = f"the dictionary has {units:,} latents"
        each = partial(check_int, low=0, high=units - 1, why=why)
        check_list("eval.latents", latents, each, "[3,17]", distinct=True)


def sampled(rates: Tensor) -> list[int]:
    """Return `LATENTS` latents, or fewer, from the most seldom to the most frequent, dead ones not.

    Of those that are active at all, in the order of their firing rates `(n,)`, those in the middle
    of ten equal parts.
    """
    alive = (rates > 0).nonzero().flatten()
    order = alive[rates[alive].argsort(stable=True)]
    count = min(LATENTS, len(order))
    places = (2 * torch.arange(count) + 1) * len(order) // (2 * max(count, 1))
    return order.cpu()[places].tolist()


def by_decade(rates: Tensor) -> dict[str, int]:
    """Return how many latents have a firing rate of 0, below 10⁻⁶, in [10⁻⁶, 10⁻⁵), …, [0.1, 1]."""
    edges = [10.0**power for power in range(1 - DECADES, 0)]
    number = torch.bucketize(rates, rates.new_tensor(edges), right=True)
    counts = torch.bincount(number[rates > 0].cpu(), minlength=DECADES).tolist()
    ends = [f"{edge:g}".replace("e-0", "e-") for edge in (*edges, 1)]
    names = ["0", f"below {ends[0]}", *(f"{low} to {high}" for low, high in pairwise(ends))]
    return dict(zip(names, [int((rates == 0).sum()), *counts], strict=True))


@torch.no_grad()
def latents_of(
    model: Dictionary, batches: Iterable[Batch], latents: Sequence[int], top_rows: int
) -> list[Latent]:
    """Return what some latents do on a split: one pass, which holds a batch and what it returns."""
    found = _Found(model.code_dim, latents, top_rows)
    for batch in batches:
        coded = model.coded(batch.x.flatten(1), batch.given[0].flatten(1))
        found.add(coded.places.row, coded.places.index, coded.code, len(batch.x))
    return found.latents()


class _Found:
    """Adds up what L latents do, over batches in the order of the split."""

    def __init__(self, units: int, latents: Sequence[int], top_rows: int) -> None:
        self.numbers, self.top_rows, self.count = list(latents), top_rows, 0
        size = len(self.numbers)
        self.column = torch.full((units,), -1)
        self.column[self.numbers] = torch.arange(size)
        self.active = torch.zeros(size, dtype=torch.long)
        self.sums = torch.zeros(size, dtype=torch.float64)
        self.bins = torch.zeros(size, BINS, dtype=torch.long)
        self.power = torch.zeros(size, dtype=torch.long)
        """A bin is 2 to this wide."""
        self.best = torch.zeros(0, size)
        self.places = torch.zeros(0, size, dtype=torch.long)

    def add(self, row: Tensor, index: Tensor, code: Tensor, rows: int) -> None:
        """Add B rows: the row `(M,)`, the latent and z of some places."""
        column = self.column.to(index.device)[index]
        kept = (column >= 0) & (code > 0)
        row, column, code = row[kept].long().cpu(), column[kept].cpu(), code[kept].float().cpu()
        z = torch.zeros(rows, len(self.numbers))
        z[row, column] = code
        self.active += (z > 0).sum(dim=0)
        self.sums += z.double().sum(dim=0)
        self._into_bins(z)
        places = torch.arange(self.count, self.count + rows)[:, None].expand_as(z)
        every, at = torch.cat([self.best, z]), torch.cat([self.places, places])
        self.best, order = every.sort(dim=0, descending=True, stable=True)
        self.best, self.places = self.best[: self.top_rows], at.gather(0, order[: self.top_rows])
        self.count += rows

    def _into_bins(self, z: Tensor) -> None:
        """Count activations in bins of a width 2^p, the least that holds the largest of them all.

        Where one is too large, 2, 4, … bins become one: the counts are the same in whatever order
        the rows come.
        """
        needed = torch.frexp(z.amax(dim=0)).exponent.long() - LOG_BINS
        is_first = self.bins.sum(dim=1) == 0
        power = torch.where(is_first, needed, needed.maximum(self.power))
        power = torch.where((z > 0).any(dim=0), power, self.power)
        wider = (power - self.power).clamp(0, LOG_BINS)[:, None]
        self.bins = torch.zeros_like(self.bins).scatter_add_(
            1, torch.arange(BINS).expand_as(self.bins) >> wider, self.bins
        )
        self.power = power
        row, column = (z > 0).nonzero(as_tuple=True)
        bins = torch.ldexp(z[row, column], -power[column]).long()
        one = torch.ones_like(bins)
        self.bins.view(-1).index_add_(0, column * BINS + bins, one)

    def latents(self) -> list[Latent]:
        """Return what was found."""
        found = []
        for column, number in enumerate(self.numbers):
            active = int(self.active[column])
            best = zip(self.places[:, column].tolist(), self.best[:, column].tolist(), strict=True)
            found.append(
                Latent(
                    number,
                    active,
                    active / max(self.count, 1),
                    float(self.sums[column]) / max(active, 1),
                    self.bins[column].tolist(),
                    2.0 ** int(self.power[column]),
                    [Active(place, value) for place, value in best if value > 0],
                )
            )
        return found
