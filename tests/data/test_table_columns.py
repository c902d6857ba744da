"""Which columns of a table can be features, and what is said of the others."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from aecli.data.table_columns import as_numbers, check_column, entries
from aecli.errors import SettingError


def column(values, dtype=None):
    return pd.Series(values, name="a", dtype=dtype)


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3],
        [1.5, None, 2.0],
        ["x", "y", None],
        [True, False, True],
        [True, None, False],
        pd.Categorical(["x", "y", "x"]),
        pd.Categorical([1, 2, 1]),
        pd.array([1, None, 2], dtype="Int64"),
        pd.array([True, None, False], dtype="boolean"),
        ["1-room", "2-room", "3-room"],
        ["2020", "2021", "n"] * 3 + ["x", "y", "z"],
        ["10:30", "11:45"],
        ["10 %", "20 %", "50%"],
        ["1,234", "none"],
        [str(number) for number in range(100)],
        ["2020-13", "2021-14"],
    ],
)
def test_numbers_and_categories_are_features(values):
    check_column(column(values))


TIMES = r"column a holds times; make numbers of it, or leave it out by dataset\.drop=\[a\]"
DATES = TIMES.replace("times;", "dates, such as .*;")
BAD = [
    ([None, None], "column a is empty"),
    (["1,5", "2", "3,25", None], r"texts such as 1,5; set dataset\.decimal=','"),
    ([",5", "-2,5e3"], r"texts such as ,5; set dataset\.decimal=','"),
    (["1,234", "12", "1,234,567"], r"such as 1,234; write 1234, or set dataset\.decimal=','"),
    ([f"{n},859.51" for n in range(30)], r"such as 0,859\.51; write plain numbers, such as 1234"),
    ([f"{n}%" for n in range(30)] + ["7"], r"such as 0%; write plain numbers, .*dataset\.drop"),
    ([f"{n} 000" for n in range(1, 30)], "such as 1 000; write plain numbers"),
    ([f"${n}" for n in range(30)], r"such as \$0; write plain numbers"),
    (["2020-01", "2021-12"], DATES),
    (["2020-01-31", "2021-12-01"], DATES),
    (["2020-01-31 10:00:00", None], DATES),
    (["31.1.2020", "1.12.21"], DATES),
    (["1/31/2020", "12/1/2021"], DATES),
    (pd.to_datetime(["2020-01-31", "2021-12-01"]), TIMES),
    ([datetime.date(2020, 1, 31)], TIMES),
    (pd.to_timedelta([1, 2], unit="s"), TIMES),
    ([[1, 2], [3]], r"holds neither numbers nor texts \(mixed\)"),
    ([{"x": 1}], r"holds neither numbers nor texts"),
    ([b"x", b"y"], r"holds neither numbers nor texts \(bytes\)"),
    ([decimal.Decimal("1.5")], r"holds neither numbers nor texts \(decimal\)"),
    (["1", "2", "3", "unknown", "unknown"], "holds numbers and 2 other entries, such as unknown"),
    ([1.0, np.inf], "column a has 1 infinite number, the first in row 1, counted from 0; leave"),
    ([1.0, 1e300], r"column a has numbers beyond ±1e\+30"),
    ([f"text {n}" for n in range(1001)], "column a has 1,001 categories, and may have 1,000"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_others_are_refused_with_what_to_do(values, message):
    with pytest.raises(SettingError, match=message):
        check_column(column(values))


def test_entries_are_texts_whatever_the_column_was_read_as():
    for values in (["1", None, "2"], [1.0, None, 2.0], pd.array([1, None, 2], dtype="Int64")):
        codes, texts = entries(column(values))
        assert [texts[code] if code >= 0 else None for code in codes] == ["1", None, "2"]
    codes, texts = entries(column([1, "1", 2], dtype=object))
    assert (codes.tolist(), texts) == ([0, 0, 1], ["1", "2"])


def test_numbers_are_doubles_and_missing_ones_nan():
    for values in ([1, 2], pd.array([1, None], dtype="Int64"), [1.0, None], [None, None]):
        numbers = as_numbers(column(values))
        assert numbers.dtype == np.float64
        assert np.isnan(numbers).tolist() == column(values).isna().tolist()
    with pytest.raises(SettingError, match="column a has texts, such as x; the run was trained on"):
        as_numbers(column(["x", "y"]))
