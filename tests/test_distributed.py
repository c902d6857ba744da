"""Several processes over gloo: the same result as one, however they are started."""

import itertools
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from aecli import cli
from aecli.data import Batches
from aecli.runs.metrics_file import read_metrics
from aecli.training.callbacks import KeepRandomState
from tests.commandline import COMMAND, aecli, started
from tests.data.grey import split_of
from tests.events import scalars

SHORT = ("network.hidden=[16]", "trainer.max_epochs=3", "pictures_every=2")
CPU = torch.device("cpu")
TOGETHER = ("trainer=ddp", "trainer.devices=2")

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")


def run_in(folder, model):
    (run,) = (folder / "outputs" / f"{model}-digits").iterdir()
    return run


def trained(folder, *words, starter=COMMAND):
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [*starter, "train", *words],
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("ae", ()),
        ("sparse_ae", ("sparsity.momentum=0.9", "trainer.gradient_clip_val=1")),
        ("ksparse_ae", ("sparsity.k_start=60", "optimizer.schedule=cosine")),
        ("ae", ("trainer.average=0.9",)),
        ("topk_sae", ("model.code_dim=256", "sparsity.k=8", "model.dead_after=1000")),
        ("batch_topk_sae", ("model.code_dim=256", "sparsity.k=8")),
        ("jumprelu_sae", ("model.code_dim=256", "sparsity.k=8")),
    ],
)
def test_two_processes_end_as_one_with_the_same_batches(tmp_path, model, settings):
    for name, how in (("one", ()), ("two", TOGETHER)):
        words = SHORT[1:] if model.endswith("_sae") else SHORT
        done = trained(tmp_path / name, f"model={model}", *settings, *words, *how)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    one, two = run_in(tmp_path / "one", model), run_in(tmp_path / "two", model)
    weights = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (one, two)
    ]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-5)
    ours, theirs = read_metrics(two), read_metrics(one)
    assert ours["processes"] == 2
    assert ours["val"] == pytest.approx(theirs["val"], rel=1e-5)
    assert points(two) == pytest.approx(points(one), rel=1e-4)
    assert sorted(path.name for path in (tmp_path / "two" / "outputs").iterdir()) == [
        f"{model}-digits"
    ]
    assert (two / "train.log").is_file()
    assert len(list(two.glob("events*"))) == 1


@pytest.mark.slow
def test_two_processes_of_a_transcoder_end_as_one(tmp_path):
    draw = np.random.default_rng(0)
    for name, width in (("x", 6), ("y", 4)):
        np.save(tmp_path / f"{name}.npy", draw.normal(size=(2000, width)).astype("f4"))
    files = [f"dataset.{key}={tmp_path}/{n}.npy" for key, n in (("files", "x"), ("targets", "y"))]
    words = ("model=topk_sae", "model.code_dim=64", "sparsity.k=4", "model.dead_after=1000")
    words += ("dataset=activations", *files, "dataset.batch_size=100", *SHORT[1:])
    weights = []
    for name, how in (("one", ()), ("two", TOGETHER)):
        done = trained(tmp_path / name, *words, *how)
        assert (done.returncode, done.stderr) == (0, "")
        (path,) = (tmp_path / name).rglob("last.ckpt")
        weights.append(torch.load(path, weights_only=True)["state_dict"])
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-5)


def points(run):
    """Return the values of all scalars, named by tag and step."""
    return {f"{tag} {step}": v for tag, found in scalars(run).items() for step, v in found}


def test_the_words_that_lightning_adds_win_over_those_typed(monkeypatch):
    typed = ("trainer=ddp", "hydra.run.dir=mine", "hydra.job.name=mine")
    added = (
        'hydra.run.dir="mine"',
        "hydra.job.name=train_ddp_process_1",
        "hydra.output_subdir=null",
    )
    line = ["aecli", "--config-name", "train", *typed, *added]
    monkeypatch.setattr(sys, "argv", line)
    monkeypatch.setenv("LOCAL_RANK", "1")
    cli._check_words("train")
    assert sys.argv == ["aecli", "--config-name", "train", "trainer=ddp", *added]


@pytest.mark.slow
def test_two_processes_train_in_a_directory_that_is_typed(tmp_path):
    done = trained(tmp_path, "model=ae", *SHORT, *TOGETHER, "hydra.run.dir=mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_metrics(tmp_path / "mine")["processes"] == 2


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_with_a_plain_line(tmp_path):
    words = ("train", "model=ae", *TOGETHER, "trainer.max_epochs=100000", "hydra.run.dir=mine")
    first = started(*words, cwd=tmp_path)
    end = time.monotonic() + 120
    while not (tmp_path / "mine" / "checkpoints" / "last.ckpt").exists():
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.2)
    (second,) = (one for one in psutil.Process(first.pid).children() if "ddp" in str(one.cmdline()))
    second.kill()
    said = "aecli: another process of this run has gone; to go on with it: aecli train resume=mine"
    assert (first.communicate(timeout=60)[1].strip(), first.returncode) == (said, 1)


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "aecli")


