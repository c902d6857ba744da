"""The loop over batches: the same training as with Lightning's own, the same hooks."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from aecli.build import build
from aecli.models import Autoencoder
from aecli.training.loop import OF_THE_MODEL, EpochLoop
from tests.conftest import STEPWISE_CASES, configure, small

HOOKS = ("on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_train_epoch_end")


class Recorder(pl.Callback):
    """Notes each hook, with what the trainer counts at that time."""

    def __init__(self):
        self.seen = []


def _note(name):
    def hook(self, trainer, model, *rest):
        counts = [trainer.global_step, trainer.current_epoch, trainer.fit_loop.batch_idx]
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        indices = [i for i in rest if isinstance(i, int)]
        self.seen.append((name, *counts, rate, *indices, trainer.is_last_batch))

    return hook


for name in HOOKS:
    setattr(Recorder, name, _note(name))


def fit(lean, *overrides, callbacks=(), **settings):
    """Train for two epochs with our loop or Lightning's; return trainer, model and record."""
    config, _ = configure("dataset.batch_size=200", *overrides)
    pl.seed_everything(0, verbose=False)
    data, model = build(config, "dataset"), build(config, "model")
    recorder = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=[recorder, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    if lean:
        EpochLoop.put_into(trainer)
    trainer.fit(model, datamodule=data)
    return trainer, model, recorder.seen


@pytest.fixture
def lightnings(monkeypatch):
    """Count the batches that go through Lightning's own loop."""
    batches = []
    advance = _TrainingEpochLoop.advance

    def counted(self, fetcher):
        batches.append(fetcher)
        advance(self, fetcher)

    monkeypatch.setattr(_TrainingEpochLoop, "advance", counted)
    return batches


@pytest.mark.parametrize("variant", STEPWISE_CASES)
@pytest.mark.parametrize("settings", [{}, {"precision": "bf16-mixed"}, {"limit_train_batches": 3}])
def test_it_trains_as_lightnings_loop_does(variant, settings, lightnings):
    options = [*small(variant), "optimizer.schedule=cosine"]
    _, expected, record = fit(False, *options, **settings)
    lightnings.clear()
    trainer, model, seen = fit(True, *options, **settings)
    assert seen == record
    assert trainer.global_step
    assert trainer.lr_scheduler_configs
    for name, weight in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    assert not lightnings


def test_max_steps_end_it(lightnings):
    trainer, _, seen = fit(True, max_steps=4)
    assert trainer.global_step == 4
    assert seen == fit(False, max_steps=4)[2]


class Listener(pl.Callback):
    def on_after_backward(self, trainer, model):
        self.heard = True


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_clip_val": 1.0},
        {"accumulate_grad_batches": 2},
        {"profiler": "simple"},
        {"callbacks": [Listener()]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_lightnings_own_loop_runs_where_it_is_needed(settings, lightnings):
    _, expected, record = fit(False, **settings)
    lightnings.clear()
    _, model, seen = fit(True, **settings)
    assert lightnings
    assert seen == record
    assert torch.equal(model.decoder[0].weight, expected.decoder[0].weight)
    if "callbacks" in settings:
        assert settings["callbacks"][0].heard


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=pca"],
        ["model=ae", "optimizer=lbfgs", "dataset.batch_size=null", "optimizer.max_iter=2"],
    ],
)
def test_models_and_optimizers_with_steps_of_their_own_keep_lightnings_loop(overrides, lightnings):
    fit(True, *overrides)
    assert lightnings


def counted_steps(register):
    """Train with a hook on the optimizer's steps; return the hook's calls and the steps."""
    calls = []

    class Registers(pl.Callback):
        def on_train_start(self, trainer, model):
            register(trainer.optimizers[0], lambda *_: calls.append(1))

    trainer, _, _ = fit(True, callbacks=[Registers()])
    return len(calls), trainer.global_step


@pytest.mark.parametrize("name", ["register_step_pre_hook", "register_step_post_hook"])
def test_an_optimizers_own_hooks_are_called(name, lightnings):
    calls, steps = counted_steps(lambda optimizer, hook: getattr(optimizer, name)(hook))
    assert calls == steps > 0
    assert not lightnings


@pytest.mark.parametrize(
    "register", [register_optimizer_step_pre_hook, register_optimizer_step_post_hook]
)
def test_the_hooks_of_all_optimizers_are_called(register, lightnings):
    handles = []
    try:
        calls, steps = counted_steps(lambda _, hook: handles.append(register(hook)))
    finally:
        for handle in handles:
            handle.remove()
    assert calls == steps > 0
    assert not lightnings


# Lightning's notes on such a model.
@pytest.mark.filterwarnings("ignore:You have overridden", "ignore:Trying to infer the `batch_size`")
@pytest.mark.parametrize("name", OF_THE_MODEL)
def test_lightnings_own_loop_runs_where_the_model_changes_a_step(name, monkeypatch, lightnings):
    calls = []
    theirs = getattr(Autoencoder, name)

    def ours(self, *args, **keywords):
        calls.append(name)
        return theirs(self, *args, **keywords)

    monkeypatch.setattr(Autoencoder, name, ours)
    fit(True)
    assert lightnings
    assert calls


@pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`")
def test_a_model_may_end_an_epoch(monkeypatch):
    def end_after_two(self, batch, index):
        return -1 if index == 2 else None

    monkeypatch.setattr(Autoencoder, "on_train_batch_start", end_after_two, raising=False)
    trainer, _, _ = fit(True)
    assert trainer.global_step == 2 * 2


def test_a_step_without_a_loss_is_refused(monkeypatch):
    monkeypatch.setattr(Autoencoder, "training_step", lambda self, batch, index: None)
    with pytest.raises(TypeError, match="training_step returned NoneType: must be the loss"):
        fit(True)


class Logs(pl.Callback):
    """Logs in a hook of each batch."""

    def on_train_batch_end(self, trainer, model, *_):
        model.log("loss", 0.0)


def test_logging_by_batch_is_refused(monkeypatch):
    with pytest.raises(MisconfigurationException, match=r"self\.log"):
        fit(True, callbacks=[Logs()])
    step = Autoencoder.training_step

    def logs(self, batch, index):
        self.log("loss", 0.0)
        return step(self, batch, index)

    monkeypatch.setattr(Autoencoder, "training_step", logs)
    with pytest.raises(MisconfigurationException, match=r"self\.log"):
        fit(True)
