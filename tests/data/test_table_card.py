"""The data card of a table, beyond what tests of dataset=table see of it."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from aecli.data.table_card import CATEGORY, INTEGER, NUMBER, Column, TableCard
from aecli.errors import SettingError

COLUMNS = [
    Column("size", NUMBER, 1e6, 0.5, 1e6 + 0.25),
    Column("colour", CATEGORY, fill=1, categories=("blue", "green", "red")),
    Column("count", INTEGER, 10.0, 4.0, 12.0),
]


def frame():
    return pd.DataFrame(
        {
            "size": [1e6, 1e6 + 1, np.nan, 1e6 - 2],
            "colour": ["red", None, "blue", "green"],
            "count": pd.array([10, 14, None, 6], dtype="Int64"),
        }
    )


@pytest.fixture(params=["mean", "mask"])
def card(request):
    return TableCard(COLUMNS, request.param)


def test_a_row_is_its_formula(card):
    masked = card.missing == "mask"
    expected = np.array(
        [
            [0, 0, 0, 1, 0],
            [2, 0, 0 if masked else 1, 0, 1],
            [0 if masked else 0.5, 1, 0, 0, 0 if masked else 0.5],
            [-4, 0, 1, 0, -1],
        ]
    )
    if masked:
        there = [[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 1]]
        expected = np.concatenate([expected, there], axis=1)
    x = card.scaled(card.stored(frame()))
    np.testing.assert_array_equal(x, expected)
    assert card.features == [
        ["number", 1],
        ["category", 3],
        ["number", 1],
        *([["mask", 3]] if masked else []),
    ]


def test_what_the_model_sees_is_a_copy(card):
    stored = card.stored(frame())
    card.scaled(stored).zero_()
    assert stored.any()


def test_whole_numbers_stay_whole_and_the_file_decides_the_order(card):
    x = card.scaled(card.stored(frame()[["count", "colour", "size"]]))
    restored = card.restored(x + 0.01)
    assert list(restored) == ["size", "colour", "count"]
    assert restored["count"].tolist()[:2] == [10, 14]
    assert restored["count"].dtype == np.int64
    assert restored["colour"].tolist()[2:] == ["blue", "green"]
    huge = card.restored(torch.full((1, *card.shape), 1e30))
    assert huge["count"].tolist() == [2**53]


def test_a_graph_takes_columns_in_the_files_units(card):
    stored = card.stored(frame())
    given = card.given(stored)
    filled = [1e6 + 0.25, 1, 12] if card.missing == "mean" else [np.nan] * 3
    expected = [[1e6, 2, 10], [1e6 + 1, filled[1], 14], [filled[0], 0, filled[2]], [1e6 - 2, 1, 6]]
    np.testing.assert_array_equal(given, expected)
    assert torch.equal(card.entering(given), card.scaled(stored))
    raw = torch.tensor([[1e6, 2, 10], [1e6 + 1, np.nan, 14], [np.nan, 0, np.nan], [1e6 - 2, 1, 6]])
    raw = torch.tensor(raw.tolist(), dtype=torch.float64)
    assert torch.equal(card.entering(raw), card.scaled(stored))
    leaving = card.leaving(card.scaled(stored))
    assert torch.equal(leaving[[0, 3]], given[[0, 3]])


def test_a_category_that_the_card_has_not_is_none_and_counted(card, caplog):
    other = frame().assign(colour=["mauve", "red", "red", "mauve"])
    with caplog.at_level(logging.INFO):
        stored = card.stored(other)
    assert stored[:, 1:4].sum(dim=1).tolist() == [0, 1, 1, 0]
    assert "column colour: 2 entries are of categories that the training split" in caplog.text
    assert card.given(stored)[0, 1] == -1
    assert torch.equal(card.entering(card.given(stored)), card.scaled(stored))


def test_new_data_is_refused_by_name(card):
    with pytest.raises(SettingError, match="column colour has the categories mauve, which the run"):
        card.check_new(frame().assign(colour="mauve"))
    with pytest.raises(SettingError, match="lacks the columns colour"):
        card.check_new(frame().drop(columns="colour"))
    with pytest.raises(SettingError, match="column size has numbers that are too far from those"):
        TableCard([Column("size", NUMBER, 0.0, 1e-300, 0.0)], "mean").stored(frame())
    strict = TableCard(COLUMNS, "error")
    with pytest.raises(SettingError) as caught:
        strict.check_new(frame())
    assert str(caught.value) == (
        "dataset.file: entries are missing in size (1), colour (1), count (1); the run was trained"
        " with dataset.missing=error"
    )


def test_categories_that_look_like_numbers_are_read_as_texts():
    codes = Column("code", CATEGORY, categories=("01", "02"))
    truth = Column("truth", CATEGORY, categories=("False", "True"))
    assert TableCard([codes, truth], "error").texts == ["code"]


@pytest.mark.parametrize("fill", [-1, 3, 0.5])
def test_a_fill_in_that_is_none_of_the_categories_is_refused(card, fill):
    state = card.state()
    state["numbers"][1, 2] = fill
    with pytest.raises(SettingError, match="fill-in that is none of the categories"):
        TableCard.of_state(state)


def test_rows_that_no_memory_holds_are_refused(card, monkeypatch):
    monkeypatch.setattr("aecli.size.memory", lambda: 50)
    with pytest.raises(SettingError, match="its rows, with a number for each category would take"):
        card.stored(frame())
