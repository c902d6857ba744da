import os
import pickle

import pytest
import torch
from omegaconf import OmegaConf

from aecli.errors import SettingError
from aecli.runs.checkpoint import KEY, AtomicCheckpointIO, pack, read
from aecli.runs.find import Run, find
from aecli.runs.load import load
from aecli.runs.metrics_file import update_metrics


def make_run(path, *names):
    (path / ".hydra").mkdir(parents=True)
    (path / ".hydra" / "config.yaml").touch()
    for name in names:
        (path / "checkpoints").mkdir(exist_ok=True)
        (path / "checkpoints" / name).touch()
    return path


def test_find_takes_a_directory_a_file_a_sweep_and_latest(tmp_path):
    old = make_run(tmp_path / "vae-digits" / "1", "best.ckpt", "last.ckpt")
    other = make_run(tmp_path / "sweeps" / "now" / "10_b", "last.ckpt")
    new = make_run(tmp_path / "sweeps" / "now" / "9_a", "best.ckpt")
    make_run(tmp_path / "vae-digits" / "2")  # the newest, but with nothing to load
    for age, path in enumerate([new, other, old]):
        os.utime(path / ".hydra" / "config.yaml", (10**9 - age, 10**9 - age))
    assert find(str(old)) == [Run(old, old / "checkpoints" / "best.ckpt")]
    last = old / "checkpoints" / "last.ckpt"
    assert find(str(last)) == [Run(old, last)]
    assert [run.directory for run in find(str(tmp_path / "sweeps" / "now"))] == [new, other]
    assert find("latest", str(tmp_path))[0].directory == new


def test_find_takes_folders_of_runs_and_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vae = make_run(tmp_path / "outputs" / "vae-digits" / "1", "best.ckpt")
    ae = make_run(tmp_path / "outputs" / "ae-digits" / "1", "best.ckpt")
    job = make_run(tmp_path / "outputs" / "sweeps" / "now" / "0", "last.ckpt")
    make_run(vae / "eval" / "no-run", "best.ckpt")
    make_run(tmp_path / "outputs" / "a" / "b" / "c" / "d" / "deep", "best.ckpt")
    found = {
        spec: {run.directory.resolve() for run in find(spec)}
        for spec in ("outputs", "outputs/*-digits", "outputs/*/*", "outputs/[av]ae-*/1")
    }
    assert found["outputs"] == {vae, ae, job}
    assert found["outputs/*-digits"] == {vae, ae}
    assert found["outputs/*/*"] >= {vae, ae, job}
    assert found["outputs/[av]ae-*/1"] == {vae}
    with pytest.raises(SettingError, match=r"run=outputs/x\*: no such file or directory"):
        find("outputs/x*")
    with pytest.raises(SettingError, match="output_dir=other: goes with run=latest"):
        find("outputs/*", "other")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "run=.*nowhere: no such file or directory"),
        ("half", "run=.*half: has no checkpoint: its training stopped"),
        ("empty", "run=.*empty: not a run's directory"),
    ],
)
def test_find_says_what_is_missing(tmp_path, spec, message):
    make_run(tmp_path / "half")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match=message):
        find(str(tmp_path / spec))
    with pytest.raises(SettingError, match="run=latest: no run with a checkpoint"):
        find("latest", str(tmp_path))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_checkpoint_cannot_run_code(tmp_path):
    path = tmp_path / "evil.ckpt"
    for write in (torch.save, lambda value, to: to.write_bytes(pickle.dumps(value))):
        write({KEY: Evil(str(tmp_path / "ran"))}, path)
        with pytest.raises(SettingError, match="cannot be read"):
            load(Run(tmp_path, path))
    model = {"_target_": "os.mkdir", "path": str(tmp_path / "ran")}
    packed = {"config": {"model": model, "dataset": {}}, "choices": {"dataset": "digits"}}
    torch.save({KEY: packed}, path)
    with pytest.raises(SettingError, match="not a part of aecli"):
        load(Run(tmp_path, path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}}, "not one made by aecli"),
        ([1, 2], "not one made by aecli"),
        ({KEY: {"config": {}, "choices": {}}}, "holds no run that aecli"),
        ({KEY: 3}, "not one made by aecli"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path, content, message):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(SettingError, match=message):
        load(Run(tmp_path, path))


