"""A known dictionary's rows, against the formulas that they are drawn by."""

from math import sqrt

import pytest
import torch
from scipy.stats import multivariate_normal, norm

from aecli.data.true_dictionary import TrueDictionary, successes, tight_frame
from aecli.errors import SettingError

SETTINGS = {
    "true_features": 40,
    "width": 8,
    "rate_exponent": 0.5,
    "highest_rate": 0.4,
    "lowest_rate": 0.002,
    "correlation_rank": 8,
    "correlation_scale": 0.2,
    "trees": 0,
    "branching": 2,
    "depth": 1,
    "exclusive": 0.0,
    "magnitudes": [5.0, 4.0],
    "deviation": [0.0, 0.0],
    "bias": 0.5,
    "seed": 0,
}
ROWS = 200_000


def made(**settings):
    return TrueDictionary(**SETTINGS | settings)


def drawn(dictionary, rows=ROWS, seed=1):
    """Return c of some rows, `(rows, N)`."""
    firings = dictionary.draw(rows, torch.Generator().manual_seed(seed))
    assert (firings.row.diff() >= 0).all()
    assert (firings.value > 0).all()
    codes = torch.zeros(rows, dictionary.count)
    codes[firings.row, firings.feature] = firings.value
    assert int(codes.count_nonzero()) == len(firings.row), "a feature stands there once"
    return codes


