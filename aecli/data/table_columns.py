"""What the columns of a table hold: which can be features, and what their entries are."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aecli.errors import SettingError
from aecli.text import counted, one_line

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MOST_CATEGORIES = 1000
LARGEST_NUMBER = 1e30
"""The squares of larger numbers, and their sums, leave the range of float32."""
LOOKED_AT = 10_000
"""Different texts of a column that tell what kind it is."""
SHOWN = 5
FEW = 3
"""Texts among numbers that stand for missing entries, such as ? and unknown."""
KINDS = ("string", "boolean", "categorical", "mixed-integer", "empty")
"""What pandas calls texts, categories, and whole numbers among texts."""
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(e[-+]?\d+)?", re.I)
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?", re.I)
THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+")
WRITTEN = re.compile(
    r"[-+]?[$€£¥]?\s?(\d{1,3}([ ,.'’\u00a0\u202f]\d{3})+|\d+)([.,]\d+)?\s?[%$€£¥]?"
)
"""A number as people write it: 1,234.56, 12 %, $3."""
LEVELS = 20
"""Different numbers of this kind, at most, that are taken for categories: 10 %, 20 %, 50 %."""
DATE = re.compile(
    r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{4}[-/](0?[1-9]|1[0-2])|\d{1,2}([-/.])\d{1,2}\4\d{2,4})"
    r"([ T].*)?"
)


def is_number(values: "Series") -> bool:
    """Return whether a column holds numbers; truth values are categories."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return is_numeric_dtype(values) and not is_bool_dtype(values)


def first_of(rows: np.ndarray) -> str:
    """Return which row is the first of those that a mask `(N,)` is true of, for a message."""
    return f"the first in row {int(rows.argmax()):,}, counted from 0"


def as_numbers(values: "Series") -> np.ndarray:
    """Return a column of numbers, float64, NaN where one is missing.

    Raises `SettingError` naming the column if an entry is no number, or too large.
    """
    name = one_line(values.name)
    if not is_number(values):
        if values.isna().all():  # an empty column of a new file has no type
            return np.full(len(values), np.nan)
        example = listed(entries(values)[1][:1])
        raise SettingError(
            f"dataset.file: column {name} has texts, such as {example}; the run was trained on"
            " numbers there"
        )
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = np.isinf(numbers)
    if infinite.any():
        raise SettingError(
            f"dataset.file: column {name} has {counted(int(infinite.sum()), 'infinite numbers')},"
            f" {first_of(infinite)}; leave those entries empty, or the rows out of the file"
        )
    if (np.abs(numbers) > LARGEST_NUMBER).any():
        raise SettingError(
            f"dataset.file: column {name} has numbers beyond ±{LARGEST_NUMBER:g}, which are too"
            " large to be computed with"
        )
    return numbers


def entries(values: "Series") -> tuple[np.ndarray, list[str]]:
    """Return which text each entry of a column is, `(N,)`, −1 where one is missing; and the texts.

    A whole number is the same text whether its column was read as integers or as floats.
    """
    from pandas import factorize

    codes, found = factorize(values)
    texts = [
        str(int(entry)) if isinstance(entry, float) and entry.is_integer() else str(entry)
        for entry in found
    ]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    if len(places) < len(texts):  # 1 and "1" are the same
        moved = np.array([places[text] for text in texts])
        codes = np.where(codes >= 0, moved[codes], -1)
    return codes, list(places)


