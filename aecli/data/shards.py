"""Rows of numbers in many files, which stay on the disk: of any total size."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aecli.data.arrays import Names, plain_errors
from aecli.data.mapped import read_into
from aecli.data.ranges import Ranges, blocks
from aecli.data.shard_headers import TOKENS, Shard, header
from aecli.errors import SettingError, shortened
from aecli.patterns import expanded, matching
from aecli.text import counted, first_line, one_line

MOST_FILES = 100_000
READ_AT_ONCE = 4 << 20
"""Bytes of a file that are read together at most."""
NEAR = 8
"""Wanted rows that lie no further apart are read together with those in between."""
NOT_FINITE = {
    torch.float16: ("<u2", 0x7C00),
    torch.bfloat16: ("<u2", 0x7F80),
    torch.float32: ("<u4", 0x7F80_0000),
}
"""The bits of an exponent that only infinities and NaN have, all of them set."""


class RowArray(ABC):
    """Rows that are not in memory, taken as those of an array `(N, D)`."""

    shape: tuple[int, int]
    dtype: torch.dtype

    @abstractmethod
    def taken(self, rows: Tensor) -> Tensor:
        """Return some rows `(n,)`, n > 0, as bytes `(n, size)`."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return some rows `(n, D)` by a slice or their numbers, or one row `(D,)`: as float32."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        places = torch.as_tensor(rows)
        values = self.taken(places.reshape(-1)).view(self.dtype).float()
        return values.reshape(*places.shape, self.shape[1]).numpy()


class Shards(RowArray):
    """The rows of all shards, one after the other, without those that are left out.

    Args:
        shards: the files, at least one, of rows of the same width and type.
        kept: the numbers of the rows that are not left out; None: of all.
    """

    def __init__(self, shards: Sequence[Shard], kept: Ranges | None = None) -> None:
        self.shards = list(shards)
        self.width, self.dtype = shards[0].width, shards[0].dtype
        self.size = self.width * self.dtype.itemsize
        self.ends = np.cumsum([shard.rows for shard in shards])
        count = int(self.ends[-1])
        self.kept = blocks(count, count) if kept is None else kept
        self.shape = (len(self.kept), self.width)

    def without(self, mask: Tensor) -> "Shards":
        """Return the same shards without the rows at which a mask `(N,)` is true."""
        return Shards(self.shards, Ranges.of_mask(~mask))

    def taken(self, rows: Tensor) -> Tensor:
        """Return some rows `(n,)`, n > 0, as bytes `(n, size)`; neighbours are read together.

        Raises `SettingError` for a row with numbers that are not finite, by file and number, and if
        a file cannot be read.
        """
        places = self.kept[rows].numpy()
        steps = np.diff(places)
        order = None
        if (steps < 0).any():
            order = places.argsort(kind="stable")
            places = places[order]
            steps = np.diff(places)
        number = np.searchsorted(self.ends, places, side="right")
        together = places // max(1, READ_AT_ONCE // self.size)
        apart = (steps > NEAR) | (np.diff(number) > 0) | (np.diff(together) > 0)
        found = np.empty((len(places), self.size), np.uint8)
        with _Files(self.shards) as files:
            edges = [0, *np.flatnonzero(apart) + 1, len(places)]
            for start, end in pairwise(edges):
                shard = int(number[start])
                own = places[start:end] - (self.ends[shard] - self.shards[shard].rows)
                self._read(found[start:end], own, shard, files)
        if order is not None:
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            found = found[back]
        return torch.from_numpy(found)

    def _read(self, into: np.ndarray, rows: np.ndarray, number: int, files: "_Files") -> None:
        """Read rows of one file, in their order there, that lie near each other."""
        shard, first = self.shards[number], int(rows[0])
        count = int(rows[-1]) - first + 1
        at, descriptor = shard.offset + first * self.size, files.descriptor(number)
        if count == len(rows) and (np.diff(rows) == 1).all():
            read_into(into.reshape(-1).data, descriptor, at, shard.path)
        else:
            around = np.empty((count, self.size), np.uint8)
            read_into(around.reshape(-1).data, descriptor, at, shard.path)
            np.take(around, rows - first, axis=0, out=into)
        kind, exponent = NOT_FINITE[self.dtype]
        is_wrong = (into.view(kind) & exponent) == exponent
        if is_wrong.any():
            row = int(is_wrong.any(axis=1).argmax())
            raise SettingError(
                f"{one_line(shard.path)}: row {int(rows[row]):,} has numbers that are not finite"
                f" ({int(is_wrong[row].sum()):,} of {self.width:,})"
            )

    @property
    def fingerprint(self) -> str:
        """What tells these rows from others: how many are in each file, and which are kept."""
        kept = f"{len(self):,} {int(self.kept[:].sum()):,}" if len(self) < self.ends[-1] else ""
        return f"{self.width} {self.dtype} {[shard.rows for shard in self.shards]} {kept}"

    def said(self) -> str:
        """Return what was found, for a line to the user."""
        count, dropped = len(self.shards), int(self.ends[-1]) - len(self)
        size = int(self.ends[-1]) * self.size
        without = f" without {dropped:,} that are left out" if dropped else ""
        return (
            f"{counted(count, 'shards')}, {len(self):,} rows{without} of"
            f" {self.said_of_a_row()}, {size / 1e9:.3g} GB, left on the disk"
        )

    def said_of_a_row(self) -> str:
        """Return what a row is, for a line to the user."""
        return _kind(self.shards[0])


