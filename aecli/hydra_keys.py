"""The settings of Hydra's own that are typed, `hydra.NAME` and `hydra/GROUP`. No torch here."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aecli.errors import SettingError
from aecli.machine import check_processes
from aecli.options import NAME, options

SET_HERE = (
    "hydra.callbacks.new_directory",
    "hydra.callbacks.failures",
    "hydra.job.config_name",
    "hydra.job.id",
    "hydra.job.num",
    "hydra.job.override_dirname",
    "hydra.overrides",
    "hydra.runtime",
)
"""What aecli or Hydra set themselves, and what lies below."""
OF_A_SWEEP = (
    "hydra/launcher",
    "hydra.launcher",
    "hydra/sweeper",
    "hydra.sweeper",
    "hydra.sweep",
)
"""What has an effect in a sweep only, and what lies below; so does another launcher=."""

LAUNCHER = "hydra.launcher"
NO_EFFECT = ("backend", "prefer", "require", "max_nbytes", "mmap_mode", "temp_folder")
"""Settings of joblib's that say how arrays get to a job: here a job is a process, and gets none."""
PRE_DISPATCH = re.compile(r"all|[1-9]\d*|([1-9]\d*\*)?n_jobs")


def is_below(key: str, parents: Sequence[str]) -> bool:
    """Tell whether a key is one of `parents`, or a setting in one."""
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def check_hydra_key(typed: str, key: str, value: Any) -> None:
    """Raise `SettingError` for a key of Hydra's that cannot be set, or not to this value.

    `typed` is the whole word, as messages show it.
    """
    if key == "hydra":
        raise SettingError(f"{typed}: is no setting; Hydra's are typed as hydra.NAME=VALUE")
    if is_below(key, SET_HERE):
        raise SettingError(f"{typed}: cannot be set; it follows from the rest of the line")
    group = key.removeprefix("hydra/")
    if key in ("hydra/launcher", "hydra/sweeper") and isinstance(value, str):
        name = value.removesuffix("_now")
        if name in options(group):
            raise SettingError(f"{typed}: is typed as {group}={name}")
    if key != group and not (isinstance(value, str) and NAME.fullmatch(value)):
        raise SettingError(f"{typed}: must be the name of an option")
    if key == "hydra.run.dir" and Path(str(value)).name in ("", ".."):
        raise SettingError(f"{typed}: must be a new directory, such as hydra.run.dir=mine")
    if key == "hydra.sweep.subdir" and not _is_inside(str(value)):
        raise SettingError(f"{typed}: must be a name in the sweep's folder for each of its runs")
    if key == "hydra.sweeper.params":
        raise SettingError(f"{typed}: cannot be set; type the values, as in -m seed=1,2")
    if key == "hydra.sweeper.max_batch_size" and not (value is None or _is_count(value)):
        raise SettingError(f"{typed}: must be a whole number of at least 1, or null")
    if key == LAUNCHER and isinstance(value, Mapping):
        for name, inside in value.items():
            _check_launcher(typed, str(name), inside)
    elif is_below(key, [LAUNCHER]):
        _check_launcher(typed, key.removeprefix(f"{LAUNCHER}."), value)
    if key == "hydra.searchpath":
        _check_search_path(typed, value)


def _check_launcher(typed: str, name: str, value: Any) -> None:
    """Refuse what joblib itself would refuse in its own words, or what has no effect here."""
    if name in NO_EFFECT:
        raise SettingError(f"{typed}: has no effect; each job is a process that gets no arrays")
    if name == "n_jobs" and value == 0:
        raise SettingError(f"{typed}: must be a whole number of at least 1, or -1 for all cores")
    if name == "n_jobs" and isinstance(value, int):
        check_processes(typed, value)
    if name == "batch_size" and value != "auto" and not _is_count(value):
        raise SettingError(f"{typed}: must be a whole number of at least 1, or auto")
    if name == "pre_dispatch" and not PRE_DISPATCH.fullmatch(str(value)):
        raise SettingError(f"{typed}: must be a whole number of at least 1, 2*n_jobs, or all")
    if name == "timeout" and not (value is None or (_is_number(value) and value > 0)):
        raise SettingError(f"{typed}: must be seconds, a number above 0, or null")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_inside(path: str) -> bool:
    parts = Path(path).parts
    return bool(parts) and not Path(path).is_absolute() and ".." not in parts


def _check_search_path(typed: str, value: Any) -> None:
    folders = value if isinstance(value, list) else [value]
    for folder in folders:
        if not isinstance(folder, str) or not (
            folder.startswith("pkg://") or Path(folder.removeprefix("file://")).is_dir()
        ):
            raise SettingError(f"{typed}: must be a list of folders that are there")
