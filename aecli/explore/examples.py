"""The test examples in a page, and what a model makes of them."""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aecli.data import Card
from aecli.data.splits import Split
from aecli.explore.blob import Blob
from aecli.models import VAE, Autoencoder
from aecli.models.vae import has_normal_prior

SHOWN = 1000
"""Test examples on the map."""
BUDGET = 4_000_000
"""Bytes that they and their codes may take, before they are compressed."""
MEASURED = 10_000
"""Test examples that the means over the test split are taken of, at most."""
AT_ONCE = 500
BINARY = 255
"""Steps between 0 and 1 of images that are kept as bytes."""


def chosen(split: Split, count: int) -> np.ndarray:
    """Return the places `(n,)` in a split of examples of all labels, as many of each, in order."""
    labels = split.labels.numpy()
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(starts, counts)  # 0 is the first of its label
    return np.sort(order[np.argsort(rank, kind="stable")[:count]])


def usual_count(shape: tuple[int, ...], code_dim: int) -> int:
    """Return how many examples are shown if nothing is said: fewer of large ones."""
    return max(1, min(SHOWN, BUDGET // (prod(shape) + 4 * code_dim)))


def taken(split: Split, places: np.ndarray) -> Tensor:
    """Return examples as the model sees them, not binarized, `(n, *S)`."""
    rows = split.rows[torch.from_numpy(places).to(split.rows.device)]
    return split.examples.card.scaled(split.examples.taken(rows))


def in_blob(x: Tensor, blob: Blob) -> dict[str, Any]:
    """Add examples as bytes, if they are such, or else in 16 bits; return where they are."""
    flat = x.flatten(1).numpy(force=True)
    steps = flat * BINARY
    if np.abs(steps - steps.round()).max() < 1e-3 and flat.min() >= 0 and flat.max() <= 1:
        return blob.add(steps.round().astype(np.uint8), 1 / BINARY)
    if len(x.shape) == 4:
        largest = float(np.abs(flat).max()) or 1.0
        return blob.add((flat / largest).astype(np.float16), largest)
    return blob.add(flat.astype(np.float32))


class Codes(NamedTuple):
    """What a model makes of n examples, on the CPU."""

    code: Tensor
    """`(n, K)`; the posterior's means of a model that has one."""
    log_variance: Tensor | None
    """`(n, K)`, of the posterior."""
    score: Tensor
    """`(n,)`, see `score_name`."""
    mse: Tensor
    """`(n,)`, the squared error per feature."""


@torch.no_grad()
def codes(model: Autoencoder, x: Tensor, rounds: bool) -> Codes:
    """Return codes and scores of examples x `(n, *S)`; of x rounded to 0 and 1, if `rounds`."""
    parts = [_codes(model, part.to(model.device), rounds) for part in x.split(AT_ONCE)]
    code, log_variance, score, mse = zip(*parts, strict=True)
    has_posterior = log_variance[0] is not None
    return Codes(
        torch.cat(code).cpu(),
        torch.cat(log_variance).cpu() if has_posterior else None,
        torch.cat(score).cpu(),
        torch.cat(mse).cpu(),
    )


def _codes(model: Autoencoder, x: Tensor, rounds: bool) -> Codes:
    code, posterior = model.encode(x), None
    if isinstance(model, VAE):
        posterior = model.posterior(x)
    decoded = model.decode(code)
    mse = score = model.likelihood.mse(decoded.mean, x)
    if model.likelihood.is_density:
        score = -decoded.log_prob((x >= 0.5).float() if rounds else x)
        if has_normal_prior(model):
            assert posterior is not None
            score = score + posterior.kl()
    return Codes(code, None if posterior is None else posterior.log_variance, score, mse)


def score_name(model: Autoencoder) -> str:
    """Return what `Codes.score` is."""
    if not model.likelihood.is_density:
        return "squared error per feature"
    if has_normal_prior(model):
        return "−ELBO with z at the posterior’s mean, nats"
    return "−log p(x|z), nats"


def measured(split: Split) -> Iterator[Tensor]:
    """Return test examples from all over the split, some at a time."""
    places = np.unique(np.linspace(0, len(split) - 1, min(len(split), MEASURED)).astype(int))
    for start in range(0, len(places), AT_ONCE):
        yield taken(split, places[start : start + AT_ONCE])


def card_range(x: Tensor, card: Card) -> list[float]:
    """Return the values that are drawn as black and as white."""
    if len(card.shape) == 1:
        return [float(x.min()), float(x.max())]
    return [min(0.0, float(x.min())), max(1.0, float(x.max()))]
