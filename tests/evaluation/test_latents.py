"""What single latents do: against dense codes, in batches of any size."""

import numpy as np
import pytest
import torch

from aecli.data import Batch
from aecli.errors import SettingError
from aecli.evaluation.latents import BINS, by_decade, check_shown, latents_of, sampled
from tests.models.test_dictionary import dictionary

ROWS, UNITS = 203, 64
WANTED = [7, 0, 63, 21]


def batches(x, size):
    return [Batch(part, part, torch.zeros(len(part))) for part in x.split(size)]


@pytest.fixture(scope="module", params=["topk", "matryoshka", "gated"])
def known(request):
    """Return a dictionary, rows `(N, d)` and their dense codes `(N, n)`."""
    model = dictionary(request.param)
    x = torch.randn(ROWS, 12, generator=torch.Generator().manual_seed(1)) + 0.5
    x = torch.cat([x, x[:20]])  # so that some activations are equal
    with torch.no_grad():
        model.start_at(x)
        return model.eval(), x, model.encode(x)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_latents_are_those_of_dense_codes(known, size):
    model, x, codes = known
    for found in latents_of(model, batches(x, size), WANTED, 5):
        z = codes[:, found.number].double()
        active = z[z > 0]
        assert found.active == len(active)
        assert found.rate == pytest.approx(len(active) / len(x))
        assert found.mean == pytest.approx(float(active.mean()) if len(active) else 0, rel=1e-5)
        expected = sorted(range(len(x)), key=lambda place: (-round(float(z[place]), 5), place))
        expected = [place for place in expected if z[place] > 0][:5]
        assert [row.place for row in found.rows] == expected
        assert [row.activation for row in found.rows] == pytest.approx(z[expected], rel=1e-5)
        edges = found.width * np.arange(BINS + 1)
        assert sum(found.bins) == len(active)
        assert found.bins == np.histogram(active, edges)[0].tolist()
        if len(active):
            assert edges[BINS // 2] <= active.max() < edges[BINS]
    assert [found.number for found in latents_of(model, batches(x, 50), WANTED, 1)] == WANTED


def test_a_sample_goes_from_seldom_to_frequent_latents_and_leaves_dead_ones_out():
    rates = torch.linspace(0.5, 0.01, 100)
    rates[::2] = 0
    assert sampled(rates) == [95, 85, 75, 65, 55, 45, 35, 25, 15, 5]
    assert sampled(torch.tensor([0.0, 0.3, 0.1])) == [2, 1]
    assert sampled(torch.zeros(5)) == []


def test_firing_rates_are_counted_by_decades():
    rates = torch.tensor([0, 0, 1e-7, 2e-6, 0.01, 0.0999, 0.1, 1], dtype=torch.float64)
    assert by_decade(rates) == {
        "0": 2,
        "below 1e-6": 1,
        "1e-6 to 1e-5": 1,
        "1e-5 to 0.0001": 0,
        "0.0001 to 0.001": 0,
        "0.001 to 0.01": 0,
        "0.01 to 0.1": 2,
        "0.1 to 1": 2,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((None, [3]), r"eval\.latents=\[3\]: goes with eval\.top_rows"),
        ((0, None), r"eval\.top_rows=0: must be a whole number from 1 to 1000"),
        ((5, [3, 64]), r"eval\.latents=\[3, ?64\]: .*from 0 to 63 \(the dictionary has 64 latents"),
        ((5, [3, 3]), r"eval\.latents=\[3, ?3\]: 3 stands there twice"),
        ((5, []), r"eval\.latents=\[\]: must be a list of at least one value"),
    ],
)
def test_settings_that_a_dictionary_lacks_are_refused(settings, message):
    check_shown(5, [3, 63], UNITS)
    check_shown(None, None, UNITS)
    with pytest.raises(SettingError, match=message):
        check_shown(*settings, UNITS)
