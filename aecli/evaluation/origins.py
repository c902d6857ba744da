"""Where a row of activations comes from: its file, its number there, and the text around it.

A file of rows `acts/00000.npy` may have the tokens beside it that its rows belong to:

    acts/00000.tokens.npy  (R, 2) integers: the number of each row's token, its place in its context
    acts/vocabulary.json   a list of texts: that of token 0, 1, …

`examples/activations.py` writes them. The rows are in the order of the text: as long as the place
goes up by one from row to row, they belong to one context.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from aecli.data.shard_headers import TOKENS
from aecli.data.shards import Shards
from aecli.errors import SettingError
from aecli.npy import npy_header
from aecli.patterns import expanded
from aecli.runs.load import Loaded
from aecli.text import first_line, one_line, printable
from aecli.untrusted import read_bytes

VOCABULARY = "vocabulary.json"
MOST_BYTES = 1 << 26
"""Of a vocabulary; one of 250,000 tokens has 5 MB."""
BEFORE, AFTER = 24, 12
"""Tokens of the context that are shown at most."""
LONGEST_TOKEN = 100
"""Characters of a token that are shown."""


class Context(NamedTuple):
    """The text around a row."""

    before: str
    token: str
    after: str


class Origin(NamedTuple):
    """Where a row comes from."""

    file: str
    """The name of its file; empty where the data set is no file of rows."""
    row: str
    """Its number in the file, or the name by which the data set knows it."""
    context: Context | None


class Origins:
    """Where the rows of a run's test split come from.

    Raises `SettingError` for tokens that do not go with their rows, before any is read.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.split = loaded.data.splits["test"]
        rows = self.split.examples.file
        self.shards = rows if isinstance(rows, Shards) else None
        file = loaded.config.dataset.get("file")
        self.file = expanded(str(file)) if file else None
        self._vocabularies: dict[Path, list[str] | None] = {}
        self._names = _told_apart([path for path, _ in self._files()])
        for path, count in self._files():
            if _tokens_of(path).is_file():
                _check_tokens(_tokens_of(path), count)
                self._vocabulary(path.parent)

    def _files(self) -> list[tuple[Path, int]]:
        if self.shards is not None:
            return [(shard.path, shard.rows) for shard in self.shards.shards]
        return [] if self.file is None else [(self.file, len(self.split.examples.values))]

    def of(self, place: int) -> Origin:
        """Return where the row at a place of the split comes from."""
        row = int(self.split.rows[torch.tensor([place])])
        if self.shards is not None:
            at = int(self.shards.kept[torch.tensor([row])])
            number = int(np.searchsorted(self.shards.ends, at, side="right"))
            shard = self.shards.shards[number]
            at -= int(self.shards.ends[number]) - shard.rows
            return Origin(self._names[number], str(at), self._context(shard.path, at))
        name = str(self.split.examples.ids[row])
        if self.file is None:
            return Origin("", name, None)
        return Origin(self._names[0], name, self._context(self.file, row))

    def _context(self, path: Path, row: int) -> Context | None:
        if not _tokens_of(path).is_file():
            return None
        tokens = np.load(_tokens_of(path), mmap_mode="r", allow_pickle=False)
        first = max(0, row - BEFORE)
        around = np.array(tokens[first : row + AFTER + 1], np.int64)
        at = row - first
        goes_on = np.diff(around[:, 1]) == 1
        start = at - _leading(goes_on[:at][::-1])
        end = at + 1 + _leading(goes_on[at:])
        vocabulary = self._vocabulary(path.parent)
        texts = [_text(number, vocabulary) for number in around[:, 0].tolist()]
        return Context("".join(texts[start:at]), texts[at], "".join(texts[at + 1 : end]))

    def _vocabulary(self, folder: Path) -> list[str] | None:
        if folder not in self._vocabularies:
            self._vocabularies[folder] = _vocabulary(folder / VOCABULARY)
        return self._vocabularies[folder]


def _told_apart(paths: list[Path]) -> list[str]:
    """Return the names of files; those of several folders by their paths below the common one."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    common = os.path.commonpath([path.absolute() for path in paths])
    return [path.absolute().relative_to(common).as_posix() for path in paths]


def _leading(values: np.ndarray) -> int:
    """Return how many of the first values are true, before one that is not."""
    return len(values) if values.all() else int(values.argmin())


def _tokens_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}{TOKENS}")


def _text(number: int, vocabulary: list[str] | None) -> str:
    if vocabulary is None or not 0 <= number < len(vocabulary):
        return f"⟨{number}⟩"
    text = printable(vocabulary[number])
    return text if len(text) <= LONGEST_TOKEN else f"{text[: LONGEST_TOKEN - 1]}…"


def _check_tokens(path: Path, rows: int) -> None:
    try:
        with path.open("rb") as file:
            shape, _, dtype = npy_header(file)
            size = file.tell() + 2 * rows * dtype.itemsize
    except (ValueError, OSError, EOFError) as error:
        raise SettingError(f"{one_line(path)}: damaged ({first_line(error)})") from error
    if dtype.kind not in "iu" or shape != (rows, 2) or path.stat().st_size != size:
        raise SettingError(
            f"{one_line(path)}: holds {dtype.name} of shape {shape}; must be whole numbers"
            f" ({rows}, 2): of each row the token, and its place in its context"
        )


def _vocabulary(path: Path) -> list[str] | None:
    """Return the texts of the tokens; None where there is no such file."""
    try:
        texts = json.loads(read_bytes(path, MOST_BYTES).decode())
    except FileNotFoundError:
        return None
    except SettingError:
        raise
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{one_line(path)}: damaged ({first_line(error)})") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise SettingError(f"{one_line(path)}: must be a list of texts")
    return texts
