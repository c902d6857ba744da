import shutil

import pytest
import torch
from omegaconf import OmegaConf

from aecli.commands.train import train
from aecli.commands.verify import main
from aecli.errors import SettingError
from aecli.runs.checkpoint import read
from aecli.runs.paths import BEST, LAST, checkpoint_path
from tests.conftest import configure
from tests.hostile import refusal


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Return a folder of one run, trained and with its settings written as Hydra does."""
    folder = tmp_path_factory.mktemp("outputs")
    config, choices = configure("trainer=debug", "model=ae", "network.hidden=[8]")
    train(config, folder / "ae-digits" / "now", choices)
    (folder / "ae-digits" / "now" / ".hydra").mkdir()
    OmegaConf.save(config, folder / "ae-digits" / "now" / ".hydra" / "config.yaml")
    return folder


@pytest.fixture
def run(outputs, tmp_path):
    """Return a copy of the run."""
    return shutil.copytree(outputs / "ae-digits" / "now", tmp_path / "run")


def test_an_undamaged_run_is_fine(outputs, capsys):
    main([str(outputs)])
    assert capsys.readouterr().out.count("ok") == 3
    main([str(checkpoint_path(outputs / "ae-digits" / "now", BEST))])
    assert capsys.readouterr().out.count("ok") == 1


def flip(path):
    data = bytearray(path.read_bytes())
    start = data.index(b"config")
    data[start] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("checkpoints/best.ckpt", flip, "best.ckpt: cannot be read as a checkpoint"),
        ("checkpoints/last.ckpt", lambda path: path.write_bytes(b""), "last.ckpt: cannot be read"),
        (".hydra/config.yaml", lambda path: path.write_text("a: &a [*a]"), "has a YAML alias"),
        (".hydra/config.yaml", lambda path: path.write_text("a: ${oc.env:HOME}"), "oc.env"),
        ("metrics.json", lambda path: path.write_text('{"val": 3}'), "metrics.json: damaged (val)"),
        ("metrics.json", lambda path: path.write_text("{"), "metrics.json: damaged"),
    ],
)
def test_a_damaged_file_is_named(run, name, damage, reason):
    damage(run / name)
    with pytest.raises(SettingError, match="1 of 1 runs are damaged") as refused:
        main([str(run)])
    assert reason in str(refused.value)
    assert str(refused.value).count("\n") == 1


def test_all_damaged_files_are_named(run):
    flip(checkpoint_path(run, BEST))
    flip(checkpoint_path(run, LAST))
    (run / "metrics.json").write_text("")
    with pytest.raises(SettingError) as refused:
        main([str(run)])
    assert str(refused.value).count("\n") == 3


def test_weights_that_are_not_those_of_the_model_are_found(run):
    path = checkpoint_path(run, BEST)
    checkpoint = read(path)
    checkpoint["state_dict"].popitem()
    torch.save(checkpoint, path)  # with sums that are right
    with pytest.raises(SettingError, match="its weights are not those of its model"):
        main([str(run)])


def test_a_place_without_runs_is_refused(tmp_path):
    assert "no run lies there" in refusal(main, [str(tmp_path)])
    assert "no run lies there" in refusal(main, [str(tmp_path / "nowhere")])
