"""dataset=table: what is read, how columns become numbers and come back, and what is refused."""

import gzip
import re

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch

from aecli.data import TableCard, TableData
from aecli.data.table_files import read_table
from aecli.errors import SettingError
from aecli.runs.checkpoint import pack_data

COLOURS = ["blue", "green", "red"]


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "name": [f"person {n}" for n in range(60)],
            "height": rng.normal(170, 10, 60).round(1),
            "children": rng.integers(0, 5, 60),
            "colour": rng.choice(COLOURS, 60),
            "tall": rng.random(60) > 0.5,
            "species": rng.choice(["cat", "dog"], 60),
        }
    )


def module(path, **settings):
    settings = {"shape": None, "batch_size": 16, "validation_size": None} | settings
    return TableData(str(path), **settings)


def set_up(frame, tmp_path, **settings):
    path = tmp_path / "people.csv"
    frame.to_csv(path, index=False)
    data = module(path, **{"id": "name", "label": "species"} | settings)
    data.setup()
    return data


def test_a_row_is_its_numbers_standardized_and_its_categories_one_hot(people, tmp_path):
    data = set_up(people, tmp_path)
    train = data.splits["train"]
    x = data.card.scaled(train.values)
    assert data.shape == (1 + 1 + 3 + 2,)
    assert data.card.features == [["number", 2], ["category", 3], ["category", 2]]
    torch.testing.assert_close(x[:, :2].mean(dim=0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(x[:, :2].std(dim=0, correction=0), torch.ones(2))
    rows = people.iloc[train.rows.numpy()]
    assert [COLOURS[n] for n in x[:, 2:5].argmax(dim=1)] == rows["colour"].tolist()
    assert x[:, 6].bool().tolist() == rows["tall"].tolist()
    assert train.ids.tolist() == rows["name"].tolist()
    assert data.names(train.labels) == rows["species"].tolist()
    assert [len(split) for split in data.splits.values()] == [48, 6, 6]


def test_what_is_fitted_is_fitted_to_the_training_rows_alone(people, tmp_path):
    before = set_up(people, tmp_path).card
    outside = [row for row in range(60) if row not in set_up(people, tmp_path).splits["train"].rows]
    people.loc[outside, "height"] = 1e6
    people.loc[outside, "colour"] = "purple"
    after = set_up(people, tmp_path)
    assert after.card.columns == before.columns
    # A category that the training split does not have is none of those that it has.
    assert not after.card.scaled(after.splits["test"].values)[:, 2:5].any()


def test_rows_come_back_in_the_users_units(people, tmp_path):
    data = set_up(people, tmp_path)
    split = data.splits["train"]
    restored = data.card.restored(data.card.scaled(split.values))
    expected = people.iloc[split.rows.numpy()].reset_index(drop=True)
    assert list(restored) == ["height", "children", "colour", "tall"]
    np.testing.assert_allclose(restored["height"], expected["height"], rtol=1e-5)
    assert restored["children"].tolist() == expected["children"].tolist()
    assert restored["children"].dtype.kind == "i"
    assert restored["colour"].tolist() == expected["colour"].tolist()


@pytest.mark.parametrize("scale", ["standard", "robust", "minmax", "none"])
def test_scales(people, tmp_path, scale):
    data = set_up(people, tmp_path, scale=scale)
    x = data.card.scaled(data.splits["train"].values)[:, 0].double()
    heights = people["height"].to_numpy()[data.splits["train"].rows]
    quarters = np.quantile(heights, [0.25, 0.5, 0.75])
    expected = {
        "standard": (heights - heights.mean()) / heights.std(),
        "robust": (heights - quarters[1]) / (quarters[2] - quarters[0]),
        "minmax": (heights - heights.min()) / (heights.max() - heights.min()),
        "none": heights,
    }[scale]
    np.testing.assert_allclose(x, expected, atol=1e-5)


def test_a_column_that_does_not_vary_is_zero(people, tmp_path):
    people["height"] = 3.25
    data = set_up(people, tmp_path)
    assert not data.card.scaled(data.splits["train"].values)[:, 0].any()
    assert "the same in all rows: height" in data.understood


@pytest.mark.parametrize("missing", ["mean", "median", "mask"])
def test_missing_entries(people, tmp_path, missing):
    people.loc[::3, "height"] = None
    people.loc[::4, "colour"] = None
    data = set_up(people, tmp_path, missing=missing)
    split = data.splits["train"]
    x, rows = data.card.scaled(split.values), split.rows.numpy()
    training = people.iloc[rows]
    no_height = training["height"].isna().tolist()
    no_colour = torch.tensor(training["colour"].isna().tolist())
    if missing == "mask":
        assert data.shape == (7 + 4,)
        assert not x[no_height, 0].any()
        assert not x[no_colour][:, 2:5].any()
        columns = ["height", "children", "colour", "tall"]
        there = torch.tensor(training[columns].notna().to_numpy().tolist())
        assert torch.equal(x[:, 7:].bool(), there)
        return
    filled = training["height"].mean() if missing == "mean" else training["height"].median()
    restored = data.card.restored(x)
    np.testing.assert_allclose(restored["height"][no_height], filled, rtol=1e-5)
    frequent = training["colour"].mode()[0]
    assert set(restored["colour"][no_colour.numpy()]) == {frequent}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".parquet", ".feather"])
