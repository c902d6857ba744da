"""Integrals over a plane by sums over cells, which are made smaller where a density is."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

START = 64
"""Cells on a side of the first grid."""
NEGLIGIBLE, MORE = 30.0, 100.0
"""Nats below its largest value at which a density is left out, and how many more in the first grid,
a quarter of them in the next: a mode may lie between the centers of coarse cells."""
LEAST_HALVINGS = 2
TOLERANCE = 1e-3
"""Nats: the change of all integrals by halving the cells' sides at which they are small enough."""
HALVINGS = 12
MOST_CELLS = 1 << 18

Densities = Callable[[Tensor], Tensor]
"""Maps points `(G, 2)` to the logarithms of two densities there, `(2, G)`."""


class Quadrature(NamedTuple):
    """What two densities p and q over the plane, not normalized, integrate to; nats."""

    log_p: float
    """log ∫ p."""
    log_q: float
    """log ∫ q; 0 for a normalized q, but for the error."""
    kl: float
    """KL(q ‖ p), both normalized by their own sums: ≥ 0."""
    change: float
    """The largest change of the three by the last halving of the cells' sides."""
    cells: int
    """Of the last grid."""


def integrated(densities: Densities, low: Tensor, high: Tensor) -> Quadrature:
    """Return the integrals of exp(densities) over a box, by the midpoint rule.

    The cells of one size are kept where one of the two densities is within `NEGLIGIBLE` nats of its
    largest value, and parted in four, at least `LEAST_HALVINGS` times, until the integrals change
    by `TOLERANCE` at most. For a smooth density that the grid resolves the rule's error falls
    faster than any power of the side.

    Args:
        densities: log p and log q.
        low, high: corners of the box, `(2,)`, float64.
    """
    side = (high - low) / START
    places = (torch.arange(START, dtype=torch.float64) + 0.5) / START
    centers = torch.cartesian_prod(*(low[:, None] + (high - low)[:, None] * places))
    values = densities(centers)
    found = _sums(values.double(), side)
    for halving in range(HALVINGS):
        depth = NEGLIGIBLE + MORE / 4**halving
        kept = (values > values.amax(dim=1, keepdim=True) - depth).any(dim=0)
        if 4 * int(kept.sum()) > MOST_CELLS:
            break
        side = side / 2
        corners = torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]], dtype=torch.float64)
        offsets = corners * side / 2
        centers = (centers[kept][:, None] + offsets).flatten(0, 1)
        values = densities(centers)
        before, found = found, _sums(values.double(), side)
        change = max(abs(a - b) for a, b in zip(found[:3], before[:3], strict=True))
        found = found._replace(change=change)
        if change <= TOLERANCE and halving + 1 >= LEAST_HALVINGS:
            break
    return found


def _sums(values: Tensor, side: Tensor) -> Quadrature:
    """Return the integrals over cells of these sides, of values `(2, G)` at their centers."""
    area = math.log(float(side.prod()))
    log_p, log_q = (float(v) + area for v in values.logsumexp(dim=1))
    p, q = values + area - torch.tensor([[log_p], [log_q]], dtype=values.dtype)
    weight = q.exp()
    difference = torch.where(weight > 0, q - p, 0.0)
    return Quadrature(log_p, log_q, float(weight @ difference), math.inf, values.shape[1])
