"""Decodings made beforehand, of a model that the page cannot compute, or that is too large for it.

They are those of a grid over the plane of the map: the code itself if it has one or two units, else
the first two principal components, the others at their mean.
"""

from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

from aecli.explore.blob import Blob
from aecli.explore.examples import AT_ONCE, Codes, in_blob
from aecli.explore.model import Statistics
from aecli.models import Autoencoder

SIDE = 25
"""Decodings in a row and in a column of the grid, at most."""
LEAST_SIDE = 9
BUDGET = 6_000_000
"""Bytes of a grid, before it is compressed."""
LARGEST = 64
"""Pixels of a side, of the pictures in the page: larger ones are made smaller."""
PRIOR = 3.1
"""Standard deviations of the prior that are on the map."""
MARGIN = 0.08
"""Of the extent of the codes, on each side."""


def smaller(x: Tensor) -> Tensor:
    """Return images of at most `LARGEST` pixels a side, by means; rows as they are."""
    if x.dim() != 4 or max(x.shape[2:]) <= LARGEST:
        return x
    factor = LARGEST / max(x.shape[2:])
    height, width = (max(1, round(side * factor)) for side in x.shape[2:])
    return F.adaptive_avg_pool2d(x, (height, width))


def side(shape: tuple[int, ...]) -> int:
    """Return how many decodings stand in a row of the grid, for examples in the page's size."""
    return max(LEAST_SIDE, min(SIDE, int((BUDGET / prod(shape)) ** 0.5)))


@torch.no_grad()
def grid(model: Autoencoder, found: Statistics, of: Codes, blob: Blob) -> dict[str, Any]:
    """Return a grid of decodings and the reconstructions of the examples, as the page has them."""
    code = of.code.double().numpy()
    # As plane.js has them.
    of_units = model.code_dim <= 2
    basis = np.eye(model.code_dim) if of_units else found.components
    origin = np.zeros(model.code_dim) if of_units else found.mean
    is_line = len(basis) == 1  # of a code of one unit
    if is_line:
        basis = np.vstack([basis, np.zeros_like(basis)])
    places = (code - origin) @ basis.T
    low, high = places.min(axis=0), places.max(axis=0)
    if found.kl is not None:  # the prior's circles are on the map
        centre = -origin @ basis.T
        low, high = np.minimum(low, centre - PRIOR), np.maximum(high, centre + PRIOR)
    room = MARGIN * np.maximum(high - low, 1e-3)
    low, high = low - room, high + room
    shape = tuple(_decoded(model, of.code[:1]).shape[1:])
    count = side(shape)
    down = 1 if is_line else count
    steps = [np.linspace(low[axis], high[axis], n) for axis, n in enumerate((count, down))]
    second, first = np.meshgrid(steps[1], steps[0], indexing="ij")
    points = np.stack([first, second], axis=-1).reshape(-1, 2)
    z = torch.from_numpy(origin + points @ basis).float()
    return {
        "columns": count,
        "rows": down,
        "low": low.tolist(),
        "high": high.tolist(),
        "shape": list(shape),
        "decodings": in_blob(as_bytes(_decoded(model, z)), blob),
        "reconstructions": in_blob(as_bytes(_decoded(model, of.code)), blob),
    }


def as_bytes(images: Tensor) -> Tensor:
    """Return images with values that 8 bits hold, as they are looked at; rows as they are."""
    return (images.clamp(0, 1) * 255).round() / 255 if images.dim() == 4 else images


def _decoded(model: Autoencoder, code: Tensor) -> Tensor:
    """Return the decodings of codes `(n, K)` in the page's size."""
    parts = code.split(AT_ONCE)
    return torch.cat([smaller(model.decode(part.to(model.device)).mean.cpu()) for part in parts])
