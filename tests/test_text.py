import csv
import io
import logging
import random

import pytest

from aecli.text import (
    SafeFormatter,
    chart_label,
    csv_cell,
    first_line,
    markdown_cell,
    one_line,
    printable,
)

ACTS = "\x00\x07\x08\x0b\x1b\x7f\x9b\u200e\u202e\u2028\u2066\ud800\r"
"""Characters that act on a terminal, or cannot be written to one."""


def strange(generator, length=30):
    """Return a text of characters of all kinds, those that act more often."""
    kinds = [ACTS, "=+-@|<>`*[]()!$&\\\n\t ", "aé漢🙂"]
    return "".join(generator.choice(generator.choice(kinds)) for _ in range(length))


@pytest.mark.parametrize("seed", range(300))
def test_no_foreign_text_acts_where_it_is_shown(seed):
    text = strange(random.Random(seed))
    shown = printable(text)
    assert shown.replace("\n", "").replace("\t", "").isprintable()
    shown.encode()  # a lone surrogate could not be
    assert one_line(text).isprintable()
    cell = markdown_cell(text)
    assert cell.isprintable()
    assert not set("<>") & set(cell)
    unescaped = cell.replace("\\\\", "")
    assert unescaped.count("|") == unescaped.count("\\|")
    assert unescaped.count("](") == unescaped.count("\\](")
    written = io.StringIO()
    csv.writer(written).writerow([csv_cell(text)])
    (row,) = csv.reader(io.StringIO(written.getvalue()))
    assert not row[0].lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-1.5, -1.5),
        (None, None),
        ("-1e-3", "-1e-3"),
        ("+7", "+7"),
        ("=1+1", "'=1+1"),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("vae", "vae"),
    ],
)
def test_a_csv_cell_is_a_number_or_a_text_but_no_formula(value, cell):
    assert csv_cell(value) == cell


def test_a_markdown_cell_is_shown_as_it_is_written():
    assert markdown_cell("network.hidden") == "network.hidden"
    assert markdown_cell("[400,20]") == "[400,20]"
    assert markdown_cell("<img src=x>|\n") == "&lt;img src=x&gt;\\|\\\\n"
    assert markdown_cell("[a](javascript:b)") == "[a\\](javascript:b)"


def test_a_long_text_is_cut_off():
    assert one_line("a" * 10**6) == "a" * 199 + "…"


def test_a_chart_takes_nothing_for_a_formula():
    assert chart_label("$x_{$") == r"\$x_{\$"


def test_the_first_line_of_an_error_without_a_message_is_its_type():
    assert first_line(TimeoutError()) == "TimeoutError"
    assert first_line(ValueError("a\x1b\nb")) == "a\\x1b"


def test_a_line_of_the_log_cannot_act():
    record = logging.LogRecord("a", logging.INFO, "", 0, "run %s", ("\x1b]0;x\x07",), None)
    assert SafeFormatter("%(message)s").format(record) == r"run \x1b]0;x\x07"
