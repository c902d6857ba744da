"""The data card of a table: its columns, and how they become numbers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from aecli.data import table_graph
from aecli.data.records import Card
from aecli.errors import SettingError, check_choice
from aecli.text import one_line

if TYPE_CHECKING:
    from pandas import DataFrame, Series

log = logging.getLogger(__name__)

NUMBER, INTEGER, CATEGORY = "number", "integer", "category"
KINDS = (NUMBER, INTEGER, CATEGORY)
MISSING = ("error", "mean", "median", "mask")
MOST_CATEGORIES = 1000
SHOWN = 5


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
        width = sum(column.width for column in self.columns)
        masked = missing == "mask"
        self.shape = (width + masked * len(self.columns),)
        self.features = _runs(self.columns)
        if masked:
            self.features.append(["mask", len(self.columns)])

    def stored(self, data: "DataFrame") -> Tensor:
        """Return the rows of a table that has the columns, in any order, among others.

        Raises `SettingError` naming a column that lacks, has another kind, or lacks entries.
        """
        if lacking := [c.name for c in self.columns if c.name not in data.columns]:
            raise SettingError(f"dataset.file: lacks the columns {listed(lacking)}")
        x = np.zeros((len(data), self.shape[0]), np.float32)
        start = sum(column.width for column in self.columns)
        check_missing(data[[column.name for column in self.columns]], self.missing)
        at = 0
        for number, column in enumerate(self.columns):
            values = data[column.name]
            there = ~values.isna().to_numpy()
            if column.kind == CATEGORY:
                self._put_category(x[:, at : at + column.width], column, values, there)
            else:
                numbers = as_numbers(values)
                filled = 0.0 if self.missing == "mask" else (column.fill - column.shift)
                scaled = np.where(there, numbers - column.shift, filled) / column.scale
                x[:, at] = np.where(there | (self.missing != "mask"), scaled, 0.0)
            if self.missing == "mask":
                x[:, start + number] = there
            at += column.width
        return torch.from_numpy(x)

    def check_new(self, data: "DataFrame") -> None:
        """Refuse categories that the training split did not have."""
        for column in self.columns:
            if column.kind == CATEGORY and column.name in data.columns:
                unknown = sorted(set(texts(data[column.name])) - set(column.categories))
                if unknown:
                    raise SettingError(
                        f"dataset.file: column {one_line(column.name)} has the categories"
                        f" {listed(unknown)}, which the run was not trained on; it knows"
                        f" {listed(column.categories)}"
                    )

    def scaled(self, stored: Tensor) -> Tensor:
        """Return the rows: they are kept as the model sees them."""
        return stored.float()

    def restored(self, x: Tensor) -> "DataFrame":
        """Return a table in the file's units; of a category the likeliest text."""
        import pandas

        rows, at, found = x.double().numpy(force=True), 0, {}
        for column in self.columns:
            block = rows[:, at : at + column.width]
            if column.kind == CATEGORY:
                found[column.name] = np.array(column.categories, dtype=object)[block.argmax(axis=1)]
            else:
                numbers = block[:, 0] * column.scale + column.shift
                is_whole = column.kind == INTEGER
                found[column.name] = numbers.round().astype(np.int64) if is_whole else numbers
            at += column.width
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
        if any((c.kind == CATEGORY) != bool(c.categories) for c in columns):
            raise SettingError("its data card has a category without texts")
        return cls(columns, check_choice("missing", state["missing"], MISSING))

    def _put_category(
        self, block: np.ndarray, column: Column, values: "Series", there: np.ndarray
    ) -> None:
        places = {text: place for place, text in enumerate(column.categories)}
        found = np.full(len(values), -1)
        found[there] = [places.get(text, -1) for text in texts(values)]
        if unknown := int((found[there] < 0).sum()):
            log.info(
                "column %s: %d entries are of categories that the training split has not",
                one_line(column.name),
                unknown,
            )
        if self.missing != "mask":
            found[~there] = int(column.fill)
        rows = np.flatnonzero(found >= 0)
        block[rows, found[rows]] = 1


def texts(values: "Series") -> list[str]:
    """Return the entries of a column that are there, as texts."""
    return values.dropna().astype(str).tolist()


def as_numbers(values: "Series") -> np.ndarray:
    """Return a column of numbers, float64, NaN where one is missing.

    Raises `SettingError` naming the column if an entry is no number, or not finite.
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if not is_numeric_dtype(values) or is_bool_dtype(values):
        example = listed(texts(values)[:1])
        raise SettingError(
            f"dataset.file: column {one_line(values.name)} has texts, such as {example}; the run"
            " was trained on numbers there"
        )
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(numbers).any():
        raise SettingError(
            f"dataset.file: column {one_line(values.name)} has {int(np.isinf(numbers).sum())}"
            " infinite numbers"
        )
    return numbers


def check_missing(data: "DataFrame", missing: str) -> None:
    """Refuse missing entries if they are to be refused, with the columns and how many they are."""
    counts = data.isna().sum()
    lacking = {str(name): int(count) for name, count in counts.items() if count}
    if missing == "error" and lacking:
        names = [f"{one_line(name)} ({count})" for name, count in lacking.items()]
        raise SettingError(
            f"dataset.missing=error: entries are missing in {', '.join(names[:SHOWN])}"
            f"{' and more' if len(names) > SHOWN else ''}; set dataset.missing=mean, median or"
            " mask, or leave columns out by dataset.drop=[…]"
        )


def listed(names: Sequence[str]) -> str:
    """Return the first names of a list, for a message."""
    shown = ", ".join(one_line(name, 40) for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


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
