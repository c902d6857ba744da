"""A run's directory: what lies where, how it is found, and how its model comes back.

<run>/.hydra/            the configuration as typed and composed
<run>/checkpoints/       best.ckpt (least val/loss) and last.ckpt
<run>/metrics.json       validation metrics; those of the test set after `aecli eval`
<run>/events.out…        TensorBoard
<run>/train.log          the log, with every warning
<run>/eval/, samples/    what the other two commands make
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf

from aecli import __version__
from aecli.build import build
from aecli.config import composed
from aecli.data import InMemoryDataModule
from aecli.directories import newest, number_of
from aecli.errors import SettingError
from aecli.models import Autoencoder

log = logging.getLogger(__name__)

BEST, LAST = "best", "last"
KEY = "aecli"
"""Where a checkpoint carries the run's configuration."""


@dataclass(frozen=True)
class Run:
    """A trained model on disk."""

    directory: Path
    checkpoint: Path

    def at(self, name: str) -> "Run":
        """Return the run with the checkpoint `name`, "best" or "last"."""
        checkpoint = self.directory / "checkpoints" / f"{name}.ckpt"
        return Run(self.directory, checkpoint) if checkpoint.is_file() else self


@dataclass(frozen=True)
class Loaded:
    """A run in memory."""

    run: Run
    config: DictConfig
    choices: dict[str, str]
    """The option chosen in each group, such as {"model": "vae"}."""
    model: Autoencoder
    """In evaluation mode, on the device asked for."""
    data: InMemoryDataModule
    """Set up, on the same device."""
    step: int
    """Optimizer steps that the checkpoint has seen."""

    def labelled_data(
        self, classes: Sequence[int] | None, train_size: int | None
    ) -> InMemoryDataModule:
        """Return the run's data, or the same data set with other classes or fewer images."""
        if classes is None and train_size is None:
            return self.data
        config = self.config.copy()
        config.dataset.classes = config.dataset.classes if classes is None else classes
        config.dataset.train_size = train_size
        data = build(config, "dataset")
        try:
            data.setup()
        except SettingError as error:
            raise SettingError(f"eval.classes, eval.train_size: {error}") from error
        data.move(self.data.device)
        return data


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


def find(spec: str, output_dir: str) -> list[Run]:
    """Return the runs that `run=spec` means.

    "latest" is the newest with a checkpoint under `output_dir`; else a checkpoint file, a run's
    directory, or a sweep's with all of its runs.

    Raises `SettingError` if there is none.
    """
    if spec == "latest":
        return [_latest(Path(output_dir))]
    path = Path(spec).expanduser()
    if path.is_file():
        inside = path.parent.name == "checkpoints" and (path.parent.parent / ".hydra").is_dir()
        # What is made of a file that lies elsewhere gets a folder of its own beside it.
        return [Run(path.parent.parent if inside else path.with_name(f"{path.stem}-aecli"), path)]
    if not path.is_dir():
        raise SettingError(
            f"run={spec}: no such file or directory; must be a run's directory, a sweep's, a"
            " checkpoint file, or latest"
        )
    if run := _in(path):
        return [run]
    children = sorted((child for child in path.iterdir() if child.is_dir()), key=number_of)
    if runs := [run for child in children if (run := _in(child))]:
        for child in children:
            if (child / ".hydra").is_dir() and not _in(child):
                log.warning("left out: %s has no checkpoint", child)
        return runs
    if (path / ".hydra").is_dir():
        raise SettingError(
            f"run={spec}: has no checkpoint: its training stopped before the end of an epoch, or"
            " has not come so far yet"
        )
    raise SettingError(f"run={spec}: not a run's directory: it has no checkpoints in it")


def load(run: Run, device: str = "auto", root: str | None = None) -> Loaded:
    """Return the run's model and data.

    `root` is where the data lies now, if not where it did in training. A checkpoint may come from
    a stranger: nothing in it is run, and where data is fetched from is taken from this aecli.

    Raises `SettingError` if the checkpoint cannot be read or was not made by aecli.
    """
    target = _device(device)
    checkpoint = _read(run.checkpoint)
    with _only_setting_errors(run.checkpoint, checkpoint[KEY]):
        return _restore(run, checkpoint, target, root)


def stored(checkpoint: Path) -> Stored:
    """Return what the run of a checkpoint was made with.

    Raises `SettingError` as `load` does.
    """
    packed = _read(checkpoint)[KEY]
    with _only_setting_errors(checkpoint, packed):
        return _unpack(checkpoint, packed)


