"""The lines that README and docs tell people to type run, in a short form.

Each page's lines run from top to bottom in one folder, as a reader would type them. A comment
before a block says who else runs it, or why nobody does:

    <!-- run by tests/test_own_data_page.py -->
    <!-- not run: hours -->
    <!-- after: aecli train model.code_dim=2 -->     a line that the block needs before it

`tests/test_readme.py` composes every line in full, those in sentences and tables, too.
"""

import re
from pathlib import Path

import pytest

from docs.pictures import Line, follow, made, steps
from tests.commandline import aecli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHORT = {
    "train": {
        "dataset": "digits",
        "launcher": "basic",
        "pictures_every": "1",
        "trainer.max_epochs": "1",
        "trainer.limit_train_batches": "2",
        "trainer.limit_val_batches": "1",
    },
    "eval": {"eval.protocol": "none", "eval.importance_samples": "2"},
}
"""What is set in place of what the page has, by command."""


def shortened(words: list[str]) -> list[str]:
    """Return a line with short settings; of a sweep the first two runs."""
    command, *typed = words
    short = SHORT.get(command, {})
    kept = [word for word in typed if word.partition("=")[0] not in short]
    if "-m" in kept:
        lists = [word for word in kept if re.match(r"[\w.]+=[^,\[(]+,", word)]
        count = dict.fromkeys(lists, 1) | dict.fromkeys(lists[:1], 2)
        kept = [",".join(word.split(",")[: count.get(word)]) for word in kept]
    return [command, *kept, *(f"{key}={value}" for key, value in short.items())]


def lines(page: Path) -> list[Line]:
    return [step for step in steps(page) if isinstance(step, Line)]


def rows(page: Path) -> list[str]:
    """Return the lines of `aecli train` that are a cell of a table."""
    cells = re.findall(r"\| `aecli (train [^`…]+)` \|", page.read_text())
    return [cell.replace(r"\|", "|") for cell in cells]


def is_run(line: Line) -> bool:
    return line.words[0] == "aecli" and not line.mark


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_does_not_run_here_is_marked(page):
    for words, mark in lines(page):
        # Those of TensorBoard are opened by tests/training/test_tensorboard.py.
        assert mark or words[0] in ("aecli", "tensorboard"), words
        if found := re.fullmatch("run by (.+)", mark):
            assert (ROOT / found[1]).is_file()
        else:
            assert not mark or re.fullmatch(r"not run: \w.+", mark), mark
    if page.name != "CONTRIBUTING.md":  # whose fences are run by tests/test_contributing.py
        assert "```sh" not in page.read_text()  # only indented blocks are looked at


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(map(is_run, lines(page)))], ids=lambda page: page.stem
)
def test_the_lines_of_a_page_run(page, tmp_path):
    def run(words):
        if words[0] != "train" and not (tmp_path / "outputs").exists():
            run(["train"])
        done = aecli(*shortened(words), cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), words

    for picture in follow(page, tmp_path, run):
        assert made(picture, tmp_path).stat().st_size > 0
    for row in rows(page):
        run(row.split())


def test_a_short_form_keeps_what_the_line_is_about():
    line = "train -m model=ae,vae,pca seed=0,1,2 network.hidden=[9,8,7] dataset=mnist"
    short = " ".join(shortened(line.split()))
    assert short.startswith("train -m model=ae,vae seed=0 network.hidden=[9,8,7] dataset=digits")
