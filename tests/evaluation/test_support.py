"""What a likelihood has no density for is refused: at the start, in an evaluation, in a score."""

import numpy as np
import pandas as pd
import pytest
import torch

import aecli
from aecli.build import build
from aecli.errors import SettingError
from aecli.evaluation.support import check_splits
from aecli.likelihoods import Bernoulli, ContinuousBernoulli, CrossEntropy, Gaussian, Mixed
from tests.commandline import aecli as typed
from tests.commandline import is_one_line
from tests.conftest import configure
from tests.tables import train_on

GREY = ("likelihood=continuous_bernoulli", "dataset.scale=none")
BINARY = ("likelihood=bernoulli", "dataset.scale=none")
TINY = ("dataset=array", "dataset.file=x.npy", "trainer=debug", "trainer.max_epochs=1")
SHORT = (*TINY, "network.hidden=[8]", "model.code_dim=2", "pictures_every=0")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with rows near the ends of [0, 1], and two runs of them."""
    folder = tmp_path_factory.mktemp("home")
    x = 0.05 + 0.3 * np.random.default_rng(0).random((200, 6)).astype(np.float32)
    x[:, 3:] = 1 - x[:, 3:]
    np.save(folder / "x.npy", x)
    for name, words in {"grey": GREY, "binary": BINARY}.items():
        done = typed("train", *SHORT, *words, f"hydra.run.dir={name}", cwd=folder)
        assert done.returncode == 0, done.stderr
    x = np.concatenate([x[:9], x[:2]])
    x[9, 3], x[10, 3] = 1.4, 1e4
    np.save(folder / "new.npy", x)
    return folder


def test_the_support_is_where_the_data_may_lie():
    x = torch.tensor([-0.1, 0.0, 0.3, 1.0, 1.1, torch.nan])
    assert Bernoulli().supports(x).tolist() == [False, True, False, True, False, False]
    for likelihood in (ContinuousBernoulli(), CrossEntropy()):
        assert likelihood.supports(x).tolist() == [False, True, True, True, False, False]
    assert Gaussian(1.0, learn_sigma=False).supports(x).all()


def test_new_examples_that_are_binarized_are_taken_as_those_of_the_splits_are(home):
    done = typed("score", "run=binary", "dataset.file=new.npy", "out=binary.csv", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "2 of them with values beyond [0, 1], which count as 0 and 1" in done.stdout
    assert np.isfinite(aecli.load(home / "binary").score(np.load(home / "new.npy"))).all()


def test_a_new_example_without_a_density_is_named(home):
    done = typed("score", "run=grey", "dataset.file=new.npy", "out=scores.csv", cwd=home)
    assert is_one_line(done), done.stderr
    assert "kind=elbo: example 9 has values from 0." in done.stderr
    assert "to 1.4 on the scale of the model's input" in done.stderr
    assert "values in [0, 1] alone; use kind=mse" in done.stderr
    assert not (home / "scores.csv").exists()
    run = aecli.load(home / "grey")
    new = np.load(home / "new.npy")
    for kind in ("elbo", "nll", "marginal_nll"):
        with pytest.raises(SettingError, match=rf"kind={kind}: example 9 has values .* to 1\.4 on"):
            run.score(new, kind)
        assert np.isfinite(run.score(new[:9], kind)).all()
    score = run.score(new, "mse")
    assert score.argmax() == 10
    assert score[9] > score[:9].max()


def test_an_estimator_refuses_such_an_example_too(home):
    x, new = np.load(home / "x.npy"), np.load(home / "new.npy")
    words = ("network.hidden=[4]", "likelihood=continuous_bernoulli")
    model = aecli.Autoencoder("vae", 2, 1, scale="none", random_state=0, overrides=words).fit(x)
    assert np.isfinite(model.score_samples(new[:9])).all()
    with pytest.raises(ValueError, match="kind=elbo: example 9 has values"):
        model.score_samples(new)


def test_a_category_that_the_training_split_lacks_is_no_normal_one(tmp_path):
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"a": draw.normal(size=60), "c": np.where(np.arange(60) % 2, "x", "y")})
    table.loc[55, "c"] = "never seen"
    train_on(table, 50, tmp_path)
    for kind in ("elbo", "nll", "marginal_nll"):
        done = typed("score", "run=run", f"kind={kind}", "out=s.csv", "quantile=null", cwd=tmp_path)
        assert is_one_line(done), done.stderr
        assert "example 55 of the test split has a category that the training" in done.stderr
        assert done.stderr.endswith("use kind=mse\n")
    done = typed("score", "run=run", "kind=mse", "out=s.csv", "quantile=null", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = typed("eval", "run=run", "eval.noise_levels=[]", "eval.pictures=false", cwd=tmp_path)
    assert done.returncode == 0, done.stderr  # it is left out as if it was missing


def test_what_is_missing_is_no_unknown_category():
    likelihood = Mixed([["number", 1], ["category", 3], ["category", 2], ["mask", 3]], 1.0, False)
    row = [0.5, 0, 1, 0, 0, 0, 1, 1, 0]
    unknown, known, of_number = [*row[:-1], 1], [*row[:4], 1, 0, 1, 1, 1], [*row[:6], 0, 1, 0]
    supported = likelihood.supports(torch.tensor([row, unknown, known, of_number]))
    assert supported.all(dim=1).tolist() == [True, False, True, True]
    assert supported[1].tolist() == [True] * 4 + [False] * 2 + [True] * 3


def of_split(name, folder):
    """Return the row of an example of a split."""
    config, _ = configure(*SHORT, f"dataset.file={folder / 'x.npy'}")
    data = build(config, "dataset")
    data.setup()
    return int(data.splits[name].ids[0])


@pytest.mark.parametrize(
    ("name", "split"),
    [("continuous_bernoulli", "validation"), ("bernoulli", "test")],
)
def test_a_split_that_is_held_out_is_looked_at_before_a_training(name, split, home, tmp_path):
    x = np.load(home / "x.npy")
    value, binarize = 1.3, ""
    if name == "bernoulli":
        x, value, binarize = x.round(), 0.4, "dataset.binarize=none"
    x[of_split(split, home), 2] = value
    np.save(tmp_path / "x.npy", x)
    words = (f"likelihood={name}", "dataset.scale=none", *filter(None, [binarize]))
    done = typed("train", *SHORT, *words, cwd=tmp_path)
    assert is_one_line(done), done.stderr
    assert f"likelihood={name}: is for values " in done.stderr
    assert f"and the {split} split has " in done.stderr
    assert "choose likelihood=gaussian_learned or mse" in done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))
    if name == "continuous_bernoulli":
        words = ("likelihood=cross_entropy", "dataset.scale=none")
        assert typed("train", *SHORT, *words, cwd=tmp_path).returncode == 0  # it is no density


def test_rows_scaled_by_the_training_split_leave_its_ends(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 20)))
    words = ("likelihood=continuous_bernoulli", "dataset.scale=minmax")
    done = typed("train", *SHORT, *words, cwd=tmp_path)
    assert is_one_line(done)
    assert "dataset.scale=minmax knows the training split alone" in done.stderr
    words = ("likelihood=gaussian_learned", "dataset.scale=minmax")  # as the line says
    assert typed("train", *SHORT, *words, cwd=tmp_path).returncode == 0


def test_an_evaluation_looks_at_the_test_split(home, tmp_path):
    x = np.load(home / "x.npy")
    x[of_split("test", home), 2] = -0.2
    np.save(tmp_path / "x.npy", x)
    done = typed("eval", "run=grey", f"dataset.file={tmp_path / 'x.npy'}", cwd=home)
    assert is_one_line(done), done.stderr
    assert "continuous_bernoulli: is for values in [0, 1], and the test split has" in done.stderr


def test_data_of_any_numbers_is_not_read_for_it(monkeypatch, home):
    config, _ = configure(*SHORT, f"dataset.file={home / 'x.npy'}", "dataset.shape=[6]")
    data, model = build(config, "dataset"), build(config, "model")
    data.setup()
    monkeypatch.setattr(data, "values", lambda name: pytest.fail("was read"))
    check_splits(model, data, ("validation", "test"), "gaussian_learned")
