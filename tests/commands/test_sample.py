"""`aecli sample out=`: into a file or a folder, in the units of the run's data."""

import importlib
import shutil

import numpy as np
import pandas as pd
import pytest

from tests.commandline import aecli, is_one_line


@pytest.fixture
def home(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "home")


def test_samples_go_to_the_file_that_is_named_and_nowhere_else(home):
    before = {path for path in home.rglob("*") if path.is_file()}
    done = aecli("sample", "run=vae", "n=10", "out=samples.npz", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "written: samples.npz"
    assert {path for path in home.rglob("*") if path.is_file()} - before == {home / "samples.npz"}
    with np.load(home / "samples.npz") as arrays:
        assert arrays["examples"].shape == (10, 1, 8, 8)
        assert arrays["examples"].dtype == np.uint8
        assert arrays["examples"].max() <= 16  # in units of the data
        assert arrays["codes"].shape == (10, 3)


@pytest.mark.parametrize(
    ("command", "module", "word"),
    [("sample", "sample", "kind=prior"), ("eval", "evaluate", "eval.protocol=none")],
)
def test_nothing_is_written_into_the_place_of_a_run_that_was_deleted(
    home, monkeypatch, command, module, word
):
    module = importlib.import_module(f"aecli.commands.{module}")
    load = module.load

    def deleted(*places, **others):
        found = load(*places, **others)
        assert found.data
        shutil.rmtree(home / "vae")
        return found

    monkeypatch.setattr(module, "load", deleted)
    told = aecli(command, "run=vae", word, cwd=home)
    assert is_one_line(told)
    assert "has been deleted meanwhile" in told.stderr
    assert not (home / "vae").exists()


def test_images_go_to_a_folder_and_rows_to_a_table(home):
    assert aecli("sample", "run=vae", "n=3", "out=new/", cwd=home).returncode == 0
    assert sorted(path.name for path in (home / "new").iterdir()) == ["0.png", "1.png", "2.png"]
    assert aecli("sample", "run=table", "n=7", "out=people2.csv", cwd=home).returncode == 0
    frame = pd.read_csv(home / "people2.csv")
    assert list(frame) == ["who", "z0", "z1", "z2", "age", "height", "town"]
    assert frame["height"].between(100, 250).all()


def test_a_run_of_one_training_example_has_codes_without_a_deviation(tmp_path):
    words = ("model=ae", "model.code_dim=2", "network.hidden=[8]", "pictures_every=0")
    one = ("dataset.train_size=1", "dataset.batch_size=1", "trainer.max_epochs=1")
    assert aecli("train", *words, *one, "hydra.run.dir=one", cwd=tmp_path).returncode == 0
    for kind in ("traverse", "manifold"):
        done = aecli("sample", "run=one", f"kind={kind}", "steps=3", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        with np.load(tmp_path / "one" / "samples" / f"{kind}.npz") as arrays:
            assert np.isfinite(arrays["codes"]).all()
    for density, least in (("gaussian", 2), ("gmm", 10)):
        done = aecli("sample", "run=one", f"density={density}", cwd=tmp_path)
        told = f"density={density}: needs {least} training examples, and the run has 1"
        assert done.stderr == f"aecli: {told}\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run=vae overwrite=true", "overwrite=true: goes with out=…"),
        ("run=vae out=x.npy", "out=x.npy: exists already"),
        ("run=rows kind=reconstruct out=new/", "is a folder for images, and the run's examples"),
        ("run=vae out=grid.gif", "out=grid.gif: must end in one of .csv"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(line, message, home):
    before = sorted(home.rglob("*"))
    done = aecli("sample", *line.split(), cwd=home)
    assert is_one_line(done), done.stderr
    assert message in done.stderr
    assert sorted(home.rglob("*")) == before
