"""What is found in an array in passes over it: numbers that cannot be used, ends and moments."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aecli.data.array_card import EXACT
from aecli.data.mapped import as_tensor, mapping_of, one_thread, release
from aecli.errors import SettingError
from aecli.progress import Tracked

LARGEST = 1e30
"""Of a number: the difference of two of these, and its square's root, are in float32."""
SHOWN = 5
"""Places of numbers that cannot be used."""
CHUNK = 1 << 19
"""Bytes that are looked at together: their float64 stay in a processor's cache."""
QUICK = 500 << 20
"""Bytes that are looked at within two seconds."""


class Moments(NamedTuple):
    """Of each feature, `(D,)`, float64; or of all together, `()`."""

    number: int
    low: Tensor
    high: Tensor
    mean: Tensor
    squares: Tensor
    """Σ (v − mean)²."""

    @property
    def deviation(self) -> Tensor:
        """The standard deviation, of all examples that there are."""
        return (self.squares / self.number).sqrt()

    def joined(self) -> "Moments":
        """Return those of all features together."""
        mean = self.mean.mean()
        squares = self.squares.sum() + self.number * (self.mean - mean).square().sum()
        return Moments(self.number * len(self.mean), self.low.min(), self.high.max(), mean, squares)


@one_thread()
def moments(array: np.ndarray, rows: Tensor) -> Moments:
    """Return the moments of some rows (Chan, Golub & LeVeque 1983: those of pieces, joined).

    Args:
        array: `(N, …)`, whose entries but for the first dimension are the features.
        rows: `(n,)` row numbers, n > 0.
    """
    values, mapping = as_tensor(array).flatten(1), mapping_of(array)
    count, mean, squares = 0, torch.zeros(()).double(), torch.zeros(()).double()
    low, high = mean + torch.inf, mean - torch.inf
    for piece in _pieces(array, len(rows), "looking at the training split"):
        v = values.index_select(0, rows[piece]).double()
        release(mapping)
        low, high = low.minimum(v.amin(0)), high.maximum(v.amax(0))
        own, total = v.mean(0), count + len(v)
        apart = own - mean
        squares = squares + apart.square() * (count * len(v) / total)
        mean = mean + apart * (len(v) / total)
        squares = squares + v.sub_(own).square_().sum(0)
        count = total
    return Moments(count, low, high, mean, squares)


@one_thread()
def check_values(array: np.ndarray, name: str) -> None:
    """Refuse numbers that are not finite, and those that float32 cannot hold, or not subtract.

    Raises `SettingError` with how many there are, and where; `name` is the file's.
    """
    dtype, mapping = array.dtype, mapping_of(array)
    if dtype.kind == "f":
        most = min(float(np.finfo(dtype).max), LARGEST)
        what = "numbers that are not finite" + f", or beyond ±{LARGEST:g}" * (dtype.itemsize > 2)
    elif dtype.itemsize > 2:
        most, what = EXACT, f"integers beyond ±{EXACT:,}, which float32 would round"
    else:
        return
    count, places = 0, list[str]()
    for piece in _pieces(array, len(array), "looking for numbers that cannot be used"):
        values = array[piece]
        ends = as_tensor(values).aminmax() if dtype.kind == "f" else (values.min(), values.max())
        if not (ends[0] >= -most and ends[1] <= most):  # so for NaN, too
            wrong = np.argwhere(~((values >= -most) & (values <= most)))
            count += len(wrong)
            wrong[:, 0] += piece.start
            places += [str(tuple(map(int, at))) for at in wrong[: SHOWN - len(places)]]
        release(mapping)
    if count:
        raise SettingError(
            f"dataset.file={name}: has {what}: {count:,}, the first at {', '.join(places)}"
        )


def _pieces(array: np.ndarray, count: int, what: str) -> Iterable[slice]:
    """Return slices of `count` rows; over many of them it is said how far they are."""
    size = array[:1].nbytes
    step = max(1, CHUNK // size)
    pieces = [slice(at, at + step) for at in range(0, count, step)]
    return Tracked(pieces, what) if count * size > QUICK else pieces
