"""Rows written to files as they come: read back by the libraries that own the formats."""

import errno
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from aecli import rows
from aecli.errors import SettingError
from aecli.files import WriteError
from aecli.rows import ENDINGS, check_ending, new_rows
from tests.faulty import Disk, failing

COUNT = 10


def pieces(names=("a,b", 'q"', "é\n", "=1", "-x", "𝄞", "", " ", "0", "1e5")):
    """Return ten rows in three pieces, and the same in one."""
    z = np.random.default_rng(0).normal(size=(COUNT, 3)).astype(np.float32)
    ids, score = np.array(names, object), np.arange(COUNT) / 3
    parts = [slice(0, 4), slice(4, 8), slice(8, None)]
    return [
        {"id": ids[part], "split": "train", "score": score[part], "z": z[part]} for part in parts
    ], (ids, score, z)


def written(path, overwrite=False):
    parts, whole = pieces()
    with new_rows(path, COUNT, "z", overwrite) as add:
        for part in parts:
            add(part)
    return whole


@pytest.mark.parametrize("ending", [".csv", ".TSV", ".parquet"])
def test_a_table_reads_back_as_it_was(ending, tmp_path):
    path = tmp_path / f"codes{ending}"
    ids, score, z = written(path)
    if ending == ".parquet":
        frame = pd.read_parquet(path)
    else:
        text = {"keep_default_na": False, "dtype": {"id": str}}
        frame = pd.read_csv(path, sep="," if ending == ".csv" else "\t", **text)
    assert list(frame) == ["id", "split", "score", "z0", "z1", "z2"]
    assert list(frame["id"]) == list(ids)
    assert set(frame["split"]) == {"train"}
    np.testing.assert_allclose(frame["score"], score, rtol=1e-15)  # as pandas reads texts
    np.testing.assert_array_equal(frame[["z0", "z1", "z2"]].to_numpy(np.float32), z)


def test_an_array_file_has_the_main_column_or_all_as_arrays(tmp_path):
    ids, score, z = written(tmp_path / "codes.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), z)
    written(tmp_path / "codes.npz")
    with np.load(tmp_path / "codes.npz") as arrays:  # no pickles
        assert set(arrays) == {"ids", "split", "scores", "codes"}
        np.testing.assert_array_equal(arrays["codes"], z)
        np.testing.assert_array_equal(arrays["scores"], score)
        assert list(arrays["ids"]) == list(ids)
        assert set(arrays["split"]) == {"train"}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_overwritten_unless_it_is_said(ending, tmp_path):
    path = tmp_path / f"codes{ending}"
    path.write_text("precious")
    with pytest.raises(SettingError, match="exists already; name another, or add overwrite=true"):
        written(path)
    assert path.read_text() == "precious"
    written(path, overwrite=True)
    assert path.read_bytes() != b"precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_what_is_interrupted_leaves_nothing(ending, stop, tmp_path):
    parts, _ = pieces()

    def interrupted():
        with new_rows(tmp_path / f"codes{ending}", COUNT, "z", False) as add:
            add(parts[0])
            raise stop

    with pytest.raises(stop):
        interrupted()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_write_that_fails_is_one_line_and_leaves_nothing(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "TOGETHER", 4)
    path = tmp_path / f"codes{ending}"
    with failing(Disk(tmp_path)) as disk:
        written(path)
    path.unlink()
    for number in range(1, len(disk.writes) + 1):
        with (
            failing(Disk(tmp_path, number, errno.ENOSPC)),
            pytest.raises(WriteError, match="cannot be written, with"),
        ):
            written(path)
        assert not list(tmp_path.iterdir()), disk.writes[number - 1]
    written(path)


def test_half_a_character_becomes_its_escape(tmp_path):
    for ending in (".csv", ".parquet", ".npz"):
        path = tmp_path / f"names{ending}"
        with new_rows(path, 1, "z", False) as add:
            add({"id": np.array(["a\udcff"], object), "z": np.zeros((1, 1))})
    assert "a\\udcff" in (tmp_path / "names.csv").read_text()
    assert pd.read_parquet(tmp_path / "names.parquet")["id"][0] == "a\\udcff"


def test_a_carriage_return_ends_no_line(tmp_path):
    ids = np.array(["a\rx", "b", 'c"\n'], object)
    with new_rows(tmp_path / "names.csv", 3, "z", False) as add:
        add({"id": ids, "z": np.arange(3.0)[:, None]})
    read = pd.read_csv(tmp_path / "names.csv")
    assert list(read["id"]) == list(ids)
    assert list(read["z0"]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("codes", r"out=\S*codes: must end in one of .csv, .tsv, .parquet, .npy, .npz"),
        ("codes.xlsx", "must end in one of .csv"),
        ("nowhere/codes.csv", "there is no folder"),
        ("folder.csv", "is no regular file"),
        ("link.csv", "is a symbolic link"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused(name, message, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SettingError, match=message):
        written(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r'not installed; pip install "aecli\[table\]"'):
        check_ending("out", tmp_path / "codes.parquet")


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npy", ".npz"])
def test_memory_does_not_grow_with_the_rows(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "TOGETHER", 400)

    def peak(count, name):
        z = np.zeros((200, 50), np.float32)
        tracemalloc.start()
        with new_rows(tmp_path / f"{name}{ending}", 200 * count, "z", False) as add:
            for _ in range(count):
                add({"split": "train", "z": z.copy()})
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2, "warm")
    assert peak(40, "long") < peak(8, "short") + 300_000  # 1.6 MB of z
