"""An interrupted run goes on where it was."""

import json
import re
from functools import partial

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from aecli import __version__
from aecli.commands.train import train
from aecli.data import arrays, mixed
from aecli.errors import SettingError
from aecli.models import Autoencoder
from aecli.runs.checkpoint import read, stored
from aecli.runs.metrics_file import read_metrics, update_metrics
from aecli.runs.resume import State, check_typed
from aecli.training.callbacks import BestEpoch
from aecli.training.loop import EpochLoop
from tests.commandline import aecli
from tests.conftest import ALIKE, STEPWISE, configure, slow_unless, small
from tests.events import scalars

# Lightning wonders at the folder of a run to go on with: it holds checkpoints already.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


class Cut(pl.Callback):
    """Cuts a training off at a batch of an epoch, both counted from 0; None: at its end."""

    def __init__(self, epoch, batch):
        self.epoch, self.batch = epoch, batch

    def on_train_batch_end(self, trainer, model, outputs, batch, index):
        if (trainer.current_epoch, index) == (self.epoch, self.batch):
            raise CutOffError

    def on_train_epoch_start(self, trainer, model):
        if self.batch is None and trainer.current_epoch == self.epoch + 1:
            raise CutOffError


class CutOffError(Exception):
    """Has gone."""


def trained(directory, *overrides, last=None, callbacks=()):
    is_dictionary = any(word.endswith("_sae") for word in overrides)
    hidden = [] if is_dictionary else ["network.hidden=[16]"]
    config, choices = configure(*hidden, "pictures_every=2", *overrides)
    train(config, directory, choices, last, callbacks)
    return read(directory / "checkpoints" / "last.ckpt")


WITH_STATE = (
    ("noise=gaussian", "model=ae"),
    ("model=sparse_ae", "sparsity.momentum=0.9"),
    ("model=ksparse_ae", "sparsity.k_start=100"),
    ("model=vae", "optimizer.schedule=cosine", "optimizer.warmup=0.1", "model.warmup_epochs=3"),
    ("model=vae", "early_stopping.patience=2", "early_stopping.min_delta=1000"),
    ("model=ae", "optimizer=lbfgs", "dataset.batch_size=null"),
    ("model=vae", "trainer.average=0.9", "network.batch_norm=true"),
    ("model=topk_sae", "model.code_dim=256", "model.dead_after=500", "sparsity.k=4"),
    ("model=dae", "trainer.average=0.9", "+trainer.accumulate_grad_batches=2"),
)


@pytest.mark.parametrize(
    "batch", [pytest.param(3, marks=pytest.mark.slow), None], ids=["in mid-epoch", "at its end"]
)
@pytest.mark.parametrize(
    "overrides",
    [slow_unless(variant in ALIKE, small(variant)) for variant in STEPWISE]
    + [slow_unless("average" in str(words), words) for words in WITH_STATE],
    ids=" ".join,
)
def test_a_resumed_run_is_bitwise_one_that_was_never_interrupted(tmp_path, overrides, batch):
    if "optimizer=lbfgs" in overrides and batch is not None:
        pytest.skip("an epoch is one batch")
    parts, settings = tmp_path / "parts", (*overrides, "trainer.max_epochs=4")
    whole = trained(tmp_path / "whole", *settings)
    with pytest.raises(CutOffError):
        trained(parts, *settings, callbacks=[Cut(1, batch)])
    check_same(whole, trained(parts, *settings, last=parts / "checkpoints" / "last.ckpt"), tmp_path)


STOPPED = ("model=ae", "early_stopping.patience=2", "early_stopping.min_delta=1000")


def test_a_run_that_was_stopped_early_is_not_trained_on_unless_it_is_to_be_longer(tmp_path):
    parts, settings = tmp_path / "parts", (*STOPPED, "trainer.max_epochs=8")
    whole = trained(tmp_path / "whole", *settings)
    trained(parts, *settings)
    last = parts / "checkpoints" / "last.ckpt"
    (parts / "metrics.json").unlink()  # as if it had been killed before this was written
    check_same(whole, trained(parts, *settings, last=last), tmp_path)
    assert read_metrics(parts)["epochs"] == 3
    longer = trained(parts, *STOPPED, "trainer.max_epochs=9", last=last)
    assert longer["global_step"] > whole["global_step"]


