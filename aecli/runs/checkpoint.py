"""What a checkpoint carries of its run: written whole, read without running anything."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import MissingConfigException
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf

from aecli import __version__, files, plugins
from aecli.build import build
from aecli.config import composed, plain
from aecli.data import Card, DataModule
from aecli.data.files import holds
from aecli.data.records import card_of
from aecli.errors import SettingError, check_int
from aecli.models import Autoencoder
from aecli.patterns import expanded
from aecli.runs.archive import CHECKSUM, load_archive
from aecli.runs.checksum import checksum
from aecli.runs.paths import CONFIG, HYDRA, files_of
from aecli.schemas import TrainConfig
from aecli.text import first_line, one_line
from aecli.untrusted import check_tree, read_yaml, resolved

KEY = "aecli"
"""Where a checkpoint carries the run's configuration."""


class Kept(NamedTuple):
    """What a run keeps of its data."""

    card: Card
    fingerprint: str
    """What tells whether the examples are still the same."""


class Stored(NamedTuple):
    """What a run was made with."""

    config: DictConfig
    choices: dict[str, str]
    """The option chosen in each group, such as {"model": "vae"}."""
    version: str
    """Of aecli."""
    arithmetic: tuple[str, bool, bool] | None
    """What `trainer=fast` chose, the fields of `training.speed.Arithmetic`."""
    data: Kept | None = None
    """What was found in its data; None in checkpoints before aecli 0.4.0."""
    step: int = 0
    """Optimizer steps that the checkpoint has seen."""


STANDARD = "aecli.priors.Standard"
"""The prior of checkpoints from before there was a group of them, too."""
NO_PART = ("launcher", "sweeper")
"""Groups that say how jobs are run, not what they compute."""


