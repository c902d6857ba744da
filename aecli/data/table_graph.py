"""A table's data card as tensor operations, for an exported graph.

There a table is one matrix `(B, columns)`, float64, its columns in the order of the card: a number
in its own unit, a category by its place among `categories`, −1 if it is none of them, NaN for a
missing entry.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

NONE = -1
"""The place of a category that the training split does not have."""


class Column(Protocol):
    """What is needed of a column of `table_card`."""

    @property
    def width(self) -> int:
        """Of its block in a row."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Empty for a number."""

    @property
    def shift(self) -> float:
        """Of a number."""

    @property
    def scale(self) -> float:
        """Of a number."""

    @property
    def fill(self) -> float:
        """What stands for a missing entry."""


def entering(columns: Sequence[Column], missing: str, given: Tensor) -> Tensor:
    """Return the rows `(B, D)` that the model sees of a matrix `(B, columns)`, float32."""
    number = [place for place, column in enumerate(columns) for _ in range(column.width)]
    kinds = torch.tensor([not column.categories for column in columns])[number]
    of_each = torch.tensor([[c.shift, c.scale, c.fill] for c in columns], dtype=torch.float64)
    shift, scale, fill = of_each[number].T
    place = torch.tensor([k for column in columns for k in range(column.width)])
    values = given.index_select(1, torch.tensor(number))
    is_missing = values.isnan()
    if missing in ("mean", "median"):
        values = torch.where(is_missing, fill, values)
    scaled = (values - shift) / scale
    if missing == "mask":
        scaled = torch.where(is_missing, 0.0, scaled)
    x = torch.where(kinds, scaled, (values == place).to(scaled.dtype))
    if missing == "mask":
        x = torch.cat([x, (~given.isnan()).to(x.dtype)], dim=1)
    return x.float()


def leaving(columns: Sequence[Column], x: Tensor) -> Tensor:
    """Return the matrix `(B, columns)` of rows `(B, D)`: of a category the likeliest place."""
    found, at = [], 0
    for column in columns:
        block = x[:, at : at + column.width]
        if column.categories:
            found.append(block.argmax(dim=1, keepdim=True).double())
        else:
            found.append(block.double() * column.scale + column.shift)
        at += column.width
    return torch.cat(found, dim=1)


def given(columns: Sequence[Column], missing: str, stored: Tensor) -> Tensor:
    """Return the matrix `(B, columns)` of rows that a card keeps."""
    values, at = leaving(columns, stored), 0
    for number, column in enumerate(columns):
        if column.categories:
            is_none = ~stored[:, at : at + column.width].bool().any(dim=1)
            values[is_none, number] = NONE
        at += column.width
    if missing == "mask":
        values[stored[:, -len(columns) :] == 0] = torch.nan
    return values
