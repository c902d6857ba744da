"""The running average of the weights: its numbers, and that it is what is validated and kept."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from aecli.build import build
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.runs.checkpoint import check_weights, read, stored
from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import BEST, LAST, checkpoint_path
from aecli.training.average import decay_at
from tests.commandline import aecli
from tests.conftest import configure
from tests.hostile import is_one_plain_line

# Lightning wonders at the folder of a run to go on with: it holds checkpoints already.
# It wonders, too, at epochs without a validation, after which the best cannot be saved.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Checkpoint directory .* exists and is not empty",
    "ignore:.*could not find the monitored key",
)

MLP = ("network.hidden=[16]",)
SHORT = ("trainer.max_epochs=3", "pictures_every=1")
DECAY = 0.8
AVERAGED = f"trainer.average={DECAY}"
"""Reached by the thirty-fifth step, of the 45 that there are in three epochs."""


class Recorder(pl.Callback):
    """Notes the weights at the start and after each optimizer step, and validation's batches."""

    def __init__(self):
        self.weights = []
        self.order = {}

    def on_train_start(self, trainer, model):
        self.note(model)

    def on_train_batch_end(self, trainer, model, outputs, batch, index):
        if trainer.global_step == len(self.weights):
            self.note(model)
        self.order.setdefault(trainer.current_epoch, []).append(batch.x.clone())

    def note(self, model):
        self.weights.append([p.detach().double().clone() for p in model.parameters()])


def trained(directory, *overrides, callbacks=(), network=MLP):
    config, choices = configure(*network, *SHORT, *overrides)
    train(config, directory, choices, None, callbacks)
    return read(checkpoint_path(directory, LAST))


def training_weights(checkpoint):
    return checkpoint["callbacks"]["RunningAverage"]["weights"]


def parameters_of(config, weights):
    """Return the parameters of a model of `config` with these weights."""
    model = build(config, "model")
    model.load_state_dict(weights)
    return model, [p.detach() for p in model.parameters()]


def averaged(weights, decay):
    """Return the average, written down as a sum: θ_s times its share, in float64."""
    steps = len(weights) - 1
    decays = [0.0] + [min(decay, (1 + t) / (10 + t)) for t in range(1, steps + 1)]
    shares = [1 - decay_of for decay_of in decays]
    for step, _ in enumerate(shares):
        for later in decays[step + 1 :]:
            shares[step] *= later
    assert sum(shares) == pytest.approx(1)
    return [
        sum(share * value for share, value in zip(shares, values, strict=True))
        for values in zip(*weights, strict=True)
    ]


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("+trainer.accumulate_grad_batches=2",),
        ("trainer.gradient_clip_val=1",),
        ("network.batch_norm=true",),
        ("model=ae", "network.tied=true"),
        ("trainer.average=0.95",),
        ("trainer.average=0.1",),
    ],
    ids=" ".join,
)
def test_it_is_the_average_of_the_weights_after_each_step(tmp_path, settings):
    recorder = Recorder()
    words = settings if settings and "average" in settings[-1] else (AVERAGED, *settings)
    found = trained(tmp_path, *words, callbacks=[recorder])
    assert len(recorder.weights) == found["global_step"] + 1 > 20
    config = stored(checkpoint_path(tmp_path, LAST)).config
    _, ours = parameters_of(config, found["state_dict"])
    expected = averaged(recorder.weights, config.trainer.average)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)
    _, last = parameters_of(config, training_weights(found))
    for one, other in zip(last, recorder.weights[-1], strict=True):
        assert torch.equal(one.double(), other)


def test_the_initial_weights_are_soon_forgotten():
    share = 1.0
    for step in range(1, 11):
        share *= decay_at(step, 0.9999)
    assert share == pytest.approx(1 / 16_796, rel=1e-4)
    assert decay_at(100_000, 0.999) == 0.999


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        (MLP, ("network.batch_norm=true",)),
        (MLP, ("model=dae", "network.batch_norm=true", "dataset.binarize=dynamic")),
        (MLP, ("model=sparse_ae", "sparsity.momentum=0.9", "network.batch_norm=true")),
        (MLP, ("model=ksparse_ae", "sparsity.k_start=60")),
        (("network=conv", "network.channels=[4]"), ("trainer.precision=bf16-mixed",)),
    ],
    ids=lambda words: " ".join(words),
)
def test_the_training_goes_on_as_it_would_without(tmp_path, network, settings):
    without = trained(tmp_path / "without", *settings, network=network)
    found = trained(tmp_path / "with", *settings, AVERAGED, network=network)
    kept = training_weights(found)
    assert kept.keys() == without["state_dict"].keys()
    for name, value in without["state_dict"].items():
        assert torch.equal(kept[name], value), name
    states = [one["optimizer_states"][0]["state"] for one in (without, found)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    name = next(name for name in kept if name.endswith("weight"))
    assert not torch.equal(found["state_dict"][name], kept[name])
    mean = "sparsity.running_mean"  # the pass for batch normalization leaves it as it was
    assert mean not in kept or torch.equal(found["state_dict"][mean], kept[mean])


@pytest.mark.parametrize("batch_norm", ["false", "true"])
@pytest.mark.parametrize("every", [1, 2])
def test_it_is_what_is_validated_and_kept(tmp_path, batch_norm, every):
    words = (f"network.batch_norm={batch_norm}", f"+trainer.check_val_every_n_epoch={every}")
    trained(tmp_path, AVERAGED, *words)
    best = checkpoint_path(tmp_path, BEST)
    config = stored(best).config
    model, _ = parameters_of(config, read(best)["state_dict"])
    validator = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    (values,) = validator.validate(model, datamodule=build(config, "dataset"), verbose=False)
    expected = read_metrics(tmp_path)["val"]
    ours = {name.removeprefix("val/"): value for name, value in values.items()}
    assert ours == pytest.approx(expected, rel=1e-5)
    model.load_state_dict(training_weights(read(best)))
    (others,) = validator.validate(model, datamodule=build(config, "dataset"), verbose=False)
    assert others["val/loss"] != pytest.approx(expected["loss"], rel=1e-3)


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]


