"""The commands that write, each with where it writes: for the tests that let them fail or die.

All of them are run in a copy of a home, a folder with finished runs, so that there is something to
lose.
"""

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.whole import contents

SMALL = ("model=ae", "network.hidden=[8]", "model.code_dim=2", "dataset.batch_size=500")
OUTPUT = ("pictures_every=1", "output_dir=out")


class Case(NamedTuple):
    """A command."""

    words: tuple[str, ...]
    folder: str
    """Where it writes."""
    replaces: str = "^$"
    """The old files that it may replace; all others stay as they are."""
    takes_away: str = "^$"
    """Those that may be gone until it has ended."""


ONE = "trainer.max_epochs=1"
OLD = "run=out/old"
SWEEP = ("hydra.sweep.dir=out/sweep", "hydra.sweep.subdir=${hydra:job.num}")
CASES = {
    "sample": Case(("sample", OLD, "kind=reconstruct", "n=4", "device=cpu"), "out/old"),
    "eval": Case(
        ("eval", OLD, "eval.protocol=none", "device=cpu"), "out/old", "old/(metrics.json|eval/)"
    ),
    "encode": Case(("encode", OLD, "out=made/codes.parquet", "device=cpu"), "made"),
    "encode_csv": Case(("encode", OLD, "out=made/codes.csv", "device=cpu"), "made"),
    "score": Case(("score", OLD, "normal=0", "out=made/scores", "device=cpu"), "made"),
    "reconstruct": Case(("reconstruct", OLD, "out=made/x.tsv", "device=cpu"), "made"),
    "decode": Case(("decode", OLD, "codes=codes.npz", "out=made/x.npz", "device=cpu"), "made"),
    "sample_out": Case(("sample", OLD, "kind=traverse", "out=made/x", "device=cpu"), "made"),
    "explore": Case(("explore", OLD, "out=made/x.html", "examples=20", "device=cpu"), "made"),
    "data": Case(("data", "dataset=digits", "out=made/sheet.png"), "made"),
    "compare": Case(("compare", "out/old", "out/other", "--output", "mine"), "mine"),
    "train": Case(("train", *SMALL, *OUTPUT, ONE, "hydra.run.dir=out/new"), "out/new"),
    "resume": Case(
        ("train", "resume=out/old", "trainer.max_epochs=2", "output_dir=out"),
        "out/old",
        "old/(metrics.json|checkpoints/|train.log|.hydra/config.yaml|projector)",
        takes_away="old/metrics.json",  # measured on weights that it replaces
    ),
    "sweep": Case(("train", "-m", *SMALL, *OUTPUT, ONE, "seed=0,1", *SWEEP), "out/sweep"),
}


def make_home(home: Path, run: Callable[[Sequence[str], Path], int]) -> Path:
    """Fill a folder: two finished runs, one of them evaluated and sampled from.

    `run` runs a command in a folder and returns its exit status.
    """
    for name, seed in (("old", 0), ("other", 1)):
        place = (f"hydra.run.dir=out/{name}", f"seed={seed}")
        assert run(("train", *SMALL, *OUTPUT, ONE, *place), home) == 0
    for case in ("eval", "sample"):
        assert run(CASES[case].words, home) == 0
    assert run(("encode", OLD, "out=codes.npz", "device=cpu"), home) == 0
    (home / "made").mkdir()
    return home


def copied(home: Path, place: Path) -> Path:
    """Return a new copy of a home at `place`."""
    shutil.rmtree(place, ignore_errors=True)
    return Path(shutil.copytree(home, place))


def result(place: Path, case: Case) -> dict[str, str]:
    """Return what the files say that a command has made, in the newest of its folders."""
    again = place / f"{case.folder}-2"
    return contents(again if again.exists() else place / case.folder)


def harmed(before: dict[Path, bytes], place: Path, case: Case) -> list[Path]:
    """Return the files of before that are gone or changed, and were not the command's to take."""
    return [
        path
        for path, content in before.items()
        if (not path.exists() or path.read_bytes() != content)
        and not re.search(
            case.replaces if path.exists() else case.takes_away, str(path.relative_to(place))
        )
    ]


def everything(place: Path) -> dict[Path, bytes]:
    """Return all files below a folder."""
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def next_words(case: Case, line: str) -> Sequence[str]:
    """Return the command that `line` says to type, or the same once more."""
    if "the same line and" in line:
        return (*case.words, shlex.split(line.split("the same line and ")[1])[0])
    if "to go on with it: aecli " in line:
        return shlex.split(line.splitlines()[0].split("to go on with it: aecli ")[1])
    return case.words
