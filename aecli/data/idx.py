"""The IDX format of MNIST: a magic number, the sizes, then unsigned bytes."""

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np

from aecli.errors import SettingError

UNSIGNED_BYTE = 0x08
MOST_SIZES = 4


def read_idx(path: Path) -> np.ndarray:
    """Return the array of unsigned bytes in an IDX file, gzipped (`.gz`) or not.

    Raises `SettingError` naming the file if it is not such a file or not a whole one.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise SettingError(f"{path}: cannot be read ({error}); delete it and try again") from error
    if len(data) < 4 or data[:3] != bytes([0, 0, UNSIGNED_BYTE]) or not 1 <= data[3] <= MOST_SIZES:
        raise SettingError(f"{path}: not an IDX file of unsigned bytes (it starts {data[:4]!r})")
    header = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4))
    if len(data) != header + prod(shape):
        raise SettingError(
            f"{path}: cut off or damaged: {len(data)} bytes, but its header says"
            f" {header + prod(shape)} for shape {shape}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()
