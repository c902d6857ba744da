"""A command as it is typed, in this process: quick enough for a thousand of them."""

import contextlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import NamedTuple
from unittest.mock import patch

import torch
from hydra._internal.hydra import Hydra

from aecli import cli


class Answer(NamedTuple):
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Undo what a command changes in its process, since it expects to be alone there."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGPIPE)}
    environment, excepthook, mode = dict(os.environ), threading.excepthook, Hydra.get_mode
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
        threading.excepthook, Hydra.get_mode = excepthook, mode
        for logger in (root, logging.getLogger("aecli")):
            for handler in logger.handlers[:]:
                if handler not in before[0]:
                    handler.close()
                    logger.removeHandler(handler)
        root.handlers[:], root.level = before
        logging.captureWarnings(capture=False)
        torch.set_flush_denormal(False)


def aecli(*words: str) -> Answer:
    """Run `aecli WORDS…` here. What it raises, as for a bug, is raised."""
    out, err = io.StringIO(), io.StringIO()
    with (
        as_before(),
        patch.object(sys, "argv", ["aecli", *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # in the run's log
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
    return Answer(code, out.getvalue(), err.getvalue())
