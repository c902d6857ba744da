"""Pictures in files → pixels. No torch here: a process that decodes starts in a moment.

Pillow reads PNG, JPEG, WebP, BMP, GIF (its first frame) and TIFF (its first page). Grey values of
16 bits are kept; Pillow has no colours of more than 8 bits. Sizes are (height, width).
"""

import io
import os
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from aecli.errors import SettingError
from aecli.text import dimensions, first_line, one_line

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MOST_BYTES = 512 << 20
"""Of a file: that of the largest picture that Pillow takes, not compressed."""
RESIZE = ("crop", "pad", "stretch")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for pixels of so many channels."""
DEEP = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow's modes of more than 8 bits."""
GREY = DEEP | {"1", "L", "LA", "La", "F"}
TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}
STEP = 257
"""65535 / 255: from a grey value of 8 bits to one of 16."""


class Depth(NamedTuple):
    """What a pixel is."""

    channels: int
    """1: grey, 3: red, green, blue; 4: and alpha."""
    bits: int
    """Of a channel: 8, or 16 of grey ones."""

    def joined(self, other: "Depth") -> "Depth":
        """Return the least depth that holds pictures of both."""
        channels = max(self.channels, other.channels)
        return Depth(channels, max(self.bits, other.bits) if channels == 1 else 8)


@dataclass(frozen=True)
class Reading:
    """How pictures are read."""

    depth: Depth
    most: Depth
    """As deep as a picture may ask for; one of more is converted."""
    size: tuple[int, int] | None
    """(H, W); None: not known yet."""
    resize: str | None
    """One of `RESIZE`; None: a picture of another size is refused."""
    background: tuple[int, int, int]
    """Red, green and blue, 0 … 255, behind transparency and around a padded picture."""
    like: str = ""
    """What has this size, in the words of a refusal."""


class Deeper(Exception):  # noqa: N818 (no error: the reading is to start again)
    """A picture needs a greater `Depth`, the only argument."""


class OtherSize(Exception):  # noqa: N818 (no error: the caller knows which picture it is)
    """A picture has another size than the others: the message."""


def opened(path: str) -> Image.Image:
    """Return a picture whose header is read, and its pixels are not.

    Raises `OSError`, `ValueError`, or whatever a damaged file makes Pillow raise.
    """
    # Not blocking: a pipe may have the name of a picture.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no regular file")
        if status.st_size > MOST_BYTES:
            raise ValueError(f"is larger than {MOST_BYTES:,} bytes")
        contents = os.read(descriptor, status.st_size)
    finally:
        os.close(descriptor)
    return Image.open(io.BytesIO(contents), formats=FORMATS)


def upright(image: Image.Image) -> Image.Image:
    """Load a picture and turn it as its EXIF orientation says."""
    image.load()
    if image.info:  # what stands beside the pixels; many small pictures have nothing
        ImageOps.exif_transpose(image, in_place=True)
    return image


def needed(image: Image.Image, most: Depth) -> Depth:
    """Return the depth that keeps what a picture has, and no more than `most`."""
    channels = 1 if _is_grey(image) else 3
    bits = 16 if image.mode in DEEP else 8
    return Depth(min(channels, most.channels), min(bits, most.bits))


def pixels(image: Image.Image, reading: Reading) -> np.ndarray:
    """Return a picture as `(C, H, W)`, uint8 or uint16.

    Raises `Deeper`, `SettingError` for another size where none was set, and whatever a damaged file
    makes Pillow raise.
    """
    depth = reading.depth.joined(needed(image, reading.most))
    if depth != reading.depth:
        raise Deeper(depth)
    assert reading.size is not None, "found out first"
    if reading.resize is not None:
        # A JPEG is decoded at 1/2, 1/4 or 1/8, as long as that is twice what is wanted.
        image.draft(None, (2 * max(reading.size),) * 2)
    image = upright(image)
    image = _deep(image, depth) if image.mode in DEEP else _flat(image, reading)
    height, width = reading.size
    if image.size != (width, height):
        image = _resized(image, reading)
    values = np.asarray(image)
    if depth.bits == 16:
        values = values if image.mode == "F" else values.astype(np.float32) * STEP
        values = values.round().clip(0, 65535).astype(np.uint16)
    return values[None] if depth.channels == 1 else values.transpose(2, 0, 1)


