import gc
import weakref

import pytest
import torch

from aecli.models import accumulators
from aecli.models.accumulators import Activity, Means
from aecli.sparsity import Sparsity


@pytest.fixture(params=[1, 5, 1 << 15], autouse=True)
def late(request, monkeypatch):
    monkeypatch.setattr(accumulators, "NUMBERS", request.param)


def test_means_weigh_batches_by_their_examples():
    values = torch.rand(10)
    means = Means()
    for part in values.split(4):  # 4, 4 and 2
        means.add({"a": part.mean(), "b": 2 * part.mean()}, len(part))
    expected = {"a": values.mean().item(), "b": 2 * values.mean().item()}
    assert means.compute() == pytest.approx(expected)
    assert Means().compute() == {}


def test_activity_is_that_of_the_whole_set():
    codes = torch.tensor([[1.0, 0.0, 0.0], [2.0, 3.0, 0.0], [0.0, 1.0, 0.0]])
    activity = Activity(Sparsity())
    for code in codes.split(2):
        activity.add(code)
    assert activity.unit_means.tolist() == pytest.approx([1, 4 / 3, 0])
    expected = {"mean_activation": 7 / 9, "l0": 4 / 3, "dead_share": 1 / 3}
    assert activity.compute() == pytest.approx(expected)


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
