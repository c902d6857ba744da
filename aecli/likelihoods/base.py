"""What every likelihood is, and what it gives."""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch import distributions as d

from aecli.errors import SettingError

LEAST_MEAN = 1e-3
"""The least mean of a pixel, so that its logit is finite; as in the code of Burda et al. 2015."""


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
    support = ""
    """The values that x can have, such as "in [0, 1]"; "" where that is any number."""
    takes_logits = False
    """Whether the mean is the sigmoid of the decoder's output."""

    def forward(self, parameters: Tensor) -> Distribution:
        """Return p(x|z) for the decoder's output `(…, *S)`."""
        raise NotImplementedError

    def output_of(self, mean: Tensor) -> Tensor:
        """Return the decoder's output at which p(x|z) has this mean; both `(…)`.

        Where the output is a logit, a mean nearer to 0 or 1 than `LEAST_MEAN` counts as that near.

        Raises `SettingError` for a likelihood that cannot say.
        """
        if self.takes_logits:
            return mean.clamp(LEAST_MEAN, 1 - LEAST_MEAN).logit()
        raise SettingError(
            f"network.output_bias=data: {type(self).__name__} has no `output_of`; leave it null"
        )

    def supports(self, x: Tensor) -> Tensor:
        """Return which numbers of x `(…)` are values that x can have, `(…)`; see `support`.

        Of any others p(x|z) is 0, whatever `log_prob` says.
        """
        return torch.ones_like(x, dtype=torch.bool)

    def check(self, values: Tensor) -> None:
        """Raise `SettingError` if some of the data's values lie outside the support."""

    def counted(self, x: Tensor) -> Tensor:
        """Return which numbers of x `(B, *S)` have a part in `log_prob`, 1 or 0."""
        return torch.ones_like(x)

    def errors(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return the squared error of each feature, `(B, *S)`; 0 of what `log_prob` leaves out."""
        return (mean - x).square()

    def mse(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return the mean of the squared errors of each example, `(B,)`, without those left out."""
        return self.errors(mean, x).flatten(1).mean(dim=1)


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
