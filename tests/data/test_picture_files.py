"""Pictures are found in a folder, with the splits and labels that its subfolders stand for."""

import os

import pytest

from aecli.data.picture_files import as_text, find, places
from aecli.errors import SettingError


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_pictures_of_all_folders_in_order(tmp_path):
    fill(tmp_path, "b/2.JPG", "b/1.png", "a/deep/er/1.webp", "10.tiff", "notes.txt", "b/x.txt")
    assert find(tmp_path).names == ["10.tiff", "a/deep/er/1.webp", "b/1.png", "b/2.JPG"]


def test_what_is_hidden_is_left_out(tmp_path):
    fill(tmp_path, "a.png", ".b.png", ".git/c.png", "d/._e.png")
    assert find(tmp_path).names == ["a.png"]


def test_a_folder_with_the_name_of_a_picture(tmp_path):
    fill(tmp_path, "a.png/b.png")
    assert find(tmp_path).names == ["a.png/b.png"]


def test_a_folder_is_read_once_whatever_links_lead_to_it(tmp_path):
    fill(tmp_path / "root", "a/1.png", "b/2.png")
    fill(tmp_path / "elsewhere", "3.png")
    for link, target in {"a/up": "..", "a/self": ".", "c": "b", "d": "../elsewhere"}.items():
        (tmp_path / "root" / link).symlink_to(target)
    assert find(tmp_path / "root").names == ["a/1.png", "b/2.png", "d/3.png"]


def test_links_and_pipes_are_found_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert find(tmp_path).names == ["gone.png", "loop.png", "pipe.png"]


NONE = {
    "missing": ((), "no such folder"),
    "empty": (("x/",), "holds no picture; pictures are files that end in .bmp, .gif"),
    "texts": (("x/notes.txt", "x/b.csv"), "holds no picture, but b.csv; pictures are"),
    "hidden": (("x/.a.png",), "holds no picture; "),
}


@pytest.mark.parametrize(("names", "told"), NONE.values(), ids=NONE)
def test_a_folder_without_a_picture(tmp_path, names, told):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            (tmp_path / name).mkdir(exist_ok=True)
        else:
            (tmp_path / name).touch()
    with pytest.raises(SettingError, match=f"^dataset.root={tmp_path}/x: {told}"):
        find(tmp_path / "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    fill(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "b").chmod(0)
    with pytest.raises(SettingError, match=r"/b: cannot be read \(Permission denied\)$"):
        find(tmp_path)
    (tmp_path / "b").chmod(0o700)


CHANGES = {
    "none": (lambda root: None, True),
    "another file": (lambda root: fill(root, "b/3.txt"), True),
    "one more": (lambda root: fill(root, "b/3.png"), False),
    "one less": (lambda root: (root / "b/2.png").unlink(), False),
    "another name": (lambda root: (root / "b/2.png").rename(root / "b/3.png"), False),
    "another size": (lambda root: (root / "b/2.png").write_bytes(b"longer than before"), False),
    "another time": (lambda root: os.utime(root / "b/2.png", (5, 5)), False),
    "other rights": (lambda root: (root / "b/2.png").chmod(0o600), False),
    "mended, with the old time": (lambda root: mended(root / "b/2.png"), False),
}


@pytest.mark.parametrize(("change", "same"), CHANGES.values(), ids=CHANGES)
def test_the_stamp_tells_a_change(tmp_path, change, same):
    fill(tmp_path, "a/1.png", "b/2.png")
    before = find(tmp_path).stamp
    change(tmp_path)
    assert (find(tmp_path).stamp == before) is same


def mended(path):
    time = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(time, time))


def test_a_folder_goes_before_a_link_to_it(tmp_path):
    fill(tmp_path, "train/1.png")
    (tmp_path / "test").symlink_to("train")
    assert find(tmp_path).names == ["train/1.png"]


def placed(*names, labelled=True, **other):
    found = places(names, "root", labelled, **other)
    labels = None if found.labels is None else [found.classes[n] for n in found.labels]
    return {name: rows.tolist() for name, rows in found.splits.items()}, labels


def test_folders_are_labels():
    assert placed("b/1.png", "a/deep/1.png", "a/2.png") == ({}, ["b", "a", "a"])
    assert places(["b/1.png", "a/1.png"], "root", True).classes == ("a", "b")


def test_no_labels():
    assert placed("a.png", "b.png") == ({}, None)
    assert placed("a/1.png", "2.png", labelled=False) == ({}, None)


def test_folders_are_splits_with_labels_below_them():
    names = ("Train/a/1.png", "train/b/1.png", "val/a/1.png", "test/c/d/1.png")
    assert placed(*names) == (
        {"train": [0, 1], "validation": [2], "test": [3]},
        ["a", "b", "a", "c"],
    )


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_names_of_the_validation_split(name):
    assert placed("train/1.png", f"{name}/2.png") == ({"train": [0], "validation": [1]}, None)


def test_other_folders_are_training_where_none_is_named_so():
    assert placed("a/1.png", "b/1.png", "test/a/1.png") == (
        {"train": [0, 1], "test": [2]},
        ["a", "b", "a"],
    )
    assert placed("test/1.png") == ({"train": [], "test": [0]}, None)


@pytest.mark.parametrize("beside", ["z/1.png", "z.png"])
def test_a_picture_beside_the_training_folder(beside):
    with pytest.raises(SettingError, match=f"root: {beside} lies beside the folder train"):
        placed("test/1.png", "train/1.png", beside)


@pytest.mark.parametrize("beside", ["z.png", "train/z.png"])
def test_a_picture_without_a_label(beside):
    first = "train/a/1.png" if "/" in beside else "a/1.png"
    with pytest.raises(SettingError, match=f"{beside} lies in none of the 1 folders that are lab"):
        placed(first, beside)
    placed(first, beside, labelled=False)


def test_new_pictures_may_lie_anywhere():
    assert placed("train/1.png", "z.png", may_lie_beside=True) == ({"train": [0]}, None)
    assert placed("a/1.png", "z.png", may_lie_beside=True) == ({}, None)
    assert placed("a/1.png", "b/2.png", may_lie_beside=True) == ({}, ["a", "b"])


def test_names_that_are_no_unicode(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        fill(tmp_path, "a/1.png")
        (tmp_path / "a" / name).touch()
    except OSError:
        pytest.skip("this file system takes no such name")
    found = find(tmp_path)
    assert [as_text(name) for name in found.names] == ["a/1.png", "a/caf\\xe9.png"]
