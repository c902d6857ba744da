"""Configuration → objects: the only caller of Hydra's `instantiate`.

A configuration may come out of a checkpoint that a stranger made, so a `_target_` is imported and
called only if it is a part of aecli, or one of a plugin that the user has named.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from aecli import plugins
from aecli.config import plain
from aecli.errors import SettingError, shortened
from aecli.messages import of_omegaconf
from aecli.overrides import WIRED
from aecli.size import check_fits
from aecli.text import one_line

TRAINER = "lightning.pytorch.Trainer"
PARTS = (
    "aecli.data",
    "aecli.dictionaries",
    "aecli.likelihoods",
    "aecli.models",
    "aecli.networks",
    "aecli.noise",
    "aecli.optimizers",
    "aecli.pretraining",
    "aecli.priors",
    "aecli.sparsity",
)
"""The modules and packages whose public classes a configuration may name."""

BASES = {
    "dataset": "aecli.data.DataModule",
    "source": "aecli.data.Source",
    "likelihood": "aecli.likelihoods.Likelihood",
    "model": "aecli.models.Autoencoder",
    "network": "aecli.networks.Network",
    "noise": "aecli.noise.Noise",
    "optimizer": "aecli.optimizers.Optimization",
    "pretraining": "aecli.pretraining.Pretraining",
    "prior": "aecli.priors.Prior",
    "sparsity": "aecli.sparsity.Sparsity",
}
"""The class that a part of a plugin extends, by the key under which the part stands."""


def is_part(target: Any) -> bool:
    """Return whether a `_target_` is a public class of `PARTS` or of a module in them."""
    module, _, name = str(target).rpartition(".")
    package, _, last = module.rpartition(".")
    if module not in PARTS and not (package in PARTS and last.isidentifier()):
        return False
    try:
        part = getattr(import_module(module), name, None)
    except ModuleNotFoundError:
        return False
    is_public = isinstance(part, type) and not name.startswith("_")
    return is_public and f"{part.__module__}.".startswith(f"{module}.")


def check_own_part(path: str, target: Any) -> None:
    """Refuse a `_target_` at a path of the configuration that is no part of a trusted plugin.

    The module of another one is not imported, and not looked up.

    Raises:
        SettingError: naming the path, the target and what it must be.
    """
    shown = f"{path}={one_line(target)}"
    module, _, name = str(target).rpartition(".")
    plugin = plugins.plugin_of(module)
    if plugin is None:
        hint = f"; add plugins=[{module}] if you trust it" if plugins.NAME.fullmatch(module) else ""
        raise SettingError(f"{shown}: not a part of aecli, and nothing of it was run{hint}")
    part = getattr(plugins.imported(module, plugin), name, None)
    group = path.split(".")[-2]
    wanted = [BASES[group]] if group in BASES else list(BASES.values())
    bases = tuple(_located(base) for base in wanted)
    is_own = isinstance(part, type) and f"{part.__module__}.".startswith(f"{plugin}.")
    # By the order of resolution: what a metaclass says of its subclasses is not asked.
    extends = any(base in getattr(part, "__mro__", ()) for base in bases)
    if not (is_own and extends) or name.startswith("_"):
        what = group if group in BASES else "part"
        raise SettingError(
            f"{shown}: is no {what}; must be a public class of {plugin} that extends"
            f" {' or '.join(wanted)}"
        )


def _located(name: str) -> type:
    module, _, kind = name.rpartition(".")
    return getattr(import_module(module), kind)


def build(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Return the object that `config[key]` describes, with its parts.

    `arguments` join those of the configuration.

    Raises:
        SettingError: for a `_target_` that is no part of aecli or of a trusted plugin, or one of
            another kind, a value that a part refuses, or a setting that it does not have.
    """
    # Resolved first: what is checked is then what is called.
    try:
        node = plain(config).get(key)
    except OmegaConfBaseException as error:
        raise SettingError(of_omegaconf(error)) from error
    if not isinstance(node, dict) or "_target_" not in node:
        raise SettingError(f"{key}={one_line(node)}: must be one of the options of this group")
    for path, name, value in _directives(node, key):
        if name != "_target_":
            raise SettingError(f"{path}: no such setting; {name} is Hydra's, not aecli's")
        if not is_part(value) and (value, path) != (TRAINER, "trainer._target_"):
            check_own_part(path, value)
    if key == "model":
        _check_weights(node)
    made = _made(node, key, **arguments)
    if key in BASES and not isinstance(made, _located(BASES[key])):
        raise SettingError(f"{key}._target_={one_line(node['_target_'])}: is no {key}")
    return made


def _made(node: dict[str, Any], key: str, **arguments: Any) -> Any:
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        raise _mistake(error, key, node) from error


def _check_weights(node: dict[str, Any]) -> None:
    """Refuse a model whose weights there is no memory for, before any is taken.

    It is made on torch's "meta" device first, where a tensor has a shape and no memory.
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = _made(node, "model")
    if not isinstance(model, torch.nn.Module):
        return
    size = sum(weight.nbytes for weight in model.state_dict().values())
    check_fits(f"{sizes(node)}: the weights", size)


def sizes(node: dict[str, Any]) -> str:
    """Return the settings that decide about a model's size, as they are typed."""
    lists = {k: v for k, v in (node.get("network") or {}).items() if isinstance(v, list)}
    lists.pop("shape", None)
    lists_typed = [f"network.{key}={value}" for key, value in lists.items()]
    prior = {k: v for k, v in (node.get("prior") or {}).items() if isinstance(v, int)}
    counts_typed = [f"prior.{key}={value}" for key, value in prior.items()]
    typed = [f"model.code_dim={node.get('code_dim')}", *counts_typed, *lists_typed]
    return shortened(", ".join(typed))


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


def _mistake(error: InstantiationException, key: str, node: dict[str, Any]) -> SettingError:
    """Return the `SettingError` under Hydra's error, or one with its innermost cause's message.

    A part is made of settings alone: if making it fails, a setting was wrong.
    """
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, SettingError):
        cause = cause.__cause__
    if isinstance(cause, SettingError):
        return cause
    if isinstance(cause, RuntimeError) and "overflowed" in str(cause):
        return SettingError(f"{sizes(node)}: the weights are more than fits in any memory")
    if unknown := re.search(
        r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(cause)
    ):
        return _no_such_setting(node, key, *unknown.groups())
    for plugin in plugins.used(node):
        if plugins.place_of(cause, plugin):
            return SettingError(f"{key}: {plugins.told(cause, plugin)}")
    message = " ".join(str(cause).split()) or type(cause).__name__
    return SettingError(f"{key}: {one_line(message, 1000)}")


def _no_such_setting(node: dict[str, Any], key: str, kind: str, name: str) -> SettingError:
    """Return the error of a setting that a part, of the class `kind`, does not have."""
    parts = {key: node} | {k: inside for k, inside in node.items() if isinstance(inside, dict)}
    having = {group: part for group, part in parts.items() if name in part}
    named = [group for group, part in having.items() if part["_target_"].endswith(f".{kind}")]
    group = (named or list(having) or [key])[0]
    part = having.get(group, {})
    others = [
        k for k in part if k not in (name, *parts) and k[0] != "_" and f"{group}.{k}" not in WIRED
    ]
    has = f"has the settings {', '.join(others)}" if others else "has no settings"
    typed = f"{group}.{name}={shortened(part[name])}" if part else f"{group}.{name}"
    return SettingError(f"{typed}: no such setting ({group} {has} as chosen here)")
