"""Distances between two sets of examples, from their features: kernel, neighbours, manifolds."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

BLOCKS = 10
NEIGHBORS = 3
"""k, as in Kynkäänniemi et al. 2019."""
TOGETHER = 1 << 24
"""Distances that are in memory at the same time."""


class Estimate(NamedTuple):
    """A mean over blocks, and its standard error."""

    value: float
    error: float


class Manifolds(NamedTuple):
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 1 and 2)."""

    precision: float
    """Share of the samples that lie in the manifold of the data."""
    recall: float
    """Share of the data that lies in the manifold of the samples."""


def kernel_distance(samples: Tensor, data: Tensor, blocks: int = BLOCKS) -> Estimate:
    """Return MMD²(samples, data) with the kernel k(a, b) = (aᵀb / K + 1)³, for rows `(n, K)`.

    The kernel inception distance of Bińkowski et al. 2018 (arXiv 1801.01401) in these features. The
    rows are cut into blocks, the r-th of one set beside the r-th of the other. Each block's
    estimate is without bias, and may lie below 0; so is their mean, whose standard error is that of
    independent blocks.
    """
    pairs = zip(
        samples.double().tensor_split(blocks), data.double().tensor_split(blocks), strict=True
    )
    values = torch.stack([mmd2(a, b) for a, b in pairs])
    return Estimate(float(values.mean()), float(values.std() / math.sqrt(len(values))))


def mmd2(a: Tensor, b: Tensor) -> Tensor:
    """Return MMD² without bias (Gretton et al. 2012, eq. 3) for a `(n, K)` and b `(m, K)`."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:
        gram = kernel(x, x)
        return (gram.sum() - gram.trace()) / (len(x) * (len(x) - 1))

    return within(a) + within(b) - 2 * kernel(a, b).mean()


def nearest(rows: Tensor, others: Tensor, count: int = 1) -> Tensor:
    """Return the Euclidean distance of each row to its `count`-th nearest of others: `(n,)`."""
    parts = rows.split(max(1, TOGETHER // len(others)))
    return torch.cat(
        [_distances(part, others).topk(count, largest=False).values[:, -1] for part in parts]
    )


def precision_recall(samples: Tensor, data: Tensor, neighbors: int = NEIGHBORS) -> Manifolds:
    """Return precision and recall of samples `(n, K)` for data `(m, K)`.

    The manifold of a set is the union of balls around its members, each as large as the distance to
    its `neighbors`-th nearest other member.
    """
    return Manifolds(_inside(samples, data, neighbors), _inside(data, samples, neighbors))


def _inside(rows: Tensor, members: Tensor, neighbors: int) -> float:
    """Return the share of the rows that lie in the manifold of `members`."""
    radius = nearest(members, members, neighbors + 1)  # the nearest is itself
    parts = rows.split(max(1, TOGETHER // len(members)))
    inside = [(_distances(part, members) <= radius).any(dim=1) for part in parts]
    return float(torch.cat(inside).double().mean())


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    # In float64 by a matrix product: twice as fast as differences, and exact enough.
    return torch.cdist(rows.double(), others.double())
