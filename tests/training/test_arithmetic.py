"""Settings of the trainer that change how a step is computed, and what they go with."""

import pytest

from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.models import VAE
from aecli.runs.metrics_file import read_metrics
from tests.commandline import aecli, is_one_line
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


OF_SIGMOIDS = ("model=ae", "network.activation=sigmoid", "likelihood=cross_entropy")


@pytest.mark.parametrize(
    "words",
    [
        ("model=vae", "model.gradient=stl"),
        ("model=vae", "prior=vamp", "prior.pseudo_inputs=9"),
        ("model=iwae",),
        ("model=iwae", "model.gradient=dreg"),
        (*OF_SIGMOIDS, "pretraining=rbm", "pretraining.epochs=1"),
        (*OF_SIGMOIDS, "pretraining=denoising", "pretraining.epochs=1"),
        (*OF_SIGMOIDS, "sparsity=sigmoid", "pretraining=sparse", "pretraining.iterations=1"),
    ],
    ids=" ".join,
)
def test_every_gradient_and_pretraining_works_in_bfloat16(tmp_path, words):
    words = (*SHORT[1:], "trainer.max_epochs=1", "trainer.precision=bf16-mixed", *words)
    assert run(tmp_path / "bf16", *words) == pytest.approx(
        run(tmp_path / "32", *words, "trainer.precision=32-true"), rel=0.05
    )


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


@pytest.mark.parametrize("together", [3, 4])
def test_a_step_of_fewer_accumulated_batches_is_a_whole_one(tmp_path, together):
    """Of two batches: one step of both, whatever number was asked for."""
    words = ("model=ae", "network.hidden=[8]", "optimizer=sgd", "optimizer.momentum=0")
    words = (*words, "optimizer.lr=0.01", "trainer.max_epochs=1")
    once = run(tmp_path / "once", *words, "dataset.batch_size=null")
    parts = (*words, "dataset.batch_size=640")
    times = run(tmp_path / "times", *parts, f"+trainer.accumulate_grad_batches={together}")
    assert times == pytest.approx(once, rel=1e-4)


@pytest.mark.parametrize(
    "word", ["+trainer.accumulate_grad_batches=4", "trainer.gradient_clip_val=0.1"]
)
def test_lbfgs_takes_no_other_gradient_than_that_of_its_cost(tmp_path, word):
    words = ("optimizer=lbfgs", "dataset.batch_size=null", "trainer.max_epochs=1", word)
    told = aecli("train", *words, cwd=tmp_path)
    assert is_one_line(told)
    assert f"aecli: {word.removeprefix('+')}: optimizer=lbfgs searches" in told.stderr
