"""Arrays of the user's own: rows of numbers, or images, in one file."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from aecli.data.arrays import read_array
from aecli.data.labels import as_labels
from aecli.data.module import DataModule
from aecli.data.records import Card, Records
from aecli.data.splits import release
from aecli.errors import SettingError, check_choice
from aecli.progress import Tracked
from aecli.text import one_line

LAYOUTS = ("rows", "images", "channels_first", "channels_last")
"""`(N, …)` as N rows of numbers, `(N, H, W)`, `(N, C, H, W)`, `(N, H, W, C)`."""
SCALES = ("auto", "none", "standard", "minmax")
CHUNK = 32 << 20
"""Bytes that are looked at together."""
EXACT = 1 << 24
"""Up to here float32 holds every integer."""
SHOWN = 5
"""Places of numbers that are not finite."""
QUICK = 30
"""Pieces that are looked at within two seconds."""
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
        path = Path(self.file).expanduser()
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
        other = Path(name).expanduser()
        if other.suffix in (".npy", ".npz", ".safetensors", ".pt", ".h5"):
            array = read_array(other, None, f"dataset.{setting}")
        else:
            array = read_array(path, name, f"dataset.{setting}")
        if array.shape != (count,):
            raise SettingError(
                f"dataset.{setting}={one_line(name)}: is of shape {array.shape}; must be"
                f" ({count},), one for each example"
            )
        return array


class ArrayCard(Card):
    """x = (v − shift) / scale of an array's values v.

    Args:
        layout: how the array is to be read, one of `LAYOUTS`.
        raw: the shape of an example in the array.
        dtype: the array's type, by NumPy's name.
        shift, scale: float64, `()`, or `(D,)` for rows.
    """

    kind = "array"

    def __init__(
        self, layout: str, raw: Sequence[int], dtype: str, shift: Tensor, scale: Tensor
    ) -> None:
        self.layout, self.raw, self.dtype = layout, tuple(raw), dtype
        self.shift, self.scale = shift, scale
        self.shape = shape_of(self.raw, layout)

    def stored(self, data: Any) -> Tensor:
        """Return the array's values, of its own type, seen in the shape of the model's examples."""
        array = np.asarray(data) if not isinstance(data, Tensor) else data.numpy(force=True)
        if array.shape[1:] != self.raw:
            raise SettingError(
                f"dataset.file: its examples are of shape {_said(array.shape[1:])}; the run was"
                f" trained on {_said(self.raw)}"
            )
        if (array.dtype.kind in "ub") != (np.dtype(self.dtype).kind in "ub"):
            raise SettingError(
                f"dataset.file: holds {array.dtype}; the run was trained on {self.dtype}"
            )
        return self._as_examples(torch.from_numpy(numeric(array)))

    def scaled(self, stored: Tensor) -> Tensor:
        """Return (v − shift) / scale."""
        wide = stored.dtype == torch.float64  # or a small change of a large number would be lost
        x = stored.to(torch.float64 if wide else torch.float32, copy=True)
        return x.sub_(self.shift.to(x)).div_(self.scale.to(x)).float()

    def restored(self, x: Tensor) -> np.ndarray:
        """Return x · scale + shift in the array's layout and type, bytes rounded."""
        array, dtype = self._in_units(x).numpy(force=True), np.dtype(self.dtype)
        if dtype.kind == "b":
            return array >= 0.5
        if dtype.kind in "iu":
            ends = np.iinfo(dtype)
            array = array.round().clip(ends.min, ends.max)
        return array.astype(dtype)

    @property
    def given_type(self) -> torch.dtype:
        """Bytes for bytes and booleans, double floats for such, floats for all others."""
        if np.dtype(self.dtype) in (np.uint8, np.bool_):
            return torch.uint8
        return torch.float64 if np.dtype(self.dtype) == np.float64 else torch.float32

    def given(self, stored: Tensor) -> Tensor:
        """Return stored examples in the array's layout."""
        return self._laid_out(stored.to(self.given_type))

    def entering(self, given: Tensor) -> Tensor:
        """Return (v − shift) / scale in the shape of the model's examples."""
        return self.scaled(self._as_examples(given))

    def leaving(self, x: Tensor) -> Tensor:
        """Return x · scale + shift in the array's layout, floats."""
        v = self._in_units(x)
        return v if self.given_type == torch.float64 else v.float()

    def _in_units(self, x: Tensor) -> Tensor:
        return self._laid_out(x.double() * self.scale.to(x.device) + self.shift.to(x.device))

    def _as_examples(self, array: Tensor) -> Tensor:
        """Return an array `(N, *raw)` in the shape of the model's examples."""
        if self.layout == "rows":
            return array.flatten(1)
        if self.layout == "images":
            return array.unsqueeze(1)
        return array.permute(0, 3, 1, 2) if self.layout == "channels_last" else array

    def _laid_out(self, examples: Tensor) -> Tensor:
        """Return examples in the array's own layout."""
        if self.layout == "rows":
            return examples.unflatten(1, self.raw)
        if self.layout == "images":
            return examples.squeeze(1)
        return examples.permute(0, 2, 3, 1) if self.layout == "channels_last" else examples

    def state(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            "layout": self.layout,
            "raw": list(self.raw),
            "dtype": self.dtype,
            "shift": self.shift,
            "scale": self.scale,
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the card of a state."""
        layout = check_choice("layout", state["layout"], LAYOUTS)
        raw = tuple(int(size) for size in state["raw"])
        moments = [torch.as_tensor(state[name]).double() for name in ("shift", "scale")]
        for moment in moments:
            if moment.shape not in ((), shape_of(raw, layout)) or not moment.isfinite().all():
                raise SettingError("its data card has a scale of another shape")
        if not (moments[1] > 0).all():
            raise SettingError("its data card has a scale that is not above 0")
        return cls(layout, raw, np.dtype(str(state["dtype"])).name, *moments)


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

    Raises `SettingError` for another shape or type than examples have, and for numbers that are not
    finite.
    """
    if isinstance(card, ArrayCard):
        layout = card.layout
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise SettingError(
            f"dataset.file={name}: is of shape {array.shape}; must be (N, D), (N, H, W),"
            " (N, C, H, W) or (N, H, W, C)"
        )
    if array.dtype.kind not in "buif":
        raise SettingError(
            f"dataset.file={name}: holds {array.dtype}; must be bytes, integers, booleans or floats"
        )
    chosen = layout_of(array.shape, layout, name)
    if array.dtype.kind == "f":
        _refuse_infinite(array, name)
    return Records(
        array, understood=_understood(array, name, chosen, layout), mapping=_mapping(array)
    )


def fitted(array: np.ndarray, rows: Tensor, layout: str, scale: str) -> ArrayCard:
    """Return the card of an array whose training rows are `rows`; see `ArrayFile`."""
    layout = layout_of(array.shape, layout, "")
    grey = array.dtype.kind in "ub"
    moments = None if scale == "none" or (scale == "auto" and grey) else _moments(array, rows)
    if scale == "auto" and moments is not None:
        unit = moments.low.min() >= 0 and moments.high.max() <= 1
        scale = "standard" if layout == "rows" else "none" if unit else "minmax"
    if moments is None or scale == "none":
        shift, width = np.zeros(()), np.array(255.0 if array.dtype == np.uint8 else 1.0)
    else:
        if layout != "rows":
            moments = moments.joined()
        ends = (moments.low, moments.high - moments.low)
        shift, width = ends if scale == "minmax" else (moments.mean, moments.deviation)
        # A column that does not vary becomes 0, whatever it is divided by.
        width = np.where(width > NO_WIDTH * np.abs(shift), width, 1.0)
    moved = [torch.as_tensor(np.asarray(part, np.float64)) for part in (shift, width)]
    return ArrayCard(layout, array.shape[1:], array.dtype.name, *moved)


class _Moments(NamedTuple):
    """Of each feature, `(D,)`, float64."""

    number: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    """Σ (v − mean)²."""

    @property
    def deviation(self) -> np.ndarray:
        """The standard deviation, of all examples that there are."""
        return np.sqrt(self.squares / self.number)

    def joined(self) -> "_Moments":
        """Return those of all features together, `()`."""
        mean, features = self.mean.mean(), len(self.mean)
        between = self.number * np.square(self.mean - mean).sum()
        squares = self.squares.sum() + between
        ends = self.low.min(), self.high.max()
        return _Moments(self.number * features, *ends, mean, squares)


def _moments(array: np.ndarray, rows: Tensor) -> _Moments:
    """Return the moments of some rows (Chan, Golub & LeVeque 1983: those of pieces, joined)."""
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    low, high = np.array(np.inf), np.array(-np.inf)
    for index in _pieces(rows.numpy(), _rows_of(array), "looking at the training split"):
        values = array[index].reshape(len(index), -1).astype(np.float64)
        own = values.mean(axis=0)
        total = count + len(values)
        apart = own - mean
        squares = squares + np.square(values - own).sum(axis=0)
        squares = squares + np.square(apart) * (count * len(values) / total)
        mean, count = mean + apart * (len(values) / total), total
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
        _release(array)
    return _Moments(count, low, high, mean, squares)


def _refuse_infinite(array: np.ndarray, name: str) -> None:
    """Refuse numbers that are not finite, with how many and where."""
    count, places = 0, list[str]()
    for index in _pieces(np.arange(len(array)), _rows_of(array), "looking for NaN and infinity"):
        finite = np.isfinite(array[index[0] : index[-1] + 1])
        if not finite.all():
            wrong = np.argwhere(~finite)
            count += len(wrong)
            wrong[:, 0] += index[0]
            places += [str(tuple(map(int, at))) for at in wrong[: SHOWN - len(places)]]
        _release(array)
    if count:
        raise SettingError(
            f"dataset.file={name}: has {count:,} numbers that are not finite, the first at"
            f" {', '.join(places)}"
        )


def _pieces(items: np.ndarray, size: int, what: str) -> Iterable[np.ndarray]:
    """Return pieces of so many items; over many of them it is said how far they are."""
    pieces = [items[at : at + size] for at in range(0, len(items), size)]
    return Tracked(pieces, what) if len(pieces) > QUICK else pieces


def _rows_of(array: np.ndarray) -> int:
    return max(1, CHUNK // max(1, array[0].nbytes))


def _mapping(array: np.ndarray) -> mmap | None:
    """Return the file that a memory-mapped array lies in; None for one in memory."""
    base = array.base if isinstance(array, np.memmap) else None
    return base if isinstance(base, mmap) else None


def _release(array: np.ndarray) -> None:
    if (mapping := _mapping(array)) is not None:
        release(mapping)


def numeric(array: np.ndarray) -> np.ndarray:
    """Return an array of a type that is kept: bytes and floats as they are, others as float32.

    Raises `SettingError` for integers that float32 would round.
    """
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        if abs(int(array.min())) > EXACT or abs(int(array.max())) > EXACT:
            raise SettingError(
                f"dataset.file: holds integers beyond ±{EXACT:,}, which would be rounded; save"
                " floats"
            )
        return array.astype(np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def shape_of(raw: Sequence[int], layout: str) -> tuple[int, ...]:
    """Return the shape that the model sees of examples of the shape `raw`."""
    if layout == "rows":
        return (prod(raw),)
    if layout == "images":
        return (1, *raw)
    return (raw[2], *raw[:2]) if layout == "channels_last" else tuple(raw)


def layout_of(shape: Sequence[int], layout: str, name: str) -> str:
    """Return how an array of a shape is read; raise `SettingError` where it cannot be read so."""
    fits = {"rows": (2, 3, 4), "images": (3,), "channels_first": (4,), "channels_last": (4,)}
    if layout == "auto":
        first, last = shape[1] in CHANNELS, shape[-1] in CHANNELS
        if len(shape) == 4:
            return "channels_last" if last and not first else "channels_first"
        return "rows" if len(shape) == 2 else "images"
    if len(shape) not in fits[layout]:
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
        what = f"{len(array):,} images, {_said(shape)}"
    other = ""
    if asked == "auto" and array.ndim > 2:
        other = f", read as dataset.layout={layout}"
    kind = "bytes" if array.dtype == np.uint8 else array.dtype.name
    mapped = ", left on the disk" if _mapping(array) is not None else ""
    return f"{what}, {kind}, from {name}{other}{mapped}"


def _said(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
