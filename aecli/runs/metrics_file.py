"""A run's `metrics.json`. No torch here."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aecli import files
from aecli.errors import SettingError
from aecli.runs.paths import METRICS, shown
from aecli.untrusted import read_json

KINDS = {
    "epochs": int,
    "asked_epochs": int,
    "val": dict,
    "test": dict,
    "choices": dict,
    "experiment": dict,
}
"""What other parts of aecli read out of the file, and of which type it is."""


def update_metrics(
    directory: Path, values: Mapping[str, Any], beside: Mapping[Path, bytes] | None = None
) -> Path:
    """Add `values` to the run's `metrics.json` and return its path.

    The files `beside` it, such as the pictures of an evaluation, are replaced together with it.
    """
    path = directory / METRICS
    with files.alone_in(directory):  # another command may add its values at this moment
        together = read_metrics(directory) | dict(values)
        files.write_together({**(beside or {}), path: f"{json.dumps(together, indent=2)}\n"})
    return path


def read_metrics(directory: Path) -> dict[str, Any]:
    """Return what the run's `metrics.json` holds, nothing if there is none.

    Raises `SettingError` if the file is damaged or not one that aecli writes.
    """
    path = directory / METRICS
    if not os.path.lexists(path):
        return {}
    try:
        values = read_json(path)
        if not isinstance(values, dict):
            raise SettingError(f"{shown(path)}: damaged (it holds no metrics)")
    except FileNotFoundError as error:
        raise SettingError(f"{shown(path)}: is a link to nothing; move it away") from error
    except SettingError as error:
        raise SettingError(f"{error}; move it away and try again") from error
    for key, kind in KINDS.items():
        if key in values and not isinstance(values[key], kind):
            raise SettingError(f"{shown(path)}: damaged ({key}); move it away and try again")
    return values
