"""How the C library hands out memory: a matter of speed where large tensors come and go."""

import ctypes
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's names for what `mallopt` sets (malloc.h)."""


def keep_freed_memory() -> None:
    """Keep freed memory for the next tensor instead of giving it back to the system.

    Otherwise glibc may map and unmap the buffers of every decoded batch, megabytes each: the page
    faults took up to a third of an evaluation. Where there is no glibc, nothing happens.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, 1 << 25)
        library.mallopt(TRIM_THRESHOLD, 1 << 29)
