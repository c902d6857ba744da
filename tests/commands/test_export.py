"""`aecli export`: what is written, checked, refused, and left."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aecli.commands import export
from aecli.commands.train import train
from aecli.config import composed
from aecli.errors import SettingError
from aecli.runs.dictionary_folders import FORMS, Coded, read_dictionary
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


def test_a_graph_of_a_run_with_one_test_example_takes_several(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(12, 6)))
    file = f"dataset.file={tmp_path}/x.npy"
    config, choices = configure("dataset=array", file, "dataset.test_size=1", "trainer=debug")
    train(config, tmp_path / "run", choices)
    exported(tmp_path / "run", out=tmp_path / "model.pt2", part="encoder")
    module = torch.export.load(tmp_path / "model.pt2").module()
    (code,) = module(torch.zeros(5, 6, dtype=torch.float64))
    assert len(code) == 5


def test_the_ending_may_be_in_capitals(run, tmp_path):
    exported(run, out=tmp_path / "model.PT2", part="encoder")
    torch.export.load(tmp_path / "model.PT2")
    exported(run, out=tmp_path / "model.SAFETENSORS")
    assert (tmp_path / "model.SAFETENSORS" / "model.safetensors").is_file()


ANOTHER_FORMAT = (
    "format=onnx: must be one of saelens, sparsify, or left out:"
    r" \.onnx, \.pt2, \.safetensors follow from out="
)


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


@pytest.fixture(scope="module")
def dictionary_run(tmp_path_factory):
    """Return a run of a dictionary on 8 columns far from 0, and the file of its rows."""
    folder = tmp_path_factory.mktemp("work")
    rows = np.random.default_rng(0).normal(5, 3, size=(400, 8))
    np.save(folder / "x.npy", rows.astype(np.float32))
    words = ("trainer=debug", "model=topk_sae", "model.code_dim=32", "sparsity.k=3")
    config, choices = configure(
        *words, "dataset=array", f"dataset.file={folder}/x.npy", "pictures_every=0"
    )
    train(config, folder / "run", choices)
    (folder / "run" / ".hydra").mkdir(exist_ok=True)
    return folder / "run"


@pytest.mark.parametrize("name", FORMS)
def test_a_dictionary_is_written_for_another_tool(dictionary_run, tmp_path, caplog, name):
    caplog.set_level("INFO", "aecli")
    form, out = FORMS[name], tmp_path / "my_sae"
    exported(dictionary_run, out=f"{out}/", format=name)
    assert sorted(path.name for path in out.iterdir()) == sorted(form.files)
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o666 & ~umask()}
    rows = torch.from_numpy(np.load(dictionary_run.parent / "x.npy"))
    loaded = load(*find(str(dictionary_run)))
    code, output = read_dictionary(form, out)(rows)
    torch.testing.assert_close(code, loaded.model.encode(loaded.card.scaled(rows)))
    own = loaded.model.reconstruct(loaded.card.scaled(rows))
    torch.testing.assert_close(output, loaded.card.leaving(own))
    assert "over 100 examples" in caplog.text or "over 40 examples" in caplog.text
    (out / form.weights).write_text("older")
    with pytest.raises(SettingError, match=r"exists already; name another, or add overwrite=true"):
        exported(dictionary_run, out=out, format=name)
    exported(dictionary_run, out=out, format=name, overwrite="true")
    assert (out / form.weights).stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["my_sae"]


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "onnx", "out": "a"}, ANOTHER_FORMAT),
        ({"format": "saelens"}, "out=null: must be a path, such as out=my_sae/"),
        ({"format": "saelens", "out": "a.onnx"}, r"out=a\.onnx: format=saelens writes a folder"),
        ({"format": "saelens", "out": "a", "part": "encoder"}, "part=encoder: goes with"),
        (
            {"format": "sparsify", "out": "theirs", "overwrite": "true"},
            r"out=theirs: holds other files than cfg\.json and sae\.safetensors; name a new folder",
        ),
        ({"out": "a.onnx"}, r"out=a\.onnx: a graph cannot hold .*; use format=saelens or sparsify"),
    ],
    ids=str,
)
def test_a_mistake_about_a_dictionary_is_one_line(
    dictionary_run, tmp_path, monkeypatch, settings, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "sae_weights.safetensors").write_text("theirs")
    with pytest.raises(SettingError, match=message):
        exported(dictionary_run, **settings)
    assert [path.name for path in tmp_path.rglob("*")] == ["theirs", "sae_weights.safetensors"]


def test_only_dictionaries_have_these_formats(run, tmp_path):
    with pytest.raises(SettingError, match=r"is for sparse dictionaries.*the run is of model=vae"):
        exported(run, out=tmp_path / "my_sae", format="saelens")
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_dictionary_that_differs(dictionary_run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MOST", 1e-12)
    with pytest.raises(SettingError, match=r"differ from the run's by .*; nothing is left of it"):
        exported(dictionary_run, out=tmp_path / "my_sae", format="saelens")
    assert not list(tmp_path.iterdir())


def test_another_latent_at_the_edge_is_let_pass_if_it_is_rare():
    code, output = torch.rand(100, 7), torch.rand(100, 3)
    other = code.clone()
    other[3, 2] = 0
    made, own = Coded(other, output + 1e-6), Coded(code, output)
    difference, edge = export.compared(made, own)
    assert edge == 1
    assert difference == pytest.approx(1e-6, rel=0.1)
    other[:10, 2] = 0
    with pytest.raises(SettingError, match="in 10 of 100 examples by another latent"):
        export.compared(made, own)


def test_an_output_that_is_no_number_is_a_difference():
    own = Coded(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0]]))
    assert export.compared(own, own) == (0.0, 0)
    with pytest.raises(SettingError, match="differ from the run's by nan"):
        export.compared(Coded(own.code, torch.tensor([[torch.nan]])), own)


def test_codes_that_are_all_0_agree():
    own = Coded(torch.zeros(1, 2), torch.zeros(1, 1))
    assert export.compared(own, own) == (0.0, 0)
