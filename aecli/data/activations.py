"""Activations of a network: rows of numbers in shards of any total size, which stay on the disk."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aecli.data.array_card import ArrayCard
from aecli.data.arrays import read_array
from aecli.data.batches import Batches
from aecli.data.mapped import one_thread
from aecli.data.mixed import MixedBatches
from aecli.data.module import DataModule
from aecli.data.ranges import Ranges, blocks
from aecli.data.records import Card, Records, ends_and_between
from aecli.data.shards import Shards, open_shards
from aecli.data.splits import SHARE, Examples, Splitting, counted
from aecli.data.target_card import TargetCard
from aecli.errors import SettingError, check_choice, check_int, check_shape, shortened
from aecli.patterns import expanded
from aecli.text import one_line

SCALES = ("none", "norm")
BLOCK = 128
"""Rows that are read together, and that a split has together: neighbours are much alike."""
MOST_HELD_OUT = 1 << 16
"""Rows of a validation or test split whose size is not set."""
SAMPLED = 1 << 15
"""Training rows that the scale is found on."""
PLACES = 256
"""All over a split, from which rows are taken where some are wanted."""


class ActivationFiles:
    """Rows `(N, D)` in shards: `.npy` or `.safetensors`, of float16, float32 or bfloat16.

    Args:
        files: a pattern of their paths such as `acts/*.npy`, or a list of such.
        key: the name of the array, in `.safetensors` files that have several.
        scale: "norm": x = v · √D / (the mean of ‖v‖ over `SAMPLED` rows of the training split), so
            that E‖x‖ = √D (Anthropic's "Circuits Updates", April 2024). Not E‖x‖² = D: a few
            rows of a language model are a hundred times as long as the others, and would decide
            about it. "none": x = v.
        drop: a file with the rows that are left out: an array of their numbers, or a mask `(N,)`
            that is true for them. They are counted through all shards.
        targets: as `files`: rows `(N, E)` that a transcoder makes of these, row by row, in as many
            shards of the same lengths. They have a scale of their own. None: the rows themselves.
        target_key: as `key`, of the targets.
    """

    def __init__(
        self,
        files: Any,
        key: str | None = None,
        scale: str = "norm",
        drop: str | None = None,
        targets: Any = None,
        target_key: str | None = None,
    ) -> None:
        for name, value in {"key": key, "drop": drop, "target_key": target_key}.items():
            if not isinstance(value, str | None) or value == "":
                raise SettingError(f"dataset.{name}={value}: must be a text, or null")
        if target_key is not None and targets is None:
            raise SettingError(f"dataset.target_key={target_key}: goes with dataset.targets")
        self.files, self.key, self.drop = files, key, drop
        self.targets, self.target_key = targets, target_key
        self.scale = check_choice("dataset.scale", scale, SCALES)

    def read(self, root: str | None, card: Card | None) -> Records:
        """Return the rows, none of which is read yet; `root` is not needed.

        Raises `SettingError` for files that cannot be read, for rows of another width than the
        card's, and for targets that are not those of the rows.
        """
        shards, targets = open_shards(self.files, self.key), None
        _check_width("dataset.files", "rows", shards, None if card is None else card.shape)
        if self.targets is not None:
            targets = open_shards(self.targets, self.target_key, "dataset.targets")
            if card is not None and card.target_shape is None:
                raise SettingError(
                    f"dataset.targets={shortened(self.targets)}: the run was trained without"
                    " targets"
                )
            wanted = None if card is None else card.target_shape
            _check_width("dataset.targets", "targets", targets, wanted)
            _check_in_step(shards, targets)
        if self.drop is not None:
            mask = _mask(self.drop, len(shards))
            shards = shards.without(mask)
            targets = None if targets is None else targets.without(mask)
        if not len(shards):
            raise SettingError(f"dataset.drop={one_line(self.drop)}: leaves no row")
        understood = shards.said()
        if targets is not None:
            understood += f"; targets of {targets.said_of_a_row()}"
        return Records(shards, understood=understood, targets=targets)

    def fit(self, records: Records, rows: Tensor | Ranges) -> ArrayCard | TargetCard:
        """Return the card: one number, the scale, found on rows from all over the training.

        With targets that of them, too.
        """
        card = self._fitted(records.data, rows, "rows")
        if records.targets is None:
            return card
        return TargetCard(card, self._fitted(records.targets, rows, "targets"))

    def _fitted(self, shards: Shards, rows: Tensor | Ranges, what: str) -> ArrayCard:
        scale = torch.ones(()).double()
        if self.scale == "norm":
            some = spread(rows, min(SAMPLED, len(rows)))
            values = shards.taken(some).view(shards.dtype).double()
            scale = torch.linalg.vector_norm(values, dim=1).mean() / shards.width**0.5
            if not scale:
                raise SettingError(f"dataset.scale=norm: all {what} are 0; set dataset.scale=none")
        return ArrayCard("rows", (shards.width,), "float32", torch.zeros(()).double(), scale)


class BlockSplitting(Splitting):
    """Splits of whole blocks of neighbours, for rows that resemble the rows beside them."""

    def __call__(self, records: Records) -> dict[str, Any]:
        """Return the rows of the training, validation and test split, no row in two of them."""
        count = len(records)
        self.of_classes(records)  # refuses classes
        rest = blocks(count, BLOCK)
        generator = torch.Generator().manual_seed(self.seed)
        rest = rest.chosen(torch.randperm(len(rest.ends), generator=generator))
        rows = {}
        for name, size in (("validation", self.validation_size), ("test", self.test_size)):
            wanted = min(counted(SHARE, count), MOST_HELD_OUT) if size is None else None
            rows[name], rest = rest.cut(min(wanted or counted(size, count), len(rest)))
        self.check(rows, len(rest), count)
        rows["train"] = rest.cut(min(self.train_size or len(rest), len(rest)))[0]
        return {name: rows[name].in_order() for name in ("train", "validation", "test")}

    def said(self, records: Records) -> str:
        """Return which splits are drawn without a size that was set, or ""."""
        sizes = {"validation": self.validation_size, "test": self.test_size}
        drawn = [name for name, size in sizes.items() if size is None]
        count = min(counted(SHARE, len(records)), MOST_HELD_OUT)
        return f"{count:,} rows drawn for {' and for '.join(drawn)}" if drawn else ""


class ActivationData(DataModule):
    """The splits of rows in shards; see `ActivationFiles`, and `DataModule` for the splits."""

    def __init__(
        self,
        files: Any,
        key: str | None = None,
        scale: str = "norm",
        drop: str | None = None,
        targets: Any = None,
        target_key: str | None = None,
        target_shape: Sequence[int] | None = None,
        batch_size: int = 4096,
        binarize: str = "none",
        **splitting: Any,
    ) -> None:
        if binarize != "none":
            raise SettingError(f"dataset.binarize={binarize}: activations are not binarized")
        check_int("dataset.batch_size", batch_size, 1)  # a whole pass would be no batch
        source = ActivationFiles(files, key, scale, drop, targets, target_key)
        super().__init__(source, None, batch_size=batch_size, **splitting)
        self.target_shape = None
        if target_shape is not None:
            self.target_shape = check_shape("dataset.target_shape", target_shape)
        self.scales = source.scale == "norm"
        own = self.splitting
        sizes = (own.validation_size, own.test_size, own.classes, own.train_size)
        self.splitting = BlockSplitting(*sizes, own.seed)

    def setup(self, stage: str | None = None) -> None:
        """Open the shards, split their rows, and find the scale."""
        super().setup(stage)
        card, count = self.card, len(self.splits["train"])
        if self.target_shape not in (None, card.target_shape):
            found = card.target_shape
            told = "there are no targets" if found is None else f"the targets are {list(found)}"
            raise SettingError(f"dataset.target_shape={list(self.target_shape or ())}: {told}")
        if self.scales and isinstance(card, ArrayCard):
            self.understood += f"; scaled by {_said(card)}"
        if self.scales and isinstance(card, TargetCard):
            by = f"scaled by {_said(card.inputs)}, targets by {_said(card.targets)}"
            self.understood += f"; {by}"
        if self.batch_size is not None and count < self.batch_size:
            raise SettingError(
                f"dataset.batch_size={self.batch_size}: there are {count:,} rows to train on"
            )

    def move(self, device: torch.device) -> None:
        """Send batches to `device`."""
        self.device = device

    def shuffled(self, name: str, batch_size: int | None, seed: Callable[[], int]) -> Batches:
        """Return the batches of a split in an order drawn by `seed`."""
        return MixedBatches(self.splits[name], batch_size or 1, self.device, seed)

    @one_thread()
    def values(self, name: str = "train") -> Tensor:
        """Return values of x in some rows of a split that show whether a likelihood fits them."""
        return ends_and_between(self._some(self.splits["train"].examples, SAMPLED, name))

    def mean(self) -> Tensor:
        """Return the mean of some training rows, `(D,)`."""
        return self.some(SAMPLED).double().mean(dim=0).float()

    def some(self, count: int) -> Tensor:
        """Return training rows `(count, D)` from all over the split.

        They are from `PLACES` places, neighbours at each. Where the split has fewer, some come
        again.
        """
        return self._some(self.splits["train"].examples, count)

    def some_targets(self, count: int) -> Tensor | None:
        """Return the targets `(count, E)` of `some(count)`; None if there are none."""
        targets = self.splits["train"].examples.targets
        return None if targets is None else self._some(targets, count)

    def _some(self, examples: Examples, count: int, name: str = "train") -> Tensor:
        return examples.card.scaled(examples.taken(spread(self.rows[name], count)))

    def fingerprint_of(self, records: Records) -> str:
        """Return what tells these rows from others: how many each file has, and which are kept."""
        if isinstance(records.data, Shards):
            return records.data.fingerprint
        return super().fingerprint_of(records)

    def _examples(self, records: Records, card: Card) -> Examples:
        shards = records.data
        if not isinstance(shards, Shards):  # given in memory
            return super()._examples(records, card)
        if isinstance(card, TargetCard) and isinstance(records.targets, Shards):
            targets = _on_the_disk(records.targets, card.targets)
            return replace(_on_the_disk(shards, card), targets=targets)
        return _on_the_disk(shards, card)


def _on_the_disk(shards: Shards, card: Card) -> Examples:
    values = torch.empty(shards.shape, dtype=shards.dtype, device="meta")  # a shape, no memory
    labels = torch.zeros(1, dtype=torch.long).expand(len(shards))
    return Examples(values, card, labels, RowNumbers(shards.kept), shards)


class RowNumbers:
    """The ids of any number of rows: their numbers among all, of which some may be left out."""

    def __init__(self, kept: Ranges | None = None) -> None:
        self.kept = kept

    def __getitem__(self, rows: Any) -> Any:
        """Return the ids of some rows `(n,)`."""
        return rows if self.kept is None else self.kept[torch.as_tensor(rows)].numpy()


def spread(rows: Tensor | Ranges, count: int) -> Tensor:
    """Return `count` of the rows, `(count,)`, from all over them: of many, neighbours together."""
    if len(rows) <= count:  # each as often as the others
        return rows[torch.arange(count) % len(rows)]
    together = max(1, min(BLOCK, count // PLACES))
    groups = -(-count // together)
    starts = torch.arange(groups) * max(0, len(rows) - together) // max(1, groups - 1)
    places = starts[:, None] + torch.arange(together)
    return rows[places.flatten()[:count]]


def _said(card: ArrayCard) -> str:
    return f"{1 / float(card.scale):.4g} to a mean norm of √{card.shape[0]}"


def _check_width(setting: str, what: str, shards: Shards, wanted: tuple[int, ...] | None) -> None:
    """Refuse rows of another width than those that a run was trained on; None: of any."""
    if wanted not in (None, (shards.width,)):
        assert wanted is not None, "checked"
        raise SettingError(
            f"{setting}: has rows of {shards.width} numbers; the run was trained on {what} of"
            f" {wanted[0]}"
        )


def _check_in_step(shards: Shards, targets: Shards) -> None:
    """Refuse targets that are not, shard by shard, as many as the rows."""
    rows, others = shards.shards, targets.shards
    if len(rows) != len(others):
        raise SettingError(
            f"dataset.targets: has {len(others):,} shards, and dataset.files {len(rows):,}; must"
            " have one for each, in the same order"
        )
    for shard, other in zip(rows, others, strict=True):
        if shard.rows != other.rows:
            raise SettingError(
                f"dataset.targets: {one_line(other.path)} has {other.rows:,} rows, and"
                f" {one_line(shard.path)} {shard.rows:,}; must have a target for each row"
            )


def _mask(file: str, count: int) -> Tensor:
    """Return which rows are left out, `(count,)` booleans."""
    array = read_array(expanded(file), None, "dataset.drop")
    where = f"dataset.drop={one_line(file)}"
    if array.dtype == np.bool_ and array.shape == (count,):
        return torch.from_numpy(np.array(array))
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise SettingError(
            f"{where}: is {array.dtype} of shape {array.shape}; must be a mask of booleans"
            f" ({count},), or the numbers of rows"
        )
    if len(array) and not 0 <= int(array.min()) <= int(array.max()) < count:
        raise SettingError(f"{where}: has numbers beyond the {count:,} rows, 0 to {count - 1:,}")
    mask = torch.zeros(count, dtype=torch.bool)
    mask[torch.from_numpy(array.astype(np.int64))] = True
    if (repeated := len(array) - int(mask.sum())) > 0:
        raise SettingError(
            f"{where}: has {repeated:,} numbers again; a mask ({count},) must be of booleans"
        )
    return mask
