"""Trains, is killed, goes on: `python -m tests.killed DIRECTORY KILLS` for test_interruption."""

import os
import random
import signal
import sys
import time
from pathlib import Path

from aecli.commands.train import quieten, train
from aecli.runs.resume import last_checkpoint
from tests.conftest import configure

SETTINGS = ("model=vae", "network.hidden=[16]", "trainer.max_epochs=60", "pictures_every=7")
LONGEST = 1.5
"""Seconds before a kill, at most; more on a machine where no epoch ends in that time."""


def main(directory: Path, kills: int) -> None:
    """Kill a training `kills` times at random moments, then let it come to its end."""
    moments, longest, last = random.Random(0), LONGEST, None
    for _ in range(kills):
        child = _start(directory)
        time.sleep(moments.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        last = last_checkpoint(directory)
        longest *= 1 if last else 1.5
        # Flushed, or the next child writes the buffered lines once more at its own end.
        print(last and last.stat().st_size, flush=True)  # noqa: T201
    _, status = os.waitpid(_start(directory), 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def _start(directory: Path) -> int:
    child = os.fork()  # no second import of torch: twenty of these are a minute
    if child == 0:
        quieten()
        config, choices = configure(*SETTINGS)
        train(config, directory, choices, last_checkpoint(directory))
        os._exit(0)
    return child


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
