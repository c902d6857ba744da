"""A mistake in what was typed, told by Hydra or OmegaConf, as one plain line. No torch here."""

import re
import sys
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from hydra.errors import MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from aecli.errors import SettingError

HIDDEN = ("_", "hydra")
"""Keys that are Hydra's own."""


def plain(error: Exception) -> str:
    """Return an error about what was typed as one line: key, value, what is allowed."""
    if isinstance(error, SettingError):
        return str(error)
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.partition("/")
        if launcher := re.fullmatch(r"launcher/(\w+)", name):
            extra = "slurm" if launcher[1].startswith("submitit") else "sweep"
            return f'launcher={launcher[1]}: not installed; pip install -e ".[{extra}]"'
        options = _options(group) if group == "experiment" else error.options
        if options:
            return f"{group}={name}: must be one of {', '.join(options)}"
    if "Unexpected type for root: NoneType" in str(error):
        words = [word for word in sys.argv if word.startswith("sweeper.")]
        return f"{' '.join(words)}: goes with sweeper=optuna"
    unknown = re.match(r"Could not override '([^']*)'", str(error))
    if unknown and isinstance(cause, OmegaConfBaseException) and cause.parent_node is not None:
        hint = _similar(unknown[1], cause.parent_node)
        known = [str(name) for name in cause.parent_node if not str(name).startswith(HIDDEN)]
        settings = f"has the settings {', '.join(known)}" if known else "has no settings"
        where = cause.parent_node._get_full_key(None) or "this command"
        return f"{unknown[1]}: no such setting{hint} ({where} {settings} as chosen here)"
    if "missing EQUAL" in str(error):
        return f"{str(error).splitlines()[0]}: must be SETTING=VALUE, such as model=vae"
    if "no viable alternative" in str(error):
        first = str(error).splitlines()[0]
        return f"{first}: put a value with spaces or special characters in quotes"
    # Without OmegaConf's notes on its own types.
    lines = [line.strip() for line in f"{error}\n{cause or ''}".splitlines()]
    noise = ("object_type=", "full_key:", "reference_type=", "See https")
    return "; ".join(line.rstrip(".") for line in lines if line and not line.startswith(noise))


def _options(group: str) -> list[str]:
    """Return the names of a group's options, those in its folders too, as FOLDER/NAME."""
    names: list[str] = []
    for entry in (files("aecli.conf") / group).iterdir():
        if entry.is_dir():
            names += [f"{entry.name}/{option}" for option in _options(f"{group}/{entry.name}")]
        elif entry.name.endswith(".yaml"):
            names.append(entry.name.removesuffix(".yaml"))
    return sorted(names)


def _similar(typed: str, node: Any) -> str:
    """Return a hint at a setting of a similar name, in the same place or in another."""
    parent, _, key = typed.rpartition(".")
    root = node._get_root()
    paths = {str(name): str(name) for name in node if not str(name).startswith(HIDDEN)}
    paths = {name: f"{parent}.{name}" if parent else name for name in paths}
    for group in root:
        if group != "hydra" and hasattr(root._get_node(group), "keys"):
            inside = [str(name) for name in root._get_node(group) if not str(name).startswith("_")]
            paths |= {name: f"{group}.{name}" for name in inside if name not in paths}
    close = get_close_matches(key, paths, n=1)
    return f"; did you mean {paths[close[0]]}?" if close else ""
