"""The groups of `conf/` and their options, such as `vae` of `model`. No torch here."""

import re
from importlib.resources import files

NAME = re.compile(r"[\w-]+(/[\w-]+)*")
"""What the name of an option looks like: no path, and no file."""


def groups() -> list[str]:
    """Return the groups that have options, such as model."""
    folders = [entry.name for entry in files("aecli.conf").iterdir() if entry.is_dir()]
    return [name for name in folders if name != "hydra" and name[0] != "_"]


def options(group: str) -> list[str]:
    """Return the names of a group's options, those in its folders too, as FOLDER/NAME."""
    names: list[str] = []
    for entry in (files("aecli.conf") / group).iterdir():
        if entry.is_dir():
            names += [f"{entry.name}/{option}" for option in options(f"{group}/{entry.name}")]
        elif entry.name.endswith(".yaml"):
            names.append(entry.name.removesuffix(".yaml"))
    return sorted(names)
