"""Nothing is written through a link that somebody has put into a run or a sweep."""

import os
import shutil

import pytest

from tests.commandline import aecli, is_one_line


@pytest.mark.parametrize(
    "name",
    ["projector_config.pbtxt", "train.log", "checkpoints", ".hydra", "checkpoints/last.ckpt"],
)
def test_nothing_is_written_through_a_link_in_a_run(tmp_path, name):
    words = ("trainer=debug", "model=ae", "network.hidden=[4]", "pictures_every=1")
    for run in ("mine", "theirs"):
        done = aecli("train", *words, f"hydra.run.dir={run}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    mine, link = tmp_path / "mine" / name, tmp_path / "theirs" / name
    shutil.move(link, tmp_path / "gone")
    link.symlink_to(mine)
    before = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    done = aecli("train", "resume=theirs", "trainer.max_epochs=2", cwd=tmp_path)
    assert is_one_line(done), done.stderr
    assert f"{name}: is a symbolic link, and nothing is written through one" in done.stderr
    assert before == {path: path.read_bytes() for path in before}


def test_a_pipe_in_the_place_of_a_log_is_refused(tmp_path):
    words = ("trainer=debug", "model=ae", "network.hidden=[4]", "pictures_every=0")
    assert aecli("train", *words, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    (tmp_path / "run" / "train.log").unlink()
    os.mkfifo(tmp_path / "run" / "train.log")
    done = aecli("train", "resume=run", "trainer.max_epochs=2", cwd=tmp_path)
    assert is_one_line(done), done.stderr
    assert "train.log: is no ordinary file; move it away" in done.stderr


def test_nothing_is_written_into_a_run_that_a_job_of_a_sweep_is_a_link_to(tmp_path):
    line = ("train", "-m", "model=pca", "model.code_dim=2,3", "hydra.sweep.dir=sweep")
    assert aecli(*line, cwd=tmp_path).returncode == 0
    job = next((tmp_path / "sweep").glob("0*"))
    job.rename(tmp_path / "mine")
    job.symlink_to("../mine")
    before = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    done = aecli(*line, "resume=sweep", cwd=tmp_path)
    assert is_one_line(done), done.stderr
    assert "is a symbolic link, and nothing is written through one" in done.stderr
    assert before == {path: path.read_bytes() for path in before}
