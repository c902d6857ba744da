"""The data card of an array: how its values are read, scaled, and given back."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from aecli.data.mapped import as_tensor
from aecli.data.records import Card, ends_and_between
from aecli.errors import SettingError, check_choice
from aecli.size import check_fits
from aecli.text import dimensions

LAYOUTS = ("rows", "images", "channels_first", "channels_last")
"""`(N, …)` as N rows of numbers, `(N, H, W)`, `(N, C, H, W)`, `(N, H, W, C)`."""
FITS = {"rows": (1, 2, 3), "images": (2,), "channels_first": (3,), "channels_last": (3,)}
"""Dimensions of an example in each."""


EXACT = 1 << 24
"""Up to here float32 holds every integer."""


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
        self._moved: dict[Any, tuple[Tensor, Tensor]] = {}

    def check(self, array: np.ndarray) -> None:
        """Raise `SettingError` for examples of another shape or kind than the run's own."""
        if array.shape[1:] != self.raw:
            raise SettingError(
                f"dataset.file: has {_examples(array.shape[1:])}; the run was trained on"
                f" {_examples(self.raw)}"
            )
        found, own = kind_of(array.dtype), kind_of(np.dtype(self.dtype))
        if found != own:
            raise SettingError(
                f"dataset.file: holds {found} ({array.dtype}); the run was trained on {own}"
                f" ({self.dtype})"
            )

    def stored(self, data: Any) -> Tensor:
        """Return the array's values, of its own type, seen in the shape of the model's examples."""
        array = data.numpy(force=True) if isinstance(data, Tensor) else np.asarray(data)
        self.check(array)
        return self._as_examples(as_tensor(_kept(array)))

    def scaled(self, stored: Tensor) -> Tensor:
        """Return (v − shift) / scale."""
        wide = stored.dtype == torch.float64  # or a small change of a large number would be lost
        x = stored.to(torch.float64 if wide else torch.float32, copy=True)
        key = x.device, x.dtype
        if key not in self._moved:  # once, since a GPU waits for it
            self._moved[key] = self.shift.to(x), self.scale.to(x)
        shift, scale = self._moved[key]
        return x.sub_(shift).div_(scale).float()

    def telling(self, stored: Tensor) -> Tensor:
        """Return values that show whether a likelihood fits, from the ends of each feature."""
        values = stored if stored.is_floating_point() else stored.float()
        x = self.scaled(torch.stack([values.amin(0), values.amax(0)]))
        found = ends_and_between(x)
        return found if len(found) > 2 else super().telling(stored)

    def restored(self, x: Tensor) -> np.ndarray:
        """Return x · scale + shift in the array's layout and type, integers rounded."""
        array, dtype = self._in_units(x.detach().cpu()).numpy(), np.dtype(self.dtype)
        if dtype.kind == "b":
            return array >= 0.5
        if dtype.kind == "f":
            ends = np.finfo(dtype)
            return array.clip(ends.min, ends.max).astype(dtype)
        limits = np.iinfo(dtype)
        array = array.round().clip(max(limits.min, -EXACT), min(limits.max, EXACT))
        return array.astype(dtype)

    @property
    def given_type(self) -> torch.dtype:
        """Bytes for bytes and booleans, double floats for such, floats for all others."""
        if np.dtype(self.dtype) in (np.uint8, np.bool_):
            return torch.uint8
        return torch.float64 if np.dtype(self.dtype) == np.float64 else torch.float32

    def given(self, stored: Tensor) -> Tensor:
        """Return stored examples in the array's layout."""
        return self.laid_out(stored.to(self.given_type))

    def entering(self, given: Tensor) -> Tensor:
        """Return (v − shift) / scale in the shape of the model's examples."""
        v = self._as_examples(given)
        v = v if v.dtype == torch.float64 else v.float()
        return ((v - self.shift.to(v)) / self.scale.to(v)).float()  # nothing is kept of a tracing

    def leaving(self, x: Tensor) -> Tensor:
        """Return x · scale + shift in the array's layout, floats."""
        v = self._in_units(x)
        return v if self.given_type == torch.float64 else v.float()

    def _in_units(self, x: Tensor) -> Tensor:
        return self.laid_out(x.double() * self.scale.to(x.device) + self.shift.to(x.device))

    def _as_examples(self, array: Tensor) -> Tensor:
        """Return an array `(N, *raw)` in the shape of the model's examples."""
        if self.layout == "rows":
            return array.flatten(1)
        if self.layout == "images":
            return array.unsqueeze(1)
        return array.permute(0, 3, 1, 2) if self.layout == "channels_last" else array

    def laid_out(self, examples: Tensor) -> Tensor:
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
        dtype = np.dtype(str(state["dtype"]))
        if len(raw) not in FITS[layout] or min(raw) < 1 or not is_numeric(dtype):
            raise SettingError("its data card is of no array that aecli reads")
        moments = [torch.as_tensor(state[name]).double() for name in ("shift", "scale")]
        for moment in moments:
            if moment.shape not in ((), shape_of(raw, layout)) or not moment.isfinite().all():
                raise SettingError("its data card has a scale of another shape")
        if not (moments[1] > 0).all():
            raise SettingError("its data card has a scale that is not above 0")
        return cls(layout, raw, dtype.name, *moments)


def shape_of(raw: Sequence[int], layout: str) -> tuple[int, ...]:
    """Return the shape that the model sees of examples of the shape `raw`."""
    if layout == "rows":
        return (prod(raw),)
    if layout == "images":
        return (1, *raw)
    return (raw[2], *raw[:2]) if layout == "channels_last" else tuple(raw)


def is_numeric(dtype: np.dtype) -> bool:
    """Return whether examples can be of a type: booleans, integers and floats of up to 64 bits."""
    return dtype.kind in "buif" and dtype.itemsize <= 8


def kind_of(dtype: np.dtype) -> str:
    """Return what values of a type are: of bytes 255 stands for 1, of all others 1."""
    if dtype == np.uint8:
        return "bytes"
    return "booleans" if dtype.kind == "b" else "numbers"


def _examples(raw: Sequence[int]) -> str:
    return f"rows of {raw[0]} numbers" if len(raw) == 1 else f"examples of {dimensions(raw)}"


def _kept(array: np.ndarray) -> np.ndarray:
    """Return an array in a type that is kept: its own, if torch takes rows of it everywhere."""
    dtype = array.dtype
    if dtype.kind == "b":
        return array.view(np.uint8)
    if dtype.kind == "u" and dtype.itemsize > 2:
        check_fits("dataset.file: a copy in memory", array.nbytes)
        return array.astype(np.float32)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
