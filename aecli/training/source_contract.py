"""Whether the source of a plugin, and its data card, do what their base classes say."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch
from omegaconf import DictConfig
from torch import Tensor

from aecli.data import Card, DataModule, Records, Source
from aecli.data.records import card_of
from aecli.errors import SettingError
from aecli.training.contract import EXAMPLES, Part, own_part

SPLITS = ("train", "validation", "test")
STORED = (torch.uint8, torch.uint16, torch.float16, torch.float32)


class CheckedSource(Source):
    """The source of a plugin, whose answers are checked on their way.

    Args:
        part: its name in messages.
        source: the plugin's.
    """

    def __init__(self, part: Part, source: Source) -> None:
        self.part, self.source = part, source

    def read(self, root: str | None, card: Card | None) -> Records:
        """Return the source's records, refused if they are not in step with each other."""
        with self.part.blamed():
            records = self.source.read(root, card)
            if not isinstance(records, Records):
                self.part.refuse(f"read gave a {type(records).__name__}; must give Records")
            count = len(records)
            if records.labels is not None:
                self.part.check("read: labels", records.labels, (count,), torch.int64)
            if records.ids is not None and len(records.ids) != count:
                self.part.refuse(f"read: {len(records.ids)} ids of {count} examples")
            for name, rows in records.splits.items():
                self._check_rows(name, rows, count)
        return records

    def fit(self, records: Records, rows: Tensor) -> Card:
        """Return the source's card, refused if a checkpoint would not give it back."""
        with self.part.blamed():
            card = self.source.fit(records, rows)
            if not isinstance(card, Card):
                self.part.refuse(f"fit gave a {type(card).__name__}; must give a Card")
            again = None
            with suppress(SettingError):  # of an unknown kind
                again = card_of(card.kind, card.state())
            if type(again) is not type(card) or tuple(again.shape) != tuple(card.shape):
                self.part.refuse(
                    f"{type(card).__name__} does not come back from a checkpoint: it must extend"
                    " Card itself, with a kind of its own"
                )
        return card

    def _check_rows(self, name: str, rows: Tensor, count: int) -> None:
        if name not in SPLITS:
            self.part.refuse(f"read: splits has {name!r}; must be of {', '.join(SPLITS)}")
        self.part.check(f"read: splits[{name!r}]", rows, (len(rows),), torch.int64)
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < count:
            self.part.refuse(f"read: splits[{name!r}] has rows beyond its {count} examples")


def check_source(config: DictConfig, choices: Mapping[str, str], data: DataModule) -> Part | None:
    """Let what the source of a plugin gives be checked; return its name, None for one of aecli."""
    part = own_part(config, choices, "dataset")
    if part is not None:
        data.source = CheckedSource(part, data.source)
    return part


def set_up(config: DictConfig, choices: Mapping[str, str], data: DataModule) -> None:
    """Set the data of a training up; a plugin's source and card are checked on the way."""
    part = check_source(config, choices, data)
    if part is None:
        data.setup("fit")
        return
    with part.blamed():
        data.setup("fit")
    _check_card(part, data)


def _check_card(part: Part, data: DataModule) -> None:
    """Refuse a card that does not turn stored examples into what a model sees, and back."""
    card, values = data.card, data.splits["train"].examples.values
    with part.blamed():
        _check_stored(part, values, card.shape)
        x = card.scaled(values[:EXAMPLES])
        part.check("scaled(stored)", x, (len(values[:EXAMPLES]), *card.shape))
        if len(card.restored(x)) != len(x):
            part.refuse(f"restored(x) gave {len(card.restored(x))} examples of {len(x)}")


def _check_stored(part: Part, values: Tensor, shape: Sequence[int]) -> None:
    if values.dtype not in STORED:
        part.refuse(f"stored(data) gave {values.dtype}; must give one of {STORED}")
    if values.shape[1:] != torch.Size(shape):
        part.refuse(
            f"stored(data) gave examples of shape {tuple(values.shape[1:])}; must give {shape}"
        )
