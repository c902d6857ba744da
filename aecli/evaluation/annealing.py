"""log p(x) by annealed importance sampling: tighter than importance sampling, and slower.

Not to be confused with the importance sampling of `aecli.evaluation.likelihood`, which draws
from the encoder's q(z|x): here the encoder plays no part, so that its gap is not in the estimate.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from aecli.data import Batch
from aecli.errors import check_int
from aecli.models import VAE
from aecli.progress import Tracked
from aecli.randomness import Draws

LEAPFROGS = 10
"""Steps of the integrator in a transition."""
STEEPNESS = 4.0
"""Of the sigmoid that the temperatures follow, as in Wu et al.'s experiments."""
FIRST_SIZE, GROWTH, SHRINKAGE = 0.1, 1.02, 0.96
"""Of a leapfrog step at first, and its factors after an accepted and a refused transition."""


class Annealing:
    """p(x) = E[w], w = Π_t p(x|z_t)^(β_t − β_{t−1}), z_1 ~ p(z).

    z_{t+1} comes from z_t by a transition of Hamiltonian Monte Carlo that leaves
    p(z) p(x|z)^β_t unchanged; β grows from 0 to 1 (Neal 2001; Wu, Burda, Salakhutdinov & Grosse
    2017, arXiv 1611.04273). The mean of w over the chains estimates p(x) without bias, so that
    −log of it lies above −log p(x) in expectation.

    The size of the leapfrog steps at each β is found in a run before, by other draws: sizes that
    depend on the chain itself would bias w.

    Args:
        steps: intermediate distributions T; 0 to leave the estimate out.
        chains: of each example, ≥ 1.
        images: how many examples of the test set, the first ones, ≥ 1.
    """

    def __init__(self, steps: int, chains: int, images: int) -> None:
        self.steps = check_int("eval.ais.steps", steps, 0)
        self.chains = check_int("eval.ais.chains", chains, 1)
        self.images = check_int("eval.ais.images", images, 1)

    def __call__(self, model: VAE, batches: Iterable[Batch], at_once: int) -> float:
        """Return the mean over the first examples of minus the log of the estimate of p(x).

        At most `at_once` examples are decoded at the same time.
        """
        total, done = 0.0, 0
        together = max(1, at_once // self.chains)
        for batch in batches:
            draws = batch.draws.of("annealing")
            x = batch.x[: self.images - done]
            for number, part in enumerate(x.split(together)):
                own = draws.after(number * together)
                total += float(self.log_likelihood(model, part, own).sum())
            done += len(x)
            if done == self.images:
                break
        return -total / done

    def log_likelihood(self, model: VAE, x: Tensor, draws: Draws) -> Tensor:
        """Return the log of the estimate of p(x) for x `(B, …)`, `(B,)`, nats."""
        betas = self.betas()
        what = f"annealing {len(x)} examples, {self.chains} chains of {self.steps} steps"
        sizes = None
        for purpose in ("trial run", "run"):
            pairs = Tracked(list(pairwise(betas)), f"{what}: {purpose}")
            with model.prior.kept():
                log_weight, sizes = self.run(model, x, pairs, draws.of(purpose), sizes)
        return log_weight.logsumexp(dim=0) - math.log(self.chains)

    def betas(self) -> list[float]:
        """Return 0 = β_0 < … < β_T = 1 along a sigmoid."""
        places = torch.linspace(-STEEPNESS, STEEPNESS, self.steps + 1, dtype=torch.float64)
        values = places.sigmoid()
        return ((values - values[0]) / (values[-1] - values[0])).tolist()

    @torch.no_grad()
    def run(
        self,
        model: VAE,
        x: Tensor,
        pairs: Iterable[tuple[float, float]],
        draws: Draws,
        sizes: Sequence[Tensor] | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return log w `(S, B)` of the chains, and the sizes `(B,)` of the leapfrog steps.

        The sizes of each step are given, or, if None, follow from whether moves are accepted.
        """
        like = x.new_zeros(len(x), model.code_dim)
        z = model.prior.sample(like, self.chains, draws=draws)
        log_likelihood, _ = _log_likelihood(model, x, z, 0.0)
        log_weight = torch.zeros_like(log_likelihood)
        size, used = torch.full_like(log_weight[0], FIRST_SIZE), []
        for step, (before, beta) in enumerate(pairs):
            log_weight += (beta - before) * log_likelihood
            if sizes is not None:
                size = sizes[step]
            used.append(size)
            z, log_likelihood, accepted = self._move(model, x, z, log_likelihood, beta, size, draws)
            rate = accepted.to(size.dtype).mean(dim=0)
            size = size * (rate * math.log(GROWTH) + (1 - rate) * math.log(SHRINKAGE)).exp()
        return log_weight, used

    def _move(
        self,
        model: VAE,
        x: Tensor,
        z: Tensor,
        log_likelihood: Tensor,
        beta: float,
        size: Tensor,
        draws: Draws,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return z `(S, B, K)` and log p(x|z) `(S, B)` after a transition, and who moved."""
        like = z[0]
        velocity = draws.normal(like, self.chains)
        step = size[:, None]
        start = beta * log_likelihood + model.log_prior(z) - velocity.square().sum(dim=-1) / 2
        place, (_, gradient) = z, _log_likelihood(model, x, z, beta)
        for _ in range(LEAPFROGS):
            velocity = velocity + step / 2 * gradient
            place = place + step * velocity
            moved, gradient = _log_likelihood(model, x, place, beta)
            velocity = velocity + step / 2 * gradient
        end = beta * moved + model.log_prior(place) - velocity.square().sum(dim=-1) / 2
        u = draws.uniform(like[:, 0], self.chains)
        accepted = u.log() < end - start  # never where the end is not finite
        z = torch.where(accepted[..., None], place, z)
        return z, torch.where(accepted, moved, log_likelihood), accepted


def _log_likelihood(model: VAE, x: Tensor, z: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return log p(x|z) `(S, B)` and the gradient of log p(z) p(x|z)^β at z `(S, B, K)`."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = model.log_likelihood(x, model.sparsity(z.flatten(0, 1)).code)
        target = beta * value.sum() + model.log_prior(z).sum()
        (gradient,) = torch.autograd.grad(target, z)
    return value.detach(), gradient
