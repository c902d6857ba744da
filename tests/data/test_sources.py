"""Sources hand over the images that they say."""

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.datasets import load_digits

from aecli.data import Digits, IDXFiles
from aecli.errors import SettingError

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY.parent / "shared" / "data"
KINDS = ("images-idx3", "labels-idx1")
FILES = [f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in KINDS]
CONFIGS = [
    path
    for path in sorted((REPOSITORY / "conf" / "dataset").glob("*.yaml"))
    if "sha256" in path.read_text()
]


def test_digits_are_read_from_no_other_place():
    with pytest.raises(
        SettingError, match=r"^dataset\.root=/x: must be null, since dataset=digits"
    ):
        Digits().read("/x", None)


def test_digits():
    records = Digits().read(None, None)
    assert {name: len(rows) for name, rows in records.splits.items()} == {
        "train": 1437,
        "test": 360,
    }
    assert records.data.shape == (1797, 1, 8, 8)
    assert records.data.dtype == torch.uint8
    assert records.labels.dtype == torch.int64
    assert Digits().fit(records, records.splits["train"]).scale == 16 == records.data.max()
    for rows in records.splits.values():
        assert records.labels[rows].bincount(minlength=10).min() > len(rows) / 20
    pixels, labels = load_digits(return_X_y=True)
    np.testing.assert_array_equal(pixels[records.ids], records.data.flatten(1))
    np.testing.assert_array_equal(labels[records.ids], records.labels)


def test_digits_are_split():
    records = Digits().read(None, None)
    everything = np.column_stack([records.data.flatten(1), records.labels])
    rows = [everything[split] for split in records.splits.values()]
    whole = np.unique(np.column_stack(load_digits(return_X_y=True)), axis=0)
    assert len(whole) == 1797  # no two alike, so 1,437 and 360 that make the whole are disjoint
    np.testing.assert_array_equal(np.unique(np.concatenate(rows), axis=0), whole)


def test_digits_are_stable():
    torch.manual_seed(1)
    np.random.seed(1)
    one = Digits().read(None, None)
    torch.manual_seed(2)
    np.random.seed(2)
    two = Digits().read(None, None)
    assert torch.equal(one.data, two.data)
    assert torch.equal(one.labels, two.labels)


def write(root, arrays):
    (root / "made_up").mkdir()
    for file, array in zip(FILES, arrays, strict=True):
        data = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
        (root / "made_up" / file).write_bytes(gzip.compress(data))


def small():
    rng = np.random.default_rng(0)
    shapes = [(6, 4, 5), (6,), (3, 4, 5), (3,)]
    return [rng.integers(0, 256, shape, np.uint8) for shape in shapes]


def source(mirrors=()):
    return IDXFiles("made_up", "MadeUp", mirrors, dict.fromkeys(FILES, "0" * 64), [1, 4, 5])


def test_idx_files(tmp_path):
    arrays = small()
    write(tmp_path, arrays)
    records = source().read(str(tmp_path), None)
    assert records.data.dtype == torch.uint8
    assert records.labels.dtype == torch.int64
    assert source().fit(records, records.splits["train"]).scale == 255
    for name, pixels, labels in (("train", *arrays[:2]), ("test", *arrays[2:])):
        rows = records.splits[name]
        np.testing.assert_array_equal(records.data[rows], pixels[:, None])
        np.testing.assert_array_equal(records.labels[rows], labels)


BAD = {
    "images turned": (0, (6, 5, 4)),
    "images flat": (2, (3, 20)),
    "labels for images": (2, (3,)),
    "images for labels": (1, (6, 4, 5)),
    "no images": (0, (0, 4, 5)),
    "a label too few": (1, (5,)),
    "a label too many": (3, (4,)),
}


@pytest.mark.parametrize(("number", "shape"), BAD.values(), ids=BAD)
def test_idx_files_refused(tmp_path, number, shape):
    arrays = small()
    arrays[number] = np.zeros(shape, np.uint8)
    write(tmp_path, arrays)
    with pytest.raises(
        SettingError, match=re.escape(str(tmp_path / "made_up" / FILES[number]))
    ) as info:
        source().read(str(tmp_path), None)
    assert str(shape) in str(info.value)


def test_idx_files_are_fetched(tmp_path, monkeypatch):
    write(tmp_path, small())
    calls = []

    def fetch(*args):
        calls.append(args)
        return {file: tmp_path / "made_up" / file for file in FILES}

    monkeypatch.setattr("aecli.data.sources.fetch", fetch)
    root = str(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    records = source(["http://a"]).read(root, None)
    assert calls == [("made_up", dict.fromkeys(FILES, "0" * 64), ["http://a"], root)]
    assert len(records) == 9


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs(path):
    settings = OmegaConf.load(path)
    settings = settings.get("dataset", settings).source
    assert settings.name == path.stem
    assert list(settings.sha256) == FILES
    assert all(re.fullmatch("[0-9a-f]{64}", known) for known in settings.sha256.values())
    assert all(re.match("https?://[^/]+", mirror) for mirror in settings.mirrors)


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason=f"MNIST is not in {DATA}")
def test_mnist(caplog):
    settings = OmegaConf.load(REPOSITORY / "conf" / "dataset" / "mnist.yaml").source
    mnist = IDXFiles(settings.name, settings.folder, [], settings.sha256, [1, 28, 28])
    records = mnist.read(str(DATA), None)
    assert not caplog.records  # the published files
    for name, count in (("train", 60000), ("test", 10000)):
        pixels = records.data[records.splits[name]]
        assert pixels.shape == (count, 1, 28, 28)
        assert (pixels.min(), pixels.max()) == (0, 255)
        counts = records.labels[records.splits[name]].bincount()
        assert counts.shape == (10,)
        assert counts.sum() == count
        assert counts.min() > 0.085 * count
        assert counts.max() < 0.115 * count
    # The mean grey level that everybody normalizes MNIST with.
    pixels = records.data[records.splits["train"]]
    assert pixels.float().mean() / 255 == pytest.approx(0.1307, abs=5e-5)
