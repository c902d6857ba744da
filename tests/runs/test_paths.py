import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from aecli.data.arrays import READERS
from aecli.errors import SettingError
from aecli.overrides import checked
from aecli.runs.paths import ARRAYS, as_typed, files_of, lock, make_new, shown


def test_each_caller_gets_a_new_directory(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").touch()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_new(tmp_path / "run"), range(20)))
    assert len(set(made)) == 20
    assert tmp_path / "run" not in made
    assert not any(list(path.iterdir()) for path in made)


def test_paths_are_shown_as_one_would_type_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown("outputs/a") == shown(tmp_path / "outputs" / "a") == "outputs/a"
    assert shown(tmp_path.parent / "b") == str(tmp_path.parent / "b")


@pytest.mark.parametrize(
    "name",
    ["a", "a b", "Übung", "日本/実験", "a'b", 'a"b', "a b\\", "a\\b", 'a\\"b', "a,b", "[a]", "a=b"],
)
def test_a_setting_is_shown_as_it_is_to_be_typed(name):
    (word,) = checked("train", shlex.split(as_typed("resume", f"/tmp/{name}")))
    assert OverridesParser.create().parse_override(word).value() == f"/tmp/{name}"


def test_a_lock_is_held_in_its_block_and_not_longer(tmp_path):
    with (
        lock(tmp_path, "trains it"),
        pytest.raises(SettingError, match="another aecli trains it"),
        lock(tmp_path, "trains it"),
    ):
        pass
    with lock(tmp_path, "trains it"):
        pass


def test_a_planted_lock_is_not_followed(tmp_path):
    (tmp_path / "own").write_text("my own")
    (tmp_path / ".lock").symlink_to(tmp_path / "own")
    with pytest.raises(SettingError, match="symbolic link"), lock(tmp_path, "trains it"):
        pass
    assert (tmp_path / "own").read_text() == "my own"


@pytest.mark.parametrize("path", [".", "", "/", ".."])
def test_a_new_directory_has_a_name(path):
    with pytest.raises(SettingError, match="must be the path of a new directory"):
        make_new(Path(path))


def test_what_names_files_is_known():
    assert set(ARRAYS) == set(READERS)
    array = {"file": "x.npz", "key": "x", "labels": "y.1", "ids": "ids.npy", "shape": [3]}
    assert files_of(array) == {"file": "x.npz", "ids": "ids.npy"}
    shards = {"files": "acts/*.npy", "drop": "mask.npy", "targets": None}
    assert files_of(shards) == {"files": "acts/*.npy", "drop": "mask.npy"}
    assert files_of({"file": "t.csv", "drop": ["age"]}) == {"file": "t.csv"}
