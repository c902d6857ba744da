import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from itertools import islice

import pytest

from aecli import files
from aecli.errors import SettingError
from tests.faulty import Disk, failing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    path = files.write(tmp_path / "new" / "metrics.json", "old")
    files.write(path, b"new")
    assert path.read_text() == "new"
    assert names(path.parent) == ["metrics.json"]


def test_what_fails_leaves_the_old_version(tmp_path):
    path = files.write(tmp_path / "metrics.json", "old")
    with suppress(RuntimeError), files.replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["metrics.json"]


def test_every_write_that_fails_is_one_line_and_leaves_the_old_version(tmp_path):
    path = files.write(tmp_path / "metrics.json", "old")
    with failing(Disk(tmp_path)) as disk:
        files.write(path, "old")
    kinds = [write.split()[0] for write in disk.writes]
    assert kinds == ["mkdir", "open", "write", "fsync", "replace"]  # the folder exists: no mkdir
    for number in range(2, len(kinds) + 1):
        with (
            failing(Disk(tmp_path, number, errno.ENOSPC)),
            pytest.raises(files.WriteError, match=r"metrics.json: cannot be written, .*\(No space"),
        ):
            files.write(path, "new")
        assert path.read_text() == "old"
        assert names(tmp_path) == ["metrics.json"]


def test_of_files_that_belong_together_all_are_replaced_or_none(tmp_path):
    old = {tmp_path / "eval" / "a.png": b"old", tmp_path / "metrics.json": b"old"}
    new = dict.fromkeys(old, b"new")
    files.write_together(old)
    with failing(Disk(tmp_path)) as disk:
        files.write_together(old)
    kinds = [write.split()[0] for write in disk.writes]
    assert kinds[-2:] == ["replace", "replace"]
    assert kinds.count("replace") == 2
    for number in range(1, len(kinds)):  # the last is the second renaming
        if kinds[number - 1] == "mkdir":
            continue  # it is there already
        with (
            failing(Disk(tmp_path, number, errno.EIO)),
            pytest.raises(files.WriteError, match="cannot be written"),
        ):
            files.write_together(new)
        assert all(path.read_bytes() == b"old" for path in old)
        assert names(tmp_path) == ["eval", "metrics.json"]
    files.write_together(new)
    assert all(path.read_bytes() == b"new" for path in new)


def test_files_that_belong_together_take_a_free_name(tmp_path):
    contents = {".npz": b"arrays", ".png": b"picture"}
    (tmp_path / "prior-2.png").write_text("the user's own")
    for number in ("", "-3"):
        made = files.write_new(tmp_path, "prior", contents)
        assert [path.name for path in made] == [f"prior{number}.npz", f"prior{number}.png"]
    assert (tmp_path / "prior-2.png").read_text() == "the user's own"
    assert not (tmp_path / "prior-2.npz").exists()


def test_names_are_given_once_among_many_at_once(tmp_path):
    def write():
        for _ in range(20):
            files.write_new(tmp_path, "prior", {".npz": b"1", ".png": b"2"})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [
        f"{name}{end}" for name in islice(files.numbered("prior"), 80) for end in (".npz", ".png")
    ]
    assert names(tmp_path) == sorted(expected)


def test_names_are_given_without_hard_links_too(tmp_path, monkeypatch):
    def link(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    for _ in range(2):
        files.write_new(tmp_path, "prior", {".npz": b"1", ".png": b"2"})
    assert names(tmp_path) == ["prior-2.npz", "prior-2.png", "prior.npz", "prior.png"]


def test_new_files_appear_together_or_not_at_all(tmp_path):
    paths = tmp_path / "scores.csv", tmp_path / "scores.png"

    def write():
        with files.new_files(*paths) as opened:
            for file in opened:
                file.write(b"new")
                assert not names(tmp_path)[-1].endswith("g")  # hidden until the end

    with failing(Disk(tmp_path)) as disk:
        write()
    assert names(tmp_path) == ["scores.csv", "scores.png"]
    with pytest.raises(SettingError, match="exists already; name another, or add overwrite=true"):
        write()
    for path in paths:
        path.unlink()
    for number in range(1, len(disk.writes) + 1):
        with failing(Disk(tmp_path, number, errno.EIO)), pytest.raises(files.WriteError):
            write()
        assert not names(tmp_path), disk.writes[number - 1]
    paths[1].write_text("somebody else's")
    with pytest.raises(SettingError, match=r"scores.png: exists already"):
        write()
    assert names(tmp_path) == ["scores.png"]
    with files.new_files(*paths, overwrite=True) as opened:
        opened[1].write(b"mine")
    assert paths[1].read_bytes() == b"mine"


def test_a_name_that_is_taken_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "codes.csv"

    def write():
        with files.new_files(path):
            path.write_text("somebody else's")

    with pytest.raises(SettingError, match="exists already"):
        write()
    assert path.read_text() == "somebody else's"
    assert names(tmp_path) == ["codes.csv"]


def test_a_new_folder_appears_at_once(tmp_path):
    with files.new_folder(tmp_path / "mine") as folder:
        (folder / "table.md").write_text("table")
        assert not (tmp_path / "mine").exists()
    assert names(tmp_path) == ["mine"]
    assert names(tmp_path / "mine") == ["table.md"]


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "mine").mkdir()
    with files.new_folder(tmp_path / "mine") as folder:
        (folder / "table.md").write_text("table")
    assert names(tmp_path / "mine") == ["table.md"]


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_what_is_there_is_no_new_folder(tmp_path, kind):
    mine, other = tmp_path / "mine", tmp_path / "other"
    if kind == "file":
        mine.write_text("my own")
    elif kind == "folder":
        mine.mkdir()
        (mine / "table.md").write_text("my own")
    else:
        mine.symlink_to(other)
        if kind == "link":
            other.mkdir()
    told = "exists already|is a symbolic link"
    with pytest.raises(SettingError, match=told), files.new_folder(mine):
        raise AssertionError("it started")
    assert not list(tmp_path.glob(".*"))


