"""Likelihoods: the decoder's output `(…, *S)` → p(x|z) over examples of a shape S.

S is `(C, H, W)` or `(D,)`. Each module owns its output activation and the data's support, and
returns an object with the interface of `torch.distributions`: `log_prob(x)` `(…)` in nats, summed
over an example's features, and `mean` `(…, *S)`, the reconstruction. x is a batch, `(B, *S)`: all
its dimensions but the first are features. Leading dimensions broadcast: for L outputs of each of B
examples, `(L, B, *S)`, the log_prob of x is `(L, B)`.
"""

from collections.abc import Sequence
from math import gcd, log
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn
from torch import distributions as d

from aecli.errors import SettingError, check_bool, check_choice, check_number


def features(x: Tensor) -> tuple[int, ...]:
    """Return the dimensions of the features in a batch x `(B, *S)`, counted from the end."""
    return tuple(range(1 - x.dim(), 0))


class Distribution(Protocol):
    """The part of `torch.distributions.Distribution` that the losses and pictures use."""

    @property
    def mean(self) -> Tensor:
        """E[x], `(…, *S)`."""

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x), `(…)`, in nats."""


class Likelihood(nn.Module):
    """Base class. A subclass turns the decoder's output into a distribution in `forward`.

    The output has the shape of the examples, `(…, C, H, W)`, with any leading dimensions. The
    distribution has `log_prob(x)` `(…)`, summed over the features, in nats, finite for every x
    that `check` lets pass, and `mean`, of the shape of the output. A gradient reaches the output.
    """

    is_density = True
    """Whether `log_prob` is a log density or probability; else `nll` and `elbo` have no meaning."""
    leaves_out_missing = False
    """Whether entries that a row's mask calls missing have no part in it."""
    takes_logits = False
    """Whether the mean is the sigmoid of the decoder's output."""

    def forward(self, parameters: Tensor) -> Distribution:
        """Return p(x|z) for the decoder's output `(…, *S)`."""
        raise NotImplementedError

    def check(self, values: Tensor) -> None:
        """Raise `SettingError` if some of the data's values lie outside the support."""

    def errors(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return the squared error of each feature, `(B, *S)`."""
        return (mean - x).square()


class Bernoulli(Likelihood):
    """p(x|z) = Π Bernoulli(x_i; sigmoid(l_i)), the decoder's output as logits l; x in {0, 1}."""

    takes_logits = True

    def forward(self, parameters: Tensor) -> Distribution:
        """Return Bernoulli variables with these logits."""
        return BernoulliVariables(parameters)

    def check(self, values: Tensor) -> None:
        """Refuse anything but 0 and 1."""
        if not ((values == 0) | (values == 1)).all():
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
        # logarithm for the product of a few pixels, takes half of the time.
        logits, dimensions = self.logits.to(value.dtype), features(value)
        linear = logits.mul(value - 0.5).sum(dimensions)
        size = logits.abs()
        linear.sub_(size.sum(dimensions), alpha=0.5)
        factors = size.sigmoid_().flatten(dimensions[0])
        products = factors.unflatten(-1, (gcd(FACTORS, factors.shape[-1]), -1)).prod(-2)
        return linear + products.log_().sum(-1)


class CrossEntropy(Bernoulli):
    """−log p = −Σ x_i log y_i + (1−x_i) log(1−y_i), y = sigmoid(l), for grey x in [0, 1].

    The reconstruction cross-entropy of Vincent et al. 2008 (eq. 3). Not a density: it does not
    integrate to one over [0, 1], so that no `nll` or `elbo` is reported.
    """

    is_density = False

    def check(self, values: Tensor) -> None:
        """Refuse values outside [0, 1]."""
        _check_unit_interval("cross_entropy", values)


class ContinuousBernoulli(Likelihood):
    """p(x|z) = Π C(λ_i) λ_i^x_i (1−λ_i)^(1−x_i), λ = sigmoid(l), a density for grey x in [0, 1].

    Loaiza-Ganem & Cunningham 2019, arXiv 1907.06845.
    """

    def forward(self, parameters: Tensor) -> Distribution:
        """Return continuous Bernoulli variables with these logits."""
        return Features(ContinuousBernoulliVariables(logits=parameters, validate_args=False))

    def check(self, values: Tensor) -> None:
        """Refuse values outside [0, 1]."""
        _check_unit_interval("continuous_bernoulli", values)


class ContinuousBernoulliVariables(d.ContinuousBernoulli):
    """`torch.distributions.ContinuousBernoulli` with a mean that is exact to float32."""

    @property
    def mean(self) -> Tensor:
        """Return 1/(1 − e^−l) − 1/l, where |l| ≥ ½; below, where they cancel, the series of it."""
        logits = self.logits
        small = logits.abs() < 0.5
        far = torch.where(small, torch.ones_like(logits), logits)
        near = torch.where(small, logits, torch.zeros_like(logits))
        square = near.square()
        series = 0.5 + near / 12 * (1 - square / 60 * (1 - square / 42))
        return torch.where(small, series, -1 / torch.expm1(-far) - 1 / far)


class Gaussian(Likelihood):
    """p(x|z) = N(x; μ, σ² I) with the decoder's output as μ and one σ for all features.

    Args:
        sigma: standard deviation of at least 10⁻⁶, in units of the data's range; where it starts
            if learned.
        learn_sigma: learn log σ with the network's weights.
    """

    def __init__(self, sigma: float, learn_sigma: bool = False) -> None:
        super().__init__()
        # Below, 1/σ² leaves the range of float32.
        sigma = check_number("likelihood.sigma", sigma, low=1e-6)
        log_sigma = torch.tensor(log(sigma))
        if check_bool("likelihood.learn_sigma", learn_sigma):
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        learned = isinstance(self.log_sigma, nn.Parameter)
        return f"sigma={float(self.log_sigma.exp()):g}, learn_sigma={str(learned).lower()}"

    def forward(self, parameters: Tensor) -> Distribution:
        """Return Gaussian variables with these means, `(B, …)`."""
        return Features(d.Normal(parameters, self.log_sigma.exp(), validate_args=False))


class MSE(Likelihood):
    """−log p = weight · Σ (x_i − y_i)² with y the decoder's output: the squared error, no density.

    Args:
        weight: > 0; 1 is the plain squared error, ½ that of Ng's cost.
        output: "linear", or "sigmoid" for y in (0, 1).
    """

    is_density = False
    OUTPUTS = ("linear", "sigmoid")

    def __init__(self, weight: float = 1.0, output: str = "linear") -> None:
        super().__init__()
        self.weight = check_number("likelihood.weight", weight, low=0, open_low=True)
        self.takes_logits = check_choice("likelihood.output", output, self.OUTPUTS) == "sigmoid"

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"weight={self.weight:g}, output={self.OUTPUTS[self.takes_logits]}"

    def forward(self, parameters: Tensor) -> Distribution:
        """Return a `SquaredError` with this mean."""
        mean = parameters.sigmoid() if self.takes_logits else parameters
        return SquaredError(mean, self.weight)


class SquaredError:
    """A distribution's interface, in which `log_prob(x)` is minus the weighted squared error."""

    def __init__(self, mean: Tensor, weight: float) -> None:
        self.mean = mean
        self.weight = weight

    def log_prob(self, value: Tensor) -> Tensor:
        """Return −weight · Σ (x − mean)², `(…)`."""
        x = value.expand_as(self.mean)
        return -self.weight * F.mse_loss(self.mean, x, reduction="none").sum(features(value))


class Mixed(Likelihood):
    """p(x|z) = Π_numbers N(x_j; μ_j, σ_j²) · Π_categories softmax(l)_x, each column once.

    Of a row x of a table, `(D,)`, and the decoder's output of the same size: a mean for each
    number, logits for each category. With a mask in x, missing entries are left out: log p is that
    of the entries that are there, the others integrated out.

    Args:
        features: what the D numbers are, as `Card.features`; wired.
        sigma: standard deviation of at least 10⁻⁶ of the scaled numbers; where it starts if
            learned.
        learn_sigma: learn log σ_j of each number with the network's weights.
    """

    leaves_out_missing = True
    numbers: Tensor
    """Which of the D are numbers, int64."""
    masks: Tensor
    """The columns of these numbers, int64: their places in a mask."""
    log_sigma: Tensor

    def __init__(
        self, features: Sequence[Sequence[Any]] | None, sigma: float, learn_sigma: bool
    ) -> None:
        super().__init__()
        sigma = check_number("likelihood.sigma", sigma, low=1e-6)
        check_bool("likelihood.learn_sigma", learn_sigma)
        if features is None:
            raise SettingError("likelihood=mixed: is for the columns of a table; see dataset=table")
        numbers: list[int] = []
        masks: list[int] = []
        self.blocks: list[slice] = []
        at = column = 0
        for kind, size in features:
            if kind == "number":
                numbers += range(at, at + size)
                masks += range(column, column + size)
            elif kind == "category":
                self.blocks.append(slice(at, at + size))
            column += size if kind == "number" else 1
            at += size
        self.mask = slice(at - features[-1][1], at) if features[-1][0] == "mask" else None
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.long), persistent=False)
        self.register_buffer("masks", torch.tensor(masks, dtype=torch.long), persistent=False)
        log_sigma = torch.full((len(numbers),), log(sigma))
        if learn_sigma and numbers:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"numbers={len(self.numbers)}, categories={len(self.blocks)}"

    def forward(self, parameters: Tensor) -> Distribution:
        """Return the variables of a row, for the decoder's output `(…, D)`."""
        return MixedVariables(self, parameters)

    def there(self, x: Tensor) -> Tensor | None:
        """Return which of the numbers of x `(B, D)` are there, `(B, numbers)`; None: all."""
        if self.mask is None:
            return None
        return x[:, self.mask].index_select(1, self.masks)

    def errors(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return the squared errors `(B, D)`, 0 of a missing entry and of the mask itself."""
        errors = (mean - x).square()
        counted = torch.zeros_like(errors)
        there = self.there(x)
        counted[:, self.numbers] = 1.0 if there is None else there
        for block in self.blocks:
            counted[:, block] = x[:, block].sum(dim=1, keepdim=True)
        return errors * counted


class MixedVariables:
    """The columns of a row as independent variables."""

    def __init__(self, likelihood: Mixed, parameters: Tensor) -> None:
        self.likelihood, self.parameters = likelihood, parameters

    @property
    def mean(self) -> Tensor:
        """Return the means and the probabilities, `(…, D)`, 1 for the entries of a mask."""
        mean = self.parameters.clone()
        for block in self.likelihood.blocks:
            mean[..., block] = self.parameters[..., block].softmax(dim=-1)
        if self.likelihood.mask is not None:
            mean[..., self.likelihood.mask] = 1.0
        return mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_j log p(x_j|z) over the columns that are there, `(…)`."""
        likelihood, parameters = self.likelihood, self.parameters
        x = value.index_select(-1, likelihood.numbers)
        mean = parameters.index_select(-1, likelihood.numbers)
        log_p = d.Normal(mean, likelihood.log_sigma.exp(), validate_args=False).log_prob(x)
        if (there := likelihood.there(value)) is not None:
            log_p = log_p * there
        total = log_p.sum(dim=-1)
        for block in likelihood.blocks:  # a missing category has no 1 in its block
            total = total + (parameters[..., block].log_softmax(dim=-1) * value[:, block]).sum(-1)
        return total


class Features:
    """Independent features of an example, each of a distribution of `torch.distributions`."""

    def __init__(self, each: d.Distribution) -> None:
        self.each = each

    @property
    def mean(self) -> Tensor:
        """Return E[x], `(…, *S)`."""
        return self.each.mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_i log p(x_i), `(…)`."""
        return self.each.log_prob(value).sum(features(value))


def _check_unit_interval(name: str, values: Tensor) -> None:
    if values.min() < 0 or values.max() > 1:
        raise SettingError(
            f"likelihood={name}: the data must lie in [0, 1] and has values from"
            f" {values.min():g} to {values.max():g}"
        )
