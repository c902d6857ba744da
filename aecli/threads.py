"""How many threads torch computes with: no more than there are cores free of other programs.

OpenMP's threads wait for each other by spinning. Where another program holds one of the cores, all
of them wait for the one that has none: of two trainings on the same two cores, each then takes ten
times as long as alone, and not twice. With one thread less nobody waits.
"""

import time
from typing import Any

import psutil
import torch

EVERY = 0.5
"""Seconds between two looks at the cores."""


class FreeCores:
    """Looks at what other programs take of the cores that this process may run on."""

    def __init__(self) -> None:
        process = psutil.Process()
        count = psutil.cpu_count() or 1
        self.cores = process.cpu_affinity() if hasattr(process, "cpu_affinity") else range(count)
        self._before = self._look()

    def _look(self) -> tuple[float, float, float]:
        """Return the seconds on the clock, of all programs on the cores, and of this one."""
        times = psutil.cpu_times(percpu=True)
        # Where nothing is counted, as in some sandboxes, no core is busy.
        busy = sum(map(_busy, (times[core] for core in self.cores if core < len(times))))
        return time.monotonic(), busy, time.process_time()

    def count(self) -> float:
        """Return the mean number of cores free of other programs since the last look."""
        now, busy, own = self._look()
        then, busy_then, own_then = self._before
        self._before = now, busy, own
        others = (busy - busy_then - (own - own_then)) / (now - then)
        # The system counts in ticks of a hundredth of a second: a full core can be a little more.
        return len(self.cores) - min(max(others, 0.0), len(self.cores))


def _busy(times: Any) -> float:
    """Return the seconds in which a core did something; guests are among the users' programs."""
    idle = ("idle", "iowait", "guest", "guest_nice")
    return sum(times) - sum(getattr(times, name, 0.0) for name in idle)


class Sharing:
    """Sets the threads of this process, up to `most`, to the number of free cores now and then."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._cores = FreeCores()
        self._next = time.monotonic() + EVERY
        self._shared = False

    def look(self) -> bool:
        """Set the threads if it is time to look again; costs next to nothing otherwise.

        Return whether they are fewer than `most` for the first time.
        """
        now = time.monotonic()
        if now < self._next or self.most == 1:
            return False
        self._next = now + EVERY
        threads = max(1, min(self.most, round(self._cores.count())))
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        first = threads < self.most and not self._shared
        self._shared = self._shared or first
        return first