def decode(
    place: Path, offset: int, first: int, paths: Sequence[str], reading: Reading
) -> list[tuple[int, str]]:
    """Write the pixels of pictures into a file, one after the other.

    Args:
        place: the file, which exists.
        offset: bytes of it before picture 0.
        first: the number of the first of `paths`.
        paths: of the pictures.
        reading: how they are read.

    Returns the number of each that could not be read, and why; zeros are left in its place.
    Raises `Deeper`, `SettingError` for another size where none was set, and `OSError` if the disk
    is full.
    """
    assert reading.size is not None, "found out first"
    size = reading.depth.channels * reading.size[0] * reading.size[1] * reading.depth.bits // 8
    unread = []
    with place.open("r+b") as file, quiet():
        file.seek(offset + first * size)
        for number, path in enumerate(paths, first):
            try:
                values = pixels(opened(path), reading)
            except Deeper:
                raise
            except OtherSize as error:
                raise SettingError(f"{one_line(path)}: is {error}; {reading.like}") from error
            except Exception as error:  # whatever a damaged file can make Pillow raise
                unread.append((number, reason(error)))
                file.seek(size, os.SEEK_CUR)
            else:
                file.write(np.ascontiguousarray(values).data)
    return unread


class quiet(warnings.catch_warnings):  # noqa: N801 (as Python calls its own)
    """Pillow's warnings are not shown; that of a decompression bomb is an error."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)


def reason(error: Exception) -> str:
    """Return why a picture could not be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "is no picture"
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)


def _is_grey(image: Image.Image) -> bool:
    if image.mode != "P":
        return image.mode in GREY
    colours = np.frombuffer(bytes(image.getpalette() or ()), np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _deep(image: Image.Image, depth: Depth) -> Image.Image:
    """Return a picture of 16 bits as floats 0 … 65535, or as one of 8 bits in `depth`'s mode."""
    values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError("has pixels of more than 16 bits; save them as an array")
    if depth.bits == 16:
        return Image.fromarray(values.astype(np.float32))  # which Pillow can resize
    grey = Image.fromarray((values / STEP).round().astype(np.uint8))
    return grey.convert(MODES[depth.channels])


def _flat(image: Image.Image, reading: Reading) -> Image.Image:
    """Return a picture of 8 bits with the channels that are wanted, over the background."""
    if image.mode == "F":
        raise ValueError("has pixels that are floats; save them as an array")
    channels = reading.depth.channels
    if channels < 4 and (image.mode in TRANSPARENT or "transparency" in image.info):
        ground = Image.new("RGBA", image.size, (*reading.background, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    mode = MODES[channels]
    return image if image.mode == mode else image.convert(mode)


def _resized(image: Image.Image, reading: Reading) -> Image.Image:
    """Return a picture in the size that is wanted."""
    assert reading.size is not None, "found out first"
    height, width = reading.size
    if reading.resize is None:
        raise OtherSize(dimensions(image.size[::-1]))
    if reading.resize == "crop":
        return ImageOps.fit(image, (width, height))
    if reading.resize == "stretch":
        return image.resize((width, height))
    factor = min(width / image.width, height / image.height)
    inner = max(1, round(factor * image.width)), max(1, round(factor * image.height))
    padded = _ground(image.mode, (width, height), reading.background)
    padded.paste(image.resize(inner), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded


def _ground(mode: str, size: tuple[int, int], colour: tuple[int, int, int]) -> Image.Image:
    """Return a picture of one colour."""
    ground = Image.new("RGB", size, colour)
    if mode != "F":
        return ground.convert(mode)
    return Image.fromarray(np.asarray(ground.convert("L"), np.float32) * STEP)
