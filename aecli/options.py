"""The groups of `conf/` and their options, such as `vae` of `model`. No torch here."""

import re
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path

from aecli import plugins

NAME = re.compile(r"[\w-]+(/[\w-]+)*")
"""What the name of an option looks like: no path, and no file."""
CONFIG_DIR = ("-cd", "--config-dir")
"""The flag by which a folder with options of one's own is typed."""


def own_folders() -> list[Path]:
    """Return the folders beside aecli's that groups lie in: the typed one, those of plugins."""
    typed = [Path(folder).absolute() for flag, folder in pairwise(sys.argv) if flag in CONFIG_DIR]
    return [*(folder for folder in typed if folder.is_dir()), *plugins.folders()]


def groups() -> list[str]:
    """Return the groups that have options, such as model."""
    names = [entry.name for entry in files("aecli.conf").iterdir() if entry.is_dir()]
    return [name for name in names if name != "hydra" and name[0] != "_"]


def options(group: str) -> list[str]:
    """Return the names of a group's options, those in its folders too, as FOLDER/NAME."""
    folders = [files("aecli.conf"), *own_folders()]
    return sorted({name for folder in folders for name in _options(folder / group)})


def text_of(group: str, option: str) -> str:
    """Return what the file of one of aecli's own options says; "" for another's."""
    file = files("aecli.conf") / group / f"{option}.yaml"
    return file.read_text() if file.is_file() else ""


def _options(folder: Traversable) -> list[str]:
    names: list[str] = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir():
            names += [f"{entry.name}/{option}" for option in _options(entry)]
        elif entry.name.endswith(".yaml"):
            names.append(entry.name.removesuffix(".yaml"))
    return names
