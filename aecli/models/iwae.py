"""The importance-weighted autoencoder."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from aecli.models.losses import Terms
from aecli.models.vae import VAE
from aecli.randomness import TORCH, Draws


class IWAE(VAE):
    """loss = −log (1/k) Σ_i w_i + penalty, log w_i = log p(x|z_i) + β (log p(z_i) − log q(z_i|x)).

    With z_i ~ q(z|x) and β = 1 the logarithm is a lower bound of log p(x) that is the ELBO for
    k = 1 and never falls as k grows (Burda, Grosse & Salakhutdinov 2015, arXiv 1509.00519, eq. 8).
    Logged as `bound`, with β = 1 whatever β is; `nll`, `kl` and `elbo` are those of the same
    samples as a VAE would report them, so that the two compare.

    With `gradient="dreg"` the gradient is Σ_i w̃_i ∂log w_i/∂θ for the decoder, and for the encoder

        Σ_i ((1 − β) w̃_i + β w̃_i²) ∂log w_i/∂z_i ∂z_i/∂φ,  w̃_i = w_i / Σ_j w_j,

    where q is a constant in w: of the same mean as the plain one and, for β = 1, of less variance
    ("doubly reparameterized", Tucker et al. 2018, arXiv 1810.04152, eq. 8, whose β is 1). For
    k = 1 that is a VAE's "stl".

    Args (beside those of `VAE`):
        samples: k ≥ 1.
        gradient: its estimator, "plain" or "dreg".
    """

    GRADIENTS = ("plain", "dreg")

    def __init__(self, samples: int = 5, **parts: Any) -> None:
        super().__init__(samples=samples, **parts)

    @property
    def is_steady(self) -> bool:
        """Not with hooks, which `torch.compile` does not see."""
        return super().is_steady and self.gradient == "plain"

    def terms(self, x: Tensor, seen: Tensor | None = None, draws: Draws = TORCH) -> Terms:
        """Return the parts of the loss for clean examples x `(B, *S)`."""
        posterior = self.posterior(self.noise(x) if seen is None else seen)
        z = posterior.sample(self.samples, draws)
        code, penalty = self.sparsity(z.flatten(0, 1))
        shares: list[Tensor] = []  # w̃, once it is known
        if self.training and self.gradient == "dreg":
            beta = self.current_beta
            # Beside the w̃ that comes from the logarithm of the sum.
            weighted_z = _scaled(z, lambda: 1 - beta + beta * shares[0])
            weighted_code = _scaled(code, lambda: (1 - beta + beta * shares[0]).flatten(0, 1))
            density = posterior.detached()
        else:
            weighted_z, weighted_code, density = z, code, posterior
        log_likelihood = self.log_likelihood(x, weighted_code)
        log_ratio = self.log_prior(weighted_z) - density.log_prob(weighted_z)
        log_weight = log_likelihood + self.current_beta * log_ratio
        shares.append(log_weight.detach().softmax(dim=0).unsqueeze(-1))
        maximized = _bound(log_weight)
        bound = maximized if self.current_beta == 1 else _bound(log_likelihood + log_ratio)
        nll, kl = -log_likelihood.mean(), self.prior.kl(posterior, z).mean()
        return Terms(penalty - maximized, nll, penalty, kl, code, bound)


def _bound(log_weight: Tensor) -> Tensor:
    """Return the mean of log (1/k) Σ_i w_i for log w `(k, B)`."""
    return (log_weight.logsumexp(dim=0) - math.log(len(log_weight))).mean()


def _scaled(values: Tensor, factor: Callable[[], Tensor]) -> Tensor:
    """Return the same values, whose gradient will be multiplied by what `factor` then returns.

    `factor` holds no tensor of the graph: the two would keep each other in memory.
    """
    same = values.view_as(values)
    same.register_hook(lambda gradient: gradient * factor())
    return same
