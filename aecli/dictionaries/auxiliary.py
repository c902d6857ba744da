"""The auxiliary loss of dead latents."""

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

from aecli.distributed import total

LEAST = 1e-12
"""Of a divisor that is 0 where all rows are the same."""
LEAST_SPREAD = 1e-12
"""Of the squares of the errors, below which their spread is the rounding of float64."""


class ErrorSpread:
    """Σ ‖e − ē‖² of the errors e of all rows of a batch, over all processes; ē is their mean.

    Args:
        like: has d numbers, and the rows' device.
    """

    def __init__(self, like: Tensor) -> None:
        self._sums = like.new_zeros(len(like) + 2, dtype=torch.float64)

    def add(self, error: Tensor) -> None:
        """Add the errors of some rows, `(R, d)`."""
        error = error.double()
        self._sums[:-2] += error.sum(dim=0)
        self._sums[-2] += error.square().sum()
        self._sums[-1] += len(error)

    def share(self) -> Tensor:
        """Return the rows over the spread; 0 where all errors are the same."""
        sums = total(self._sums)
        mean, squares, rows = sums[:-2], sums[-2], sums[-1]
        spread = squares - mean.square().sum() / rows
        differ = spread > LEAST_SPREAD * squares
        return torch.where(differ, rows / spread, 0.0).nan_to_num(0.0, 0.0, 0.0)


def auxiliary_loss(decoded: Tensor, error: Tensor, share: Tensor) -> Tensor:
    """Return Σ ‖ê − e‖² / mean ‖e − ē‖² (AuxK; Gao et al. 2024, arXiv 2406.04093, §A.2).

    A sum over some rows, which the caller divides by those of the batch.

    Args:
        decoded: ê, decoded from dead latents alone, without the pre-bias, `(R, d)`.
        error: e = x − x̂, `(R, d)`, a constant here.
        share: of the whole batch, see `ErrorSpread`.
    """
    return share.to(error) * F.mse_loss(decoded, error, reduction="sum")


@torch.no_grad()
def geometric_median(rows: Tensor, steps: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Return the point of least mean distance to rows `(N, d)`, `(d,)`, by Weiszfeld's algorithm.

    On a row it goes on as that of Vardi & Zhang 2000 (PNAS 97, eq. 2.6), which leaves a row that is
    not the median. It ends after `steps`, or once the point moves by less than `tolerance` of the
    mean distance.
    """
    point = rows.mean(dim=0)
    for _ in range(steps):
        distances = torch.linalg.vector_norm(rows - point, dim=1)
        near = tolerance * distances.mean()
        here = distances <= near
        weights = distances.masked_fill(here, torch.inf).reciprocal()
        weight = weights.sum().clamp_min(LEAST)
        away = (weights @ rows) / weight - point
        # The rows that lie at the point hold it against the pull of the others.
        held = here.sum() / (torch.linalg.vector_norm(away) * weight).clamp_min(LEAST)
        moved = point + away * (1 - held).clamp_min(0)
        step = torch.linalg.vector_norm(moved - point)
        point = moved
        if step <= near:
            break
    return point
