"""The likelihood of a table's row: numbers and categories."""

from collections.abc import Sequence
from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributions as d

from aecli.columns import columns_of
from aecli.errors import SettingError, check_bool, check_number
from aecli.likelihoods.base import LEAST_MEAN, Distribution, Likelihood

LEAST_SIGMA = 1e-3
"""Of a column that a model predicts exactly, such as one that does not vary, no density is the
greatest: it would grow without end as σ falls. Nothing finer than this part of its unit counts."""
NEVER = -1e30
"""The logit of what cannot be."""


class Mixed(Likelihood):
    """p(x|z) = Π_numbers N(x_j; μ_j, σ_j²) · Π_categories softmax(l)_x, each column once.

    Of a row x of a table, `(D,)`, and the decoder's output of the same size: a mean for each
    number, logits for each category. With a mask in x, missing entries are left out: log p is that
    of the entries that are there, the others integrated out.

    Args:
        features: what the D numbers are, as `Card.features`; wired.
        sigma: standard deviation of at least 10⁻³ of the scaled numbers; where it starts if
            learned.
        learn_sigma: learn s_j of each number with the network's weights, σ_j² = exp(2 s_j) + 10⁻⁶.
    """

    leaves_out_missing = True
    support = "of the categories that the training split has"
    numbers: Tensor
    """Which of the D are numbers, int64."""
    place: Tensor
    """`(D,)`: where the mask has the column of each of the D; int64."""
    log_sigma: Tensor

    def __init__(self, features: Sequence[Any] | None, sigma: float, learn_sigma: bool) -> None:
        super().__init__()
        sigma = check_number("likelihood.sigma", sigma, low=LEAST_SIGMA)
        check_bool("likelihood.learn_sigma", learn_sigma)
        if features is None:
            raise SettingError("likelihood=mixed: is for the columns of a table; see dataset=table")
        columns = columns_of(features)
        self.size = len(columns.of)
        self.mask = columns.mask
        start = 0 if columns.mask is None else columns.mask.start
        self._keep("numbers", columns.numbers)
        self._keep("place", [start + column for column in columns.of])
        # Columns of about as many categories are taken together, filled up to the same number.
        widths = sorted({_filled(block) for block in columns.categories})
        self.groups = len(widths)
        for number, width in enumerate(widths):
            blocks = [block for block in columns.categories if _filled(block) == width]
            filled = [[*block, *[self.size] * (width - len(block))] for block in blocks]
            self._keep(f"group_{number}", filled)
        log_sigma = torch.full((len(columns.numbers),), log(sigma))
        if learn_sigma and columns.numbers:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        learned = isinstance(self.log_sigma, nn.Parameter)
        categories = sum(len(group) for group in self.categories())
        return (
            f"numbers={len(self.numbers)}, categories={categories},"
            f" learn_sigma={str(learned).lower()}"
        )

    @property
    def sigma(self) -> Tensor:
        """Return σ_j of each number, `(numbers,)`."""
        return self.log_sigma.exp().hypot(torch.full_like(self.log_sigma, LEAST_SIGMA))

    def categories(self) -> list[Tensor]:
        """Return the places of n categories of up to K texts each, `(n, K)` int64; D is none."""
        return [self.get_buffer(f"group_{number}") for number in range(self.groups)]

    def output_of(self, mean: Tensor) -> Tensor:
        """Return the numbers' means and the logarithms of the categories' frequencies, `(D,)`."""
        output = mean.clamp_min(LEAST_MEAN).log()
        return output.index_copy(-1, self.numbers, mean.index_select(-1, self.numbers))

    def forward(self, parameters: Tensor) -> Distribution:
        """Return the variables of a row, for the decoder's output `(…, D)`."""
        return MixedVariables(self, parameters)

    def counted(self, x: Tensor) -> Tensor:
        """Return which of the D numbers of x `(B, D)` are there, 1 or 0; none of the mask's own."""
        if self.mask is None:
            return torch.ones_like(x)
        there = x.index_select(1, self.place)
        there[:, self.mask.start :] = 0
        return there

    def supports(self, x: Tensor) -> Tensor:
        """Return which of the D numbers of x `(B, D)` do not belong to an unknown category.

        One is there and has no 1: `log_prob` leaves it out as if it was missing.
        """
        there = _and_one(self.counted(x), 0.0)
        known = torch.ones_like(there, dtype=torch.bool)
        for group in self.categories():
            blocks = _taken(_and_one(x, 0.0), group)
            is_known = (blocks != 0).any(dim=-1) | (_taken(there, group) == 0).all(dim=-1)
            spread = is_known[..., None].expand_as(blocks).flatten(-2)
            known = known.index_copy(-1, group.flatten(), spread)
        return known[..., :-1]

    def errors(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return the squared errors `(B, D)`, 0 of a missing entry and of the mask itself."""
        return (mean - x).square() * self.counted(x)

    def mse(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return the mean of the squared errors of the entries that are there, `(B,)`."""
        return self.errors(mean, x).sum(dim=1) / self.counted(x).sum(dim=1).clamp_min(1)

    def _keep(self, name: str, places: list[Any]) -> None:
        self.register_buffer(name, torch.tensor(places, dtype=torch.long), persistent=False)


class MixedVariables:
    """The columns of a row as independent variables."""

    def __init__(self, likelihood: Mixed, parameters: Tensor) -> None:
        # Half floats end before NEVER.
        is_double = parameters.dtype == torch.float64
        self.likelihood, self.parameters = (
            likelihood,
            parameters if is_double else parameters.float(),
        )

    @property
    def mean(self) -> Tensor:
        """Return the means and the probabilities, `(…, D)`, 1 for the entries of a mask."""
        mean = logits = _and_one(self.parameters, NEVER)
        for group in self.likelihood.categories():
            probabilities = _taken(logits, group).softmax(dim=-1)
            mean = mean.index_copy(-1, group.flatten(), probabilities.flatten(-2))
        mean = mean[..., :-1]
        if self.likelihood.mask is not None:
            mean[..., self.likelihood.mask.start :] = 1.0
        return mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_j log p(x_j|z) over the columns that are there, and known, `(…)`."""
        likelihood = self.likelihood
        there = likelihood.counted(value)
        x = value.index_select(-1, likelihood.numbers)
        mean = self.parameters.index_select(-1, likelihood.numbers)
        log_p = d.Normal(mean, likelihood.sigma, validate_args=False).log_prob(x)
        total = (log_p * there.index_select(-1, likelihood.numbers)).sum(dim=-1)
        logits, chosen = _and_one(self.parameters, NEVER), _and_one(value * there, 0.0)
        for group in likelihood.categories():
            log_p = _taken(logits, group).log_softmax(dim=-1)
            total = total + (log_p * _taken(chosen, group)).sum(dim=(-2, -1))
        return total


def _filled(block: range) -> int:
    """Return the smallest power of two that is not below the length of a block."""
    return 1 << (len(block) - 1).bit_length()


def _and_one(values: Tensor, last: float) -> Tensor:
    """Return `(…, D)` with one number more, `(…, D + 1)`."""
    return torch.nn.functional.pad(values, (0, 1), value=last)


def _taken(values: Tensor, group: Tensor) -> Tensor:
    """Return the values `(…, n, K)` at the places `(n, K)`."""
    return values.index_select(-1, group.flatten()).unflatten(-1, group.shape)
