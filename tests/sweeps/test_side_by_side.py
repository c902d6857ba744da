"""A search side by side: each trial starts as soon as a place is free."""

import signal
import subprocess
import sys
import time

import optuna
import psutil
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_quick_trials_end_while_a_slow_one_runs(tmp_path, launcher):
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
    study = optuna.create_study(storage=storage, study_name="aecli")
    for epochs in (1_000_000, 1, 2, 1):
        study.enqueue_trial({"trainer.max_epochs": epochs})
    line = [sys.executable, "-m", "aecli", "train", "-m", "sweeper=optuna", f"launcher={launcher}"]
    line += ["sweeper.storage=study.log", "sweeper.trials=4", "sweeper.at_once=2"]
    line += ["sweeper.prune=false", "trainer.max_epochs=1,2,1000000", "model=ae"]
    line += ["network.hidden=[8]", "pictures_every=0"]
    with (tmp_path / "log.txt").open("w") as log:
        search = subprocess.Popen(line, cwd=tmp_path, stdout=log, stderr=log)
    end = time.monotonic() + 240
    while [trial.state for trial in study.trials[1:]] != [TrialState.COMPLETE] * 3:
        assert search.poll() is None, (tmp_path / "log.txt").read_text()
        assert time.monotonic() < end, (tmp_path / "log.txt").read_text()
        time.sleep(0.2)
    assert study.trials[0].state == TrialState.RUNNING
    search.send_signal(signal.SIGTERM)
    assert search.wait(120) == 75
    told = (tmp_path / "log.txt").read_text()
    assert "aecli: terminated; to go on with it: the same line and resume=" in told
    assert "Traceback" not in told


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_search_goes_on_when_a_job_is_killed(tmp_path):
    line = [sys.executable, "-m", "aecli", "train", "-m", "sweeper=optuna", "launcher=joblib"]
    line += ["sweeper.trials=3", "sweeper.at_once=2", "sweeper.prune=false", "model=ae"]
    line += ["optimizer.lr=interval(0.001,0.1)", "network.hidden=[8]", "trainer.max_epochs=100"]
    with (tmp_path / "log.txt").open("w") as log:
        search = subprocess.Popen(line, cwd=tmp_path, stdout=log, stderr=log)
    end = time.monotonic() + 240
    while not list(tmp_path.glob("outputs/sweeps/*/*/checkpoints/last.ckpt")):
        assert time.monotonic() < end, (tmp_path / "log.txt").read_text()
        time.sleep(0.1)
    workers = [p for p in psutil.Process(search.pid).children() if "loky" in " ".join(p.cmdline())]
    max(workers, key=lambda worker: worker.cpu_times().user).kill()
    assert search.wait(240) == 0, (tmp_path / "log.txt").read_text()
    told = (tmp_path / "log.txt").read_text()
    assert "its settings are queued again" in told
    assert "3 trials, 0 of them ended early, 0 failed" in told


def test_the_jobs_of_a_killed_sweep_end_with_it(tmp_path):
    line = [sys.executable, "-m", "aecli", "train", "-m", "seed=0,1", "launcher=joblib", "model=ae"]
    line += ["hydra.launcher.n_jobs=2", "trainer.max_epochs=100000", "hydra.sweep.dir=sw"]
    with (tmp_path / "log.txt").open("w") as log:
        sweep = subprocess.Popen(line, cwd=tmp_path, stdout=log, stderr=log)
    end = time.monotonic() + 240
    while len(list(tmp_path.glob("sw/*/checkpoints/last.ckpt"))) < 2:
        assert time.monotonic() < end, (tmp_path / "log.txt").read_text()
        time.sleep(0.1)
    workers = [p for p in psutil.Process(sweep.pid).children() if "Loky" in " ".join(p.cmdline())]
    assert len(workers) == 2
    sweep.kill()
    sweep.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    for worker in alive:
        worker.kill()
    assert not alive