def test_every_kind_of_file_holds_the_same_table(people, tmp_path, ending):
    path = tmp_path / f"people{ending}"
    if ending == ".parquet":
        people.to_parquet(path)
    elif ending == ".feather":
        people.to_feather(path)
    else:
        people.to_csv(path, index=False, sep="\t" if "tsv" in ending else ",")
    data = module(path, id="name", label="species")
    data.setup()
    reference = set_up(people, tmp_path)
    for name, split in reference.splits.items():
        torch.testing.assert_close(data.splits[name].values, split.values)
        assert data.splits[name].ids.tolist() == split.ids.tolist()


def test_semicolons_and_decimal_commas(people, tmp_path):
    path = tmp_path / "german.csv"
    people.to_csv(path, index=False, sep=";", decimal=",")
    data = module(path, id="name", label="species", decimal=",")
    data.setup()
    torch.testing.assert_close(
        data.splits["train"].values, set_up(people, tmp_path).splits["train"].values
    )
    with pytest.raises(SettingError, match=r"column height holds texts.*dataset\.decimal=','"):
        module(path, id="name", label="species").setup()


def test_a_column_says_the_split(people, tmp_path):
    people["part"] = ["train", "val", "Test"] * 20
    data = set_up(people, tmp_path, split="part")
    assert {name: split.rows.tolist() for name, split in data.splits.items()} == {
        "train": list(range(0, 60, 3)),
        "validation": list(range(1, 60, 3)),
        "test": list(range(2, 60, 3)),
    }
    people["part"] = "holdout"
    with pytest.raises(SettingError, match=r"dataset\.split: holds holdout; must be one of train"):
        set_up(people, tmp_path, split="part")


def new(data, frame, tmp_path, **settings):
    """Return the rows of new data, read through the card of a run."""
    path = tmp_path / "new.csv"
    frame.to_csv(path, index=False)
    fresh = module(path, **{"id": "name", "label": "species"} | settings)
    fresh.of_run(data.card, data.fingerprint)
    fresh.setup_new()
    return fresh.splits["new"].values


def test_new_data_is_read_as_the_runs_was(people, tmp_path):
    data = set_up(people, tmp_path)
    expected = new(data, people, tmp_path)
    assert torch.equal(expected[data.splits["train"].rows], data.splits["train"].values)
    other_order = people[["tall", "colour", "children", "height"]].assign(more=1)
    assert torch.equal(new(data, other_order, tmp_path), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop(columns="height"), "lacks the columns height"),
        (lambda p: p.assign(colour="mauve"), "colour has the categories mauve.*blue, green, red"),
        (lambda p: p.assign(height="high"), "column height has texts, such as high"),
        (lambda p: p.assign(height=np.nan), r"missing in height \(60\)"),
        (lambda p: p.assign(height=np.inf), "column height has 60 infinite numbers"),
    ],
)
def test_new_data_that_differs_is_refused_by_name(people, tmp_path, change, message):
    data = set_up(people, tmp_path)
    with pytest.raises(SettingError, match=message):
        new(data, change(people), tmp_path)


def test_the_card_survives_a_checkpoint_and_a_damaged_one_is_refused(people, tmp_path):
    people.loc[::3, "height"] = None
    card = set_up(people, tmp_path, missing="mask").card
    again = TableCard.of_state(card.state())
    assert again.columns == card.columns
    assert (again.shape, again.features) == (card.shape, card.features)
    for name, value in {
        "numbers": torch.zeros(4, 3),
        "names": ["a", "a", "b", "c"],
        "kinds": ["number"] * 4,
        "missing": "maybe",
    }.items():
        with pytest.raises(SettingError):
            TableCard.of_state(card.state() | {name: value})


