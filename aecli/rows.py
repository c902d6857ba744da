"""Rows that are written to a file as they come: memory does not grow with their number.

Imports neither torch nor, before they are needed, pandas and pyarrow.
"""

import csv
import io
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from aecli import files
from aecli.errors import SettingError
from aecli.text import installs

ENDINGS = (".csv", ".tsv", ".parquet", ".npy", ".npz")
"""Of the files that rows can be written to."""
TOGETHER = 1 << 16
"""Rows that are written together, of a Parquet file a group; fewer if they are large."""
TOGETHER_BYTES = 16 << 20
"""Bytes that are held in memory until they are written."""
AHEAD = 2
"""Pieces that wait to be written while the next is computed."""
PLURALS = {"id": "ids", "label": "labels", "z": "codes", "x": "examples", "score": "scores"}
"""What the columns of a name are called where they are one array, in an `.npz`."""

Columns = Mapping[str, np.ndarray | str]
"""B rows by column: `(B,)`, `(B, …)` for the columns NAME0, NAME1, …, or a text that all share."""


class Rows(Protocol):
    """A file of rows."""

    def add(self, columns: Columns) -> None:
        """Write the next rows."""

    def close(self) -> None:
        """Write what is left, without closing the file."""


def check_ending(key: str, path: Path, endings: tuple[str, ...] = ENDINGS) -> str:
    """Return the ending of a file that rows can be written to, in small letters.

    Raises `SettingError` naming `key`, such as "out", for another one, and for one whose library
    is not installed.
    """
    ending = path.suffix.lower()
    if ending not in endings:
        raise SettingError(f"{key}={path}: must end in one of {', '.join(endings)}")
    if ending == ".parquet" and find_spec("pyarrow") is None:
        raise SettingError(f"{key}={path}: needs pyarrow, not installed; {installs('table')}")
    return ending


@contextmanager
def new_rows(
    path: Path, count: int, main: str, overwrite: bool
) -> Iterator[Callable[[Columns], None]]:
    """Yield what writes the next rows to `path`, which appears whole when the block ends.

    `count` rows will come in all. `main` is the column that an `.npy` has, the only one, and that
    is never held in memory. Rows are written in a thread, beside the block.

    Raises as `check_ending` and `files.new_files` do.
    """
    check_ending("out", path)
    with (
        files.new_files(path, overwrite=overwrite) as (file,),
        rows_in(file, path.suffix, count, main) as add,
    ):
        yield add


@contextmanager
def rows_in(
    file: BinaryIO, ending: str, count: int, main: str
) -> Iterator[Callable[[Columns], None]]:
    """Yield what writes the next rows to an open file, as `new_rows` does."""
    rows = KINDS[ending.lower()](file, count, main)
    try:
        with beside(rows.add) as add, _gathered(add) as add_piece:
            yield add_piece
    except BaseException:
        with suppress(Exception):  # the file will be gone; what it holds open shall be, too
            rows.close()
        raise
    rows.close()


