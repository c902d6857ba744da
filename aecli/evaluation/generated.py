"""How far what a model makes of random codes is from data, between a floor and a ceiling."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aecli.data import DataModule
from aecli.evaluation import metrics
from aecli.evaluation.classifier import fitted
from aecli.evaluation.distances import (
    Estimate,
    Manifolds,
    kernel_distance,
    nearest,
    precision_recall,
)
from aecli.models import VAE, Autoencoder
from aecli.randomness import Draws, FixedDraws, derived_seed

LEAST = 100
"""Examples of each set: ten of them in each block."""
JITTER = 1e-6
"""Of the mean variance of the codes, on the diagonal of their covariance."""
SOURCES = {
    "train": "training examples: the floor",
    "prior": "z ~ p(z), decoded",
    "fitted": "z ~ N(mean, covariance) of the training codes, decoded",
    "normal": "z ~ N(0, I), decoded",
    "noise": "uniform noise: the ceiling",
}


class Distances(NamedTuple):
    """Of n examples of a source from n test examples, in the features."""

    kernel: Estimate
    neighbor: Estimate
    """Euclidean distance to the nearest training example: mean over the examples."""
    manifolds: Manifolds


class Generated(NamedTuple):
    """The sources and what was measured of them."""

    examples: dict[str, Tensor]
    """n of each of `SOURCES` that the model has, and of "test", `(n, *S)`."""
    distances: dict[str, Distances]
    """Of each source."""
    test_neighbor: Estimate
    """Of the test examples, to the nearest training example."""
    space: str
    """What the features are."""


@torch.no_grad()
def generated(
    model: Autoencoder, data: DataModule, images: int, at_once: int, seed: int
) -> Generated:
    """Compare `images` examples of each source with as many test examples, drawn at random.

    What is decoded is the mean of p(x|z). The features are those of a small `Classifier` of the
    training split, or, of data without labels, the numbers of the examples themselves. `at_once`
    examples are decoded at the same time. The splits have at least `LEAST` examples.
    """
    count = min(images, len(data.splits["test"]), len(data.splits["train"]))
    test, training = data.batches("test", 1000), data.batches("train", 1000)
    shape = data.some(1).shape[1:]
    known = metrics.pixels(training)[0]
    # Drawn, and in a random order: a folder's files lie class by class.
    some = np.random.default_rng(derived_seed(seed, "generated rows"))
    rows = {"test": metrics.pixels(test)[0], "train": known}
    rows = {name: part[some.permutation(len(part))[:count]] for name, part in rows.items()}
    draws = FixedDraws(derived_seed(seed, "generated"), 0)
    low, high = float(model.noise.low), float(model.noise.high)
    rows |= _decoded(model, _codes(model, data, count, draws), at_once)
    rows["noise"] = low + (high - low) * draws.of("noise").uniform(torch.empty(count, *shape))
    examples = {name: part.reshape(count, *shape) for name, part in rows.items()}
    features = {name: part.flatten(1) for name, part in rows.items()}
    space = "the numbers of the examples"
    if data.is_labelled and len(data.splits["train"].labels.unique()) > 1:
        classifier = fitted(training, seed)
        features = {name: classifier.features(part) for name, part in features.items()}
        known = classifier.features(known)
        space = f"64 features of a classifier with {classifier.error(test):.2f} % test errors"
    distances = {
        name: Distances(
            kernel_distance(part, features["test"]),
            # A training example is not its own neighbour.
            _mean(nearest(part, known, 2 if name == "train" else 1)),
            precision_recall(part, features["test"]),
        )
        for name, part in features.items()
        if name != "test"
    }
    ordered = {name: distances[name] for name in SOURCES if name in distances}
    return Generated(examples, ordered, _mean(nearest(features["test"], known)), space)


def _codes(model: Autoencoder, data: DataModule, count: int, draws: Draws) -> dict[str, Tensor]:
    """Return random codes `(count, K)` of each source that the model has."""
    codes = metrics.codes(model, data.batches("train", 1000))[0].double()
    like = torch.empty(count, model.code_dim)
    mean, covariance = codes.mean(dim=0), codes.T.cov()
    jitter = JITTER * covariance.diagonal().mean() if covariance.dim() else JITTER * covariance
    square = covariance.reshape(model.code_dim, -1) + jitter * torch.eye(model.code_dim)
    factor = torch.linalg.cholesky_ex(square).L  # of codes that are all the same, 0
    found = {"fitted": (mean + draws.of("fitted").normal(like).double() @ factor.T).float()}
    if isinstance(model, VAE):
        found["prior"] = model.prior.sample(like.to(model.device), draws=draws.of("prior"))
    else:
        found["normal"] = draws.of("normal").normal(like)
    return found


def _decoded(model: Autoencoder, codes: Mapping[str, Tensor], at_once: int) -> dict[str, Tensor]:
    """Return the mean of p(x|z) at codes, on the CPU."""
    return {
        name: torch.cat(
            [model.decode(part.to(model.device)).mean.cpu() for part in each.split(at_once)]
        )
        for name, each in codes.items()
    }


def _mean(values: Tensor) -> Estimate:
    return Estimate(float(values.mean()), float(values.std() / len(values) ** 0.5))
