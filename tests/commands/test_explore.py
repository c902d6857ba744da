"""`aecli explore`: what is in the page, and what is refused."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

from aecli.explore import examples
from aecli.explore.model import statistics
from aecli.runs.find import find
from aecli.runs.load import load
from tests.commandline import aecli, is_one_line
from tests.explore.made import loaded, page


def data_of(text):
    """Return what a page knows, but for its arrays."""
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture
def home(trained, tmp_path):
    """Return a folder with the runs, and without anything that a test has made."""
    for name in ("vae", "ae", "rows", "table"):
        shutil.copytree(trained / name, tmp_path / name)
    for name in ("x.npy", "people.csv"):
        shutil.copy(trained / name, tmp_path / name)
    return tmp_path


def test_a_run_is_one_page(home):
    done = aecli("explore", "run=vae", "out=x.html", "examples=50", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "written: x.html (0." in done.stdout
    assert "50 test examples" in done.stdout
    assert "from weights of 16 bits: " in done.stdout
    data = data_of((home / "x.html").read_text())
    assert (data["title"], data["examples"]["count"]) == ("vae on digits", 50)
    (model,) = data["models"]
    assert (model["units"], model["prior"], model["likelihood"]["kind"]) == (
        3,
        "normal",
        "bernoulli",
    )
    assert [step["name"] for step in model["decoder"]] == ["linear", "relu", "linear"]
    assert sorted(set(data["examples"]["labels"])) == list(range(10))


def test_rows_and_tables_have_names_and_units(home):
    done = aecli("explore", "run=table", "out=t.html", "split=train", cwd=home)
    assert done.returncode == 0, done.stderr
    data = data_of((home / "t.html").read_text())
    assert data["title"] == "vae on people.csv"
    columns = {column["name"]: column for column in data["card"]["columns"]}
    assert list(columns) == ["age", "height", "town"]
    assert columns["town"]["categories"] == ["Oslo", "Rome"]
    assert 160 < columns["height"]["shift"] < 180
    assert data["examples"]["ids"][0].startswith("p")
    assert data["examples"]["names"] == ["normal"]
    done = aecli("explore", "run=rows", "out=r.html", cwd=home)
    assert done.returncode == 0, done.stderr
    data = data_of((home / "r.html").read_text())
    assert [column["name"] for column in data["card"]["columns"]] == [f"x{n}" for n in range(5)]
    assert data["examples"]["labels"] is None
    assert data["models"][0]["sum"] is True


def test_several_runs_are_one_page(home):
    done = aecli("explore", "run=[vae,ae]", "out=s.html", "examples=20", cwd=home)
    assert done.returncode == 0, done.stderr
    data = data_of((home / "s.html").read_text())
    assert data["keys"] == ["model"]
    assert [model["label"] for model in data["models"]] == ["vae", "ae"]  # as typed
    assert [model["prior"] for model in data["models"]] == ["normal", None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run=vae", "out=null: must be a path, such as out=explore.html"),
        ("run=vae out=x.png", "out=x.png: must end in one of .html"),
        ("run=vae out=old.html", "out=old.html: exists already"),
        ("run=vae out=no/x.html", "there is no folder no"),
        ("run=bare out=x.html", "run=bare: has no checkpoint"),
        ("run=nothing out=x.html", "run=nothing: no such file or directory"),
        ("run=[] out=x.html", "run=[]: must be a run, a sweep, or a list of them"),
        ("run=null out=x.html", "run=null: must be a run, a sweep, or a list of them"),
        ("run=[vae,rows] out=x.html", "has other test examples than"),
        ("run=vae out=x.html largest=0.001", "run=vae: the model would take 0.0"),
        ("run=vae out=x.html largest=0.001 grids=true", "the page has 0."),
        ("run=[vae,ae] out=x.html largest=0.001", "the 2 models would take 0.0"),
        ("run=vae out=x.html largest=0", "largest=0.0: must be a number above 0"),
        ("run=vae out=x.html examples=0", "examples=0: must be a whole number from 1 to "),
        ("run=vae out=x.html examples=5000", "(those of the test split)"),
        ("run=vae out=x.html split=all", "split=all: must be one of test, validation, train"),
        ("run=vae out=x.html dataset.file=x.npy", "dataset.file=x.npy: the run's data set has no"),
        ("run=vae out=x.html colour=red", "colour"),
    ],
)
def test_what_cannot_be_is_one_line(words, message, home):
    (home / "old.html").write_text("mine")
    (home / "bare" / ".hydra").mkdir(parents=True)
    done = aecli("explore", *words.split(), cwd=home)
    lines = done.stderr.splitlines()
    assert is_one_line(done), done.stderr
    assert message in lines[0]
    assert (home / "old.html").read_text() == "mine"
    assert not (home / "x.html").exists()


def test_the_message_of_a_large_model_says_what_to_do(home):
    done = aecli("explore", "run=vae", "out=x.html", "largest=0.001", cwd=home)
    assert "the limit is largest=0.001; add grids=true" in done.stderr


def test_a_network_that_no_page_computes_has_decodings_made_beforehand(tmp_path, caplog):
    caplog.set_level("INFO", "aecli")
    words = ("model=ae", "network=resnet", "network.channels=[4,4]")
    data = data_of(page(loaded(tmp_path, *words), examples=20))
    assert "cannot compute Residual" in caplog.text
    (model,) = data["models"]
    assert model["decoder"] is None
    assert (model["grid"]["columns"], model["grid"]["rows"]) == (25, 25)
    assert model["grid"]["decodings"]["length"] == 625 * 64
    assert model["grid"]["reconstructions"]["length"] == 20 * 64


@pytest.mark.parametrize("units", [1, 2, 5])
def test_the_grid_lies_on_the_map(tmp_path, units):
    data = data_of(page(loaded(tmp_path, "model=vae", f"model.code_dim={units}"), grids="true"))
    grid = data["models"][0]["grid"]
    assert (grid["columns"], grid["rows"]) == (25, 1 if units == 1 else 25)
    assert all(low < high for low, high in zip(grid["low"], grid["high"], strict=True))


def test_as_many_of_each_label_are_shown(tmp_path):
    split = loaded(tmp_path, "model=ae").data.splits["test"]
    places = examples.chosen(split, 53)
    assert len(set(places)) == 53
    assert list(places) == sorted(places)
    counts = split.labels[torch.from_numpy(places)].bincount()
    assert counts.max() - counts.min() <= 1
    everything = examples.chosen(split, len(split))
    assert np.array_equal(everything, np.arange(len(split)))


def test_the_statistics_are_those_of_the_test_split(trained):
    run = load(*find(str(trained / "vae")))
    found = statistics(run, "test")
    split = run.data.splits["test"]
    posterior = run.model.posterior(split.examples.card.scaled(split.values))
    assert found.examples == len(split)
    assert found.kl.sum() == pytest.approx(float(posterior.kl().mean()), rel=1e-4)
    assert np.allclose(found.variance, posterior.mean.var(dim=0, correction=0), rtol=1e-4)
    covariance = np.cov(posterior.mean.double().numpy().T, bias=True)
    largest = np.linalg.eigvalsh(covariance)[::-1][:2]
    along = np.einsum("nk,kl,nl->n", found.components, covariance, found.components)
    assert np.allclose(along, largest, rtol=1e-4)


def test_foreign_texts_stay_texts(home):
    table = (home / "people.csv").read_text().replace("Rome", "</script><b>&\u2028")
    (home / "people.csv").write_text(table)
    words = ["dataset=table", "dataset.file=people.csv", "dataset.id=who", "dataset.label=town"]
    done = aecli("train", "trainer=debug", *words, "hydra.run.dir=evil", cwd=home)
    assert done.returncode == 0, done.stderr
    done = aecli("explore", "run=evil", "out=e.html", cwd=home)
    assert done.returncode == 0, done.stderr
    text = (home / "e.html").read_text()
    assert text.count("</script>") == text.count("<script")
    assert any("</script><b>" in name for name in data_of(text)["examples"]["names"])
