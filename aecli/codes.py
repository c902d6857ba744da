"""Codes that are read from a file a few rows at a time: memory does not grow with their number."""

import csv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aecli.errors import SettingError, shortened
from aecli.npy import npy_header
from aecli.rows import check_ending
from aecli.size import check_fits
from aecli.text import counted, first_line, one_line
from aecli.untrusted import size_of

KEY = "codes"
"""The array of codes in an `.npz` that `aecli encode` wrote."""


class Codes(NamedTuple):
    """B codes."""

    ids: np.ndarray
    """`(B,)`: how a user finds each again."""
    z: np.ndarray
    """`(B, K)`, float32."""


class CodeFile:
    """A file of codes: columns z0, z1, … of a table, or an array `(N, K)`.

    Args:
        path: of a .csv, .tsv, .parquet, .npy or .npz file.
        units: K of the model that shall decode them.
        batch_size: rows at a time.
        key: the array of an .npz; None for "codes".

    Raises `SettingError` for a file that does not hold such codes, here or on the way.
    """

    def __init__(self, path: Path, units: int, batch_size: int, key: str | None = None) -> None:
        self.path, self.units, self.batch_size = path, units, batch_size
        self.ending = check_ending("codes", path)
        if key is not None and self.ending != ".npz":
            raise SettingError(f"key={key}: goes with an .npz file")
        self.key = key or KEY
        self.columns = [f"z{number}" for number in range(units)]
        try:
            size_of(path)
        except FileNotFoundError:
            raise SettingError(f"codes={path}: no such file") from None
        self.count = sum(len(z) for _, z in self._pieces())
        if not self.count:
            raise SettingError(f"codes={path}: holds no rows")

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Codes]:
        done = 0
        for ids, z in self._pieces():
            if z.dtype.kind not in "fiu":
                raise SettingError(f"codes={self.path}: holds values that are no numbers")
            with np.errstate(over="ignore"):
                z = z.astype(np.float32)
            wrong = ~np.isfinite(z).all(axis=1)
            if wrong.any():
                row = done + int(wrong.argmax())
                raise SettingError(f"codes={self.path}: has no finite number in row {row}")
            ids = np.arange(done, done + len(z)) if ids is None else ids
            done += len(z)
            yield Codes(ids, z)

    def _pieces(self) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
        readers = {".parquet": self._parquet, ".npy": self._npy, ".npz": self._npz}
        try:
            yield from readers.get(self.ending, self._text)()
        except SettingError:
            raise
        except Exception as error:  # whatever a damaged file can raise
            raise SettingError(
                f"codes={self.path}: cannot be read ({first_line(error)})"
            ) from error

    def _text(self) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
        import pandas

        separator = "\t" if self.ending == ".tsv" else ","
        with self.path.open(encoding="utf-8", newline="") as start:
            lines = csv.reader(start, delimiter=separator)
            head, first = next(lines, []), next(lines, [])
        if first and len(first) != len(head):  # pandas would take the first column for row numbers
            raise SettingError(
                f"codes={self.path}: has {len(head)} columns in its first line and {len(first)} in"
                " the next"
            )
        with (
            self.path.open("rb") as file,
            pandas.read_csv(
                file,
                sep=separator,
                index_col=False,
                chunksize=self.batch_size,
                dtype={"id": str},
                keep_default_na=False,  # an id may be NA
                na_values={column: ["", "nan", "NaN"] for column in self.columns},
            ) as frames,
        ):
            for frame in frames:
                yield self._of_frame(frame)

    def _parquet(self) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
        from pyarrow.parquet import ParquetFile

        with ParquetFile(self.path) as file:
            groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
            most = max((group.total_byte_size for group in groups), default=0)
            check_fits(f"codes={self.path}: a part of it", most)
            for batch in file.iter_batches(self.batch_size):
                yield self._of_frame(batch.to_pandas())

    def _of_frame(self, frame: Any) -> tuple[np.ndarray | None, np.ndarray]:
        found = [name for name in frame if name in self.columns]
        more = f"z{self.units}"
        if missing := [name for name in self.columns if name not in found]:
            raise SettingError(
                f"codes={self.path}: lacks {shortened(missing)}; the run's code has"
                f" {counted(self.units, 'units')}, {self._named}"
            )
        if more in frame:
            raise SettingError(
                f"codes={self.path}: has a column {more}; the run's code has"
                f" {counted(self.units, 'units')}"
            )
        ids = frame["id"].to_numpy() if "id" in frame else None
        return ids, frame[self.columns].to_numpy()

    @property
    def _named(self) -> str:
        return " to ".join(dict.fromkeys([self.columns[0], self.columns[-1]]))

    def _npy(self) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
        array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        self._check_shape(array.shape)
        for start in range(0, len(array), self.batch_size):
            yield None, np.array(array[start : start + self.batch_size])

    def _npz(self) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
        with zipfile.ZipFile(self.path) as arrays:
            names = [name.removesuffix(".npy") for name in arrays.namelist()]
            if self.key not in names:
                raise SettingError(f"key={self.key}: {self.path} has the arrays {shortened(names)}")
            ids = self._ids() if "ids" in names else None
            with arrays.open(f"{self.key}.npy") as member:
                shape, is_fortran, dtype = npy_header(member)
                if is_fortran:
                    raise SettingError(f"{one_line(member.name)}: must be numbers, row by row")
                self._check_shape(shape)
                if dtype.kind not in "fiu":
                    raise SettingError(f"codes={self.path}: holds values that are no numbers")
                if ids is not None and len(ids) != shape[0]:
                    raise SettingError(f"codes={self.path}: {len(ids)} ids and {shape[0]} codes")
                for start in range(0, shape[0], self.batch_size):
                    rows = min(self.batch_size, shape[0] - start)
                    data = member.read(rows * self.units * dtype.itemsize)
                    z = np.frombuffer(data, dtype).reshape(rows, self.units)
                    yield None if ids is None else ids[start : start + rows], z

    def _ids(self) -> np.ndarray:
        with zipfile.ZipFile(self.path) as arrays:
            check_fits(f"codes={self.path}: its ids", arrays.getinfo("ids.npy").file_size)
        with np.load(self.path, allow_pickle=False) as arrays:
            return arrays["ids"]

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 2 or shape[1] != self.units:
            raise SettingError(
                f"codes={self.path}: holds an array {list(shape)}; the run's code needs"
                f" [N,{self.units}]"
            )
