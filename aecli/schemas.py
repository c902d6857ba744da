"""The root keys of the configurations: those that no constructor checks.

Hydra holds a configuration against them. What is true or false is `Any`: of a bool, OmegaConf makes
true of 3 and "yes" before `check_bool` sees them. Imported by the command line: no torch here.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


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
    classes: list[Any] | None = MISSING
    train_size: int | None = MISSING
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    ais: AnnealingSettings = field(default_factory=AnnealingSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    gap_images: int | None = None
    gradient_images: int | None = None
    aggregate_images: int | None = None
    generated_images: int | None = None
    pictures: Any = MISSING
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
    prune: Any = True
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
class TargetPlace(DataPlace):
    """Where they lie, and the targets of a transcoder."""

    targets: Any = None


@dataclass
class OfRun:
    """What the commands share that take a run."""

    run: str = MISSING
    output_dir: str = MISSING
    plugins: list[str] = field(default_factory=list)


@dataclass
class EvalConfig(OfRun):
    """`conf/eval.yaml`."""

    dataset: TargetPlace = field(default_factory=TargetPlace)
    device: str = MISSING
    seed: int = 0
    eval: EvalSettings = field(default_factory=EvalSettings)


@dataclass
class SampleConfig(OfRun):
    """`conf/sample.yaml`."""

    dataset: TargetPlace = field(default_factory=TargetPlace)
    device: str = MISSING
    seed: int = 0
    kind: str = MISSING
    n: int | None = None
    steps: int | None = None
    span: float | None = None
    density: str | None = None
    images: list[int] | None = None
    classes: list[Any] | None = None
    out: str | None = None
    overwrite: Any = False


@dataclass
class NewData(DataPlace):
    """New examples for a run: where they lie, and what stands in which column or array."""

    id: str | None = None
    ids: str | None = None
    label: str | None = None
    labels: str | None = None
    key: str | None = None


@dataclass
class PassConfig(OfRun):
    """What the commands share that take examples through a run's model."""

    out: str | None = None
    overwrite: Any = False
    dataset: NewData = field(default_factory=NewData)
    device: str = MISSING
    batch_size: int = MISSING


@dataclass
class NewTargets(NewData):
    """New examples, and the targets that a transcoder shall make of them."""

    targets: Any = None


@dataclass
class ScoreConfig(PassConfig):
    """`conf/score.yaml`."""

    dataset: NewTargets = field(default_factory=NewTargets)
    kind: str | None = None
    quantile: float | None = MISSING
    per_feature: Any = False
    normal: str | None = None
    importance_samples: int | None = None
    neighbors: int | None = None
    seed: int = 0


@dataclass
class DecodeConfig(OfRun):
    """`conf/decode.yaml`."""

    codes: str | None = None
    key: str | None = None
    out: str | None = None
    overwrite: Any = False
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
    overwrite: Any = False


@dataclass
class ExportConfig(OfRun):
    """`conf/export.yaml`."""

    dataset: DataPlace = field(default_factory=DataPlace)
    out: str | None = None
    overwrite: Any = False
    format: str | None = None
    part: str = MISSING


@dataclass
class ExploreConfig(OfRun):
    """`conf/explore.yaml`."""

    run: Any = MISSING
    """A text, or a list of them."""
    out: str | None = None
    overwrite: Any = False
    device: str = MISSING
    split: str = MISSING
    examples: int | None = None
    grids: Any = False
    largest: float = MISSING
    dataset: DataPlace = field(default_factory=DataPlace)


SCHEMAS = {
    "train": TrainConfig,
    "eval": EvalConfig,
    "sample": SampleConfig,
    "pass": PassConfig,
    "score": ScoreConfig,
    "decode": DecodeConfig,
    "data": DataConfig,
    "export": ExportConfig,
    "explore": ExploreConfig,
}
"""By name: what a file in `conf/` calls `NAME_schema`."""
