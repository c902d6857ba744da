"""`aecli sample out=`: into a file or a folder, in the units of the run's data."""

import importlib
import shutil

import numpy as np
import pandas as pd
import pytest

from aecli.runs.listed import foreign_files
from tests.commandline import aecli, is_one_line
from tests.tables import train_on


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


def test_what_is_drawn_of_a_run_can_be_deleted_with_it(home):
    for kind in ("prior", "prior", "reconstruct", "interpolate", "traverse"):
        done = aecli("sample", "run=vae", f"kind={kind}", cwd=home)
        assert (done.returncode, done.stderr) == (0, "")
    assert len(list((home / "vae" / "samples").iterdir())) >= 10
    assert not foreign_files(home / "vae")


def test_it_takes_a_sweep_of_settings(home):
    done = aecli("sample", "-m", "run=vae", "seed=0,1", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((home / "vae" / "samples").glob("*.npz"))) >= 2
    (sweep,) = (home / "outputs" / "sweeps").iterdir()
    assert sweep.name.endswith("_sample")


def test_images_go_to_a_folder_and_rows_to_a_table(home):
    assert aecli("sample", "run=vae", "n=3", "out=new/", cwd=home).returncode == 0
    assert sorted(path.name for path in (home / "new").iterdir()) == ["0.png", "1.png", "2.png"]
    assert aecli("sample", "run=table", "n=7", "out=people2.csv", cwd=home).returncode == 0
    frame = pd.read_csv(home / "people2.csv")
    assert list(frame) == ["who", "z0", "z1", "z2", "age", "height", "town"]
    assert frame["height"].between(100, 250).all()


def test_test_examples_of_a_table_have_no_entries_that_were_made_up(tmp_path):
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"a": draw.normal(size=80), "n": np.arange(80) % 7})
    table["c"] = np.where(np.arange(80) % 2, "x", "y")
    table.loc[72, ["a", "c"]] = np.nan
    table.loc[73, "c"] = "never seen"
    train_on(table, 70, tmp_path)
    done = aecli("sample", "run=run", "kind=reconstruct", "n=10", "out=pairs.csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    shown, made = pairs[::2].reset_index(), pairs[1::2]
    pd.testing.assert_series_equal(shown["a"], table["a"][70:].reset_index(drop=True), rtol=1e-5)
    assert shown["c"].isna().tolist() == [n in (2, 3) for n in range(10)]
    assert shown["n"].tolist() == table["n"][70:].tolist()
    assert made.notna().all(axis=None)


def test_a_table_with_columns_like_those_of_codes_is_refused(tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=["z0", "z1", "z2"])
    table.to_csv(tmp_path / "t.csv", index=False)
    words = ("dataset=table", "dataset.file=t.csv", "model.code_dim=2", "hydra.run.dir=run")
    assert aecli("train", "model=pca", *words, cwd=tmp_path).returncode == 0
    told = aecli("sample", "run=run", "density=gaussian", "n=3", "out=s.csv", cwd=tmp_path)
    assert is_one_line(told)
    assert "out=s.csv: the table has a column z0, as the codes have; train on one" in told.stderr
    assert not (tmp_path / "s.csv").exists()
    done = aecli("sample", "run=run", "density=gaussian", "n=3", "out=s.npz", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


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