def check_same(whole, resumed, tmp_path):
    """Check that two trainings, the second one interrupted, have ended alike."""
    parts = tmp_path / "parts"
    assert resumed["global_step"] == whole["global_step"]
    same = partial(torch.testing.assert_close, rtol=0, atol=0)
    same(resumed["state_dict"], whole["state_dict"])
    same(resumed["optimizer_states"][0]["state"], whole["optimizer_states"][0]["state"])
    same(resumed["lr_schedulers"], whole["lr_schedulers"])
    average = "RunningAverage"  # the weights that the training goes on from, beside their average
    same(resumed["callbacks"].get(average, {}), whole["callbacks"].get(average, {}))
    ours, theirs = read_metrics(parts), read_metrics(tmp_path / "whole")
    for key in ("epochs", "best_epoch", "val"):
        assert ours[key] == theirs[key]
    assert scalars(parts) == scalars(tmp_path / "whole")


def check_resumed_within(tmp_path, monkeypatch, overrides, epoch, done):
    """Check a run that is saved after some batches of an epoch, and cut off in the next one."""

    def is_time(self):
        return (self.trainer.current_epoch, self.batch_idx + 1) == (epoch, done)

    settings = (*overrides, "trainer.max_epochs=3")
    whole = trained(tmp_path / "whole", *settings)
    parts = tmp_path / "parts"
    monkeypatch.setattr(EpochLoop, "_is_time_to_save", is_time)
    with pytest.raises(CutOffError):
        trained(parts, *settings, callbacks=[Cut(epoch, done)])
    last = parts / "checkpoints" / "last.ckpt"
    batches = read(last)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert batches["completed"] == done
    check_same(whole, trained(parts, *settings, last=last), tmp_path)


SEVERAL = ("dataset.batch_size=200",)


@pytest.mark.parametrize(
    ("overrides", "epoch", "done"),
    [
        (("model=vae", "dataset.binarize=dynamic", *SEVERAL), 0, 5),
        (("model=vae", "dataset.binarize=dynamic", "dataset.batch_size=50"), 1, 23),
        (("model=dae", "trainer.average=0.9", *SEVERAL), 1, 1),
        (("model=ae", "early_stopping.patience=2", *SEVERAL), 0, 6),
    ],
    ids=str,
)
def test_a_run_saved_within_an_epoch_is_resumed_bitwise(
    tmp_path, monkeypatch, overrides, epoch, done
):
    check_resumed_within(tmp_path, monkeypatch, overrides, epoch, done)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [*map(small, STEPWISE), *(o for o in WITH_STATE if "lbfgs" not in str(o))],
    ids=" ".join,
)
def test_any_run_saved_within_an_epoch_is_resumed_bitwise(tmp_path, monkeypatch, overrides):
    check_resumed_within(tmp_path, monkeypatch, (*SEVERAL, *overrides), 1, 4)


def test_a_run_on_activations_is_resumed_within_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(mixed, "MIXED", 5000)  # groups of 400 rows
    draw = np.random.default_rng(0)
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", draw.normal(size=(700, 6)).astype("f2"))
    files = f"dataset.files='{tmp_path}/?.npy'"
    words = ("model=ae", "noise=gaussian", "dataset=activations", files, "dataset.batch_size=90")
    check_resumed_within(tmp_path, monkeypatch, (*words, "model.code_dim=2"), 1, 13)


def test_a_run_on_rows_that_are_drawn_is_resumed_within_an_epoch(tmp_path, monkeypatch):
    data = ("dataset=synthetic_features", "dataset.true_features=90", "dataset.width=6")
    sizes = ("dataset.trees=1", "dataset.rows=1500", "dataset.validation_size=50")
    words = ("model=batch_topk_sae", "model.code_dim=20", "sparsity.k=3", "dataset.batch_size=90")
    check_resumed_within(tmp_path, monkeypatch, (*data, *sizes, *words), 1, 13)


def test_a_transcoder_is_resumed_within_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(mixed, "MIXED", 9000)
    draw = np.random.default_rng(0)
    for number in range(3):
        for name, width in (("x", 6), ("y", 4)):
            array = draw.normal(size=(700, width)).astype("f2")
            np.save(tmp_path / f"{name}{number}.npy", array)
    words = ("model=batch_topk_sae", "model.code_dim=32", "sparsity.k=3", "model.dead_after=300")
    places = [
        f"dataset.{key}='{tmp_path}/{n}?.npy'" for key, n in (("files", "x"), ("targets", "y"))
    ]
    settings = ("dataset=activations", *places, "dataset.batch_size=90", "pictures_every=1")
    check_resumed_within(tmp_path, monkeypatch, (*words, *settings), 1, 13)


