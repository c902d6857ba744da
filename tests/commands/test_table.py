"""Whole trainings on a small table, in process: every variant, and what they leave."""

import numpy as np
import pandas as pd
import pytest
import torch

from aecli.commands.evaluate import main as evaluate
from aecli.commands.score import shares
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.evaluation.scores import mse, squared_errors
from aecli.runs.find import find
from aecli.runs.load import load
from aecli.runs.metrics_file import read_metrics
from tests.conftest import DICTIONARIES, VARIANTS, configure, small

SHORT = ("trainer.max_epochs=2", "pictures_every=2", "dataset=table", "dataset.batch_size=32")
ROLES = ("dataset.id=name", "dataset.label=kind")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return a table of 90 rows whose columns go together, and the same with missing entries."""
    draw = np.random.default_rng(0)
    kind = draw.integers(0, 2, 90)
    frame = pd.DataFrame(
        {
            "name": [f"row {n}" for n in range(90)],
            "weight": (60 + 20 * kind + draw.normal(size=90)).round(2),
            "legs": 2 + 2 * kind,
            "age": draw.integers(1, 20, 90),
            "colour": np.array(["brown", "white", "grey"])[draw.integers(0, 3, 90)],
            "kind": np.array(["bird", "cat"])[kind],
        }
    )
    folder = tmp_path_factory.mktemp("tables")
    frame.to_csv(folder / "animals.csv", index=False)
    for column in ("weight", "colour"):
        frame.loc[draw.random(90) < 0.2, column] = None
    frame.to_csv(folder / "missing.csv", index=False)
    return folder


def run(directory, *words):
    config, choices = configure(*SHORT, *ROLES, *words)
    train(config, directory, choices)
    return read_metrics(directory)["val"]


def loaded(directory):
    (found,) = find(str(directory))
    return load(found, "cpu")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_trained_on_a_table(table, tmp_path, variant):
    file = f"dataset.file={table / 'animals.csv'}"
    code = [] if variant in DICTIONARIES else ["model.code_dim=2"]
    if variant == "ksparse_ae":
        code += ["sparsity.k=1", "sparsity.k_start=2"]
    values = run(tmp_path / "run", *small(variant), file, *code)
    assert np.isfinite(values["loss"])
    found = loaded(tmp_path / "run")
    assert found.config.dataset.shape == [6]
    assert found.config.dataset.features == [["number", 3], ["category", 3]]
    batch = next(iter(found.data.batches("test")))
    restored = found.card.restored(found.model.reconstruct(batch.x))
    assert list(restored) == ["weight", "legs", "age", "colour"]
    assert set(restored["colour"]) <= {"brown", "white", "grey"}
    assert restored["legs"].dtype == np.int64


def test_a_mask_is_trained_with_and_evaluated(table, tmp_path):
    file = f"dataset.file={table / 'missing.csv'}"
    values = run(tmp_path / "run", *small("vae"), file, "dataset.missing=mask", "noise=masking")
    assert values["elbo"] < 0
    found = loaded(tmp_path / "run")
    assert found.config.dataset.shape == [10]
    assert found.config.noise.features == [["number", 3], ["category", 3], ["mask", 4]]
    config, _ = configure(
        f"run={tmp_path / 'run'}", "eval.protocol=none", "eval.pictures=false", command="eval"
    )
    evaluate(config)
    assert read_metrics(tmp_path / "run")["test"]["marginal_nll"] > 0
    batch = next(iter(found.data.batches("test")))
    errors = squared_errors(found.model, batch)
    score = mse(found.model)(batch).numpy()
    parts = shares(errors, score, found.card)
    assert list(parts) == ["share_weight", "share_legs", "share_age", "share_colour"]
    np.testing.assert_allclose(sum(parts.values()), score, rtol=1e-5)
    assert not parts["share_weight"][batch.x[:, -4] == 0].any()
    new = found.new_data(file=str(table / "missing.csv"))
    assert torch.equal(new.splits["new"].values, found.data.splits["train"].examples.values)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("missing", (), r"dataset\.missing=error: entries are missing in weight \(\d+\), colour"),
        (
            "missing",
            ("dataset.missing=mask", "model=ae"),
            "=mask: likelihood=mse counts every entry; add likel",
        ),
        ("animals", ("likelihood=bernoulli",), "dataset.binarize=dynamic: is for images"),
        ("animals", ("likelihood=cross_entropy",), "likelihood=cross_entropy: the data must lie"),
        ("animals", ("network=conv",), "network=conv: is for images"),
        (None, (), "dataset.file: must be the path of a table"),
    ],
)
def test_what_cannot_be_trained_gets_a_line(table, tmp_path, name, words, message):
    file = [f"dataset.file={table / name}.csv"] if name else []
    with pytest.raises(SettingError, match=message):
        run(tmp_path / "run", *file, *words)


def test_likelihood_mixed_is_for_tables_alone(tmp_path):
    config, choices = configure("likelihood=mixed")
    with pytest.raises(SettingError, match="likelihood=mixed: is for the columns of a table"):
        train(config, tmp_path, choices)