@pytest.mark.slow
def test_torchrun_starts_them_too_and_a_run_goes_on(tmp_path):
    words = ("model=vae", *SHORT, "trainer=ddp")
    done = trained(tmp_path, *words, starter=TORCHRUN)
    assert done.returncode == 0, done.stderr
    run = run_in(tmp_path, "vae")  # one directory, though each has a clock of its own
    assert done.stdout.count("done: 3 epochs") == 1
    assert read_metrics(run)["processes"] == 2
    alone = trained(tmp_path, f"resume={run}", "trainer.max_epochs=4")
    assert alone.returncode == 1
    assert "resume: 1 processes go on with a run of 2; start as many as there were" in alone.stderr
    longer = trained(tmp_path, f"resume={run}", "trainer.max_epochs=4", starter=TORCHRUN)
    assert longer.returncode == 0, longer.stderr
    assert read_metrics(run)["epochs"] == 4


@pytest.mark.slow
def test_what_one_machine_lacks_is_said_by_it(tmp_path):
    machines = [tmp_path / "first", tmp_path / "second"]
    for machine in machines:
        machine.mkdir()
    np.save(machines[0] / "x.npy", np.ones((500, 6), "f4"))
    nodes = ("--nnodes", "2", "--nproc-per-node", "1", "--master-port", "29763")
    starters = [(*TORCHRUN[:3], *nodes, "--node-rank", n, "-m", "aecli") for n in "01"]
    words = ("trainer=ddp", "dataset=array", "dataset.file=x.npy", *SHORT)
    with ThreadPoolExecutor() as pool:
        parts = zip(machines, starters, strict=True)
        done = [pool.submit(trained, at, *words, starter=starter) for at, starter in parts]
    told = [
        [line for line in one.result().stderr.splitlines() if "aecli: " in line] for one in done
    ]
    (first,), (second,) = told
    assert first.startswith("aecli: another process of this run has gone; to go on with it: ")
    assert second == f"aecli: rank 1 on {platform.node()}: dataset.file=x.npy: no such file"


@pytest.mark.slow
def test_srun_starts_them_too(tmp_path):
    slurm = {
        "SLURM_JOB_ID": "12345",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_STEP_ID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29761",
    }
    line = ("train", "model=vae", *SHORT, "trainer=ddp")
    tasks = [
        started(*line, cwd=tmp_path, **slurm, SLURM_PROCID=str(task), SLURM_LOCALID=str(task))
        for task in range(2)
    ]
    told = [task.communicate(timeout=600) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], told
    assert read_metrics(run_in(tmp_path, "vae"))["processes"] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("trainer.devices=4096",), "trainer.devices=4096: there are"),
        (("trainer.devices=2", "model=pca"), "this model or optimizer takes one process"),
        (("trainer.devices=2", "dataset.batch_size=1"), "1 examples for each of 2 processes"),
        (("trainer.devices=2", "trainer.precision=fastest"), "is measured on one device"),
        (
            ("trainer.devices=2", "model=ae", "network.activation=sigmoid", "pretraining=rbm"),
            "pretraining=rbm takes one process",
        ),
        (("-m", "trainer.devices=2", "model=ae,vae"), "a sweep's jobs take one device each"),
    ],
)
def test_what_cannot_be_trained_together_gets_a_plain_line(tmp_path, words, told):
    done = aecli("train", *words, "trainer=ddp", *SHORT, cwd=tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_processes_without_trainer_ddp_are_told_of_it(tmp_path):
    done = trained(tmp_path, "model=ae", *SHORT, starter=TORCHRUN)
    assert done.returncode != 0
    told = "aecli: trainer: several processes were started; they need trainer=ddp\n"
    assert done.stderr.count(told) == 1


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_parts_of_a_batch_are_the_batch(dynamic):
    split = split_of(torch.arange(23, dtype=torch.uint8).view(23, 1, 1, 1), torch.arange(23))
    whole, *parts = (
        list(Batches(split, 5, CPU, lambda: 3, dynamic, part)) for part in ((0, 1), (0, 2), (1, 2))
    )
    assert len(whole) == len(parts[0]) == len(parts[1]) == 5
    for batch, first, second in zip(whole, *parts, strict=True):
        torch.testing.assert_close(batch.label, torch.cat([first.label, second.label]))
        torch.testing.assert_close(batch.original, torch.cat([first.original, second.original]))
        for part in (first, second):
            assert part.weight == 2 * len(part.label) / len(batch.label)
        assert batch.weight == 1


def test_the_draws_of_a_part_are_those_of_its_images():
    split = split_of(torch.zeros(23, 1, 1, 1, dtype=torch.uint8), torch.arange(23))
    whole, *parts = (
        [batch.draws.normal(batch.x) for batch in Batches(split, 5, CPU, part=part)]
        for part in ((0, 1), (0, 2), (1, 2))
    )
    for batch, first, second in zip(whole, *parts, strict=True):
        torch.testing.assert_close(batch, torch.cat([first, second]), rtol=0, atol=0)


def test_processes_draw_numbers_of_no_other_seed():
    drawn = {}
    for seed, rank in itertools.product(range(4), range(4)):
        torch.manual_seed(seed)
        KeepRandomState().on_train_start(SimpleNamespace(global_rank=rank), None)
        drawn[seed, rank] = torch.initial_seed()
    assert len(set(drawn.values())) == 16
    assert drawn[3, 0] == 3
