"""Where images come from: scikit-learn's digits, or the four IDX files of the MNIST family."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aecli.data.files import fetch, find
from aecli.data.idx import read_idx
from aecli.data.records import Card, Records, Scaled
from aecli.errors import SettingError, shortened


class Digits:
    """1,797 images of 8×8 with 17 grey levels that scikit-learn carries (Alpaydin & Kaynak 1998).

    They have no split of their own: every fifth image of a fixed shuffle is the test set.
    """

    def read(self, root: str | None, card: Card | None) -> Records:
        """Return 1,437 training and 360 test images.

        Raises `SettingError` for a `root`: there is no file of them to look for.
        """
        if root is not None:
            raise SettingError(
                f"dataset.root={shortened(root)}: must be null, since dataset=digits comes with"
                " scikit-learn; files of your own are read by dataset=images or dataset=array"
            )
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        is_test = np.arange(len(labels)) % 5 == 0
        order = np.concatenate([order[~is_test], order[is_test]])
        images = torch.from_numpy(pixels[order].astype(np.uint8)).view(-1, 1, 8, 8)
        splits = _one_after_the_other(train=(~is_test).sum(), test=is_test.sum())
        return Records(images, torch.from_numpy(labels[order]).long(), ids=order, splits=splits)

    def fit(self, records: Records, rows: Tensor) -> Card:
        """Return the card of images with 17 grey levels."""
        return Scaled(records.data.shape[1:], 16)


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

    def read(self, root: str | None, card: Card | None) -> Records:
        """Return the training and the test images, downloading what is missing.

        Raises `SettingError` if that cannot be done or if a file does not hold such images.
        """
        found = find(self.name, self.folder, self.sha256, root)
        if found is None:
            found = fetch(self.name, self.sha256, self.mirrors, root)
        train, train_labels = self._read(found, "train")
        test, test_labels = self._read(found, "t10k")
        labels = torch.cat([train_labels, test_labels])
        splits = _one_after_the_other(train=len(train), test=len(test))
        return Records(torch.cat([train, test]), labels, splits=splits)

    def fit(self, records: Records, rows: Tensor) -> Card:
        """Return the card of images of bytes."""
        return Scaled(records.data.shape[1:], 255)

    def _read(self, files: Mapping[str, Path], split: str) -> tuple[Tensor, Tensor]:
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
        return torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(labels).long()


def _one_after_the_other(**sizes: int) -> dict[str, Tensor]:
    """Return the rows of splits that lie one after the other, by name."""
    rows = torch.arange(sum(sizes.values())).split([int(size) for size in sizes.values()])
    return dict(zip(sizes, rows, strict=True))
