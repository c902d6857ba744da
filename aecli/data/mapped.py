"""Arrays that stay in their file: mapped, and read where they are needed."""

import mmap
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from aecli.errors import SettingError
from aecli.text import one_line


class RowFile:
    """The rows of a mapped array, read from its file past the mapping.

    A row that is read through the mapping brings up to 2 MB of the cache of files around it into
    this process's memory, and to give them back interrupts all its threads.

    Args:
        array: a whole file's, as `np.load` maps it.
    """

    def __init__(self, array: np.memmap) -> None:
        self.path = array.filename
        self.offset, self.size = array.offset, array[:1].nbytes
        self.descriptor = os.open(str(self.path), os.O_RDONLY)
        finalize(self, os.close, self.descriptor)

    def taken(self, rows: Tensor) -> Tensor:
        """Return some rows `(n,)`, n > 0, as bytes `(n, size)`.

        Raises `SettingError` if the file has become shorter, or cannot be read.
        """
        first, last = map(int, rows.aminmax())
        if last - first < 2 * len(rows):  # nearly all of those between: one reading
            around = torch.empty(last - first + 1, self.size, dtype=torch.uint8)
            self._read(around.view(-1).numpy().data, first)
            return around.index_select(0, rows - first)
        found = torch.empty(len(rows), self.size, dtype=torch.uint8)
        into, size = found.view(-1).numpy().data, self.size
        for at, row in enumerate(rows.tolist()):
            self._read(into[at * size : (at + 1) * size], row)
        return found

    def _read(self, into: memoryview, row: int) -> None:
        read_into(into, self.descriptor, self.offset + row * self.size, self.path)


def read_into(into: memoryview, descriptor: int, at: int, path: object) -> None:
    """Fill a memory with the bytes of a file from `at` on.

    Raises `SettingError` naming `path` if the file ends before that, or cannot be read.
    """
    done = 0
    while done < len(into):  # one reading stops at 2 GB
        try:
            count = os.preadv(descriptor, [into[done:]], at + done)
        except OSError as error:
            raise SettingError(f"{one_line(path)}: cannot be read ({error.strerror})") from error
        if not count:
            raise SettingError(f"{one_line(path)}: has become shorter")
        done += count


def row_file(data: object) -> RowFile | None:
    """Return the file of a mapped array; None for other data, and where a system cannot do it."""
    if not (isinstance(data, np.memmap) and isinstance(data.base, mmap.mmap) and len(data)):
        return None
    return RowFile(data) if hasattr(os, "preadv") and data.flags.c_contiguous else None


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: those that share small pieces of work wait for each other.

    On a machine with other work to do, for longer than the work itself takes.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def mapping_of(array: np.ndarray) -> mmap.mmap | None:
    """Return the file that an array is mapped from; None for one in memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def release(mapping: mmap.mmap | None) -> None:
    """Give back the memory of what was read of a mapped file; nothing for None.

    What is read of the file stays in the system's cache of files, outside this process, as long as
    there is room; without this it counts as the process's own until the mapping ends.
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