def stored_beside(directory: Path) -> Stored:
    """Return what a run was made with that has no checkpoint yet, from its `.hydra/`.

    Raises `SettingError` if that is not there, or damaged.
    """
    try:
        hydra = OmegaConf.load(directory / ".hydra" / "hydra.yaml").hydra
        config = OmegaConf.load(directory / ".hydra" / "config.yaml")
        return _unpack(directory, pack(config, parts(hydra.runtime.choices)))
    except Exception as error:  # whatever half a file can raise
        raise SettingError(
            f"run={directory}: was cut off before its configuration was written; start it anew"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the reading of arbitrary bytes can raise
        raise SettingError(
            f"run={path}: cannot be read as a checkpoint: damaged, cut off, or not made by aecli"
            f" ({_first_line(error)})"
        ) from error
    packed = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(packed, dict):
        raise SettingError(f"run={path}: a checkpoint, but not one made by aecli train")
    return checkpoint


@contextmanager
def _only_setting_errors(path: Path, packed: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except SettingError:
        raise
    except Exception as error:  # whatever a made-up configuration or made-up weights can raise
        raise SettingError(
            f"run={path}: holds no run that aecli {__version__} can load; it was made by"
            f" aecli {packed.get('version')} ({_first_line(error)})"
        ) from error


def _unpack(path: Path, packed: dict[str, Any]) -> Stored:
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


def _restore(run: Run, checkpoint: dict, device: torch.device, root: str | None) -> Loaded:
    config, choices, *_ = _unpack(run.checkpoint, checkpoint[KEY])
    known = config.dataset.get("root")
    config.dataset.root = root or (known if known and Path(known).is_dir() else None)
    model, data = build(config, "model"), build(config, "dataset")
    if not isinstance(model, Autoencoder) or not isinstance(data, InMemoryDataModule):
        raise SettingError(f"run={run.checkpoint}: its configuration is not that of a run")
    model.load_state_dict(checkpoint["state_dict"])
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise SettingError(f"run={run.checkpoint}: has weights that are not finite")
    data.setup()
    data.move(device)
    model = model.eval().requires_grad_(False).to(device)
    return Loaded(run, config, choices, model, data, int(checkpoint["global_step"]))


def _own_source(dataset: str) -> DictConfig:
    """Return the source of a data set, its addresses and sums, as this aecli has it."""
    source = composed("train", f"dataset={dataset}").dataset.source
    return OmegaConf.create(OmegaConf.to_container(source, resolve=True))


def update_metrics(directory: Path, values: Mapping[str, Any]) -> Path:
    """Add `values` to the run's `metrics.json` and return its path."""
    path = directory / "metrics.json"
    write_text(path, json.dumps(read_metrics(directory) | dict(values), indent=2) + "\n")
    return path


def read_metrics(directory: Path) -> dict[str, Any]:
    """Return what the run's `metrics.json` holds, nothing if there is none.

    Raises `SettingError` if the file is damaged.
    """
    path = directory / "metrics.json"
    try:
        values = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise SettingError(f"{path}: damaged; move it away and try again")
    return values


def write_text(path: Path, text: str) -> None:
    """Write a file that is either the old or the new one, whole, at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints are written to a temporary name, synced, then renamed: never cut off."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")  # one name: a killed run leaves no more
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch hides why a file cannot be written
            free = shutil.disk_usage(path.parent).free
            raise SettingError(
                f"{path}: cannot be written, with {free / 1e6:.1f} MB free on its disk; the"
                " checkpoint from before is as it was"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint without running anything in it."""
        return _read(Path(path))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


def _in(directory: Path) -> Run | None:
    for name in (BEST, LAST):
        checkpoint = directory / "checkpoints" / f"{name}.ckpt"
        if checkpoint.is_file():
            return Run(directory, checkpoint)
    return None


def _latest(outputs: Path) -> Run:
    for directory in newest(outputs):
        if run := _in(directory):
            return run
    raise SettingError(
        f"run=latest: no run with a checkpoint under {outputs}/; aecli train makes one"
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "gpu") or (name == "gpu" and not torch.cuda.is_available()):
        raise SettingError(f"device={name}: must be auto, cpu, or gpu where there is one")
    return torch.device("cuda" if name == "gpu" else "cpu")