def test_a_run_on_a_mapped_array_is_resumed_bitwise(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((120, 6), dtype="f4"))
    settings = ("model=vae", "dataset=array", f"dataset.file={tmp_path}/x.npy")
    small = ("dataset.batch_size=20", "model.code_dim=2")
    test_a_resumed_run_is_bitwise_one_that_was_never_interrupted(tmp_path, (*settings, *small), 3)


def test_seconds_add_up(tmp_path):
    trained(tmp_path, "model=ae", "trainer.max_epochs=2")
    seconds = read_metrics(tmp_path)["train_seconds"]
    last = tmp_path / "checkpoints" / "last.ckpt"
    trained(tmp_path, "model=ae", "trainer.max_epochs=40", last=last)
    assert read_metrics(tmp_path)["train_seconds"] > seconds


def test_the_best_epoch_is_remembered():
    first, second = BestEpoch("val/loss"), BestEpoch("val/loss")
    first.metrics, first.epoch = {"loss": 0.5}, 7
    second.load_state_dict(first.state_dict())
    assert (second.metrics, second.epoch) == ({"loss": 0.5}, 7)


def test_a_checkpoint_tells_its_configuration(tmp_path):
    trained(tmp_path, "model=ae", "trainer.max_epochs=1")
    found = stored(tmp_path / "checkpoints" / "last.ckpt")
    assert found.config.network.hidden == [16]
    assert found.choices["model"] == "ae"
    assert found.version == __version__
    with pytest.raises(SettingError, match="cannot be read as a checkpoint"):
        stored(tmp_path / "metrics.json")


def test_a_run_of_another_version_is_refused(tmp_path):
    last = tmp_path / "checkpoints" / "last.ckpt"
    torch.save(trained(tmp_path, "model=ae", "trainer.max_epochs=1") | {"epoch": 0}, last)
    assert State.read(tmp_path).resumable().choices["model"] == "ae"
    checkpoint = read(last)
    checkpoint["aecli"]["version"] = "0.0.1"
    torch.save(checkpoint, last)
    with pytest.raises(SettingError, match=r"was made by aecli 0\.0\.1, and this is"):
        State.read(tmp_path).resumable()


@pytest.mark.parametrize(
    "damage",
    [
        {"epochs": "4"},
        {"epochs": None},
        {"asked_epochs": "four"},
        {"asked_epochs": [4]},
        {"val": None},
        {"val": []},
    ],
    ids=str,
)
def test_a_damaged_record_of_the_training_is_refused(tmp_path, damage):
    whole = {"epochs": 4, "asked_epochs": 4, "val": {"loss": 0.5}}
    config, _ = configure("trainer.max_epochs=4")
    update_metrics(tmp_path, whole)
    assert State.read(tmp_path).is_done(config)
    update_metrics(tmp_path, damage)
    with pytest.raises(SettingError, match=r"metrics\.json: damaged \("):
        State.read(tmp_path)


def test_a_longer_training_is_not_done(tmp_path):
    update_metrics(tmp_path, {"epochs": 2, "asked_epochs": 4, "val": {"loss": 0.5}})
    state = State.read(tmp_path)
    assert state.is_trained(configure("trainer.max_epochs=4")[0])  # it stopped early
    assert not state.is_trained(configure("trainer.max_epochs=5")[0])
    reported, _ = configure("experiment=hinton2006/pca", "trainer.max_epochs=4")
    assert state.is_trained(reported)
    assert not state.is_done(reported)