class _Files:
    """The files of one reading: opened when they are needed, all but the last closed again."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards
        self.number, self.open = -1, -1

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *_: object) -> None:
        if self.open >= 0:
            os.close(self.open)

    def descriptor(self, number: int) -> int:
        if number != self.number:
            self.__exit__()
            self.number, self.open = -1, -1
            path = self.shards[number].path
            try:
                self.open = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe is no trap
            except OSError as error:
                raise SettingError(
                    f"{one_line(path)}: cannot be read ({error.strerror})"
                ) from error
            self.number = number
        return self.open


KEYS = {"dataset.files": "dataset.key", "dataset.targets": "dataset.target_key"}
"""The setting that names an array in the files of a setting."""


def open_shards(files: Any, key: str | None, setting: str = "dataset.files") -> Shards:
    """Return the rows of the files that `files` means: a pattern such as `acts/*.npy`, or a list.

    Files are in the natural order of their names, 2 before 10. Those that end in `.tokens.npy` are
    no shards. `key` names the array in a `.safetensors` file that has several.
    Raises `SettingError` for files that cannot be read, are cut off, or differ in width or type.
    """
    paths = _found(files, setting)
    shards: list[Shard] = []
    for path in paths:
        with plain_errors(path, setting):
            shard = header(path, Names(path, key, KEYS[setting]), setting)
        if shards and (shard.width, shard.dtype) != (shards[0].width, shards[0].dtype):
            raise SettingError(
                f"{setting}: shards differ: {one_line(path)} has rows of {_kind(shard)},"
                f" {one_line(shards[0].path)} of {_kind(shards[0])}"
            )
        shards.append(shard)
    return Shards(shards)


def _kind(shard: Shard) -> str:
    return f"{shard.width:,} numbers, {str(shard.dtype).removeprefix('torch.')}"


def _found(files: Any, setting: str) -> list[Path]:
    patterns = [files] if isinstance(files, str) else files
    is_list = isinstance(patterns, Sequence) and patterns
    if not is_list or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise SettingError(
            f"{setting}={shortened(files)}: must be a pattern of files, such as"
            f" {setting}='acts/*.npy', or a list of such"
        )
    if not hasattr(os, "preadv"):
        raise SettingError(f"{setting}: needs Linux, macOS or BSD, whose files are read by place")
    found: dict[Path, None] = {}
    for pattern in patterns:
        place = expanded(pattern)
        matches = [place]
        if not place.exists():
            try:
                matches = sorted(islice(matching(place), MOST_FILES + 1), key=_natural)
            except (OSError, ValueError, re.error) as error:
                raise SettingError(
                    f"{setting}={one_line(pattern)}: cannot be looked for ({first_line(error)})"
                ) from error
        kept = [path for path in matches if not path.name.endswith(TOKENS)]
        if not kept:
            raise SettingError(f"{setting}={one_line(pattern)}: there is no such file")
        found |= dict.fromkeys(kept)
    if len(found) > MOST_FILES:
        raise SettingError(f"{setting}={shortened(files)}: are more than {MOST_FILES:,} files")
    return list(found)


def _natural(path: Path) -> list[Any]:
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]
