"""What lies in a folder of runs: whether every file of it is whole, and what it says."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

VOLATILE = ("date", "train_seconds", "pretrain_seconds", "seconds")
"""What `metrics.json` says of the clock."""
JOURNALS = re.compile(r"events\.out|\.log$|\.lock$|^\.hydra/|/\.hydra/|projector|/\d{5}/")
"""Files that grow, or that Hydra and TensorBoard write: cut off, they are read up to there."""


def contents(folder: Path, *, killed: bool = False) -> dict[str, str]:
    """Return a digest of what each file below `folder` says, by its path; all must be whole.

    Left out are journals and, if `killed`, the hidden files that a killed writer leaves. Raises
    whatever the reader of a damaged file raises, and `AssertionError` for a hidden file otherwise.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if re.search(r"(^|/)\.[^/]*\.part(/|$)", name):
            assert killed, f"{name} was left"
        elif path.is_file() and not JOURNALS.search(name):
            found[name] = hashlib.sha256(_said(path)).hexdigest()
    return found


def _said(path: Path) -> bytes:
    """Return what a file says, without the time it was made."""
    if path.suffix == ".ckpt":
        weights = torch.load(path, weights_only=True)["state_dict"]
        return b"".join(weights[key].numpy().tobytes() for key in sorted(weights))
    if path.suffix == ".json":
        return json.dumps(_without_times(json.loads(path.read_text()))).encode()
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return b"".join(arrays[key].tobytes() for key in sorted(arrays))
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return np.asarray(picture).tobytes()
    if path.suffix == ".yaml":
        return b"" if yaml.safe_load(path.read_text()) else b"empty"
    assert path.stat().st_size > 0, path
    return path.read_bytes()


def _without_times(values: dict) -> dict:
    return {
        key: _without_times(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if key not in VOLATILE
    }