def test_a_folder_of_known_files_may_be_replaced(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "cfg.json").write_text("old")
    with files.new_folder(mine, ["cfg.json", "weights"]) as folder:
        (folder / "weights").write_text("new")
        assert names(mine) == ["cfg.json"]
    assert names(mine) == ["weights"]
    assert names(tmp_path) == ["mine"]
    with suppress(RuntimeError), files.new_folder(mine, ["cfg.json", "weights"]):
        raise RuntimeError
    assert (mine / "weights").read_text() == "new"
    for other in ("notes.txt", "cfg.json"):  # the second as a folder
        (mine / other).mkdir()
        with (
            pytest.raises(SettingError, match="exists already"),
            files.new_folder(mine, ["cfg.json", "weights"]),
        ):
            pass
        (mine / other).rmdir()
    assert names(tmp_path) == ["mine"]


def test_a_new_folder_that_fails_leaves_nothing(tmp_path):
    with suppress(RuntimeError), files.new_folder(tmp_path / "mine") as folder:
        (folder / "table.md").write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_through_a_link(tmp_path):
    own, run = tmp_path / "own", tmp_path / "run"
    own.mkdir()
    run.mkdir()
    (own / "codes.png").write_text("my own")
    (run / "eval").symlink_to(own)
    (run / "metrics.json").symlink_to(own / "codes.png")
    for path in (run / "eval" / "codes.png", run / "metrics.json"):
        with pytest.raises(SettingError, match="is a symbolic link"):
            files.write(path, "ours")
    with pytest.raises(SettingError, match="is a symbolic link"):
        files.write_new(run / "eval", "codes", {".png": b"ours"})
    assert (own / "codes.png").read_text() == "my own"
    assert names(own) == ["codes.png"]


def test_what_a_killed_writer_leaves_is_removed_by_the_next(tmp_path):
    code = """if True:
        import os, sys
        from pathlib import Path
        from aecli import files
        with files.replacing(Path("metrics.json")) as file, files.new_folder(Path("mine")):
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), 9)
    """
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    assert all(name.startswith(".") for name in names(tmp_path))
    files.write(tmp_path / "metrics.json", "whole")
    with files.new_folder(tmp_path / "mine"):
        pass
    assert names(tmp_path) == ["metrics.json", "mine"]


def test_a_folder_whose_writer_is_killed_between_two_names_comes_back(tmp_path):
    code = """if True:
        import os
        from pathlib import Path
        from aecli import files
        rename = Path.rename
        def killed(self, target):
            if self.name.endswith(files.PART):
                os.kill(os.getpid(), 9)
            return rename(self, target)
        Path.rename = killed
        with files.new_folder(Path("mine"), ["cfg.json"]) as folder:
            (folder / "cfg.json").write_text("new")
    """
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "cfg.json").write_text("old")
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert not mine.exists()
    with suppress(RuntimeError), files.new_folder(mine, ["cfg.json"]):
        assert (mine / "cfg.json").read_text() == "old"
        raise RuntimeError
    assert names(tmp_path) == ["mine"]
    assert (mine / "cfg.json").read_text() == "old"


def test_what_another_writer_holds_is_not_removed(tmp_path):
    with files.replacing(tmp_path / "metrics.json") as slow:
        slow.write(b"slow")
        files.write(tmp_path / "metrics.json", "quick")
        assert (tmp_path / "metrics.json").read_text() == "quick"
    assert (tmp_path / "metrics.json").read_text() == "slow"


def test_a_planted_temporary_name_is_not_followed(tmp_path):
    own = tmp_path / "own"
    own.write_text("my own")
    (tmp_path / ".metrics.json.00000000.part").symlink_to(own)
    os.mkfifo(tmp_path / ".metrics.json.11111111.part")
    files.write(tmp_path / "metrics.json", "whole")
    assert own.read_text() == "my own"


def test_one_at_a_time(tmp_path):
    inside, both = [], []

    def enter():
        with files.alone_in(tmp_path):
            inside.append(1)
            both.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    with files.alone_in(tmp_path):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        for thread in threads:
            thread.start()
        assert not both
    for thread in threads:
        thread.join()
    assert both == [1] * 8
