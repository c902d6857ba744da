"""What the group `trainer` takes: aecli's own settings and arguments of Lightning's Trainer, each
with its check; and the arguments that it does not take."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from aecli.errors import (
    SettingError,
    check_bool,
    check_choice,
    check_int,
    check_list,
    check_number,
    refused,
    shortened,
)
from aecli.training.speed import FASTEST

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", FASTEST)


def _accelerator(key: str, value: Any) -> None:
    check_choice(key, value, ("auto", "cpu", "gpu"))


def _strategy(key: str, value: Any) -> None:
    check_choice(key, value, ("auto", "ddp"))


def _devices(key: str, value: Any) -> None:
    if isinstance(value, list):
        check_list(key, value, partial(check_int, low=0), "[0,1]", distinct=True)
    elif value != "auto":
        if not isinstance(value, int):
            raise SettingError(
                f"{key}={shortened(value)}: must be a whole number, auto, or a list such as [0,1]"
            )
        check_int(key, value, 1)


def _precision(key: str, value: Any) -> None:
    check_choice(key, value, PRECISIONS)


def _epochs(key: str, value: Any) -> None:
    check_int(key, value, 0)


def _count(key: str, value: Any) -> None:
    check_int(key, value, 1)


def _time(key: str, value: Any) -> None:
    days = re.fullmatch(r"(\d{1,4}):([01]\d|2[0-3]):[0-5]\d:[0-5]\d", str(value))
    if not days or not str(value).strip("0:"):
        raise SettingError(
            f"{key}={shortened(value)}: must be DAYS:HOURS:MINUTES:SECONDS, such as 00:12:00:00"
        )


def _limit(key: str, value: Any) -> None:
    """A whole number of batches, or a share of them."""
    is_share = isinstance(value, float) and 0 < value <= 1
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_share and not is_count:
        raise refused(
            key, value, "a whole number of batches of at least 1, or a share of them in ]0, 1]"
        )


def _clip_value(key: str, value: Any) -> None:
    check_number(key, value, low=0, open_low=True)


def _clip_algorithm(key: str, value: Any) -> None:
    check_choice(key, value, ("norm", "value"))


def _average(key: str, value: Any) -> None:
    check_number(key, value, low=0, high=1, open_low=True, open_high=True)


def _deterministic(key: str, value: Any) -> None:
    if value != "warn" and not isinstance(value, bool):
        raise SettingError(f"{key}={shortened(value)}: must be true, false or warn")


CHECKS: dict[str, Callable[[str, Any], object]] = {
    "accelerator": _accelerator,
    "strategy": _strategy,
    "devices": _devices,
    "num_nodes": _count,
    "precision": _precision,
    "max_epochs": _epochs,
    "min_epochs": _epochs,
    "max_time": _time,
    "limit_train_batches": _limit,
    "limit_val_batches": _limit,
    "check_val_every_n_epoch": _count,
    "accumulate_grad_batches": _count,
    "gradient_clip_val": _clip_value,
    "gradient_clip_algorithm": _clip_algorithm,
    "deterministic": _deterministic,
    "average": _average,
    "benchmark": check_bool,
    "detect_anomaly": check_bool,
}
"""What can be set. Each raises `SettingError` for a value that is not allowed."""

NOT_LIGHTNINGS = ("average",)
"""Those of `CHECKS` that are aecli's own."""

MAY_BE_NULL = {
    "limit_train_batches",
    "limit_val_batches",
    "gradient_clip_val",
    "max_time",
    "benchmark",
    "average",
}

