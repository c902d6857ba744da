"""Run the lines of the pages as they stand there, and renew the pictures below them.

    python docs/pictures.py                    # get-started and the variants: an hour on two cores
    python docs/pictures.py docs/variants/vae.md

A picture stands below the lines that make it: `vae-traverse.png` is the file `traverse.png` that
they wrote into `eval/` or `samples/` of the newest run, or into `comparison/`. The output goes to
the terminal, and a page's numbers are copied from it. Needs MNIST, which is downloaded unless
`AECLI_DATA` has it.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent
PROGRAMS = ("aecli", "createdb", "pip", "pytest", "python", "sphinx-build", "srun", "tensorboard",
            "torchrun")  # fmt: skip
SWEEP = "outputs/sweeps/DATE_TIME"


class Line(NamedTuple):
    """A line to type, from an indented block of a page."""

    words: list[str]
    mark: str
    """Of the comment before the block: "run by FILE", "not run: REASON", "after: LINE", or none."""


class Picture(NamedTuple):
    """A picture on a page that has a hyphen in its name; those without come from benchmarks/."""

    name: str


def steps(page: Path) -> Iterator[Line | Picture]:
    """Yield a page's lines and pictures, from top to bottom."""
    mark = ""
    for text in page.read_text().splitlines():
        if comment := re.fullmatch(r"<!-- (.+) -->", text):
            mark = comment[1]
        elif picture := re.match(r"!\[[^]]*\]\(([\w-]+-\w+\.png)\)", text):
            yield Picture(picture[1])
        elif text.startswith("    ") and text.split()[0] in PROGRAMS:
            if mark.startswith("after: "):
                yield Line(shlex.split(mark.removeprefix("after: ")), "")
                mark = ""
            yield Line(shlex.split(text.removesuffix("\\"), comments=True), mark)
        elif text and not text.startswith("    "):
            mark = ""


def made(picture: str, folder: Path) -> Path:
    """Return the file that the newest run below `folder`, or a comparison, has for a picture."""
    name = picture.rpartition("-")[2]
    runs = sorted((folder / "outputs").rglob(".hydra"), key=lambda path: path.stat().st_mtime)
    run = runs[-1].parent
    places = (run / "eval", run / "samples", folder / "comparison")
    return next(place / name for place in places if (place / name).exists())


def follow(page: Path, folder: Path, run: Callable[[list[str]], object]) -> Iterator[str]:
    """Run a page's lines of aecli that have no mark, in `folder`; yield each picture after them."""
    for step in steps(page):
        if isinstance(step, Picture):
            yield step.name
        elif step.words[0] == "aecli" and not step.mark:
            sweeps = sorted((folder / "outputs" / "sweeps").glob("*"))
            newest = f"outputs/sweeps/{sweeps[-1].name}" if sweeps else SWEEP
            run([word.replace(SWEEP, newest) for word in step.words[1:]])


def renew(page: Path) -> None:
    """Run a page's lines in an empty folder, and copy the pictures beside the page."""

    def run(words: list[str]) -> None:
        print("$ aecli", shlex.join(words), flush=True)  # noqa: T201
        subprocess.run([sys.executable, "-m", "aecli", *words], cwd=folder, check=True)

    with tempfile.TemporaryDirectory() as folder:
        for picture in follow(page, Path(folder), run):
            shutil.copy(made(picture, Path(folder)), page.parent / picture)


if __name__ == "__main__":
    pages = [DOCS / "get-started.md", *sorted((DOCS / "variants").glob("*.md"))]
    for page in map(Path, sys.argv[1:] or pages):
        renew(page)
