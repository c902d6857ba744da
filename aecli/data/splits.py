"""Which example is in which split, decided once for a data set."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from aecli.data.ranges import Ranges
from aecli.data.records import Card, Records
from aecli.errors import SettingError, check_int, check_list, check_number, check_seed, refused

SHARE = 0.1
"""Of the examples, drawn for a validation or test split that a data set lacks."""


class Rows(Protocol):
    """Rows in a file, or in several."""

    def taken(self, rows: Tensor) -> Tensor:
        """Return some rows `(n,)`, n > 0, as bytes `(n, size)`."""


@dataclass(frozen=True)
class Examples:
    """All examples of a data set, as they are kept."""

    values: Tensor
    """`(N, *shape)`: bytes, halves or floats, in memory or memory-mapped.

    On the device "meta", a shape alone, where `file` reads or makes rows as they are asked for.
    """
    card: Card
    labels: Tensor
    """`(N,)`, int64; all 0 where there are none."""
    ids: Any
    """`(N,)`: how a user finds an example again: its row number, or a text such as its file."""
    file: Rows | None = None
    """Where `values` are read from, if they are not in memory."""
    targets: "Examples | None" = None
    """What is reconstructed of each, if it is not the example again."""

    def to(self, device: torch.device) -> "Examples":
        """Return the same examples in the memory of `device`."""
        moved = self.values.to(device), self.labels.to(device)
        return replace(self, values=moved[0], labels=moved[1], file=None)

    def taken(self, rows: Tensor) -> Tensor:
        """Return the values of some rows, a copy `(n, *shape)`."""
        if self.file is None or not len(rows):
            # On a CPU index_select takes less than half the time of values[rows].
            return self.values.index_select(0, rows)
        found = self.file.taken(rows).view(self.values.dtype)
        strides = found.stride(0), *self.values.stride()[1:]
        return found.as_strided((len(rows), *self.values.shape[1:]), strides)


@dataclass(frozen=True)
class Split:
    """Some of the examples and, where it was drawn once and for all, their binary form."""

    examples: Examples
    rows: Tensor | Ranges
    """`(n,)`, int64: which of the examples, in this order."""
    binary: Tensor | None = None
    """`(n, *shape)`, uint8, 0 or 1."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def values(self) -> Tensor:
        """A copy of the kept values, `(n, *shape)`."""
        return self.examples.taken(self.rows[:])

    @property
    def labels(self) -> Tensor:
        """`(n,)`, int64, on the CPU."""
        return self.examples.labels[self.rows[:]].cpu()

    @property
    def ids(self) -> np.ndarray:
        """`(n,)`: how a user finds each example again."""
        return self.examples.ids[self.rows[:].numpy(force=True)]


