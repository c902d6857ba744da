"""Own data in README and docs/own-data.md: the lines as they stand, in a folder with such data."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.commandline import aecli

ROOT = Path(__file__).parents[1]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "own-data.md"
KINDS = ("images", "array", "table", "activations")
SHORT = ("trainer.max_epochs=1", "pictures_every=0")


def commands(section: str, page: Path = PAGE) -> list[list[str]]:
    """Return the words of the lines of a section that can be typed into a shell."""
    text = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    (found,) = [part for part in text if part.startswith(section)]
    blocks = re.findall(r"^ {4}((?:aecli|python examples).*)$", found, flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in blocks]


def typed(words: list[str], folder: Path) -> str:
    """Run a line; return what it printed."""
    if words[0] == "python":
        script = [sys.executable, str(ROOT / words[1]), *words[2:]]
        subprocess.run(script, cwd=folder, check=True)
        return ""
    short = SHORT if words[1] == "train" else ()
    done = aecli(*words[1:], *short, cwd=folder)
    assert (done.returncode, done.stderr) == (0, ""), words
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("section", ["A table with anomalies", "A folder of photos", "An array"])
def test_a_worked_example_runs_as_typed(section, tmp_path):
    lines = commands(section)
    assert len(lines) >= 3
    printed = "".join(typed(words, tmp_path) for words in lines)
    if section == "A table with anomalies":
        assert "212 of 320 examples of the test split are not of the class benign" in printed
        assert len(pd.read_csv(tmp_path / "scores.csv")) == 569
    elif section == "A folder of photos":
        assert "1,200 images, 3 × 48 × 48, from 2 folders as labels" in printed
        assert len(list((tmp_path / "clean").rglob("*.png"))) == 1200
    else:
        assert "read as dataset.layout=images; labels of 10 classes" in printed
        assert np.load(tmp_path / "codes.npz")["codes"].shape == (1797, 20)


def people(folder: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    table = {
        "name": [f"person {number}" for number in range(40)],
        "height": rng.normal(170, 10, 40),
        "age": rng.integers(20, 80, 40),
        "eyes": ["blue", "brown"] * 20,
        "species": ["cat", "dog"] * 20,
    }
    pd.DataFrame(table).to_csv(folder / name, index=False)


def photos(folder: Path, name: str) -> None:
    for number in range(24):
        place = folder / name / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (70, 80, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "section"), [(README, "Your own data"), (PAGE, "# Your own data")]
)
def test_the_ways_in_and_out_run_as_typed(page, section, tmp_path):
    people(tmp_path, "people.csv")
    people(tmp_path, "new.csv")
    for name in ("photos", "new", "noisy"):
        photos(tmp_path, name)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 20)).astype("float32"))
    (tmp_path / "acts").mkdir()
    np.save(
        tmp_path / "acts" / "0.npy", np.random.default_rng(0).normal(size=(6000, 8)).astype("f2")
    )
    lines = commands(section, page)
    trains = {words[2]: words for words in lines if words[1] == "train"}
    assert {word.removeprefix("dataset=") for word in trains} == {*KINDS}
    latest = ""
    for words in (words for words in lines if words[1] != "train"):
        of_images = "dataset.root" in " ".join(words) or words[1] in ("decode", "sample")
        wanted = "dataset=images" if of_images else "dataset=table"
        if words[1] != "data" and latest != wanted:
            typed(trains[wanted], tmp_path)
            latest = wanted
        if words[1] == "decode":
            typed(["aecli", "encode", "run=latest", "out=codes.csv"], tmp_path)
        typed(words, tmp_path)
    typed(trains["dataset=array"], tmp_path)
    typed(trains["dataset=activations"], tmp_path)
    made = [word.removeprefix("out=") for words in lines for word in words if "out=" in word]
    assert len(made) >= (2 if page == README else 5)
    assert all((tmp_path / name).exists() for name in made)
