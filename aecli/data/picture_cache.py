"""The pixels of the pictures in a folder: decoded once, on all cores, and kept in the cache.

The cache has a folder for each folder of pictures and way of reading them, and in it one for the
names, sizes and times of the files: `pixels.npy` `(N, C, H, W)`, and which could not be read. If a
file is added or changed all are decoded anew, and the old ones are removed.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from joblib import Parallel, delayed

from aecli import files
from aecli.data.arrays import read_array
from aecli.data.files import data_root
from aecli.data.picture_files import Pictures
from aecli.errors import SettingError
from aecli.npy import npy_header
from aecli.pictures import (
    Deeper,
    Depth,
    Reading,
    decode,
    needed,
    opened,
    quiet,
    reason,
    upright,
)
from aecli.progress import Tracked
from aecli.text import dimensions, one_line

FORMAT = 1
"""Of the cache: one more with each change of what is decoded."""
PIXELS = "pixels.npy"
LOOKED_AT = 256
"""Pictures, spread over all, that tell how the others are."""
AT_ONCE = 256
"""Pictures that a process decodes before it takes more."""
FEW = 8
"""Times `AT_ONCE`: so many are decoded before other processes would have started."""
IDLE = 5
"""Seconds without work after which a process ends."""


class Decoded(NamedTuple):
    """The pixels of all pictures that could be read."""

    pixels: np.ndarray
    """`(N, C, H, W)`, uint8 or uint16, in memory or memory-mapped."""
    unread: dict[int, str]
    """The numbers of the others, and why they could not be read."""


def decoded(pictures: Pictures, reading: Reading, asked: Reading | None = None) -> Decoded:
    """Return the pixels of pictures, from the cache if they are there.

    Args:
        pictures: in a folder.
        reading: how they are read.
        asked: what a run asked for, whose `reading` is what came out of it: the pixels that its
            training has left in the cache are taken.

    Raises `SettingError` if none can be read, if one has another size and none was set, and if the
    cache cannot be written.
    """
    if asked is not None and asked != reading:
        found = _kept(_folder(pictures, asked) / pictures.stamp, len(pictures.names), reading)
        if found is not None and _is_as(found.pixels, reading):
            return found
    folder = _folder(pictures, reading)
    place = folder / pictures.stamp
    with files.alone_in(folder):
        found = _kept(place, len(pictures.names), reading)
        if found is None:
            _clear(folder)
            with files.new_folder(place) as new:
                _make(new, pictures, reading)
            found = _kept(place, len(pictures.names), reading)
    if found is None:
        raise SettingError(f"{place}: cannot be read again; is its disk full?")
    return found


def _folder(pictures: Pictures, reading: Reading) -> Path:
    return data_root(None) / "images" / _digest(FORMAT, pictures.root.resolve(), reading)


def _is_as(pixels: np.ndarray, reading: Reading) -> bool:
    """Return whether pixels have the depth and the size of a reading of which both are known."""
    depth = Depth(pixels.shape[1], 8 * pixels.dtype.itemsize)
    return (depth, pixels.shape[2:]) == (reading.depth, reading.size)


def _kept(place: Path, count: int, reading: Reading) -> Decoded | None:
    """Return what is in the cache, or None if it is not there, damaged, or of something else."""
    try:
        pixels = read_array(place / PIXELS, None)
        numbers, reasons = (read_array(place / f"{name}.npy", None) for name in ("unread", "why"))
    except SettingError:
        return None
    is_whole = (
        pixels.ndim == 4
        and len(pixels) + len(numbers) == count
        and pixels.dtype in (np.uint8, np.uint16)
        and pixels.shape[1] <= reading.most.channels
        and reading.size in (None, pixels.shape[2:])
        and numbers.dtype == np.int64
        and bool(((numbers >= 0) & (numbers < count)).all())
        and len(set(numbers.tolist())) == len(numbers) == len(reasons)
        and reasons.dtype.kind == "U"
    )
    if not is_whole:
        return None
    return Decoded(pixels, dict(zip(numbers.tolist(), reasons.tolist(), strict=True)))


def _clear(folder: Path) -> None:
    for old in folder.iterdir():
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink()


def _make(new: Path, pictures: Pictures, reading: Reading) -> None:
    """Decode pictures into a new folder of the cache."""
    paths = [f"{pictures.root}/{name}" for name in pictures.names]
    reading = _looked_at(paths, reading, pictures.root)
    while True:
        try:
            unread = _decode_all(new / PIXELS, paths, reading)
            break
        except Deeper as deeper:  # the pictures that were looked at did not tell
            reading = replace(reading, depth=deeper.args[0])
    if len(unread) == len(paths):
        raise _none_readable(pictures.root, paths, f"{one_line(paths[0])}: {unread[0]}")
    _close_gaps(new / PIXELS, unread)
    np.save(new / "unread.npy", np.array(list(unread), np.int64))
    np.save(new / "why.npy", np.array(list(unread.values()), np.str_))


def _looked_at(paths: Sequence[str], reading: Reading, root: Path) -> Reading:
    """Return how pictures are read: as deep as some of them, and as large as one of them."""
    step = -(-len(paths) // LOOKED_AT)
    some = set(range(0, len(paths), step))
    others = (number for number in range(len(paths)) if number not in some)
    first = ""
    for count, number in enumerate(chain(sorted(some), others)):
        if count >= len(some) and reading.size:
            break
        try:
            with quiet():
                image = opened(paths[number])
                depth = reading.depth.joined(needed(image, reading.most))
                height, width = upright(image).size[::-1] if not reading.size else reading.size
        except Exception as error:  # whatever a damaged file can make Pillow raise
            first = first or f"{one_line(paths[number])}: {reason(error)}"
            continue
        like = reading.like or (
            f"{one_line(paths[number])} is {dimensions((height, width))}; set dataset.size, such as"
            f" dataset.size={max(height, width)}, to make all alike"
        )
        reading = replace(reading, depth=depth, size=(height, width), like=like)
    if not reading.size:
        raise _none_readable(root, paths, first)
    return reading


def _none_readable(root: Path, paths: Sequence[str], first: str) -> SettingError:
    return SettingError(
        f"dataset.root={one_line(root)}: none of its {len(paths):,} pictures can be read; {first}"
    )


def _decode_all(place: Path, paths: Sequence[str], reading: Reading) -> dict[int, str]:
    """Write the pixels of all pictures into a new `.npy`; return those that could not be read.

    Nothing is mapped: what is written goes to the system's cache of files and not to the memory of
    a process, and a full disk is an error and not a signal.
    """
    assert reading.size is not None, "looked at"
    shape = (len(paths), reading.depth.channels, *reading.size)
    size = prod(shape) * reading.depth.bits // 8
    if size > (free := shutil.disk_usage(place.parent).free):
        raise SettingError(
            f"dataset.root: {len(paths):,} images of {dimensions(shape[1:])} take"
            f" {size / 1e9:.3g} GB in {place.parents[3]}, and {free / 1e9:.3g} GB are free; set a"
            " smaller dataset.size"
        )
    with place.open("wb") as file:
        _write_header(file, shape, np.dtype(f"uint{reading.depth.bits}"))
        offset = file.tell()
        file.truncate(offset + size)
    parts = [(first, paths[first : first + AT_ONCE]) for first in range(0, len(paths), AT_ONCE)]
    are_few = len(parts) <= FEW
    # Processes: of a small picture, Python does more than what Pillow does beside other threads.
    # joblib's do not run the user's script again, and end by themselves.
    parallel = Parallel(
        1 if are_few else -1, "loky", "generator", batch_size=1, idle_worker_timeout=IDLE
    )
    results = iter(parallel(delayed(decode)(place, offset, *part, reading) for part in parts))
    unread: dict[int, str] = {}
    for _ in parts if are_few else Tracked(parts, f"decoding {len(paths):,} pictures"):
        unread.update(next(results))
    return unread


def _close_gaps(place: Path, unread: Mapping[int, str]) -> None:
    """Move the pixels of a `.npy` together where pictures could not be read, and cut it off."""
    if not unread:
        return
    with place.open("r+b") as file:
        shape, _, dtype = npy_header(file)
        offset, size = file.tell(), prod(shape[1:]) * dtype.itemsize
        kept = [number for number in range(shape[0]) if number not in unread]
        for to, number in enumerate(kept):
            if to != number:
                file.seek(offset + number * size)
                row = file.read(size)
                file.seek(offset + to * size)
                file.write(row)
        file.truncate(offset + len(kept) * size)
        file.seek(0)
        # NumPy leaves room in a header for any number of rows: it stays as long as it was.
        _write_header(file, (len(kept), *shape[1:]), dtype)


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _digest(*parts: object) -> str:
    text = repr(parts).encode(errors="backslashreplace")
    return hashlib.blake2b(text, digest_size=16).hexdigest()
