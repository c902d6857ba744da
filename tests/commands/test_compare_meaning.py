"""Which values compare: losses and estimates that mean the same."""

import csv

import pytest

from aecli.commands.compare import main
from aecli.commands.compare.meaning import conflicts
from aecli.runs import records
from tests.commands.made import change, head_and_rows, make

PENALTY = {"sparsity._target_": "x.L1", "sparsity.weight": 0.1}


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ({}, {"model.beta": 4.0}, "model.beta is 1, 4"),
        ({}, {"model._target_": "x.Other"}, "model is vae"),
        (PENALTY, PENALTY | {"sparsity.weight": 3.0}, "sparsity.weight is 0.1, 3"),
        ({}, {"dataset.binarize": "fixed"}, "dataset.binarize is fixed, none"),
        ({"likelihood.sigma": 0.2}, {"likelihood.sigma": 0.5}, "likelihood.sigma is 0.2, 0.5"),
        ({"noise.std": 0.2}, {"noise.std": 0.3}, "noise.std is 0.2, 0.3"),
    ],
)
def test_losses_of_another_meaning_do_not_compare(tmp_path, monkeypatch, capsys, one, other, why):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs", "0_a", 100.0, settings=one)
    make(tmp_path / "runs", "1_b", 90.0, settings=other)
    main(["runs"])
    rows, below = head_and_rows(capsys)
    assert f"* val/loss does not compare: {why}; sorted by val/mse instead" in below
    assert [row["val/loss*"] for row in rows] == ["90", "100"]
    main(["runs", "--metric", "val/loss"])  # asked for: it is done, and said
    rows, below = head_and_rows(capsys)
    assert [row["val/loss*"] for row in rows] == ["90", "100"]
    assert below[0] == f"* val/loss does not compare: {why}"


@pytest.mark.parametrize(
    "other",
    [
        {"optimizer.lr": 0.1},
        {"model.code_dim": 7},
        {"model.samples": 5},  # a VAE's: the same expectation
        {"model.warmup_epochs": 3},  # beta is whole in validation
        {"dataset.batch_size": 7, "dataset.train_size": 100},
        {"dataset.root": "/elsewhere"},
        {"sparsity.k": 3},  # without a penalty
    ],
)
def test_losses_that_mean_the_same_compare(tmp_path, monkeypatch, capsys, other):
    monkeypatch.chdir(tmp_path)
    for name, settings in (("0_a", {}), ("1_b", other)):
        run = make(tmp_path / "runs", name, 100.0, settings=settings)
        change(run, val={"penalty": 0.0})
    main(["runs"])
    assert "does not compare" not in (told := capsys.readouterr().out)
    assert "best by val/loss" in told


