"""Priors p(z) over the latents of a VAE, z `(…, K)`; densities in nats."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from aecli.errors import SettingError, check_int, check_shape
from aecli.networks import BATCH_NORMS
from aecli.randomness import TORCH, Draws

START = 0.01
"""Standard deviation of what is added to the examples that pseudo-inputs start as, in ranges."""


class Posterior(Protocol):
    """q(z|x) = N(μ, diag σ²) of B examples; see `aecli.models.vae.Posterior`."""

    @property
    def mean(self) -> Tensor:
        """μ, `(B, K)`."""

    @property
    def log_variance(self) -> Tensor:
        """log σ², `(B, K)`."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log q(z|x) for z `(…, B, K)`, `(…, B)`."""

    def kl(self) -> Tensor:
        """Return KL(q ‖ N(0, I)), `(B,)`."""


class Encodes(Protocol):
    """What a prior may use of its model; see `aecli.models.VAE`."""

    encoder: nn.Module

    def posterior(self, x: Tensor) -> Posterior:
        """Return q(z|x) for examples `(B, *S)`."""


class Prior(nn.Module):
    """Base class: p(z).

    A subclass defines `log_prob`, through which a gradient reaches z and every parameter, and
    `sample`. It takes its random numbers from `draws`, so that an evaluation draws the same ones
    for an example each time.
    """

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) for z `(…, K)`: `(…)`."""
        raise NotImplementedError

    def sample(self, like: Tensor, *samples: int, draws: Draws = TORCH) -> Tensor:
        """Return z ~ p(z), `(*samples, B, K)`, for `like` `(B, K)`: of its type and device."""
        raise NotImplementedError

    def kl(self, posterior: Posterior, z: Tensor) -> Tensor:
        """Return the mean of log q(z|x) − log p(z) over samples z ~ q `(S, B, K)`: `(B,)`.

        Without bias for KL(q(z|x) ‖ p(z)), and for a single example it may be below 0.
        """
        return (posterior.log_prob(z) - self.log_prob(z)).mean(dim=0)

    def attach(self, model: Encodes) -> None:
        """Take what the prior needs of its model. Most need nothing."""

    def fit(self, values: Tensor, examples: Callable[[int], Tensor]) -> None:
        """Take what the prior needs of the training split. Most need nothing.

        Args:
            values: of x, `(n,)`, the smallest and the largest among them.
            examples: a number n ↦ as many examples, `(n, *S)`.
        """

    def kept(self) -> AbstractContextManager[None]:
        """Return a context in which the weights stay as they are, and need be looked at once."""
        return nullcontext()


class Standard(Prior):
    """p(z) = N(0, I). The KL is the analytic one (Kingma & Welling 2013, appendix B)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) for z `(…, K)`: `(…)`."""
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=-1)

    def sample(self, like: Tensor, *samples: int, draws: Draws = TORCH) -> Tensor:
        """Return z ~ p(z), `(*samples, B, K)`, for `like` `(B, K)`."""
        return draws.normal(like, *samples)

    def kl(self, posterior: Posterior, z: Tensor) -> Tensor:
        """Return KL(q(z|x) ‖ p(z)), `(B,)`, exactly: z is not looked at."""
        return posterior.kl()


class Vamp(Prior):
    """p(z) = (1/C) Σ_c q(z|u_c), a mixture of the posteriors of C pseudo-inputs u_c.

    The VampPrior of Tomczak & Welling 2018, arXiv 1705.07120, eq. 9: the pseudo-inputs are
    learned together with the encoder. As in the authors' code they start as training examples with
    a little noise, and are clamped to the range of the data on their way to the encoder.

    Args:
        shape: `(D,)` or `(C, H, W)` of an example.
        pseudo_inputs: how many, ≥ 1; K in the paper.
    """

    low: Tensor
    high: Tensor

    def __init__(self, shape: Sequence[int], pseudo_inputs: int) -> None:
        super().__init__()
        sizes = check_shape("dataset.shape", shape)
        count = check_int("prior.pseudo_inputs", pseudo_inputs, 1)
        self.inputs = nn.Parameter(torch.rand(count, *sizes))
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.ones(()))
        self._kept: tuple[Tensor, Tensor] | None = None

    def attach(self, model: Encodes) -> None:
        """Take the encoder; raise `SettingError` for one that normalizes examples together."""
        if any(isinstance(module, BATCH_NORMS) for module in model.encoder.modules()):
            raise SettingError(
                "prior=vamp: needs the encoder of an example by itself, and with batch"
                " normalization (network.batch_norm=true) it depends on the batch"
            )
        self._posterior = model.posterior

    def fit(self, values: Tensor, examples: Callable[[int], Tensor]) -> None:
        """Start as training examples, within the range of their values."""
        low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
        x = examples(len(self.inputs)).to(self.inputs)
        noise = START * (high - low) * torch.randn_like(x)
        with torch.no_grad():
            self.low.fill_(low)
            self.high.fill_(high)
            self.inputs.copy_((x + noise).clamp_(low, high))

    def components(self) -> tuple[Tensor, Tensor]:
        """Return the means and the log-variances of the mixture, each `(C, K)`."""
        if self._kept is not None:
            return self._kept
        posterior = self._posterior(self.inputs.clamp(self.low, self.high))
        return posterior.mean, posterior.log_variance

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Encode the pseudo-inputs once for all that is asked within: the weights have to stay."""
        with torch.no_grad():
            self._kept = self.components()
        try:
            yield
        finally:
            self._kept = None

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) for z `(…, K)`: `(…)`."""
        return log_mixture(z, *self.components())

    def sample(self, like: Tensor, *samples: int, draws: Draws = TORCH) -> Tensor:
        """Return z ~ p(z), `(*samples, B, K)`, for `like` `(B, K)`."""
        mean, log_variance = self.components()
        uniform = draws.uniform(like[:, 0], *samples)
        # A float32 just below 1 times their number may be rounded to it.
        which = (uniform * len(mean)).long().clamp_(max=len(mean) - 1)
        deviation = (0.5 * log_variance).exp()
        return mean[which] + deviation[which] * draws.normal(like, *samples)


def log_mixture(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return log (1/C) Σ_c N(z; mean_c, diag exp(log_variance_c)) for z `(…, K)`: `(…)`, nats.

    In float32 at least. By matrix products, whose memory is `(…, C)` and not `(…, C, K)`:
    Σ_k (z_k − m_k)² / v_k is multiplied out, in float64 since the terms cancel. What is left of
    them is off by some 10⁻¹⁵ z²/v: 10⁻³ nats for deviations of a millionth of z.
    """
    z64, m, log_v = z.double(), mean.double(), log_variance.double()
    precision = (-log_v).exp()
    squares = z64.square() @ precision.T - 2 * z64 @ (m * precision).T
    squares = (squares + (m.square() * precision).sum(dim=1)).clamp_min(0)
    constant = log_v.sum(dim=1) + m.shape[1] * math.log(2 * math.pi)
    log_density = -0.5 * (squares + constant)
    log_mean = log_density.logsumexp(dim=-1) - math.log(len(m))
    return log_mean.to(torch.promote_types(z.dtype, torch.float32))
