"""What a person at a terminal gets (a bar, a table that fits), and what a pipe or a file gets.

Imports no torch.
"""

import logging
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from aecli.terminal import OPEN, end_bar

log = logging.getLogger(__name__)

TRACKED_EVERY = 10.0
"""Seconds between two plain lines of a long loop."""
PIPED_WIDTH = 160
"""Characters in a line of a table where there is no terminal to fit it to."""


def is_terminal() -> bool:
    """Return whether both outputs are a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def width() -> int | None:
    """Return the characters of a line of the terminal, None for a pipe or a file."""
    return Console().width if sys.stdout.isatty() else None


def show(table: Table, piped_width: int = PIPED_WIDTH) -> None:
    """Print a table, as wide as the terminal; a pipe or a file has no width to cut it off at."""
    Console(width=width() or max(piped_width, PIPED_WIDTH)).print(table)


class Items(Protocol):
    """What can be counted and gone through."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class Tracked:
    """Items of a long loop: a bar on a terminal; elsewhere a line at the start and now and then.

    `note`, if the loop sets it, stands beside the count.
    """

    def __init__(self, items: Items, what: str) -> None:
        self.items = items
        self.what = what
        self.note = ""

    def __iter__(self) -> Iterator[Any]:
        return self._bar() if is_terminal() else self._lines()

    def _bar(self) -> Iterator[Any]:
        bar = tqdm(self.items, desc=self.what, dynamic_ncols=True, leave=False)
        OPEN.append(bar)
        try:
            for item in bar:
                yield item
                bar.set_postfix_str(self.note, refresh=False)
        finally:
            end_bar(bar)

    def _lines(self) -> Iterator[Any]:
        log.info(self.what)
        start = last = time.monotonic()
        for number, item in enumerate(self.items, 1):
            yield item
            if (now := time.monotonic()) - last >= TRACKED_EVERY:
                last = now
                line = f"  {number}/{len(self.items)}  {self.note}".rstrip()
                log.info("%s  %.0f s", line, now - start)
