"""Trainings that are killed, told to go, or out of room: nothing is lost that was saved."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from aecli.commands.train import train
from aecli.runs.metrics_file import read_metrics
from tests.commandline import aecli, started
from tests.conftest import configure
from tests.events import scalars
from tests.killed import EPOCHS, KILLS, SETTINGS

REPOSITORY = Path(__file__).parents[1]
LONG = ("train", "model=ae", "network.hidden=[8]", "trainer.max_epochs=1000", "pictures_every=0")


@pytest.mark.slow
def test_a_run_killed_at_20_moments_of_the_whole_training_ends_as_one_that_never_was(tmp_path):
    killed = subprocess.run(
        [sys.executable, "-m", "tests.killed", str(tmp_path / "killed")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == 0, killed.stderr
    kills = [line.split(" ") for line in killed.stdout.splitlines()]
    assert len(kills) == KILLS, killed.stdout
    assert {int(epoch) * 6 // EPOCHS for epoch, *_ in kills} == set(range(6))
    assert {int(code) for _, code, _ in kills} == {-signal.SIGKILL, -signal.SIGXFSZ}
    half_written = [files for *_, files in kills if ".part" in files]
    assert len(half_written) > KILLS // 3
    config, choices = configure(*SETTINGS)
    train(config, tmp_path / "whole", choices)
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (
            torch.load(tmp_path / run / "checkpoints" / name, weights_only=True)["state_dict"]
            for run in ("killed", "whole")
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert scalars(tmp_path / "killed") == scalars(tmp_path / "whole")
    ours, theirs = read_metrics(tmp_path / "killed"), read_metrics(tmp_path / "whole")
    assert (ours["best_epoch"], ours["val"]) == (theirs["best_epoch"], theirs["val"])
    kept = {path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()}
    assert kept == {"best.ckpt", "last.ckpt"}


def wait_for(pattern, folder, process):
    for _ in range(6000):  # ten minutes: a busy machine is no failure
        if found := list(folder.glob(pattern)):
            return found[0]
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError(f"no {pattern}")


@pytest.mark.slow
def test_sigterm_leaves_a_run_that_goes_on(tmp_path):
    process = started(*LONG, cwd=tmp_path)
    last = wait_for("outputs/*/*/checkpoints/last.ckpt", tmp_path, process)
    run = last.parents[1].relative_to(tmp_path)
    twice = aecli("train", f"resume={run}", cwd=tmp_path)
    assert twice.stderr == f"aecli: {run}: another aecli trains it at this moment\n"
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 75
    assert told == f"aecli: terminated; to go on with it: aecli train resume={run}\n"
    epoch = torch.load(last, weights_only=True)["epoch"]
    done = aecli("train", f"resume={run}", f"trainer.max_epochs={epoch + 3}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_metrics(tmp_path / run)["epochs"] == epoch + 3


@pytest.mark.slow
def test_a_run_without_a_checkpoint_starts_over_in_its_own_directory(tmp_path):
    line = ("train", "model=ae", "network.hidden=[8]", "trainer=debug", "seed=3")
    process = started(*line, cwd=tmp_path)
    hydra = wait_for("outputs/*/*/.hydra/overrides.yaml", tmp_path, process).parent
    process.kill()
    process.communicate()
    done = aecli("train", "resume=latest", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    last = torch.load(hydra.parent / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["aecli"]["config"]["seed"] == 3
    assert last["aecli"]["choices"]["model"] == "ae"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_a_sweep_told_to_go_goes_on_by_the_same_line(tmp_path, launcher):
    line = ("train", "-m", *LONG[1:], "seed=0,1", f"launcher={launcher}")
    process = started(*line, cwd=tmp_path)
    wait_for("outputs/sweeps/*/0*/checkpoints/last.ckpt", tmp_path, process)
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    sweep = sweep.relative_to(tmp_path)
    twice = aecli(*line, f"resume={sweep}", cwd=tmp_path)
    assert twice.stderr == f"aecli: {sweep}: another aecli runs this sweep at this moment\n"
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 75
    assert f"the same line and resume={sweep}\n" in told
    assert not psutil.wait_procs(children, timeout=60)[1], "jobs left behind"


@pytest.mark.slow
def test_a_job_that_its_queue_starts_again_goes_on(tmp_path):
    # What Slurm does before it takes a machine away, done by hand to submitit's local queue.
    long = [word for word in LONG[1:] if not word.startswith("trainer.max_epochs=")]
    line = ("train", "-m", *long, "trainer.max_epochs=200", "seed=0", "launcher=submitit_local")
    sweep = started(*line, cwd=tmp_path)
    last = wait_for("outputs/sweeps/*/0*/checkpoints/last.ckpt", tmp_path, sweep)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_text().split("\0")
            inside = str(tmp_path) in str((process / "cwd").resolve())
            if inside and "submitit.core._submit" in words:
                os.kill(int(process.name), signal.SIGUSR2)
    _, told = sweep.communicate(timeout=600)
    assert sweep.returncode == 0, told
    log = (last.parents[1] / "train.log").read_text()
    assert log.count("going on with") == 1
    assert log.count("done: 200 epochs") == 1
    assert read_metrics(last.parents[1])["epochs"] == 200


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_a_training_with_a_message(tmp_path, small_disk):
    line = ("train", "model=ae", "network.hidden=[400]", "trainer.max_epochs=1", "pictures_every=0")
    place = f"output_dir={small_disk}"
    assert aecli(*line, place, cwd=tmp_path).returncode == 0
    (run,) = small_disk.glob("ae-digits/*")
    last = run / "checkpoints" / "last.ckpt"
    before = torch.load(last, weights_only=True)
    room = small_disk / "filled"
    room.write_bytes(b"0" * (shutil.disk_usage(small_disk).free - 40_000))
    done = aecli("train", f"resume={run}", "trainer.max_epochs=3", place, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "ckpt: cannot be written, with 0.0 MB free on its disk" in done.stderr
    assert done.stderr.count("\n") == 1
    after = torch.load(last, weights_only=True)
    assert after["epoch"] == before["epoch"]
    torch.testing.assert_close(after["state_dict"], before["state_dict"])
    room.unlink()
    done = aecli("train", f"resume={run}", "trainer.max_epochs=3", place, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
