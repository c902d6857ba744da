import gc
import weakref

import pytest
import torch

from aecli.models import accumulators
from aecli.models.accumulators import Activity, Means


@pytest.fixture(params=[1, 5, 1 << 15], autouse=True)
def late(request, monkeypatch):
    monkeypatch.setattr(accumulators, "SCALARS", request.param)
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
    activity = Activity(lambda code: code != 0)
    for code in codes.split(2):
        activity.add(code)
    assert activity.unit_means.tolist() == pytest.approx([1, 4 / 3, 0])
    expected = {"mean_activation": 7 / 9, "l0": 4 / 3, "dead_share": 1 / 3}
    assert activity.compute() == pytest.approx(expected)


def test_what_is_added_keeps_no_graph():
    weight = torch.ones(3, requires_grad=True)
    saved = torch.rand(3)  # for the gradient, as long as there is a graph
    of_saved = weakref.ref(saved)
    means, activity = Means(), Activity(lambda code: code != 0)
    means.add({"a": (weight * saved).sum()}, 3)
    activity.add((weight * saved).expand(3, 3))
    del saved
    gc.collect()
    assert of_saved() is None
    assert not activity.unit_means.requires_grad
