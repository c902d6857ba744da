"""`dataset=synthetic_features` as it is typed: from training to results, and what is refused."""

import json

import numpy as np
import pytest

from docs.pictures import Line, steps
from tests.commandline import aecli, is_one_line
from tests.docs.test_commands import ROOT

SMALL = (
    "dataset=synthetic_features",
    "dataset.true_features=200",
    "dataset.width=16",
    "dataset.trees=2",
    "dataset.rows=2000",
    "dataset.validation_size=300",
    "dataset.test_size=500",
    "dataset.batch_size=100",
    "trainer.max_epochs=2",
    "pictures_every=0",
)
DICTIONARY = ("model=batch_topk_sae", "model.code_dim=50", "sparsity.k=3", "optimizer.lr=1e-2")
FOUND = {"mcc", "mmcs", "uniqueness", "f1", "precision", "recall"}


def test_from_training_to_results(tmp_path):
    done = aecli("train", *SMALL, *DICTIONARY, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a known dictionary of 200 features in 16 dimensions: 2 trees of 170" in done.stdout
    assert "2,000 training and 300 validation rows" in done.stdout
    found = []
    for size in (70, 500):
        words = ("run=run", "eval.noise_levels=[]", f"eval.batch_size={size}", "eval.top_rows=2")
        done = aecli("eval", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "mean |cosine|, of pairs" in done.stdout
        test = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
        found.append({name: test[name] for name in FOUND})
    assert found[0] == pytest.approx(found[1])
    assert 0.3 < found[0]["mcc"] < 1
    assert 0 < found[0]["f1"] < 1
    done = aecli("encode", "run=run", "out=codes.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "codes.npz") as codes:
        assert codes["codes"].shape == (2800, 50)
    done = aecli("sample", "run=run", "kind=reconstruct", "out=some.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_lines_of_the_page(tmp_path):
    page = steps(ROOT / "docs" / "dictionaries.md")
    lines = [step for step in page if isinstance(step, Line) and __name__[-16:] in step.mark]
    assert [line.words[1] for line in lines] == ["train", "eval", "train", "eval"]
    for line in lines:
        typed = [word for word in line.words[1:] if not word.startswith("trainer.")]
        small = [word for word in SMALL if word.partition("=")[0] not in ("dataset", "trainer")]
        done = aecli(*typed, *(small if typed[0] == "train" else ()), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        if typed[0] == "eval":
            assert "uniqueness" in done.stdout


def test_of_a_model_without_atoms_nothing_is_compared(tmp_path):
    words = ("model=ae", "network.hidden=[]", "model.code_dim=4", "hydra.run.dir=run")
    assert aecli("train", *SMALL, *words, cwd=tmp_path).returncode == 0
    done = aecli("eval", "run=run", "eval.pictures=false", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    test = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    assert not FOUND & set(test)


def test_aecli_data_shows_the_rows(tmp_path):
    done = aecli("data", *SMALL[:8], "out=rows.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2,000" in done.stdout
    assert "float32" in done.stdout


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("dataset.rows=0", "aecli: dataset.rows=0: must be a whole number of at least 1"),
        ("dataset.trees=3", "aecli: dataset.trees=3, dataset.branching=4, dataset.depth=3: are"),
        ("dataset.highest_rate=1.2", "aecli: dataset.highest_rate=1.2: must be a number in ]0, 1]"),
        ("dataset.correlation_scale=1", "aecli: dataset.correlation_scale=1.0: must be smaller"),
        ("dataset.classes=[3]", "aecli: dataset.classes"),
        ("dataset.train_size=50", "aecli: dataset.train_size"),
        ("likelihood=bernoulli", "features are not binarized"),
    ],
)
def test_what_cannot_be_is_one_line(word, told, tmp_path):
    key = word.partition("=")[0]
    words = [other for other in SMALL if not other.startswith(f"{key}=")]
    done = aecli("train", *words, "model=ae", "network.hidden=[]", word, cwd=tmp_path)
    assert is_one_line(done), done.stderr
    assert told in done.stderr
