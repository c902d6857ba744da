"""The pixels of pictures are decoded once; what is kept is never taken for something else."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aecli.data import picture_cache
from aecli.data.picture_cache import decoded
from aecli.data.picture_files import find
from aecli.errors import SettingError
from aecli.pictures import Depth, Reading

ANY = Reading(Depth(1, 8), Depth(3, 16), None, None, (255, 255, 255))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("aecli.data.picture_cache.data_root", lambda root: tmp_path / "cache")
    return tmp_path / "cache" / "images"


@pytest.fixture
def root(tmp_path):
    """Return a folder of five grey pictures of 2×3, of the values 0, 1, …"""
    (tmp_path / "root").mkdir()
    for number in range(5):
        grey(tmp_path / "root", number)
    return tmp_path / "root"


def grey(root, number, dtype=np.uint8):
    Image.fromarray(np.full((2, 3), number, dtype)).save(root / f"{number}.png")


def colour(path, value):
    Image.new("RGB", (3, 2), (value, 0, 0)).save(path)


def kept(cache):
    return [path for path in cache.rglob("*") if path.is_file()]


@pytest.fixture
def decodings(monkeypatch):
    """Return a list that grows with each decoding."""
    made, decode_all = [], picture_cache._decode_all

    def counted(place, paths, reading):
        made.append(reading)
        return decode_all(place, paths, reading)

    monkeypatch.setattr(picture_cache, "_decode_all", counted)
    return made


def test_pictures_are_decoded_once(root, cache, decodings):
    for _ in range(3):
        found = decoded(find(root), ANY)
        assert found.pixels.shape == (5, 1, 2, 3)
        assert found.pixels.dtype == np.uint8
        assert (found.pixels == np.arange(5).reshape(5, 1, 1, 1)).all()
        assert not found.unread
    assert len(decodings) == 1
    assert sorted(path.name for path in kept(cache)) == ["pixels.npy", "unread.npy", "why.npy"]


def test_new_pictures_replace_the_old_ones(root, cache, decodings):
    decoded(find(root), ANY)
    grey(root, 9)
    assert decoded(find(root), ANY).pixels[-1].max() == 9
    assert len(decodings) == 2
    assert len(kept(cache)) == 3


def test_each_way_of_reading_is_kept(root, cache, decodings):
    small = replace(ANY, size=(1, 1), resize="crop")
    for reading in (ANY, small, ANY, small):
        decoded(find(root), reading)
    assert len(decodings) == 2


def test_a_copy_elsewhere_is_another_set(root, tmp_path, decodings):
    shutil.copytree(root, tmp_path / "copy")
    for place in (root, tmp_path / "copy"):
        decoded(find(place), ANY)
    assert len(decodings) == 2


@pytest.mark.parametrize("bad", [(0,), (2,), (4,), (0, 1, 2), (0, 2, 4)])
def test_what_cannot_be_read_leaves_no_gap(root, bad, decodings):
    for number in bad:
        (root / f"{number}.png").write_text("hello")
    for _ in range(2):
        found = decoded(find(root), ANY)
        assert found.unread == dict.fromkeys(bad, "is no picture")
        assert found.pixels[:, 0, 0, 0].tolist() == [n for n in range(5) if n not in bad]
        assert found.pixels.shape == (5 - len(bad), 1, 2, 3)
    assert len(decodings) == 1


def test_none_can_be_read(root, cache):
    for path in root.iterdir():
        path.write_text("hello")
    with pytest.raises(SettingError, match=r"none of its 5 pictures can be read; .*0.png: is no"):
        decoded(find(root), ANY)
    assert not kept(cache)


def test_none_can_be_read_though_all_begin_well(root, cache):
    for path in root.iterdir():
        path.write_bytes(path.read_bytes()[:41])
    with pytest.raises(SettingError, match=r"none of its 5 pictures can be read; .*0.png: .*trunc"):
        decoded(find(root), replace(ANY, size=(1, 1), resize="crop"))
    assert not kept(cache)


def test_a_run_takes_what_its_training_has_left(root, decodings):
    decoded(find(root), ANY)
    grey8 = replace(ANY, depth=Depth(1, 8), most=Depth(1, 8), size=(2, 3), like="the run's")
    assert decoded(find(root), grey8, ANY).pixels.shape == (5, 1, 2, 3)
    assert len(decodings) == 1
    colours = replace(grey8, depth=Depth(3, 8), most=Depth(3, 8))
    assert decoded(find(root), colours, ANY).pixels.shape == (5, 3, 2, 3)
    assert len(decodings) == 2


def test_other_sizes_are_refused(root, cache):
    Image.new("L", (4, 4)).save(root / "3.png")
    told = r"3.png: is 4 × 4; .*0.png is 2 × 3; set dataset.size, such as dataset.size=3, to"
    with pytest.raises(SettingError, match=told):
        decoded(find(root), ANY)
    assert not kept(cache)


@pytest.mark.parametrize("looked_at", [1, 256])
def test_colour_among_grey(root, monkeypatch, decodings, looked_at):
    monkeypatch.setattr(picture_cache, "LOOKED_AT", looked_at)
    colour(root / "3.png", 77)
    found = decoded(find(root), ANY)
    assert found.pixels.shape == (5, 3, 2, 3)
    assert found.pixels[:, :, 0, 0].tolist() == [[0] * 3, [1] * 3, [2] * 3, [77, 0, 0], [4] * 3]
    assert len(decodings) == (2 if looked_at == 1 else 1)


@pytest.mark.parametrize("looked_at", [1, 256])
def test_16_bits_among_8(root, monkeypatch, looked_at):
    monkeypatch.setattr(picture_cache, "LOOKED_AT", looked_at)
    grey(root, 9999, np.uint16)
    found = decoded(find(root), ANY)
    assert found.pixels.dtype == np.uint16
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 257, 514, 771, 1028, 9999]


def test_a_picture_that_is_gone_when_it_is_decoded(root):
    pictures = find(root)
    (root / "2.png").unlink()
    found = decoded(pictures, ANY)
    assert found.unread == {2: "No such file or directory"}
    assert len(found.pixels) == 4


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def pickled(path):
    np.save(path, np.array([{}], object), allow_pickle=True)


DAMAGES = {
    "no pixels": ("pixels", Path.unlink),
    "no names": ("unread", Path.unlink),
    "cut off": ("pixels", cut),
    "a text": ("pixels", lambda path: path.write_text("hello")),
    "objects": ("why", pickled),
    "a row less": ("pixels", lambda path: np.save(path, np.zeros((4, 1, 2, 3), np.uint8))),
    "rows of numbers": ("pixels", lambda path: np.save(path, np.zeros((5, 6), np.uint8))),
    "floats": ("pixels", lambda path: np.save(path, np.zeros((5, 1, 2, 3)))),
    "another number": ("unread", lambda path: np.save(path, np.array([7], np.int64))),
    "a reason more": ("why", lambda path: np.save(path, np.array(["x"]))),
}


@pytest.mark.parametrize(("name", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_made_anew(root, cache, decodings, name, damage):
    decoded(find(root), ANY)
    (path,) = cache.rglob(f"{name}.npy")
    damage(path)
    assert (decoded(find(root), ANY).pixels[:, 0, 0, 0] == np.arange(5)).all()
    assert len(decodings) == 2
    decoded(find(root), ANY)
    assert len(decodings) == 2


def test_a_file_in_place_of_the_cache(root, cache):
    decoded(find(root), ANY)
    (path,) = cache.rglob("pixels.npy")
    place = path.parent
    shutil.rmtree(place)
    place.write_text("hello")
    assert len(decoded(find(root), ANY).pixels) == 5


def test_no_room_is_told_before(root, monkeypatch, cache):
    class Full:
        free = 29

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Full)
    with pytest.raises(SettingError, match=r"5 images of 1 × 2 × 3 take 3e-08 GB .* are free"):
        decoded(find(root), ANY)
    assert not kept(cache)


def test_a_large_set_is_mapped(root, monkeypatch):
    monkeypatch.setattr("aecli.data.arrays.IN_MEMORY", 29)
    found = decoded(find(root), ANY)
    assert isinstance(found.pixels, np.memmap)
    assert (found.pixels[:, 0, 0, 0] == np.arange(5)).all()


@pytest.mark.slow
def test_many_are_decoded_side_by_side(tmp_path, caplog):
    (tmp_path / "root").mkdir()
    for number in range(2500):
        Image.new("L", (3, 2), number % 251).save(tmp_path / "root" / f"{number:04}.png")
    (tmp_path / "root" / "1000.png").write_text("hello")
    caplog.set_level("INFO")
    found = decoded(find(tmp_path / "root"), ANY)
    assert found.unread == {1000: "is no picture"}
    expected = [number % 251 for number in range(2500) if number != 1000]
    assert found.pixels[:, 0, 0, 0].tolist() == expected
    assert caplog.messages[0] == "decoding 2,500 pictures"
    colour(tmp_path / "root" / "2001.png", 9)
    assert decoded(find(tmp_path / "root"), ANY).pixels.shape == (2499, 3, 2, 3)
    Image.new("L", (5, 5)).save(tmp_path / "root" / "2001.png")
    with pytest.raises(SettingError, match=r"2001.png: is 5 × 5; .*0000.png is 2 × 3; set data"):
        decoded(find(tmp_path / "root"), ANY)
