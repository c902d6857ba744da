"""Every command is killed at random moments: nothing is lost, and the next try ends the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases import CASES

REPOSITORY = Path(__file__).parents[1]
MOMENTS = int(os.environ.get("AECLI_KILLS", "10"))
"""Kills of each command."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_command_killed_at_random_moments_ends_as_one_that_never_was(name, tmp_path):
    command = [sys.executable, "-m", "tests.killing", str(tmp_path), name, str(MOMENTS)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)  # noqa: T201
