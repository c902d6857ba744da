"""Kills a command again and again: `python -m tests.killing FOLDER COMMAND MOMENTS`.

A third of the moments are within a write of the command: at a random one of its writes, just before
it happens. The others are random in time, from the start to the end. After each kill every file
must be whole, none may be lost, and the same command, or what resumes it, must end with the same
files as one that was never killed. Prints how many kills there were, and how many came too late.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import aecli.commands.compare
import aecli.commands.evaluate
import aecli.commands.sample
import aecli.commands.train
from aecli.cli import main as aecli
from tests.cases import CASES, Case, copied, everything, harmed, make_home, next_words, result
from tests.faulty import Disk, failing
from tests.whole import contents


class Deadly(Disk):
    """Kills the process that writes, instead of failing."""

    def fail(self, kind: str, place: str) -> None:
        """End at once, as by `kill -9`."""
        os.kill(os.getpid(), signal.SIGKILL)


DONE = ("is done, ", "exists already")
"""What a command says whose last try was killed after its last write."""


def main(folder: Path, name: str, moments: int) -> None:
    """Kill the command `name` of the cases at `moments`, and print what came of it."""
    torch.set_num_threads(1)
    case, draws = CASES[name], random.Random(name)
    home = folder / "home"
    home.mkdir()
    make_home(home, lambda words, place: _wait(_start(words, place)))
    place = copied(home, folder / "whole")
    start = time.monotonic()
    counted = Disk(place)
    assert _wait(_start(case.words, place, counted)) == 0, _told(place)
    seconds = time.monotonic() - start
    expected = result(place, case)
    writes = int((place / "writes").read_text())
    late = 0
    for moment in range(moments):
        place = copied(home, folder / "killed")
        before = everything(place)
        if moment % 3 == 0:
            number = draws.randint(1, writes)
            status = _wait(_start(case.words, place, Deadly(place, number)))
            where = f"killed at write {number}"
        else:
            after = draws.uniform(0, seconds)
            child = _start(case.words, place)
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
            status = _wait(child)
            where = f"killed after {after:.2f} s"
        late += status == 0
        contents(place, killed=True)
        assert not harmed(before, place, case), where
        if status == 0:
            continue
        status = _wait(_start(_words(case, place), place))
        if "start it anew" in _told(place) or "start the sweep anew" in _told(place):
            status = _wait(_start(case.words, place))
        # Killed after its last write, a training was done, and resuming it says so.
        assert status == 0 or any(text in _told(place) for text in DONE), (where, _told(place))
        made = result(place, case)
        if name == "sample":  # one that was killed after its last write has left a whole sample
            assert set(expected.values()) <= set(made.values()), where
        else:
            assert made == expected, where
    sys.stdout.write(f"{name}: {moments - late} kills, {late} after the end; writes: {writes}\n")


def _words(case: Case, place: Path) -> Sequence[str]:
    """Return what one types after a kill: `resume=`, if there is something to resume."""
    if case.words[0] != "train" or not (place / case.folder).is_dir():
        return case.words
    if "-m" in case.words:
        resume = f"the same line and resume={case.folder}"
        return next_words(case, resume if (place / case.folder / "multirun.yaml").exists() else "")
    if not (place / case.folder / ".hydra").is_dir():
        return case.words
    return case.words if "resume=" in case.words[1] else ("train", f"resume={case.folder}")


def _start(words: Sequence[str], place: Path, disk: Disk | None = None) -> int:
    """Start a command in a process that has all modules already; return the process's number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        told = os.open(place.parent / "told", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(told, 1)
        os.dup2(told, 2)
        os.chdir(place)
        sys.argv = ["aecli", *words]
        status = _exit_status(disk)
    finally:
        os._exit(status)


def _exit_status(disk: Disk | None) -> int:
    try:
        if disk is None:
            aecli()
        else:
            with failing(disk):
                aecli()
    except SystemExit as end:
        if end.code:
            return int(end.code)
    sys.stdout.flush()
    if disk:
        Path("writes").write_text(str(len(disk.writes)))
    return 0


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _told(place: Path) -> str:
    return (place.parent / "told").read_text()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