def close(share, expected, rows=ROWS):
    """Tell whether shares of rows are within five standard errors of the probabilities."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    error = (expected * (1 - expected) / rows).sqrt()
    return bool(((share.double() - expected).abs() < 5 * error + 1e-12).all())


def test_the_rates_are_those_of_zipfs_law():
    dictionary = made()
    powers = torch.arange(1, 41).double() ** -0.5
    expected = 0.002 + 0.398 * (powers - 40**-0.5) / (1 - 40**-0.5)
    torch.testing.assert_close(dictionary.rates, expected)
    assert dictionary.rates[0] == 0.4
    assert close((drawn(dictionary) > 0).double().mean(dim=0), expected)


def test_two_features_are_active_together_as_often_as_two_gaussians_are_large():
    dictionary = made()
    active = (drawn(dictionary) > 0).double()
    together = active.T @ active / ROWS
    shared, thresholds = dictionary.shared.double(), norm.isf(dictionary.rates)
    for one, other in ((0, 1), (0, 7), (2, 30), (5, 6)):
        correlation = float(shared[one] @ shared[other])
        expected = multivariate_normal.cdf(
            [-thresholds[one], -thresholds[other]], cov=[[1, correlation], [correlation, 1]]
        )
        assert close(together[one, other], expected)
    assert (shared @ shared.T).fill_diagonal_(0).abs().max() > 0.2


@pytest.mark.parametrize(("exclusive", "depth"), [(0.0, 1), (1.0, 1), (0.0, 3), (1.0, 3)])
def test_a_child_is_active_only_with_its_parent_and_about_as_often_as_it_shall(exclusive, depth):
    dictionary = made(
        true_features=60, trees=3, depth=depth, exclusive=exclusive, correlation_scale=0.0
    )
    active = drawn(dictionary) > 0
    children = torch.arange(3, dictionary.in_trees)
    parents = (children - 3) // 2
    assert not (active[:, children] & ~active[:, parents]).any()
    siblings = active[:, 3 : dictionary.in_trees].view(ROWS, -1, 2).sum(dim=2)
    assert siblings.max() == 2 - exclusive
    given = dictionary.rates[3 : dictionary.in_trees].view(-1, 2)
    given = given / dictionary.rates[: len(given), None]
    if exclusive:  # a and b at once: each is left in half of the cases
        given = (given * (1 + given.flip(1))).clamp_max(1)
        given = given * (1 - given.flip(1) / 2)
    of_parent = active[:, : len(given)].double().sum(dim=0)
    rows = of_parent.repeat_interleave(2)
    assert close(active[:, children].double().sum(dim=0) / rows, given.flatten(), rows)
    alone = slice(dictionary.in_trees, None)
    assert close(active[:, alone].double().mean(dim=0), dictionary.rates[alone])


def test_a_child_shares_gaussians_with_its_parent():
    dictionary = made(trees=10, depth=1)
    share = (drawn(dictionary) > 0).double().mean(dim=0)
    shared, thresholds = dictionary.shared.double(), dictionary.thresholds.double()
    for child in (10, 15, 16, 29):
        parent = (child - 10) // 2
        correlation = float(shared[parent] @ shared[child])
        expected = multivariate_normal.cdf(
            [-thresholds[parent], -thresholds[child]], cov=[[1, correlation], [correlation, 1]]
        )
        assert close(share[child], expected)
    assert (share[10:30] - dictionary.rates[10:30]).abs().max() > 0.005, "by the correlation"


def test_of_some_parents_only_the_children_exclude_each_other():
    dictionary = made(true_features=70, trees=10, depth=2, exclusive=0.3)
    assert int(dictionary.excludes.sum()) == 9  # of 30
    active = drawn(dictionary) > 0
    together = active[:, 10:].view(ROWS, -1, 2)[:, :30].all(dim=2).any(dim=0)
    assert torch.equal(together[:20], ~dictionary.excludes[:20])


def test_magnitudes_fall_from_the_first_to_the_last_and_a_childs_go_with_its_parents():
    codes = drawn(made(trees=3, depth=1))
    fixed = torch.linspace(5, 4, 40)
    torch.testing.assert_close(codes.amax(dim=0), fixed)
    dictionary = made(trees=3, depth=1, deviation=[0.5, 0.2])
    codes = drawn(dictionary)
    spread = dictionary.spread
    assert spread.min() >= 0
    assert 0.4 < spread.mean() < 0.6
    for root in range(3):
        values = codes[:, root][codes[:, root] > 0]
        assert float(values.mean()) == pytest.approx(
            float(fixed[root]), abs=5 * float(spread[root]) / len(values) ** 0.5
        )
        assert float(values.std()) == pytest.approx(float(spread[root]), rel=0.05)
        child = 3 + 2 * root
        both = codes[:, [root, child]][codes[:, child] > 0]
        own = both[:, 1] / both[:, 0] * fixed[root]
        assert float(own.mean()) == pytest.approx(
            float(fixed[child]), abs=5 * float(spread[child]) / len(own) ** 0.5
        )
        assert float(own.std()) == pytest.approx(float(spread[child]), rel=0.1)


def test_rows_are_sums_of_the_features_and_the_bias():
    dictionary = made(trees=3, depth=2, deviation=[0.5, 0.5])
    firings = dictionary.draw(500, torch.Generator().manual_seed(1))
    codes = drawn(dictionary, 500)
    expected = codes @ dictionary.features + dictionary.bias
    torch.testing.assert_close(dictionary.sums(firings, 500), expected)
    assert dictionary.bias.norm() == pytest.approx(0.5)
    assert (codes == 0).all(dim=1).any(), "a row without a feature"


@pytest.mark.parametrize(("count", "width"), [(40, 8), (8, 8), (5, 8)])
def test_features_are_a_tight_frame_of_unit_rows(count, width):
    rows = tight_frame(torch.randn(count, width, dtype=torch.float64))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(count).double())
    squares = (rows @ rows.T).square().sum() - count
    least = max(0, count * (count / width - 1))  # Welch 1974
    assert squares == pytest.approx(least, rel=0.01, abs=1e-9)


def test_successes_are_independent_and_as_often_as_they_shall():
    generator = torch.Generator().manual_seed(0)
    assert len(successes(0, 0.02, generator)) == 0
    count, rate = 1_000_000, 0.02
    places = successes(count, rate, generator)
    assert len(places) == pytest.approx(count * rate, abs=5 * sqrt(count * rate))
    assert (places.diff() >= 1).all()
    assert 0 <= places[0] <= places[-1] < count
    hit = torch.zeros(count)
    hit[places] = 1
    follow = float((hit[1:] * hit[:-1]).sum())
    assert follow == pytest.approx(count * rate**2, abs=5 * rate * sqrt(count))


def test_the_published_settings_have_the_published_number_of_active_features():
    """About 34, and about 25 among the first 4,096 (SAELens, docs/synth_sae_bench.md)."""
    published = {"correlation_rank": 25, "correlation_scale": 0.1, "lowest_rate": 0.0005}
    trees = {"trees": 128, "branching": 4, "depth": 3, "exclusive": 1.0}
    dictionary = made(true_features=16384, width=768, deviation=[0.5, 0.5], **published, **trees)
    firings = dictionary.draw(8192, torch.Generator().manual_seed(0))
    assert len(firings.row) / 8192 == pytest.approx(34.5, abs=0.5)
    assert int((firings.feature < 4096).sum()) / 8192 == pytest.approx(25.2, abs=0.4)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"true_features": 0}, "dataset.true_features=0: must be a whole number of at least 1"),
        ({"rate_exponent": 0}, "dataset.rate_exponent=0: must be a number"),
        ({"highest_rate": 1.5}, "dataset.highest_rate=1.5: must be a number in ]0, 1]"),
        ({"lowest_rate": 0.5}, "dataset.lowest_rate=0.5: must be at most dataset.highest_rate=0.4"),
        ({"correlation_scale": 0.9}, "dataset.correlation_scale=0.9: must be smaller"),
        ({"correlation_rank": 0}, "dataset.correlation_rank=0: must be a whole number"),
        ({"trees": 14}, "dataset.depth=1: are trees of 42 features, and dataset.true_features=40"),
        ({"trees": 1, "depth": 20, "branching": 1000}, "dataset.trees=1, dataset.branching=1000"),
        ({"trees": -1}, "dataset.trees=-1: must be a whole number of at least 0"),
        ({"depth": 0}, "dataset.depth=0: must be a whole number from 1 to 20"),
        ({"exclusive": 2}, "dataset.exclusive=2: must be a number in [0, 1]"),
        ({"magnitudes": [5.0]}, "dataset.magnitudes=[5.0]: must be a list of 2 values"),
        ({"magnitudes": [5, 0]}, "each value must be a number above 0"),
        ({"deviation": [-1, 0]}, "each value must be a number of at least 0"),
        ({"bias": -1}, "dataset.bias=-1: must be a number"),
        ({"true_features": 2**31 - 1, "width": 10**6}, "would take"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(settings, told):
    with pytest.raises(SettingError) as refusal:
        made(**settings).draw(1, torch.Generator())
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)
