"""Corruptions of the input, x → x̃, for denoising (Vincent et al. 2008, 2010).

Each is a module that is the identity outside training; `Noise` itself is no noise.
Examples have any shape `(B, …)`, and keep it: a feature is a pixel of a channel, or a number of a
row. The random numbers are those of `draws`: torch's own in training, so that they follow the
run's seed, and an example's own in an evaluation. `corrupt` draws whatever the mode.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aecli.columns import columns_of
from aecli.errors import check_number
from aecli.randomness import TORCH, Draws


class Noise(nn.Module):
    """Base class: x → x̃ in training, x → x otherwise. This one does nothing.

    A subclass defines `corrupt`: it returns a new float32 tensor of the shape of x, leaves x as it
    is, and takes its random numbers from `draws`, so that an evaluation draws the same ones for an
    example each time.

    Not `torch.nn.Identity`, which takes any setting in silence.
    """

    low, high = 0.0, 1.0
    """The range of the data."""

    def fit(self, values: Tensor, shape: Sequence[int]) -> None:
        """Take the range of the training split, of examples of a shape: the ends of its values.

        Of large data those of the values that are looked at; of images `(C, H, W)` at least [0, 1],
        black and white.
        """
        self.low, self.high = float(values.min()), float(values.max())
        if len(shape) == 3:
            self.low, self.high = min(0.0, self.low), max(1.0, self.high)

    def rounds_to_nothing(self, features: int) -> bool:
        """Return whether its setting asks for a corruption that so few features cannot have."""
        return False

    @property
    def is_none(self) -> bool:
        """Whether nothing is ever corrupted."""
        return type(self) is Noise

    def corrupt(self, x: Tensor, draws: Draws = TORCH) -> Tensor:
        """Return a corrupted copy of `x` `(B, …)`, drawn anew at each call; here `x` itself."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return x̃ `(B, …)` in training mode and `x` itself otherwise."""
        return self.corrupt(x) if self.training else x


class Gaussian(Noise):
    """x̃ = clamp(x + std · ε, low, high) with ε ~ N(0, 1) for each feature.

    Args:
        std: standard deviation in units of x, ≥ 0: of an image's range, of a standardized column's
            own deviation.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = check_number("noise.std", std, low=0)

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"std={self.std:g}"

    def corrupt(self, x: Tensor, draws: Draws = TORCH) -> Tensor:
        """Return `x` with Gaussian noise, clamped to the data's range."""
        return (x + self.std * draws.normal(x)).clamp_(self.low, self.high)


class SaltAndPepper(Noise):
    """Each feature is replaced with probability `amount`: by `high` (salt) or by `low` (pepper).

    Those are the ends of the data's range: 1 and 0 in an image, the largest and the smallest number
    of the whole training split in rows.

    Args:
        amount: probability that a feature is replaced, in [0, 1].
        salt: share of the replaced features that become salt, in [0, 1].
    """

    def __init__(self, amount: float, salt: float = 0.5) -> None:
        super().__init__()
        self.amount = check_number("noise.amount", amount, low=0, high=1)
        self.salt = check_number("noise.salt", salt, low=0, high=1)

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"amount={self.amount:g}, salt={self.salt:g}"

    def corrupt(self, x: Tensor, draws: Draws = TORCH) -> Tensor:
        """Return `x` with salt and pepper. One uniform number decides about a feature."""
        u = draws.uniform(x)
        salted = torch.where(u < self.amount * self.salt, self.high, x)
        return torch.where((u >= self.amount * self.salt) & (u < self.amount), self.low, salted)


class Masking(Noise):
    """Exactly the fraction `amount` of each example's features is 0 (Vincent et al. 2008, §2.3).

    The features, ⌊amount · D + ½⌋ of the D, are chosen anew for each example at each call. In a
    standardized column 0 is the mean. Of a table the columns are masked: all numbers of a category,
    and the entry that says of a column that it is there.

    Args:
        amount: fraction of the features, in [0, 1].
        features: what the numbers of a table's row are, as `Card.features`; wired.
    """

    columns: Tensor | None
    """The column that each number of a table's row belongs to, `(D,)`, int64."""

    def __init__(self, amount: float, features: Sequence[Any] | None = None) -> None:
        super().__init__()
        self.amount = check_number("noise.amount", amount, low=0, high=1)
        columns = None if features is None else columns_of(features).of
        self.count = 0 if columns is None else max(columns) + 1
        places = None if columns is None else torch.tensor(columns)
        self.register_buffer("columns", places, persistent=False)

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"amount={self.amount:g}"

    def rounds_to_nothing(self, features: int) -> bool:
        """Return whether the fraction of the features, or of a table's columns, is none of them."""
        return self.amount > 0 and self._masked_of(self.count or features) == 0

    def _masked_of(self, features: int) -> int:
        # 0.29 of 50 is 14.499999999999998 in floats.
        return int(round(self.amount * features, 6) + 0.5)

    def corrupt(self, x: Tensor, draws: Draws = TORCH) -> Tensor:
        """Return `x` with the masked features at 0."""
        flat = x.flatten(1)
        if self.columns is not None:
            kept = self._masked(flat.new_ones(len(flat), self.count), draws)
            return x * kept.index_select(1, self.columns)
        return self._masked(flat, draws).view_as(x)

    def _masked(self, flat: Tensor, draws: Draws) -> Tensor:
        masked = self._masked_of(flat.shape[1])
        # The features with the largest of D uniform numbers are a uniform choice without
        # replacement; topk, unlike a threshold, keeps the count exact when numbers tie.
        chosen = draws.uniform(flat).topk(masked, dim=1, sorted=False).indices
        return flat.scatter(1, chosen, 0.0)
