"""Sweeps as typed: launchers, jobs that fail, going on after an interruption."""

import shlex
import shutil

import pytest
import torch
from omegaconf import OmegaConf

from aecli.models import VAE
from aecli.runs.metrics_file import read_metrics
from tests.commandline import aecli

SHORT = ("trainer.max_epochs=2", "network.hidden=[8]", "pictures_every=0")


def sweep_of(tmp_path):
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    return sweep


LAUNCHERS = [
    "basic",
    pytest.param("joblib", marks=pytest.mark.slow),
    pytest.param("submitit_local", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_failed_job_is_named_at_the_end_and_stops_no_other(tmp_path, launcher):
    grid = ("model=pca,ae", "model.code_dim=2,400", "seed=0,1,2")
    done = aecli("train", "-m", *grid, *SHORT, f"launcher={launcher}", cwd=tmp_path)
    assert done.returncode == 1
    sweep = sweep_of(tmp_path)
    assert f"aecli eval run={sweep.relative_to(tmp_path)}" in done.stdout
    finished = {int(path.parent.name.split("_")[0]) for path in sweep.glob("*/metrics.json")}
    failed = {3, 4, 5}  # PCA has no 400 components of 64 pixels
    assert finished == set(range(12)) - failed
    end = done.stderr[done.stderr.index("aecli: 3 of 12 jobs failed:") :]
    for number in failed:
        assert f"  {number}_model-pca_model.code_dim-400_seed-{number - 3}" in end
    assert "model.code_dim=400: an example has only 64 components (log: outputs/sweeps/" in end
    assert "Traceback" not in done.stderr
    compared = aecli("compare", cwd=tmp_path)
    assert compared.returncode == 0
    assert "launcher" not in compared.stdout


def test_a_bug_in_one_job_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(VAE, "terms", lambda *_, **__: 1 / 0)
    done = aecli("train", "-m", "model=vae,ae", *SHORT, cwd=tmp_path)
    assert done.returncode == 1
    assert "aecli: 1 of 2 jobs failed:" in done.stderr
    assert "Traceback" in done.stderr
    assert len(list(sweep_of(tmp_path).glob("*/metrics.json"))) == 1


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path):
    line = ("train", "-m", "model=ae,vae,dae", *SHORT)
    assert aecli(*line, cwd=tmp_path).returncode == 0
    sweep = sweep_of(tmp_path)
    jobs = sorted(path for path in sweep.iterdir() if path.is_dir())
    # As if it had been killed in the second job, after an epoch.
    kept = (jobs[0] / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    (jobs[1] / "metrics.json").unlink()
    shutil.rmtree(jobs[2])
    other = aecli(*line, "seed=1", f"resume={sweep}", cwd=tmp_path)
    assert other.returncode == 1
    told = f"aecli: resume={sweep}: that sweep was model=ae,vae,dae {shlex.join(SHORT)};"
    assert other.stderr.startswith(told)
    done = aecli(*line, f"resume={sweep}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [done.stdout.count(text) for text in ("done already:", "going on with")] == [1, 1]
    assert (jobs[0] / "checkpoints" / "best.ckpt").stat().st_mtime_ns == kept
    assert sorted(path for path in sweep.iterdir() if path.is_dir()) == jobs
    for job in jobs:
        assert (job / "metrics.json").is_file()
        last = torch.load(job / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["epoch"] == 1
    assert sweep_of(tmp_path) == sweep


def test_a_run_of_a_sweep_that_was_made_longer_stays_so(tmp_path):
    line = ("train", "-m", "model=ae", *SHORT)
    assert aecli(*line, cwd=tmp_path).returncode == 0
    sweep = sweep_of(tmp_path)
    (job,) = (path for path in sweep.iterdir() if path.is_dir())
    assert aecli("train", f"resume={job}", "trainer.max_epochs=5", cwd=tmp_path).returncode == 0
    done = aecli(*line, f"resume={sweep}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "done already:" in done.stdout
    assert OmegaConf.load(job / ".hydra" / "config.yaml").trainer.max_epochs == 5
    # Stopped before the first of its new epochs.
    (job / "metrics.json").unlink()
    assert "going on with" in aecli(*line, f"resume={sweep}", cwd=tmp_path).stdout
    assert read_metrics(job)["epochs"] == 5


def test_a_second_sweep_of_the_same_name_gets_a_directory_of_its_own(tmp_path):
    line = ("train", "-m", "model=pca,ae", "hydra.sweep.dir=same", *SHORT)
    for _ in range(2):
        assert aecli(*line, cwd=tmp_path).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"same", "same-2"}
    assert len(list((tmp_path / "same-2").glob("*/metrics.json"))) == 2


def test_jobs_that_share_a_directory_are_told_so(tmp_path):
    line = ("train", "-m", "model=pca", "model.code_dim=2,4", "hydra.sweep.subdir=same", *SHORT)
    done = aecli(*line, cwd=tmp_path)
    assert done.returncode == 1
    assert "holds a job with another model; hydra.sweep.subdir must give each job" in done.stderr


def test_a_damaged_sweep_is_not_run_again(tmp_path):
    line = ("train", "-m", "model=pca", "model.code_dim=2,4", *SHORT)
    assert aecli(*line, cwd=tmp_path).returncode == 0
    sweep = sweep_of(tmp_path)
    (sweep / "multirun.yaml").write_text("")
    done = aecli(*line, f"resume={sweep}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"aecli: {sweep}/multirun.yaml: damaged; start the sweep anew\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sweeper.trials=3"], "sweeper.trials=3: goes with sweeper=optuna"),
        (["resume=latest"], "resume=latest: no sweep lies there; must be its directory"),
        (["modle=ae,vae"], "modle: no such setting; did you mean model?"),
        (
            ["model=vae,ae", "model.beta=2"],
            "settings code_dim with model=ae; model=iwae or vae has",
        ),
        (
            ["noise=gaussian,none", "noise.std=0.1,0.2"],
            "no settings with noise=none; noise=gaussian has it",
        ),
        (
            ["launcher=slurm"],
            "launcher=slurm: must be one of basic, joblib, submitit_local, submit",
        ),
        (["launcher=submitit_slurm"], 'Could not detect "srun"'),
    ],
)
def test_what_cannot_be_swept_gets_one_plain_line(tmp_path, words, told):
    done = aecli("train", "-m", *words, cwd=tmp_path, PATH="")  # srun may lie on this machine's
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/sweeps/*"))  # nothing is left of it