BAD = {
    "no header": ("1,2\n3,4\n5,6\n", "its first line is numbers"),
    "ragged": ("a,b\n1,2\n3,4,5\n", "different numbers of columns.*line 3"),
    "a name twice": ("a,b,a\n1,2,3\n", "has two columns a"),
    "no name": ("a,,c\n1,2,3\n", "column 2 has no name"),
    "empty": ("", "empty|no name|no rows"),
    "no rows": ("a,b\n", "has no rows"),
    "an empty column": ("a,b\n1,\n2,\n3,\n", r"column b is empty; .*dataset\.drop=\[b\]"),
    "a comma": ('a,b\n1,"1,5"\n2,"2,5"\n', r"such as 1,5; set dataset\.decimal"),
    "missing": ("a,b\n1,\n2,5\n3,6\n", r"dataset\.missing=error: entries are missing in b \(1\)"),
    "a stray text": ("a\n1\n2\n?\n4\n", "column a holds numbers and 1 other entries, such as \\?"),
    "one row": ("a,b\n1,2\n", "must leave examples"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_bad_files_get_a_plain_line(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(SettingError, match=message):
        module(path).setup()


def test_more_bad_files(people, tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("a,b\ncaf\xe9,1\n".encode("latin1"))
    with pytest.raises(SettingError, match="no UTF-8"):
        module(path).setup()
    with pytest.raises(SettingError, match="no such file"):
        module(tmp_path / "none.csv").setup()
    with pytest.raises(SettingError, match=r"must end in one of \.csv"):
        module(tmp_path / "people.xlsx").setup()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SettingError, match="no regular file"):
        module(tmp_path / "folder.csv").setup()
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n" * 100)[:-20])
    with pytest.raises(SettingError, match="cannot be read"):
        module(path).setup()
    path = tmp_path / "text.parquet"
    path.write_text("no parquet")
    with pytest.raises(SettingError, match="cannot be read"):
        module(path).setup()
    people["when"] = pd.Timestamp("2026-01-01")
    people.to_parquet(tmp_path / "when.parquet")
    with pytest.raises(SettingError, match=r"column when holds times.*dataset\.drop=\[when\]"):
        module(tmp_path / "when.parquet").setup()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "height"}, r"dataset\.label: holds floats.*a label is a class"),
        ({"label": "nobody"}, r"dataset\.label=nobody: no such column; there are name, height"),
        ({"columns": ["weight"]}, r"dataset\.columns=weight: no such column"),
        ({"drop": ["height", "children", "colour", "tall"]}, "no column is left"),
        ({"scale": "log"}, r"dataset\.scale=log: must be one of standard"),
        ({"missing": "drop"}, r"dataset\.missing=drop: must be one of error"),
        ({"binarize": "round"}, r"dataset\.binarize=round: is for images"),
        ({"columns": "height"}, r"dataset\.columns=height: must be a list"),
    ],
)
def test_settings_that_do_not_go_with_the_table(people, tmp_path, settings, message):
    with pytest.raises(SettingError, match=message):
        set_up(people, tmp_path, **settings)


def test_a_name_has_so_many_characters_at_most(people, tmp_path):
    people["name"] = [f"n{number}" for number in range(len(people))]
    people.loc[3, "name"] = "x" * 5000
    with pytest.raises(SettingError, match="name: has an entry of 5,000 characters; must"):
        set_up(people, tmp_path, id="name")


def test_texts_that_a_file_holds_once_are_counted_as_often_as_they_stand(tmp_path, monkeypatch):
    frame = pd.DataFrame({"a": np.arange(500.0), "text": ["x" * 100_000] * 500})
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    pyarrow.parquet.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 50_000
    monkeypatch.setattr("aecli.size.memory", lambda: 100_000_000)
    with pytest.raises(SettingError, match=r"bomb\.parquet: the table"):
        read_table(tmp_path / "bomb.parquet", None, ".")


def test_too_many_categories(people, tmp_path):
    people = pd.concat([people] * 20, ignore_index=True)
    people["code"] = [f"code {n}" for n in range(1200)]
    with pytest.raises(SettingError, match=r"code has 1,200 categories.*dataset\.drop=\[code\]"):
        set_up(people, tmp_path)


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(people, tmp_path, monkeypatch):
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 2_000_000))
    monkeypatch.setattr("aecli.size.memory", lambda: 20 << 20)
    with pytest.raises(SettingError, match=re.escape(str(path)) + ".*would take .* of memory"):
        module(path).setup()


def test_other_rows_than_those_of_the_training_are_refused(people, tmp_path):
    data = set_up(people, tmp_path)
    path = tmp_path / "people.csv"
    people.iloc[:50].to_csv(path, index=False)
    again = module(path, id="name", label="species")
    again.of_run(data.card, data.fingerprint)
    with pytest.raises(SettingError, match="the 50 examples that are there now are not those"):
        again.setup()


def test_no_more_columns_and_categories_than_a_run_keeps(people, tmp_path, monkeypatch):
    needed = 1000 + 3 * 4 + 5 + 9 * 3
    monkeypatch.setattr("aecli.data.table.MOST_NODES", needed)
    pack_data(set_up(people, tmp_path))
    monkeypatch.setattr("aecli.data.table.MOST_NODES", needed - 1)
    with pytest.raises(SettingError, match=r"has 4 columns with 5 categories, more than a run"):
        set_up(people, tmp_path)
