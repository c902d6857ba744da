"""SIGINT (Ctrl-C) and SIGTERM (a cluster ends a job): one line and an exit status, at any moment.

Nothing has to be saved: the checkpoint of the last whole epoch is on the disk, and a run goes on
from there. Imports no torch, so that the handlers are in place before the slow imports.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NamedTuple

SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESUMABLE = 75
"""Exit status of a training terminated by SIGTERM: sysexits.h's "try again later"."""


class Terminated(BaseException):
    """SIGTERM has arrived."""


class Ending(NamedTuple):
    """How a process that a signal stops ends."""

    status: int
    line: str
    """What standard error says; "" for nothing."""


def ending(command: str, number: int, advice: str = "") -> Ending:
    """Return how a command ends that a signal stops, with what to type next."""
    status = RESUMABLE if (command, number) == ("train", signal.SIGTERM) else 128 + number
    what = "interrupted" if number == signal.SIGINT else "terminated"
    return Ending(status, f"aecli: {what}{advice}\n")


def signal_behind(error: BaseException) -> BaseException | None:
    """Return the exception of the signal that caused an error, None if no signal did.

    A signal in the middle of a library's function can make its own clean-up fail.
    """
    cause: BaseException | None = error
    seen: list[BaseException] = []  # such chains may be circles
    while cause is not None and not isinstance(cause, KeyboardInterrupt | Terminated):
        seen.append(cause)
        later = cause.__cause__ or cause.__context__
        cause = None if any(later is error for error in seen) else later
    return cause


def exit_on_signals(ending: Callable[[int], Ending]) -> None:
    """Let SIGINT and SIGTERM end this process at once, as `ending` says for a signal's number.

    For the start: an exception in the middle of an import comes out as an error of any kind.
    """

    def end(number: int, frame: FrameType | None) -> None:
        status, line = ending(number)
        with suppress(OSError):  # standard error may be closed
            os.write(2, line.encode())  # print may have been interrupted itself
        os._exit(status)

    for number in SIGNALS:
        _handle(number, end)


def raise_on_signals() -> None:
    """Let SIGINT raise `KeyboardInterrupt` and SIGTERM raise `Terminated`."""
    _handle(signal.SIGINT, signal.default_int_handler)
    _handle(signal.SIGTERM, stop)


@contextmanager
def importing(ending: Callable[[int], Ending]) -> Iterator[None]:
    """Let the signals end this process at once within the block, if they raise outside of it."""
    ours = signal.getsignal(signal.SIGTERM) is stop  # not in the processes of a launcher
    if ours:
        exit_on_signals(ending)
    yield
    if ours:
        raise_on_signals()


def stop_on_sigterm() -> None:
    """Let SIGTERM raise `Terminated`, unless somebody else handles it already."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)


def stop(number: int, frame: FrameType | None) -> None:
    """Raise `Terminated`, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _handle(number: int, handler: Callable[[int, FrameType | None], None]) -> None:
    """Answer a signal by `handler`, unless whoever started this process wants it ignored."""
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, handler)