def test_resume_on_the_command_line(tmp_path):
    def train(*words):
        return aecli("train", *words, cwd=tmp_path)

    assert train("trainer=debug", "model=ae").returncode == 0
    (run,) = (tmp_path / "outputs" / "ae-digits").iterdir()
    config = (run / ".hydra" / "config.yaml").read_text()
    done = train("resume=latest")
    assert (done.returncode, done.stderr) == (
        1, f"aecli: resume={run.relative_to(tmp_path)}: is done, 1 epoch long; to train it for"
        " longer add trainer.max_epochs=2\n",
    )  # fmt: skip

    assert train("model=ae", "trainer=debug", "optimizer.schedule=cosine").returncode == 0
    longer = train("resume=latest", "trainer.max_epochs=3")
    told = "trainer.max_epochs=3: optimizer.schedule=cosine is laid out over 1 epoch"
    assert (longer.returncode, longer.stderr) == (1, f"aecli: {told}\n")
    other = train("resume=latest", "seed=3")
    assert "seed: a resumed run keeps its settings; leave it out" in other.stderr
    done = train(f"resume={run}", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    assert "going on with" in done.stdout
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 3
    longer = config.replace("max_epochs: 1", "max_epochs: 3")  # told to `aecli compare`
    assert longer != config
    assert (run / ".hydra" / "config.yaml").read_text() == longer
    assert len(list((tmp_path / "outputs" / "ae-digits").iterdir())) == 2


def test_a_refused_length_leaves_a_run_as_it_was(tmp_path):
    place = "hydra.run.dir=r"
    assert aecli("train", "trainer=debug", "model=ae", place, cwd=tmp_path).returncode == 0
    aecli("train", "resume=r", "trainer.max_epochs=2", cwd=tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*.*") if path.is_file()}
    refused = aecli("train", "resume=r", "trainer.max_epochs=1", cwd=tmp_path)
    assert "is done, 2 epochs long" in refused.stderr
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_longer_training_has_no_numbers_of_the_shorter_and_its_length_is_kept(
    tmp_path, monkeypatch
):
    assert aecli("train", "trainer=debug", "hydra.run.dir=r", cwd=tmp_path).returncode == 0
    assert aecli("eval", "run=r", "eval.protocol=none", cwd=tmp_path).returncode == 0
    metrics, config = tmp_path / "r" / "metrics.json", tmp_path / "r" / ".hydra" / "config.yaml"
    assert "test" in json.loads(metrics.read_text())

    def interrupted(*_):
        raise KeyboardInterrupt

    before = metrics.read_bytes(), config.read_bytes()
    words = ("resume=r", "trainer.max_epochs=3")
    with monkeypatch.context() as patch:
        patch.setattr(Autoencoder, "on_train_start", interrupted)
        assert aecli("train", *words, cwd=tmp_path).returncode == 130
        assert (metrics.read_bytes(), config.read_bytes()) == before  # its weights are the old ones
    with monkeypatch.context() as patch:
        patch.setattr(Autoencoder, "on_validation_epoch_end", interrupted)
        assert aecli("train", *words, cwd=tmp_path).returncode == 130
    assert OmegaConf.load(config).trainer.max_epochs == 3
    assert "resumable" in aecli("runs", "r", cwd=tmp_path).stdout
    done = aecli("train", "resume=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(metrics.read_text())
    assert told["epochs"] == 3
    assert "test" not in told


@pytest.mark.parametrize(
    ("key", "value"),
    [("optimizer.warmup", 0.1), ("sparsity.k_start", 9), ("sparsity.warmup", 0.05)],
)
def test_what_is_laid_out_over_a_run_keeps_its_length(key, value, tmp_path):
    asked = OmegaConf.create({"trainer": {"max_epochs": 3}})
    stored = OmegaConf.create({"trainer": {"max_epochs": 1}, "sparsity": {"k": 5}})
    OmegaConf.update(stored, key, value, force_add=True)
    told = f"trainer.max_epochs=3: {key}={value} is laid out over 1 epoch"
    with pytest.raises(SettingError, match=re.escape(told)):
        check_typed(asked, stored, ["trainer.max_epochs"], tmp_path)


def test_a_run_that_has_not_read_its_data_goes_on_with_a_code_that_fits_it(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32))
    words = ("model=ae", "network.hidden=[8]", "dataset=array", "dataset.file=x.npy")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("aecli.commands.train.set_up", interrupted)
        assert aecli("train", *words, "trainer.max_epochs=1", cwd=tmp_path).returncode == 130
    done = aecli("train", "resume=latest", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    assert (
        stored(checkpoint).config.model.code_dim == 3
    )  # half of the columns, as in an unbroken run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resume=nowhere"], "resume=nowhere: no such directory; must be a run's, or latest"),
        (["resume=latest"], "resume=latest: no run under outputs/"),
        (["resume=."], "resume=.: not a run's directory"),
        (["-m", "resume=a,b"], "resume=a,b: must be one value for the whole sweep"),
    ],
)
def test_what_cannot_be_resumed_gets_one_plain_line(tmp_path, words, message):
    done = aecli("train", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()