def parts(choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the choices in the groups of aecli's own parts, out of Hydra's of all groups."""
    return {k: str(v) for k, v in choices.items() if "/" not in k and k not in NO_PART}


def pack(
    config: DictConfig,
    choices: Mapping[str, str],
    arithmetic: tuple[str, bool, bool] | None = None,
) -> dict[str, Any]:
    """Return what a checkpoint carries under `KEY`: plain values, so that it loads safely."""
    values = plain(config)
    values["plugins"] = list(dict.fromkeys([*values.get("plugins", []), *plugins.used(values)]))
    dataset = values["dataset"]
    values["dataset"] = dataset | {k: _absolute(place) for k, place in files_of(dataset).items()}
    return {
        "version": __version__,
        "config": values,
        "choices": dict(choices),
        "arithmetic": None if arithmetic is None else tuple(arithmetic),
    }


def _absolute(place: Any) -> Any:
    """Return a path, a pattern of paths, or a list of such, as it is said from any folder."""
    if isinstance(place, list):
        return list(map(_absolute, place))
    return os.path.abspath(expanded(place))  # noqa: PTH100 (a link keeps its name)


def pack_data(data: DataModule) -> dict[str, Any]:
    """Return what a checkpoint carries of the data.

    Raises `SettingError` for more columns or categories than a checkpoint takes.
    """
    state = data.card.state()
    check_tree(_without_tensors(state), "dataset: its data card")
    return {"kind": data.card.kind, "state": state, "fingerprint": data.fingerprint}


def _without_tensors(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {name: _without_tensors(value) for name, value in node.items()}
    if isinstance(node, list | tuple):
        return [_without_tensors(value) for value in node]
    return None if isinstance(node, torch.Tensor) else node


def stored(checkpoint: Path) -> Stored:
    """Return what the run of a checkpoint was made with, so that it can be trained further.

    Raises `SettingError` as `load` does.
    """
    contents, found = opened(checkpoint)
    with only_setting_errors(checkpoint, contents):
        return _trainable(found)


def stored_beside(directory: Path) -> Stored:
    """Return what a run without a checkpoint was made with, by its `.hydra/`.

    Raises `SettingError` if that is not there, damaged, or not as aecli writes it.
    """
    config = directory / CONFIG
    try:
        choices = parts(read_yaml(directory / HYDRA)["hydra"]["runtime"]["choices"])
        written = read_yaml(config)
        settings = resolved(written, one_line(config))
        found = _checked(directory, pack(OmegaConf.create(settings), choices), weights=None)
        if settings["dataset"].get("shape") is None:
            # The data has not been read: what follows from its shape is still to follow it.
            known = {key: found.config[key] for key in ("dataset", "plugins")}
            found = found._replace(config=OmegaConf.create(written | known))
        return _trainable(found)
    except SettingError:
        raise
    except Exception as error:  # whatever half a file can raise
        raise SettingError(
            f"run={one_line(directory)}: was cut off before its configuration was written; start"
            " it anew"
        ) from error


def opened(path: Path) -> tuple[dict[str, Any], Stored]:
    """Return the contents of a checkpoint and what its run was made with, checked.

    Raises `SettingError` if the checkpoint cannot be read or was not made by aecli.
    """
    contents = read(path)
    with only_setting_errors(path, contents):
        return contents, _unpacked(path, contents)


def read(path: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint file that aecli made; else raise `SettingError`."""
    checkpoint = load_archive(path)
    packed = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(packed, dict):
        raise SettingError(f"run={one_line(path)}: a checkpoint, but not one made by aecli train")
    return checkpoint


@contextmanager
def only_setting_errors(path: Path, checkpoint: dict[str, Any]) -> Iterator[None]:
    """Turn whatever the contents of a checkpoint can raise into a `SettingError`."""
    try:
        yield
    except SettingError:
        raise
    except Exception as error:  # whatever a made-up configuration or made-up weights can raise
        raise SettingError(
            f"run={one_line(path)}: holds no run that aecli {__version__} can load; it was made by"
            f" aecli {one_line(checkpoint[KEY].get('version'))} ({first_line(error)})"
        ) from error


def _unpacked(path: Path, checkpoint: dict[str, Any]) -> Stored:
    """Return what a checkpoint carries under `KEY`, checked against the weights beside it.

    Raises `SettingError`, or what a made-up configuration can raise.
    """
    where = f"run={one_line(path)}"
    check_tree(_without_tensors(checkpoint[KEY]), f"{where}: its configuration")
    found = _checked(path, checkpoint[KEY], checkpoint.get("state_dict") or {})
    step = check_int(f"{where}: global_step", checkpoint.get("global_step"), 0)
    return found._replace(step=step)


def _checked(path: Path, packed: dict[str, Any], weights: Mapping[str, Any] | None) -> Stored:
    where = f"run={one_line(path)}"
    plugins.require(packed["config"].get("plugins", []), where)
    choices = {str(group): str(option) for group, option in packed["choices"].items()}
    if not all(re.fullmatch(r"\w+(/\w+)*", option) for option in choices.values()):
        raise SettingError(f"{where}: its choices are no names of options")
    if "${" in repr(packed["config"]):  # packed resolved: an interpolation was put there since
        raise SettingError(f"{where}: its configuration was tampered with")
    config = OmegaConf.create({"prior": {"_target_": STANDARD}} | packed["config"])
    try:
        own = _own_dataset(choices["dataset"])
        config.dataset["_target_"] = own["_target_"]
    except MissingConfigException:
        own = {}
        _check_own_source(config, f"{where}: its dataset={choices['dataset']}")
    if "source" in own:
        config.dataset.source = source = OmegaConf.create(own["source"])
        if plugins.plugin_of(source.get("_target_")) is None:
            config.dataset.root = _known_root(source, config.dataset.get("root"))
    arithmetic = packed.get("arithmetic")
    if arithmetic is not None:
        precision, compiled, *others = arithmetic  # one more since aecli 0.3.0
        arithmetic = str(precision), bool(compiled), bool(others and others[0])
    _check_kinds(config, where, weights)
    version = one_line(packed.get("version"), 40)
    return Stored(config, choices, version, arithmetic, _kept(packed.get("data"), config))


def _kept(packed: Any, config: DictConfig) -> Kept | None:
    """Return what a checkpoint carries of the data, checked against its configuration."""
    if packed is None:
        return None
    card = card_of(str(packed["kind"]), packed["state"])
    for shape, key in ((card.shape, "shape"), (card.target_shape, "target_shape")):
        if list(shape or ()) != list(config.dataset.get(key) or ()):
            raise SettingError("its data card is of examples of another shape")
    return Kept(card, str(packed["fingerprint"]))


def _trainable(found: Stored) -> Stored:
    """Refuse a configuration that is not, key by key and type by type, one of `aecli train`."""
    config = found.config
    OmegaConf.merge(OmegaConf.structured(TrainConfig), config)
    for field in fields(TrainConfig):
        if field.type is Any and not isinstance(config[field.name], DictConfig):
            raise SettingError(f"{field.name}: must be one of the options of this group")
    check_int("trainer.max_epochs", config.trainer.max_epochs, 0)
    if config.published is not None:
        composed("train", f"experiment={found.choices['experiment']}")
    return found


def _check_kinds(config: DictConfig, where: str, weights: Mapping[str, Any] | None) -> None:
    """Refuse a configuration that describes no run, or a model other than that of the weights."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):  # shapes alone: no memory taken
        # Without a shape the data, which says what a model is built for, has not been read.
        if weights is not None or config.dataset.get("shape") is not None:
            model = build(config, "model")
        for key in ("dataset", "pretraining"):
            build(config, key)
    if weights is not None:
        check_weights(model, weights, where)


def check_weights(model: Autoencoder, weights: Any, where: str) -> None:
    """Refuse weights that are not those of the model by name, shape and type, or not finite."""
    own = model.state_dict()
    if not isinstance(weights, Mapping) or own.keys() != weights.keys():
        raise SettingError(f"{where}: its weights are not those of its model")
    for name, value in own.items():
        found = weights[name]
        if not isinstance(found, torch.Tensor) or found.shape != value.shape:
            raise SettingError(f"{where}: weights of {name} are not of shape {tuple(value.shape)}")
        if found.dtype != value.dtype or found.layout != torch.strided:
            raise SettingError(f"{where}: weights of {name} are not of type {value.dtype}")
        if not found.isfinite().all():
            raise SettingError(f"{where}: has weights that are not finite")


def _check_own_source(config: DictConfig, where: str) -> None:
    """Refuse a data set that no option here describes, if it has addresses to download from.

    All other sources read what lies at `dataset.root`, `file` or `files`, if something lies there.
    """
    if "mirrors" in config.dataset.get("source", {}):
        raise SettingError(
            f"{where}: has addresses that this aecli does not know; type the --config-dir that has"
            " this option"
        )


@cache
def _own_dataset(dataset: str) -> dict[str, Any]:
    """Return what a data set is made of, with its addresses and sums, as this aecli has it."""
    return plain(composed("train", f"dataset={dataset}").dataset)


def _known_root(source: DictConfig, root: str | None) -> str | None:
    """Return the folder that a checkpoint names if the data is there, else None.

    Data that is not there would be downloaded into that folder.
    """
    place = {key: source.get(key) for key in ("name", "folder", "sha256")}
    return root if root and place["sha256"] and holds(**place, root=root) else None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints to temporary files and renames them, so that none is ever cut off.

    `rebuilt`, set when the trainer exists, returns the checked copy of a checkpoint.
    """

    rebuilt: Callable[[dict[str, Any], Path], dict[str, Any]]

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`."""
        checkpoint = checkpoint | {CHECKSUM: checksum(checkpoint)}
        with files.replacing(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch hides why a file cannot be written
                raise OSError(first_line(error)) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint without running anything in it; hand over nothing unchecked."""
        checkpoint = read(Path(path))
        with only_setting_errors(Path(path), checkpoint):
            return self.rebuilt(checkpoint, Path(path))
