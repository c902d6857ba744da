"""One DataModule for every data set: images stay bytes in memory and become batches by an index."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor

from aecli.data.sources import Images, Source
from aecli.errors import SettingError, check_choice, check_int, check_list, check_seed, check_shape
from aecli.randomness import TORCH, Draws, FixedDraws, derived_seed

BINARIZE = ("none", "round", "fixed", "dynamic")
EVALUATED_AT_ONCE = 5000
"""Images in a batch of an evaluation, where training takes the whole set at once."""
PREPARED_AT_ONCE = 512
"""Images that are made ready together, where a batch has fewer."""


class Batch(NamedTuple):
    """B images."""

    x: Tensor
    """`(B, C, H, W)`: what the model sees and its loss is taken on, binarized if so set."""
    image: Tensor
    """`(B, C, H, W)`: the grey images in [0, 1]; the same tensor as `x` if not binarized."""
    label: Tensor
    """`(B,)`, int64."""
    weight: float = 1.0
    """Of a batch split over W processes: B · W / (images of all of them), the factor on this
    process's mean that makes the mean over the processes the mean over the images."""
    draws: Draws = TORCH
    """Random numbers for these images: their own in an evaluation, torch's in training."""


@dataclass(frozen=True)
class Split:
    """The images of a split and, where it was drawn once and for all, their binary form."""

    images: Images
    ids: Tensor
    """`(N,)`, int64: the row of each image in its source, those of the test set after those of
    the training set."""
    binary: Tensor | None = None
    """`(N, C, H, W)`, uint8, 0 or 1."""

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Split":
        """Return the same split with its images on `device`."""
        binary = None if self.binary is None else self.binary.to(device)
        return Split(self.images.to(device), self.ids, binary)


class Batches:
    """The batches of a split: one index operation for a few of them, where the split lies.

    Args:
        split: the images.
        batch_size: B; the last batch may be smaller. In training a last batch of one image joins
            the batch before it, since one image has no variance to normalize by.
        device: where the batches go.
        seed: gives the seed of the next pass, for its order and its `dynamic` binarization;
            None for the split's own order.
        dynamic: draw x ~ Bernoulli(image) anew in each pass.
        part: (r, W): the r-th of W parts of each batch, for process r of W.
        draw_seed: of the images' own draws, in a pass in the split's order.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        device: torch.device,
        seed: Callable[[], int] | None = None,
        dynamic: bool = False,
        part: tuple[int, int] = (0, 1),
        draw_seed: int = 0,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.device = device
        self.seed = seed
        self.dynamic = dynamic
        self.part = part
        self.draw_seed = draw_seed

    def __len__(self) -> int:
        return len(self._ends) + 1

    @property
    def _ends(self) -> range:
        """Where each batch ends, but for the last."""
        alone = 1 if self.seed is not None and self.batch_size > 1 else 0
        return range(self.batch_size, len(self.split) - alone, self.batch_size)

    @property
    def last(self) -> int:
        """How many images the last batch has."""
        return len(self.split) - (self._ends[-1] if self._ends else 0)

    def __iter__(self) -> Iterator[Batch]:
        images, binary = self.split.images, self.split.binary
        count, home = len(images), images.pixels.device
        order, generator = torch.arange(count, device=home), None
        if self.seed is not None:
            seed = self.seed()
            shuffler = torch.Generator(home).manual_seed(seed)
            order = torch.randperm(count, generator=shuffler, device=home)
            generator = torch.Generator(self.device)
            generator.manual_seed(derived_seed(seed, "binarization", self.part[0]))
        start = 0
        batches = order.tensor_split(list(self._ends))
        together = max(1, PREPARED_AT_ONCE // self.batch_size)
        for first in range(0, len(batches), together):
            several = batches[first : first + together]
            indices, weights, firsts = self._of_this_process(several, start)
            index, sizes = torch.cat(indices), [len(own) for own in indices]
            start += sum(map(len, several))
            # On a CPU index_select takes less than half the time of pixels[index].
            image = images.pixels.index_select(0, index).to(self.device).float()
            image.div_(images.maximum)
            if binary is not None:
                x = binary.index_select(0, index).to(self.device).float()
            elif self.dynamic:
                x = binarized(image, generator)
            else:
                x = image
            label = images.labels.index_select(0, index).to(self.device)
            draws: Iterable[Draws] = repeat(TORCH)
            if self.seed is None:
                draws = [FixedDraws(self.draw_seed, first) for first in firsts]
            parts = (x.split(sizes), image.split(sizes), label.split(sizes), weights, draws)
            yield from map(Batch, *parts)

    def _of_this_process(
        self, batches: Sequence[Tensor], start: int
    ) -> tuple[list[Tensor], list[float], list[int]]:
        """Return this process's part of the indices of each batch, its weight, and its place.

        The place is that of its first index in the whole order, in which the first batch has
        `start`.
        """
        rank, parts = self.part
        own, weights, firsts = [], [], []
        for batch in batches:
            split = batch.tensor_split(parts)
            own.append(split[rank])
            weights.append(parts * len(split[rank]) / len(batch))
            firsts.append(start + sum(len(part) for part in split[:rank]))
            start += len(batch)
        return own, weights, firsts


def binarized(image: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return x ~ Bernoulli(image), 0 or 1, for an image in [0, 1] of any shape."""
    # u ~ U[0, 1): x = 1 where u < image. Three times as fast as torch.bernoulli on a CPU.
    u = torch.rand(image.shape, generator=generator, device=image.device)
    return torch.sub(image, u, out=u).ceil_()


