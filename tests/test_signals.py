"""A signal at any moment of the start, and of the work: one line, an exit status, no traceback."""

import random
import signal
import subprocess
import sys
import time

import pytest

from tests.cases import OUTPUT, SMALL
from tests.commandline import aecli

SIGNALLED = """if True:
    import os, sys
    from aecli.__main__ import main

    number, moment, seen = int(sys.argv.pop(1)), int(sys.argv.pop(1)), 0

    def look(event, arguments):
        global seen
        if event in ("import", "open"):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), number)

    sys.addaudithook(look)
    try:
        main()
    finally:
        moment = -1
"""
"""Runs a command that gets a signal when it imports or opens something for the n-th time."""
STATUS = {"train": 75, "eval": 143, "sample": 143, "compare": 143}
"""After SIGTERM."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    for seed in (0, 1):
        place = ("trainer.max_epochs=1", f"seed={seed}", f"hydra.run.dir=out/{seed}")
        assert aecli("train", *SMALL, *OUTPUT, *place, cwd=home).returncode == 0
    return home


def signalled(number, moment, *words, cwd):
    command = [sys.executable, "-c", SIGNALLED, str(int(number)), str(moment), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


LINES = {
    "train": (*SMALL, *OUTPUT, "trainer.max_epochs=1"),
    "eval": ("run=out/0", "eval.protocol=none", "device=cpu"),
    "sample": ("run=out/0", "kind=reconstruct", "device=cpu"),
    "compare": ("out/0", "out/1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("command", LINES)
def test_a_signal_at_any_moment_is_one_line(command, number, home):
    draws = random.Random(f"{command} {number}")
    for _ in range(6):
        moment = round(10 ** draws.uniform(0, 3.7))
        done = signalled(number, moment, command, *LINES[command], cwd=home)
        if done.returncode == 0:
            continue  # it came to its end before
        what = (moment, done.returncode, done.stderr)
        assert done.returncode == (130 if number == signal.SIGINT else STATUS[command]), what
        word = "interrupted" if number == signal.SIGINT else "terminated"
        assert done.stderr.startswith(f"aecli: {word}"), what
        assert done.stderr.count("\n") == 1, what


def test_a_signal_at_the_start_is_one_line(tmp_path):
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        done = signalled(number, 5, "compare", cwd=tmp_path)
        word = "interrupted" if number == signal.SIGINT else "terminated"
        assert (done.returncode, done.stderr) == (status, f"aecli: {word}\n")


@pytest.mark.slow
def test_a_signal_to_a_process_without_streams_has_its_status(tmp_path):
    line = [sys.executable, "-m", "aecli", "train", "trainer.max_epochs=100000", "pictures_every=0"]
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *line]
    training = subprocess.Popen(shell, cwd=tmp_path)
    end = time.monotonic() + 120
    while not list(tmp_path.rglob("last.ckpt")):
        assert training.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
    training.send_signal(signal.SIGTERM)
    assert training.wait(60) == 75


def test_a_signal_at_the_start_has_its_status_without_standard_error(tmp_path):
    code = SIGNALLED.replace("main()", "os.close(2); main()")
    command = [sys.executable, "-c", code, str(int(signal.SIGTERM)), "5", "compare"]
    assert subprocess.run(command, cwd=tmp_path).returncode == 143


def test_a_signal_behind_an_error_is_found_and_a_circle_of_causes_ends():
    from aecli.signals import signal_behind

    error, other = ValueError(), OSError()
    error.__context__, other.__context__ = other, KeyboardInterrupt()
    assert isinstance(signal_behind(error), KeyboardInterrupt)
    other.__context__, error.__context__ = None, other
    assert signal_behind(error) is None
    other.__cause__, error.__cause__ = error, other
    assert signal_behind(error) is None
