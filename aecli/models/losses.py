"""The terms of a loss: those of a batch, and those of a whole split."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from aecli.data import Batch
from aecli.models.accumulators import Activity, Means
from aecli.noise import Noise
from aecli.randomness import Draws
from aecli.sparsity import Sparsity


class Terms(NamedTuple):
    """The parts of a loss: sums over the features, means over the batch, nats. Scalars."""

    loss: Tensor
    """What is minimized: nll + penalty (+ β · kl), of an `IWAE` penalty − bound."""
    nll: Tensor
    """−log p(x|z), or what stands for it where the likelihood is no density."""
    penalty: Tensor
    """The sparsity's."""
    kl: Tensor | None
    """KL(q(z|x) ‖ p(z)), for variants with a posterior."""
    code: Tensor
    """z as the decoder gets it, `(B, K)`."""
    bound: Tensor | None = None
    """A lower bound of log p(x) that is not the ELBO, for variants with one."""
    contraction: Tensor | None = None
    """λ ‖J(x)‖²_F, for variants with it."""


class HasTerms(Protocol):
    """What `Losses` needs of a model; see `Autoencoder`."""

    noise: Noise
    sparsity: Sparsity

    def terms(self, x: Tensor, seen: Tensor | None, draws: Draws) -> Terms:
        """Return the parts of the loss for a target x and what the encoder sees."""

    def reported(self, terms: Terms) -> dict[str, Tensor]:
        """Return the terms by name."""


class Computes(Protocol):
    """Figures of a whole split."""

    def compute(self) -> dict[str, float]:
        """Return them by name."""


class SplitLosses(Protocol):
    """What adds up a model's terms over a whole split: `Losses`, or what a variant has instead."""

    @property
    def activity(self) -> Computes:
        """The health of the code."""

    def add(self, batch: Batch, others: Mapping[str, Tensor]) -> None:
        """Add a batch, and means over it of other quantities."""

    def compute(self) -> dict[str, float]:
        """Return all means by name."""


class Losses:
    """The terms of a model's loss over a whole split, whatever the sizes of its batches.

    - `loss`, `penalty`, and `nll`, `kl`, `elbo`, `bound` where they exist: means over the examples,
      but for the penalty, which is that of the units' mean activations over the split;
    - with a noise, `loss` is that of corrupted inputs against the clean target, as in training,
      with random numbers that belong to the examples; `clean_loss` and the others are those of the
      clean inputs.
    """

    def __init__(self, model: HasTerms) -> None:
        self.model = model
        self.clean, self.activity = Means(), Activity(model.sparsity)
        self.noisy, self.noisy_activity = Means(), Activity(model.sparsity)

    def add(self, batch: Batch, others: Mapping[str, Tensor]) -> None:
        """Add a batch, and means over it of other quantities."""
        x, model, count = batch.x, self.model, len(batch.x)
        terms = model.terms(x, x, batch.draws.of("code"))
        self.clean.add(model.reported(terms) | dict(others), count)
        self.activity.add(terms.code)
        if not model.noise.is_none:
            seen = model.noise.corrupt(x, batch.draws.of("noise"))
            terms = model.terms(x, seen, batch.draws.of("code"))
            self.noisy.add({"loss": terms.loss, "penalty": terms.penalty}, count)
            self.noisy_activity.add(terms.code)

    def compute(self) -> dict[str, float]:
        """Return all means by name."""
        values = self._with_penalty(self.clean, self.activity)
        if self.model.noise.is_none:
            return values
        noisy = self._with_penalty(self.noisy, self.noisy_activity)
        return values | {"loss": noisy["loss"], "clean_loss": values["loss"]}

    def _with_penalty(self, means: Means, activity: Activity) -> dict[str, float]:
        values = means.compute()
        of_units = activity.unit_means
        assert of_units is not None, "a split has examples"
        penalty = float(self.model.sparsity.penalty(of_units))
        return values | {
            "loss": values["loss"] - values["penalty"] + penalty,
            "penalty": penalty,
        }
