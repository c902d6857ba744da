"""How unusual an example is: a number each, higher for what is less like the training split.

A score is a function of the example alone, not of its place or its batch: all examples are scored
by the same draws (`by_the_same_draws`), and new ones binarized by draws of their own numbers.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import torch
from scipy.linalg import pinvh
from torch import Tensor

from aecli.data import Batch, DataModule
from aecli.errors import SettingError, check_choice
from aecli.evaluation.likelihood import batch_bounds
from aecli.models import VAE, Autoencoder
from aecli.models.vae import Posterior
from aecli.randomness import SharedDraws
from aecli.size import check_fits

Score = Callable[[Batch], Tensor]
"""Returns the scores of a batch, `(B,)`."""

KINDS = ("mse", "nll", "elbo", "marginal_nll", "knn", "mahalanobis")
IMPORTANCE_SAMPLES = 200
DECODED_AT_ONCE = 1000
"""Examples that are decoded at the same time for kind=marginal_nll: bounds the memory."""
NEIGHBORS = 5
ROUNDING = 2e-6
"""Of the largest code: what its float32 may be off by, and another batch size may change."""
LEAST_VARIANCE = 1e-12
"""Of what a code leaves out: a model may reconstruct the training split without an error."""


def kind_for(kind: str | None, model: Autoencoder, name: str) -> str:
    """Return a kind of score that the model has: `kind`, or if that is None the usual one.

    That is "elbo" for a model with a prior and a density, else "mse". `name` is the model's in
    messages. Raises `SettingError` for a kind that the model lacks.
    """
    has_elbo = model.has_prior and model.likelihood.is_density
    if kind is None:
        return "elbo" if has_elbo else "mse"
    check_choice("kind", kind, KINDS)
    if kind == "nll" and not model.likelihood.is_density:
        raise SettingError("kind=nll: the run's likelihood is no density; use kind=mse")
    if kind in ("elbo", "marginal_nll") and not has_elbo:
        lacks = "likelihood is no density" if model.has_prior else f"model={name} has no prior"
        raise SettingError(f"kind={kind}: the run's {lacks}; use kind=mse")
    return kind


def check_targets(kind: str, data: DataModule, with_what: str) -> None:
    """Refuse a score by the error of targets for examples that come without.

    `with_what` says how they are given.
    """
    needs = data.card is not None and data.card.target_shape is not None
    if needs and kind != "knn" and not data.has_targets:
        raise SettingError(
            f"kind={kind}: the run's model makes targets of what it reads, and there are none to"
            f" compare with; {with_what}, or use kind=knn"
        )


def squared_errors(model: Autoencoder, batch: Batch) -> Tensor:
    """Return the squared error of each feature, `(B, *S)`, of a code's mean reconstruction."""
    return model.likelihood.errors(model.reconstruct(batch.original), batch.wanted)


def mse(model: Autoencoder) -> Score:
    """Score = ‖x − x̂‖² / D: the mean over the features of the squared error."""
    return lambda batch: model.likelihood.mse(model.reconstruct(batch.original), batch.wanted)


def nll(model: Autoencoder) -> Score:
    """Score = −log p(x|z), nats; of a model with a posterior its mean over samples z ~ q(z|x)."""

    def score(batch: Batch) -> Tensor:
        if model.has_prior:
            _, z = _sampled(cast(VAE, model), batch)
            return -_expected_log_likelihood(cast(VAE, model), batch, z)
        return -model.decode(model.encode(batch.x)).log_prob(batch.given[0])

    return score


def elbo(model: VAE) -> Score:
    """Score = −ELBO = KL(q(z|x) ‖ p(z)) − E_q[log p(x|z)], nats, E_q by the model's samples."""

    def score(batch: Batch) -> Tensor:
        posterior, z = _sampled(model, batch)
        return model.prior.kl(posterior, z) - _expected_log_likelihood(model, batch, z)

    return score


def marginal_nll(model: VAE, samples: int) -> Score:
    """Score = −log p(x), nats, by importance sampling: see `importance_bound`."""
    return lambda batch: -batch_bounds(model, batch, samples, DECODED_AT_ONCE)


