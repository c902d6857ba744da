"""Foreign text made safe for where it is shown: a terminal, Markdown, a spreadsheet, a chart.

A name, a message or a value that was read from a file may hold escape sequences that rewrite the
terminal, HTML, or a formula. Everything of that kind goes through one of these functions on its
way out. Imports no torch.
"""

import logging
import re
from collections.abc import Iterable
from typing import Any

LONGEST = 200
"""Characters of one foreign string that are shown."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the start of a formula, full-width forms too."""


def printable(text: Any) -> str:
    r"""Return a text that does nothing to a terminal but be shown; lines stay lines.

    Control characters, those that change the direction of writing and lone surrogates become
    their escapes, such as `\x1b`.
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_visible, text))


def one_line(text: Any, longest: int = LONGEST) -> str:
    r"""Return `printable` text without line ends, cut off after `longest` characters by an `…`."""
    text = str(text)
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return printable(cut).replace("\n", "\\n").replace("\t", "\\t")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name if it has none."""
    lines = str(error).strip().splitlines()
    return one_line(lines[0] if lines else type(error).__name__)


def counted(count: int, things: str) -> str:
    """Return a number of things: "1 run" for 1 and "runs", "2,000 runs"."""
    return f"1 {things.removesuffix('s')}" if count == 1 else f"{count:,} {things}"


def dimensions(shape: Iterable[int]) -> str:
    """Return a shape as messages have it, such as "3 × 48 × 48"."""
    return " × ".join(map(str, shape))


def installs(extra: str) -> str:
    """Return what is typed for an optional part: pip finds the aecli that is there, a clone too."""
    return f'pip install "aecli[{extra}]"'


def markdown_cell(text: Any) -> str:
    """Return a text for a cell of a Markdown table: no HTML, links, images or further cells."""
    text = one_line(text).replace("\\", "\\\\").replace("&", "&amp;")
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([|`*]|\](?=[\[(:]))", r"\\\1", text)


def csv_cell(value: Any) -> Any:
    """Return a value for a cell of a CSV file: numbers stay, text cannot start a formula."""
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    is_formula = text.lstrip(" ").startswith(FORMULA) and not _is_number(text)
    return f"'{one_line(text)}" if is_formula else one_line(text)


def chart_label(text: Any) -> str:
    r"""Return a text for a matplotlib chart, which would take what stands in `$…$` for formulas."""
    return one_line(text).replace("$", r"\$")


class SafeFormatter(logging.Formatter):
    """Formats the lines of the log so that what they quote cannot act on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted line, `printable`."""
        return printable(super().format(record))


def _visible(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
