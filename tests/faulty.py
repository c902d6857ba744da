"""A disk that fails on demand: the n-th write below a folder raises an error, once."""

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any
from unittest.mock import patch

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Disk:
    """Counts what is written below `folder`, and fails when the count is `failing`.

    A write is whatever changes the disk: a file or folder that is made, linked or renamed, a file
    that is opened for writing, bytes that are handed to the system, a synchronization.
    """

    def __init__(self, folder: Path, failing: int = 0, error: int = 0) -> None:
        self.folder, self.failing, self.error = str(folder.resolve()), failing, error
        self.writes: list[str] = []
        self._lock = Lock()  # TensorBoard writes in a thread

    def count(self, kind: str, path: Any) -> None:
        """Count a write to `path`, and fail if it is its turn."""
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (pathlib itself may call this)
        if not place.startswith(self.folder):
            return
        with self._lock:
            self.writes.append(f"{kind} {place}")
            fails = len(self.writes) == self.failing
        if fails:
            self.fail(kind, place)

    def fail(self, kind: str, place: str) -> None:
        """Raise the error; where bytes are written the system names no file."""
        named = () if kind == "write" else (place,)
        raise OSError(self.error, os.strerror(self.error), *named)


class _Raw(io.FileIO):
    """An unbuffered file whose writes are counted."""

    def __init__(self, file: Any, mode: str, disk: Disk, path: Any) -> None:
        super().__init__(file, mode)
        self._disk, self._path = disk, path

    def write(self, data: Any, /) -> int:
        self._disk.count("write", self._path)
        return super().write(data)


@contextmanager
def failing(disk: Disk) -> Iterator[Disk]:
    """Let everything that this process writes go through `disk`."""
    true_open, true_fdopen = io.open, os.fdopen

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return true_open(file, mode, *args, **kwargs)
        disk.count("open", file)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), disk, file)
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, kwargs.get("encoding"))

    def fdopened(descriptor: int, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode != "wb":
            return true_fdopen(descriptor, mode, *args, **kwargs)
        return io.BufferedWriter(_Raw(descriptor, "w", disk, _path_of(descriptor)))

    def counted(name: str, true: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            reads = name == "open" and not args[0] & WRITING
            if not reads:
                disk.count(name, _path_of(path) if isinstance(path, int) else path)
            return true(path, *args, **kwargs)

        return call

    with ExitStack() as stack:
        for name in ("mkdir", "replace", "rename", "link", "open", "fsync"):
            stack.enter_context(patch.object(os, name, counted(name, getattr(os, name))))
        stack.enter_context(patch.object(os, "fdopen", fdopened))
        stack.enter_context(patch.object(builtins, "open", opened))
        stack.enter_context(patch.object(io, "open", opened))
        yield disk


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
