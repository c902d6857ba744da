"""A run's result: the file that is kept in the repository."""

import json

import pytest
from torch.utils.tensorboard import SummaryWriter

from aecli.commands.train import train
from aecli.runs.metrics_file import update_metrics
from benchmarks.reproductions.results import COPIED, curve, read, write
from benchmarks.reproductions.settings import of_experiment
from tests.benchmarks.reproductions.made import run
from tests.conftest import configure

NAME = "hinton2006/pca"


def test_a_result_is_what_a_finished_run_says(tmp_path):
    made = run(tmp_path / "runs", NAME, "seed=2")
    path = write(made, NAME, 2, tmp_path / "results", "0123abc")
    assert path == tmp_path / "results" / NAME / "seed-2.json"
    result = read(tmp_path / "results", NAME, 2)
    assert result == {
        "experiment": NAME, "seed": 2, "metric": "sse", "here": 13.9, "interval": None,
        "changed": [], "test": {"sse": 13.9}, "val": {"loss": 33.3}, "epochs": 3, "best_epoch": 3,
        "seconds": {"pretraining": 2.0, "training": 7.5, "evaluation": 4.0},
        "versions": {"aecli": "0.4.0", "torch": "2", "python": "3.11"}, "commit": "0123abc",
        "parameters": 9, "device": "cpu", "processor": "Z80", "threads": 1, "precision": "32-true",
        "date": "2026-01-01", "settings": of_experiment(NAME)[0],
        "curve": {"metric": "val/loss", "epochs": [1, 2, 3], "values": [100.0, 50.0, 33.333]},
    }  # fmt: skip
    assert len(path.read_text().splitlines()) == len(result) + 2
    assert str(tmp_path) not in path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["seed-2.json"]
    assert read(tmp_path / "results", NAME, 0) is None


def test_a_result_names_changed_settings(tmp_path):
    made = run(tmp_path / "runs", NAME, "model.code_dim=29")
    write(made, NAME, 0, tmp_path, None)
    result = read(tmp_path, NAME, 0)
    assert result["changed"] == ["model.code_dim=29"]
    assert result["commit"] is None


def test_the_curve_has_the_last_epoch_and_no_more_than_a_hundred(tmp_path):
    with SummaryWriter(str(tmp_path)) as events:
        for epoch in range(250):
            events.add_scalar("epoch", epoch, 7 * epoch)
            events.add_scalar("val/loss", 1000 - epoch, 7 * epoch)
    epochs, values = curve(tmp_path)
    assert epochs == list(range(1, 251, 3))
    assert epochs[-1] == 250
    assert values == [1001 - epoch for epoch in epochs]


def test_a_real_training_has_all_of_it(tmp_path):
    config, choices = configure("model=ae", "trainer.max_epochs=2", "pictures_every=0")
    train(config, tmp_path, choices)
    made = json.loads((tmp_path / "metrics.json").read_text())
    assert [key for key in COPIED if made.get(key) is None] == []
    assert made["processor"]
    assert 0 <= made["pretrain_seconds"] <= made["train_seconds"]
    kept, values = curve(tmp_path)
    assert kept == [1, 2]
    assert min(values) == pytest.approx(made["val"]["loss"], rel=1e-4)


def test_a_run_that_was_only_pretrained_has_no_curve(tmp_path):
    made = run(tmp_path / "runs", NAME, epochs=1)
    update_metrics(made, {"epochs": 0})
    write(made, NAME, 0, tmp_path, None)
    assert read(tmp_path, NAME, 0)["curve"]["values"] == []


def test_seconds_of_a_resumed_pretraining_are_unknown(tmp_path):
    made = run(tmp_path / "runs", NAME)
    update_metrics(made, {"pretrain_seconds": None})
    write(made, NAME, 0, tmp_path, None)
    expected = {"pretraining": None, "training": 9.5, "evaluation": 4.0}
    assert read(tmp_path, NAME, 0)["seconds"] == expected
