"""The variational autoencoder."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aecli.errors import SettingError, check_choice, check_int, check_number
from aecli.likelihoods import Distribution
from aecli.models.autoencoder import Autoencoder, check_part
from aecli.models.losses import Terms
from aecli.priors import Prior, Standard
from aecli.randomness import TORCH, Draws

ACTIVE_VARIANCE = 0.01
"""Variance over examples of its posterior mean above which a latent is active (Burda 2015)."""


class Posterior(NamedTuple):
    """q(z|x) = N(μ, diag σ²)."""

    mean: Tensor
    """μ, `(B, K)`."""
    log_variance: Tensor
    """log σ², `(B, K)`."""

    def sample(self, samples: int = 1, draws: Draws = TORCH) -> Tensor:
        """Return z = μ + σ ⊙ ε, ε ~ N(0, I), `(samples, B, K)`: gradients reach μ and σ."""
        mean, deviation = self.mean, (0.5 * self.log_variance).exp()
        if samples == 1:  # no broadcasting, nor a sum over it on the way back
            return (mean + deviation * draws.normal(mean)).unsqueeze(0)
        return mean + deviation * draws.normal(mean, samples)

    def kl(self) -> Tensor:
        """Return KL(q ‖ N(0, I)), the sum over the units, `(B,)`, nats."""
        return self.unit_kl().sum(dim=1)

    def unit_kl(self) -> Tensor:
        """Return KL(q_j ‖ N(0, 1)) = ½ (μ_j² + σ_j² − 1 − log σ_j²), `(B, K)`, nats."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log q(z|x) for z `(…, B, K)`, `(…, B)`, nats."""
        return log_normal(z, self.mean, self.log_variance)

    def detached(self) -> "Posterior":
        """Return the same distribution, through which no gradient reaches μ and σ."""
        return Posterior(self.mean.detach(), self.log_variance.detach())


