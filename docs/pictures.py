"""Run the lines of the pages in docs/variants/ as they stand there, and renew their pictures.

    python docs/pictures.py            # all pages: an hour on two cores
    python docs/pictures.py vae pca    # these pages

A picture stands below the lines that make it. `variants/vae-traverse.png` is the file `traverse.png`
that they wrote, into `eval/` or `samples/` of the newest run. The output goes to the terminal: the
numbers of a page are copied from it. Needs MNIST, which is downloaded unless `AECLI_DATA` has it.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

VARIANTS = Path(__file__).parent / "variants"
LINE = re.compile(r"^ {4}aecli (?P<line>.+)$|^!\[[^]]*\]\((?P<picture>[\w-]+\.png)\)", re.MULTILINE)


class Step(NamedTuple):
    """A line to type, or a picture of what the lines before it made."""

    words: list[str]
    """What comes after `aecli`; empty for a picture."""
    picture: str = ""


def steps(page: Path) -> Iterator[Step]:
    """Yield the lines of a page's blocks and its pictures, from top to bottom."""
    for found in LINE.finditer(page.read_text()):
        yield Step(shlex.split(found["line"] or "", comments=True), found["picture"] or "")


def made(picture: str, folder: Path) -> Path:
    """Return the file that the newest run below `folder` has for a picture."""
    name = picture.rpartition("-")[2]
    runs = sorted((folder / "outputs").glob("*/*/"), key=lambda run: run.name[:19])
    (path,) = [*runs[-1].glob(f"eval/{name}"), *runs[-1].glob(f"samples/{name}")]
    return path


def renew(page: Path) -> None:
    """Run a page's lines in an empty folder, and copy the pictures beside the page."""
    with tempfile.TemporaryDirectory() as folder:
        for words, picture in steps(page):
            if picture:
                shutil.copy(made(picture, Path(folder)), page.parent / picture)
                continue
            print("$ aecli", shlex.join(words), flush=True)  # noqa: T201
            subprocess.run([sys.executable, "-m", "aecli", *words], cwd=folder, check=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in VARIANTS.glob("*.md")):
        renew(VARIANTS / f"{name}.md")
