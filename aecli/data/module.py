"""One DataModule for every data set: images stay bytes in memory and become batches by an index."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor

from aecli.data.sources import Images, Source
from aecli.errors import SettingError, check_choice, check_int, check_seed

BINARIZE = ("none", "round", "fixed", "dynamic")


class Batch(NamedTuple):
    """B images."""

    x: Tensor
    """`(B, C, H, W)`: what the model sees and its loss is taken on, binarized if so set."""
    image: Tensor
    """`(B, C, H, W)`: the grey images in [0, 1]; the same tensor as `x` if not binarized."""
    label: Tensor
    """`(B,)`, int64."""


class Split(NamedTuple):
    """The images of a split and, where it was drawn once and for all, their binary form."""

    images: Images
    binary: Tensor | None = None
    """`(N, C, H, W)`, uint8, 0 or 1."""

    def to(self, device: torch.device) -> "Split":
        """Return the same split with its tensors on `device`."""
        pixels, labels, maximum = self.images
        binary = None if self.binary is None else self.binary.to(device)
        return Split(Images(pixels.to(device), labels.to(device), maximum), binary)


class Batches:
    """The batches of a split: one index operation each, where the split lies.

    Args:
        split: the images.
        batch_size: B; the last batch may be smaller.
        device: where the batches go.
        seed: gives the seed of the next pass, for its order and its `dynamic` binarization;
            None for the split's own order.
        dynamic: draw x ~ Bernoulli(image) anew in each pass.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        device: torch.device,
        seed: Callable[[], int] | None = None,
        dynamic: bool = False,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.device = device
        self.seed = seed
        self.dynamic = dynamic

    def __len__(self) -> int:
        return -(-len(self.split.images.labels) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        images, binary = self.split
        count, home = len(images.labels), images.pixels.device
        order, generator = torch.arange(count, device=home), None
        if self.seed is not None:
            seed = self.seed()
            shuffler = torch.Generator(home).manual_seed(seed)
            order = torch.randperm(count, generator=shuffler, device=home)
            generator = torch.Generator(self.device).manual_seed(seed + 1)
        for index in order.split(self.batch_size):
            image = images.pixels[index].to(self.device).float().div_(images.maximum)
            if binary is not None:
                x = binary[index].to(self.device).float()
            elif self.dynamic:
                x = torch.bernoulli(image, generator=generator)
            else:
                x = image
            yield Batch(x, image, images.labels[index].to(self.device))


class InMemoryDataModule(pl.LightningDataModule):
    """Training, validation and test split of a source, in memory.

    Args:
        source: where the images come from.
        root: folder of the data files; None for the platform's cache directory.
        shape: (C, H, W) of an image, which the network is built for.
        batch_size: images a step.
        validation_size: images split off the training set, chosen by `split_seed`.
        split_seed: of the validation split; apart from the run's seed, so that runs compare.
        binarize: "none"; "round" (at half of the range); "fixed": one draw x ~ Bernoulli(image)
            for each image, by `binarize_seed`; "dynamic": a fresh draw each epoch in training
            and the fixed one in validation and test.
        binarize_seed: of the fixed draw.
    """

    def __init__(
        self,
        source: Source,
        root: str | None,
        shape: list[int],
        batch_size: int,
        validation_size: int,
        split_seed: int = 0,
        binarize: str = "none",
        binarize_seed: int = 0,
    ) -> None:
        super().__init__()
        self.source = source
        if not isinstance(root, str | None):
            raise SettingError(f"dataset.root={root}: must be the path of a folder, or null")
        self.root = root
        self.shape = tuple(shape)
        self.batch_size = check_int("dataset.batch_size", batch_size, 1)
        self.validation_size = check_int("dataset.validation_size", validation_size, 1)
        self.split_seed = check_seed("dataset.split_seed", split_seed)
        self.binarize = check_choice("dataset.binarize", binarize, BINARIZE)
        self.binarize_seed = check_seed("dataset.binarize_seed", binarize_seed)
        self.splits: dict[str, Split] = {}
        self.device = torch.device("cpu")

    def setup(self, stage: str | None = None) -> None:
        """Load, split and binarize; on a GPU that has room, move everything there."""
        if not self.splits:
            train, test = self.source.load(self.root)
            if train.pixels.shape[1:] != self.shape:
                raise SettingError(
                    f"dataset.shape={list(self.shape)}: the images are"
                    f" {list(train.pixels.shape[1:])}"
                )
            train, validation = self._split(train)
            self.splits = {
                "train": Split(train, self._draw(train, 0, training=True)),
                "validation": Split(validation, self._draw(validation, 1, training=False)),
                "test": Split(test, self._draw(test, 2, training=False)),
            }
        if self.trainer is not None:
            self.move(self.trainer.strategy.root_device)

    def move(self, device: torch.device) -> None:
        """Send batches to `device`, and put the splits there if it has the room for them."""
        self.device = device
        if device.type == "cuda":
            size = sum(split.images.pixels.nbytes for split in self.splits.values())
            # Twice for the binary form, and as much again for the network.
            if 4 * size > torch.cuda.mem_get_info(device)[0]:
                return
        self.splits = {name: split.to(device) for name, split in self.splits.items()}

    def values(self) -> Tensor:
        """Return the distinct values of x in the training split, for the likelihood's check."""
        if self.binarize != "none":
            return torch.tensor([0.0, 1.0])
        pixels, _, maximum = self.splits["train"].images
        return pixels.flatten().bincount().nonzero().flatten() / maximum

    def batches(self, name: str, batch_size: int | None = None) -> Batches:
        """Return the batches of the split `name` in its own order, binarized as in evaluation."""
        return Batches(self.splits[name], batch_size or self.batch_size, self.device)

    def train_dataloader(self) -> Batches:
        """Return shuffled batches; the order is a function of the run's seed and the epoch."""
        dynamic = self.binarize == "dynamic"
        split = self.splits["train"]
        return Batches(split, self.batch_size, self.device, self._epoch_seed, dynamic)

    def val_dataloader(self) -> Batches:
        """Return the validation batches."""
        return self.batches("validation")

    def _epoch_seed(self) -> int:
        seed, epoch = torch.initial_seed(), self.trainer.current_epoch if self.trainer else 0
        return hash((seed, epoch)) % 2**63

    def _split(self, images: Images) -> tuple[Images, Images]:
        count = len(images.labels)
        if self.validation_size >= count:
            raise SettingError(
                f"dataset.validation_size={self.validation_size}: must leave some of the"
                f" {count} training images"
            )
        generator = torch.Generator().manual_seed(self.split_seed)
        order = torch.randperm(count, generator=generator)
        validation, train = order[: self.validation_size], order[self.validation_size :].sort()[0]
        return tuple(
            Images(images.pixels[index], images.labels[index], images.maximum)
            for index in (train, validation)
        )

    def _draw(self, images: Images, number: int, *, training: bool) -> Tensor | None:
        """Return the once-and-for-all binary form of a split, if it has one."""
        if self.binarize == "none" or (self.binarize == "dynamic" and training):
            return None
        if self.binarize == "round":
            return (images.pixels >= (images.maximum + 1) // 2).to(torch.uint8)
        generator = torch.Generator().manual_seed(self.binarize_seed + number)
        chunks = images.pixels.split(4096)  # a float copy of the whole set would be 4 times it
        draws = [
            torch.bernoulli(chunk.float() / images.maximum, generator=generator).to(torch.uint8)
            for chunk in chunks
        ]
        return torch.cat(draws)
