"""The Python face of runs on tables: frames go in and come out."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris

import aecli
from aecli.errors import SettingError

TINY = ("trainer=debug", "network.hidden=[8]", "pictures_every=0")


def trained(*words):
    return aecli.train(*TINY, *words, device="cpu")


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """Return a run on a table, and the table."""
    folder = tmp_path_factory.mktemp("table")
    table = load_iris(as_frame=True).data
    table["colour"] = np.where(np.arange(150) % 3, "red", "blue")
    table.to_csv(folder / "iris.csv", index=False)
    words = ("dataset=table", f"dataset.file={folder}/iris.csv", f"output_dir={folder}")
    return trained(*words), table, folder / "iris.csv"


def test_a_frame_goes_in_and_comes_out(flowers):
    run, table, _ = flowers
    table = table.set_index(np.arange(150) + 1000)
    codes = run.encode(table)
    assert list(codes.columns) == [f"z{unit}" for unit in range(run.model.code_dim)]
    assert codes.index.equals(table.index)
    made = run.reconstruct(table)
    assert list(made.columns) == list(table.columns)
    assert made.index.equals(table.index)
    assert set(made["colour"]) <= {"red", "blue"}
    pd.testing.assert_frame_equal(run.decode(codes), made)
    score = run.score(table)
    assert score.name == "score"
    assert score.index.equals(table.index)
    assert list(run.sample(3).columns) == list(table.columns)


def test_a_path_goes_in_and_arrays_come_out(flowers):
    run, table, path = flowers
    np.testing.assert_array_equal(run.encode(path), run.encode(table).to_numpy())
    np.testing.assert_array_equal(run.score(str(path)), run.score(table).to_numpy())
    pd.testing.assert_frame_equal(run.reconstruct(path), run.reconstruct(table))


@pytest.mark.parametrize(
    ("made_of", "message"),
    [
        (lambda table: table.to_numpy(), "x: the run was trained on a table; pass a DataFrame"),
        (lambda table: [[1, 2, 3]], "x: the run was trained on a table; pass a DataFrame"),
        (lambda table: table.iloc[:0], "x: has no rows"),
        (lambda table: table[["colour", *table.columns]], "x: has two columns colour"),
    ],
    ids=["array", "list", "empty", "twice"],
)
def test_what_is_no_table_like_the_runs_is_refused(flowers, made_of, message):
    run, table, _ = flowers
    for read in (run.encode, run.score, run.reconstruct):
        with pytest.raises(SettingError, match=message):
            read(made_of(table))


def test_names_of_columns_may_be_numbers(tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)))
    table.to_csv(tmp_path / "t.csv", index=False)
    place = (f"dataset.file={tmp_path}/t.csv", f"output_dir={tmp_path}")
    run = trained("dataset=table", *place)
    codes = run.encode(tmp_path / "t.csv")
    np.testing.assert_allclose(run.encode(table).to_numpy(), codes, atol=1e-6)
    assert list(run.reconstruct(table).columns) == ["0", "1", "2"]


def test_codes_of_a_table_are_finite_and_texts_no_tensor(flowers):
    run, table, _ = flowers
    codes = torch.tensor(run.encode(table).to_numpy())
    with pytest.raises(SettingError, match="z: is a tensor, and the run's table has columns of te"):
        run.decode(codes)
    with pytest.raises(SettingError, match="z: has 1 numbers that are not finite"):
        run.decode(np.where(codes == codes[0, 0], np.inf, codes)[:3])


def test_samples_of_a_density_follow_torchs_seed(flowers):
    run, _, _ = flowers
    drawn = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        drawn.append(run.sample(5, "gmm"))
    assert drawn[0].equals(drawn[2])
    assert not drawn[0].equals(drawn[1])


def test_a_frame_that_lacks_a_column_is_refused(flowers):
    run, table, _ = flowers
    with pytest.raises(SettingError, match="lacks the columns colour"):
        run.encode(table.drop(columns="colour"))
