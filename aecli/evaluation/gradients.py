"""The variance of two estimators of the ELBO's gradient: score function and reparameterization."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from aecli.data import Batch
from aecli.models import VAE
from aecli.models.vae import Posterior, has_normal_prior

DRAWS = 1000
"""Of z for each image; an estimate is of one draw."""
ESTIMATORS = ("score", "baseline", "reparameterized")


class Spread(NamedTuple):
    """An estimator's mean and variance at n images and fixed weights; float64, on the CPU.

    The coordinates are those of μ, then those of log σ: 2K. The mean is in nats per unit of the
    coordinate, the variance in its square.
    """

    mean: Tensor
    """`(n, 2K)`."""
    variance: Tensor
    """Of one draw, `(n, 2K)`."""

    @property
    def total(self) -> Tensor:
        """E ‖g − E g‖², the sum of the variances over the coordinates, `(n,)`."""
        return self.variance.sum(dim=1)


def spreads(
    model: VAE, batches: Iterable[Batch], images: int, at_once: int, draws: int
) -> dict[str, Spread]:
    """Return the spread of each of `ESTIMATORS` at the first `images` images, by `draws` draws.

    Of ELBO = E_q[f(z)] − KL(q ‖ p(z)), f = log p(x|z), the gradients by the parameters φ = (μ, log
    σ) of q = N(μ, diag σ²), with z = μ + σ ⊙ ε:

    - score: f(z) ∂log q(z)/∂φ = f(z) (ε/σ, ε² − 1) (Williams 1992; Kingma & Welling 2013, §2.2);
    - baseline: the same with f(z) less the mean of f over the other draws;
    - reparameterized: ∂f(z)/∂z ∂z/∂φ = ∂f/∂z ⊙ (1, σ ⊙ ε) (Kingma & Welling 2013, §2.4).

    The gradient of the KL from N(0, I) is exact, (−μ, 1 − σ²), and without variance; with another
    prior f = log p(x|z) + log p(z) − log q(z|x).
    """
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in ESTIMATORS}
    done = 0
    for batch in batches:
        x = batch.x[: images - done]
        own = batch.draws.of("gradients")
        with torch.no_grad():
            posterior = model.posterior(x)
        noise = own.normal(posterior.mean, draws)
        for place, image in enumerate(x):
            q = Posterior(*(part[place, None] for part in posterior))
            each = _estimates(model, image[None], q, noise[:, place, None], at_once)
            for name, estimates in each.items():
                found[name].append((estimates.mean(dim=0), estimates.var(dim=0)))
        done += len(x)
        if done == images:
            break
    return {
        name: Spread(*(torch.stack(each) for each in zip(*pairs, strict=True)))
        for name, pairs in found.items()
    }


def agreement(one: Spread, other: Spread, draws: int) -> float:
    """Return the root mean square of the means' differences, in their standard errors.

    About 1 for two estimators of the same mean by the same draws if they were independent.
    """
    error = ((one.variance + other.variance) / draws).sqrt()
    standardized = (one.mean - other.mean) / error.clamp_min(torch.finfo(error.dtype).tiny)
    return float(standardized.square().mean().sqrt())


def _estimates(
    model: VAE, x: Tensor, q: Posterior, noise: Tensor, at_once: int
) -> dict[str, Tensor]:
    """Return each estimator's values for an image x `(1, *S)` and ε `(S, 1, K)`: `(S, 2K)`."""
    deviation = (0.5 * q.log_variance).exp()
    z = q.mean + deviation * noise
    is_exact = has_normal_prior(model)
    parts = [_value_and_slope(model, x, part, is_exact) for part in z.split(at_once)]
    value, slope = (torch.cat(each).double().cpu() for each in zip(*parts, strict=True))
    # From here on on the CPU and in float64: what is subtracted is nearly equal.
    mean, sigma, noise = (part.double().cpu() for part in (q.mean, deviation, noise[:, 0]))
    if is_exact:
        exact = torch.cat([-mean, 1 - sigma.square()], dim=1)
        direct = torch.zeros_like(exact)
    else:
        value = value - q.log_prob(z).double().cpu()
        exact = torch.zeros(1, 2 * mean.shape[1], dtype=torch.float64)
        # −log q(μ + σ ⊙ ε) = Σ log σ + …: its slope is 1 in log σ.
        direct = torch.cat([torch.zeros_like(mean), torch.ones_like(mean)], dim=1)
    score = torch.cat([noise / sigma, noise.square() - 1], dim=1)
    others = (value.sum() - value) / (len(value) - 1)
    path = torch.cat([slope[:, 0], slope[:, 0] * sigma * noise], dim=1)
    return {
        "score": value * score + exact,
        "baseline": (value - others) * score + exact,
        "reparameterized": path + direct + exact,
    }


def _value_and_slope(model: VAE, x: Tensor, z: Tensor, is_exact: bool) -> tuple[Tensor, Tensor]:
    """Return f(z) `(S, 1)`, without −log q, and ∂f/∂z `(S, 1, K)` for z `(S, 1, K)`."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = model.log_likelihood(x, model.sparsity(z.flatten(0, 1)).code)
        if not is_exact:
            value = value + model.log_prior(z)
        (slope,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), slope
