"""Likelihoods of any numbers: the normal distribution, and the squared error."""

from math import log

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn
from torch import distributions as d

from aecli.errors import check_bool, check_choice, check_number
from aecli.likelihoods.base import Distribution, Features, Likelihood, features


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

    def output_of(self, mean: Tensor) -> Tensor:
        """Return the mean itself."""
        return mean

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

    def output_of(self, mean: Tensor) -> Tensor:
        """Return the mean itself, or its logit."""
        return super().output_of(mean) if self.takes_logits else mean

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
