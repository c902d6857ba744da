"""Paths as they are typed."""

from glob import glob
from pathlib import Path

import pytest

from aecli import patterns
from aecli.errors import SettingError
from aecli.patterns import expanded, matching
from tests.commandline import aecli, is_one_line


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/0.npy", "a/10.npy", "a/b/1.npy", "a/b/c/2.npy", "a/.hidden/3.npy", "x[1].npy"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    ["a/*.npy", "a/?.npy", "*/[0-9].npy", "a/**/*.npy", "**/1.npy", "a/0.npy", "./a/*/../0.npy",
     "a/no*", "nowhere/*", "a/*/c", "x[[]1].npy", "a/.h*/*.npy", "a/*"],
)  # fmt: skip
def test_a_pattern_means_what_it_means_in_a_shell(place, pattern):
    found = {str(path) for path in matching(pattern)}
    expected = glob(pattern, recursive=True)  # noqa: PTH207 (what it is held against)
    assert found == {str(Path(path)) for path in expected}
    absolute = {str(path) for path in matching(place / pattern)}
    assert absolute == {str(place / path) for path in found}


def test_links_make_no_endless_search(place, monkeypatch):
    for name in "xy":
        (place / "a" / name).symlink_to(".")
    assert len(list(matching("**/0.npy"))) == 1  # no link is followed
    monkeypatch.setattr(patterns, "MOST_FOLDERS", 500)
    with pytest.raises(SettingError, match=r"looks into more than 500 folders"):
        list(matching("a/" + "*/" * 20 + "nothing.npy"))


def test_a_home_that_nobody_has_is_a_name_like_any_other(tmp_path):
    assert str(expanded("~nobody_here/x.npy")) == "~nobody_here/x.npy"
    for words in (
        ("train", "dataset=array", "dataset.file=~nobody_here/x.npy"),
        ("eval", "run=~nobody_here/run"),
    ):
        done = aecli(*words, cwd=tmp_path)
        assert is_one_line(done), done.stderr
        assert "~nobody_here" in done.stderr
    assert not list(tmp_path.glob("outputs/*/*"))
