"""The root keys of the configurations: those that no constructor checks.

Also the resolvers: the names of run directories, and a size of the code. Imported by the command
line: no torch here.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, is_dataclass
from math import prod
from typing import Any, cast, get_args, get_type_hints

from hydra import compose, initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf

from aecli.errors import SettingError, shortened
from aecli.options import own_folders
from aecli.overrides import key_of

NAME_LENGTH = 100
"""Characters of a run's name that list its settings; file systems allow 255 for a name."""


@dataclass
class EarlyStopping:
    """Stop when `monitor` has not improved by `min_delta` for `patience` epochs; None: never."""

    patience: int | None = None
    min_delta: float = 0.0


@dataclass
class FinetuneSettings:
    """How `eval.protocol=finetune` trains; see `conf/eval/standard.yaml`."""

    lr: float = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING
    batch_size: int = MISSING
    max_epochs: int = MISSING
    patience: int = MISSING
    precision: str = MISSING
    average: float | None = MISSING


@dataclass
class ProbeSettings:
    """How `eval.protocol=probe` fits; see `conf/eval/standard.yaml`."""

    C: float = MISSING
    tolerance: float = MISSING
    steps: int = MISSING


@dataclass
class AnnealingSettings:
    """How log p(x) is estimated by annealed importance sampling; see `conf/eval/standard.yaml`."""

    steps: int = MISSING
    chains: int = MISSING
    images: int = MISSING


