"""Cores that other programs take, and threads that follow."""

import subprocess
import sys
import time
from collections import namedtuple

import psutil
import pytest
import torch

from aecli import threads
from aecli.threads import FreeCores, Sharing

Times = namedtuple("Times", "user guest idle iowait")


class Clock:
    """Time, and what the cores have done, as a test sets them."""

    def __init__(self, monkeypatch, cores):
        self.now, self.own, self.others = 0.0, 0.0, 0.0
        self.cores = cores
        self.counts = True
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "process_time", lambda: self.own)
        monkeypatch.setattr(psutil, "cpu_times", self.cpu_times)
        monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda _: list(range(cores)))
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.threads)
        monkeypatch.setattr(torch, "set_num_threads", self.set_num_threads)
        self.threads = cores

    def set_num_threads(self, threads):
        self.threads = threads

    def cpu_times(self, percpu):
        assert percpu
        if not self.counts:
            return [Times(0.0, 0.0, 0.0, 0.0)] * self.cores
        busy = (self.own + self.others) / self.cores
        guests = busy / 3  # counted among the users' programs, too
        return [Times(busy, guests, self.now - busy - 1.0, 1.0)] * self.cores

    def run(self, seconds, others):
        """Let time pass, with this many other threads that want a core."""
        self.now += seconds
        wanted = self.threads + others
        share = min(1.0, self.cores / wanted)
        self.own += seconds * self.threads * share
        self.others += seconds * others * share


@pytest.mark.parametrize(
    ("others", "expected"), [(0, 4), (0.3, 4), (1, 3), (2, 2), (4, 1), (40, 1)]
)
def test_threads_settle_at_the_cores_that_others_leave(monkeypatch, others, expected):
    clock = Clock(monkeypatch, cores=4)
    sharing = Sharing(4)
    for _ in range(10):
        clock.run(threads.EVERY, others)
        sharing.look()
    assert clock.threads == expected


def test_threads_come_back_and_the_first_change_is_said_once(monkeypatch):
    clock = Clock(monkeypatch, cores=2)
    sharing = Sharing(2)
    said = []
    for others in (0, 2, 2, 0, 0, 2):
        clock.run(threads.EVERY, others)
        said.append((sharing.look(), clock.threads))
    assert said == [(False, 2), (True, 1), (False, 1), (False, 2), (False, 2), (False, 1)]


@pytest.mark.parametrize(("most", "others", "counts"), [(3, 0, True), (8, 8, False)])
def test_no_more_threads_than_asked_for_and_all_where_nothing_is_counted(
    monkeypatch, most, others, counts
):
    clock = Clock(monkeypatch, cores=8)
    clock.counts = counts
    sharing = Sharing(most)
    clock.run(threads.EVERY, others)
    sharing.look()
    assert clock.threads == most


def test_between_two_looks_nothing_is_asked(monkeypatch):
    clock = Clock(monkeypatch, cores=4)
    sharing = Sharing(4)
    monkeypatch.setattr(psutil, "cpu_times", None)
    clock.run(0.9 * threads.EVERY, others=4)
    assert not sharing.look()
    assert clock.threads == 4


@pytest.mark.slow
def test_a_busy_program_takes_a_core():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        time.sleep(0.5)
        cores = FreeCores()
        time.sleep(1.0)
        free = cores.count()
        other.kill()
    assert 0 <= free <= len(cores.cores) - 0.4
