"""The data card of a table: its columns, and how they become numbers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from aecli.data import table_graph
from aecli.data.records import Card
from aecli.data.table_columns import (
    LARGEST_NUMBER,
    as_numbers,
    check_missing,
    entries,
    listed,
)
from aecli.errors import SettingError, check_choice
from aecli.size import check_fits
from aecli.text import one_line

if TYPE_CHECKING:
    from pandas import DataFrame, Series

log = logging.getLogger(__name__)

NUMBER, INTEGER, CATEGORY = "number", "integer", "category"
KINDS = (NUMBER, INTEGER, CATEGORY)
MISSING = ("error", "mean", "median", "mask")
TRUTH = {"True", "False"}
"""The texts of a column of truth values, whose file may spell them otherwise."""
EXACT = 2**53
"""Up to here float64 holds every integer."""


@dataclass(frozen=True)
class Column:
    """A column of a table: x = (v − shift) / scale of a number, one entry a category else."""

    name: str
    kind: str
    """One of `KINDS`."""
    shift: float = 0.0
    scale: float = 1.0
    fill: float = 0.0
    """What stands for a missing entry: a number, or the place of a category."""
    categories: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many of a row's numbers are of this column."""
        return len(self.categories) if self.kind == CATEGORY else 1


class TableCard(Card):
    """A row is x = (columns in their order), and with missing=mask a 1 for each that is there.

    A number is (v − shift) / scale; a category is one-hot. A missing entry is 0, or a category
    without a 1, where a mask says so; else it is the column's fill-in.

    Args:
        columns: in the order of the file.
        missing: one of `MISSING`.
    """

    kind = "table"

    def __init__(self, columns: Sequence[Column], missing: str) -> None:
        self.columns, self.missing = tuple(columns), missing
        self._names = [column.name for column in self.columns]
        ends = list(accumulate(column.width for column in self.columns))
        self._places = list(zip([0, *ends], ends, strict=False))
        self._size = ends[-1]
        self.features = _runs(self.columns)
        if missing == "mask":
            self._size += len(self.columns)
            self.features.append(["mask", len(self.columns)])
        self.shape = (self._size,)

    def stored(self, data: "DataFrame") -> Tensor:
        """Return the rows of a table that has the columns, in any order, among others.

        Raises `SettingError` naming a column that lacks, has another kind, or lacks entries.
        """
        self._check_there(data)
        check_missing(data[self._names], self.missing)
        check_fits("dataset: its rows, with a number for each category", 4 * len(data) * self._size)
        x = np.zeros((len(data), self._size), np.float32)
        for column, (start, end) in zip(self.columns, self._places, strict=True):
            values = data[column.name]
            if column.kind == CATEGORY:
                self._put_category(x[:, start:end], column, values)
            else:
                x[:, start] = self._scaled(column, as_numbers(values))
        if self.missing == "mask":
            x[:, -len(self.columns) :] = data[self._names].notna().to_numpy()
        return torch.from_numpy(x)

    def check_new(self, data: "DataFrame") -> None:
        """Refuse missing entries, and categories that the training split did not have."""
        self._check_there(data)
        check_missing(data[self._names], self.missing, of_a_run=True)
        for column in self.columns:
            if column.kind == CATEGORY:
                unknown = sorted(set(entries(data[column.name])[1]) - set(column.categories))
                if unknown:
                    raise SettingError(
                        f"dataset.file: column {one_line(column.name)} has the categories"
                        f" {listed(unknown)}, which the run was not trained on; it knows"
                        f" {listed(column.categories)}"
                    )

    @property
    def texts(self) -> list[str]:
        """Return the columns that are to be read as texts, even where they look like numbers."""
        return [
            column.name
            for column in self.columns
            if column.kind == CATEGORY and not TRUTH.issuperset(column.categories)
        ]

    def scaled(self, stored: Tensor) -> Tensor:
        """Return the rows: they are kept as the model sees them."""
        return stored.to(torch.float32, copy=True)

    def restored(self, x: Tensor) -> "DataFrame":
        """Return a table in the file's units; of a category the likeliest text.

        Of examples, what their mask calls missing is so, and a category that is unknown.
        """
        import pandas

        found = {}
        for column, values in zip(self.columns, self.given(x).numpy(force=True).T, strict=True):
            missing = np.isnan(values)
            if column.kind == CATEGORY:
                places = np.where(missing, table_graph.NONE, values).astype(int)
                found[column.name] = np.array([*column.categories, None], object)[places]
            elif column.kind == INTEGER and not missing.any():
                found[column.name] = values.round().clip(-EXACT, EXACT).astype(np.int64)
            else:
                found[column.name] = values
        return pandas.DataFrame(found)

    @property
    def given_type(self) -> torch.dtype:
        """Double floats; see `table_graph`."""
        return torch.float64

    def given(self, stored: Tensor) -> Tensor:
        """Return the matrix `(B, columns)` of `table_graph`."""
        return table_graph.given(self.columns, self.missing, stored)

    def entering(self, given: Tensor) -> Tensor:
        """Return the rows of such a matrix."""
        return table_graph.entering(self.columns, self.missing, given)

    def leaving(self, x: Tensor) -> Tensor:
        """Return the matrix of such rows."""
        return table_graph.leaving(self.columns, x)

    def state(self) -> dict[str, Any]:
        """Return the columns as lists of their properties."""
        numbers = [[c.shift, c.scale, c.fill] for c in self.columns]
        return {
            "missing": self.missing,
            "names": [column.name for column in self.columns],
            "kinds": [column.kind for column in self.columns],
            "categories": [list(column.categories) for column in self.columns],
            "numbers": torch.tensor(numbers, dtype=torch.float64),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the card of a state."""
        numbers = torch.as_tensor(state["numbers"]).double()
        names, kinds = [str(name) for name in state["names"]], state["kinds"]
        categories = [tuple(map(str, texts)) for texts in state["categories"]]
        if not numbers.isfinite().all() or not (numbers[:, 1] > 0).all():
            raise SettingError("its data card has a scale that is not above 0")
        if len(set(names)) < len(names) or not names:
            raise SettingError("its data card has a column twice, or none")
        columns = [
            Column(name, check_choice("kind", kind, KINDS), shift, scale, fill, texts)
            for name, kind, (shift, scale, fill), texts in zip(
                names, kinds, numbers.tolist(), categories, strict=True
            )
        ]
        for column in columns:
            if (column.kind == CATEGORY) != bool(column.categories):
                raise SettingError("its data card has a category without texts")
            if column.categories and column.fill not in range(column.width):
                raise SettingError("its data card has a fill-in that is none of the categories")
        return cls(columns, check_choice("missing", state["missing"], MISSING))

    def _check_there(self, data: "DataFrame") -> None:
        if lacking := [name for name in self._names if name not in data.columns]:
            raise SettingError(f"dataset.file: lacks the columns {listed(lacking)}")

    def _scaled(self, column: Column, numbers: np.ndarray) -> np.ndarray:
        """Return (v − shift) / scale of a column `(N,)`, what is missing filled in."""
        there = ~np.isnan(numbers)
        fill = column.shift if self.missing == "mask" else column.fill
        scaled = (np.where(there, numbers, fill) - column.shift) / column.scale
        if (np.abs(scaled) > LARGEST_NUMBER).any():
            raise SettingError(
                f"dataset.file: column {one_line(column.name)} has numbers that are too far from"
                " those of the training split"
            )
        return scaled

    def _put_category(self, block: np.ndarray, column: Column, values: "Series") -> None:
        """Put a 1 into the row of each category that is known."""
        codes, texts = entries(values)
        places = {text: place for place, text in enumerate(column.categories)}
        missing = -1 if self.missing == "mask" else int(column.fill)
        # The last one is found by the code −1.
        found = np.array([*(places.get(text, -1) for text in texts), missing])[codes]
        if unknown := int(((found < 0) & (codes >= 0)).sum()):
            log.info(
                "column %s: %s entries are of categories that the training split has not",
                one_line(column.name),
                f"{unknown:,}",
            )
        rows = np.flatnonzero(found >= 0)
        block[rows, found[rows]] = 1


def _runs(columns: Sequence[Column]) -> list[list[Any]]:
    """Return what the numbers of a row are, as `Card.features`."""
    runs: list[list[Any]] = []
    for column in columns:
        if column.kind == CATEGORY:
            runs.append([CATEGORY, column.width])
        elif runs and runs[-1][0] == NUMBER:
            runs[-1][1] += 1
        else:
            runs.append([NUMBER, 1])
    return runs
