"""Whole trainings with a prior other than N(0, I), and runs of before there was another."""

import numpy as np
import pytest
import torch

from aecli.commands.sample import main as sample
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.evaluation import metrics
from aecli.priors import Standard
from aecli.runs.archive import CHECKSUM
from aecli.runs.checkpoint import KEY
from aecli.runs.find import find
from aecli.runs.load import load
from aecli.runs.resume import State
from tests.conftest import configure

SHORT = ("trainer.max_epochs=2", "pictures_every=2", "network.hidden=[32]")


def run(directory, *overrides):
    config, choices = configure(*overrides)
    train(config, directory, choices)


def test_the_manifold_of_another_prior_spans_its_codes(tmp_path):
    prior = ("prior=vamp", "prior.pseudo_inputs=5")
    run(tmp_path, "model=vae", "model.code_dim=2", *prior, *SHORT)
    words = ("kind=manifold", "steps=3", "span=2")
    config, _ = configure(f"run={tmp_path}", *words, command="sample")
    sample(config)
    codes = np.load(tmp_path / "samples" / "manifold.npz")["codes"].reshape(3, 3, 2)
    loaded = load(*find(str(tmp_path)))
    own = metrics.codes(loaded.model, loaded.data.batches("train", 1000))[0]
    mean, deviation = own.mean(0), own.std(0)
    assert codes[2, :, 0] == pytest.approx(
        (mean[0] + 2 * deviation[0] * torch.tensor([-1, 0, 1])).numpy(), abs=1e-5
    )


@pytest.mark.parametrize("variant", ["ae", "pca", "sparse_ae"])
def test_a_prior_that_the_model_does_not_have_is_refused(tmp_path, variant):
    with pytest.raises(SettingError, match=f"prior=vamp: model={variant} has no prior"):
        run(tmp_path, f"model={variant}", "prior=vamp", *SHORT)


def test_a_run_of_before_there_were_priors_is_loaded_and_resumed(tmp_path):
    run(tmp_path, "model=vae", *SHORT)
    for path in (tmp_path / "checkpoints").iterdir():
        contents = torch.load(path, weights_only=True)
        contents.pop(CHECKSUM)
        packed = contents[KEY]
        for node in (packed["config"], packed["config"]["model"], packed["choices"]):
            del node["prior"]
        torch.save(contents, path)
    assert isinstance(load(*find(str(tmp_path))).model.prior, Standard)
    assert State.read(tmp_path).resumable().config.prior._target_ == "aecli.priors.Standard"


def test_pseudo_inputs_are_those_of_the_seed_and_change_in_training(tmp_path):
    prior = ("prior=vamp", "prior.pseudo_inputs=5")
    inputs = []
    for name, epochs in (("a", 0), ("b", 0), ("c", 2)):
        run(tmp_path / name, "model=vae", *prior, *SHORT, f"trainer.max_epochs={epochs}")
        inputs.append(load(*find(str(tmp_path / name))).model.prior.inputs)
    assert torch.equal(inputs[0], inputs[1])
    assert not torch.equal(inputs[0], inputs[2])
    assert (inputs[0] - inputs[2]).abs().max() < 0.5
