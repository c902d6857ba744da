"""Tables of the user's own: numbers and categories in named columns, a row an example."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aecli.data.labels import as_labels
from aecli.data.module import DataModule
from aecli.data.records import Card, Records
from aecli.data.table_card import (
    CATEGORY,
    EXACT,
    INTEGER,
    MISSING,
    NUMBER,
    Column,
    TableCard,
)
from aecli.data.table_columns import (
    as_numbers,
    check_column,
    check_missing,
    entries,
    first_of,
    is_number,
    listed,
)
from aecli.data.table_files import read_table
from aecli.errors import SettingError, check_choice, check_list, refused
from aecli.patterns import expanded
from aecli.size import check_fits
from aecli.text import one_line
from aecli.untrusted import MOST_NODES

if TYPE_CHECKING:
    from pandas import DataFrame, Series

SCALES = ("standard", "robust", "minmax", "none")
LONGEST = 4096
"""Characters of a name, and of a class: in an array of texts all take the room of the longest."""
SPARE = 1000
"""Values that a checkpoint has beside those of the columns."""
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
"""What may stand in the column of `dataset.split`, and the split that it means."""


class TableFile:
    """Rows of a table: `.csv`, `.tsv`, both also `.gz`, `.parquet` or `.feather`.

    Args:
        file: its path.
        id, label, split: columns that are no features: the name of a row, its class, and its split
            ("train", "validation" or "test").
        columns: the features; None for all others.
        drop: columns that are left out.
        scale: x = (v − shift) / scale of a number: "standard": mean and deviation of the training
            split, "robust": median and distance of the quartiles, "minmax": to [0, 1], "none".
        missing: what becomes of missing entries: "error"; "mean" or "median" of the training
            split, the most frequent of categories; "mask": 0, and the row gets an entry for each
            column that says whether it is there.
        separator, decimal: of a text file; "tab" is a tab, None the separator that the first line
            shows.
    """

    def __init__(
        self,
        file: str | None,
        id: str | None = None,
        label: str | None = None,
        split: str | None = None,
        columns: Sequence[str] | None = None,
        drop: Sequence[str] | None = None,
        scale: str = "standard",
        missing: str = "error",
        separator: str | None = None,
        decimal: str = ".",
    ) -> None:
        self.roles = {"id": id, "label": label, "split": split}
        for name, value in {"file": file, **self.roles}.items():
            if not isinstance(value, str | None) or value == "":
                raise SettingError(f"dataset.{name}={value}: must be a text, or null")
        self.file = file
        self.columns = None if columns is None else _names("columns", columns)
        self.drop = [] if drop is None else _names("drop", drop)
        self.scale = check_choice("dataset.scale", scale, SCALES)
        self.missing = check_choice("dataset.missing", missing, MISSING)
        is_one = isinstance(separator, str) and len(separator) == 1 and separator not in '"\r\n'
        if separator is not None and not is_one and separator != "tab":
            raise refused("dataset.separator", separator, "one character, tab, or null")
        self.separator = "\t" if separator == "tab" else separator
        self.decimal = check_choice("dataset.decimal", decimal, (".", ","))

    def read(self, root: str | None, card: Card | None) -> Records:
        """Return the rows; `root` is not needed. With a card, its columns alone.

        Raises `SettingError` for a file that cannot be read, for columns that are not there, and
        for such that cannot be features.
        """
        if self.file is None:
            raise SettingError(
                "dataset.file: must be the path of a table, such as dataset.file=people.csv"
            )
        path = expanded(self.file)
        texts = card.texts if isinstance(card, TableCard) else ()
        id, label = self.roles["id"], self.roles["label"]
        table = read_table(path, self.separator, self.decimal, texts, id, label)
        roles = {role: name for role, name in self.roles.items() if name is not None}
        if isinstance(card, TableCard):
            # New data may have no labels; what the card needs, it asks for itself.
            roles = {role: name for role, name in roles.items() if _has(table, name)}
            data, understood = table, ""
        else:
            data = self._features(table, roles)
            understood = _understood(data, path)
        labels, classes = None, tuple[str, ...]()
        if "label" in roles:
            labels, classes = as_labels(_present(table[roles["label"]], "label"), "label")
            understood += f"; label {one_line(roles['label'])} of {len(labels.unique()):,} classes"
        if "id" in roles:
            understood += f"; id {one_line(roles['id'])}"
        return Records(
            data,
            labels,
            classes,
            _present(table[roles["id"]], "id").astype(str) if "id" in roles else None,
            _splits(_present(table[roles["split"]], "split")) if "split" in roles else {},
            understood if card is None else "",
        )

    def fit(self, records: Records, rows: Tensor) -> TableCard:
        """Return the card: everything in it is that of the training rows."""
        check_missing(records.data, self.missing)
        training = records.data.iloc[rows.numpy()]
        columns = [self._column(training[name]) for name in training]
        card = TableCard(columns, self.missing)
        _check_count(card)
        return card

    def _features(self, table: "DataFrame", roles: dict[str, str]) -> "DataFrame":
        names = list(table.columns)
        used = {role: [name] for role, name in roles.items()} | {"drop": self.drop}
        for setting, wanted in {**used, "columns": self.columns or []}.items():
            _check_there(setting, wanted, names)
        chosen = names if self.columns is None else self.columns
        left_out = {name: setting for setting, wanted in used.items() for name in wanted}
        if self.columns and (both := [name for name in self.columns if name in left_out]):
            raise SettingError(
                f"dataset.columns: {one_line(both[0])} is that of dataset.{left_out[both[0]]}, and"
                " cannot be a feature"
            )
        features = set(chosen) - left_out.keys()
        kept = [name for name in names if name in features]
        if not kept:
            raise SettingError(f"dataset.file={self.file}: no column is left to be a feature")
        data = table[kept]
        for name in kept:
            check_column(data[name])
        return data

    def _column(self, values: "Series") -> Column:
        """Return a column as its training rows show it."""
        name = str(values.name)
        if values.isna().all():
            raise SettingError(
                f"dataset.file: column {one_line(name)} has no entry in the training split; leave"
                f" it out by dataset.drop=[{one_line(name)}]"
            )
        if not is_number(values):
            codes, texts = entries(values)
            order = sorted(range(len(texts)), key=texts.__getitem__)
            counts = np.bincount(codes[codes >= 0])[order]
            fill = int(counts.argmax())
            return Column(name, CATEGORY, fill=fill, categories=tuple(texts[i] for i in order))
        numbers = as_numbers(values)
        there = numbers[~np.isnan(numbers)]
        low, quarter, middle, three, high = np.quantile(there, [0, 0.25, 0.5, 0.75, 1])
        shift, scale = {
            "standard": (there.mean(), there.std()),
            "robust": (middle, three - quarter),
            "minmax": (low, high - low),
            "none": (0.0, 1.0),
        }[self.scale]
        if not scale > 1e-12 * abs(shift):  # it, or its middle half, does not vary
            scale = 1.0
        # A text file's whole numbers are read as floats where some are missing.
        were_whole = values.dtype.kind in "iu" or len(there) < len(numbers)
        whole = bool((there == there.round()).all()) and abs(there).max() < EXACT
        kind = INTEGER if whole and were_whole else NUMBER
        fill = middle if self.missing == "median" else there.mean()
        return Column(name, kind, float(shift), float(scale), float(fill))


class TableData(DataModule):
    """The splits of a table; see `TableFile`, and `DataModule` for the settings of the splits."""

    def __init__(
        self,
        file: str | None,
        id: str | None = None,
        label: str | None = None,
        split: str | None = None,
        columns: Sequence[str] | None = None,
        drop: Sequence[str] | None = None,
        scale: str = "standard",
        missing: str = "error",
        separator: str | None = None,
        decimal: str = ".",
        **splitting: Any,
    ) -> None:
        if splitting.get("binarize", "none") != "none":
            raise SettingError(
                f"dataset.binarize={splitting['binarize']}: is for images; a table takes"
                " likelihood=mixed or mse"
            )
        source = TableFile(
            file, id, label, split, columns, drop, scale, missing, separator, decimal
        )
        super().__init__(source, None, **splitting)


def _understood(data: "DataFrame", path: Path) -> str:
    """Return what was found, in a line."""
    numbers = sum(is_number(data[name]) for name in data)
    kinds = [_counted(numbers, "number"), _counted(len(data.columns) - numbers, "category")]
    what = f"{len(data):,} rows, {' and '.join(filter(None, kinds))}, from {one_line(path.name)}"
    constant = [str(name) for name in data if _is_constant(data[name])]
    return f"{what}; the same in all rows: {listed(constant)}" if constant else what


def _is_constant(values: "Series") -> bool:
    first = values.iloc[0]
    return bool((values == first).all()) if values.notna().all() else False


def _check_there(setting: str, wanted: Sequence[str], names: Sequence[str]) -> None:
    if lacking := [name for name in wanted if name not in names]:
        near = [one_line(name, 40) for name in get_close_matches(lacking[0], names, n=1)]
        there = f"did you mean {near[0]}?" if near else f"there are {listed(names)}"
        raise SettingError(f"dataset.{setting}={one_line(lacking[0])}: no such column; {there}")


def _check_count(card: TableCard) -> None:
    """Refuse more columns and categories than a checkpoint takes, before a training."""
    count, categories = len(card.columns), sum(len(column.categories) for column in card.columns)
    # A column is a name, a kind and a list of texts; `features` stand in three places, in threes.
    if 3 * count + categories + 9 * len(card.features or ()) > MOST_NODES - SPARE:
        raise SettingError(
            f"dataset.file: has {count:,} columns with {categories:,} categories, more than a run"
            " keeps; choose some by dataset.columns=[…]"
        )


def _has(table: "DataFrame", name: str) -> bool:
    """Return whether a column has entries."""
    return name in table.columns and bool(table[name].notna().any())


def _present(values: "Series", setting: str) -> np.ndarray:
    """Return the entries of a column that is no feature; refuse it if some are missing."""
    missing = values.isna().to_numpy()
    if missing.any():
        raise SettingError(
            f"dataset.{setting}={one_line(values.name)}: {missing.sum():,} are missing,"
            f" {first_of(missing)}; fill them in, or leave the rows out of the file"
        )
    array = values.to_numpy()
    if array.dtype.kind != "O":
        return array
    longest = max(map(len, map(str, array)), default=0)
    if longest > LONGEST:
        raise SettingError(
            f"dataset.{setting}={one_line(values.name)}: has an entry of {longest:,} characters;"
            f" must have {LONGEST:,} at most"
        )
    check_fits(f"dataset.{setting}={one_line(values.name)}", 4 * len(array) * longest)
    return array.astype(str)


def _splits(values: np.ndarray) -> dict[str, Tensor]:
    """Return the rows of each split that a column names."""
    wanted = {str(value): SPLITS.get(str(value).strip().lower()) for value in np.unique(values)}
    if unknown := [value for value, split in wanted.items() if split is None]:
        raise SettingError(
            f"dataset.split: holds {listed(unknown)}; must be one of {', '.join(SPLITS)}"
        )
    if "train" not in wanted.values():
        raise SettingError("dataset.split: has no row of train")
    names = np.array([str(wanted[str(value)]) for value in values])
    return {
        split: torch.from_numpy(np.flatnonzero(names == split))
        for split in ("train", "validation", "test")
        if (names == split).any()
    }


def _name(key: str, value: Any) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise SettingError(f"{key}={value}: must be the name of a column")
    return str(value)


def _names(setting: str, values: Sequence[str]) -> list[str]:
    return check_list(f"dataset.{setting}", values, _name, "[age,height]", distinct=True)


def _counted(count: int, what: str) -> str:
    if not count:
        return ""
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count} {what if count == 1 else many}"
