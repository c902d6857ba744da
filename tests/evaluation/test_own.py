"""Metrics of plugins."""

import math
import sys
from types import ModuleType

import pytest

from aecli import plugins
from aecli.build import build
from aecli.errors import SettingError
from aecli.evaluation.own import Metric, computed, own_metrics
from aecli.models.accumulators import Means
from tests.conftest import configure
from tests.hostile import is_one_plain_line


class Brightness(Metric):
    name = "brightness"
    unit = "grey values"
    more_is_better = True

    def __call__(self, model, batches):
        means = Means()
        for batch in batches:
            means.add({"x": model.reconstruct(batch.original).mean()}, len(batch.x))
        return means.compute()["x"]


def variant(**attributes):
    """Return another metric with these attributes."""
    return type("Other", (Metric,), {"__module__": "mine", "name": "other", **attributes})


@pytest.fixture
def plugin(monkeypatch):
    """Name a plugin that has these metrics."""
    monkeypatch.setattr(plugins, "_typed", {})

    def make(*kinds, name="mine"):
        module = ModuleType(name)
        for number, kind in enumerate(kinds):
            kind.__module__ = name
            setattr(module, f"Metric{number}", kind)
        monkeypatch.setitem(plugins._typed, name, module)
        monkeypatch.setitem(sys.modules, name, module)

    return make


@pytest.fixture(scope="module")
def data():
    found = build(configure("dataset.train_size=64")[0], "dataset")
    found.setup()
    return found


def test_a_metric_is_computed_over_the_examples_not_the_batches(plugin, data):
    plugin(Brightness)
    model = build(configure("model=ae")[0], "model").eval()
    own = own_metrics([])
    values = [computed(own, model, data.batches("test", size), {}) for size in (7, 360)]
    assert list(own) == list(values[0]) == ["brightness"]
    assert values[0]["brightness"] == pytest.approx(values[1]["brightness"], rel=1e-6)


def test_the_metrics_of_a_runs_own_plugins_are_computed_too(plugin, monkeypatch):
    plugin(variant(), name="mine")
    plugins._typed.clear()
    monkeypatch.setattr(plugins, "_installed", lambda: ("mine",))
    assert own_metrics([]) == {}
    assert list(own_metrics(["mine"])) == ["other"]


@pytest.mark.parametrize(
    "name", ["", "Sharp", "a b", "seed", "settings", 3, None, "x" * 41, "\x1b"]
)
def test_a_name_that_is_none_is_refused(plugin, name):
    plugin(variant(name=name))
    with pytest.raises(SettingError, match=r"plugins=\[mine\]: the metric Other has") as refused:
        own_metrics([])
    assert is_one_plain_line(refused.value)


def test_two_metrics_of_a_name_are_refused(plugin):
    plugin(variant(), variant())
    with pytest.raises(SettingError, match="has the name of another one: other"):
        own_metrics([])


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda *_: math.nan, "gave nan; must give a finite number"),
        (lambda *_: -math.inf, "gave -inf; must give a finite number"),
        (lambda *_: "x", "ValueError: could not convert string to float"),
        (lambda *_: None, "TypeError: float"),
        (lambda *_: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_value_that_is_no_finite_number_is_told_by_name(plugin, result, message):
    plugin(variant(__call__=result))
    with pytest.raises(SettingError, match=rf"^metric other \(mine\.Other\): {message}"):
        computed(own_metrics([]), None, [], {})


def test_a_name_of_aeclis_is_refused(plugin):
    plugin(variant())
    with pytest.raises(SettingError, match="aecli has a metric of this name"):
        computed(own_metrics([]), None, [], {"other": 1.0})
