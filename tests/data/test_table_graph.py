"""The card of a table as tensor operations: a matrix in, the same rows as from the table."""

import numpy as np
import pandas as pd
import pytest
import torch

from aecli.data.table import TableFile


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "year": [1990, 2000, 2010, 2020, 2030],
            "colour": ["red", "blue", None, "red", "green"],
            "width": [1e9, 1e9 + 1, np.nan, 1e9 + 3, 1e9 + 2],
        }
    )


def card_of(table, tmp_path, **settings):
    table.to_csv(tmp_path / "t.csv", index=False)
    source = TableFile(str(tmp_path / "t.csv"), **settings)
    records = source.read(None, None)
    return source.fit(records, torch.arange(len(records))), records.data


def matrix(card, table):
    """Return a table as a graph takes it."""
    columns = []
    for column in card.columns:
        values = table[column.name]
        if column.categories:
            places = {text: place for place, text in enumerate(column.categories)}
            values = values.map(places, na_action="ignore")
        columns.append(values.astype(float).to_numpy())
    return torch.from_numpy(np.stack(columns, 1))


@pytest.mark.parametrize("missing", ["mean", "median", "mask"])
@pytest.mark.parametrize("scale", ["standard", "robust", "minmax", "none"])
def test_the_matrix_of_a_table_becomes_its_rows(table, tmp_path, missing, scale):
    card, data = card_of(table, tmp_path, missing=missing, scale=scale)
    x = card.scaled(card.stored(data))
    torch.testing.assert_close(card.entering(matrix(card, data)), x)


def test_rows_come_back_in_their_own_units(table, tmp_path):
    card, data = card_of(table.dropna(), tmp_path)
    wanted = matrix(card, data)
    stored = card.stored(data)
    torch.testing.assert_close(card.leaving(card.scaled(stored)), wanted, atol=1e-2, rtol=1e-10)
    torch.testing.assert_close(card.given(stored), wanted, atol=1e-2, rtol=1e-10)


def test_a_missing_entry_is_nan_where_there_is_a_mask(table, tmp_path):
    card, data = card_of(table, tmp_path, missing="mask")
    given = card.given(card.stored(data))
    assert torch.equal(given.isnan(), torch.from_numpy(data.isna().to_numpy()))


def test_the_likeliest_category_leaves(table, tmp_path):
    card, _ = card_of(table.dropna(), tmp_path)
    blue, red = 0, 2
    x = torch.tensor([[0.0, 0.5, 0.1, 0.4, 0.0], [0.0, 0.1, 0.2, 0.7, 0.0]])
    assert card.columns[1].categories == ("blue", "green", "red")
    assert card.leaving(x)[:, 1].tolist() == [blue, red]
