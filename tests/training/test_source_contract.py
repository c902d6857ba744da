"""The source of a plugin and its data card: what breaks their contract is told by name."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from aecli.data import Card, DataModule, Records, Source
from aecli.errors import SettingError
from aecli.training import source_contract
from aecli.training.contract import Part
from aecli.training.source_contract import set_up


class Tenths(Card):
    """x = v / 10, of rows of three numbers."""

    kind = "tenths"
    shape = (3,)

    def stored(self, data: Any) -> Tensor:
        return torch.as_tensor(data, dtype=torch.uint8)

    def scaled(self, stored: Tensor) -> Tensor:
        return stored.float() / 10

    def restored(self, x: Tensor) -> Any:
        return (x * 10).round().numpy()

    def state(self) -> dict[str, Any]:
        return {}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        return cls()


class Rows(Source):
    """Forty rows of three numbers."""

    def __init__(self, card: type[Card] = Tenths, **records: Any) -> None:
        self.card, self.records = card, records

    def read(self, root: str | None, card: Card | None) -> Records:
        return Records(**{"data": np.arange(120).reshape(40, 3) % 10, **self.records})

    def fit(self, records: Records, rows: Tensor) -> Card:
        return self.card()


class Wide(Tenths):
    kind = "wide"

    def scaled(self, stored: Tensor) -> Tensor:
        return stored.double() / 10


class Half(Tenths):
    kind = "half"

    def restored(self, x: Tensor) -> Any:
        return x[::2].numpy()


class Doubles(Tenths):
    kind = "doubles"

    def stored(self, data: Any) -> Tensor:
        return torch.as_tensor(data, dtype=torch.float64)


class Broken(Tenths):
    kind = "broken"

    def stored(self, data: Any) -> Tensor:
        return data.no_such_method()


class Direct(Tenths):
    pass


@pytest.fixture
def ours(monkeypatch):
    part = Part("dataset=mine (mine.Mine)", "mine")
    monkeypatch.setattr(source_contract, "own_part", lambda *given: part)


def made(source: Source) -> DataModule:
    return DataModule(source, None, None, 8, validation_size=8, test_size=8)


def test_a_source_that_keeps_its_contract_is_read(ours):
    labels = torch.arange(40) % 2
    splits = {"train": torch.arange(8, 40), "test": torch.arange(8)}
    data = made(Rows(labels=labels, ids=np.arange(40), splits=splits))
    set_up({}, {}, data)
    assert len(data.splits["train"]) == 24
    assert next(iter(data.batches("train"))).x.shape == (8, 3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Rows(labels=torch.zeros(3).long()), "read: labels gave a tensor of shape (3,)"),
        (Rows(labels=torch.zeros(40)), "read: labels gave a tensor of shape (40,) and torch.float"),
        (Rows(labels=[1] * 40), "read: labels gave a list; must give a tensor of shape (40,)"),
        (Rows(ids=np.arange(3)), "read: 3 ids of 40 examples"),
        (Rows(splits={"spare": torch.arange(3)}), "read: splits has 'spare'; must be of train"),
        (Rows(splits={"test": torch.arange(41)}), "read: splits['test'] has rows beyond its 40"),
        (Rows(splits={"test": torch.ones(40) > 0}), "read: splits['test'] gave a tensor of shape"),
        (Rows(Direct), "Direct does not come back from a checkpoint: it must extend Card itself"),
        (Rows(lambda: 3), "fit gave a int; must give a Card"),
        (Rows(lambda: Wide()), "Wide does not come back from a checkpoint"),
    ],
)
def test_what_a_source_gives_is_checked(ours, source, message):
    with pytest.raises(SettingError) as refused:
        set_up({}, {}, made(source))
    assert str(refused.value).startswith(f"dataset=mine (mine.Mine): {message}")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (Wide, "scaled(stored) gave a tensor of shape (4, 3) and torch.float64; must give"),
        (Half, "restored(x) gave 2 examples of 4"),
        (Doubles, "stored(data) gave torch.float64; must give one of"),
        (Broken, "AttributeError: 'numpy.ndarray' object has no attribute 'no_such_method'"),
    ],
)
def test_what_a_card_gives_is_checked(ours, monkeypatch, card, message):
    monkeypatch.setattr(source_contract, "card_of", lambda kind, state: card())
    with pytest.raises(SettingError) as refused:
        set_up({}, {}, made(Rows(card)))
    assert str(refused.value).startswith(f"dataset=mine (mine.Mine): {message}")


def test_the_sources_of_aecli_are_not_checked(monkeypatch):
    monkeypatch.setattr(source_contract, "CheckedSource", None)
    data = made(Rows())
    set_up(OmegaConf.create({"dataset": {"_target_": "aecli.data.DataModule"}}), {}, data)
    assert len(data.splits["train"]) == 24
