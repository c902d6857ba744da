"""A checkpoint file, read without running anything in it, in no more memory than it has bytes.

A checkpoint is the zip archive that `torch.save` writes: a small pickle, `data.pkl`, which names
the tensors, and an entry for the bytes of each. torch verifies no checksum: it would load a
damaged file with other weights. A checkpoint of aecli carries a checksum of its contents. Of others
the CRC-32 of each entry of the archive is verified, which takes ten times as long.
"""

import zipfile
from pathlib import Path
from typing import Any

import torch

from aecli.archive import check_bounds
from aecli.errors import SettingError
from aecli.runs.checksum import check_unfolded, checksum
from aecli.text import first_line, one_line
from aecli.untrusted import size_of

CHECKSUM = "checksum"
"""Where a checkpoint carries the sum over everything else in it."""


def load_archive(path: Path) -> Any:
    """Return the contents of a checkpoint, without the checksum, its tensors on the CPU.

    Raises `SettingError` for a file that is damaged, out of bounds or no checkpoint.
    """
    try:
        check_bounds(path)
        contents = torch.load(path, map_location="cpu", weights_only=True)
        expected = contents.pop(CHECKSUM, None) if isinstance(contents, dict) else None
        if expected is None:
            check_unfolded(contents, path.stat().st_size)
            verify_entries(path)
        elif expected != checksum(contents, path.stat().st_size):
            raise SettingError("its checksum is wrong")
        return contents
    except Exception as error:  # whatever the reading of arbitrary bytes can raise
        raise SettingError(
            f"run={one_line(path)}: cannot be read as a checkpoint: damaged, cut off, or not made"
            f" by aecli ({first_line(error)})"
        ) from error


def verify_entries(path: Path) -> None:
    """Check the CRC-32 of each entry of a checkpoint.

    Raises `SettingError`, or what a reader of zip archives can raise.
    """
    size_of(path)
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise SettingError(f"the checksum of {one_line(damaged)} is wrong")
