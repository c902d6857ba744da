"""What is not a run's own is not written to: through links, into folders that are there."""

import pytest

from aecli import cli
from tests.commandline import aecli


@pytest.fixture
def linked(tmp_path):
    """Return a folder with a run, whose folders for output are links to a user's own."""
    run = tmp_path / "outputs" / "ae-digits" / "run"
    for folder in (run / ".hydra", run / "checkpoints", tmp_path / "own"):
        folder.mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").touch()
    (run / ".hydra" / "config.yaml").touch()
    (tmp_path / "own" / "codes.png").write_text("my own")
    for name in ("eval", "samples"):
        (run / name).symlink_to(tmp_path / "own")
    (tmp_path / "link").symlink_to(run)
    return tmp_path


@pytest.mark.parametrize("command", ["eval", "sample"])
@pytest.mark.parametrize("run", ["latest", "link"])
def test_nothing_is_written_through_a_link(linked, command, run):
    done = aecli(command, f"run={run}", cwd=linked)
    assert done.returncode == 1
    assert "is a symbolic link, and nothing is written through one; its target is" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in (linked / "own").iterdir()] == ["codes.png"]


def test_a_linked_run_is_not_resumed(linked):
    done = aecli("train", "resume=link", cwd=linked)
    assert done.returncode == 1
    assert done.stderr.startswith("aecli: link: is a symbolic link")


@pytest.mark.parametrize("place", ["output_dir=''", "hydra.run.dir=.", "hydra.run.dir=x/.."])
def test_a_run_needs_a_directory_of_its_own(tmp_path, place):
    done = aecli("train", place, cwd=tmp_path)
    assert done.returncode == 1
    assert "must be" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionError(), OSError("")])
def test_an_error_without_text_has_a_line(error):
    assert cli._verdict(error) == (type(error).__name__, False)
