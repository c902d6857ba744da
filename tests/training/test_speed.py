"""Which arithmetic is chosen, and that looking for it changes nothing."""

import shutil
import warnings
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from aecli.build import build
from aecli.commands.train import train
from aecli.models import VAE
from aecli.runs.metrics_file import read_metrics
from aecli.training import speed
from aecli.training.speed import FULL, MIXED, Arithmetic, fastest_product, fastest_step
from tests.conftest import configure

CPU = torch.device("cpu")


def parts(*overrides):
    config, _ = configure("network.hidden=[16]", *overrides)
    model, data = build(config, "model"), build(config, "dataset")
    data.setup()
    return model, data


class Clock:
    """Time that passes only in the steps of a model, as long as each is said to take."""

    def __init__(self):
        self.now = 0.0
        self.seconds = {}
        self.asked = Counter()

    def perf_counter(self):
        return self.now

    def pass_step(self, model):
        precision = MIXED if torch.is_autocast_enabled("cpu") else FULL
        weights = [weight for weight in model.parameters() if weight.ndim == 4]
        arithmetic = Arithmetic(
            precision,
            hasattr(model, "is_compiled"),
            bool(weights) and all(not weight.is_contiguous() for weight in weights[1:-1]),
        )
        self.asked[arithmetic] += 1
        self.now += self.seconds[arithmetic]


@pytest.fixture
def clock(monkeypatch):
    """Let a step of each arithmetic take the seconds that it is said to take."""
    clock, terms = Clock(), VAE.terms
    full, mixed = Arithmetic(FULL, compiled=False), Arithmetic(MIXED, compiled=False)
    clock.seconds = {full: 0.010, mixed: 0.006, mixed._replace(compiled=True): 0.005}
    clock.seconds[full._replace(compiled=True)] = 0.004

    def timed(self, x, seen=None):
        clock.pass_step(self)
        return terms(self, x, seen)

    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    monkeypatch.setattr(VAE, "terms", timed)
    monkeypatch.setattr(VAE, "compile_terms", lambda self: setattr(self, "is_compiled", True))
    return clock


def test_the_quickest_is_taken_and_compiling_tried_for_long_trainings(clock):
    model, data = parts()
    assert fastest_step(model, data, CPU, steps=1000) == Arithmetic(MIXED, compiled=False)
    assert not any(candidate.compiled for candidate in clock.asked)
    assert fastest_step(model, data, CPU, steps=1e6) == Arithmetic(MIXED, compiled=True)
    clock.seconds[Arithmetic(MIXED, compiled=True)] = 0.007
    assert fastest_step(model, data, CPU, steps=1e6) == Arithmetic(MIXED, compiled=False)
    clock.seconds[Arithmetic(FULL, compiled=False)] = 0.003
    assert fastest_step(model, data, CPU, steps=1000) == Arithmetic(FULL, compiled=False)


@pytest.mark.parametrize(
    "overrides",
    [["model.warmup_epochs=2"], ["model.warmup_steps=2"], ["sparsity=topk", "sparsity.k_start=15"]],
)
def test_what_changes_by_the_step_is_not_compiled(clock, overrides):
    model, data = parts(*overrides)
    assert not fastest_step(model, data, CPU, steps=1e6).compiled


@pytest.mark.parametrize(
    "overrides", [["model=pca"], ["optimizer=lbfgs", "dataset.batch_size=null"]]
)
def test_steps_of_another_kind_stay_as_they_are(clock, overrides):
    model, data = parts(*overrides)
    assert fastest_step(model, data, CPU, steps=1e6) == Arithmetic(FULL, compiled=False)
    assert not clock.asked


