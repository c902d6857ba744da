"""Finds the pictures in a folder, and reads splits and labels from its subfolders."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aecli.data.files import PICTURES
from aecli.errors import SettingError
from aecli.text import one_line

log = logging.getLogger(__name__)

SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""Names of folders, in small letters, that hold a split."""


class Pictures(NamedTuple):
    """The pictures in a folder."""

    root: Path
    names: list[str]
    """Their paths below the root, sorted."""
    stamp: str
    """What tells whether one was added, taken away or changed: of names, sizes and times."""


class Layout(NamedTuple):
    """What the folders of pictures say."""

    splits: dict[str, Tensor]
    """The rows of "train", "validation" and "test"; empty where no folder is one of them."""
    labels: Tensor | None
    """`(N,)`, int64."""
    classes: tuple[str, ...]
    """The names of the labels, sorted."""


def find(root: Path) -> Pictures:
    """Return the pictures in a folder and its subfolders, without hidden ones.

    Each folder is read once, whatever links lead to it; not by a link, if it lies beside that.

    Raises `SettingError` if there is no such folder, if one cannot be read, or without a picture.
    """
    if not root.is_dir():
        raise SettingError(f"dataset.root={one_line(root)}: no such folder")
    # The time of a change: a file that could not be read may get other rights, or its old time.
    found: list[tuple[str, int, int, int]] = []
    other = ""
    waiting, seen = [""], {_identity(root.stat())}
    while waiting:
        folder = waiting.pop()
        below = []
        for entry in _entries(root / folder):
            name = folder + entry.name
            try:
                status = entry.stat()
                is_folder = entry.is_dir()
            except OSError:  # a link to nothing, or to itself
                status, is_folder = entry.stat(follow_symlinks=False), False
            if is_folder:
                if _identity(status) in seen:
                    log.info("%s: leads to a folder that was read already", one_line(name))
                else:
                    seen.add(_identity(status))
                    below.append(f"{name}/")
            elif os.path.splitext(entry.name)[1].lower() in PICTURES:  # noqa: PTH122 (per file)
                found.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
            else:
                other = other or name
        waiting += reversed(below)
    if not found:
        holds = f"holds no picture, but {one_line(other)}" if other else "holds no picture"
        raise SettingError(
            f"dataset.root={one_line(root)}: {holds}; pictures are files that end in"
            f" {', '.join(sorted(PICTURES))}"
        )
    found.sort()
    digest = hashlib.blake2b("\0".join(map(str, found)).encode(errors="backslashreplace"))
    return Pictures(root, [name for name, *_ in found], digest.hexdigest()[:32])


def places(
    names: Sequence[str], root: Path, labelled: bool, may_lie_beside: bool = False
) -> Layout:
    """Return the splits and, if they are wanted, the labels of pictures by their names.

    A folder of the root named as in `SPLITS` is a split; if there is none named train, all other
    folders are training. The folder of the root, or of the split, that a picture lies in is its
    label.

    Raises `SettingError` for a picture beside the folder train, or beside those of labels. If it
    may lie there, as one that a run is to encode, it is in no split, and none has a label.
    """
    split_of, label_of = [], []
    for name in names:
        folders = name.split("/")[:-1]
        split = SPLITS.get(folders[0].lower()) if folders else None
        split_of.append(split)
        folders = folders[1:] if split else folders
        label_of.append(folders[0] if folders else None)
    if "train" in split_of and None in split_of and not may_lie_beside:
        beside = one_line(names[split_of.index(None)])
        raise SettingError(
            f"dataset.root={one_line(root)}: {beside} lies beside the folder train, in none of the"
            f" splits {', '.join(SPLITS)}"
        )
    rows: dict[str, list[int]] = {}
    if any(split_of):
        rows["train"] = []
        for row, split in enumerate(split_of):
            if split or "train" not in split_of:
                rows.setdefault(split or "train", []).append(row)
    splits = {name: torch.tensor(some, dtype=torch.long) for name, some in rows.items()}
    classes = sorted({label for label in label_of if label is not None})
    if not labelled or not classes or (may_lie_beside and None in label_of):
        return Layout(splits, None, ())
    if None in label_of:
        beside = one_line(names[label_of.index(None)])
        raise SettingError(
            f"dataset.root={one_line(root)}: {beside} lies in none of the {len(classes)} folders"
            " that are labels; move it into one, or set dataset.labels=none"
        )
    number = {label: number for number, label in enumerate(classes)}
    labels = torch.tensor([number[label] for label in label_of if label is not None])
    return Layout(splits, labels, tuple(map(as_text, classes)))


def as_text(name: str) -> str:
    """Return a name as text, though it may be no UTF-8 on the disk."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, by name, links last, without what is hidden."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise SettingError(
            f"dataset.root: {one_line(folder)}: cannot be read ({error.strerror or error})"
        ) from error
    return sorted(shown, key=lambda entry: (entry.is_symlink(), entry.name))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
