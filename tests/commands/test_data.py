import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.commandline import aecli, is_one_line


def told(done):
    """Return what the table says, by property."""
    rows = [line.split("│")[1:3] for line in done.stdout.splitlines() if line.startswith("│")]
    return {key.strip(): value.strip() for key, value in rows}


def test_the_digits_are_told_and_drawn(tmp_path):
    done = aecli("data", "dataset=digits", "dataset.validation_size=0.1", "out=s.png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = told(done)
    assert found["examples"] == "1,797"
    assert (found["train"], found["validation"], found["test"]) == ("1,293", "144", "360")
    assert found["shape"] == "[1, 8, 8]"
    assert found["values"].startswith("from 0 to 16, mean 4.88")
    assert found["constant features"] == "3"
    assert found["classes"] == "10"
    assert found["3"] == "183"
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size == (580, 580)
    assert [path.name for path in tmp_path.iterdir()] == ["s.png"]


def test_an_array_is_told_and_its_columns_are_drawn(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    x[:, 1], x[7] = 4, x[3]
    np.save(tmp_path / "x.npy", x)
    done = aecli("data", "dataset=array", "dataset.file=x.npy", "out=h.png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "50 rows of 3 numbers" in done.stdout
    assert told(done)["constant features"] == "1"
    assert told(done)["duplicates"].startswith("1 ")
    with Image.open(tmp_path / "h.png") as picture:
        assert min(picture.size) > 100


def test_labels_may_be_large_numbers(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.array([2_000_000_000, 7] * 20)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    words = ("dataset=array", "dataset.file=x.npz", "dataset.key=x", "dataset.labels=y")
    found = told(aecli("data", *words, cwd=tmp_path))
    assert (found["classes"], found["7"], found["2000000000"]) == ("2", "20", "20")


def test_a_tables_columns_are_told_with_what_is_missing(tmp_path):
    frame = pd.DataFrame({"age": [30.0, None, 50, 60] * 10, "town": ["Rome", "Oslo"] * 20})
    frame.to_csv(tmp_path / "people.csv", index=False)
    done = aecli("data", "dataset=table", "dataset.file=people.csv", "out=h.png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("│")[1:6] for line in done.stdout.splitlines() if line.startswith("│ ")]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert cells["missing values"][0] == "10"
    assert cells["age"] == ["float64", "10", "3", "from 30 to 60, mean 46.67"]
    assert cells["town"][1:] == ["0", "2", "Rome (20), Oslo (20)"]
    assert "a training needs dataset.missing=mean, median or mask" in done.stdout
    with Image.open(tmp_path / "h.png") as picture:
        assert min(picture.size) > 100


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dataset=none", "dataset=none: must be one of activations, array"),
        ("model=ae", "model=ae: aecli data takes dataset, its settings, plugins, out and ov"),
        ("trainer.max_epochs=3", "trainer.max_epochs=3: aecli data takes dataset"),
        ("dataset.shape=[3]", "dataset.shape=[3]: follows from other settings"),
        ("dataset.validation_size=5000", "dataset.validation_size=5000: must leave"),
        ("dataset.binarize=some", "dataset.binarize=some: must be one of none"),
        ("out=sheet.jpg", "out=sheet.jpg: must end in one of .png"),
        ("out=sheet", "out=sheet: must end in one of .png"),
        ("dataset=activations", "dataset.files=null: must be a pattern of files, such as"),
        ("dataset=activations dataset.files=a*.npy", "dataset.files=a*.npy: there is no such"),
        ("dataset=array", "dataset.file: must be the path of an array"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(line, message, tmp_path):
    done = aecli("data", *line.split(), cwd=tmp_path)
    assert is_one_line(done), done.stderr
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_names_data_sets_and_not_the_training(tmp_path):
    out = aecli("data", "--help", cwd=tmp_path).stdout
    assert "aecli data [SETTING=VALUE ...]" in out
    assert "optimizer" not in out
