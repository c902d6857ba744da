"""SIGTERM, by which a cluster says that a job has to go: stop at once, and say how to go on.

Nothing has to be saved then: the checkpoint of the last whole epoch lies on the disk, and a run
goes on from there. No torch here: a command that is still starting up is told to go, too.
"""

import signal
from types import FrameType


class Terminated(BaseException):
    """The process was told to go."""


def stop_on_sigterm() -> None:
    """Let SIGTERM end this process in order, unless somebody else handles it already."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)


def stop(number: int, frame: FrameType | None) -> None:
    """Answer the signal; one is enough."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated
