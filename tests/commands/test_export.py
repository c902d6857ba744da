"""`aecli export`: what is written, checked, refused, and left."""

import json

import pytest
import torch
from safetensors.torch import load_file

from aecli.commands import export
from aecli.commands.train import train
from aecli.config import composed
from aecli.errors import SettingError
from aecli.runs.find import find
from aecli.runs.load import load
from aecli.runs.weights import read_folder
from tests.conftest import configure


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("work") / "run"
    config, choices = configure(
        "trainer=debug", "network.hidden=[8]", "network.tied=true", "pictures_every=0"
    )
    train(config, directory, choices)
    (directory / ".hydra").mkdir(exist_ok=True)
    return directory


def exported(run, **settings):
    export.main(composed("export", f"run={run}", *(f"{k}={v}" for k, v in settings.items())))


@pytest.mark.parametrize("part", ["encoder", "decoder", "all"])
def test_a_graph_that_agrees_is_written(run, tmp_path, caplog, part):
    caplog.set_level("INFO", "aecli")
    out = tmp_path / "model.pt2"
    exported(run, out=out, part=part)
    about = {"aecli": ""}
    module = torch.export.load(out, extra_files=about).module()
    told = json.loads(about["aecli"])
    assert told["card"] == {"kind": "scaled", "state": {"shape": [1, 8, 8], "scale": 16.0}}
    assert told["choices"]["model"] == "vae"
    loaded = load(*find(str(run)))
    stored = loaded.data.splits["test"].values[:7]
    code = loaded.model.encode(loaded.card.scaled(stored))
    given = code if part == "decoder" else stored
    assert told["input"]["shape"] == list(given.shape[1:])
    made = module(given)
    if part != "decoder":
        torch.testing.assert_close(made[0], code)
    if part != "encoder":
        mean = loaded.model.decode(code).mean
        torch.testing.assert_close(made[-1], mean * 16)
    assert "largest difference" in caplog.text
    assert "over 100 examples" in caplog.text


def test_a_folder_of_weights_is_rebuilt(run, tmp_path):
    out = tmp_path / "model.safetensors"
    exported(run, out=out)
    assert {path.name for path in out.iterdir()} == {
        "model.safetensors", "config.json", "card.json"
    }  # fmt: skip
    loaded, rebuilt = load(*find(str(run))), read_folder(out)
    stored = loaded.data.splits["test"].values[:7]
    x = rebuilt.card.scaled(stored)
    torch.testing.assert_close(rebuilt.model.reconstruct(x), loaded.model.reconstruct(x))
    assert load_file(out / "model.safetensors").keys() == loaded.model.state_dict().keys()


def test_weights_of_another_model_are_refused(run, tmp_path):
    out = tmp_path / "model.safetensors"
    exported(run, out=out)
    text = (out / "config.json").read_text()
    (out / "config.json").write_text(text.replace('"code_dim": 20', '"code_dim": 10'))
    with pytest.raises(SettingError, match=r"weights of .* are not of shape"):
        read_folder(out)
    (out / "config.json").write_text(text.replace("aecli.models.VAE", "os.system"))
    with pytest.raises(SettingError, match=r"not a part of aecli"):
        read_folder(out)


def test_without_its_data_it_is_compared_on_random_examples(run, tmp_path, monkeypatch, caplog):
    def gone(*_):
        raise SettingError("it is not there")

    monkeypatch.setattr("aecli.data.sources.Digits.read", gone)
    caplog.set_level("INFO", "aecli")
    exported(run, out=tmp_path / "model.pt2")
    assert "compared on random examples: it is not there" in caplog.text
    assert (tmp_path / "model.pt2").is_file()


@pytest.mark.parametrize("name", ["model.pt2", "model.safetensors"])
def test_nothing_is_left_of_what_differs(run, tmp_path, monkeypatch, name):
    monkeypatch.setattr(export, "MOST", 1e-12)
    with pytest.raises(SettingError, match=r"differs from the run"):
        exported(run, out=tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "out=null: must be a path, such as out=model.onnx"),
        ({"out": "model.bin"}, r"out=model\.bin: must end in one of .*\.onnx"),
        ({"out": "none/model.pt2"}, "there is no folder none"),
        ({"out": "model.pt2", "part": "half"}, "part=half: must be one of encoder, decoder, all"),
        ({"out": "m.safetensors", "part": "encoder"}, r"part=encoder: goes with \.onnx and \.pt2"),
        ({"out": "there.pt2"}, r"there\.pt2: exists already; name another, or add overwrite"),
        ({"out": "there.safetensors"}, "exists already; name a new or an empty folder"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(run, tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pt2").write_text("mine")
    (tmp_path / "there.safetensors").mkdir()
    (tmp_path / "there.safetensors" / "mine").touch()
    with pytest.raises(SettingError, match=message):
        exported(run, **settings)
    assert (tmp_path / "there.pt2").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_overwrite_replaces_a_file(run, tmp_path):
    out = tmp_path / "model.pt2"
    out.write_text("old")
    exported(run, out=out, overwrite="true", part="encoder")
    assert torch.export.load(out)