class InMemoryDataModule(pl.LightningDataModule):
    """Training, validation and test split of a source, in memory.

    Args:
        source: where the images come from.
        root: folder of the data files; None for the platform's cache directory.
        shape: (C, H, W) of an image, which the network is built for.
        batch_size: images a step; None for the whole set, as L-BFGS needs it.
        validation_size: images split off the training set, chosen by `split_seed`.
        test_size: images to test on; None for the source's own test set, else the two sets are
            pooled, and all splits are drawn from that.
        classes: labels of the images that are kept, in every split; None for all. They are
            chosen after the splits are made, so that no image of one split is in another
            split of the same data set with other classes.
        train_size: images to train on, drawn from those kept; None for all of them.
        split_seed: of the splits, and of the draws of a validation; apart from the run's seed, so
            that runs compare.
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
        batch_size: int | None,
        validation_size: int,
        train_size: int | None = None,
        test_size: int | None = None,
        classes: Sequence[int] | None = None,
        split_seed: int = 0,
        binarize: str = "none",
        binarize_seed: int = 0,
    ) -> None:
        super().__init__()
        self.source = source
        if not isinstance(root, str | None):
            raise SettingError(f"dataset.root={root}: must be the path of a folder, or null")
        self.root = root
        self.shape = check_shape("dataset.shape", shape)
        self.batch_size = _or_all("dataset.batch_size", batch_size)
        self.validation_size = check_int("dataset.validation_size", validation_size, 1)
        self.train_size = _or_all("dataset.train_size", train_size)
        self.test_size = _or_all("dataset.test_size", test_size)
        self.classes = classes
        if classes is not None:
            label = partial(check_int, low=0)
            check_list("dataset.classes", classes, label, "[3,8]", distinct=True)
        self.split_seed = check_seed("dataset.split_seed", split_seed)
        self.binarize = check_choice("dataset.binarize", binarize, BINARIZE)
        self.binarize_seed = check_seed("dataset.binarize_seed", binarize_seed)
        if binarize_seed and binarize not in ("fixed", "dynamic"):
            raise SettingError(
                f"dataset.binarize_seed={binarize_seed}: goes with dataset.binarize=fixed, dynamic"
            )
        self.splits: dict[str, Split] = {}
        self.device = torch.device("cpu")
        self.run_seed = 0

    def setup(self, stage: str | None = None) -> None:
        """Load, split and binarize; on a GPU that has room, move everything there.

        For `stage="fit"` without the test split, which a training has no use for.
        """
        if not self.splits:
            self.run_seed = torch.initial_seed()  # of all processes the same, here
            images, test_images = self.source.load(self.root)
            if images.pixels.shape[1:] != self.shape:
                raise SettingError(
                    f"dataset.shape={list(self.shape)}: the images are"
                    f" {list(images.pixels.shape[1:])}"
                )
            train, validation, test = self._split(images, test_images)
            self.splits = {
                "train": self._drawn(train, "train"),
                "validation": self._drawn(validation, "validation"),
            }
            if stage != "fit":
                self.splits["test"] = self._drawn(test, "test")
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
        images = self.splits["train"].images
        return images.pixels.flatten().bincount().nonzero().flatten() / images.maximum

    def batches(
        self, name: str, batch_size: int | None = None, draw_seed: int | None = None
    ) -> Batches:
        """Return the batches of the split `name` in its own order, binarized as in evaluation.

        `draw_seed` is that of the images' own draws; None for those of a validation.
        """
        split = self.splits[name]
        size = batch_size or self.batch_size or EVALUATED_AT_ONCE
        seed = self.split_seed if draw_seed is None else draw_seed
        return Batches(split, size, self.device, draw_seed=derived_seed(seed, name))

    def train_dataloader(self) -> Batches:
        """Return shuffled batches, or this process's part of each.

        The order is a function of the run's seed and the epoch.
        """
        return self._in_parts(self.shuffled("train", self.batch_size, self._epoch_seed))

    def shuffled(self, name: str, batch_size: int | None, seed: Callable[[], int]) -> Batches:
        """Return the batches of a split in an order drawn by `seed`, binarized as in training."""
        split, dynamic = self.splits[name], self.binarize == "dynamic"
        return Batches(split, batch_size or len(split), self.device, seed, dynamic)

    def val_dataloader(self) -> Batches:
        """Return the validation batches, or this process's part of each."""
        return self._in_parts(self.batches("validation"))

    def check_batches(self, processes: int, least: int) -> None:
        """Refuse a batch size that leaves a process too few images of a batch.

        Each of `processes` needs `least` images of a training batch, and one of validation's.
        """
        training = self.shuffled("train", self.batch_size, lambda: 0)
        for batches, needed in ((training, least), (self.batches("validation"), 1)):
            if batches.last < processes * needed:
                each = f" for each of {processes} processes" if processes > 1 else ""
                why = " (network.batch_norm=true)" if needed > 1 else ""
                raise SettingError(
                    f"dataset.batch_size={self.batch_size}: every batch must have {needed}"
                    f" images{each}{why}; the last of {len(batches.split)} images has"
                    f" {batches.last}"
                )

    def _in_parts(self, batches: Batches) -> Batches:
        if self.trainer is not None:
            batches.part = self.trainer.global_rank, self.trainer.world_size
        return batches

    def _epoch_seed(self) -> int:
        return derived_seed(self.run_seed, self.trainer.current_epoch if self.trainer else 0)

    def _split(self, train: Images, test: Images) -> tuple[Split, Split, Split]:
        """Return the training, validation and test images.

        The sizes and `split_seed` alone decide which image is in which split: classes and
        `train_size` only leave images out.
        """
        everything = train.joined(test)
        kept = self._of_classes(everything.labels)
        count = len(train) if self.test_size is None else len(everything)
        generator = torch.Generator().manual_seed(self.split_seed)
        order = torch.randperm(count, generator=generator)
        tested = torch.arange(len(train), len(everything))
        validation, rest = order.tensor_split([self.validation_size])
        if self.test_size is not None:
            tested, rest = rest.tensor_split([self.test_size])
        validation, tested, rest = (ids[kept[ids]] for ids in (validation, tested, rest))
        self._check_sizes(len(validation), len(tested), len(rest), count)
        rest = rest[: self.train_size].sort()[0]
        splits = [Split(everything.at(ids), ids) for ids in (rest, validation, tested)]
        return splits[0], splits[1], splits[2]

    def _of_classes(self, labels: Tensor) -> Tensor:
        """Return which images are of the classes that are wanted, `(N,)` booleans."""
        if self.classes is None:
            return torch.ones_like(labels, dtype=torch.bool)
        known = labels.unique().tolist()
        if not set(self.classes) <= set(known):
            raise SettingError(
                f"dataset.classes={self.classes}: must be a list out of {known}, or null"
            )
        return torch.isin(labels, torch.tensor(list(self.classes)))

    def _check_sizes(self, validation: int, test: int, rest: int, count: int) -> None:
        """Refuse sizes that leave a split without an image, or too few to train on."""
        keys = ("validation_size", "test_size", "classes", "train_size")
        values = {key: getattr(self, key) for key in keys}
        asked = ", ".join(f"dataset.{k}={v}" for k, v in values.items() if v is not None)
        if rest < (self.train_size or 1):
            left = f"; {rest} are left" if self.train_size else ""
            raise SettingError(
                f"{asked}: must leave images to train on, of the {count} there are{left}"
            )
        if not validation or not test:
            empty = "test" if validation else "validation"
            raise SettingError(f"{asked}: must leave images in the {empty} split")

    def _drawn(self, split: Split, name: str) -> Split:
        """Return the split with its once-and-for-all binary form, if it has one."""
        images = split.images
        if self.binarize == "none" or (self.binarize == "dynamic" and name == "train"):
            return split
        if self.binarize == "round":
            return replace(split, binary=(images.pixels >= (images.maximum + 1) // 2).byte())
        generator = torch.Generator().manual_seed(derived_seed(self.binarize_seed, name))
        chunks = images.pixels.split(512)  # a float copy of the whole set would be 4 times it
        draws = [
            torch.bernoulli(chunk.float() / images.maximum, generator=generator).byte()
            for chunk in chunks
        ]
        return replace(split, binary=torch.cat(draws))


def _or_all(key: str, value: int | None) -> int | None:
    return None if value is None else check_int(key, value, 1)
