"""CONTRIBUTING.md, followed as it stands there in a copy of the repository."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
KINDS = ("noise", "sparsity", "variant", "data set")
PAGES = ("README.md", "CONTRIBUTING.md", "pyproject.toml")
COPIED = ("aecli", "conf", "hydra_plugins", "tests", "docs", *PAGES)


class Change(NamedTuple):
    """A block of code with the place where the page wants it."""

    path: str
    place: str
    """"new" for a new file, "end", or the start of the line that it comes after."""
    code: str


def section(kind: str) -> str:
    """Return the page's section about a kind of part."""
    (text,) = re.findall(rf"^## A {kind}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return text


def changes(kind: str) -> list[Change]:
    """Return the changes to files that a section asks for."""
    found = []
    blocks = re.findall(r"((?:^.+\n)+)\n```(\w+)\n((?:.*\n)*?)```", section(kind), re.MULTILINE)
    for words, language, code in blocks:
        if language == "sh":
            continue
        path = re.findall(r"`([\w/]+\.\w+)`", words)[-1]
        place = "new" if "new file" in words else "end"
        if row := re.search(r"after the row of `(\w+)`", words):
            place = f"| `{row[1]}` |"
        found.append(Change(path, place, code))
    return found


def commands(kind: str) -> list[list[str]]:
    """Return the command lines of a section, as they are run in the copy."""
    lines = "".join(re.findall(r"```sh\n(.*?)```", section(kind), re.DOTALL)).splitlines()
    modules = {"aecli": ["aecli"], "pytest": ["pytest", "-n0", "-q", "-p", "no:cacheprovider"]}
    return [[sys.executable, "-m", *modules[w[0]], *w[1:]] for w in map(shlex.split, lines)]


def apply(change: Change, root: Path) -> None:
    """Make a change to the files below `root`."""
    path = root / change.path
    if change.place == "new":
        path.write_text(change.code)
        return
    lines = path.read_text().splitlines(keepends=True)
    if change.place == "end":
        lines.append(f"\n\n{change.code}")
    else:
        (row,) = (number for number, line in enumerate(lines) if line.startswith(change.place))
        lines.insert(row + 1, change.code)
    path.write_text("".join(lines))


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_takes_at_most_four_files(kind):
    paths = {change.path for change in changes(kind)}
    assert {Path(path).parts[0] for path in paths} >= {"aecli", "conf", "tests"}
    assert len(paths) == len(changes(kind)) <= 4
    for change in changes(kind):
        assert (ROOT / change.path).exists() == (change.place != "new"), change.path
        if change.path.endswith(".py"):
            ast.parse(change.code)
        if change.path.endswith(".yaml"):
            assert yaml.safe_load(change.code)
    assert commands(kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_added_as_the_page_says_trains(tmp_path, kind):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        elif source.exists():
            shutil.copy(source, copy / name)
    for change in changes(kind):
        apply(change, copy)
    for command in commands(kind):
        done = subprocess.run(
            command,
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (shlex.join(command), done.stdout, done.stderr)
    assert list(copy.glob("outputs/*/*/metrics.json"))