def by_the_same_draws(score: Score, seed: int) -> Score:
    """Return a score whose samples are made of the same numbers for every example.

    Without it they are those of `batch.draws`: in a split's order those of `aecli eval`.
    """
    draws = SharedDraws(seed)
    return lambda batch: score(batch._replace(draws=draws))


def _sampled(model: VAE, batch: Batch) -> tuple[Posterior, Tensor]:
    """Return q(z|x) and samples of it `(S, B, K)`, by the batch's draws."""
    posterior = model.posterior(batch.x)
    return posterior, posterior.sample(model.samples, batch.draws.of("code"))


def _expected_log_likelihood(model: VAE, batch: Batch, z: Tensor) -> Tensor:
    """Return the mean of log p(x|z) over samples z `(S, B, K)`, `(B,)`."""
    code = model.sparsity(z.flatten(0, 1)).code
    return model.log_likelihood(batch.x, code).mean(dim=0)


class NearestCodes:
    """Score = the Euclidean distance from the code to its `neighbors`-th nearest training code.

    Ramaswamy, Rastogi & Shim, SIGMOD 2000. A training example is no neighbour of its own:
    `of_training`. The `count` training codes are held in memory.
    """

    def __init__(
        self, model: Autoencoder, training: Iterable[Batch], count: int, neighbors: int
    ) -> None:
        from sklearn.neighbors import NearestNeighbors

        if neighbors >= count:
            raise SettingError(
                f"neighbors={neighbors}: the training split has {count} examples; must be less"
            )
        check_fits("kind=knn: the codes of the training split", 4 * count * model.code_dim)
        codes = np.concatenate([_codes(model, batch) for batch in training])
        self._model, self._neighbors = model, neighbors
        self._nearest = NearestNeighbors().fit(codes)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the scores of new examples, `(B,)`."""
        return self._distance(batch, self._neighbors)

    def of_training(self, batch: Batch) -> Tensor:
        """Return the scores of examples of the training split, `(B,)`."""
        return self._distance(batch, self._neighbors + 1)  # the nearest is the example itself

    def _distance(self, batch: Batch, number: int) -> Tensor:
        z = _codes(self._model, batch)
        distances = np.full(len(z), np.nan)  # of a code that is not finite
        if (finite := np.isfinite(z).all(axis=1)).any():
            distances[finite] = self._nearest.kneighbors(z[finite], number)[0][:, -1]
        return torch.from_numpy(distances)


def mahalanobis(model: Autoencoder, training: Iterable[Batch]) -> Score:
    """Score = (z − μ)ᵀ Σ⁺ (z − μ) + ‖x − x̂‖² / σ²: of the code, and of what it leaves out.

    μ and Σ are the mean and the covariance of the training codes, σ² the squared error of the
    training split per dimension that the code leaves out, D − K of them (D, if K ≥ D), where D is
    how many entries an example has on average, of a table without those that are missing. Σ⁺ is
    the pseudo-inverse, so that what is always the same but for rounding counts nothing. Denouden
    et al. 2018, arXiv 1812.02765; of `model=pca` it is −2 log p(x) of probabilistic PCA (Tipping &
    Bishop 1999, eq. 7) but for a constant.
    """
    total: Any = 0.0
    squares: Any = 0.0
    error, entries, count = 0.0, 0.0, 0
    for batch in training:
        z = _codes(model, batch).astype(np.float64)
        total, squares, count = total + z.sum(axis=0), squares + z.T @ z, count + len(z)
        error += float(squared_errors(model, batch).double().sum())
        entries += float(model.likelihood.counted(batch.wanted).double().sum())
    mean, second = total / count, squares / count
    rounding = len(mean) * ROUNDING**2 * second.diagonal().max(initial=0.0)
    inverse = pinvh(second - np.outer(mean, mean), atol=rounding)
    features, units = entries / count, len(mean)
    left = features - units if units < features else features
    variance = max(error / count / left, LEAST_VARIANCE)

    def score(batch: Batch) -> Tensor:
        z = _codes(model, batch) - mean
        left_out = squared_errors(model, batch).double().flatten(1).sum(dim=1).cpu() / variance
        distance = (z @ inverse * z).sum(axis=1)
        return torch.from_numpy(distance.clip(0)) + left_out

    return score


def _codes(model: Autoencoder, batch: Batch) -> np.ndarray:
    return model.encode(batch.original).numpy(force=True)
