"""The gap of the ELBO, log p(x) − ELBO = KL(q(z|x) ‖ p(z|x)), with both sides measured."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from aecli.data import Batch
from aecli.evaluation.quadrature import Quadrature, integrated
from aecli.models import VAE
from aecli.models.vae import Posterior
from aecli.randomness import Draws, FixedDraws

SAMPLES = 5000
"""Of z for each image, as papers have."""
PLANE = 2
"""Units of a code over which the posterior is integrated."""
DEVIATIONS = 6.0
"""Of the prior and of q around their means: the box of the integral."""
PRIOR_SAMPLES = 1000
"""From which the prior's mean and deviation are estimated."""


class Gaps(NamedTuple):
    """The two sides for n images; float64, on the CPU, nats."""

    log_p: Tensor
    """log (1/S) Σ_s w_s, w = p(x, z) / q(z|x), z_s ~ q, `(n,)`: a lower bound in expectation."""
    elbo: Tensor
    """(1/S) Σ_s log p(x|z_s) − KL(q ‖ p(z)), of the same samples, `(n,)`: without bias."""
    elbo_error: Tensor
    """Standard error of `elbo` over samples, `(n,)`."""
    posterior: list[Quadrature]
    """∫ p(x, z) dz, ∫ q dz and KL(q(z|x) ‖ p(z|x)) over the plane, an item an image; [] for codes
    of other than two units."""

    @property
    def sampled(self) -> Tensor:
        """log p(x) − ELBO, both by samples, `(n,)`: below it in expectation."""
        return self.log_p - self.elbo

    @property
    def integrated(self) -> Tensor:
        """log p(x) − ELBO, the first by integration and the second by samples, `(n,)`."""
        return self._of([found.log_p for found in self.posterior]) - self.elbo

    @property
    def kl(self) -> Tensor:
        """KL(q(z|x) ‖ p(z|x)), by integration, `(n,)`."""
        return self._of([found.kl for found in self.posterior])

    def _of(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)


@torch.no_grad()
def gaps(model: VAE, batches: Iterable[Batch], images: int, at_once: int, samples: int) -> Gaps:
    """Return both sides for the first `images` images.

    log p(x) is sampled, and where the code has two units integrated, too. The ELBO is sampled. The
    right side is integrated by itself: p(z|x) = p(x, z) / ∫ p(x, z) dz is normalized over its grid,
    and no ELBO is in it. `at_once` images are decoded at the same time.
    """
    parts, found, done = [], list[Quadrature](), 0
    for batch in batches:
        x = batch.x[: images - done]
        with model.prior.kept():
            posterior = model.posterior(x)
            parts.append(_sampled(model, x, posterior, samples, at_once, batch.draws.of("gap")))
            if model.code_dim == PLANE:
                found += _integrated(model, x, posterior, at_once)
        done += len(x)
        if done == images:
            break
    log_p, elbo, error = (torch.cat(each) for each in zip(*parts, strict=True))
    return Gaps(log_p, elbo, error, found)


def _sampled(
    model: VAE, x: Tensor, posterior: Posterior, samples: int, at_once: int, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p(x), the ELBO and the standard error of that, each `(B,)`."""
    weights, terms = [], []
    together = max(1, at_once // len(x))
    for done in range(0, samples, together):
        count = min(together, samples - done)
        # A sample at a time, so that the s-th of an image is the same whatever is done together.
        z = torch.cat([posterior.sample(1, draws) for _ in range(count)])
        log_likelihood = model.log_likelihood(x, model.sparsity(z.flatten(0, 1)).code)
        weights.append(model.log_weight(posterior, z, log_likelihood).double().cpu())
        # Of each sample by itself: the standard error is that of their mean.
        kl = torch.stack([model.prior.kl(posterior, one) for one in z.split(1)])
        terms.append((log_likelihood - kl).double().cpu())
    log_w, term = torch.cat(weights), torch.cat(terms)
    log_p = log_w.logsumexp(dim=0) - math.log(samples)
    return log_p, term.mean(dim=0), term.std(dim=0) / math.sqrt(samples)


def _integrated(model: VAE, x: Tensor, posterior: Posterior, at_once: int) -> list[Quadrature]:
    """Return the integrals for images x `(B, *S)`, an item each."""
    prior = _prior_box(model, posterior.mean)
    found = []
    for image, mean, log_variance in zip(x, *posterior, strict=True):
        q = Posterior(mean[None], log_variance[None])

        def densities(z: Tensor, image: Tensor = image, q: Posterior = q) -> Tensor:
            parts = [_densities(model, image, part, q) for part in z.to(q.mean).split(at_once)]
            return torch.cat(parts, dim=1)

        reach = DEVIATIONS * (0.5 * log_variance).exp()
        low, high = prior[0].minimum(mean - reach), prior[1].maximum(mean + reach)
        found.append(integrated(densities, low.double().cpu(), high.double().cpu()))
    return found


def _densities(model: VAE, image: Tensor, z: Tensor, q: Posterior) -> Tensor:
    """Return log p(x, z) and log q(z|x) of one image at points z `(G, 2)`: `(2, G)`."""
    points = z[:, None]
    log_likelihood = model.log_likelihood(image[None], model.sparsity(z).code)
    joint = log_likelihood + model.log_prior(points)
    return torch.stack([joint[:, 0], q.log_prob(points)[:, 0]]).double().cpu()


def _prior_box(model: VAE, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners `(2,)` of a box around the prior's mean, found by samples."""
    z = model.prior.sample(like.new_empty(PRIOR_SAMPLES, PLANE), draws=FixedDraws(0, 0))
    reach = DEVIATIONS * z.std(dim=0)
    return z.mean(dim=0) - reach, z.mean(dim=0) + reach
