"""Images of the user's own: the pictures in a folder."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from PIL import ImageColor
from torch import Tensor

from aecli.data.mapped import as_tensor, mapping_of
from aecli.data.module import DataModule
from aecli.data.picture_cache import decoded
from aecli.data.picture_files import Layout, as_text, find, places
from aecli.data.records import Card, Records
from aecli.errors import SettingError, check_choice, check_int, check_list, refused
from aecli.patterns import expanded
from aecli.pictures import RESIZE, Depth, Reading
from aecli.text import counted, dimensions, one_line

CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}
LABELS = ("folders", "none")
LARGEST = 20_000
"""Pixels of a side that images can be given."""
WHITE = (255, 255, 255)
SCALES = {8: 255, 16: 65535}
"""The value of white, by the bits of a channel."""
SHOWN = 3
"""Names of files that could not be read, beside their number."""
files_log = logging.getLogger("pictures")
"""Not below `aecli`: to the log of the run, and not to the terminal."""


class ImageFolder:
    """The pictures in a folder and its subfolders: png, jpg, webp, bmp, gif and tif.

    A folder named train, val, valid, validation or test is a split; see `places`. EXIF orientation
    is applied. Grey values of 16 bits are kept. A file that cannot be read is left out.

    Args:
        size: pixels of a side, or [height, width], of an image; None: as the files are, all alike.
        channels: "grey", "rgb" or "rgba"; None: grey if all files are, else rgb.
        resize: to `size`, "crop" (scaled until it is covered, the rest cut off on both sides),
            "pad" (scaled until it fits, the background around) or "stretch"; None: "crop".
        background: the colour behind transparency and around a padded image, a name such as
            "black" or [red, green, blue] of 0 to 255; None: white.
        labels: "folders": the subfolder of the root, or of the split; "none".
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        channels: str | None = None,
        resize: str | None = None,
        background: str | Sequence[int] | None = None,
        labels: str = "folders",
    ) -> None:
        self.size = None if size is None else _size(size)
        if channels is not None:
            check_choice("dataset.channels", channels, CHANNELS)
        self.channels = channels
        if resize is not None:
            check_choice("dataset.resize", resize, RESIZE)
            if size is None:
                raise SettingError(f"dataset.resize={resize}: goes with dataset.size")
        self.resize = resize or ("crop" if size is not None else None)
        if background is not None and channels == "rgba" and resize != "pad":
            raise SettingError(
                "dataset.background: is not seen with dataset.channels=rgba, but for"
                " dataset.resize=pad"
            )
        self.background = WHITE if background is None else _colour(background)
        self.labels = check_choice("dataset.labels", labels, LABELS)

    def read(self, root: str | None, card: Card | None) -> Records:
        """Return the images of the folder `root`; with a card as large and as deep as it says.

        Raises `SettingError` for a folder without a picture that can be read, and for pictures of
        different sizes where none was set.
        """
        if root is None:
            raise SettingError(
                "dataset.root: must be the path of a folder of pictures, such as"
                " dataset.root=photos"
            )
        pictures = find(expanded(root))
        pixels, unread = decoded(pictures, self.reading(card), self.reading(None))
        for number, why in unread.items():
            files_log.warning("%s: %s", one_line(pictures.names[number]), why)
        names = [name for number, name in enumerate(pictures.names) if number not in unread]
        found = places(names, pictures.root, self.labels == "folders", may_lie_beside=bool(card))
        return Records(
            pixels,
            found.labels,
            found.classes,
            np.array([as_text(name) for name in names]),
            found.splits,
            _understood(pixels, found) + _left_out([pictures.names[n] for n in unread]),
            mapping_of(pixels),
        )

    def fit(self, records: Records, rows: Tensor) -> "ImageCard":
        """Return the card: nothing of it depends on the training split."""
        shape, bits = records.data.shape[1:], 8 * records.data.dtype.itemsize
        return ImageCard(shape, SCALES[bits], self.resize, self.background)

    def reading(self, card: Card | None) -> Reading:
        """Return how pictures are read: as the settings say, or as a run's were."""
        if isinstance(card, ImageCard):
            if self.size not in (None, card.size):
                raise SettingError(
                    f"dataset.size={list(self.size or ())}: the run's images are"
                    f" {dimensions(card.size)}"
                )
            return card.reading
        depth, most = Depth(1, 8), Depth(3, 16)
        if self.channels is not None:
            channels = CHANNELS[self.channels]
            depth, most = Depth(channels, 8), Depth(channels, 16 if channels == 1 else 8)
        return Reading(depth, most, self.size, self.resize, self.background)


