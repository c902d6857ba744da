"""On a real Slurm of this one machine: sweeps, jobs that are killed, runs of two processes."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from aecli.runs.metrics_file import read_metrics
from tests.commandline import aecli_process as aecli

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "cluster.sh"
SHORT = ("network.hidden=[8]", "pictures_every=0", "trainer.max_epochs=2")
QUEUE = ("launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")
AECLI = (sys.executable, "-m", "aecli")


@pytest.fixture(scope="session", autouse=True)
def cluster(tmp_path_factory):
    """Run Slurm for the tests in here, and let its commands find it."""
    missing = [name for name in ("slurmctld", "slurmd", "munged") if not shutil.which(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: {SCRIPT} install")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPT, "start", folder], check=True, timeout=60)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield
    subprocess.run([SCRIPT, "stop", folder], check=True, timeout=60)
    del os.environ["SLURM_CONF"]


def run(*line, cwd):
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=300)


def wait_for(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.2)


def test_a_sweep_in_the_queue_ends_with_all_results_and_without_a_warning(tmp_path):
    done = aecli("train", "-m", "model=pca,ae", *SHORT, *QUEUE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sacct" not in done.stderr + done.stdout
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/metrics.json"))) == 2


def test_a_search_in_the_queue(tmp_path):
    words = ("sweeper=optuna", "sweeper.trials=3", "sweeper.at_once=2", "model=pca")
    done = aecli("train", "-m", *words, "model.code_dim=2,4", *SHORT, *QUEUE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 trials, 0 of them ended early, 0 failed" in done.stdout


@pytest.mark.parametrize("kill", ["requeue", "USR2"])
def test_a_killed_job_goes_on_from_its_checkpoint(tmp_path, kill):
    long = ("network.hidden=[8]", "pictures_every=0", "trainer.max_epochs=100")
    line = [*AECLI, "train", "-m", "model=ae", "seed=1", *long, *QUEUE]
    line += ["hydra.launcher.max_num_timeout=3"]
    sweep = subprocess.Popen(
        line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    last = "outputs/sweeps/*/0_*/checkpoints/last.ckpt"
    wait_for(lambda: list(tmp_path.glob(last)), "a checkpoint")
    (job,) = run("squeue", "--me", "--noheader", "--format=%A", cwd=tmp_path).stdout.split()
    command = ["scontrol", "requeue"] if kill == "requeue" else ["scancel", "--signal=USR2"]
    done = run(*command, job, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = sweep.communicate(timeout=300)[0]
    assert sweep.returncode == 0, told
    (directory,) = tmp_path.glob("outputs/sweeps/*/0_*")
    assert "going on with" in (directory / "train.log").read_text()
    assert read_metrics(directory)["epochs"] == 100
    assert torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 99


def test_a_cancelled_job_ends_the_sweep(tmp_path):
    long = ("network.hidden=[8]", "pictures_every=0", "trainer.max_epochs=1000")
    line = [*AECLI, "train", "-m", "model=ae", "seed=1", *long, *QUEUE]
    sweep = subprocess.Popen(
        line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    last = "outputs/sweeps/*/0_*/checkpoints/last.ckpt"
    wait_for(lambda: list(tmp_path.glob(last)), "a checkpoint")
    (job,) = run("squeue", "--me", "--noheader", "--format=%A", cwd=tmp_path).stdout.split()
    assert run("scancel", job, cwd=tmp_path).returncode == 0
    out, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 1
    assert re.match(r"aecli: .*has not produced any output \(state: CANCELLED", err), out + err


@pytest.mark.parametrize("how", ["per node", "in all", "sbatch and srun", "sbatch alone"])
def test_two_processes_train_one_model(tmp_path, how):
    devices = ["trainer.devices=2"] if how == "sbatch alone" else []
    line = [*AECLI, "train", "model=ae", "trainer=ddp", *devices, *SHORT]
    if how == "per node":
        done = run("srun", "-N1", "--ntasks-per-node=2", *line, cwd=tmp_path)
    elif how == "in all":
        done = run("srun", "-n2", *line, cwd=tmp_path)
    else:
        srun = "srun " if how == "sbatch and srun" else ""
        script = tmp_path / "job.sh"
        script.write_text(f"#!/bin/bash\n{srun}{' '.join(line)}\n")
        output = ("--output=log.txt", "--wait", "--ntasks-per-node=2")
        done = run("sbatch", *output, str(script), cwd=tmp_path)
        done.stderr += (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, done.stderr
    (directory,) = tmp_path.glob("outputs/ae-digits/*")
    assert read_metrics(directory)["processes"] == 2
    assert "Warning" not in done.stderr


def test_two_processes_without_trainer_ddp_are_refused_by_one_line(tmp_path):
    done = run("srun", "-n2", *AECLI, "train", "model=ae", *SHORT, cwd=tmp_path)
    assert done.returncode == 1
    ours = [line for line in done.stderr.splitlines() if not line.startswith("srun:")]
    assert ours == ["aecli: trainer: several processes were started; they need trainer=ddp"]
    assert not list(tmp_path.glob("outputs/ae-digits/*"))  # as of every refused training


def test_a_training_on_a_login_node_does_not_ask_for_srun(tmp_path):
    assert shutil.which("srun")
    done = aecli("train", "model=ae", *SHORT, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (log,) = tmp_path.glob("outputs/ae-digits/*/train.log")
    assert "srun" not in log.read_text()
