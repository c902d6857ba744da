"""Files that hold tables, read by pandas into a frame with named columns."""

import csv
import gzip
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from aecli.data.arrays import plain_errors, wanted
from aecli.errors import SettingError
from aecli.size import check_fits
from aecli.text import first_line, one_line
from aecli.untrusted import size_of

if TYPE_CHECKING:
    from pandas import DataFrame, Series

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".feather")
SEPARATORS = ",;\t|"
PARSED = 4
"""Bytes in memory, about, for one of a text file."""
CELL = 8
"""Bytes in memory, at least, of an entry."""
AT_ONCE = 1 << 20
LONGEST_HEADER = 1 << 20
NOT_THERE = ["", "NA", "N/A", "n/a", "<NA>", "#NA", "#N/A", "#N/A N/A", "NULL", "null"]
NOT_THERE += ["NaN", "-NaN", "nan", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"]
"""What a text has for a missing entry: what pandas takes for one, but not None, which is a category
in many tables."""


def read_table(
    path: Path,
    separator: str | None,
    decimal: str,
    texts: Collection[str] = (),
    id: str | None = None,
    label: str | None = None,
) -> "DataFrame":
    """Return the table in a file, by its ending.

    Args:
        path: of the file.
        separator: what stands between the columns of a text file; None for what its first line
            shows.
        decimal: the decimal mark in a text file.
        texts: columns that are texts, even if all that stands there looks like numbers.
        id: a column of a text file whose entries are taken as they stand there: 0.10, NA.
        label: a column of a text file that is one of texts if a number in it begins with 0: 01 and
            1 are two classes.

    Raises `SettingError` for a file that is missing, damaged, empty, of another kind or too large,
    for columns that cannot be told apart by their names, and for rows of different lengths.
    """
    ending = next((end for end in ENDINGS if path.name.lower().endswith(end)), None)
    if ending is None:
        raise SettingError(
            f"dataset.file={one_line(path)}: must end in one of {', '.join(ENDINGS)}; arrays are"
            " dataset=array, a folder of pictures dataset=images"
        )
    with plain_errors(path):
        size = size_of(path)
        if ending in (".parquet", ".feather"):
            _refuse_of_text(separator, decimal, ending)
            frame = _columnar(path, ending)
        else:
            if ending.endswith(".gz"):
                size = _unpacked(path)
            check_fits(f"{one_line(path)}: the table", PARSED * size)
            frame = _text(path, separator, decimal, texts, id, label)
    if not len(frame):
        raise SettingError(f"{one_line(path)}: has no rows")
    return frame


def _refuse_of_text(separator: str | None, decimal: str, ending: str) -> None:
    """Refuse the settings that have no effect on a file that is no text."""
    if separator is not None:
        raise SettingError(f"dataset.separator={separator}: is for texts, not for {ending}")
    if decimal != ".":
        raise SettingError(f"dataset.decimal={decimal}: is for texts, not for {ending}")


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
    import pyarrow
    import pyarrow.parquet

    if ending == ".parquet":
        file = pyarrow.parquet.ParquetFile(path)
        about = file.metadata
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        # A column of one value takes no room in the file.
        size = max(
            PARSED * sum(group.total_byte_size for group in groups),
            CELL * about.num_rows * about.num_columns,
        )
        check_fits(f"{one_line(path)}: the table", size)
        frame = _unfolded(path).to_pandas()
    else:
        with pyarrow.memory_map(str(path)) as mapped:
            frame = _feather(path, pyarrow.ipc.open_file(mapped)).to_pandas()
    if any(name is not None for name in frame.index.names):  # the user's own, and not row numbers
        frame = frame.reset_index()
    frame.columns = [str(name).strip() for name in frame.columns]
    _check_names(list(frame.columns), path)
    return frame.reset_index(drop=True)


def _unfolded(path: Path) -> Any:
    """Return the table of a Parquet file; stop where its texts would not fit the memory.

    In the file a text that repeats stands once.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    schema = ParquetFile(path).schema_arrow
    is_text = pyarrow.types.is_string, pyarrow.types.is_large_string
    texts = [field.name for field in schema if any(is_one(field.type) for is_one in is_text)]
    table, size = ParquetFile(path, read_dictionary=texts).read(), 0
    for name in texts:
        place, field = schema.get_field_index(name), schema.field(name)
        folded = table.column(place)
        for chunk in folded.chunks:
            lengths = pyarrow.compute.binary_length(chunk.dictionary)
            size += pyarrow.compute.sum(lengths.take(chunk.indices)).as_py() or 0
        check_fits(f"{one_line(path)}: the table", PARSED * size)
        table = table.set_column(place, field, folded.cast(field.type))
    return table


def _feather(path: Path, file: Any) -> Any:
    """Return the table of an open feather file; stop where its pieces would not fit the memory."""
    import pyarrow

    batches, size = [], 0
    for number in range(file.num_record_batches):
        batch = file.get_batch(number)
        batches.append(batch)
        size += max(batch.nbytes, CELL * batch.num_rows * batch.num_columns)
        check_fits(f"{one_line(path)}: the table", size)
    return pyarrow.Table.from_batches(batches, file.schema)


def _text(
    path: Path,
    separator: str | None,
    decimal: str,
    texts: Collection[str],
    id: str | None,
    label: str | None,
) -> "DataFrame":
    import pandas

    try:
        names, separator = _header(path, separator)
        frame = pandas.read_csv(
            path,
            sep=separator,
            decimal=decimal,
            encoding="utf-8-sig",
            skipinitialspace=True,
            index_col=False,
            low_memory=False,
            header=0,
            names=names,
            dtype=dict.fromkeys({*texts, id, label} & set(names), "str"),
            keep_default_na=False,
            na_values={name: [""] if name == id else NOT_THERE for name in names},
        )
        if label in names:
            frame[label] = _labels(frame[label])
        if len(frame) and frame[names[-1]].isna().any():  # pandas fills rows that are too short
            _check_lengths(path, separator, len(names))
        return frame
    except UnicodeDecodeError as error:
        raise SettingError(f"{one_line(path)}: is no UTF-8; save it as UTF-8") from error
    except pandas.errors.EmptyDataError as error:
        raise SettingError(f"{one_line(path)}: is empty") from error
    except pandas.errors.ParserError as error:
        what = first_line(error).removeprefix("Error tokenizing data. C error: ")
        raise _ragged(path, what) from error


def _labels(texts: "Series") -> "Series":
    """Return labels of a text file as pandas reads them, or as the texts that they are."""
    from pandas import to_numeric

    there = texts.dropna()
    if there.str.fullmatch(r"[-+]?0\d.*").any():
        return texts
    truths = there.str.lower().isin(["true", "false"])
    if len(truths) and truths.all():
        return texts.map(lambda text: text.lower() == "true", na_action="ignore")
    try:
        return to_numeric(texts)
    except ValueError:
        return texts


def _header(path: Path, separator: str | None) -> tuple[list[str], str]:
    """Return the names of the columns, checked, and what stands between them."""
    with _opened(path) as file:
        start = file.read(LONGEST_HEADER)
    if "\0" in start:
        raise SettingError(f"{one_line(path)}: is no text")
    if separator is None:
        first = re.sub(r'"[^"]*"', "", start).lstrip().split("\n", 1)[0]
        is_tsv = ".tsv" in path.suffixes[-2:]
        separator = "\t" if is_tsv else max(SEPARATORS, key=first.count)
    with _opened(path) as file:
        rows = (row for row in _rows(file, separator) if row)
        header, row = next(rows, []), next(rows, None)
    names = [name.strip() for name in header]
    _check_names(names, path)
    if _are_values(names):
        raise SettingError(
            f"{one_line(path)}: its first line is numbers; it must be the names of the columns"
        )
    if row is not None and len(row) != len(names):
        raise _ragged(path, f"the first line has {len(names)}, the next {len(row)}")
    return names, separator


def _are_values(names: list[str]) -> bool:
    """Return whether the first line of a text is no header: all numbers, or some with a point.

    The numbers 0, 1, 2, … are a header: that of pandas for columns without names.
    """
    if names == [str(number) for number in range(len(names))]:
        return False
    numbers = [name for name in names if _is_number(name)]
    return bool(numbers) and (len(numbers) == len(names) or any("." in name for name in numbers))


def _check_lengths(path: Path, separator: str, count: int) -> None:
    """Refuse rows that are shorter or longer than the header."""
    with _opened(path) as file:
        for number, row in enumerate(_rows(file, separator), 1):
            if row and len(row) != count:
                raise _ragged(path, f"the first line has {count}, row {number} {len(row)}")


def _ragged(path: Path, what: str) -> SettingError:
    return SettingError(
        f"{one_line(path)}: its rows have different numbers of columns ({what});"
        " dataset.separator sets what stands between them"
    )


def _rows(file: TextIO, separator: str) -> Iterator[list[str]]:
    # As pandas does, a quote counts where blanks after a separator are left out.
    return csv.reader(file, delimiter=separator, skipinitialspace=True)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield file


def _check_names(names: list[str], path: Path) -> None:
    seen = set[str]()
    for number, name in enumerate(names, 1):
        if not name:
            index = " (of pandas, leave the index out by index=False)" if number == 1 else ""
            raise SettingError(f"{one_line(path)}: column {number} has no name; give it one{index}")
        if name in seen:
            raise SettingError(f"{one_line(path)}: has two columns {one_line(name)}")
        seen.add(name)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
