import gc
import weakref
from contextlib import suppress

import pytest
import torch

from aecli.errors import SettingError
from aecli.models import accumulators
from aecli.models.accumulators import Activity, Means
from aecli.sparsity import Sparsity
from tests.hostile import DROPPED, STRANGE, tensors_like


@pytest.fixture(params=[1, 5, 1 << 15], autouse=True)
def late(request, monkeypatch):
    monkeypatch.setattr(accumulators, "NUMBERS", request.param)
    monkeypatch.setattr(accumulators, "BATCHES", min(request.param, 1024))


def test_means_weigh_batches_by_their_examples():
    values = torch.rand(10)
    means = Means()
    for part in values.split(4):  # 4, 4 and 2
        means.add({"a": part.mean(), "b": 2 * part.mean()}, len(part))
    expected = {"a": values.mean().item(), "b": 2 * values.mean().item()}
    assert means.compute() == pytest.approx(expected)
    assert Means().compute() == {}


def test_means_of_many_batches_take_no_more_memory(monkeypatch):
    monkeypatch.setattr(accumulators, "BATCHES", 4)
    means, values = Means(), torch.rand(103)
    for value in values:
        means.add({"a": value}, 1)
        assert len(means.state()["values"]) < 4
    assert means.compute() == pytest.approx({"a": values.mean().item()})


def test_activity_is_that_of_the_whole_set():
    codes = torch.tensor([[1.0, 0.0, 0.0], [2.0, 3.0, 0.0], [0.0, 1.0, 0.0]])
    activity = Activity(Sparsity())
    for code in codes.split(2):
        activity.add(code)
    assert activity.unit_means.tolist() == pytest.approx([1, 4 / 3, 0])
    expected = {"mean_activation": 7 / 9, "l0": 4 / 3, "dead_share": 1 / 3}
    assert activity.compute() == pytest.approx(expected)


def test_the_means_of_half_floats_are_not_rounded_batch_by_batch():
    codes = torch.rand(4001, 3).bfloat16()
    activity = Activity(Sparsity())
    activity.add(codes)
    assert torch.allclose(activity.unit_means, codes.double().mean(dim=0), rtol=1e-6)


@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_a_state_goes_on_to_the_same_last_bit(after):
    codes = (torch.rand(20, 7) - 0.3).relu().split(3)
    sums = [(Means(), Activity(Sparsity())) for _ in range(2)]
    for number, code in enumerate(codes):
        if number == after:
            means, activity = Means(), Activity(Sparsity())
            means.load(sums[1][0].state(), 7)
            activity.load(sums[1][1].state(), 7)
            sums[1] = means, activity
        for means, activity in sums:
            means.add({"loss": code.mean(), "nll": code.amax()}, len(code))
            activity.add(code)
    whole, parted = ([part.compute() for part in parts] for parts in sums)
    assert whole == parted
    assert torch.equal(sums[0][1].unit_means, sums[1][1].unit_means)


@pytest.mark.parametrize("kind", [Means, Activity])
def test_a_strange_state_is_refused(kind):
    new = (lambda: Activity(Sparsity())) if kind is Activity else Means
    own = new()
    for _ in range(3):
        own.add(*((torch.rand(2, 4),) if kind is Activity else ({"loss": torch.rand(())}, 2)))
    state, refused = own.state(), 0
    for name, value in state.items():
        strange = [*STRANGE, *(tensors_like(value) if isinstance(value, torch.Tensor) else ())]
        for other in [*strange, DROPPED]:
            changed = {key: v for key, v in state.items() if key != name}
            changed |= {} if other is DROPPED else {name: other}
            part = new()
            try:
                part.load(changed, 4)
            except Exception:  # `rebuilt` makes one line of it
                refused += 1
                continue
            with suppress(SettingError):
                part.compute()
    assert refused > 60


def test_what_is_added_keeps_no_graph():
    class Noted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.noted = Note()
            notes.append(weakref.ref(ctx.noted))
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    notes = []
    means, activity = Means(), Activity(Sparsity())
    result = Noted.apply(torch.ones((), requires_grad=True))
    means.add({"a": result}, 3)
    activity.add(result.expand(3, 2))
    assert notes[0]() is not None
    del result
    gc.collect()
    assert notes[0]() is None
    assert means.compute() == {"a": 2}
    assert not activity.unit_means.requires_grad


class Note:
    """Something that a weak reference can point to."""
