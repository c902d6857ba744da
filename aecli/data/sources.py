"""Where images come from: scikit-learn's digits, or the four IDX files of the MNIST family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aecli.data.files import fetch, find
from aecli.data.idx import read_idx
from aecli.errors import SettingError


@dataclass(frozen=True)
class Images:
    """A labelled set of images, kept as the bytes that they are."""

    pixels: Tensor
    """`(N, C, H, W)`, uint8."""
    labels: Tensor
    """`(N,)`, int64."""
    maximum: int
    """The value of `pixels` that stands for 1.0."""

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, index: Tensor) -> "Images":
        """Return the images at some places, `(n,)` numbers or `(N,)` booleans."""
        return Images(self.pixels[index], self.labels[index], self.maximum)

    def joined(self, other: "Images") -> "Images":
        """Return these images and those of another set after them."""
        pixels = torch.cat([self.pixels, other.pixels])
        return Images(pixels, torch.cat([self.labels, other.labels]), self.maximum)

    def to(self, device: torch.device) -> "Images":
        """Return the same images with their tensors on `device`."""
        return Images(self.pixels.to(device), self.labels.to(device), self.maximum)


class Source(Protocol):
    """Anything that gives a training and a test set."""

    def load(self, root: str | None) -> tuple[Images, Images]:
        """Return the training and the test set; `root` is where files lie or shall lie."""


class Digits:
    """1,797 images of 8×8 with 17 grey levels that scikit-learn carries (Alpaydin & Kaynak 1998).

    They have no split of their own: every fifth image of a fixed shuffle is the test set.
    """

    def load(self, root: str | None) -> tuple[Images, Images]:
        """Return 1,437 training and 360 test images; `root` is not needed."""
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        images = torch.from_numpy(pixels[order].astype(np.uint8)).view(-1, 1, 8, 8)
        digits = torch.from_numpy(labels[order]).long()
        test = torch.arange(len(digits)) % 5 == 0
        return (
            Images(images[~test], digits[~test], 16),
            Images(images[test], digits[test], 16),
        )


class IDXFiles:
    """A data set published as MNIST's four IDX files (LeCun, Cortes & Burges 1998).

    Files on disk are used without any network; see `aecli.data.files` for where they may lie.

    Args:
        name: of the data set, also that of its folder.
        folder: what torchvision calls its folder, `<folder>/raw/`, where files are found too.
        mirrors: addresses that hold the files, tried in this order.
        sha256: of each of the four files as published, by file name.
        shape: (C, H, W) that an image must have.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        mirrors: Sequence[str],
        sha256: Mapping[str, str],
        shape: Sequence[int],
    ) -> None:
        self.name = name
        self.folder = folder
        self.mirrors = list(mirrors)
        self.sha256 = dict(sha256)
        self.shape = tuple(shape)

    def load(self, root: str | None) -> tuple[Images, Images]:
        """Return the training and the test set, downloading what is missing.

        Raises `SettingError` if that cannot be done or if a file does not hold such images.
        """
        found = find(self.name, self.folder, self.sha256, root)
        if found is None:
            found = fetch(self.name, self.sha256, self.mirrors, root)
        return self._read(found, "train"), self._read(found, "t10k")

    def _read(self, files: Mapping[str, Path], split: str) -> Images:
        image_file = files[f"{split}-images-idx3-ubyte.gz"]
        label_file = files[f"{split}-labels-idx1-ubyte.gz"]
        pixels, labels = read_idx(image_file), read_idx(label_file)
        if pixels.ndim != 3 or pixels.shape[1:] != self.shape[1:] or not len(pixels):
            raise SettingError(
                f"{image_file}: holds an array of shape {pixels.shape};"
                f" dataset={self.name} needs (N, {self.shape[1]}, {self.shape[2]})"
            )
        if labels.shape != pixels.shape[:1]:
            raise SettingError(
                f"{label_file}: holds an array of shape {labels.shape};"
                f" {image_file.name} needs ({len(pixels)},), a label for each image"
            )
        return Images(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(labels).long(), 255)
