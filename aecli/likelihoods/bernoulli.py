"""Likelihoods of values in [0, 1], or of 0 and 1 alone."""

from math import gcd

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

from aecli.errors import SettingError
from aecli.likelihoods.base import (
    LEAST_MEAN,
    Distribution,
    Likelihood,
    features,
)


class Bernoulli(Likelihood):
    """p(x|z) = Π Bernoulli(x_i; sigmoid(l_i)), the decoder's output as logits l; x in {0, 1}."""

    support = "0 and 1"
    takes_logits = True

    def supports(self, x: Tensor) -> Tensor:
        """Return which are 0 or 1."""
        return (x == 0) | (x == 1)

    def forward(self, parameters: Tensor) -> Distribution:
        """Return Bernoulli variables with these logits."""
        return BernoulliVariables(parameters)

    def check(self, values: Tensor) -> None:
        """Refuse anything but 0 and 1."""
        if not self.supports(values).all():
            raise SettingError(
                "likelihood=bernoulli: the data has grey values, and must be 0 or 1; set"
                " dataset.binarize=dynamic, fixed or round, or likelihood=cross_entropy, which"
                " takes grey values and is no density"
            )


FACTORS = 8
"""How many numbers in [½, 1] are multiplied before a logarithm is taken: far from underflow."""


class BernoulliVariables:
    """`torch.distributions.Bernoulli` over examples, computed faster."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        """Return sigmoid(l)."""
        return self.logits.sigmoid()

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_i x_i log y_i + (1−x_i) log(1−y_i), y = sigmoid(l), `(…)`."""
        if torch.is_grad_enabled():
            logits, x = self.logits, value.expand_as(self.logits)
            return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(
                features(value)
            )
        # Nothing is kept for a gradient: Σ (x − ½) l − ½ |l| + log sigmoid(|l|), the last with one
        # logarithm for the product of a few pixels, takes half of the time. The first two cancel
        # pixel by pixel, of a sure decoder: their sums would have rounding errors of their own.
        logits, dimensions = self.logits.to(value.dtype), features(value)
        size = logits.abs()
        linear = logits.mul(value - 0.5).sub_(size, alpha=0.5).sum(dimensions)
        factors = size.sigmoid_().flatten(dimensions[0])
        products = factors.unflatten(-1, (gcd(FACTORS, factors.shape[-1]), -1)).prod(-2)
        return linear + products.log_().sum(-1)


class CrossEntropy(Bernoulli):
    """−log p = −Σ x_i log y_i + (1−x_i) log(1−y_i), y = sigmoid(l), for grey x in [0, 1].

    The reconstruction cross-entropy of Vincent et al. 2008 (eq. 3). Not a density: it does not
    integrate to one over [0, 1], so that no `nll` or `elbo` is reported.
    """

    support = "in [0, 1]"
    is_density = False

    def supports(self, x: Tensor) -> Tensor:
        """Return which are in [0, 1]."""
        return _in_unit_interval(x)

    def check(self, values: Tensor) -> None:
        """Refuse values outside [0, 1]."""
        _check_unit_interval("cross_entropy", values)


BISECTIONS = 40
"""Of an interval of 2,000, down to the precision of float32."""


class ContinuousBernoulli(Likelihood):
    """p(x|z) = Π C(λ_i) λ_i^x_i (1−λ_i)^(1−x_i), λ = sigmoid(l), a density for grey x in [0, 1].

    Loaiza-Ganem & Cunningham 2019, arXiv 1907.06845. It is computed from the logits l, as
    Π exp(x_i l_i) / Z(l_i): λ would round to 0 or 1, where C is infinite. Of a pixel that is always
    0 the density has no upper bound: it grows with log |l|.
    """

    support = "in [0, 1]"

    def supports(self, x: Tensor) -> Tensor:
        """Return which are in [0, 1]."""
        return _in_unit_interval(x)

    def output_of(self, mean: Tensor) -> Tensor:
        """Return the logit with this mean, by bisection: a mean of ε or 1 − ε has about ∓1/ε."""
        low = torch.full_like(mean, -1 / LEAST_MEAN)
        high = -low
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            above = ContinuousBernoulliVariables(middle).mean > mean
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2

    def forward(self, parameters: Tensor) -> Distribution:
        """Return continuous Bernoulli variables with these logits."""
        return ContinuousBernoulliVariables(parameters)

    def check(self, values: Tensor) -> None:
        """Refuse values outside [0, 1]."""
        _check_unit_interval("continuous_bernoulli", values)


NEAR = 0.5
"""|l| below which a series is as exact as float32."""


class ContinuousBernoulliVariables:
    """log p(x) = Σ_i x_i l_i − log Z(l_i), Z(l) = ∫₀¹ e^(x l) dx = (e^l − 1) / l.

    `torch.distributions.ContinuousBernoulli` is no density beyond |l| = 16 (5 in bfloat16): there
    it clamps λ for log Z alone. What cancels near l = 0 is computed by its series.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits if logits.dtype == torch.float64 else logits.float()

    @property
    def mean(self) -> Tensor:
        """Return E[x] = (log Z)′ = 1/(1 − e^−l) − 1/l, `(…, *S)`."""
        near, far, is_near = self._parts()
        square = near.square()
        series = 0.5 + near / 12 * (1 - square / 60 * (1 - square / 42))
        return torch.where(is_near, series, -1 / torch.expm1(-far) - 1 / far)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(x), `(…)`."""
        near, far, is_near = self._parts()
        square, size = near.square(), far.abs()
        series = near / 2 + square / 24 * (1 - square / 120 * (1 - square / 63))
        # log Z − max(l, 0): the latter is taken from x l, where the two cancel.
        rest = (-torch.expm1(-size)).log() - size.log()
        above = (self.logits >= NEAR).to(self.logits.dtype)
        linear = (value - above) * self.logits
        return (linear - torch.where(is_near, series, rest)).sum(features(value))

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return l for the series, l for the rest, and which of the two is meant."""
        is_near = self.logits.abs() < NEAR
        zero, one = self.logits.new_zeros(()), self.logits.new_ones(())
        near, far = torch.where(is_near, self.logits, zero), torch.where(is_near, one, self.logits)
        return near, far, is_near


def _in_unit_interval(x: Tensor) -> Tensor:
    return (x >= 0) & (x <= 1)


def _check_unit_interval(name: str, values: Tensor) -> None:
    if not _in_unit_interval(values).all():
        raise SettingError(
            f"likelihood={name}: the data must lie in [0, 1] and has values from"
            f" {values.min():g} to {values.max():g}"
        )
