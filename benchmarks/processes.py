"""What a command costs from the shell: seconds and memory of whole processes."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

IMPORTS = [sys.executable, "-c", "import torch, lightning.pytorch"]
AECLI = [sys.executable, "-m", "aecli"]


class Cost(NamedTuple):
    """Of one process, its children included."""

    seconds: float
    """On the clock."""
    cpu_seconds: float
    megabytes: float
    """At its peak."""


FIRST_STEP = """
import os
from aecli.training.loop import EpochLoop
step = EpochLoop.advance
EpochLoop.advance = lambda *loop: (step(*loop), os._exit(0))
from aecli.cli import main
main()
"""
"""`aecli`, ended after a training's first step."""
RUN = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


def cost(command: Sequence[str]) -> Cost:
    """Run a command, its output thrown away; return what it took."""
    # From a small process of its own: a child's peak counts the memory of whoever started it.
    output = subprocess.run(
        [sys.executable, "-S", "-c", RUN, *command], capture_output=True, text=True, check=True
    )
    seconds, cpu_seconds, peak = (float(value) for value in output.stdout.split())
    return Cost(seconds, cpu_seconds, peak / (1 << (20 if sys.platform == "darwin" else 10)))


def bare_command() -> float:
    """Return the seconds of `aecli` alone."""
    return cost(AECLI).seconds


def help_command() -> float:
    """Return the CPU seconds of `aecli train --help`."""
    return cost([*AECLI, "train", "--help"]).cpu_seconds


def wrong_option() -> float:
    """Return the CPU seconds of a mistyped option."""
    return cost([*AECLI, "train", "modle=vae"]).cpu_seconds


def start_up() -> float:
    """Return the time of `aecli train` up to its first step over that of importing Lightning."""
    imports = cost(IMPORTS).seconds
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "dataset=digits", f"output_dir={folder}"]
        return cost([sys.executable, "-c", FIRST_STEP, *words]).seconds / imports


def memory() -> float:
    """Return the peak of an MNIST run over that of importing torch and Lightning, in MB."""
    imports = cost(IMPORTS).megabytes
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "dataset=mnist", "trainer.max_epochs=2", f"output_dir={folder}"]
        return cost([*AECLI, *words]).megabytes - imports
