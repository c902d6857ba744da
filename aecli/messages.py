"""A mistake in what was typed, found by Hydra or OmegaConf, as one plain line. No torch here."""

import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from aecli.config import composed
from aecli.errors import SettingError
from aecli.overrides import groups, key_of, options

HIDDEN = ("_", "hydra")
"""Keys that are Hydra's own."""
GOES_WITH = {
    "sweeper": "sweeper=optuna",
    "eval": "an experiment=…, which evaluates itself",
    "published": "an experiment=…, which has a result to be held against",
}
"""Settings of `aecli train` that exist only beside another one."""
NOTES = ("object_type=", "full_key:", "reference_type=", "See https")
"""What OmegaConf adds about its own types."""


def plain(error: Exception, command: str) -> str:
    """Return an error about what was typed as one line: key, value, what is allowed."""
    if isinstance(error, SettingError):
        return str(error)
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.partition("/")
        if launcher := re.fullmatch(r"launcher/(\w+)", name):
            extra = "slurm" if launcher[1].startswith("submitit") else "sweep"
            return f'launcher={launcher[1]}: not installed; pip install -e ".[{extra}]"'
        known = options(group) if group == "experiment" else error.options
        if known:
            return f"{group}={name}: must be one of {', '.join(known)}"
    if "Unexpected type for root: NoneType" in str(error):
        words = [word for word in sys.argv if key_of(word).partition(".")[0] in GOES_WITH]
        needed = {GOES_WITH[key_of(word).partition(".")[0]] for word in words}
        return f"{', '.join(words)}: goes with {', '.join(sorted(needed))}"
    unknown = re.match(r"Could not override '([^']*)'", str(error))
    if unknown and isinstance(cause, ConfigKeyError | AttributeError):
        return _no_such_setting(unknown[1], command)
    if isinstance(cause or error, OmegaConfBaseException):
        return of_omegaconf(cause or error)
    lines = [line.strip() for line in f"{error}\n{cause or ''}".splitlines()]
    return "; ".join(line.rstrip(".") for line in lines if line and not line.startswith(NOTES))


def of_omegaconf(error: Any) -> str:
    """Return an error of OmegaConf's, which knows the setting's key, as one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = "; ".join(line.rstrip(".") for line in lines if line and not line.startswith(NOTES))
    told = re.sub(r"field '.*' is not Optional", "must not be null", told)
    key = error.full_key
    # An interpolation is resolved later, where OmegaConf has lost its key.
    typed = [word for word in sys.argv if (key_of(word) == key if key else "${" in word)]
    key = key or ", ".join(typed)
    return f"{typed[-1] if typed else key}: {told}" if key else told


def _no_such_setting(key: str, command: str) -> str:
    choices = [word for word in sys.argv if key_of(word) in groups() and "," not in word]
    try:
        config = OmegaConf.to_container(composed(command, *choices), resolve=False)
    except (HydraException, OmegaConfBaseException):  # one of the choices is a mistake, too
        config = OmegaConf.to_container(composed(command), resolve=False)
    assert isinstance(config, dict)
    node: Any = config
    *path, last = key.split(".")
    reached: list[str] = []
    for name in path:
        if not isinstance(node, Mapping) or not isinstance(node.get(name), Mapping):
            break
        node = node[name]
        reached.append(name)
    known = [name for name in node if not name.startswith(HIDDEN)]
    settings = f"has the settings {', '.join(known)}" if known else "has no settings"
    where = ".".join(reached) or "this command"
    hint = _similar(last, ".".join(path), config)
    return f"{key}: no such setting{hint} ({where} {settings} as chosen here)"


def _similar(name: str, parent: str, config: Mapping[Any, Any]) -> str:
    """Return a hint at a setting of a similar name, in the same place or in another."""
    node = config.get(parent) if parent else config
    here = [key for key in node or () if not key.startswith(HIDDEN)]
    paths = {key: f"{parent}.{key}" if parent else key for key in here}
    for group, inside in config.items():
        if isinstance(inside, Mapping):
            paths |= {k: f"{group}.{k}" for k in inside if k not in paths and k[0] != "_"}
    close = get_close_matches(name, paths, n=1)
    return f"; did you mean {paths[close[0]]}?" if close else ""