@contextmanager
def beside(function: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Yield a function that calls `function` in a thread, in order; wait for it at the end.

    What a call raises is raised by one of the next ones, or at the end.
    """
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as thread:

        def call(argument: Any) -> None:
            waiting.append(thread.submit(function, argument))
            if len(waiting) > AHEAD:
                waiting.popleft().result()

        try:
            yield call
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _gathered(add: Callable[[Columns], None]) -> Iterator[Callable[[Columns], None]]:
    """Yield a function that hands rows to `add` in larger pieces, the last at the end.

    A thread that is handed many small ones would keep the other one from its work.
    """
    held: list[Columns] = []
    rows = size = 0

    def write() -> None:
        nonlocal rows, size
        if held:
            add({name: _joined([columns[name] for columns in held]) for name in held[0]})
        held.clear()
        rows = size = 0

    def add_piece(columns: Columns) -> None:
        nonlocal rows, size
        if held and _shared(columns) != _shared(held[0]):
            write()
        held.append(columns)
        rows += _count(columns)
        size += sum(v.nbytes for v in columns.values() if not isinstance(v, str))
        if rows >= TOGETHER or size >= TOGETHER_BYTES:
            write()

    yield add_piece
    write()


def _joined(values: list[np.ndarray | str]) -> np.ndarray | str:
    first = values[0]
    return first if isinstance(first, str) else np.concatenate(cast(list[np.ndarray], values))


def _shared(columns: Columns) -> dict[str, str]:
    return {name: value for name, value in columns.items() if isinstance(value, str)}


class Separated:
    """A text file with a line a row, its first line the names. Numbers read back as they were."""

    def __init__(self, file: BinaryIO, separator: str) -> None:
        self.text = io.TextIOWrapper(file, "utf-8", newline="")
        self.separator = separator
        self.is_empty = True

    def add(self, columns: Columns) -> None:
        """Write the next rows."""
        from pandas import DataFrame

        frame = DataFrame(_flat(columns))
        # Python's csv puts no quotes around a carriage return, at which readers end a line.
        returns = any("\r" in text for text in _texts(frame))
        quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
        head = self.is_empty
        form = {"sep": self.separator, "lineterminator": "\n", "quoting": quoting}
        frame.to_csv(self.text, index=False, header=head, **form)
        self.is_empty = False

    def close(self) -> None:
        """Write what is left."""
        self.text.detach()


def _texts(frame: Any) -> Iterator[str]:
    """Yield the different texts of the columns that have texts."""
    for name in frame.select_dtypes(exclude="number"):
        yield from map(str, frame[name].unique())


class Parquet:
    """A Parquet file, a group of rows for each piece."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.writer: Any = None

    def add(self, columns: Columns) -> None:
        """Write the next rows."""
        import pyarrow

        count = _count(columns)
        arrays = {
            name: pyarrow.repeat(values, count)
            if isinstance(values, str)
            else pyarrow.array(values)
            for name, values in _flat(columns).items()
        }
        table = pyarrow.table(arrays)
        if self.writer is None:
            self._open(table.schema)
        self.writer.write_table(table)

    def close(self) -> None:
        """Write where everything lies in the file."""
        if self.writer is not None:
            self.writer.close()

    def _open(self, schema: Any) -> None:
        from pyarrow import types
        from pyarrow.parquet import ParquetWriter

        # Text repeats, numbers do not: a dictionary of them, or packing them, would only cost.
        packed = {f.name: "NONE" if types.is_floating(f.type) else "SNAPPY" for f in schema}
        texts = [field.name for field in schema if types.is_string(field.type)]
        self.writer = ParquetWriter(
            self.file,
            schema,
            use_dictionary=texts or False,
            compression=packed,
            write_statistics=False,
        )


class Npy:
    """NumPy's file of one array: the main column alone."""

    def __init__(self, file: BinaryIO, count: int, main: str) -> None:
        self.file, self.count, self.main = file, count, main
        self.is_empty = True

    def add(self, columns: Columns) -> None:
        """Write the next rows."""
        array = columns[self.main]
        assert isinstance(array, np.ndarray)
        _write_rows(self.file, array, self.count if self.is_empty else None)
        self.is_empty = False

    def close(self) -> None:
        """There is nothing left."""


class Npz:
    """NumPy's file of several arrays. The main one is written as it comes, the others are held."""

    def __init__(self, file: BinaryIO, count: int, main: str) -> None:
        self.count, self.main = count, main
        self.zip = zipfile.ZipFile(file, "w")
        self.member: Any = None
        self.held: dict[str, list[np.ndarray]] = {}

    def add(self, columns: Columns) -> None:
        """Write the next rows of the main array, and hold the others."""
        for name, values in columns.items():
            if isinstance(values, str):
                values = np.full(_count(columns), values)
            if name != self.main:
                self.held.setdefault(name, []).append(values)
            elif self.member is None:
                self.member = self._opened(name)
                _write_rows(self.member, values, self.count)
            else:
                _write_rows(self.member, values, None)

    def close(self) -> None:
        """Write the arrays that were held, and where everything lies in the file."""
        try:
            if self.member is not None:
                self.member.close()
            for name, pieces in self.held.items():
                array = np.concatenate(pieces)
                # Texts as NumPy keeps them: objects would be pickled.
                array = array.astype(str) if array.dtype == object else array
                with self._opened(name) as member:
                    _write_rows(member, array, len(array))
        finally:
            self.zip.close()

    def _opened(self, name: str) -> Any:
        return self.zip.open(f"{PLURALS.get(name, name)}.npy", "w", force_zip64=True)


KINDS: dict[str, Callable[[BinaryIO, int, str], Rows]] = {
    ".csv": lambda file, count, main: Separated(file, ","),
    ".tsv": lambda file, count, main: Separated(file, "\t"),
    ".parquet": lambda file, count, main: Parquet(file),
    ".npy": Npy,
    ".npz": Npz,
}


def _flat(columns: Columns) -> dict[str, np.ndarray | str]:
    """Return columns of one number a row: an array `(B, K)` becomes K of them."""
    flat: dict[str, np.ndarray | str] = {}
    for name, values in columns.items():
        if isinstance(values, str) or values.ndim == 1:
            flat[name] = values if isinstance(values, str) else _text(values)
        else:
            rows = np.ascontiguousarray(values.reshape(len(values), -1).T)
            flat |= {f"{name}{number}": row for number, row in enumerate(rows)}
    return flat


def _count(columns: Columns) -> int:
    return next(len(values) for values in columns.values() if not isinstance(values, str))


def _text(values: np.ndarray) -> np.ndarray:
    """Return values, texts among them so that UTF-8 can hold them, as not every file's name can."""
    if values.dtype.kind not in "OU":
        return values
    try:
        "".join(map(str, values)).encode()
    except UnicodeEncodeError:
        whole = [str(text).encode(errors="backslashreplace").decode() for text in values]
        return np.array(whole, object)
    return values.astype(object)


def _write_rows(file: Any, rows: np.ndarray, count: int | None) -> None:
    """Write rows of an array in NumPy's format, before them the head of one of `count` rows."""
    if count is not None:
        described = np.lib.format.dtype_to_descr(rows.dtype)
        head = {"descr": described, "fortran_order": False, "shape": (count, *rows.shape[1:])}
        np.lib.format.write_array_header_1_0(file, head)
    file.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
