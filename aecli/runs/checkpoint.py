"""What a checkpoint carries of its run: written whole, read without running anything."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf

from aecli import __version__, files
from aecli.config import composed
from aecli.errors import SettingError, first_line

KEY = "aecli"
"""Where a checkpoint carries the run's configuration."""


class Stored(NamedTuple):
    """What a run was made with."""

    config: DictConfig
    choices: dict[str, str]
    """The option chosen in each group, such as {"model": "vae"}."""
    version: str
    """Of aecli."""
    arithmetic: tuple[str, bool] | None
    """What `trainer=fast` chose: the precision, and whether the terms are compiled."""


NO_PART = ("launcher", "sweeper")
"""Groups that say how jobs are run, not what they are."""


def parts(choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the choices in the groups of aecli's own parts, out of Hydra's of all groups."""
    return {k: str(v) for k, v in choices.items() if "/" not in k and k not in NO_PART}


def pack(
    config: DictConfig,
    choices: Mapping[str, str],
    arithmetic: tuple[str, bool] | None = None,
) -> dict[str, Any]:
    """Return what a checkpoint carries under `KEY`: plain values, so that it loads safely."""
    plain = OmegaConf.to_container(config, resolve=True)
    if plain["dataset"].get("root"):
        plain["dataset"]["root"] = str(Path(plain["dataset"]["root"]).expanduser().resolve())
    return {
        "version": __version__,
        "config": plain,
        "choices": dict(choices),
        "arithmetic": None if arithmetic is None else tuple(arithmetic),
    }


def stored(checkpoint: Path) -> Stored:
    """Return what the run of a checkpoint was made with.

    Raises `SettingError` as `load` does.
    """
    packed = read(checkpoint)[KEY]
    with only_setting_errors(checkpoint, packed):
        return unpack(checkpoint, packed)


def stored_beside(directory: Path) -> Stored:
    """Return what a run was made with that has no checkpoint yet, from its `.hydra/`.

    Raises `SettingError` if that is not there, or damaged.
    """
    try:
        hydra = OmegaConf.load(directory / ".hydra" / "hydra.yaml").hydra
        config = OmegaConf.load(directory / ".hydra" / "config.yaml")
        return unpack(directory, pack(config, parts(hydra.runtime.choices)))
    except Exception as error:  # whatever half a file can raise
        raise SettingError(
            f"run={directory}: was cut off before its configuration was written; start it anew"
        ) from error


def read(path: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint file that aecli made; else raise `SettingError`."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the reading of arbitrary bytes can raise
        raise SettingError(
            f"run={path}: cannot be read as a checkpoint: damaged, cut off, or not made by aecli"
            f" ({first_line(error)[:100]})"
        ) from error
    packed = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(packed, dict):
        raise SettingError(f"run={path}: a checkpoint, but not one made by aecli train")
    return checkpoint


@contextmanager
def only_setting_errors(path: Path, packed: dict[str, Any]) -> Iterator[None]:
    """Turn whatever the contents of a checkpoint can raise into a `SettingError`."""
    try:
        yield
    except SettingError:
        raise
    except Exception as error:  # whatever a made-up configuration or made-up weights can raise
        raise SettingError(
            f"run={path}: holds no run that aecli {__version__} can load; it was made by"
            f" aecli {packed.get('version')} ({first_line(error)[:100]})"
        ) from error


def unpack(path: Path, packed: dict[str, Any]) -> Stored:
    """Return what a checkpoint carries under `KEY`, checked."""
    choices = {str(group): str(option) for group, option in packed["choices"].items()}
    if not all(re.fullmatch(r"\w+(/\w+)*", option) for option in choices.values()):
        raise SettingError(f"run={path}: its choices are no names of options")
    if "${" in repr(packed["config"]):  # packed resolved: an interpolation was put there since
        raise SettingError(f"run={path}: its configuration was tampered with")
    config = OmegaConf.create(packed["config"])
    config.dataset.source = _own_source(choices["dataset"])
    arithmetic = packed.get("arithmetic")
    if arithmetic is not None:
        precision, compiled = arithmetic
        arithmetic = str(precision), bool(compiled)
    return Stored(config, choices, str(packed.get("version")), arithmetic)


def _own_source(dataset: str) -> DictConfig:
    """Return the source of a data set, its addresses and sums, as this aecli has it."""
    source = composed("train", f"dataset={dataset}").dataset.source
    return OmegaConf.create(OmegaConf.to_container(source, resolve=True))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints are replaced whole: never cut off."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`."""
        with files.replacing(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch hides why a file cannot be written
                raise OSError(first_line(error)) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint without running anything in it."""
        return read(Path(path))
