"""Labels of the user's own: whole numbers, or texts that get numbers."""

import numpy as np
import torch
from torch import Tensor

from aecli.errors import LARGEST, SettingError

MOST_CLASSES = 10_000


def as_labels(values: np.ndarray, setting: str) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels `(N,)`, int64, and the names of the classes; no names where labels are numbers.

    Args:
        values: `(N,)`: whole numbers of at least 0, booleans, or texts, which are sorted.
        setting: the setting that chose them, for the message.

    Raises `SettingError` for floats that are not whole, and for more classes than can be meant.
    """
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == values.round()).all():
        values = values.astype(np.int64)
    if values.dtype.kind == "b":
        values = values.astype(str)
    if values.dtype.kind == "f" and (missing := int(np.isnan(values).sum())):
        raise SettingError(f"dataset.{setting}: {missing:,} are missing (NaN)")
    if values.dtype.kind == "f":
        raise SettingError(
            f"dataset.{setting}: holds floats, such as {values.flat[0]}; a label is a class: a"
            " whole number or a text"
        )
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= LARGEST:
        labels, names = torch.from_numpy(values.astype(np.int64)), tuple[str, ...]()
    else:
        found, places = np.unique(values.astype(str), return_inverse=True)
        labels, names = torch.from_numpy(places.astype(np.int64)), tuple(map(str, found))
    count = len(labels.unique())
    if count > MOST_CLASSES:
        raise SettingError(
            f"dataset.{setting}: has {count:,} classes, and can have {MOST_CLASSES:,}"
        )
    return labels, names
