import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from aecli.commands.restored import pixels, save_pictures
from aecli.runs.find import find
from aecli.runs.load import load
from tests.commandline import aecli, is_one_line


@pytest.fixture
def home(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "home")


def test_images_are_written_as_images_under_their_names(home):
    done = aecli("reconstruct", "run=ae", "out=clean/", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = load(*find(str(home / "ae")))
    split = loaded.data.splits["test"]
    names = {path.name for path in (home / "clean").iterdir()}
    assert names == {f"{number}.png" for number in range(1797)}
    with torch.no_grad():
        expected = loaded.model.reconstruct(loaded.card.scaled(split.values[:1]))
    with Image.open(home / "clean" / f"{split.ids[0]}.png") as picture:
        pixels = np.asarray(picture)
    assert np.abs(pixels - 255 * expected.clamp(0, 1)[0, 0].numpy()).max() <= 0.51


def test_rows_come_back_in_their_own_units(home):
    done = aecli("reconstruct", "run=rows", "out=rows.npy", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = load(*find(str(home / "rows")))
    order = np.concatenate([split.ids for split in loaded.data.splits.values()])
    x, again = np.load(home / "x.npy"), np.load(home / "rows.npy")
    # Two components explain these five columns, and three are there.
    np.testing.assert_allclose(again, x[order], rtol=1e-4)


def test_a_table_comes_back_with_its_own_columns(home):
    done = aecli("reconstruct", "run=table", "dataset.file=people.csv", "out=t.csv", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    people, again = pd.read_csv(home / "people.csv"), pd.read_csv(home / "t.csv")
    assert list(again) == ["who", "split", "kind", "age", "height", "town"]
    assert list(again["who"]) == list(people["who"])
    assert again["age"].dtype == np.int64
    assert set(again["town"]) <= {"Rome", "Oslo"}
    assert again["height"].mean() == pytest.approx(people["height"].mean(), abs=5)


def test_pictures_in_folders_keep_their_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("cats/a.png", "cats/b.jpg", "dogs/a.png", "dogs/c.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    words = ("model=pca", "model.code_dim=1", "dataset.validation_size=1", "dataset.test_size=1")
    train = ("train", "dataset=images", "dataset.root=photos", "hydra.run.dir=run", *words)
    assert aecli(*train, cwd=tmp_path).returncode == 0
    done = aecli("reconstruct", "run=run", "dataset.root=photos", "out=new/", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = {str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*.png")}
    assert found == {"cats/a.png", "cats/b.png", "dogs/a.png", "dogs/c.png"}
    with Image.open(tmp_path / "new" / "cats" / "b.png") as picture:
        assert (picture.size, picture.mode) == ((8, 8), "RGB")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run=rows out=clean/", "is a folder for images, and the run's examples are [5]"),
        ("run=ae out=full", "out=full: exists already; name a new or an empty folder"),
        ("run=ae out=ae", "out=ae: exists already"),
        ("run=ae out=clean/ overwrite=true", "overwrite=true: goes with a file, and out=clean is"),
        ("run=ae out=no/clean/", "out=no/clean: there is no folder no"),
        ("run=ae out=clean.jpg", "out=clean.jpg: must end in one of .csv"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(line, message, home):
    (home / "full").mkdir()
    (home / "full" / "precious").touch()
    before = sorted(home.rglob("*"))
    done = aecli("reconstruct", *line.split(), cwd=home)
    assert is_one_line(done), done.stderr
    assert message in done.stderr
    assert sorted(home.rglob("*")) == before


def test_any_name_is_one_of_a_file_in_the_folder(tmp_path):
    names = ["..png", "b\0c", "d\udcff", "ä" * 200 + ".png", "e/../f", ".png"]
    images = np.zeros((len(names), 1, 2, 2), np.uint8)
    save_pictures(tmp_path / "new", np.array(names, object), images)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    found = {str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*.png")}
    assert found == {
        "..png.png", "b_c.png", "d_.png", "ä" * 120 + ".png", "e/f.png", ".png.png"
    }  # fmt: skip


def test_a_name_leads_nowhere_else_and_none_is_lost(tmp_path):
    names = ["a/b.jpg", "a/b.png", "../up.png", "/etc/root", "..", "c:\\x", "a/b-2", "v1.5", ""]
    images = np.arange(len(names), dtype=np.uint8)[:, None, None, None].repeat(2, axis=2)
    save_pictures(tmp_path / "new", np.array(names), images)
    found = {}
    for path in (tmp_path / "new").rglob("*.png"):
        with Image.open(path) as picture:
            found[str(path.relative_to(tmp_path / "new"))] = int(np.asarray(picture)[0, 0])
    assert found == {
        "a/b.png": 1,  # its own name
        "a/b-2.png": 0,
        "up.png": 2,
        "etc/root.png": 3,
        "_.png": 4,
        "c:/x.png": 5,
        "a/b-2-2.png": 6,
        "v1.5.png": 7,
        "_-2.png": 8,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


class Card:
    """One that gives back what it was made with."""

    def __init__(self, values):
        self.values = values

    def restored(self, x):
        return self.values


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_pixels_are_the_users_own_where_they_are_whole_numbers(channels):
    x = torch.rand(2, channels, 4, 5)
    wide = (x * 65535).round().to(torch.int32).numpy().astype(np.uint16)
    np.testing.assert_array_equal(pixels(x, Card(wide)), wide)
    last = (x * 255).byte().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(pixels(x, Card(last)), (x * 255).byte())
    np.testing.assert_array_equal(pixels(x, Card(x.numpy())), (x * 255).round().byte())
