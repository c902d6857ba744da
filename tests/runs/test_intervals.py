"""The intervals against SciPy's, and against what they promise: the true value in 95 of 100."""

import numpy as np
import pytest
from scipy import stats

from aecli.runs.intervals import of_difference, of_error, of_mean

A, B = [1.2, 0.7, 1.9, 1.4], [2.5, 2.1, 3.7, 2.2]


def by_seed(values, first=0):
    return dict(enumerate(map(float, values), first))


def test_they_are_those_of_scipy():
    assert of_mean(A) == pytest.approx(stats.ttest_1samp(A, 0).confidence_interval())
    paired = of_difference(by_seed(A), by_seed(B))
    assert paired.paired
    assert paired.value == pytest.approx(np.mean(A) - np.mean(B))
    assert paired.interval == pytest.approx(stats.ttest_rel(A, B).confidence_interval())
    welch = of_difference(by_seed(A), by_seed(B[:3]))
    assert not welch.paired
    expected = stats.ttest_ind(A, B[:3], equal_var=False).confidence_interval()
    assert welch.interval == pytest.approx(expected)
    for wrong in (0, 3, 160, 10_000):
        exact = stats.binomtest(wrong, 10_000).proportion_ci()
        assert of_error(wrong / 100, 10_000) == pytest.approx([100 * exact.low, 100 * exact.high])


def test_pairs_are_found_by_seed_not_by_order():
    turned = dict(reversed(by_seed(B).items()))
    assert of_difference(by_seed(A), turned) == of_difference(by_seed(A), by_seed(B))
    assert not of_difference(by_seed(A), by_seed(B, first=1)).paired


def test_one_value_has_no_interval():
    assert of_mean([1.0]) is None
    assert of_difference(by_seed([1.0]), by_seed(B)) is None
    assert of_difference(by_seed(A), {}) is None


def test_values_that_do_not_vary_have_an_interval_without_width():
    assert of_mean([3.0, 3.0, 3.0]) == (3.0, 3.0)
    assert of_difference(by_seed([3.0, 3.0]), by_seed([1.0, 1.0], first=5)).interval == (2.0, 2.0)


@pytest.mark.parametrize("seeds", [(3, 3, True), (3, 5, False), (2, 4, False)])
def test_the_true_difference_lies_within_95_of_100_intervals(seeds):
    count, other, shared = seeds
    random = np.random.default_rng(0)
    held, trials = 0, 2000
    for _ in range(trials):
        common = random.normal(0, 2, count) if shared else np.zeros(count)  # a seed's own luck
        ours = random.normal(1.0, 1.0, count) + common
        theirs = random.normal(0.0, 1.0, other) + (common if shared else 0)
        interval = of_difference(by_seed(ours), by_seed(theirs, 0 if shared else 9)).interval
        held += interval.low <= 1.0 <= interval.high
    assert held / trials == pytest.approx(0.95, abs=0.02)  # four standard errors


def test_an_error_lies_within_at_least_95_of_100_intervals():
    wrong = np.random.default_rng(0).binomial(500, 0.02, 2000)
    intervals = [of_error(100 * count / 500, 500) for count in wrong]
    held = np.mean([interval.low <= 2 <= interval.high for interval in intervals])
    assert 0.94 <= held <= 0.99
