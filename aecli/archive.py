"""What `torch.save` writes, looked at before it is loaded: no bombs, and nothing that runs.

It is a zip archive: a small pickle, `data.pkl`, which names the tensors, and an entry for the bytes
of each.
"""

import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from aecli.errors import SettingError
from aecli.pickled import check_pickle
from aecli.untrusted import size_of

MOST_PICKLED = 1 << 20
"""Bytes of `data.pkl`. A model of a hundred layers has some 50,000."""
MOST_DIRECTORY = 1 << 20
"""Bytes of the zip archive's directory: some ten thousand tensors."""
USED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(
        f"torch {kind}Storage"
        for kind in (
            *("Bool", "Byte", "Char", "Short", "Int", "Long"),
            *("BFloat16", "Half", "Float", "Double"),
        )
    ),
}
"""What the pickle of tensors in dicts and lists refers to. torch allows more, some of which takes
memory without end (`bytearray(10**10)`)."""

END, END_64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")
"""The records at the end of a zip archive (PKWARE's APPNOTE, 4.3.14 to 4.3.16)."""


def check_bounds(path: Path) -> None:
    """Check the sizes and the references of such a file, and load nothing.

    Raises `SettingError`, or what a reader of zip archives or pickles can raise.
    """
    size = size_of(path)
    with path.open("rb") as file:
        if _directory_size(file, size) > MOST_DIRECTORY:
            raise SettingError(f"its directory has more than {MOST_DIRECTORY:,} bytes")
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise SettingError("it is compressed")  # a kilobyte may hold gigabytes of zeros
            if sum(entry.file_size for entry in entries) > size:
                raise SettingError("its entries overlap")
            # torch finds an entry by its name in small letters or in capitals.
            if len({entry.filename.lower() for entry in entries}) < len(entries):
                raise SettingError("it has an entry twice")
            _check_pickle(archive, entries)


def _directory_size(file: BinaryIO, size: int) -> int:
    """Return the bytes of a zip archive's directory: it is bounded before it is read."""
    end = _at(file, size - END.size, END)
    if end[0] != b"PK\x05\x06" or end[7]:  # or a comment, behind which there may be another end
        raise SettingError("no zip archive")
    locator = _at(file, size - END.size - LOCATOR.size, LOCATOR)
    if locator[0] != b"PK\x06\x07":
        return end[5]
    place = size - END.size - LOCATOR.size - END_64.size
    if locator[2] != place:  # some readers go by the one, some by the other
        raise SettingError("its directory is not where it says")
    return _at(file, place, END_64)[8]


def _at(file: BinaryIO, offset: int, record: struct.Struct) -> tuple[Any, ...]:
    file.seek(max(offset, 0))
    return record.unpack(file.read(record.size).ljust(record.size, b"\0"))


def _check_pickle(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> None:
    pickles = [entry for entry in entries if entry.filename.lower().endswith("/data.pkl")]
    if len(pickles) != 1:
        raise SettingError("it has no data.pkl")
    if pickles[0].file_size > MOST_PICKLED:
        raise SettingError(f"its data.pkl has more than {MOST_PICKLED:,} bytes")
    check_pickle(archive.read(pickles[0]), USED)
