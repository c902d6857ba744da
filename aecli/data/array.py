"""Arrays of the user's own: rows of numbers, or images, in one file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aecli.data.array_card import FITS, LAYOUTS, ArrayCard, is_numeric, kind_of, shape_of
from aecli.data.arrays import READERS, read_array
from aecli.data.labels import as_labels
from aecli.data.mapped import mapping_of
from aecli.data.module import DataModule
from aecli.data.moments import check_values, moments
from aecli.data.records import Card, Records
from aecli.errors import SettingError, check_choice
from aecli.patterns import expanded
from aecli.text import dimensions, one_line

SCALES = ("auto", "none", "standard", "minmax")
CHANNELS = (1, 3, 4)
NO_WIDTH = 1e-12
"""A column varies less than this, relative to its size, by rounding alone."""


class ArrayFile:
    """Examples in an array of a file: `.npy`, `.npz`, `.safetensors`, `.pt` or `.h5`.

    Args:
        file: its path.
        key: the name of the array, in a file that holds several.
        layout: one of `LAYOUTS`; "auto": by the number of dimensions, and where 1, 3 or 4 channels
            stand.
        scale: x = (v − shift) / scale. "standard": mean 0 and deviation 1, "minmax": [0, 1], of the
            training split; for rows of each column, for images of all pixels. "none": x = v, or
            v / 255 of bytes. "auto": "standard" for rows of floats, "none" for bytes and for
            images in [0, 1], "minmax" for other images.
        labels, ids: arrays of one entry an example: names in the same file, or paths.
    """

    def __init__(
        self,
        file: str | None,
        key: str | None = None,
        layout: str = "auto",
        scale: str = "auto",
        labels: str | None = None,
        ids: str | None = None,
    ) -> None:
        for name, value in {"file": file, "key": key, "labels": labels, "ids": ids}.items():
            if not isinstance(value, str | None) or value == "":
                raise SettingError(f"dataset.{name}={value}: must be a text, or null")
        self.file, self.key, self.labels, self.ids = file, key, labels, ids
        self.layout = check_choice("dataset.layout", layout, ("auto", *LAYOUTS))
        self.scale = check_choice("dataset.scale", scale, SCALES)

    def read(self, root: str | None, card: Card | None) -> Records:
        """Return the examples; `root` is not needed.

        Raises `SettingError` for a file that cannot be read, holds no examples or other than the
        card's, and for numbers that are not finite.
        """
        if self.file is None:
            raise SettingError(
                "dataset.file: must be the path of an array, such as dataset.file=x.npy"
            )
        path = expanded(self.file)
        array = read_array(path, self.key)
        records = records_of(array, one_line(path.name), self.layout, card)
        count = len(array)
        labels: Tensor | None = None
        classes: tuple[str, ...] = ()
        if self.labels is not None:
            labels, classes = as_labels(self._beside(path, "labels", self.labels, count), "labels")
        ids = None if self.ids is None else self._beside(path, "ids", self.ids, count)
        named = f"; labels of {len(labels.unique())} classes" if labels is not None else ""
        return Records(
            records.data,
            labels,
            classes,
            None if ids is None else np.asarray(ids).astype(str),
            understood=records.understood + named,
            mapping=records.mapping,
        )

    def fit(self, records: Records, rows: Tensor) -> "ArrayCard":
        """Return the card: the scale is that of the training rows."""
        return fitted(records.data, rows, self.layout, self.scale)

    def _beside(self, path: Path, setting: str, name: str, count: int) -> np.ndarray:
        """Return the labels or ids: an array of the same file, or one of a file of its own."""
        other = expanded(name)
        if other.suffix.lower() in READERS:
            array = read_array(other, None, f"dataset.{setting}")
        else:
            array = read_array(path, name, f"dataset.{setting}")
        if array.shape != (count,):
            raise SettingError(
                f"dataset.{setting}={one_line(name)}: is of shape {array.shape}; must be"
                f" ({count},), one for each example"
            )
        if array.dtype.kind != "S":
            return array
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise SettingError(f"dataset.{setting}={one_line(name)}: is no UTF-8") from error


class ArrayData(DataModule):
    """The splits of an array; see `ArrayFile`, and `DataModule` for the settings of the splits."""

    def __init__(
        self,
        file: str | None,
        key: str | None = None,
        layout: str = "auto",
        scale: str = "auto",
        labels: str | None = None,
        ids: str | None = None,
        **splitting: Any,
    ) -> None:
        super().__init__(ArrayFile(file, key, layout, scale, labels, ids), None, **splitting)


def records_of(array: np.ndarray, name: str, layout: str, card: Card | None) -> Records:
    """Return the examples of an array, checked; `name` is what messages call it.

    Raises `SettingError` for another shape or type than examples have, or than those of the card,
    and for numbers that cannot be used.
    """
    if array.ndim not in (2, 3, 4) or 0 in array.shape[1:]:
        raise SettingError(
            f"dataset.file={name}: is of shape {array.shape}; must be (N, D), (N, H, W),"
            " (N, C, H, W) or (N, H, W, C)"
        )
    if not len(array):
        raise SettingError(f"dataset.file={name}: has no examples: its shape is {array.shape}")
    if not is_numeric(array.dtype):
        raise SettingError(
            f"dataset.file={name}: holds {array.dtype}; must be bytes, integers, booleans or floats"
        )
    if isinstance(card, ArrayCard):
        card.check(array)
        layout = card.layout
    chosen = layout_of(array.shape, layout, name)
    check_values(array, name)
    understood = _understood(array, name, chosen, layout)
    return Records(array, understood=understood, mapping=mapping_of(array))


def fitted(array: np.ndarray, rows: Tensor, layout: str, scale: str) -> ArrayCard:
    """Return the card of an array whose training rows are `rows`; see `ArrayFile`."""
    layout, raw, kind = layout_of(array.shape, layout, ""), array.shape[1:], kind_of(array.dtype)
    shift = torch.zeros(()).double()
    width = shift + (255 if kind == "bytes" else 1)
    if scale == "none" or (scale == "auto" and kind != "numbers"):
        return ArrayCard(layout, raw, array.dtype.name, shift, width)
    found = moments(array, rows)
    if scale == "auto":
        is_unit = found.low.min() >= 0 and found.high.max() <= 1
        scale = "standard" if layout == "rows" else "none" if is_unit else "minmax"
    if layout != "rows":
        found = found.joined()
    if scale != "none":
        ends = (found.low, found.high - found.low)
        shift, width = ends if scale == "minmax" else (found.mean, found.deviation)
        # A column that does not vary becomes 0, whatever it is divided by.
        width = torch.where(width > NO_WIDTH * shift.abs(), width, 1.0)
    return ArrayCard(layout, raw, array.dtype.name, shift, width)


def layout_of(shape: Sequence[int], layout: str, name: str) -> str:
    """Return how an array of a shape is read; raise `SettingError` where it cannot be read so."""
    if layout == "auto":
        first, last = shape[1] in CHANNELS, shape[-1] in CHANNELS
        if len(shape) == 4:
            return "channels_last" if last and not first else "channels_first"
        return "rows" if len(shape) == 2 else "images"
    if len(shape) - 1 not in FITS[layout]:
        raise SettingError(
            f"dataset.layout={layout}: does not go with dataset.file={name}, which is of shape"
            f" {tuple(shape)}"
        )
    return layout


def _understood(array: np.ndarray, name: str, layout: str, asked: str) -> str:
    shape = shape_of(array.shape[1:], layout)
    if layout == "rows":
        what = f"{len(array):,} rows of {shape[0]:,} numbers"
    else:
        what = f"{len(array):,} images, {dimensions(shape)}"
    other = ""
    if asked == "auto" and array.ndim > 2:
        other = f", read as dataset.layout={layout}"
    kind = "bytes" if array.dtype == np.uint8 else array.dtype.name
    mapped = ", left on the disk" if mapping_of(array) is not None else ""
    return f"{what}, {kind}, from {name}{other}{mapped}"
