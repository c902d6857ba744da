"""Configurations: how they are composed, and what of them is computed.

The names of run directories, the size of a code. Imported by the command line: no torch here.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import is_dataclass
from functools import cache
from typing import Any, cast, get_args, get_type_hints

from hydra import compose, initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from aecli.computed import code_dim, dictionary_lr
from aecli.errors import SettingError, shortened
from aecli.options import own_folders
from aecli.overrides import key_of
from aecli.schemas import SCHEMAS

NAME_LENGTH = 100
"""Characters of a run's name that list its settings; file systems allow 255 for a name."""


def label(overrides: Sequence[str], *without: str) -> str:
    """Return what was typed as the end of a folder's name, such as `_model-vae_seed-1`, or "".

    `without` is left out, and so are the settings that say where things lie.
    """
    unwanted = {"output_dir", "dataset.root", "launcher", "sweeper", "resume", "plugins"}
    if "dataset=images" in overrides:
        unwanted.remove("dataset.root")  # which is the data
    unwanted |= {*without}
    keys = [key_of(override) for override in overrides]
    kept = [
        re.sub(r"\d+\.\d{5,}(e-?\d+)?", lambda number: f"{float(number[0]):.4g}", override)
        for key, override in zip(keys, overrides, strict=True)
        if key not in unwanted and not key.startswith("sweeper.")
    ]
    # Only characters that need no quotes, neither in a shell nor in Hydra's run=….
    parts = [re.sub(r"[^\w.+]+", "-", override).strip("-") for override in kept]
    return "".join(f"_{part}" for part in parts)[:NAME_LENGTH]


def _label_of_this_run(*without: str) -> str:
    # As typed: an interpolation in it would be resolved in the wrong place.
    task = HydraConfig.get().overrides.task
    return label(list(map(str, OmegaConf.to_container(task, resolve=False) or ())), *without)


def plain(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain values, its interpolations resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


def composed(command: str, *overrides: str, of_hydra: bool = False) -> DictConfig:
    """Return a command's configuration as this aecli has it, with `overrides` typed.

    With `of_hydra`, Hydra's own settings are in it, too.
    """
    register()
    composing = GlobalHydra.instance().is_initialized()
    with nullcontext() if composing else initialize_config_module("aecli.conf", version_base="1.3"):
        return compose(command, list(overrides), return_hydra_config=of_hydra)


def refuse_unknown(config: DictConfig) -> None:
    """Raise `SettingError` for a key that was added by + and that nothing would read."""
    kind = OmegaConf.get_type(config)
    _refuse_unknown(cast(Any, OmegaConf.to_container(config, resolve=False)), cast(type, kind), "")


def _refuse_unknown(node: Mapping[str, Any], kind: type, path: str) -> None:
    known = get_type_hints(kind)
    for name, value in node.items():
        if name not in known:
            raise SettingError(f"{path}{name}: no such setting; must be one of {', '.join(known)}")
        kinds = [k for k in (known[name], *get_args(known[name])) if is_dataclass(k)]
        if kinds and isinstance(value, Mapping):
            _refuse_unknown(value, cast(type, kinds[0]), f"{path}{name}.")


def typed_plugins(config: DictConfig) -> list[str]:
    """Return the plugins of a configuration of the command line.

    Raises `SettingError` if a file of settings names them and the user has not.
    """
    names = cast(list[str], OmegaConf.to_container(config.plugins, resolve=True))
    typed = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    if names and "plugins" not in map(key_of, cast(list[str], typed)):
        raise SettingError(
            f"plugins={shortened(names)}: stands in a file of settings; type it if you trust it"
        )
    return names


def typed() -> list[str]:
    """Return the overrides of this command's line; none where Hydra did not start it."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def is_sweep() -> bool:
    """Return whether Hydra runs the jobs of a sweep in this process, or is about to."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


class OwnOptions(SearchPathPlugin):
    """Lets Hydra find the options of the typed folder and of installed plugins, after aecli's.

    Hydra adds the typed one itself, but not where a message composes a configuration once more.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders."""
        for folder in own_folders():
            search_path.append("aecli", f"file://{folder}")


@cache  # for good: all of it is of the process
def register() -> None:
    """Make the schemas, the resolvers and the options of plugins known to Hydra."""
    if OwnOptions not in Plugins.instance().discover(SearchPathPlugin):
        Plugins.instance().register(OwnOptions)
    store = ConfigStore.instance()
    # Hydra copies this singleton along with its list of sources, a hundred times for one --help;
    # what is loaded from it is a copy anyway.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    for name, schema in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=schema)
    OmegaConf.register_new_resolver("label", _label_of_this_run, replace=True)
    OmegaConf.register_new_resolver("code_dim", code_dim, replace=True)
    OmegaConf.register_new_resolver("dictionary_lr", dictionary_lr, replace=True)
