"""How the C library hands out memory: a matter of speed where large tensors come and go."""

import ctypes
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""glibc's names for what `mallopt` sets (malloc.h)."""


def keep_freed_memory(*, of_any_size: bool = False) -> None:
    """Keep freed memory for the next tensor instead of giving it back to the system.

    Otherwise glibc may map and unmap the buffers of every decoded batch, megabytes each: the page
    faults took up to a third of an evaluation. Where there is no glibc, nothing happens.

    Tensors of 32 MB and more are mapped all the same, unless `of_any_size` says otherwise: of the
    gradients of a wide dictionary, hundreds of megabytes that come and go with each step, the page
    faults take more time than what is computed.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, 1 << 25)
        library.mallopt(TRIM_THRESHOLD, (1 << 31) - 1 if of_any_size else 1 << 29)
        if of_any_size:
            library.mallopt(MMAP_MAX, 0)
