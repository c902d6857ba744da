"""The aggregated posterior q(z) = (1/n) Σ_i q(z|x_i) beside the prior."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from aecli.data import Batch
from aecli.models import VAE
from aecli.models.vae import Posterior, has_normal_prior
from aecli.priors import Standard, log_mixture

TOGETHER = 1 << 22
"""Densities, of samples by components, that are in memory at the same time."""
LEAST_CELLS, MOST_CELLS = 400, 4000
"""Of the grid over a unit's line, for its KL; between them no wider than the smallest σ."""
DEVIATIONS = 8.0
"""How far beyond the means the grid of a unit reaches."""


class Aggregate(NamedTuple):
    """How the mean KL of the ELBO divides (Hoffman & Johnson 2016); float64, on the CPU, nats.

    (1/n) Σ_i KL(q(z|x_i) ‖ p(z)) = I(i; z) + KL(q(z) ‖ p(z)).
    """

    information: Tensor
    """log q(z_i|x_i) − log q(z_i) of one sample z_i ~ q(z|x_i) of each image, `(n,)`. Its mean
    estimates I(i; z) ≤ log n without bias."""
    divergence: Tensor
    """log q(z_i) − log p(z_i), `(n,)`. Its mean estimates KL(q(z) ‖ p(z)) without bias."""
    unit_kl: Tensor
    """(1/n) Σ_i KL(q(z_j|x_i) ‖ p(z_j)), `(K,)`; empty with another prior than N(0, I)."""
    unit_divergence: Tensor
    """KL(q(z_j) ‖ p(z_j)) of each unit by itself, by integration, `(K,)`; or empty."""
    mean: Tensor
    """μ of each image, `(n, K)`."""
    log_variance: Tensor
    """log σ² of each image, `(n, K)`."""


@torch.no_grad()
def aggregated(model: VAE, batches: Iterable[Batch], images: int) -> Aggregate:
    """Return the aggregated posterior of the first `images` images, and how far the prior is."""
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    done = 0
    for batch in batches:
        x = batch.x[: images - done]
        posterior = model.posterior(x)
        z = posterior.sample(1, batch.draws.of("aggregate"))[0]
        parts.append((*posterior, z))
        done += len(x)
        if done == images:
            break
    mean, log_variance, z = (torch.cat(each) for each in zip(*parts, strict=True))
    own = Posterior(mean, log_variance).log_prob(z)
    log_q = _log_mixture(z, mean, log_variance)
    with model.prior.kept():
        log_p = model.log_prior(z)
    unit_kl, unit_divergence = mean.new_empty(0), mean.new_empty(0)
    if has_normal_prior(model):
        unit_kl = Posterior(mean, log_variance).unit_kl().mean(dim=0)
        units = zip(mean.T, log_variance.T, strict=True)
        unit_divergence = torch.stack([_from_normal(*unit) for unit in units])
    values = (own - log_q, log_q - log_p, unit_kl, unit_divergence, mean, log_variance)
    return Aggregate(*(value.double().cpu() for value in values))


def _from_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL((1/n) Σ_i N(mean_i, exp(log_variance_i)) ‖ N(0, 1)), means `(n,)`, by a grid."""
    reach = DEVIATIONS * (0.5 * log_variance).exp()
    low, high = float((mean - reach).min()), float((mean + reach).max())
    fine = (high - low) / float((0.5 * log_variance.min()).exp())
    cells = int(min(max(fine, LEAST_CELLS), MOST_CELLS))
    width = (high - low) / cells
    z = low + width * (torch.arange(cells, dtype=torch.float64, device=mean.device) + 0.5)
    log_q = _log_mixture(z[:, None], mean[:, None], log_variance[:, None])
    log_p = Standard().log_prob(z[:, None])
    return (width * log_q.exp() * (log_q - log_p)).sum()


def _log_mixture(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return `log_mixture` in float64, of some of z `(G, K)` at a time: `(G,)`."""
    parts = z.double().split(max(1, TOGETHER // len(mean)))
    return torch.cat([log_mixture(part, mean, log_variance) for part in parts])
