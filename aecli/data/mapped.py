"""Arrays that stay in their file: mapped, and read where they are needed."""

import mmap
import warnings

import numpy as np
import torch
from torch import Tensor


def mapping_of(array: np.ndarray) -> mmap.mmap | None:
    """Return the file that an array is mapped from; None for one in memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def release(mapping: mmap.mmap | None) -> None:
    """Give back the memory of what was read of a mapped file; nothing for None.

    Around each row that is read the system maps 64 kB of the file, and keeps them until it is told
    not to. They stay in its cache of files, outside this process, as long as there is room.
    """
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def as_tensor(array: np.ndarray | Tensor) -> Tensor:
    """Return an array as a tensor on the same memory, that is not to be written to.

    Files are mapped read-only: of a writable mapping, even of copies alone, Linux wants to have
    memory for all that could be written, and refuses a file larger than that.
    """
    if isinstance(array, Tensor):
        return array
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)
