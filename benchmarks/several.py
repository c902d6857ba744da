"""What many runs, and many processes for one run, cost beside one."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.processes import AECLI, cost

RUNS = 1000
JOB = ("model=vae", "trainer.max_epochs=4", "dataset=mnist", "pictures_every=0")


def compare() -> float:
    """Return the seconds of `aecli compare` over a thousand runs."""
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "0"
        _train("model=vae", "trainer.max_epochs=1", f"hydra.run.dir={first}")
        config = (first / ".hydra" / "config.yaml").read_text()
        for number in range(1, RUNS):
            run = Path(folder) / str(number)
            shutil.copytree(first / ".hydra", run / ".hydra")
            shutil.copy(first / "metrics.json", run)
            other = config.replace("beta: 1.0", f"beta: {number}")
            (run / ".hydra" / "config.yaml").write_text(other)
        return cost([*AECLI, "compare", folder]).seconds


def evaluate_six() -> float:
    """Return the CPU seconds of `aecli eval` of a sweep of six models on MNIST, an epoch each."""
    models = "model=pca,ae,dae,sparse_ae,ksparse_ae,vae"
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "sweep"
        words = ("-m", models, *JOB[2:], "trainer.max_epochs=1", f"hydra.sweep.dir={sweep}")
        _train(*words, threads=2)
        return cost([*AECLI, "eval", f"run={sweep}"]).cpu_seconds


def jobs_side_by_side() -> float:
    """Return the time of two jobs by `launcher=joblib` over that of one after the other."""
    seconds = []
    for launcher in ("basic", "joblib"):
        with tempfile.TemporaryDirectory() as folder:
            words = ("-m", *JOB, "seed=0,1", f"launcher={launcher}", f"output_dir={folder}")
            seconds.append(cost([*AECLI, "train", *words]).seconds)
    return seconds[1] / seconds[0]


def two_processes_over_one_core() -> float:
    """Return the training of two processes of one thread over that of one of one thread."""
    return _seconds("trainer=ddp", "trainer.devices=2") / _seconds("trainer=cpu")


def two_processes_over_two_threads() -> float:
    """Return the training of two processes of one thread over that of one of two threads."""
    return _seconds("trainer=ddp", "trainer.devices=2") / _seconds("trainer=cpu", threads=2)


def _seconds(*settings: str, threads: int = 1) -> float:
    """Return the training seconds of a job, start-up left out."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        _train(*JOB, "dataset.batch_size=1024", *settings, f"hydra.run.dir={run}", threads=threads)
        return float(json.loads((run / "metrics.json").read_text())["train_seconds"])


def _train(*settings: str, threads: int = 1) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run([*AECLI, "train", *settings], check=True, capture_output=True, env=environment)