@dataclass
class EvalSettings:
    """What `aecli eval` measures; see `conf/eval/standard.yaml`."""

    checkpoint: str = MISSING
    batch_size: int = MISSING
    importance_samples: int = MISSING
    decoded_at_once: int = MISSING
    noise: str = MISSING
    noise_levels: list[float] = MISSING
    protocol: str = MISSING
    classes: list[int] | None = MISSING
    train_size: int | None = MISSING
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    ais: AnnealingSettings = field(default_factory=AnnealingSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    pictures: bool = MISSING
    top_rows: int | None = MISSING
    latents: list[int] | None = MISSING


@dataclass
class Published:
    """A paper's result on the test set, with which an experiment is compared."""

    metric: str = MISSING
    """A name in `aecli eval`'s table, or `…_accuracy` for 100 − `…_error`."""
    value: float | None = MISSING
    """None where none is known."""
    goal: float | None = MISSING
    """Reached when it is not worse than this."""
    source: str = MISSING
    evidence: str = MISSING
    """How the value is known: read there, quoted by somebody else, or from memory."""


@dataclass
class SweeperSettings:
    """How `sweeper=optuna` searches; see `conf/sweeper/optuna.yaml`."""

    trials: int = MISSING
    at_once: int | None = None
    prune: bool = True
    seed: int = 0
    study: str | None = None
    storage: str | None = None
    space: dict[str, Any] | None = None


@dataclass
class TrainConfig:
    """`conf/train.yaml`."""

    dataset: Any = MISSING
    trainer: Any = MISSING
    network: Any = MISSING
    noise: Any = MISSING
    sparsity: Any = MISSING
    likelihood: Any = MISSING
    optimizer: Any = MISSING
    model: Any = MISSING
    pretraining: Any = MISSING
    prior: Any = MISSING
    eval: EvalSettings | None = None
    published: Published | None = None
    sweeper: SweeperSettings | None = None
    objective: str = MISSING
    resume: str | None = None
    seed: int = 0
    output_dir: str = MISSING
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    pictures_every: int = MISSING
    plugins: list[str] = field(default_factory=list)


@dataclass
class DataPlace:
    """Where the data files lie now."""

    root: str | None = None
    file: str | None = None
    files: Any = None
    """A pattern, or a list of them."""


@dataclass
class EvalConfig:
    """`conf/eval.yaml`."""

    run: str = MISSING
    output_dir: str = MISSING
    dataset: DataPlace = field(default_factory=DataPlace)
    device: str = MISSING
    seed: int = 0
    plugins: list[str] = field(default_factory=list)
    eval: EvalSettings = field(default_factory=EvalSettings)


@dataclass
class SampleConfig:
    """`conf/sample.yaml`."""

    run: str = MISSING
    output_dir: str = MISSING
    dataset: DataPlace = field(default_factory=DataPlace)
    device: str = MISSING
    seed: int = 0
    plugins: list[str] = field(default_factory=list)
    kind: str = MISSING
    n: int | None = None
    steps: int | None = None
    span: float | None = None
    density: str | None = None
    images: list[int] | None = None
    classes: list[Any] | None = None
    out: str | None = None
    overwrite: bool = False


@dataclass
class NewData(DataPlace):
    """New examples for a run: where they lie, and what stands in which column or array."""

    id: str | None = None
    ids: str | None = None
    label: str | None = None
    labels: str | None = None
    key: str | None = None


@dataclass
class PassConfig:
    """What the commands share that take examples through a run's model."""

    run: str = MISSING
    output_dir: str = MISSING
    plugins: list[str] = field(default_factory=list)
    out: str | None = None
    overwrite: bool = False
    dataset: NewData = field(default_factory=NewData)
    device: str = MISSING
    batch_size: int = MISSING


@dataclass
class ScoreConfig(PassConfig):
    """`conf/score.yaml`."""

    kind: str | None = None
    quantile: float | None = MISSING
    per_feature: bool = False
    normal: str | None = None
    importance_samples: int | None = None
    neighbors: int | None = None
    seed: int = 0


@dataclass
class DecodeConfig:
    """`conf/decode.yaml`."""

    run: str = MISSING
    output_dir: str = MISSING
    plugins: list[str] = field(default_factory=list)
    codes: str | None = None
    key: str | None = None
    out: str | None = None
    overwrite: bool = False
    device: str = MISSING
    batch_size: int = MISSING


@dataclass
class DataConfig:
    """`conf/data.yaml`."""

    plugins: list[str] = field(default_factory=list)
    dataset: Any = MISSING
    trainer: Any = MISSING
    network: Any = MISSING
    likelihood: Any = MISSING
    output_dir: str = MISSING
    out: str | None = None
    overwrite: bool = False


@dataclass
class ExportConfig:
    """`conf/export.yaml`."""

    run: str = MISSING
    output_dir: str = MISSING
    dataset: DataPlace = field(default_factory=DataPlace)
    out: str | None = None
    overwrite: bool = False
    format: str | None = None
    part: str = MISSING
    plugins: list[str] = field(default_factory=list)


def label(overrides: Sequence[str], *without: str) -> str:
    """Return what was typed as the end of a folder's name, such as `_model-vae_seed-1`, or "".

    `without` is left out, and so are the settings that say where things lie.
    """
    unwanted = {"output_dir", "dataset.root", "launcher", "sweeper", "resume", "plugins"}
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


def code_dim(most: int, shape: Sequence[int] | None) -> int:
    """Return a size of the code for examples of a shape: `most`, and no more than half of them."""
    return most if shape is None else min(most, -(-prod(shape) // 2))


def dictionary_lr(latents: Any) -> float:
    """Return 2·10⁻⁴ · √(2¹⁴/n), the rate of a dictionary of n latents (Gao et al. 2024)."""
    is_size = isinstance(latents, int) and latents > 0  # else the model refuses it
    return 2e-4 * (2**14 / latents) ** 0.5 if is_size else 2e-4


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


def register() -> None:
    """Make the schemas, the resolvers and the options of plugins known to Hydra."""
    if OwnOptions not in Plugins.instance().discover(SearchPathPlugin):
        Plugins.instance().register(OwnOptions)
    store = ConfigStore.instance()
    # Hydra copies this singleton along with its list of sources, a hundred times for one --help;
    # what is loaded from it is a copy anyway.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="eval_schema", node=EvalConfig)
    store.store(name="sample_schema", node=SampleConfig)
    store.store(name="pass_schema", node=PassConfig)
    store.store(name="score_schema", node=ScoreConfig)
    store.store(name="decode_schema", node=DecodeConfig)
    store.store(name="data_schema", node=DataConfig)
    store.store(name="export_schema", node=ExportConfig)
    OmegaConf.register_new_resolver("label", _label_of_this_run, replace=True)
    OmegaConf.register_new_resolver("code_dim", code_dim, replace=True)
    OmegaConf.register_new_resolver("dictionary_lr", dictionary_lr, replace=True)
