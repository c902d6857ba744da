"""Which latents of a dictionary are active, and what this costs: the part in which they differ."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aecli.dictionaries.collectors import Collector
from aecli.dictionaries.places import Places
from aecli.dictionaries.products import Encoder


@dataclass(frozen=True)
class Step:
    """What a step has computed of R rows of a batch of B, of which M places are looked at."""

    rows: int
    """B: what is a mean over the rows of the batch is here a sum over R of them, over B."""
    of_batch: Tensor | None
    """What `Selection.of_batch` has made of the whole batch."""
    target: Tensor
    """The target, `(R, d)`."""
    pre_bias: Tensor
    """b_dec, `(d,)`."""
    places: Places
    a: Tensor
    """The pre-activations there, `(M,)`."""
    code: Tensor
    """z there, `(M,)`."""
    levels: Tensor
    """What is decoded from the latents of each level and those before it, `(levels, R, d)`."""
    decoder: Tensor
    """W_dec, `(n, d)`, a constant here."""
    norms: Tensor
    """The norms of its rows, `(n,)`, by which a gradient reaches it."""
    variance: Tensor
    """V = E‖x − x̄‖² of the training rows, a scalar."""


class Selection(nn.Module, ABC):
    """Base class: of the pre-activations a `(B, n)` of a dictionary, which stay, and as what.

    `collector` finds the places that a step looks at, `activation` gives z there, `penalty` what
    joins the loss: both of some rows of the batch after the other. In training and in an evaluation
    they may differ: see `nn.Module.training`.
    """

    has_unit_rows = True
    """Whether the decoder's rows are kept at norm 1."""
    takes_parts = True
    """Whether several processes can train on a part of each batch."""
    levels = 1
    """Of latents, which are decoded one after the other."""

    start_l0 = 1
    """Latents of a row that are active at the start."""

    @abstractmethod
    def collector(self, encoder: Encoder) -> Collector:
        """Return what finds the places in the pre-activations of a batch."""

    @abstractmethod
    def dense(self, a: Tensor, bias: Tensor) -> Tensor:
        """Return the code of an evaluation from all pre-activations, both `(B, n)`.

        By plain operations, for a graph that other programs run. `bias` is b_enc, `(n,)`.
        """

    @property
    def shift(self) -> Tensor | None:
        """What the encoder's bias is lessened by for the collector, `(n,)`; None for nothing."""
        return None

    def level_of(self, index: Tensor) -> Tensor:
        """Return the level, from 0, of each of some latents `(M,)`."""
        return torch.zeros_like(index)

    def activation(self, a: Tensor, places: Places, bias: Tensor) -> Tensor:
        """Return z `(M,)` of the pre-activations a `(M,)` at places; here max(a, 0).

        `bias` is b_enc, `(n,)`, which is part of a.
        """
        return a.relu()

    def of_batch(self, code: Tensor, rows: int) -> Tensor | None:
        """Return what `penalty` has to know of a whole batch, of z `(M,)` and B; here nothing.

        It is called once for each batch, without gradients.
        """
        return None

    def penalty(self, step: Step) -> Tensor:
        """Return what joins the loss, a sum over the rows of the step, over B; here 0."""
        return step.target.new_zeros(())

    def of_split(self, penalty: float, l0: float, variance: float) -> float:
        """Return the penalty of a split from its mean over the batches, its mean L0, and V."""
        return penalty

    def start(self, encoder: Encoder, bias: Tensor, variance: Tensor) -> None:
        """Start at training rows, of the variance V; may change b_enc `(n,)`."""

    def observe(self, code: Tensor) -> None:
        """Look at z `(M,)` of a training step."""

    def after_step(self) -> None:
        """Bring the part's own parameters back to where they may be, after the optimizer's step."""

    def anneal(self, fraction: float) -> None:
        """Move a schedule to `fraction` of the training, in [0, 1]. Most have none."""

    @property
    def smallest_batch(self) -> tuple[int, str]:
        """The examples that a training batch needs, and the setting that asks for them."""
        return 1, ""
