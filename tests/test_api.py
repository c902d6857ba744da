"""The Python face: `aecli.load`."""

import doctest
import subprocess
import sys

import pytest
import torch

import aecli
from aecli.commands.train import train
from aecli.errors import SettingError
from tests.conftest import configure


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Train two tiny runs in a sweep's folder."""
    root = tmp_path_factory.mktemp("work") / "outputs"
    for number in range(2):
        directory = root / "sweeps" / "one" / str(number)
        config, choices = configure("trainer=debug", "network.hidden=[8]", "pictures_every=0")
        train(config, directory, choices)
        (directory / ".hydra").mkdir()
        (directory / ".hydra" / "config.yaml").touch()
    return root


def test_the_example_of_the_package_runs(outputs, monkeypatch):
    monkeypatch.chdir(outputs.parent)
    names = {}
    (example,) = doctest.DocTestFinder(recurse=False).find(aecli, "aecli", globs=names)
    assert doctest.DocTestRunner().run(example, clear_globs=False).attempted == 4
    codes, model = example.globs["codes"], example.globs["run"].model
    assert codes.shape == (len(example.globs["batch"].original), model.code_dim)
    assert not model.training


def test_a_directory_and_a_checkpoint_are_the_same_run(outputs):
    directory = outputs / "sweeps" / "one" / "1"
    first = aecli.load(str(directory))
    second = aecli.load(str(directory / "checkpoints" / "best.ckpt"), device="cpu")
    assert first.choices["model"] == "vae"
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name])


def test_a_sweep_is_no_run(outputs):
    with pytest.raises(SettingError, match="is a sweep of 2 runs; name one of them"):
        aecli.load(str(outputs / "sweeps" / "one"))


def test_importing_it_imports_no_torch():
    code = "import sys, aecli; sys.exit(bool({'torch', 'lightning', 'hydra'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