def test_convolutions_are_timed_in_both_layouts_of_the_memory(clock):
    model, data = parts("model=vae")
    fastest_step(model, data, CPU, steps=100)
    assert {candidate.channels_last for candidate in clock.asked} == {False}
    config, _ = configure("model=vae", "network=conv")
    model = build(config, "model")
    full, mixed = Arithmetic(FULL, compiled=False), Arithmetic(MIXED, compiled=False)
    for slower in (full, mixed):
        clock.seconds[slower._replace(channels_last=True)] = 0.9 * clock.seconds[slower]
    assert fastest_step(model, data, CPU, steps=100) == mixed._replace(channels_last=True)
    assert str(mixed._replace(channels_last=True, compiled=True)) == (
        "bf16-mixed compiled channels last"
    )


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_resumed_training_lies_in_memory_as_before(tmp_path, monkeypatch, channels_last):
    chosen = Arithmetic(FULL, compiled=False, channels_last=channels_last)
    monkeypatch.setattr("aecli.commands.train.fastest_step", lambda *_: chosen)
    ends = []
    for epochs in ((2,), (1, 2)):
        settings = ("model=ae", "network=conv", "network.channels=[3,5]", "dataset.train_size=64")
        config, choices = configure("trainer=fast", "pictures_every=0", *settings)
        folder, last = tmp_path / str(len(epochs)), None
        for end in epochs:
            config.trainer.max_epochs = end
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Checkpoint directory .* exists")
                train(config, folder, choices, last)
            last = folder / "checkpoints" / "last.ckpt"
        ends.append(torch.load(last, weights_only=True)["state_dict"])
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    lies_so = ends[0]["encoder.2.weight"].is_contiguous(memory_format=torch.channels_last)
    assert lies_so == channels_last


def test_looking_changes_neither_weights_nor_random_numbers():
    model, data = parts("noise=masking")
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    state = torch.get_rng_state()
    assert fastest_step(model, data, CPU, steps=100).precision in (FULL, MIXED)
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights[name])
    assert all(weight.grad is None for weight in model.parameters())


def test_trainer_fast(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "aecli.commands.train.fastest_step", lambda *_: Arithmetic(MIXED, compiled=False)
    )
    config, choices = configure("trainer=fast", "trainer.max_epochs=1", "pictures_every=0")
    train(config, tmp_path, choices)
    assert read_metrics(tmp_path)["precision"] == MIXED
    # A resumed run keeps what was found: another arithmetic would end with other weights.
    chosen = Arithmetic(FULL, compiled=False)
    monkeypatch.setattr("aecli.commands.train.fastest_step", lambda *_: chosen)
    config.trainer.max_epochs = 2
    with pytest.warns(UserWarning, match="exists and is not empty"):
        train(config, tmp_path, choices, tmp_path / "checkpoints" / "last.ckpt")
    assert (read_metrics(tmp_path)["precision"], read_metrics(tmp_path)["epochs"]) == (MIXED, 2)


@pytest.mark.slow
# torch's compiler uses a part of torch that torch deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_terms_are_the_same():
    model, data = parts("model=ae")
    x = next(iter(data.train_dataloader())).x
    expected, names = model.terms(x), list(model.state_dict())
    model.compile_terms()
    for value, plain in zip(model.terms(x), expected, strict=True):
        if plain is not None:
            torch.testing.assert_close(value, plain)
    assert list(model.state_dict()) == names


def test_what_is_much_slower_is_left_after_a_few_steps(clock):
    full, mixed = Arithmetic(FULL, compiled=False), Arithmetic(MIXED, compiled=False)
    clock.seconds |= {full: 0.1, mixed: 1.0}
    model, data = parts()
    assert fastest_step(model, data, CPU, steps=100) == full
    assert clock.asked[mixed] < clock.asked[full] / 10


class Products(TorchDispatchMode):
    """Lets a matrix product take a time by the type of its numbers."""

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.mm.default:
            self.clock.now += self.seconds[args[0].dtype]
        return function(*args, **kwargs or {})


@pytest.mark.parametrize(("full", "mixed", "expected"), [(1, 2, FULL), (2, 1, MIXED)])
def test_the_precision_of_the_quicker_product_is_taken(clock, full, mixed, expected):
    state = torch.get_rng_state()
    with Products(clock, {torch.float32: full, torch.bfloat16: mixed}):
        assert fastest_product(CPU) == expected
    assert torch.equal(torch.get_rng_state(), state)
