"""Examples that a model has made, in the user's units: to a folder of images, or to a file."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from aecli import files
from aecli.commands.places import file_for, folder_for, is_folder
from aecli.data import Card, Scaled
from aecli.data.files import PICTURES
from aecli.errors import SettingError, shortened
from aecli.rows import Columns, beside, new_rows
from aecli.runs.load import Loaded

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""What Pillow calls images of so many channels."""
ROLES = ("id", "label")
"""Columns that a table may have under other names."""
ARRAYS = (".npy", ".npz")

LONGEST_NAME = 240
"""Bytes of a part of a path; file systems allow 255."""

Add = Callable[[Columns, Tensor], None]
"""Writes examples `(B, *S)` with their columns, such as `id`."""


def place_for(config: DictConfig, example: str) -> Path:
    """Return the new folder or the file that `out=` names, or raise `SettingError`."""
    return folder_for(config, example) if is_folder(config) else file_for(config, example)


@contextmanager
def new_examples(out: Path, config: DictConfig, loaded: Loaded, count: int) -> Iterator[Add]:
    """Yield what writes examples to `out`, which appears whole when the block ends.

    Raises `SettingError` for examples that are no images where `out` is a folder.
    """
    card = loaded.card
    if is_folder(config):
        shape = card.made_shape
        if len(shape) != 3 or shape[0] not in MODES:
            raise SettingError(
                f"out={out}: is a folder for images, and the run's examples are"
                f" {list(shape)}; name a file, such as out={out}.npy"
            )
        with (
            files.new_folder(out) as folder,
            beside(lambda args: save_pictures(folder, *args)) as add,
        ):
            yield lambda columns, x: add((columns["id"], pixels(x, card)))
    else:
        with new_rows(out, count, "x", config.overwrite) as add_rows:
            roles = {role: loaded.config.dataset.get(role) or role for role in ROLES}
            yield lambda columns, x: add_rows(_with(columns, card.restored(x), out, roles))


def _with(columns: Columns, restored: Any, out: Path, roles: Mapping[str, str]) -> Columns:
    """Return the columns and, beside them, those of the examples: an array's or a table's.

    `roles` are the names that a table has for its id and its label.
    """
    if isinstance(restored, np.ndarray):
        return {**columns, "x": restored}
    if out.suffix.lower() in ARRAYS:
        texts = [name for name, kind in restored.dtypes.items() if kind.kind not in "fiub"]
        if texts:
            raise SettingError(
                f"out={out}: an array holds numbers, and there is text in {shortened(texts)};"
                " write to .csv or .parquet"
            )
        return {**columns, "x": restored.to_numpy()}
    own = {str(name): restored[name].to_numpy() for name in restored}
    if both := [name for name in _codes(columns) if name in own]:
        raise SettingError(
            f"out={out}: the table has a column {both[0]}, as the codes have; train on one that"
            " calls it otherwise, or write to .npz, if all of its columns are numbers"
        )
    others = {roles.get(name, name): values for name, values in columns.items()}
    # A feature keeps its name, even if it is called split.
    return {f"{name}_" if name in own else name: c for name, c in others.items()} | own


def _codes(columns: Columns) -> list[str]:
    """Return the names of the columns of codes, if there are codes."""
    return [f"z{unit}" for unit in range(np.shape(columns.get("z", ((),)))[1])]


def save_pictures(folder: Path, ids: np.ndarray, images: Any) -> None:
    """Write images `(B, C, H, W)` as PNG files under their ids, which may have folders in them."""
    for name, image in zip(ids, images, strict=True):
        wanted = folder / _inside(str(name))
        wanted.parent.mkdir(parents=True, exist_ok=True)
        path = wanted.with_name(f"{wanted.name}.png")
        if path.exists():
            free = _free(wanted)
            if str(name).lower().endswith(".png"):  # the name is its own
                path.rename(free)
            else:
                path = free
        _picture(image).save(path, format="PNG")


def _free(wanted: Path) -> Path:
    """Return a path that is not taken: wanted-2.png, or -3, …."""
    return next(
        path
        for number in files.numbered(wanted.name)
        if not (path := wanted.with_name(f"{number}.png")).exists()
    )


def _inside(name: str) -> PurePosixPath:
    """Return a relative path without an ending that leads nowhere else, for the id of an image."""
    parts = re.sub("[\0\ud800-\udfff]", "_", name.replace("\\", "/")).split("/")
    *folders, last = [_cut(part) for part in parts if part.strip(".")] or ["_"]
    stem, dot, ending = last.rpartition(".")
    is_picture = dot + ending.lower() in PICTURES and stem.strip(".")
    return PurePosixPath(*folders, stem if is_picture else last)


def _cut(part: str) -> str:
    return part.encode()[:LONGEST_NAME].decode(errors="ignore")


def pixels(x: Tensor, card: Card) -> np.ndarray:
    """Return images of a model `(B, C, H, W)` as bytes or, where their files had 16 bits, those.

    Grey values in [0, 1] become bytes; so do all that are not kept as the numbers of pixels.
    """
    values = card.restored(x)
    if isinstance(card, Scaled) or values.dtype not in (np.uint8, np.uint16):
        return (x.clamp(0, 1) * 255).round_().byte().numpy(force=True)
    if values.shape == x.shape:
        return values
    # An array's own layout: rows and columns alone, or its channels last.
    return values[:, None] if values.ndim == 3 else values.transpose(0, 3, 1, 2)


def _picture(image: np.ndarray) -> Image.Image:
    """Return an image `(C, H, W)` of bytes or, if it is grey, of 16 bits."""
    if image.dtype == np.uint16 and len(image) > 1:
        image = (image >> 8).astype(np.uint8)  # no PNG that Pillow writes has more
    turned = np.ascontiguousarray(image.transpose(1, 2, 0))
    return Image.fromarray(turned.squeeze(-1) if len(image) == 1 else turned)
