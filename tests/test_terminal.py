"""Bars and lines on a terminal: what is left of a bar stands before no line."""

import io
import logging
from functools import partial

import pytest
from tqdm import tqdm

from aecli import progress
from aecli.progress import Tracked
from aecli.terminal import Console, end_bars


def seen(text):
    """Return the lines of a terminal after it was sent `text`."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


@pytest.fixture
def screen(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "is_terminal", lambda: True)
    monkeypatch.setattr(progress, "tqdm", partial(tqdm, file=screen, mininterval=0))
    return screen


def test_a_line_stands_above_a_bar_that_goes_on(screen):
    items = iter(Tracked(["a", "b", "c"], "counting"))
    assert [next(items), next(items)] == ["a", "b"]
    assert seen(screen.getvalue())[-1].startswith("counting:  33%")
    Console(screen).emit(logging.makeLogRecord({"msg": "largest difference: 0.001"}))
    assert seen(screen.getvalue()) == ["largest difference: 0.001", ""]
    next(items)
    line, bar = seen(screen.getvalue())
    assert line == "largest difference: 0.001"
    assert bar.startswith("counting:  67%")
    assert list(items) == []
    assert seen(screen.getvalue())[1:] == [""]


def test_an_error_stands_where_a_bar_was(screen):
    items = iter(Tracked(["a", "b", "c"], "counting"))
    next(items)
    end_bars()
    screen.write("aecli: no such file\n")
    assert seen(screen.getvalue()) == ["aecli: no such file", ""]
    items.close()  # as when the error is forgotten
    end_bars()
    assert seen(screen.getvalue()) == ["aecli: no such file", ""]
