"""−log p(x) of models with a prior, by importance sampling: an upper bound in expectation."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from aecli.data import Batch
from aecli.errors import check_int
from aecli.models import VAE
from aecli.models.accumulators import Means
from aecli.randomness import TORCH, Draws


@torch.no_grad()
def marginal_nll(model: VAE, batches: Iterable[Batch], samples: int, at_once: int) -> float:
    """Return the mean over examples of −log p(x), estimated with `samples` importance samples each.

    Above −log p(x) in expectation: minus `importance_bound`, a lower bound. `at_once` bounds the
    memory: that many examples are decoded at the same time.
    """
    check_int("eval.importance_samples", samples, 1)
    check_int("eval.decoded_at_once", at_once, 1)
    means = Means()
    for batch in batches:
        bounds = batch_bounds(model, batch, samples, at_once)
        means.add({"log_p": bounds.mean()}, len(bounds))
    return -means.compute()["log_p"]


def batch_bounds(model: VAE, batch: Batch, samples: int, at_once: int) -> Tensor:
    """Return the `importance_bound` of each example of a batch, `(B,)`, nats.

    `at_once` examples are decoded at the same time.
    """
    draws = batch.draws.of("importance")
    parts = enumerate(batch.x.split(at_once))
    with model.prior.kept():
        bounds = [
            importance_bound(model, x, samples, at_once, draws.after(number * at_once))
            for number, x in parts
        ]
    return torch.cat(bounds)


@torch.no_grad()
def importance_bound(
    model: VAE, x: Tensor, samples: int, at_once: int, draws: Draws = TORCH
) -> Tensor:
    """Return log (1/S) Σ_s p(x|z_s) p(z_s) / q(z_s|x), z_s ~ q(z|x), for x `(B, …)`: `(B,)`, nats.

    A lower bound of log p(x) in expectation that never falls as S grows and converges to it
    (Burda, Grosse & Salakhutdinov 2015, arXiv 1509.00519, eq. 8 and theorem 1).
    """
    posterior = model.posterior(x)
    together = max(1, at_once // len(x))
    # In float64: beside the sum so far a sample's share may be less than float32's last digit.
    total = torch.full((len(x),), -math.inf, dtype=torch.float64)
    for done in range(0, samples, together):
        count = min(together, samples - done)
        # A sample at a time, so that the s-th of an image is the same whatever is done together.
        z = torch.cat([posterior.sample(1, draws) for _ in range(count)])
        log_likelihood = model.log_likelihood(x, model.sparsity(z.flatten(0, 1)).code)
        log_weight = model.log_weight(posterior, z, log_likelihood)
        total = torch.logaddexp(total, log_weight.cpu().double().logsumexp(dim=0))
    return (total - math.log(samples)).to(x)
