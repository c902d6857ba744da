"""The IDX format of MNIST: a magic number, the sizes, then unsigned bytes."""

import gzip
import zlib
from io import BufferedIOBase
from math import prod
from pathlib import Path

import numpy as np

from aecli.errors import SettingError

UNSIGNED_BYTES = bytes([0, 0, 0x08])
MOST_SIZES = 4
MOST_SHRUNK = 1032
"""Deflate makes at most this many bytes out of one."""
AT_ONCE = 1 << 20


def read_idx(path: Path) -> np.ndarray:
    """Return the array of unsigned bytes in an IDX file, gzipped (`.gz`) or not.

    Raises `SettingError` naming the file if it is not such a file or not a whole one.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(file, path)
    except (OSError, EOFError, MemoryError, zlib.error) as error:
        raise SettingError(f"{path}: cannot be read ({error}); delete it and try again") from error


def _read(file: BufferedIOBase, path: Path) -> np.ndarray:
    start = file.read(4)
    if len(start) < 4 or start[:3] != UNSIGNED_BYTES or not 1 <= start[3] <= MOST_SIZES:
        raise SettingError(f"{path}: not an IDX file of unsigned bytes (it starts {start!r})")
    sizes = file.read(4 * start[3])
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    size = prod(shape)
    bounded = prod(max(size, 1) for size in shape)  # beside a size of 0 others count, too
    whole = len(sizes) == 4 * start[3] and bounded <= MOST_SHRUNK * path.stat().st_size
    if whole:
        # Piece by piece into its place: the whole set lies in memory once.
        array = np.empty(size, np.uint8)
        pieces = range(0, size, AT_ONCE)
        length = sum(file.readinto(array[i : i + AT_ONCE].data) for i in pieces)
        whole = length == size and not file.read(1)
    if not whole:
        raise SettingError(
            f"{path}: cut off or damaged: it does not hold the {size} bytes that its header says,"
            f" for shape {shape}"
        )
    return array.reshape(shape)