def check_column(values: "Series") -> None:
    """Refuse a column that can be no feature, with what to do."""
    from pandas.api.types import infer_dtype, is_datetime64_any_dtype, is_timedelta64_dtype

    name = one_line(values.name)
    without = f"leave it out by dataset.drop=[{name}]"
    if values.isna().all():
        raise SettingError(f"dataset.file: column {name} is empty; {without}")
    if is_datetime64_any_dtype(values) or is_timedelta64_dtype(values):
        raise SettingError(
            f"dataset.file: column {name} holds times; make numbers of it, or {without}"
        )
    if is_number(values):
        as_numbers(values)
        return
    kind = infer_dtype(values, skipna=True)
    if kind in ("date", "datetime", "time", "timedelta"):
        raise SettingError(
            f"dataset.file: column {name} holds times; make numbers of it, or {without}"
        )
    if kind not in KINDS:
        raise SettingError(
            f"dataset.file: column {name} holds neither numbers nor texts ({kind}); make such of"
            f" it, or {without}"
        )
    codes, texts = entries(values)
    _check_texts(name, codes, texts, without)
    if len(texts) > MOST_CATEGORIES:
        if len(texts) == len(values):
            without = f"set dataset.id={name} if it names the rows, {without}"
        raise SettingError(
            f"dataset.file: column {name} has {len(texts):,} categories, and may have"
            f" {MOST_CATEGORIES:,}; {without}, or choose columns by dataset.columns=[…]"
        )


def _check_texts(name: str, codes: np.ndarray, texts: Sequence[str], without: str) -> None:
    """Refuse texts that are numbers or dates rather than categories."""
    some = texts[:LOOKED_AT]
    commas = [text for text in some if DECIMAL_COMMA.fullmatch(text)]
    thousands = [text for text in some if THOUSANDS.fullmatch(text)]
    others = (text for text in some if "," in text or not NUMBER.fullmatch(text))
    if thousands and all(map(THOUSANDS.fullmatch, others)):
        raise SettingError(
            f"dataset.file: column {name} holds texts such as {one_line(thousands[0])}; write"
            f" {one_line(thousands[0].replace(',', ''))}, or set dataset.decimal=',' if that is the"
            " decimal mark"
        )
    if commas and all(map(NUMBER.fullmatch, some)):
        raise SettingError(
            f"dataset.file: column {name} holds texts such as {one_line(commas[0])}; set"
            " dataset.decimal=',' if they are numbers"
        )
    wrong = [place for place, text in enumerate(some) if not NUMBER.fullmatch(text)]
    if wrong and len(some) > LEVELS and all(map(WRITTEN.fullmatch, some)):
        raise SettingError(
            f"dataset.file: column {name} holds texts such as {one_line(some[wrong[0]], 40)}; write"
            f" plain numbers, such as 1234.5, or {without}"
        )
    if all(map(DATE.fullmatch, some)):
        raise SettingError(
            f"dataset.file: column {name} holds dates, such as {one_line(some[0], 40)}; make"
            f" numbers of it, or {without}"
        )
    if 0 < len(wrong) < len(some) / 2 and len(wrong) <= max(FEW, len(some) / 10):
        count = int(np.isin(codes, wrong).sum())
        raise SettingError(
            f"dataset.file: column {name} holds numbers and {count:,} other entries, such as"
            f" {one_line(some[wrong[0]], 40)}; leave those empty, or {without}"
        )


def check_missing(data: "DataFrame", missing: str, of_a_run: bool = False) -> None:
    """Refuse missing entries if they are to be refused, with the columns and how many they are.

    `of_a_run` says that they are new data for a run, whose setting stays.
    """
    counts = data.isna().sum()
    lacking = {str(name): int(count) for name, count in counts.items() if count}
    if missing == "error" and lacking:
        names = [f"{one_line(name)} ({count:,})" for name, count in lacking.items()]
        more = " and more" if len(names) > SHOWN else ""
        where = "dataset.missing=error"
        what = "set dataset.missing=mean, median or mask, or leave columns out by dataset.drop=[…]"
        if of_a_run:
            where, what = "dataset.file", "the run was trained with dataset.missing=error"
        raise SettingError(
            f"{where}: entries are missing in {', '.join(names[:SHOWN])}{more}; {what}"
        )


def listed(names: Sequence[Any]) -> str:
    """Return the first names of a list, for a message."""
    shown = ", ".join(one_line(name, 40) for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
