"""Settings of the trainer that change how a step is computed, and what they go with."""

import pytest

from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.models import VAE
from aecli.runs.metrics_file import read_metrics
from tests.conftest import configure

SHORT = ("trainer.max_epochs=2", "pictures_every=2", "network.hidden=[32]")


def run(directory, *overrides):
    """Train; return the validation loss of the best epoch."""
    config, choices = configure(*overrides)
    train(config, directory, choices)
    return read_metrics(directory)["val"]["loss"]


def test_a_warm_up_by_epochs_lasts_as_long_with_batches_added_up(tmp_path, monkeypatch):
    seen = []
    original = VAE.anneal

    def anneal(self, step):
        original(self, step)
        seen.append((self.trainer.current_epoch, self._warmth))

    monkeypatch.setattr(VAE, "anneal", anneal)
    words = ("model.warmup_epochs=1", "trainer.max_epochs=2", "+trainer.accumulate_grad_batches=4")
    run(tmp_path, *SHORT[1:], *words)
    assert max(warmth for epoch, warmth in seen if epoch == 0) < 1
    assert {warmth for epoch, warmth in seen if epoch == 1} == {1}


@pytest.mark.parametrize("words", [(), ("model=sparse_ae", "sparsity.momentum=0.9")])
def test_gradients_are_clipped_in_bfloat16_too(tmp_path, words):
    words = (*SHORT, *words, "optimizer=sgd", "optimizer.lr=0.01", "pictures_every=0")
    start = run(tmp_path / "start", *words, "trainer.max_epochs=0")
    words += ("trainer.max_epochs=1", "trainer.precision=bf16-mixed")
    clipped = run(tmp_path / "clipped", *words, "trainer.gradient_clip_val=1e-6")
    assert clipped == pytest.approx(start, rel=0.01)  # it hardly moved
    assert run(tmp_path / "free", *words) != pytest.approx(start, rel=0.1)


def test_half_precision_needs_a_gpu(tmp_path):
    with pytest.raises(
        SettingError, match=r"trainer\.precision=16-mixed: is for a GPU; choose bf1"
    ):
        run(tmp_path, "trainer=cpu", "trainer.precision=16-mixed")


def test_pca_of_too_many_features_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("aecli.size.memory", lambda: 5 * 8 * 64**2)
    monkeypatch.setattr("aecli.commands.train.check_memory", lambda *_: None)
    with pytest.raises(SettingError, match="model=pca: the covariance of 64 features would take"):
        run(tmp_path, "model=pca")
