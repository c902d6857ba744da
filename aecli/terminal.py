"""What a person at a terminal gets, and what a pipe or a file gets instead."""

import sys

from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 160
"""Characters in a line of a table where there is no terminal to fit it to."""


def is_terminal() -> bool:
    """Tell whether a person watches: neither output goes elsewhere."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def show(table: Table) -> None:
    """Print a table, as wide as the terminal; a pipe or a file has no width to cut it off at."""
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)
