"""Paths as they are typed: with `~` for a home, and patterns of many. No torch here."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from glob import has_magic
from itertools import count
from pathlib import Path

from aecli.errors import SettingError
from aecli.text import one_line

MOST_FOLDERS = 20_000
"""Folders that a pattern may look into."""


def expanded(path: Path | str) -> Path:
    """Return a path with a home in the place of `~`; as it is where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def matching(pattern: str | Path) -> Iterator[Path]:
    """Yield the paths that a pattern means: with `*`, `?`, `[…]` and `**`, as in a shell.

    `**` follows no links. Raises `SettingError` where it would look into very many folders: a
    pattern may be a stranger's, and links make few folders look like many.
    """
    path = Path(pattern)
    start, parts = (Path(path.anchor), path.parts[1:]) if path.anchor else (Path(), path.parts)
    looked_into = count(1)

    def entries(folder: Path, first: str) -> list[os.DirEntry[str]]:
        if next(looked_into) > MOST_FOLDERS:
            raise SettingError(
                f"{one_line(pattern)}: looks into more than {MOST_FOLDERS:,} folders"
            )
        with suppress(OSError):  # it is none, may not be read, or has gone
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
            return [e for e in found if not e.name.startswith(".") or first.startswith(".")]
        return []

    def below(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
        if not parts:
            yield folder
            return
        first, *rest = parts
        if not has_magic(first):
            if os.path.lexists(folder / first):
                yield from below(folder / first, rest)
        elif first == "**":
            if rest:
                yield from below(folder, rest)
            for entry in entries(folder, first):
                if entry.is_dir(follow_symlinks=False):
                    yield from below(folder / entry.name, parts)
                elif not rest:
                    yield folder / entry.name
        else:
            for entry in entries(folder, first):
                if fnmatchcase(entry.name, first):
                    yield from below(folder / entry.name, rest)

    return below(start, parts)
