"""Every write of every command fails once: one line, nothing lost, the same result afterwards."""

import errno
import os
import re

import pytest

from tests.cases import CASES, copied, everything, harmed, make_home, next_words, result
from tests.commandline import aecli
from tests.faulty import Disk, failing
from tests.whole import contents

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
EVERY = os.environ.get("AECLI_EVERY_FAULT") == "1"
"""Whether each write fails with each of the errors, not with one of them by turns."""
MOST = 200 if EVERY else 24
"""Writes of a command that fail."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_home(
        tmp_path_factory.mktemp("home"), lambda words, cwd: aecli(*words, cwd=cwd).returncode
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_write_fails_once(name, home, tmp_path):
    case, place = CASES[name], copied(home, tmp_path / "home")
    with failing(Disk(place)) as disk:
        done = aecli(*case.words, cwd=place)
    assert done.returncode == 0, done.stderr
    expected, tried = result(place, case), 0
    for turn, number in enumerate(told_apart(disk.writes)):
        for error in ERRORS if EVERY else ERRORS[turn % 3 : turn % 3 + 1]:
            where = f"{disk.writes[number - 1]}: {os.strerror(error)}"
            check(case, copied(home, tmp_path / "home"), number, error, expected, where)
            tried += 1
    print(f"{name}: {len(disk.writes)} writes, {tried} faults")  # noqa: T201
    assert tried >= 3


def told_apart(writes):
    """Return the numbers of the writes to try: of those alike, the first, the middle, the last.

    `MOST` of them, evenly.
    """
    alike: dict[str, list[int]] = {}
    for number, write in enumerate(writes, 1):
        alike.setdefault(re.sub(r"\.\w{8}\.part|tfevents.*", "", write), []).append(number)
    some = [{group[0], group[len(group) // 2], group[-1]} for group in alike.values()]
    numbers = sorted(set().union(*some))
    step = max(1, len(numbers) / MOST)
    return [numbers[int(i * step)] for i in range(min(MOST, len(numbers)))]


def check(case, place, number, error, expected, where):
    before = everything(place)
    with failing(Disk(place, number, error)):
        done = aecli(*case.words, cwd=place)
    if done.returncode == 0:  # a line of the log, or a folder that is there already
        assert result(place, case) == expected, where
        return
    where = f"{where}\n{done.stderr}"
    assert done.returncode == 1, where
    assert done.stderr.startswith("aecli: "), where
    assert done.stderr.count("\n") == 1 or "-m" in case.words, where
    assert "Traceback" not in done.stderr, where
    contents(place)  # whole, and no temporary file
    assert not harmed(before, place, case), where
    again = aecli(*next_words(case, done.stderr), cwd=place)
    assert again.returncode == 0, (where, again.stderr)
    # A sample that was written before TensorBoard failed is there twice.
    assert expected.items() <= result(place, case).items(), where


class Full(Disk):
    """A disk that is full for what Hydra writes at the start of a run."""

    def count(self, kind, path):
        super().count(kind, path)
        if kind == "write" and ".hydra" in str(path):
            self.fail(kind, str(path))


def test_a_full_disk_at_the_start_names_the_run(tmp_path):
    with failing(Full(tmp_path, error=errno.ENOSPC)):
        done = aecli("train", "trainer=debug", cwd=tmp_path)
    assert done.returncode == 1
    named = r"aecli: \S*outputs/vae-digits/\S+: no space left on the disk; make room\n"
    assert re.fullmatch(named, done.stderr), done.stderr
