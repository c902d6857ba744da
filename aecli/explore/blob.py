"""Arrays as one compressed text, which the page's `blob.js` reads back."""

import base64
import zlib
from typing import Any

import numpy as np

TYPES = {"float16": "half", "float32": "float", "uint8": "bytes", "uint16": "words"}
LEVEL = 9
"""Of the compression: the page is made once, and may be sent around."""


class Blob:
    """Arrays one after the other. Each is known in the page by where it is, a plain dict.

    The first bytes of all numbers of an array come before their second ones: exponents are alike,
    and compress (by a fifth, of weights), where mantissas do not.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0
        self._known: dict[Any, dict[str, Any]] = {}

    def add(self, array: np.ndarray, factor: float = 1.0, known_as: Any = None) -> dict[str, Any]:
        """Add an array and return where it is; the page multiplies its numbers by `factor`.

        What was added as `known_as` before, such as a tied weight, is not added again.
        """
        if known_as is not None and known_as in self._known:
            return self._known[known_as]
        flat = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).reshape(-1)
        size = flat.dtype.itemsize
        planes = flat.view(np.uint8).reshape(-1, size)[:, ::-1].T
        place: dict[str, Any] = {"at": self._length, "length": len(flat)}
        place["type"] = TYPES[flat.dtype.name]
        if factor != 1:
            place["factor"] = factor
        self._parts.append(planes.tobytes())
        self._length += size * len(flat)
        if known_as is not None:
            self._known[known_as] = place
        return place

    def text(self) -> str:
        """Return all of it, deflated (RFC 1950) and in base64."""
        return base64.b64encode(zlib.compress(b"".join(self._parts), LEVEL)).decode()
