"""The header of a `.npy` file, or of a member of an `.npz`: what the array is, without its data."""

from typing import IO, Any

import numpy as np


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether the order is Fortran's, and the type; the data comes next.

    Raises `ValueError` for objects, which would have to be unpickled, and for a version of the
    format that is not one of plain numbers and texts.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"its format is version {version}, of columns with names")
    if header[2].hasobject:
        raise ValueError("Object arrays cannot be loaded")
    return header