def log_normal(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return log N(z; mean, diag exp(log_variance)), summed over the last dimension, nats."""
    scaled = (z - mean).square() * (-log_variance).exp()
    return -0.5 * (scaled + log_variance + math.log(2 * math.pi)).sum(dim=-1)


class VAE(Autoencoder):
    """ELBO = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)), z = μ + σ ⊙ ε.

    loss = nll + β · kl + penalty, with nll = −(1/L) Σ_l log p(x|z_l) and the KL as the prior has
    it: analytic for N(0, I), else by the same samples z_l (Kingma & Welling, arXiv 1312.6114, eq. 7
    and 10, or 6; β: Higgins et al., ICLR 2017). `elbo` is logged with β = 1 whatever β is.

    A sparsity acts on the sample z on its way to the decoder, so that it belongs to p(x|z) and
    the ELBO stays a bound. With a noise, q is q(z|x̃) in training.

    With `gradient="stl"` the loss of a training step has β (log q(z|x) − log p(z)) of the samples
    in place of β · kl, and the gradient of log q reaches μ and σ through z alone. What is left out
    has a mean of 0; without it the gradient vanishes where q is the true posterior ("sticking the
    landing", Roeder, Wu & Duvenaud 2017, arXiv 1703.09194, algorithm 1).

    Args (beside those of `Autoencoder`):
        beta: β ≥ 0, in training after the warm-up, and in validation.
        warmup_epochs, warmup_steps: β grows linearly from 0 over this many epochs, or steps.
        samples: L ≥ 1, samples of z for each example.
        gradient: its estimator, one of `GRADIENTS`: "plain", or "stl".
        prior: p(z); None for N(0, I).
    """

    can_be_pretrained = False  # half of the encoder's outputs are variances
    has_prior = True
    GRADIENTS: Sequence[str] = ("plain", "stl")

    def __init__(
        self,
        beta: float = 1.0,
        warmup_epochs: float = 0,
        warmup_steps: int = 0,
        samples: int = 1,
        gradient: str = "plain",
        prior: Prior | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.prior = Standard() if prior is None else prior
        check_part("prior", self.prior, Prior)
        self.prior.attach(self)
        self.beta = check_number("model.beta", beta, low=0)
        self.warmup_epochs = check_number("model.warmup_epochs", warmup_epochs, low=0)
        self.warmup_steps = check_int("model.warmup_steps", warmup_steps, 0)
        if warmup_epochs and warmup_steps:
            raise SettingError(
                f"model.warmup_epochs={warmup_epochs}, model.warmup_steps={warmup_steps}:"
                " set one of the two"
            )
        self.samples = check_int("model.samples", samples, 1)
        self.gradient = check_choice("model.gradient", gradient, self.GRADIENTS)
        self._warmth = 1.0

    @property
    def current_beta(self) -> float:
        """β of a training step, warmed up, or that of an evaluation."""
        return self.beta * self._warmth if self.training else self.beta

    @property
    def outputs(self) -> int:
        """Mean and log-variance for each code unit."""
        return 2 * self.code_dim

    @property
    def is_steady(self) -> bool:
        """Whether β stays the same too."""
        return super().is_steady and not (self.warmup_epochs or self.warmup_steps)

    def posterior(self, x: Tensor) -> Posterior:
        """Return q(z|x) for examples `(B, *S)`."""
        output = self.encoder(x)
        # In bfloat16, with its three digits, the KL and log q would be rounded to eighths of a nat.
        wide = output.to(torch.promote_types(output.dtype, torch.float32))
        return Posterior(*wide.chunk(2, dim=1))

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior's mean, `(B, K)`."""
        return self.posterior(x).mean

    def decode(self, code: Tensor) -> Distribution:
        """Return p(x|z) for latents z `(B, K)`."""
        return super().decode(self.sparsity(code).code)

    def sample_prior(self, count: int) -> Tensor:
        """Return z ~ p(z), `(count, K)`."""
        weight = next(self.encoder.parameters())
        return self.prior.sample(weight.new_empty(count, self.code_dim))

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z) for z `(…, K)`, `(…)`, nats."""
        return self.prior.log_prob(z)

    def log_weight(self, posterior: Posterior, z: Tensor, log_likelihood: Tensor) -> Tensor:
        """Return log p(x|z) p(z) / q(z|x) for z `(S, B, K)` and log p(x|z) `(S, B)`: `(S, B)`."""
        return log_likelihood + self.log_prior(z) - posterior.log_prob(z)

    def log_likelihood(self, x: Tensor, code: Tensor) -> Tensor:
        """Return log p(x|z), `(S, B)`, for S codes of each of B examples, `(S·B, K)`."""
        # Unflattened, the S outputs of an example broadcast against it: x is not copied S times.
        parameters = self.decoder(code).unflatten(0, (-1, len(x)))
        return self.likelihood(parameters).log_prob(x)

    def terms(self, x: Tensor, seen: Tensor | None = None, draws: Draws = TORCH) -> Terms:
        """Return the parts of the loss for clean examples x `(B, *S)`."""
        posterior = self.posterior(self.noise(x) if seen is None else seen)
        z = posterior.sample(self.samples, draws)
        code, penalty = self.sparsity(z.flatten(0, 1))
        log_likelihood = self.log_likelihood(x, code).mean()
        kl = minimized = self.prior.kl(posterior, z).mean()
        if self.training and self.gradient == "stl":
            minimized = (posterior.detached().log_prob(z) - self.log_prior(z)).mean()
        loss = self.current_beta * minimized + penalty - log_likelihood
        return Terms(loss, -log_likelihood, penalty, kl, code)

    def anneal(self, step: int) -> None:
        """Warm β up, too."""
        super().anneal(step)
        batches, together = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        steps = self.warmup_steps or self.warmup_epochs * math.ceil(batches / together)
        self._warmth = min(step / steps, 1.0) if steps else 1.0


def has_normal_prior(model: Autoencoder) -> bool:
    """Return whether the codes of a model have the prior N(0, I)."""
    return isinstance(model, VAE) and isinstance(model.prior, Standard)
