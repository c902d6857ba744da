"""A noise and a metric that aecli does not have, in a module of one's own."""

from collections.abc import Iterable

import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

from aecli.data import Batch
from aecli.errors import SettingError, check_int, check_number
from aecli.evaluation.own import Metric
from aecli.models import Autoencoder
from aecli.models.accumulators import Means
from aecli.noise import Noise
from aecli.randomness import TORCH, Draws


class Blur(Noise):
    """x̃ = (1 − w) x + w · (mean over a square window), with w ~ U[0, amount) for each image.

    Args:
        amount: the largest weight of the blurred image, in [0, 1].
        side: pixels on a side of the window, odd.
    """

    def __init__(self, amount: float, side: int) -> None:
        super().__init__()
        self.amount = check_number("noise.amount", amount, low=0, high=1)
        self.side = check_int("noise.side", side, 1)
        if side % 2 == 0:
            raise SettingError(f"noise.side={side}: must be odd")

    def corrupt(self, x: Tensor, draws: Draws = TORCH) -> Tensor:
        """Return blurred copies of the images `(B, C, H, W)`."""
        border = self.side // 2
        blurred = F.avg_pool2d(x, self.side, stride=1, padding=border, count_include_pad=False)
        weight = self.amount * draws.uniform(x[:, :1, :1, :1])
        return x.lerp(blurred, weight)


class Sharpness(Metric):
    """Mean absolute difference between horizontal neighbours in the reconstructions."""

    name = "sharpness"
    unit = "grey values, of neighbouring pixels"
    more_is_better = True

    def __call__(self, model: Autoencoder, batches: Iterable[Batch]) -> float:
        """Return the mean over the images."""
        means = Means()
        for batch in batches:
            output = model.reconstruct(batch.original)
            means.add({self.name: output.diff(dim=-1).abs().mean()}, len(output))
        return means.compute()[self.name]
