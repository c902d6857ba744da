"""Files that hold tables, read by pandas into a frame with named columns."""

import csv
import gzip
from pathlib import Path
from typing import TYPE_CHECKING

from aecli.data.arrays import plain_errors, wanted
from aecli.errors import SettingError
from aecli.size import check_fits
from aecli.text import first_line, one_line
from aecli.untrusted import size_of

if TYPE_CHECKING:
    from pandas import DataFrame

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".feather")
SEPARATORS = ",;\t|"
PARSED = 4
"""Bytes in memory, about, for one of a text file."""
AT_ONCE = 1 << 20
LONGEST_HEADER = 1 << 20


def read_table(path: Path, separator: str | None, decimal: str) -> "DataFrame":
    """Return the table in a file, by its ending.

    `separator` stands between the columns of a text file, None for what its first line shows;
    `decimal` is the decimal mark in it.

    Raises `SettingError` for a file that is missing, damaged, empty, of another kind or too large,
    and for columns that cannot be told apart by their names.
    """
    ending = next((end for end in ENDINGS if path.name.lower().endswith(end)), None)
    if ending is None:
        raise SettingError(f"{one_line(path)}: must end in one of {', '.join(ENDINGS)}")
    with plain_errors(path):
        size = size_of(path)
        if ending in (".parquet", ".feather"):
            frame = _columnar(path, ending)
        else:
            if ending.endswith(".gz"):
                size = _unpacked(path)
            check_fits(f"{one_line(path)}: the table", PARSED * size)
            frame = _text(path, separator, decimal)
    if not len(frame):
        raise SettingError(f"{one_line(path)}: has no rows")
    return frame


def _unpacked(path: Path) -> int:
    """Return how many bytes a gzip file unpacks to; stop where they would not fit the memory."""
    size = 0
    with gzip.open(path) as file:
        while piece := file.read(AT_ONCE):
            size += len(piece)
            check_fits(f"{one_line(path)}: the table", PARSED * size)
    return size


def _columnar(path: Path, ending: str) -> "DataFrame":
    wanted(path, "pyarrow", "table")
    import pyarrow.feather
    import pyarrow.parquet

    if ending == ".parquet":
        file = pyarrow.parquet.ParquetFile(path)
        groups = range(file.metadata.num_row_groups)
        size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
        check_fits(f"{one_line(path)}: the table", PARSED * size)
        frame = file.read().to_pandas()
    else:
        frame = pyarrow.feather.read_feather(path)
    frame.columns = [str(name) for name in frame.columns]
    _check_names(list(frame.columns), path)
    return frame.reset_index(drop=True)


def _text(path: Path, separator: str | None, decimal: str) -> "DataFrame":
    import pandas

    try:
        separator = _check_header(path, separator)
        return pandas.read_csv(
            path,
            sep=separator,
            decimal=decimal,
            encoding="utf-8-sig",
            skipinitialspace=True,
            index_col=False,
            low_memory=False,
        )
    except UnicodeDecodeError as error:
        raise SettingError(f"{one_line(path)}: is no UTF-8; save it as UTF-8") from error
    except pandas.errors.EmptyDataError as error:
        raise SettingError(f"{one_line(path)}: is empty") from error
    except pandas.errors.ParserError as error:
        what = first_line(error).removeprefix("Error tokenizing data. C error: ")
        raise SettingError(
            f"{one_line(path)}: its rows have different numbers of columns ({what});"
            " dataset.separator sets what stands between them"
        ) from error


def _check_header(path: Path, separator: str | None) -> str:
    """Check the names of the columns; return what stands between them."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        header = file.readline(LONGEST_HEADER)
    if "\0" in header:
        raise SettingError(f"{one_line(path)}: is no text")
    if separator is None:
        is_tsv = ".tsv" in path.suffixes[-2:]
        separator = "\t" if is_tsv else max(SEPARATORS, key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    _check_names(names, path)
    if names and all(map(_is_number, names)):
        raise SettingError(
            f"{one_line(path)}: its first line is numbers; it must be the names of the columns"
        )
    return separator


def _check_names(names: list[str], path: Path) -> None:
    for number, name in enumerate(names, 1):
        if not name:
            raise SettingError(f"{one_line(path)}: column {number} has no name; give it one")
        if names.index(name) < number - 1:
            raise SettingError(f"{one_line(path)}: has two columns {one_line(name)}")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