class Splitting:
    """The sizes of the splits, and what is left out of them.

    Args:
        validation_size: examples of the validation split, or a share of those that are drawn
            from; None for the data set's own, or a tenth where it has none.
        test_size: the same of the test split. The splits that are not the data set's own are drawn
            from all examples outside those that are.
        classes: labels of the examples that are kept, in every split; None for all. They are
            chosen after the splits are made, so that no example of one split is in another
            split of the same data set with other classes.
        train_size: examples to train on, drawn from those kept; None for all of them.
        seed: of the draw.

    Raises `SettingError` for a value that none of them can have.
    """

    def __init__(
        self,
        validation_size: float | None,
        test_size: float | None,
        classes: Sequence[int | str] | None,
        train_size: int | None,
        seed: int,
    ) -> None:
        self.validation_size = _size("dataset.validation_size", validation_size)
        self.test_size = _size("dataset.test_size", test_size)
        self.train_size = train_size
        if train_size is not None:
            check_int("dataset.train_size", train_size, 1)
        self.classes = classes
        if classes is not None:
            check_list("dataset.classes", classes, check_label, "[3,8]", distinct=True)
        self.seed = check_seed("dataset.split_seed", seed)

    def __call__(self, records: Records) -> dict[str, Tensor]:
        """Return the rows of the training, validation and test split, no row in two of them.

        Raises `SettingError` for sizes that leave a split without an example.
        """
        own = dict(records.splits) or {"train": torch.arange(len(records))}
        asked = {"validation": self.validation_size, "test": self.test_size}
        fixed = {name: own[name] for name, size in asked.items() if size is None and name in own}
        pool = torch.cat([rows for name, rows in own.items() if name not in fixed]).sort()[0]
        generator = torch.Generator().manual_seed(self.seed)
        rest = pool[torch.randperm(len(pool), generator=generator)]
        rows = dict(fixed)
        for name in (name for name in asked if name not in fixed):
            count = counted(SHARE if asked[name] is None else asked[name], len(pool))
            rows[name], rest = rest.tensor_split([count])
        kept = self.of_classes(records)
        rows = {name: split[kept[split]] for name, split in rows.items()}
        rest = rest[kept[rest]]
        self.check(rows, len(rest), len(pool))
        return {
            "train": rest[: self.train_size].sort()[0],
            "validation": rows["validation"],
            "test": rows["test"],
        }

    def said(self, records: Records) -> str:
        """Return which splits are drawn by share, since the data set has none, or ""."""
        sizes = {"validation": self.validation_size, "test": self.test_size}
        drawn = [
            name for name, size in sizes.items() if size is None and name not in records.splits
        ]
        return f"{SHARE:.0%} drawn for {' and '.join(drawn)}" if drawn else ""

    def of_classes(self, records: Records) -> Tensor:
        """Return which examples are of the classes that are wanted, `(N,)` booleans."""
        if self.classes is None:
            return torch.ones(len(records), dtype=torch.bool)
        if records.labels is None:
            raise SettingError(f"dataset.classes={self.classes}: the data has no labels")
        known: list[Any] = records.labels.unique().tolist()
        numbers = {str(records.classes[n]) if records.classes else n: n for n in known}
        # A folder may be named 3, which is typed like a number.
        classes = list(map(str, self.classes)) if records.classes else self.classes
        if not set(classes) <= set(numbers):
            raise SettingError(
                f"dataset.classes={list(self.classes)}: must be a list out of {list(numbers)},"
                " or null"
            )
        wanted = torch.tensor([numbers[name] for name in classes])
        return torch.isin(records.labels, wanted)

    def check(self, rows: Mapping[str, Sized], rest: int, count: int) -> None:
        """Refuse sizes that leave a split without an example, or few of `count` to train on."""
        keys = ("validation_size", "test_size", "classes", "train_size")
        values = {key: getattr(self, key) for key in keys}
        asked = ", ".join(f"dataset.{k}={v}" for k, v in values.items() if v is not None)
        asked = asked or f"dataset: {count} examples"
        if rest < (self.train_size or 1):
            left = f"; {rest} are left" if self.train_size else ""
            raise SettingError(
                f"{asked}: must leave examples to train on, of the {count} there are{left}"
            )
        for name, split in rows.items():
            if not len(split):
                raise SettingError(f"{asked}: must leave examples in the {name} split")


def _size(key: str, value: float | None) -> float | None:
    """Return a count, a share or None as it is; else raise `SettingError`."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return check_int(key, value, 1)
    if not isinstance(value, float) or not 0 < value < 1:
        raise refused(key, value, "a whole number of at least 1, a share between 0 and 1, or null")
    return check_number(key, value, 0, 1)


def counted(size: float | None, examples: int) -> int:
    """Return a count as it is, a share as the count of so many examples, None as 0."""
    if size is None or isinstance(size, int):
        return int(size or 0)
    return max(1, round(size * examples))


def check_label(key: str, value: Any) -> int | str:
    """Return `value` if it can be a label: a name, or a number from 0 on."""
    return value if isinstance(value, str) else check_int(key, value, 0)
