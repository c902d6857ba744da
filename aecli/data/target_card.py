"""The data card of rows and their targets: what a transcoder takes, and what it gives."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from aecli.data.array_card import ArrayCard
from aecli.data.records import Card


class TargetCard(Card):
    """What enters are rows x, what leaves are their targets y, each by a card of its own.

    Args:
        inputs: of the rows, `(D,)`.
        targets: of what is reconstructed of them, `(E,)`.
    """

    kind = "targets"

    def __init__(self, inputs: ArrayCard, targets: ArrayCard) -> None:
        self.inputs, self.targets = inputs, targets
        self.shape, self.target_shape = inputs.shape, targets.shape

    def stored(self, data: Any) -> Tensor:
        """Return rows as they are kept."""
        return self.inputs.stored(data)

    def scaled(self, stored: Tensor) -> Tensor:
        """Return x."""
        return self.inputs.scaled(stored)

    def restored(self, x: Tensor) -> Any:
        """Return targets that a model has made in their own units."""
        return self.targets.restored(x)

    @property
    def given_type(self) -> torch.dtype:
        """Of rows."""
        return self.inputs.given_type

    def given(self, stored: Tensor) -> Tensor:
        """Return stored rows as an exported graph takes them."""
        return self.inputs.given(stored)

    def entering(self, given: Tensor) -> Tensor:
        """Return x of rows."""
        return self.inputs.entering(given)

    def leaving(self, x: Tensor) -> Tensor:
        """Return targets that a model has made in their own units."""
        return self.targets.leaving(x)

    def state(self) -> dict[str, Any]:
        """Return the states of both cards."""
        return {"inputs": self.inputs.state(), "targets": self.targets.state()}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the card of a state."""
        return cls(ArrayCard.of_state(state["inputs"]), ArrayCard.of_state(state["targets"]))
