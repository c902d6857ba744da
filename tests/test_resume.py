"""An interrupted run goes on where it was."""

import json
import subprocess
import sys

import pytest
import torch

from aecli.callbacks import BestEpoch
from aecli.errors import SettingError
from aecli.runs import configuration, read_metrics
from aecli.train import train
from tests.conftest import configure


def trained(directory, epochs, last=None):
    config, choices = configure(
        "model=ae", "network.hidden=[16]", "pictures_every=0", f"trainer.max_epochs={epochs}"
    )
    train(config, directory, choices, last)
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)


# Lightning wonders at the folder of a run to go on with: it holds checkpoints already.
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_two_and_two_epochs_are_four(tmp_path):
    whole = trained(tmp_path / "whole", 4)
    trained(tmp_path / "parts", 2)
    seconds = read_metrics(tmp_path / "parts")["train_seconds"]
    parts = trained(tmp_path / "parts", 4, tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert parts["global_step"] == whole["global_step"]
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, parts["state_dict"][name]), name
    metrics = read_metrics(tmp_path / "parts")
    assert metrics["epochs"] == 4
    assert metrics["val"] == read_metrics(tmp_path / "whole")["val"]
    assert metrics["train_seconds"] > seconds


def test_the_best_epoch_is_remembered():
    first, second = BestEpoch(), BestEpoch()
    first.metrics, first.epoch = {"loss": 0.5}, 7
    second.load_state_dict(first.state_dict())
    assert (second.metrics, second.epoch) == ({"loss": 0.5}, 7)


def test_a_checkpoint_tells_its_configuration(tmp_path):
    trained(tmp_path, 1)
    config, choices = configuration(tmp_path / "checkpoints" / "last.ckpt")
    assert config.network.hidden == [16]
    assert choices["model"] == "ae"
    with pytest.raises(SettingError, match="cannot be read as a checkpoint"):
        configuration(tmp_path / "metrics.json")


def aecli(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "aecli", *words], cwd=cwd, capture_output=True, text=True
    )


def test_resume_on_the_command_line(tmp_path):
    def train(*words):
        return aecli("train", *words, cwd=tmp_path)

    assert train("trainer=debug", "model=ae").returncode == 0
    (run,) = (tmp_path / "outputs" / "ae-digits").iterdir()
    config = (run / ".hydra" / "config.yaml").read_text()
    done = train("resume=latest")
    assert (done.returncode, done.stderr) == (
        1, f"aecli: resume={run.relative_to(tmp_path)}: is done, 1 epochs long\n",
    )  # fmt: skip

    # As if it had been cut off before its end.
    (run / "metrics.json").unlink()
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["aecli"]["config"]["trainer"]["max_epochs"] = 3
    torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    other = train("resume=latest", "seed=3")
    assert "seed: a resumed run keeps its settings; leave it out" in other.stderr
    done = train(f"resume={run}")
    assert done.returncode == 0, done.stderr
    assert "going on with" in done.stdout
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 3
    assert (run / ".hydra" / "config.yaml").read_text() == config
    assert len(list((tmp_path / "outputs" / "ae-digits").iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resume=nowhere"], "resume=nowhere: no such file or directory"),
        (["resume=latest"], "resume=latest: no run with a checkpoint"),
    ],
)
def test_what_cannot_be_resumed_gets_one_plain_line(tmp_path, words, message):
    done = aecli("train", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()
