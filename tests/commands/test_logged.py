"""What a training of the command line tells TensorBoard and `metrics.json`."""

import pytest
import torch

from aecli.runs.find import find
from aecli.runs.load import load
from aecli.runs.metrics_file import read_metrics
from tests.commandline import aecli
from tests.events import events, hparams_of


def test_histograms_are_those_of_the_epoch_that_ends(tmp_path):
    words = ("model=topk_sae", "model.code_dim=256", "sparsity.k=1", "optimizer.lr=1e-2")
    line = ("train", *words, "trainer.max_epochs=2", "pictures_every=2", "trainer=cpu")
    done = aecli(*line, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    logged = events(tmp_path / "run")
    (histogram,) = logged.Histograms("log10_of_the_firing_rates")
    dead = logged.Scalars("train/dead_share")[-1].value * 256
    lowest = next(count for count in histogram.histogram_value.bucket if count)
    assert lowest == pytest.approx(dead, abs=0.01)


def test_the_squared_error_is_that_before_an_image_is_binarized(tmp_path):
    words = ("model=topk_sae", "model.code_dim=64", "sparsity.k=8", "dataset.binarize=round")
    line = ("train", *words, "trainer.max_epochs=1", "pictures_every=0")
    done = aecli(*line, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = load(*find(str(tmp_path / "run")))
    with torch.no_grad():
        errors = [
            (loaded.model.reconstruct(batch.original) - batch.original).square().mean(dim=(1, 2, 3))
            for batch in loaded.data.batches("validation", 50)
        ]
    found = read_metrics(tmp_path / "run")["val"]["mse"]
    assert found == pytest.approx(float(torch.cat(errors).mean()), rel=1e-4)


def test_hparams_have_whatever_was_typed(tmp_path):
    typed = ("model.contraction=0.25", "early_stopping.patience=3", "optimizer.schedule=cosine")
    line = ("train", "model=contractive_ae", *typed, "trainer=debug", "pictures_every=0")
    done = aecli(*line, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _, settings = hparams_of(tmp_path / "run")
    assert settings["model.contraction"].number_value == 0.25
    assert settings["early_stopping.patience"].number_value == 3
    assert settings["optimizer.schedule"].string_value == "cosine"
    assert not [name for name in settings if name.startswith("hydra")]
    assert "pictures_every" not in settings