class ImageCard(Card):
    """x = v / scale, of images whose pixels v are bytes or 16 bits; how to read more of the same.

    Args:
        shape: (C, H, W).
        scale: the value of white, 255 or 65535.
        resize: how pictures of another size are made as large; None: they are refused.
        background: the colour behind transparency and around a padded image.
    """

    kind = "images"

    def __init__(
        self, shape: Sequence[int], scale: int, resize: str | None, background: Sequence[int]
    ) -> None:
        self.shape, self.scale = tuple(shape), scale
        self.resize = resize
        self.background = tuple(background)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.shape[1], self.shape[2]

    @property
    def reading(self) -> Reading:
        """How pictures are read as the run's were."""
        depth = Depth(self.shape[0], 8 if self.scale == SCALES[8] else 16)
        red, green, blue = self.background
        like = f"the run's images are {dimensions(self.size)}"
        return Reading(depth, depth, self.size, self.resize, (red, green, blue), like)

    def stored(self, data: Any) -> Tensor:
        """Return the pixels as they are, uint8 or uint16."""
        values = as_tensor(data)
        found, bits = tuple(values.shape[1:]), 8 * values.dtype.itemsize
        if found != self.shape or SCALES.get(bits) != self.scale or values.is_floating_point():
            kind = str(values.dtype).removeprefix("torch.")
            raise SettingError(
                f"dataset.root: the images are {dimensions(found)}, {kind}; the run's are"
                f" {dimensions(self.shape)}, up to {self.scale}"
            )
        return values

    def scaled(self, stored: Tensor) -> Tensor:
        """Return values in [0, 1]."""
        return stored.float().div_(self.scale)

    def restored(self, x: Tensor) -> np.ndarray:
        """Return pixels, uint8 or uint16."""
        v = self.leaving(x).round().clamp(0, self.scale).numpy(force=True)
        return v.astype(np.uint8 if self.scale == SCALES[8] else np.uint16)

    @property
    def given_type(self) -> torch.dtype:
        """Bytes; floats for 16 bits, a type that few formats of graphs have."""
        return torch.uint8 if self.scale == SCALES[8] else torch.float32

    def entering(self, given: Tensor) -> Tensor:
        """Return values in [0, 1]."""
        return given.float() / self.scale

    def leaving(self, x: Tensor) -> Tensor:
        """Return the values of pixels, as floats."""
        return x * self.scale

    def state(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            "shape": list(self.shape),
            "scale": self.scale,
            "resize": self.resize,
            "background": list(self.background),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the card of a state."""
        channels, height, width = (check_int("shape", n, 1) for n in state["shape"])
        shape, scale, resize = (channels, height, width), int(state["scale"]), state["resize"]
        if channels not in CHANNELS.values() or scale not in SCALES.values():
            raise SettingError("its data card is of images as there are none")
        if resize is not None:
            check_choice("resize", resize, RESIZE)
        return cls(shape, scale, resize, _colour(list(state["background"])))


class ImageData(DataModule):
    """The splits of a folder; see `ImageFolder`, and `DataModule` for those of the splits."""

    def __init__(
        self,
        root: str | None,
        size: int | Sequence[int] | None = None,
        channels: str | None = None,
        resize: str | None = None,
        background: str | Sequence[int] | None = None,
        labels: str = "folders",
        **splitting: Any,
    ) -> None:
        source = ImageFolder(size, channels, resize, background, labels)
        super().__init__(source, root, **splitting)


_pixels = partial(check_int, low=1, high=LARGEST)
_byte = partial(check_int, low=0, high=255)


def _size(size: Any) -> tuple[int, int]:
    if not isinstance(size, Sequence) or isinstance(size, str):
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST:
            allowed = f"pixels, a whole number from 1 to {LARGEST}, [height,width], or null"
            raise refused("dataset.size", size, allowed)
        return size, size
    height, width = check_list("dataset.size", size, _pixels, "[48,64]", length=2)
    return height, width


def _colour(value: Any) -> tuple[int, int, int]:
    if isinstance(value, str):
        try:
            red, green, blue, *alpha = ImageColor.getrgb(value)
        except ValueError:
            alpha = [0]
        if alpha:
            allowed = "a colour such as black or [255,128,0], or null"
            raise refused("dataset.background", value, allowed)
        return red, green, blue
    red, green, blue = check_list("dataset.background", value, _byte, "[255,128,0]", length=3)
    return red, green, blue


def _understood(pixels: np.ndarray, found: Layout) -> str:
    count, folders = len(pixels), len(found.classes)
    parts = [f"{counted(count, 'images')}, {dimensions(pixels.shape[1:])}"]
    if pixels.dtype == np.uint16:
        parts.append("16 bits")
    if found.splits:
        splits = [f"{len(rows):,} {name}" for name, rows in found.splits.items() if len(rows)]
        parts.append(" and ".join(splits))
    if folders:
        parts.append(f"from {counted(folders, 'folders')} as labels")
    return ", ".join(parts)


def _left_out(names: Sequence[str]) -> str:
    if not names:
        return ""
    some = ", ".join(map(one_line, names[:SHOWN])) + ", …" * (len(names) > SHOWN)
    return f"; {counted(len(names), 'files')} could not be read, see the log: {some}"
