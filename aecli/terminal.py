"""Bars and lines on a terminal. Imports no torch, no tqdm.

Without it, what is left of a bar stands before a line: "  3%|▎   | 3/100aecli: no such file".
"""

import logging
import os
import sys
from typing import Protocol


class Bar(Protocol):
    """What tqdm makes."""

    def clear(self) -> None:
        """Remove it from the terminal, until it moves again."""

    def close(self) -> None:
        """Remove it for good."""


OPEN: list[Bar] = []
"""The bars that are there."""


class Console(logging.StreamHandler):
    """Writes a line where a bar is, which is drawn anew below it when it next moves."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        for bar in OPEN:
            bar.clear()
        super().emit(record)


def end_bar(bar: Bar) -> None:
    """Remove a bar."""
    OPEN[:] = [other for other in OPEN if other is not bar]
    bar.close()


def end_bars() -> None:
    """Remove the bars of what has failed or was interrupted."""
    while OPEN:
        OPEN.pop().close()


def open_closed_streams() -> None:
    """Open what a process was started without of standard input, output and error, on nothing.

    A service manager may start one so; its next file would get the number, and the messages.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode))
    if hasattr(sys.stdout, "reconfigure"):  # an encoding may lack the characters of a table
        sys.stdout.reconfigure(errors="replace")
