"""The DataModule: a source's examples, split, and made batches of."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from aecli.data.batches import Batches
from aecli.data.mapped import one_thread, row_file
from aecli.data.records import Card, Records, Source
from aecli.data.splits import Examples, Split, Splitting
from aecli.errors import SettingError, check_choice, check_int, check_seed, check_shape
from aecli.randomness import derived_seed, uniform_of

BINARIZE = ("none", "round", "fixed", "dynamic")
EVALUATED_AT_ONCE = 5000
"""Examples in a batch of an evaluation, where training takes the whole set at once."""
CHUNK = 512
"""Examples that are looked at together where all of them are."""
NEW = "new"
"""The split of examples that a run was not trained on."""


class DataModule(pl.LightningDataModule):
    """Training, validation and test split of a source.

    Args:
        source: where the examples come from.
        root: folder of the data files; None for the platform's cache directory.
        shape: `[D]` or `[C, H, W]` of an example, which the network is built for; None where it is
            found in the data.
        batch_size: examples a step; None for the whole set, as L-BFGS needs it.
        validation_size, test_size, classes, train_size, split_seed: see `Splitting`. `split_seed`
            is also that of the draws of a validation; apart from the run's seed, so that runs
            compare.
        binarize: "none"; "round" (at half of the range); "fixed": one draw x ~ Bernoulli(original)
            for each example, by `binarize_seed`; "dynamic": a fresh draw each epoch in training
            and the fixed one in validation and test.
        binarize_seed: of the fixed draw.
        features: what the numbers of a row are, as its card says; for the parts that need it.
    """

    def __init__(
        self,
        source: Source,
        root: str | None,
        shape: Sequence[int] | None,
        batch_size: int | None,
        validation_size: float | None,
        train_size: int | None = None,
        test_size: float | None = None,
        classes: Sequence[int | str] | None = None,
        split_seed: int = 0,
        binarize: str = "none",
        binarize_seed: int = 0,
        features: Sequence[object] | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        if not isinstance(root, str | None):
            raise SettingError(f"dataset.root={root}: must be the path of a folder, or null")
        self.root = root
        self.shape = None if shape is None else check_shape("dataset.shape", shape)
        self.batch_size = _or_all("dataset.batch_size", batch_size)
        self.splitting = Splitting(validation_size, test_size, classes, train_size, split_seed)
        self.split_seed = split_seed
        self.binarize = check_choice("dataset.binarize", binarize, BINARIZE)
        self.binarize_seed = check_seed("dataset.binarize_seed", binarize_seed)
        if binarize_seed and binarize not in ("fixed", "dynamic"):
            raise SettingError(
                f"dataset.binarize_seed={binarize_seed}: goes with dataset.binarize=fixed, dynamic"
            )
        self.splits: dict[str, Split] = {}
        self.rows: dict[str, Any] = {}
        """`(n,)`: which of the examples are in each split, of the test split in a training too."""
        self._card: Card | None = None
        self.fingerprint: str | None = None
        self.class_names: tuple[str, ...] = ()
        self.is_labelled = False
        self.understood = ""
        self.device = torch.device("cpu")
        self.run_seed = 0

    def of_run(self, card: Card | None, fingerprint: str | None) -> None:
        """Take the data card of a run, and what tells whether the examples are still the same."""
        self._card, self.fingerprint = card, fingerprint

    @property
    def card(self) -> Card:
        """The data card, which there is once the data is set up, or known from a run."""
        assert self._card is not None, "set up first"
        return self._card

    def setup(self, stage: str | None = None) -> None:
        """Read, split and binarize; on a GPU that has room, move everything there.

        For `stage="fit"` without the test split, which a training has no use for.
        """
        if not self.splits:
            self.run_seed = torch.initial_seed()  # of all processes the same, here
            records = self._read()
            self._check_same(records)
            rows = self.rows = self.splitting(records)
            card = self._card = self._card or self.source.fit(records, rows["train"])
            if self.shape is not None and card.shape != self.shape:
                raise SettingError(
                    f"dataset.shape={list(self.shape)}: the examples are {list(card.shape)}"
                )
            self.shape = card.shape
            examples = self._examples(records, card)
            names = ("train", "validation") if stage == "fit" else ("train", "validation", "test")
            self.splits = {name: self._drawn(Split(examples, rows[name]), name) for name in names}
            drawn = self.splitting.said(records)
            self.understood = "; ".join(filter(None, (records.understood, drawn)))
        if self.trainer is not None:
            self.move(self.trainer.strategy.root_device)

    def setup_new(self, records: Records | None = None) -> None:
        """Take examples that the run was not trained on, as its card says: the split "new".

        They are read, or those of `records`.
        """
        records = self._read() if records is None else records
        self.card.check_new(records.data)
        self.understood = records.understood
        split = Split(self._examples(records, self.card), torch.arange(len(records)))
        self.splits = {NEW: self._drawn(split, NEW)}

    def move(self, device: torch.device) -> None:
        """Send batches to `device`, and put the splits there if it has the room for them."""
        self.device = device
        if device.type != "cuda" or not self.splits:
            return
        examples = next(iter(self.splits.values())).examples
        # Twice for the binary form, and as much again for the network.
        if 4 * examples.values.nbytes > torch.cuda.mem_get_info(device)[0]:
            return
        examples = examples.to(device)
        for name, split in self.splits.items():
            binary = None if split.binary is None else split.binary.to(device)
            self.splits[name] = Split(examples, split.rows[:].to(device), binary)

    def names(self, labels: Tensor) -> list[str]:
        """Return the names of labels `(n,)`: those of the classes, or the numbers themselves."""
        numbers = labels.tolist()
        return [self.class_names[n] if self.class_names else str(n) for n in numbers]

    @one_thread()
    def values(self, name: str = "train") -> Tensor:
        """Return values of x in the split `name` that show whether a likelihood fits it.

        Raises `SettingError` for training data that cannot be binarized.
        """
        if self.binarize != "none" and name != "train":
            return torch.tensor([0.0, 1.0])
        examples = self.splits["train"].examples
        rows = self.splits[name].rows if name in self.splits else self.rows[name]
        chunks = rows.split(CHUNK)
        shown = torch.cat([self.card.telling(examples.taken(chunk)) for chunk in chunks])
        if self.binarize == "none":
            return shown.unique()
        if shown.min() < 0 or shown.max() > 1:
            raise SettingError(
                f"dataset.binarize={self.binarize}: is for values in [0, 1], and the data has some"
                f" from {shown.min():g} to {shown.max():g}; choose another likelihood, or of an"
                " array dataset.scale=minmax"
            )
        return torch.tensor([0.0, 1.0])

    @one_thread()
    def mean(self) -> Tensor:
        """Return the mean example of the training split, `(*S)`, of what a training draws."""
        split, card = self.splits["train"], self.card
        total = torch.zeros(card.shape, dtype=torch.float64)
        for at in torch.arange(len(split)).split(CHUNK):
            if split.binary is not None:
                x = split.binary[at].double()
            else:
                x = card.scaled(split.examples.taken(split.rows[at])).double()
            total += x.sum(dim=0)
        return (total / len(split)).float()

    def some(self, count: int) -> Tensor:
        """Return training examples `(count, *S)` from all over the split, not binarized.

        Where the split has fewer, some come again.
        """
        split = self.splits["train"]
        places = torch.arange(count, device=split.rows.device) * len(split) // count
        return self.card.scaled(split.examples.taken(split.rows[places]))

    def some_targets(self, count: int) -> Tensor | None:
        """Return what is reconstructed of `some(count)`; None where it is the examples again."""
        return None

    @property
    def has_targets(self) -> bool:
        """Whether batches have targets."""
        return any(split.examples.targets is not None for split in self.splits.values())

    def batches(
        self, name: str, batch_size: int | None = None, draw_seed: int | None = None
    ) -> Batches:
        """Return the batches of the split `name` in its own order, binarized as in evaluation.

        `draw_seed` is that of the examples' own draws; None for those of a validation.
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

    def check_batches(self, processes: int, least: tuple[int, str]) -> None:
        """Refuse a batch size that leaves a process too few examples of a batch.

        Each of `processes` needs the examples of a training batch that `least` says, for the
        setting that it names, and one of validation's.
        """
        training = self.shuffled("train", self.batch_size, lambda: 0)
        for batches, (needed, reason) in ((training, least), (self.batches("validation"), (1, ""))):
            if batches.last < processes * needed:
                each = f" for each of {processes} processes" if processes > 1 else ""
                why = f" ({reason})" if needed > 1 else ""
                raise SettingError(
                    f"dataset.batch_size={self.batch_size}: every batch must have {needed}"
                    f" examples{each}{why}; the last of {len(batches.split)} examples has"
                    f" {batches.last}"
                )

    def _in_parts(self, batches: Batches) -> Batches:
        if self.trainer is not None:
            batches.part = self.trainer.global_rank, self.trainer.world_size
        return batches

    def _epoch_seed(self) -> int:
        return derived_seed(self.run_seed, self.trainer.current_epoch if self.trainer else 0)

    def _read(self) -> Records:
        records = self.source.read(self.root, self._card)
        self.class_names, self.is_labelled = records.classes, records.labels is not None
        return records

    def _check_same(self, records: Records) -> None:
        """Refuse other examples than those that a run was trained on: the splits would differ."""
        found = self.fingerprint_of(records)
        if self.fingerprint not in (None, found):
            raise SettingError(
                f"dataset: the {len(records):,} examples that are there now are not those of the"
                " run's training, so that its splits cannot be made again; put those back"
            )
        self.fingerprint = found

    def fingerprint_of(self, records: Records) -> str:
        """Return what tells one set of examples from another: their number and their names."""
        digest = hashlib.blake2b(str(len(records)).encode(), digest_size=16)
        if records.ids is not None:
            names = "\0".join(map(str, records.ids))
            digest.update(names.encode(errors="surrogatepass"))
        return digest.hexdigest()

    def _examples(self, records: Records, card: Card) -> Examples:
        count = len(records)
        labels = torch.zeros(count, dtype=torch.long) if records.labels is None else records.labels
        ids = np.arange(count) if records.ids is None else records.ids
        return Examples(card.stored(records.data), card, labels, ids, row_file(records.data))

    def _drawn(self, split: Split, name: str) -> Split:
        """Return the split with its once-and-for-all binary form, if it has one."""
        if self.binarize == "none" or (self.binarize == "dynamic" and name == "train"):
            return split
        card = split.examples.card
        generator = torch.Generator().manual_seed(derived_seed(self.binarize_seed, name))
        draws, beyond = [], 0
        for rows in split.rows.split(CHUNK):  # a float copy of the whole set would be 4 times it
            original = card.scaled(split.examples.taken(rows))
            is_beyond = (original < 0) | (original > 1)  # the ends of the training split
            beyond += int(is_beyond.flatten(1).any(dim=1).count_nonzero())
            original.clamp_(0, 1)
            if self.binarize == "round":
                draws.append((original >= 0.5).byte())
            elif name == NEW:  # of the example alone, not of its place
                draws.append((uniform_of(original, self.binarize_seed) < original).byte())
            else:
                draws.append(torch.bernoulli(original, generator=generator).byte())
        if name == NEW and beyond:
            some = f"{beyond:,} of them with values beyond [0, 1], which count as 0 and 1"
            self.understood = "; ".join(filter(None, (self.understood, some)))
        return replace(split, binary=torch.cat(draws))


def _or_all(key: str, value: int | None) -> int | None:
    return None if value is None else check_int(key, value, 1)