@pytest.mark.parametrize(
    "settings", [(), ("trainer.limit_train_batches=4",), ("+trainer.check_val_every_n_epoch=2",)]
)
def test_statistics_are_those_of_one_pass_over_the_epochs_batches(tmp_path, settings):
    recorder = Recorder()
    words = ("model=ae", "network.batch_norm=true", "network.hidden=[16,8]", AVERAGED, *settings)
    found = trained(tmp_path, *words, callbacks=[recorder])
    config = stored(checkpoint_path(tmp_path, LAST)).config
    model, _ = parameters_of(config, found["state_dict"])
    expected = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms(model)]
    seen = [[] for _ in expected]
    for norm, values in zip(norms(model), seen, strict=True):
        norm.register_forward_pre_hook(lambda _, x, values=values: values.append(x[0]))
    batches = recorder.order[max(recorder.order)]
    with torch.no_grad():
        for x in batches:
            model.train().reconstruct(x)
    for values, (mean, var) in zip(seen, expected, strict=True):
        assert len(values) == len(batches)
        means = torch.stack([x.mean(dim=0) for x in values]).mean(dim=0)
        variances = torch.stack([x.var(dim=0) for x in values]).mean(dim=0)
        torch.testing.assert_close(means, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(variances, var, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "words",
    [
        ("model=pca",),
        ("model=ae", "optimizer=lbfgs", "dataset.batch_size=null"),
    ],
)
def test_a_training_without_many_steps_is_refused(tmp_path, words):
    config, choices = configure("trainer=debug", AVERAGED, *words)
    with pytest.raises(SettingError, match=rf"{AVERAGED}: is over many small steps") as refused:
        train(config, tmp_path, choices)
    assert is_one_plain_line(refused.value)


@pytest.mark.parametrize("value", ["0", "1", "-0.5", "1.5", "true", "abc", "nan", "[0.9]"])
def test_a_decay_out_of_range_is_one_line(tmp_path, value):
    done = aecli("train", "trainer=debug", f"trainer.average={value}", cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert done.stderr == f"aecli: trainer.average={value}: must be a number in ]0, 1[\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return what a run of one epoch left, and its checkpoint's path."""
    directory = tmp_path_factory.mktemp("run")
    found = trained(directory, AVERAGED, "trainer.max_epochs=1", "network.batch_norm=true")
    return found, checkpoint_path(directory, LAST)


DAMAGES = {
    "none": lambda weights: None,
    "one missing": lambda weights: {k: v for k, v in weights.items() if k != "encoder.1.bias"},
    "one more": lambda weights: weights | {"more": torch.zeros(1)},
    "shape": lambda weights: weights | {"encoder.1.bias": torch.zeros(5)},
    "type": lambda weights: weights | {"encoder.1.bias": torch.zeros(16, dtype=torch.float64)},
    "not finite": lambda weights: weights | {"encoder.1.bias": torch.full((16,), float("nan"))},
    "no tensor": lambda weights: weights | {"encoder.1.bias": "x"},
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("side", ["average", "training"])
def test_weights_that_are_not_the_models_are_one_line(run, tmp_path, damage, side):
    found, path = run
    made = dict(found)
    if side == "average":
        made["state_dict"] = DAMAGES[damage](found["state_dict"])
    else:
        state = {"weights": DAMAGES[damage](training_weights(found))}
        made["callbacks"] = found["callbacks"] | {"RunningAverage": state}
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    config = stored(path).config
    config.trainer.max_epochs = 2
    torch.save(made, last)
    with pytest.raises(SettingError, match="weights") as refused:
        train(config, tmp_path, stored(path).choices, last)
    assert is_one_plain_line(refused.value)
    if side == "training":
        assert "callbacks: RunningAverage: " in str(refused.value)


def test_a_checkpoint_without_an_average_is_refused(run, tmp_path):
    found, path = run
    callbacks = {k: v for k, v in found["callbacks"].items() if k != "RunningAverage"}
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    torch.save(found | {"callbacks": callbacks}, last)
    config = stored(path).config
    config.trainer.max_epochs = 2
    with pytest.raises(SettingError, match="callbacks: has no RunningAverage") as refused:
        train(config, tmp_path, stored(path).choices, last)
    assert is_one_plain_line(refused.value)


def test_weights_and_average_of_a_checkpoint_are_the_models(run):
    found, path = run
    model = build(stored(path).config, "model")
    for weights in (found["state_dict"], training_weights(found)):
        check_weights(model, weights, "here")


def test_a_run_of_no_epochs_goes_on(tmp_path):
    trained(tmp_path, AVERAGED, "trainer.max_epochs=0")
    config = stored(checkpoint_path(tmp_path, LAST)).config
    config.trainer.max_epochs = 1
    train(config, tmp_path, configure()[1], checkpoint_path(tmp_path, LAST))
    assert read_metrics(tmp_path)["epochs"] == 1
