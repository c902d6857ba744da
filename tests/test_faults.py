"""Every write of every command fails once: one line, nothing lost, the same result afterwards."""

import errno
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.commandline import aecli
from tests.faulty import Disk, failing
from tests.whole import contents

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
EVERY = os.environ.get("AECLI_EVERY_FAULT") == "1"
"""Whether each write fails with each error, not with one of them by turns: an hour."""
SMALL = ("model=ae", "network.hidden=[8]", "model.code_dim=2", "dataset.batch_size=500")
OUTPUT = ("pictures_every=1", "output_dir=out")


class Case(NamedTuple):
    """A command."""

    words: tuple[str, ...]
    folder: str
    """Where it writes."""
    replaces: str = "^$"
    """The old files that it may replace, all others stay as they are."""


ONE = "trainer.max_epochs=1"
OLD = "run=out/old"
SWEEP = ("hydra.sweep.dir=out/sweep", "hydra.sweep.subdir=${hydra:job.num}")
CASES = {
    "sample": Case(("sample", OLD, "kind=reconstruct", "n=4", "device=cpu"), "out/old"),
    "eval": Case(
        ("eval", OLD, "eval.protocol=none", "device=cpu"), "out/old", "metrics.json|eval/"
    ),
    "compare": Case(("compare", "out/old", "out/other", "--output", "mine"), "mine"),
    "train": Case(("train", *SMALL, *OUTPUT, ONE, "hydra.run.dir=out/new"), "out/new"),
    "resume": Case(
        ("train", "resume=out/old", "trainer.max_epochs=2", "output_dir=out"),
        "out/old",
        "old/(metrics.json|checkpoints/|train.log|.hydra/config.yaml|projector)",
    ),
    "sweep": Case(("train", "-m", *SMALL, *OUTPUT, ONE, "seed=0,1", *SWEEP), "out/sweep"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with two finished runs; one was evaluated and sampled from."""
    home = tmp_path_factory.mktemp("home")
    for name, seed in (("old", 0), ("other", 1)):
        place = (f"hydra.run.dir=out/{name}", f"seed={seed}", "trainer.max_epochs=1")
        done = aecli("train", *SMALL, *OUTPUT, *place, cwd=home)
        assert done.returncode == 0, done.stderr
    for case in ("eval", "sample"):
        assert aecli(*CASES[case].words, cwd=home).returncode == 0
    return home


def copied(home, tmp_path):
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
    return Path(shutil.copytree(home, tmp_path / "home", symlinks=True))


def told_apart(writes):
    """Return the numbers of writes to try: of those alike, the first, the middle, the last."""
    alike: dict[str, list[int]] = {}
    for number, write in enumerate(writes, 1):
        name = re.sub(r"\.\w{8}\.part|tfevents.*", "", write)
        alike.setdefault(name, []).append(number)
    return sorted(
        {n for group in alike.values() for n in (group[0], group[len(group) // 2], group[-1])}
    )


def result(place, case):
    """Return what the files say that the command has made, in the newest of its folders."""
    again = place / f"{case.folder}-2"
    return contents(again if again.exists() else place / case.folder)


def check(name, home, tmp_path, every):
    """Let the writes of a case fail, one at a time; return how many did."""
    case = CASES[name]
    place = copied(home, tmp_path)
    with failing(Disk(place)) as disk:
        done = aecli(*case.words, cwd=place)
    assert done.returncode == 0, done.stderr
    expected, numbers = result(place, case), told_apart(disk.writes)
    tried = 0
    for turn, number in enumerate(numbers):
        for error in ERRORS if every else ERRORS[turn % 3 : turn % 3 + 1]:
            where = f"{disk.writes[number - 1]}: {os.strerror(error)}"
            _check_one(case, copied(home, tmp_path), number, error, expected, where)
            tried += 1
    return tried


def _check_one(case, place, number, error, expected, where):
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with failing(Disk(place, number, error)):
        done = aecli(*case.words, cwd=place)
    if done.returncode == 0:  # a line of the log, or a folder that is there already
        assert result(place, case) == expected, where
        return
    assert done.returncode == 1, (where, done.stderr)
    lines = done.stderr.splitlines()
    assert lines, where
    assert lines[0].startswith("aecli: "), (where, done.stderr)
    assert len(lines) == 1 or "-m" in case.words, (where, done.stderr)
    assert "Traceback" not in done.stderr, (where, done.stderr)
    contents(place)  # whole, and no temporary file
    for path, content in before.items():
        name = str(path.relative_to(place))
        if not re.search(case.replaces, name):
            assert path.read_bytes() == content, (where, name)
        assert path.exists(), (where, name)
    again = aecli(*_next_line(case, done.stderr), cwd=place)
    assert again.returncode == 0, (where, done.stderr, again.stderr)
    # A sample that was written before TensorBoard failed is there twice.
    assert expected.items() <= result(place, case).items(), (where, done.stderr)


def _next_line(case, told):
    """Return what the line says to type, or the same command again."""
    if "the same line and" in told:
        return (*case.words, shlex.split(told.split("the same line and ")[1])[0])
    if "to go on with it: aecli " in told:
        return shlex.split(told.splitlines()[0].split("to go on with it: aecli ")[1])
    return case.words


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_write_fails_once(name, home, tmp_path):
    tried = check(name, home, tmp_path, EVERY)
    print(f"{name}: {tried} faults")  # noqa: T201
    assert tried >= 9
