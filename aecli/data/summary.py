"""What a data set is like, found in one pass over it: memory does not grow with its examples."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any

import numpy as np

from aecli.data.mapped import release
from aecli.data.records import Records

CHUNK = 16 << 20
"""Bytes that are looked at together."""


@dataclass
class ColumnSummary:
    """One column of a table."""

    name: str
    kind: str
    """The type that it was read as."""
    missing: int
    distinct: int
    low: Any = None
    """The least value; None where the column holds text."""
    high: Any = None
    mean: float | None = None
    commonest: list[tuple[str, int]] = field(default_factory=list)
    """The commonest texts with how often each stands there; of a column of text."""


@dataclass
class Summary:
    """What N examples have in common."""

    count: int
    shape: tuple[int, ...]
    kind: str
    """The type of the values."""
    low: float
    high: float
    mean: float
    missing: int
    """Values that are NaN."""
    constant: int
    """Features that have one value in all examples."""
    duplicates: int
    """Examples that are the same as an earlier one, value by value."""
    columns: list[ColumnSummary] = field(default_factory=list)
    """Of a table."""


def summary(records: Records) -> Summary:
    """Return what the examples that a source has read are like: an array `(N, …)`, or a table."""
    data = records.data
    return _of_table(data) if hasattr(data, "columns") else _of_array(data, records.mapping)


def chosen(data: Any, count: int) -> Any:
    """Return at most `count` examples, evenly spaced, of an array or a table."""
    rows = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int))
    return data.iloc[rows] if hasattr(data, "columns") else data[rows]


def _of_array(data: Any, mapping: mmap | None) -> Summary:
    shape = tuple(data.shape[1:])
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    total, missing, hashes = 0.0, 0, []
    together = max(1, CHUNK // max(1, data[0].nbytes))
    for start in range(0, len(data), together):
        rows = np.asarray(data[start : start + together])
        if rows.dtype.kind == "f":
            missing += int(np.isnan(rows).sum())
        # Not min and max, of which one NaN hides the other values of a feature.
        low = np.fmin(low, np.fmin.reduce(rows, axis=0))
        high = np.fmax(high, np.fmax.reduce(rows, axis=0))
        total += float(np.nansum(rows, dtype=np.float64))
        hashes.append(np.fromiter(_hashes(rows), np.uint64, len(rows)))
        if mapping is not None:
            release(mapping)
    values = len(data) * max(1, low.size) - missing
    return Summary(
        count=len(data),
        shape=shape,
        kind=str(data.dtype).removeprefix("torch."),
        low=float(low.min()),
        high=float(high.max()),
        mean=total / values if values else float("nan"),
        missing=missing,
        constant=int((low == high).sum()),
        duplicates=_duplicates(np.concatenate(hashes)),
    )


def _of_table(frame: Any) -> Summary:
    from pandas.util import hash_pandas_object

    columns = [_column(str(name), frame[name]) for name in frame.columns]
    numbers = [column for column in columns if column.low is not None]
    return Summary(
        count=len(frame),
        shape=(len(columns),),
        kind=f"{len(numbers)} columns of numbers, {len(columns) - len(numbers)} of text",
        low=min((column.low for column in numbers), default=float("nan")),
        high=max((column.high for column in numbers), default=float("nan")),
        mean=float("nan"),
        missing=sum(column.missing for column in columns),
        constant=sum(column.distinct <= 1 for column in columns),
        duplicates=_duplicates(hash_pandas_object(frame, index=False).to_numpy()),
        columns=columns,
    )


def _column(name: str, values: Any) -> ColumnSummary:
    missing, distinct = int(values.isna().sum()), int(values.nunique())
    column = ColumnSummary(name, str(values.dtype), missing, distinct)
    if values.dtype.kind in "fiu" and distinct:
        column.low, column.high = float(values.min()), float(values.max())
        column.mean = float(values.mean())
    elif values.dtype.kind not in "fiu":
        counts = values.astype(str).where(values.notna()).value_counts()
        column.commonest = [(str(text), int(count)) for text, count in counts.head(5).items()]
    return column


def _hashes(rows: np.ndarray) -> Iterator[int]:
    for row in np.ascontiguousarray(rows):
        yield int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest())


def _duplicates(hashes: np.ndarray) -> int:
    """Return how many of `(N,)` hashes are those of an earlier example."""
    return len(hashes) - len(np.unique(hashes))
