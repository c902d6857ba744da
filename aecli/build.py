"""Configuration → objects: the only caller of Hydra's `instantiate`.

A configuration may come out of a checkpoint that a stranger made, so a `_target_` is imported and
called only if it is a part of aecli.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aecli.errors import SettingError
from aecli.text import first_line, one_line

TRAINER = "lightning.pytorch.Trainer"
PARTS = (
    "aecli.data",
    "aecli.likelihoods",
    "aecli.models",
    "aecli.networks",
    "aecli.noise",
    "aecli.optimizers",
    "aecli.pretraining",
    "aecli.sparsity",
)
"""The modules whose public classes a configuration may name."""


def is_part(target: Any) -> bool:
    """Tell whether a `_target_` is a public class that one of `PARTS` defines."""
    module, _, name = str(target).rpartition(".")
    if module not in PARTS or name.startswith("_"):
        return False
    part = getattr(import_module(module), name, None)
    return isinstance(part, type) and f"{part.__module__}.".startswith(f"{module}.")


def build(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Return the object that `config[key]` describes, with its parts.

    `arguments` join those of the configuration.

    Raises:
        SettingError: for a `_target_` that is no part of aecli, a value that a part refuses, or
            a setting that it does not have.
    """
    # Resolved first: what is checked is then what is called.
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise SettingError(first_line(error)) from error
    if not isinstance(plain.get(key), dict) or "_target_" not in plain[key]:
        raise SettingError(
            f"{key}={one_line(plain.get(key))}: must be one of the options of this group"
        )
    for path, name, value in _directives(plain[key], key):
        if name != "_target_":
            raise SettingError(f"{path}: no such setting; {name} is Hydra's, not aecli's")
        if not is_part(value) and (value, path) != (TRAINER, "trainer._target_"):
            raise SettingError(
                f"{path}={one_line(value)}: not a part of aecli; nothing of it was run"
            )
    try:
        return instantiate(plain[key], _convert_="all", **arguments)
    except InstantiationException as error:
        raise _mistake(error, key) from error


def _directives(node: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the path, the name and the value of each key that tells Hydra what to call, and how."""
    if isinstance(node, dict):
        for name, value in node.items():
            here = f"{path}.{name}"
            if isinstance(name, str) and name.startswith("_") and name.endswith("_"):
                yield here, name, value
            yield from _directives(value, here)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _directives(value, f"{path}[{index}]")


def _mistake(error: InstantiationException, key: str) -> SettingError:
    """Return the `SettingError` under Hydra's error, or one with its innermost cause's message.

    A part is made of settings alone: if making it fails, a setting was wrong.
    """
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, SettingError):
        cause = cause.__cause__
    if isinstance(cause, SettingError):
        return cause
    message = " ".join(str(cause).split()) or type(cause).__name__
    return SettingError(f"{key}: {one_line(message, 1000)}")
