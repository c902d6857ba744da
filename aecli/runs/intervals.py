"""95 % confidence intervals of what runs measure. Imports no torch.

The intervals over seeds are for the mean over all seeds, given the data and its split. An interval
over test images is for the error on all images of the kind, given the weights.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, variance
from typing import Any, NamedTuple

LEVEL = 0.95


class Interval(NamedTuple):
    """From `low` to `high`."""

    low: float
    high: float


class Difference(NamedTuple):
    """The difference of two means."""

    value: float
    interval: Interval
    paired: bool
    """Whether it is the mean of the differences seed by seed."""


def of_mean(values: Sequence[float]) -> Interval | None:
    """Return x̄ ± t s/√n, t of n − 1 degrees of freedom (Student 1908); None for n < 2."""
    if len(values) < 2:
        return None
    return _around(mean(values), variance(values) / len(values), len(values) - 1)


def of_difference(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> Difference | None:
    """Return the mean of `ours` minus that of `theirs`, values by seed; None where one has n < 2.

    With the same seeds on both sides: Student's interval of the differences, seed by seed.
    Otherwise Welch's (1947), of independent values with two variances.
    """
    if min(len(ours), len(theirs)) < 2:
        return None
    if ours.keys() == theirs.keys():
        differences = [ours[seed] - theirs[seed] for seed in ours]
        interval = _around(
            mean(differences), variance(differences) / len(differences), len(differences) - 1
        )
        return Difference(mean(differences), interval, paired=True)
    value = mean(ours.values()) - mean(theirs.values())
    shares = [(variance(side.values()) / len(side), len(side) - 1) for side in (ours, theirs)]
    square = sum(share for share, _ in shares)
    below = sum(share**2 / freedom for share, freedom in shares)
    interval = _around(value, square, square**2 / below if below else 1)
    return Difference(value, interval, paired=False)


def of_error(percent: float, images: int) -> Interval:
    """Return the interval of an error in % on this many test images (Clopper & Pearson 1934).

    Its true probability is at least 95 %: the number of wrong images is binomial.
    """
    from scipy.special import betaincinv

    wrong, tail = round(percent / 100 * images), (1 - LEVEL) / 2
    low = betaincinv(wrong, images - wrong + 1, tail) if wrong else 0.0
    high = betaincinv(wrong + 1, images - wrong, 1 - tail) if wrong < images else 1.0
    return Interval(100 * float(low), 100 * float(high))


def _around(center: float, square: float, freedom: float) -> Interval:
    """Return Student's interval for a standard error of √`square`."""
    from scipy.special import stdtrit  # half of the time of importing scipy.stats

    reach = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(square)
    return Interval(center - reach, center + reach)