def test_draws_once_or_anew_in_training_are_the_same_in_validation(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for binarize in ("fixed", "dynamic"):
        make(tmp_path / "runs", binarize, 100.0, settings={"dataset.binarize": binarize})
    main(["runs"])
    assert "best by val/loss" in capsys.readouterr().out


def test_after_a_sweep_of_beta_the_best_elbo_wins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for beta, loss, elbo in ((0.1, 5.0, -40.0), (1.0, 25.0, -25.0), (10.0, 90.0, -32.0)):
        run = make(tmp_path / "runs", f"beta-{beta}", loss, beta=beta)
        change(run, val={"elbo": elbo, "kl": 9.5})
    main(["runs"])
    rows, below = head_and_rows(capsys)
    assert [row["model.beta"] for row in rows] == ["1", "10", "0.1"]
    assert rows[0]["val/kl"] == "9.5"
    why = "model.beta is 0.1, 1, 10"
    assert f"* val/loss does not compare: {why}; sorted by val/elbo instead" in below
    assert "best by val/elbo: runs/beta-1.0" in below


def test_on_other_data_nothing_compares(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "mnist"):
        run = make(tmp_path / "runs", name, 100.0, settings={"dataset.shape": name})
        change(run, val={"elbo": -1.0}, choices={"dataset": name})
    main(["runs"])
    _, below = head_and_rows(capsys)
    assert "* val/mse, val/loss, val/elbo do not compare: dataset is digits, mnist" in below


def evaluated(folder, name, samples, value, **more):
    settings = {"checkpoint": "best", "importance_samples": samples, "batch_size": samples}
    run = make(folder, name, 100.0, marginal_nll=value, mse=0.1, **more)
    change(run, test={"settings": settings, "checkpoint": "best.ckpt"})
    return run


def test_values_estimated_in_two_ways_are_not_averaged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    evaluated(tmp_path / "runs", "0_a", 10, 180.3, seed=0)
    evaluated(tmp_path / "runs", "1_b", 400, 179.0, seed=1)
    make(tmp_path / "runs", "2_c", 100.0, seed=2)
    for seed in (0, 1):
        evaluated(tmp_path / "runs", f"3_{seed}", 400, 178.0 + seed, seed=seed, model="iwae")
    main(["runs", "--metric", "test/marginal_nll", "--output", "mine"])
    rows, below = head_and_rows(capsys)
    assert [row["test/marginal_nll*"] for row in rows] == ["178.5 ± 0.71", "179 to 180.3 (n=2)*"]
    assert [row["test/mse"] for row in rows] == ["0.1 ± 0", "0.1 ± 0 (n=2)"]
    assert [row["runs"] for row in rows] == ["2", "3"]
    assert "* test/marginal_nll does not compare: eval.importance_samples is 10, 400" in below
    assert "vs best" not in rows[0]  # there is no difference of what does not compare
    with (tmp_path / "mine" / "table.csv").open() as file:
        samples = [row["eval.importance_samples"] for row in csv.DictReader(file)]
    assert sorted(samples) == ["", "10", "400", "400", "400"]


@pytest.mark.parametrize(
    ("key", "name", "matters"),
    [
        ("eval.checkpoint", "test/mse", True),
        ("eval.importance_samples", "test/marginal_nll", True),
        ("eval.importance_samples", "test/marginal_nll_ais", False),
        ("eval.importance_samples", "test/elbo", False),
        ("eval.ais.steps", "test/marginal_nll_ais", True),
        ("eval.ais.steps", "test/marginal_nll", False),
        ("eval.probe.C", "test/probe_error", True),
        ("eval.probe.C", "test/finetune_error", False),
        ("eval.train_size", "test/finetune_error", True),
        ("eval.batch_size", "test/probe_error", False),
        ("eval.noise", "test/mse_masking_0.5", False),  # in the name
        ("noise.std", "val/loss", True),
        ("noise.std", "val/clean_loss", False),
        ("noise.std", "val/elbo", False),
        ("sparsity.target", "val/penalty", True),
        ("model.beta", "val/elbo", False),
        ("model.samples", "val/bound", True),
        ("dataset.classes", "val/mse", True),
        ("dataset.binarize", "val/mse", False),
        ("dataset.binarize_seed", "test/nll", True),
        ("dataset.shape", "train_seconds", False),
        ("dataset.train_size", "val/mse", False),
        ("dataset.train_size", "test/probe_error_pixels", True),
        ("dataset.train_size", "test/generated_kernel_noise", True),
        ("dataset.batch_size", "val/loss", False),
        ("trainer.limit_val_batches", "val/mse", True),
        ("trainer.limit_val_batches", "test/mse", False),
        ("likelihood", "test/gap_log_p", True),
        ("likelihood", "test/gap_elbo", True),
        ("likelihood", "test/mse", False),
    ],
)
def test_which_settings_are_part_of_a_metric(tmp_path, key, name, matters):
    metrics = {name: 1.0, "val/penalty": 1.0, "val/bound": 1.0}

    def run(setting):
        parts = ({}, setting) if key.startswith("eval.") else (setting, {})
        return records.Record(tmp_path, parts[0], frozenset(), metrics, parts[1], "")

    runs = [run({key: 1}), run({key: 2})]
    assert (name in conflicts(runs, [name])) == matters


@pytest.mark.parametrize(
    ("scale", "shape", "matters"),
    [
        ("standard", "[6]", True),
        ("auto", "[6]", True),
        ("auto", "[1,8,8]", False),
        ("none", "[6]", False),
        ("norm", "[6]", True),
    ],
)
def test_data_scaled_by_its_training_rows_has_another_unit_with_others(
    tmp_path, scale, shape, matters
):
    def run(size):
        settings = {"dataset.train_size": size, "dataset.scale": scale, "dataset.shape": shape}
        return records.Record(tmp_path, settings, frozenset(), metrics, {}, "")

    metrics = {"val/mse": 1.0, "val/explained_variance": 0.9}
    assert bool(conflicts([run(20), run(None)], ["val/mse"])) == matters
    ratio = bool(conflicts([run(20), run(None)], ["val/explained_variance"]))
    assert ratio == (matters and scale != "norm")


def test_parts_of_a_split_are_told_by_the_size_of_their_batches(tmp_path):
    def run(batch, limit):
        settings = {"dataset.batch_size": batch, "trainer.limit_val_batches": limit}
        return records.Record(tmp_path, settings, frozenset(), {"val/mse": 1.0}, {}, "")

    assert conflicts([run(10, 2), run(20, 2)], ["val/mse"])
    assert not conflicts([run(10, None), run(20, None)], ["val/mse"])
