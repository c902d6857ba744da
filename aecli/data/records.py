"""What a source reads, and the data card: what a run has to know to read more of the same."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from aecli.errors import SettingError
from aecli.text import one_line


@dataclass(frozen=True)
class Records:
    """N examples as a source has read them."""

    data: Any
    """What a card turns into numbers: an array `(N, …)`, or a table of N rows."""
    labels: Tensor | None = None
    """`(N,)`, int64; None: the examples have no labels."""
    classes: tuple[str, ...] = ()
    """The names of labels 0, 1, …; empty where a label is its own name."""
    ids: np.ndarray | None = None
    """`(N,)`: how a user finds an example again, such as its file; None: by its row number."""
    splits: Mapping[str, Tensor] = field(default_factory=dict)
    """Row numbers of the splits that the source has itself: of "train", "validation", "test"."""
    understood: str = ""
    """What was found, in a line for the user; empty where there is nothing to say."""
    mapping: mmap | None = None
    """The file that `data` is mapped from, if it is too large to be read into memory."""
    targets: Any = None
    """What is reconstructed in place of the examples, row by row; None: they are themselves."""

    def __len__(self) -> int:
        return len(self.data)


class Card(ABC):
    """The data card: how examples become the model's numbers, and come back in the user's units.

    What it holds was fitted to the training split. It is kept in the checkpoint, so that new data
    is read as the run's own was, and checked against it.
    """

    kind: ClassVar[str]
    """The name under which a checkpoint keeps cards of this class."""
    shape: tuple[int, ...]
    """Of an example as the model sees it: `(D,)` or `(C, H, W)`."""
    features: list[list[Any]] | None = None
    """What the D numbers of a table's row are, in order: `["number", n]`, `["category", width]`,
    `["mask", columns]`; None of other examples."""
    target_shape: tuple[int, ...] | None = None
    """Of what a model makes of an example, where it is not the example again."""

    @property
    def made_shape(self) -> tuple[int, ...]:
        """Of what a model makes of an example."""
        return self.target_shape or self.shape

    @abstractmethod
    def stored(self, data: Any) -> Tensor:
        """Return what is kept of data that was read, `(N, *shape)`: bytes, halves or floats.

        Raises `SettingError` for data that does not go with the card, naming what differs.
        """

    def check_new(self, data: Any) -> None:  # noqa: B027 (most data has no such kinds)
        """Raise `SettingError` for examples of a kind that the training split did not have."""

    @abstractmethod
    def scaled(self, stored: Tensor) -> Tensor:
        """Return what the model sees, a new float32 tensor `(B, *shape)`."""

    def telling(self, stored: Tensor) -> Tensor:
        """Return values of x that show whether a likelihood fits: its ends, and one in between.

        `(n,)`: the smallest, the largest and, if there is one, one that is neither 0 nor 1.
        """
        return ends_and_between(self.scaled(stored))

    @abstractmethod
    def restored(self, x: Tensor) -> Any:
        """Return examples `(B, *shape)` that a model has made in the user's units."""

    @property
    def given_type(self) -> torch.dtype:
        """Of the examples that an exported graph takes: bytes or floats."""
        return torch.float32

    def given(self, stored: Tensor) -> Tensor:
        """Return stored examples as an exported graph takes them, of `given_type`."""
        return stored.to(self.given_type)

    def entering(self, given: Tensor) -> Tensor:
        """Return what the model sees of examples: by tensor operations alone, for a graph."""
        return self.scaled(given)

    def leaving(self, x: Tensor) -> Tensor:
        """Return `x` `(B, *shape)` in the user's units, as floats, before `restored` rounds them.

        By tensor operations alone, for a graph.
        """
        raise SettingError(f"export: is not made for data of the kind {self.kind}")

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: numbers, texts, tensors, lists and dicts of them."""

    @classmethod
    @abstractmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the card of a `state`; raise `SettingError`, or any error, if it is none."""


def ends_and_between(x: Tensor) -> Tensor:
    """Return the smallest of x, the largest and, if there is one, one that is neither 0 nor 1."""
    low, high = x.aminmax()
    return torch.cat([low[None], high[None], x[(x != 0) & (x != 1)][:1]])


def card_of(kind: str, state: Mapping[str, Any]) -> Card:
    """Return the card that a checkpoint keeps as a `state` under `kind`.

    Raises `SettingError` for an unknown kind, and whatever a made-up state can raise.
    """
    kinds = {card.kind: card for card in Card.__subclasses__()}
    if kind not in kinds:
        raise SettingError(f"its data card is of no kind that aecli knows: {one_line(kind)}")
    return kinds[kind].of_state(state)


class Source(Protocol):
    """Anything that reads examples. A source of a plugin extends this class.

    Labels, ids and splits go with the records' data row by row. The card comes back from a
    checkpoint as it was: `card_of(card.kind, card.state())`.
    """

    def read(self, root: str | None, card: Card | None) -> Records:
        """Return the examples; `root` is where files lie or shall lie.

        With a `card` they are new examples for a run: read as its own were.
        """

    def fit(self, records: Records, rows: Tensor) -> Card:
        """Return the card of the records whose training split is `rows`, `(n,)` row numbers."""


class Scaled(Card):
    """x = v / scale, of images whose bytes stand for grey values.

    Args:
        shape: of an example.
        scale: the stored value that stands for 1.
    """

    kind = "scaled"

    def __init__(self, shape: Sequence[int], scale: float) -> None:
        self.shape = tuple(shape)
        self.scale = scale

    def stored(self, data: Any) -> Tensor:
        """Return the bytes as they are."""
        values = torch.as_tensor(data)
        if values.shape[1:] != self.shape:
            found = list(values.shape[1:])
            raise SettingError(f"dataset.shape={list(self.shape)}: the images are {found}")
        return values

    def scaled(self, stored: Tensor) -> Tensor:
        """Return grey values in [0, 1]."""
        return stored.float().div_(self.scale)

    def telling(self, stored: Tensor) -> Tensor:
        """Return all values that there are, found among the bytes."""
        return self.scaled(stored.flatten().bincount().nonzero().flatten())

    def restored(self, x: Tensor) -> np.ndarray:
        """Return bytes."""
        return self.leaving(x).round_().clamp_(0, self.scale).byte().numpy(force=True)

    @property
    def given_type(self) -> torch.dtype:
        """Bytes."""
        return torch.uint8

    def leaving(self, x: Tensor) -> Tensor:
        """Return grey values of the range of the bytes."""
        return x * self.scale

    def state(self) -> dict[str, Any]:
        """Return the shape and the scale."""
        return {"shape": list(self.shape), "scale": self.scale}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the card of a state."""
        return cls(tuple(map(int, state["shape"])), float(state["scale"]))
