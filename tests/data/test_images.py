"""Images of the user's own: what a folder becomes, and how a run reads more of the same."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from aecli.data import ImageCard, ImageData
from aecli.data.images import ImageFolder
from aecli.data.records import card_of
from aecli.errors import SettingError
from tests.commandline import aecli, is_one_line
from tests.conftest import configure

SIZES = {"validation_size": 0.25, "test_size": 0.25}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("aecli.data.picture_cache.data_root", lambda root: tmp_path / "cache")


@pytest.fixture
def root(tmp_path):
    """Return a folder of 20 coloured pictures of 6×8 in the folders a and b."""
    draw = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (6, 8, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def module(root, **settings):
    made = ImageData(str(root), **{"shape": None, "batch_size": 4, **SIZES} | settings)
    made.setup()
    return made


def test_a_folder_of_pictures(root):
    data = module(root)
    assert data.understood == "20 images, 3 × 6 × 8, from 2 folders as labels"
    assert data.shape == (3, 6, 8)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 10,
        "validation": 5,
        "test": 5,
    }
    assert data.names(torch.tensor([0, 1])) == ["a", "b"]
    for split in data.splits.values():
        for values, label, name in zip(split.values, split.labels, split.ids, strict=True):
            assert name[0] == "ab"[label]
            pixels = np.asarray(Image.open(root / name)).transpose(2, 0, 1)
            np.testing.assert_array_equal(values, pixels)
    x = next(iter(data.batches("test"))).x
    torch.testing.assert_close(x[0], data.splits["test"].values[0] / 255)
    assert torch.equal(data.values(), (data.values() * 255).round() / 255)


def test_settings_reach_the_pixels(root):
    data = module(root, channels="grey", size=[3, 4], resize="stretch", labels="none")
    assert data.understood == "20 images, 1 × 3 × 4"
    assert data.shape == (1, 3, 4)
    assert not data.is_labelled


@pytest.mark.parametrize(("name", "typed"), [("3", 3), ("cats", "cats")])
def test_classes_are_chosen_by_their_folders(root, name, typed):
    (root / "a").rename(root / name)
    data = module(root, classes=[typed])
    assert {id.split("/")[0] for split in data.splits.values() for id in split.ids} == {name}
    with pytest.raises(SettingError, match=r"dataset.classes=\['a'\]: must be a list out of"):
        module(root, classes=["a"])


def test_splits_of_folders(root):
    (root / "a").rename(root / "test")
    (root / "b").rename(root / "train")
    data = module(root, validation_size=3, test_size=None)
    assert data.understood == "20 images, 3 × 6 × 8, 10 train and 10 test"
    assert {name[:5] for name in data.splits["test"].ids} == {"test/"}
    assert {name[:5] for name in data.splits["train"].ids} == {"train"}


def test_what_cannot_be_read_goes_to_the_log(root, caplog):
    (root / "a" / "broken.png").write_text("hello")
    (root / "a" / "bad\x1b[2J.gif").touch()
    data = module(root)
    assert data.understood == (
        "20 images, 3 × 6 × 8, from 2 folders as labels; 2 files could not be read, see the log:"
        " a/bad\\x1b[2J.gif, a/broken.png"
    )
    told = [record.getMessage() for record in caplog.records if record.name == "pictures"]
    assert told == ["a/bad\\x1b[2J.gif: is no picture", "a/broken.png: is no picture"]
    module(root)  # from the cache
    assert len([record for record in caplog.records if record.name == "pictures"]) == 4
    assert not logging.getLogger("pictures").name.startswith("aecli")  # whose lines are shown


def test_16_bits(tmp_path):
    values = np.arange(40, dtype=np.uint16).reshape(10, 2, 2) * 1600
    for number, value in enumerate(values):
        Image.fromarray(value).save(tmp_path / f"{number}.tif")
    data = module(tmp_path)
    assert data.understood == "10 images, 1 × 2 × 2, 16 bits"
    assert data.card.scale == 65535
    assert data.splits["train"].values.dtype == torch.uint16
    x = torch.cat([batch.x for batch in data.batches("train")])
    rows = data.splits["train"].rows
    torch.testing.assert_close(x[:, 0], torch.from_numpy(values[rows] / 65535).float())
    np.testing.assert_array_equal(data.card.restored(x)[:, 0], values[rows])
    assert data.values().max() <= 1


def test_new_pictures_are_read_as_the_runs_were(root, tmp_path):
    data = module(root, size=4, resize="pad", background="black")
    new = tmp_path / "new"
    new.mkdir()
    Image.new("L", (30, 10), 200).save(new / "grey.png")
    (new / "z").mkdir()
    Image.fromarray(np.full((9, 9), 65535, np.uint16)).save(new / "z" / "deep.png")
    other = ImageData(str(new), shape=None, batch_size=4, labels="none", **SIZES)
    other.of_run(data.card, None)
    other.setup_new()
    values = other.splits["new"].values
    assert values.shape == (2, 3, 4, 4)
    assert values[0].unique().tolist() == [0, 200]
    assert values[1].unique().tolist() == [255]
    assert list(other.splits["new"].ids) == ["grey.png", "z/deep.png"]


def test_a_run_reads_its_own_pictures_from_the_cache(root, tmp_path):
    data = module(root)
    again = ImageData(str(root), shape=None, batch_size=4, **SIZES)
    again.of_run(data.card, data.fingerprint)
    again.setup()
    assert len(list((tmp_path / "cache").rglob("pixels.npy"))) == 1
    for name, split in data.splits.items():
        assert torch.equal(again.splits[name].values, split.values)


def test_new_pictures_of_another_size(root, tmp_path):
    card = module(root).card
    (tmp_path / "new").mkdir()
    Image.new("L", (30, 10), 200).save(tmp_path / "new" / "a.png")
    with pytest.raises(SettingError, match=r"/a.png: is 10 × 30; the run's images are 6 × 8"):
        ImageFolder().read(str(tmp_path / "new"), card)
    with pytest.raises(SettingError, match=r"dataset.size=\[9, 9\]: the run's images are 6 × 8"):
        ImageFolder(size=9).read(str(tmp_path / "new"), card)


@pytest.mark.parametrize("scale", [255, 65535])
def test_the_card_comes_back(scale):
    card = ImageCard((1, 6, 8), scale, "pad", (1, 2, 3))
    again = card_of("images", json.loads(json.dumps(card.state())))
    assert vars(again) == vars(card)
    assert again.reading == card.reading
    values = torch.randint(scale, (4, 1, 6, 8)).to(torch.uint8 if scale == 255 else torch.uint16)
    np.testing.assert_array_equal(again.restored(again.scaled(again.stored(values))), values)
    given = again.given(values)
    before = given.clone()
    torch.testing.assert_close(again.entering(given), again.scaled(values))
    assert torch.equal(given, before)
    torch.testing.assert_close(again.leaving(again.scaled(values)), values.float())


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2, 6, 8]},
        {"shape": [1, 0, 8]},
        {"shape": [6, 8]},
        {"scale": 1},
        {"resize": "x"},
        {"background": [1, 2]},
        {"background": [1, 2, 999]},
    ],
    ids=str,
)
def test_a_card_of_nothing(change):
    state = ImageCard((1, 6, 8), 255, None, (1, 2, 3)).state()
    with pytest.raises(ValueError):  # noqa: PT011 (a checkpoint turns any error into one line)
        ImageCard.of_state(state | change)


def test_a_card_refuses_other_images():
    card = ImageCard((1, 2, 2), 255, None, (0, 0, 0))
    for values in (np.zeros((1, 3, 2, 2), np.uint8), np.zeros((1, 1, 2, 2), np.uint16)):
        with pytest.raises(SettingError, match="the run's are 1 × 2 × 2, up to 255"):
            card.stored(values)


BAD = {
    "size": [0, -1, 20_001, 1.5, True, "abc", [], [1], [1, 2, 3], [0, 1], ["a", 1]],
    "channels": ["red", 3, ""],
    "labels": ["files", None, True],
    "background": ["nocolour", "#12345678", 3, [1, 2], [1, 2, 256], [1, 2, "a"], []],
    "root": [3, ["a"]],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, some in BAD.items() for v in some])
def test_settings_are_checked(key, value):
    with pytest.raises(SettingError, match=f"^dataset.{key}="):
        ImageData(**{"root": None, "shape": None, "batch_size": 4, **SIZES, key: value})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"resize": "fit", "size": 3}, "dataset.resize=fit: must be one of crop, pad, stretch"),
        ({"resize": "pad"}, "dataset.resize=pad: goes with dataset.size"),
        ({"background": "red", "channels": "rgba"}, "dataset.background: is not seen with"),
    ],
)
def test_settings_without_effect_are_refused(settings, told):
    with pytest.raises(SettingError, match=f"^{told}"):
        ImageFolder(**settings)


def test_colours():
    for colour in ("red", "#f00", [255, 0, 0]):
        assert ImageFolder(background=colour).background == (255, 0, 0)


def test_defaults_suit_photos():
    _, choices = configure("dataset=images")
    assert (choices["network"], choices["likelihood"]) == ("conv", "gaussian_learned")
    assert configure("dataset=images", "model=ae")[1]["likelihood"] == "mse"
    assert configure("dataset=images", "network=mlp")[1]["network"] == "mlp"


def test_a_run_on_a_folder(root, tmp_path):
    words = ("dataset=images", f"dataset.root={root}", "trainer=debug", "network.channels=[4]")
    done = aecli("train", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    first = done.stdout.splitlines()[0]
    assert first == (
        "20 images, 3 × 6 × 8, from 2 folders as labels; 10% drawn for validation and test"
    )
    done = aecli("eval", "run=run", "eval.protocol=none", "device=cpu", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


LINES = {
    "no root": ((), "dataset.root: must be the path of a folder of pictures"),
    "no folder": (("dataset.root=nowhere",), "dataset.root=nowhere: no such folder"),
    "empty": (("dataset.root=empty",), "dataset.root=empty: holds no picture; "),
    "texts": (("dataset.root=texts",), "dataset.root=texts: holds no picture, but a.txt; "),
    "broken": (("dataset.root=broken",), "none of its 1 pictures can be read; broken/a.png: is"),
    "mixed": (("dataset.root=mixed",), "dataset.size"),
}


@pytest.mark.parametrize(("words", "told"), LINES.values(), ids=LINES)
def test_bad_folders_get_one_line(words, told, tmp_path):
    for name in ("empty", "texts", "broken", "mixed"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "a.txt").write_text("hello")
    (tmp_path / "broken" / "a.png").write_text("hello")
    for size in (3, 4):
        Image.new("L", (size, size)).save(tmp_path / "mixed" / f"{size}.png")
    done = aecli("train", "dataset=images", *words, cwd=tmp_path)
    assert is_one_line(done), done.stderr
    assert told in done.stderr
