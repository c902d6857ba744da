"""Which latents of a dictionary are active, and what this costs: the part in which they differ."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aecli.dictionaries.places import Places
from aecli.dictionaries.products import Encoder, above, largest

SLACK = 4
"""Of products of few bits one place more is looked at exactly for each of so many, and 8 more."""


class Collector(ABC):
    """Finds places in the pre-activations of a batch, which come a few rows at a time."""

    @abstractmethod
    def add(self, a: Tensor) -> None:
        """Look at the pre-activations of the next rows, `(C, n)`; leave them as they are."""

    @abstractmethod
    def found(self) -> tuple[Places, Tensor]:
        """Return the places, and the pre-activations there, `(M,)`."""

    @abstractmethod
    def chosen(self, places: Places, values: Tensor) -> tuple[Places, Tensor]:
        """Return those places that stay by the exact pre-activations there."""


class Largest(Collector):
    """The k largest pre-activations of each row, of all latents or of some.

    Args:
        k: how many.
        encoder: of the pre-activations.
        among: the latents to choose from, `(D,)`; None for all.
    """

    def __init__(self, k: int, encoder: Encoder, among: Tensor | None = None) -> None:
        self.latents = len(encoder.weight)
        self.among = among
        most = self.latents if among is None else len(among)
        self.k = min(k, most)
        slack = 0 if encoder.is_exact else 8 + self.k // SLACK
        self.looked_at = min(self.k + slack, most)
        self._values: list[Tensor] = []
        self._index: list[Tensor] = []
        if among is not None and most % 8:
            among = torch.cat([among, among[:1].expand(8 - most % 8)])
        self._columns = among

    def add(self, a: Tensor) -> None:
        """Look at the next rows."""
        if self._columns is not None and self.among is not None:
            a = a.index_select(1, self._columns)
            a[:, len(self.among) :] = -torch.inf
        values, index = largest(a, self.looked_at)
        self._values.append(values)
        self._index.append(index.int() if self.among is None else self.among[index].int())

    def found(self) -> tuple[Places, Tensor]:
        """Return the places of the largest numbers."""
        index = torch.cat(self._index)
        return Places.of_each(index, self.latents), torch.cat(self._values).flatten().float()

    def chosen(self, places: Places, values: Tensor) -> tuple[Places, Tensor]:
        """Return the k largest of each row."""
        if self.looked_at == self.k:
            return places, values
        best, order = values.view(places.rows, -1).topk(self.k, dim=1, sorted=False)
        index = places.index.view(places.rows, -1).gather(1, order)
        return Places.of_each(index, self.latents), best.flatten()


class Above(Collector):
    """All pre-activations above a floor.

    Args:
        floor: the floor.
        encoder: of the pre-activations.
    """

    def __init__(self, floor: float, encoder: Encoder) -> None:
        self.latents = len(encoder.weight)
        self.floor = floor
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, a: Tensor) -> None:
        """Look at the next rows."""
        self._found.append(above(a, self.floor))

    def found(self) -> tuple[Places, Tensor]:
        """Return the places above the floor."""
        counts, index, values = map(torch.cat, zip(*self._found, strict=True))
        return Places.of_counts(index, counts, self.latents), values.float()

    def chosen(self, places: Places, values: Tensor) -> tuple[Places, Tensor]:
        """Return the places above the floor."""
        return places, values


@dataclass(frozen=True)
class Step:
    """What a step has computed of B rows, of which M places are looked at."""

    x: Tensor
    """The examples without the pre-bias, `(B, d)`: the target."""
    places: Places
    a: Tensor
    """The pre-activations there, `(M,)`."""
    code: Tensor
    """z there, `(M,)`."""
    levels: Tensor
    """What is decoded from the latents of each level and those before it, `(levels, B, d)`."""
    decoder: Tensor
    """W_dec, `(n, d)`."""


class Selection(nn.Module, ABC):
    """Base class: of the pre-activations a `(B, n)` of a dictionary, which stay, and as what.

    `collector` finds the places that a step looks at, `activation` gives z there, `penalty` what
    joins the loss. In training and in an evaluation they may differ: see `nn.Module.training`.
    """

    has_unit_rows = True
    """Whether the decoder's rows are kept at norm 1."""
    takes_parts = True
    """Whether a step on a part of a batch is that part of the step on the batch."""

    @abstractmethod
    def collector(self, encoder: Encoder) -> Collector:
        """Return what finds the places in the pre-activations of a batch."""

    def activation(self, a: Tensor, places: Places) -> Tensor:
        """Return z `(M,)` of the pre-activations at the places; here max(a, 0)."""
        return a.relu()

    def penalty(self, step: Step) -> Tensor:
        """Return what joins the loss, a mean over the rows; here 0."""
        return step.x.new_zeros(())

    def anneal(self, fraction: float) -> None:
        """Move a schedule to `fraction` of the training, in [0, 1]. Most have none."""

    @property
    def smallest_batch(self) -> tuple[int, str]:
        """The examples that a training batch needs, and the setting that asks for them."""
        return 1, ""
