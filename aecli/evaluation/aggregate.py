"""The aggregated posterior q(z) = (1/n) Σ_i q(z|x_i) beside the prior."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from aecli.data import Batch
from aecli.models import VAE
from aecli.models.vae import Posterior, has_normal_prior
from aecli.priors import Standard

TOGETHER = 1 << 17
"""Densities, of samples by components, that are computed at the same time, in the cache."""
LEAST_CELLS = 400
"""Of the grid over a unit's line, for its KL; no cell is wider than the smallest σ."""
MOST_DENSITIES = 1 << 27
"""Of a unit's grid, cells by images, a second or two; a finer grid gives way to samples."""
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
    """KL(q(z_j) ‖ p(z_j)) of each unit by itself, `(K,)`; or empty."""
    integrated: Tensor
    """Of which units that is by integration, `(K,)`: the others are too narrow for a grid, and it
    is the mean over the samples z_i, without bias; or empty."""
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
    own = Posterior(mean.double(), log_variance.double()).log_prob(z.double())
    log_q = _log_mixture(z, mean, log_variance)
    with model.prior.kept():
        log_p = model.log_prior(z)
    unit_kl = unit_divergence = integrated = mean.new_empty(0)
    if has_normal_prior(model):
        unit_kl = Posterior(mean, log_variance).unit_kl().mean(dim=0)
        cells = _cells(mean, log_variance)
        integrated = cells * len(mean) <= MOST_DENSITIES
        units = zip(z.T, mean.T, log_variance.T, cells.tolist(), integrated.tolist(), strict=True)
        unit_divergence = torch.stack(
            [
                _by_grid(m, log_v, int(count)) if is_coarse else _by_samples(sampled, m, log_v)
                for sampled, m, log_v, count, is_coarse in units
            ]
        )
    values = (own - log_q, log_q - log_p, unit_kl, unit_divergence, integrated, mean, log_variance)
    return Aggregate(*(value.double().cpu() for value in values))


def _cells(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return how many cells the grid of each unit needs, of means `(n, K)`: `(K,)`, float64."""
    deviation = (0.5 * log_variance.double()).exp()
    low, high = _ends(mean, log_variance)
    return ((high - low) / deviation.amin(dim=0)).ceil().clamp_min(LEAST_CELLS)


def _ends(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return between where q(z_j) lies, of means `(n, …)`: `(…)` each, float64."""
    reach = DEVIATIONS * (0.5 * log_variance.double()).exp()
    return (mean - reach).amin(dim=0), (mean + reach).amax(dim=0)


def _by_grid(mean: Tensor, log_variance: Tensor, cells: int) -> Tensor:
    """Return KL((1/n) Σ_i N(mean_i, exp(log_variance_i)) ‖ N(0, 1)), means `(n,)`, by a grid."""
    low, high = _ends(mean, log_variance)
    width = (high - low) / cells
    z = low + width * (torch.arange(cells, dtype=torch.float64, device=mean.device) + 0.5)
    log_q = _log_mixture(z[:, None], mean[:, None], log_variance[:, None])
    log_p = Standard().log_prob(z[:, None])
    return (width * log_q.exp() * (log_q - log_p)).sum()


def _by_samples(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return what `_by_grid` does, by a sample `(n,)` of each component, without bias."""
    log_q = _log_mixture(z[:, None], mean[:, None], log_variance[:, None])
    return (log_q - Standard().log_prob(z[:, None].double())).mean()


def _log_mixture(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return log (1/n) Σ_i N(z; mean_i, diag exp(log_variance_i)) in float64, z `(G, K)`: `(G,)`.

    From the differences z − mean themselves, unit by unit: whatever the deviations are, nothing
    cancels, as it may in `aecli.priors.log_mixture`, which is quicker.
    """
    m, log_v = mean.double(), log_variance.double()
    precision = (-log_v).exp()
    constant = math.log(len(m)) + 0.5 * (log_v.sum(dim=1) + m.shape[1] * math.log(2 * math.pi))
    found = []
    for part in z.double().split(max(1, TOGETHER // len(m))):
        squares = part.new_zeros(len(part), len(m))
        for unit in range(m.shape[1]):
            difference = part[:, unit, None] - m[:, unit]
            squares.addcmul_(difference.square_(), precision[:, unit])
        found.append(squares.mul_(-0.5).sub_(constant).logsumexp(dim=1))
    return torch.cat(found)