OWN = "aecli sets it itself"
WHOLE = "a run goes by whole epochs; set trainer.max_epochs or trainer.limit_train_batches"
ONLY_TRAINS = "a run trains and validates; aecli eval does the test"
NOT_HERE = "nothing here uses it"
REFUSED = {
    "logger": f"{OWN}: TensorBoard's",
    "callbacks": OWN,
    "plugins": OWN,
    "default_root_dir": f"{OWN}; set output_dir",
    "enable_checkpointing": OWN,
    "enable_progress_bar": OWN,
    "enable_model_summary": OWN,
    "num_sanity_val_steps": OWN,
    "log_every_n_steps": f"{OWN}: values are logged by epoch",
    "use_distributed_sampler": f"{OWN}: batches are split in data/",
    "fast_dev_run": "leaves no run behind; use trainer=debug",
    "max_steps": WHOLE,
    "min_steps": WHOLE,
    "val_check_interval": "a run is validated and saved after whole epochs; set"
    " trainer.check_val_every_n_epoch",
    "limit_test_batches": ONLY_TRAINS,
    "limit_predict_batches": ONLY_TRAINS,
    "overfit_batches": "set dataset.train_size",
    "profiler": "see python -m benchmarks.profile",
    "inference_mode": NOT_HERE,
    "barebones": NOT_HERE,
    "sync_batchnorm": NOT_HERE,
    "reload_dataloaders_every_n_epochs": NOT_HERE,
    "enable_autolog_hparams": NOT_HERE,
    "model_registry": NOT_HERE,
}
"""Those that cannot be set, and why, or what to set instead."""


def check_arguments(trainer: Mapping[str, Any]) -> None:
    """Check what the group `trainer` sets.

    Raises:
        SettingError: for an argument that Lightning's Trainer does not have, one that cannot be
            set, a value that is not allowed, or one without an effect beside the others.
    """
    given = {name: value for name, value in trainer.items() if not name.startswith("_")}
    for name, value in given.items():
        key = f"trainer.{name}"
        if name in REFUSED:
            raise SettingError(f"{key}={shortened(value)}: cannot be set: {REFUSED[name]}")
        if name not in CHECKS:
            raise SettingError(f"{key}: no such setting; must be one of {', '.join(CHECKS)}")
        if value is not None or name not in MAY_BE_NULL:
            CHECKS[name](key, value)
    if "gradient_clip_algorithm" in given and given.get("gradient_clip_val") is None:
        raise SettingError("trainer.gradient_clip_algorithm: goes with trainer.gradient_clip_val")
    if given.get("min_epochs", 0) > given["max_epochs"]:
        raise SettingError(
            f"trainer.min_epochs={given['min_epochs']}: must be at most"
            f" trainer.max_epochs={given['max_epochs']}"
        )
    every = given.get("check_val_every_n_epoch", 1)
    if every > max(given["max_epochs"], 1):
        raise SettingError(
            f"trainer.check_val_every_n_epoch={every}: must be at most"
            f" trainer.max_epochs={given['max_epochs']}"
        )
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if given["accelerator"] == "gpu" and not has_gpu:
        raise SettingError("trainer.accelerator=gpu: no GPU is here; choose trainer=cpu")
    on_cpu = given["accelerator"] == "cpu" or not torch.cuda.is_available()
    if given.get("precision") == "16-mixed":
        if on_cpu:
            raise SettingError("trainer.precision=16-mixed: is for a GPU; choose bf16-mixed")
        if given.get("gradient_clip_val") is not None:
            raise SettingError(
                f"trainer.gradient_clip_val={given['gradient_clip_val']}: goes with any"
                " trainer.precision but 16-mixed, whose gradients are scaled"
            )
    if isinstance(given["devices"], list) and on_cpu:
        raise SettingError(f"trainer.devices={given['devices']}: a list is of GPUs")
    if given.get("strategy") != "ddp":
        if isinstance(given["devices"], int) and given["devices"] > 1:
            raise SettingError(f"trainer.devices={given['devices']}: several need trainer=ddp")
        if given.get("num_nodes", 1) > 1:
            raise SettingError(f"trainer.num_nodes={given['num_nodes']}: several need trainer=ddp")


def check_limits(trainer: Mapping[str, Any], batches: Mapping[str, int]) -> None:
    """Refuse a share of the batches of an epoch that is less than one of them.

    `batches` says how many there are: of "train" and of "val".
    """
    for name, count in batches.items():
        share = trainer.get(f"limit_{name}_batches")
        if isinstance(share, float) and share * count < 1:
            raise refused(
                f"trainer.limit_{name}_batches",
                share,
                f"at least {1 / count:.2g}, one of the {count} batches of an epoch",
            )
