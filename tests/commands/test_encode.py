"""`aecli encode`, and what the commands have in common that take examples through a model."""

import shutil
import signal
import time

import numpy as np
import pandas as pd
import pytest
import torch

from aecli.runs.find import find
from aecli.runs.load import load
from tests.commandline import aecli, is_one_line, started
from tests.whole import contents

NEW = ("dataset.file=new.npz", "dataset.key=x", "dataset.labels=y", "dataset.ids=names")


@pytest.fixture
def home(trained, tmp_path):
    """Return a copy of the folder of trained models."""
    return shutil.copytree(trained, tmp_path / "home")


def test_rows_of_several_splits_without_ids_are_told_in_their_order(home):
    for command in ("encode", "reconstruct"):
        done = aecli(command, "run=vae", "out=rows.npy", "overwrite=true", cwd=home)
        assert done.stdout.splitlines()[-1] == (
            "written: rows.npy (rows of train, then validation, then test; an .npz has their ids,"
            " too)"
        )
    done = aecli("encode", "run=rows", *NEW, "out=new.npy", cwd=home)
    assert done.stdout.splitlines()[-1] == "written: new.npy"


def test_the_codes_of_all_splits_are_those_of_the_model(home):
    done = aecli("encode", "run=vae", "out=codes.csv", "batch_size=100", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "written: codes.csv"
    frame = pd.read_csv(home / "codes.csv")
    assert list(frame) == ["id", "split", "label", "z0", "z1", "z2"]
    loaded = load(*find(str(home / "vae")))
    for name, split in loaded.data.splits.items():
        part = frame[frame["split"] == name]
        assert list(part["id"]) == list(split.ids)
        assert list(part["label"]) == split.labels.tolist()
        with torch.no_grad():
            codes = loaded.model.encode(loaded.card.scaled(split.values))
        np.testing.assert_allclose(part[["z0", "z1", "z2"]], codes, rtol=1e-4, atol=1e-5)
    assert set(frame["split"]) == {"train", "validation", "test"}


def test_new_examples_have_their_own_names_and_classes(home):
    done = aecli("encode", "run=rows", *NEW, "out=codes.npz", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert "40 rows of 5 numbers" in done.stdout
    with np.load(home / "codes.npz") as arrays:
        assert set(arrays) == {"ids", "split", "labels", "codes"}
        assert list(arrays["ids"][:2]) == ["row 0", "row 1"]
        assert set(arrays["split"]) == {"new"}
        assert list(arrays["labels"]) == ["normal"] * 30 + ["odd"] * 10
        assert arrays["codes"].shape == (40, 3)
    assert aecli("encode", "run=rows", "dataset.file=x.npy", "out=x.csv", cwd=home).returncode == 0
    assert list(pd.read_csv(home / "x.csv")) == ["id", "split", "z0", "z1", "z2"]  # no labels


def test_names_and_classes_in_files_of_their_own_are_those_of_the_runs_examples(tmp_path):
    draw = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", draw.normal(size=(80, 4)))
    np.save(tmp_path / "ids.npy", [f"patient{n}" for n in range(80)])
    np.save(tmp_path / "y.npy", ["normal", "odd"] * 40)
    own = ("dataset=array", "dataset.file=x.npy", "dataset.ids=ids.npy", "dataset.labels=y.npy")
    done = aecli("train", "model=pca", *own, "model.code_dim=2", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, count in (("new80", 80), ("new7", 7)):
        np.save(tmp_path / f"{name}.npy", draw.normal(size=(count, 4)))
        line = ("encode", "run=run", f"dataset.file={name}.npy", f"out={name}.csv")
        done = aecli(*line, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        frame = pd.read_csv(tmp_path / f"{name}.csv")
        assert list(frame) == ["id", "split", "z0", "z1"]
        assert list(frame["id"]) == list(range(count))
    line = ("encode", "run=run", "dataset.file=new80.npy", "dataset.ids=ids.npy", "out=named.csv")
    assert aecli(*line, cwd=tmp_path).returncode == 0
    assert pd.read_csv(tmp_path / "named.csv")["id"][3] == "patient3"
    line = ("encode", "run=run", "dataset.file=new7.npy", "dataset.ids=ids.npy", "out=z.csv")
    done = aecli(*line, cwd=tmp_path)
    assert is_one_line(done)
    assert "dataset.ids=ids.npy: is of shape (80,); must be (7,)" in done.stderr


def test_the_array_of_a_new_file_need_not_have_the_name_of_the_runs(tmp_path):
    x = np.random.default_rng(0).normal(size=(80, 4))
    np.savez(tmp_path / "run.npz", x=x, y=np.arange(80) % 2)
    np.savez(tmp_path / "same.npz", x=x[:9], y=np.arange(9) % 2)
    np.savez(tmp_path / "bare.npz", x=x[:9])
    np.save(tmp_path / "bare.npy", x[:9])
    own = ("dataset=array", "dataset.file=run.npz", "dataset.key=x", "dataset.labels=y")
    done = aecli("train", "model=pca", *own, "model.code_dim=2", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, has_labels in (("same.npz", True), ("bare.npz", False), ("bare.npy", False)):
        line = ("encode", "run=run", f"dataset.file={name}", "out=z.csv", "overwrite=true")
        done = aecli(*line, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert ("label" in pd.read_csv(tmp_path / "z.csv")) == has_labels


def test_new_rows_are_of_one_split_whatever_a_column_says(home):
    people = pd.read_csv(home / "people.csv")
    people["part"] = np.where(np.arange(len(people)) % 4, "train", "test")
    people.to_csv(home / "parts.csv", index=False)
    own = ("dataset=table", "dataset.file=parts.csv", "dataset.split=part", "dataset.id=who")
    words = ("model=ae", "network.hidden=[4]", "model.code_dim=2", "trainer.max_epochs=1")
    done = aecli("train", *own, *words, "pictures_every=0", "hydra.run.dir=parts", cwd=home)
    assert done.returncode == 0, done.stderr
    people[people["part"] == "test"].replace("test", "holdout").to_csv(home / "t.csv", index=False)
    done = aecli("encode", "run=parts", "dataset.file=t.csv", "out=t.npz", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")


def test_columns_in_another_order_and_more_of_them_are_the_same(home):
    people = pd.read_csv(home / "people.csv")
    people[["kind", "town", "height", "who", "age"]].assign(more=1).to_csv(
        home / "mixed.csv", index=False
    )
    for name in ("people", "mixed"):
        words = ("run=table", f"dataset.file={name}.csv", f"out={name}_codes.csv")
        assert aecli("encode", *words, cwd=home).returncode == 0
    assert (home / "people_codes.csv").read_text() == (home / "mixed_codes.csv").read_text()
    assert (
        (home / "people_codes.csv").read_text().startswith("id,split,label,z0,z1,z2\np0,new,norm")
    )


MISTAKES = [
    ("run=vae", "out=null: must be a path, such as out=codes.csv"),
    ("run=vae out=codes", "out=codes: must end in one of .csv, .tsv, .parquet, .npy, .npz"),
    ("run=vae out=nowhere/codes.csv", "out=nowhere/codes.csv: there is no folder nowhere"),
    ("run=vae out=vae", "out=vae: must end in"),
    ("run=vae out=precious.csv", "out=precious.csv: exists already; name another, or add overwr"),
    ("run=rows dataset.file=new.npz out=new.npz", "out=new.npz: is, or lies in, what is read"),
    ("run=. out=codes.csv", "run=.: holds 4 runs; name one of them"),
    ("run=vae out=codes.csv dataset.file=x.npy", "dataset.file=x.npy: the run's data set has no"),
    ("run=rows out=codes.csv dataset.root=x", "it has dataset.file"),
    ("run=vae out=codes.csv dataset.root=new", "dataset.root=new: the run's data set has no such"),
    ("run=rows out=codes.csv dataset.labels=y", "dataset.labels=y: is of new data; add dataset.f"),
    ("run=table out=codes.csv dataset.file=lacking.csv", "lacks the columns age"),
    ("run=table out=codes.csv dataset.file=paris.csv", "column town has the categories Paris"),
    ("run=table out=codes.csv dataset.file=x.npy", "x.npy: must end in one of .csv"),
    ("run=rows out=codes.csv dataset.file=no.npy", "no.npy: no such file"),
    ("run=rows out=codes.csv dataset.file=wide.npy", "the run was trained on rows of 5 n"),
    ("run=vae out=codes.csv batch_size=0", "batch_size=0: must be a whole number of at least 1"),
    ("run=vae out=codes.csv overwrite=perhaps", "overwrite=perhaps: must be true or false"),
    ("run=vae out=codes.csv model=ae", "model=ae: a run keeps its parts (see aecli encode --help)"),
    ("run=vae out=codes.csv dataset.size=3", "dataset.size: no such setting"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(line, message, home):
    (home / "precious.csv").write_text("precious")
    np.save(home / "wide.npy", np.zeros((4, 9), np.float32))
    people = pd.read_csv(home / "people.csv")
    people.drop(columns="age").to_csv(home / "lacking.csv", index=False)
    people.replace("Rome", "Paris").to_csv(home / "paris.csv", index=False)
    before = contents(home)
    done = aecli("encode", *line.split(), cwd=home)
    assert is_one_line(done), done.stderr
    assert message in done.stderr
    assert contents(home) == before


def test_what_a_run_was_trained_on_is_not_replaced(trained, home):
    before = (trained / "x.npy").read_bytes()
    done = aecli("encode", "run=rows", f"out={trained}/x.npy", "overwrite=true", cwd=home)
    assert is_one_line(done)
    assert "x.npy: is, or lies in, what is read" in done.stderr
    assert (trained / "x.npy").read_bytes() == before


@pytest.mark.parametrize("command", ["encode", "score", "reconstruct", "decode", "explore"])
def test_help_and_configuration_are_there(command, tmp_path):
    told = aecli(command, "--help", cwd=tmp_path)
    assert told.returncode == 0
    assert f"aecli {command} [SETTING=VALUE ...]" in told.stdout
    shown = aecli(command, "--cfg", "job", cwd=tmp_path).stdout
    assert "run: latest" in shown
    assert "overwrite: false" in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(home):
    before = contents(home)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    words = ("score", "run=vae", "kind=marginal_nll", "importance_samples=100000", "out=scores.csv")
    job = started(*words, "quantile=null", cwd=home)
    signal.signal(signal.SIGINT, handler)
    for _ in range(600):
        if list(home.glob(".scores.csv.*")):
            break
        time.sleep(0.1)
    job.send_signal(signal.SIGINT)
    _, told = job.communicate(timeout=300)
    assert job.returncode == 130
    assert told == "aecli: interrupted; nothing is half written: start it again\n"
    assert contents(home) == before
