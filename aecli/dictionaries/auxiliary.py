"""The auxiliary loss of dead latents."""

import torch
from torch import Tensor


def auxiliary_loss(decoded: Tensor, error: Tensor, count: Tensor, spread: Tensor) -> Tensor:
    """Return mean_B ‖ê − e‖² / mean ‖e − ē‖² (AuxK; Gao et al. 2024, arXiv 2406.04093, §A.2).

    Args:
        decoded: ê, decoded from dead latents alone, without the pre-bias, `(B, d)`.
        error: e = x − x̂, `(B, d)`, a constant here.
        count, spread: the rows and Σ ‖e − ē‖² of the whole batch, ē its mean error. Where that is
            0 or not finite, so is the loss.
    """
    share = torch.where(spread > 0, count / spread, 0.0).nan_to_num(0.0, 0.0, 0.0)
    return share * (decoded - error).square().sum(dim=1).mean()


@torch.no_grad()
def geometric_median(rows: Tensor, steps: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Return the point of least mean distance to rows `(N, d)`, `(d,)`, by Weiszfeld's algorithm.

    It ends after `steps`, or once the point moves by less than `tolerance` of the mean distance.
    """
    point = rows.mean(dim=0)
    for _ in range(steps):
        distances = torch.linalg.vector_norm(rows - point, dim=1).clamp_min(1e-12)
        weights = distances.reciprocal()
        moved = (weights @ rows) / weights.sum()
        step = torch.linalg.vector_norm(moved - point)
        point = moved
        if step <= tolerance * distances.mean():
            break
    return point
