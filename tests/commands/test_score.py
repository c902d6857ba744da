import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.commandline import aecli, is_one_line

NEW = ("dataset.file=new.npz", "dataset.key=x", "dataset.labels=y", "dataset.ids=names")


@pytest.fixture
def home(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "home")


def test_an_anomaly_lies_above_the_quantile_of_the_validation_split(home):
    done = aecli("score", "run=vae", "out=scores.csv", "quantile=0.9", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    frame = pd.read_csv(home / "scores.csv")
    assert list(frame) == ["id", "split", "label", "score", "anomaly"]
    validation = frame[frame["split"] == "validation"]["score"]
    (threshold,) = re.findall(r"threshold (\S+): the quantile 0.9 of 200", done.stdout)
    assert float(threshold) == pytest.approx(np.quantile(validation, 0.9), rel=1e-5)
    assert list(frame["anomaly"]) == list(frame["score"] > np.quantile(validation, 0.9))
    assert f"{frame['anomaly'].sum()} of 1,797 examples are above it" in done.stdout


def test_labels_of_normal_and_others_give_auroc_and_a_histogram(home):
    done = aecli("score", "run=rows", *NEW, "out=scores.csv", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    frame = pd.read_csv(home / "scores.csv")
    odd = frame["label"] == "odd"
    auroc = roc_auc_score(odd, frame["score"])
    precision = average_precision_score(odd, frame["score"])
    assert auroc > 0.9
    told = f"AUROC {auroc:.4f}, average precision {precision:.4f}: 10 of 40 examples are not of"
    assert told in done.stdout
    with Image.open(home / "scores.png") as picture:
        assert min(picture.size) > 100
    again = aecli("score", "run=rows", *NEW, "out=scores.csv", "overwrite=true", cwd=home)
    assert again.returncode == 0


def test_a_threshold_says_how_many_of_its_examples_are_not_normal(home):
    (rows := np.random.default_rng(0)).shuffle(labels := np.arange(200) % 10 == 0)
    np.savez(home / "l.npz", x=rows.normal(size=(200, 5)), y=np.where(labels, "odd", "normal"))
    words = ("dataset=array", "dataset.file=l.npz", "dataset.key=x", "dataset.labels=y")
    assert aecli("train", "trainer=debug", *words, "hydra.run.dir=l", cwd=home).returncode == 0
    done = aecli("score", "run=l", "out=s.csv", "per_feature=true", "quantile=0.9", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    frame = pd.read_csv(home / "s.csv")
    odd = ((frame["split"] == "validation") & (frame["label"] == "odd")).sum()
    assert odd > 0
    assert f"of 20 validation scores, {odd} of them not of the class normal" in done.stdout
    assert "of 20 examples of the test split are not of the class normal" in done.stdout
    assert "per_feature=true: scored by kind=mse" in done.stdout
    assert done.stdout.endswith("written: s.csv, s.png\n")


def test_an_example_that_is_too_far_away_is_named(home):
    with np.load(home / "new.npz") as arrays:
        new = dict(arrays)
    new["x"][3, 0] = 1e25
    np.savez(home / "new.npz", **new)
    done = aecli("score", "run=rows", *NEW, "out=scores.csv", cwd=home)
    assert is_one_line(done), done.stderr
    assert f"kind=mse: example {new['names'][3]} has no finite score" in done.stderr
    assert not (home / "scores.csv").exists()


def test_a_training_example_is_no_neighbour_of_its_own(home):
    words = ("run=ae", "out=scores.csv", "kind=knn", "neighbors=1", "quantile=null")
    assert aecli("score", *words, cwd=home).returncode == 0
    means = pd.read_csv(home / "scores.csv").groupby("split")["score"].mean()
    assert means["train"] == pytest.approx(means["test"], rel=0.3)


def test_a_picture_beside_that_is_there_is_not_replaced(home):
    (home / "scores.png").write_text("precious")
    done = aecli("score", "run=rows", *NEW, "out=scores.csv", cwd=home)
    assert is_one_line(done)
    assert "scores.png: exists already" in done.stderr
    assert (home / "scores.png").read_text() == "precious"
    assert not (home / "scores.csv").exists()


def test_the_classes_of_the_test_split_are_judged_too(home):
    done = aecli("score", "run=ae", "out=scores.npz", "normal=0", "kind=knn", cwd=home)
    assert done.returncode == 0
    with np.load(home / "scores.npz") as arrays:
        judged = arrays["split"] == "test"
        labels, score = arrays["labels"][judged], arrays["scores"][judged]
    assert f"AUROC {roc_auc_score(labels != 0, score):.4f}" in done.stdout


def test_the_shares_of_the_columns_add_up_to_the_score(home):
    words = ("run=rows", "dataset.file=x.npy", "per_feature=true", "out=scores.parquet")
    assert aecli("score", *words, cwd=home).returncode == 0
    frame = pd.read_parquet(home / "scores.parquet")
    shares = frame[[f"share_x{number}" for number in range(5)]]
    np.testing.assert_allclose(shares.sum(axis=1), frame["score"], rtol=1e-4)


def test_a_tables_columns_have_their_shares_by_name(home):
    words = ("run=table", "per_feature=true", "out=scores.csv")
    assert aecli("score", *words, cwd=home).returncode == 0
    frame = pd.read_csv(home / "scores.csv")
    shares = frame[["share_age", "share_height", "share_town"]]
    np.testing.assert_allclose(shares.sum(axis=1), frame["score"], rtol=1e-4)
    assert list(frame)[-3:] == list(shares)


def test_images_get_a_picture_of_their_errors_each(home):
    done = aecli("score", "run=ae", "per_feature=true", "normal=0", "out=scores/", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    frame = pd.read_csv(home / "scores" / "scores.csv")
    row = frame.iloc[-1]
    with Image.open(home / "scores" / "maps" / f"{row['id']}.png") as picture:
        errors = np.square(np.asarray(picture) / 255)
    assert errors.mean() == pytest.approx(row["score"], rel=0.05)
    assert len(list((home / "scores" / "maps").iterdir())) == len(frame)
    assert (home / "scores" / "histogram.png").is_file()


def test_without_a_quantile_the_runs_own_data_is_not_needed(home):
    np.save(home / "own.npy", np.load(home / "x.npy"))
    train = ("train", "model=pca", "dataset=array", "dataset.file=own.npy", "model.code_dim=2")
    assert aecli(*train, "trainer=debug", "hydra.run.dir=own", cwd=home).returncode == 0
    (home / "own.npy").unlink()
    words = ("run=own", *NEW, "out=scores.csv")
    assert is_one_line(aecli("score", *words, cwd=home))
    assert aecli("score", *words, "quantile=null", cwd=home).returncode == 0
    assert list(pd.read_csv(home / "scores.csv")) == ["id", "split", "label", "score"]


MISTAKES = [
    ("run=ae kind=elbo", "kind=elbo: the run's model=ae has no prior; use kind=mse"),
    ("run=ae kind=best", "kind=best: must be one of mse, nll, elbo"),
    ("run=ae quantile=1", "quantile=1"),
    ("run=ae quantile=nan", "quantile=nan"),
    ("run=ae neighbors=3", "neighbors=3: goes with kind=knn"),
    ("run=vae kind=elbo importance_samples=3", "importance_samples=3: goes with kind=marginal_nll"),
    ("run=ae kind=knn neighbors=0", "neighbors=0: must be a whole number of at least 1"),
    ("run=ae kind=knn neighbors=100000", "neighbors=100000: the training split has 1237"),
    ("run=vae kind=elbo per_feature=true", "per_feature=true: goes with kind=mse, not elbo"),
    ("run=ae per_feature=true", "per_feature=true: gives a picture of each example's errors; out="),
    (
        "run=ae normal=ten",
        "normal=ten: must be one of the classes of the examples, of at least two: 0, 1",
    ),
    ("run=rows normal=0", "normal=0: the examples have no labels"),
    ("run=ae seed=-1", "seed=-1: must be a whole number from 0"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(line, message, home):
    before = sorted(home.rglob("*"))
    done = aecli("score", *line.split(), "out=scores.csv", cwd=home)
    assert is_one_line(done), done.stderr
    assert message in done.stderr
    assert sorted(home.rglob("*")) == before
