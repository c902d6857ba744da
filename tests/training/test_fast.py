"""What makes a training fast, checked without a clock."""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from aecli.build import build
from aecli.commands.train import train
from aecli.training.tensorboard import Events
from tests.commandline import aecli
from tests.conftest import DICTIONARIES, SPARSITIES, STEPWISE, STEPWISE_CASES, configure, options

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")
"""Operations whose result the host needs before it can go on: a GPU would stand still."""

LOOKUPS = ("index_select", "index", "gather", "take")


class Operations(TorchDispatchMode):
    """Notes the name of each operation."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **kwargs or {})


class Detector(pl.Callback):
    """Notes the operations of each training step: forward, backward, optimizer, metrics."""

    def __init__(self):
        self.steps = []

    def on_train_batch_start(self, *args):
        self.operations = Operations()
        self.operations.__enter__()

    def on_train_batch_end(self, *args):
        self.operations.__exit__(None, None, None)
        self.steps.append(self.operations.names)


SHORT = ("trainer.max_epochs=1", "trainer.limit_train_batches=6", "pictures_every=0")
WAITING = set(DICTIONARIES) - {"topk_sae"}
"""How many latents are active on a batch of them, a step has to know."""
PARTS = [(f"model={variant}",) for variant in STEPWISE if variant not in WAITING]
PARTS += [
    ("model=ae", "model.code_dim=200", f"{group}={name}")
    for group in ("noise", "sparsity")
    for name in (SPARSITIES if group == "sparsity" else options(group))
]
PARTS += [("optimizer.schedule=cosine",), ("trainer.average=0.9",)]


@pytest.mark.parametrize("part", PARTS, ids=" ".join)
def test_a_step_never_waits_for_the_device(tmp_path, part):
    detector = Detector()
    config, choices = configure(*part, *SHORT)
    train(config, tmp_path, choices, callbacks=[detector])
    assert len(detector.steps) == 6
    for names in detector.steps:
        assert "_fused_adam_" in names  # it did listen
        assert not set(names) & set(WAITS)


def test_the_detector_hears_a_step_that_waits(tmp_path, monkeypatch):
    detector = Detector()
    config, choices = configure("model=ae", *SHORT)
    relu = torch.nn.ReLU.forward

    def waits(self, x):
        assert x.sum().item() is not None
        return relu(self, x)

    monkeypatch.setattr(torch.nn.ReLU, "forward", waits)
    train(config, tmp_path, choices, callbacks=[detector])
    assert "_local_scalar_dense" in detector.steps[0]


@pytest.mark.parametrize("binarize", ["none", "dynamic", "fixed"])
def test_an_epoch_looks_images_up_less_often_than_it_has_batches(binarize):
    config, _ = configure(f"dataset.binarize={binarize}", "dataset.batch_size=16")
    data = build(config, "dataset")
    data.setup()
    with Operations() as operations:
        batches = len(list(data.train_dataloader()))
    lookups = [name for name in operations.names if name in LOOKUPS]
    assert 0 < len(lookups) < batches / 2


def test_an_epoch_calls_the_logger_a_few_times(tmp_path, monkeypatch):
    calls = []
    log = Events.log_metrics

    def counted(self, *args, **keywords):
        calls.append(args)
        log(self, *args, **keywords)

    monkeypatch.setattr(Events, "log_metrics", counted)
    config, choices = configure("trainer.max_epochs=3", "pictures_every=0")
    train(config, tmp_path, choices)
    assert 3 <= len(calls) <= 2 * 3


@pytest.fixture
def by_lightning(monkeypatch):
    """Count the steps of Lightning's own loop, which asks the model for each; ours does not."""
    steps = []
    step = pl.LightningModule.optimizer_step

    def counted(self, *args, **keywords):
        steps.append(args)
        step(self, *args, **keywords)

    monkeypatch.setattr(pl.LightningModule, "optimizer_step", counted)
    return steps


@pytest.mark.parametrize("variant", STEPWISE_CASES)
@pytest.mark.parametrize("settings", [[], ["early_stopping.patience=2", "pictures_every=1"]])
def test_aecli_train_takes_the_lean_loop(tmp_path, variant, settings, by_lightning):
    words = (f"model={variant}", "trainer=debug", *settings)
    done = aecli("train", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not by_lightning


def test_what_the_lean_loop_cannot_do_lightnings_does(tmp_path, by_lightning):
    assert (
        aecli("train", "trainer=debug", "trainer.gradient_clip_val=1", cwd=tmp_path).returncode == 0
    )
    assert by_lightning