@pytest.mark.parametrize("size", [0, 10, 500, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, size):
    path = tmp_path / "cut.ckpt"
    torch.save({"state_dict": {"w": torch.ones(500)}}, path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(SettingError, match=r"cut.ckpt: cannot be read as a checkpoint"):
        load(Run(tmp_path, path))


def test_an_interrupted_save_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(AttributeError):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2, "bad": lambda: 0}, path)
    assert torch.load(path, weights_only=True)["epoch"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_pack_is_plain_and_resolved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = OmegaConf.create({"a": "${dataset.root}", "dataset": {"root": "data"}})
    packed = pack(config, {"model": "vae"})
    assert type(packed["config"]) is dict
    assert packed["config"]["dataset"]["root"] == str(tmp_path / "data")
    assert packed["config"]["a"] == "data"


def test_metrics_are_added_to(tmp_path):
    update_metrics(tmp_path, {"val": {"loss": 1.0}})
    update_metrics(tmp_path, {"test": {"loss": 2.0}})
    text = (tmp_path / "metrics.json").read_text()
    assert '"val"' in text
    assert '"test"' in text
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from aecli.commands.train import train
    from tests.conftest import configure

    directory = tmp_path_factory.mktemp("run")
    config, choices = configure("trainer=debug", "model=ae")
    train(config, directory, choices)
    return read(directory / "checkpoints" / "best.ckpt")


def save(trained, path, **changes):
    packed = trained[KEY]
    config = OmegaConf.create(packed["config"])
    for key, value in changes.pop("config", {}).items():
        OmegaConf.update(config, key, value, merge=False)
    packed = packed | {"config": OmegaConf.to_container(config)} | changes.pop("packed", {})
    torch.save(trained | {KEY: packed} | changes, path)
    return Run(path.parent, path)


def test_where_data_comes_from_is_not_taken_from_a_checkpoint(trained, tmp_path):
    source = {
        "_target_": "aecli.data.IDXFiles",
        "name": "../planted",
        "folder": "x",
        "mirrors": ["http://127.0.0.1:9/"],
        "sha256": {"../planted/sitecustomize.py": "0"},
        "shape": [1, 8, 8],
    }
    run = save(trained, tmp_path / "a.ckpt", config={"dataset.source": source})
    loaded = load(run)
    assert type(loaded.data.source).__name__ == "Digits"
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_an_interpolation_in_a_checkpoint_is_not_resolved(trained, tmp_path):
    run = save(trained, tmp_path / "a.ckpt", config={"dataset.root": "${oc.env:HOME}"})
    with pytest.raises(SettingError, match="tampered"):
        load(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"packed": {"config": None}},
        {"packed": {"config": [1]}},
        {"packed": {"choices": {"model": "ae", "dataset": "../mnist"}}},
        {"config": {"model.noise": {"_target_": "lightning.pytorch.Trainer"}}},
        {"config": {"model": {"_target_": "aecli.noise.Noise"}}},
        {"config": {"model.likelihood": {"_target_": "aecli.noise.Noise"}}},
        {"config": {"model.network": None}},
        {"config": {"model.code_dim": 10**12}},
        {"config": {"model.code_dim": 31}},
        {"state_dict": None},
        {"state_dict": {"a": torch.ones(1)}},
        {"global_step": "x"},
    ],
)
def test_a_hostile_checkpoint_is_refused_plainly(trained, tmp_path, changes):
    run = save(trained, tmp_path / "a.ckpt", **changes)
    with pytest.raises(SettingError):
        load(run)


def test_weights_that_are_not_finite_are_refused(trained, tmp_path):
    state = {key: torch.full_like(value, torch.nan) for key, value in trained["state_dict"].items()}
    with pytest.raises(SettingError, match="not finite"):
        load(save(trained, tmp_path / "a.ckpt", state_dict=state))


def test_results_of_a_lone_checkpoint_go_beside_it_into_a_folder_of_their_own(tmp_path):
    (tmp_path / "metrics.json").write_text("mine")
    (tmp_path / "a.ckpt").touch()
    assert find(str(tmp_path / "a.ckpt"))[0].directory == tmp_path / "a-aecli"


@pytest.mark.parametrize("text", ["not json", "[]", "null", '{"test": 3'])
def test_damaged_metrics_are_told(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(SettingError, match=r"metrics\.json: damaged"):
        update_metrics(tmp_path, {"a": 1})
