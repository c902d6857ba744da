"""Where the rows of a shard begin, and how many there are: found without reading them."""

import json
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from aecli.data.arrays import Names
from aecli.errors import SettingError
from aecli.npy import npy_header
from aecli.text import one_line
from aecli.untrusted import check_tree, size_of

ENDINGS = (".npy", ".safetensors")
TOKENS = ".tokens.npy"
"""The end of the name of a file that says of which token each row of a shard is."""
LONGEST_HEADER = 1 << 20
"""Bytes of a `.safetensors` header, which lists the arrays of a file."""
NUMPY_TYPES = {"<f2": torch.float16, "<f4": torch.float32}
SAFETENSORS_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


class Shard(NamedTuple):
    """A file of rows."""

    path: Path
    offset: int
    """Where the first row begins, in bytes."""
    rows: int
    width: int
    """Numbers in a row."""
    dtype: torch.dtype


def header(path: Path, names: Names, setting: str) -> Shard:
    """Return what the header of a `.npy` or a `.safetensors` file says, checked against its size.

    `setting` is what the path is typed as.

    Raises `SettingError`, or whatever the reading of arbitrary bytes can raise.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise SettingError(f"{setting}={one_line(path)}: must end in {' or '.join(ENDINGS)}")
    size = size_of(path)
    read = _npy if ending == ".npy" else _safetensors
    shape, dtype, offset, stored = read(path, names, size)
    if len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise SettingError(
            f"{one_line(path)}: is of shape {one_line(shape)}; must be (rows, width)"
        )
    needed = prod(shape) * dtype.itemsize
    if needed != stored or offset + needed > size:
        raise SettingError(
            f"{one_line(path)}: cut off or damaged: its header says {needed:,} bytes of"
            f" {one_line(shape)}, and there are {min(stored, size - offset):,}"
        )
    return Shard(path, offset, shape[0], shape[1], dtype)


def _npy(path: Path, names: Names, size: int) -> tuple[Any, torch.dtype, int, int]:
    names.refuse()
    with path.open("rb") as file:
        shape, fortran, dtype = npy_header(file)
        offset = file.tell()
    if dtype.str not in NUMPY_TYPES:
        raise SettingError(
            f"{one_line(path)}: holds {_name(dtype)}; must be float16 or float32, or bfloat16 in a"
            " .safetensors file"
        )
    if fortran and min(shape, default=0) > 1:
        raise SettingError(f"{one_line(path)}: has its columns together; save it in C order")
    return shape, NUMPY_TYPES[dtype.str], offset, size - offset


def _name(dtype: np.dtype) -> str:
    if dtype.kind == "V":
        return f"numbers of a type that NumPy does not know ({dtype.str})"
    return dtype.name if dtype.isnative else f"{dtype.name} of another byte order"


def _safetensors(path: Path, names: Names, size: int) -> tuple[Any, torch.dtype, int, int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise ValueError(f"its header would have {length:,} bytes")
        tensors = json.loads(file.read(length))
    check_tree(tensors, one_line(path))
    tensors.pop("__metadata__", None)
    found = tensors[names.one_of(list(tensors))]
    if found["dtype"] not in SAFETENSORS_TYPES:
        raise SettingError(
            f"{one_line(path)}: holds {one_line(found['dtype'])}; must be"
            f" {', '.join(SAFETENSORS_TYPES)}"
        )
    begin, end = found["data_offsets"]
    if not all(isinstance(n, int) for n in (begin, end)) or begin < 0:
        raise ValueError("its offsets are no places in it")
    dtype = SAFETENSORS_TYPES[found["dtype"]]
    return tuple(found["shape"]), dtype, 8 + length + begin, end - begin
