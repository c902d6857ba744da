"""What is added up of a dictionary over an epoch or a split."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from aecli.data import Batch
from aecli.dictionaries.places import Places
from aecli.dictionaries.selection import Selection
from aecli.distributed import total
from aecli.errors import SettingError
from aecli.models.accumulators import Means, check_sums
from aecli.models.losses import Terms

LEAST_SPREAD = 1e-6
"""Σ‖x − x̄‖² by Σ‖x − origin‖², below which it is the rounding of float32: the rows are the same."""


class Coded(NamedTuple):
    """What a step makes of B rows."""

    terms: Terms
    """Their code is the one below."""
    places: Places
    """Where the code may be other than 0."""
    code: Tensor
    """z there, `(M,)`."""


class Fit:
    """How well rows are reconstructed, and by how many latents, over a whole set of rows.

    Of a transcoder the rows are the targets.

    All are sums over the set, in float64, divided at the end: the mean of ratios by rows or by
    batches is another number.

    Args:
        origin: a point near the rows, `(d,)`: the sums are taken around it. In several processes
            the same.
        latents: n.
    """

    def __init__(self, origin: Tensor, latents: int) -> None:
        self.origin = origin.detach().clone()
        self.count = 0
        self._sums = torch.zeros(5, dtype=torch.float64, device=origin.device)
        self._mean = torch.zeros_like(self.origin, dtype=torch.float64)
        self._active = torch.zeros(latents, dtype=torch.int64, device=origin.device)

    def add(self, x: Tensor, output: Tensor, index: Tensor, code: Tensor) -> None:
        """Add rows and their reconstructions, `(B, d)`, and latent and z of some places, `(M,)`.

        The places have all in them at which z is not 0.
        """
        inner, size, norm = torch.linalg.vecdot(x, output), _squares(output), _squares(x)
        cosine = inner / (size * norm).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
        error, around = _squares(x - output), x - self.origin
        parts = (error, _squares(around), size, inner, cosine)
        self._sums += torch.stack(parts).double().sum(dim=1)
        self._mean += around.sum(dim=0, dtype=torch.float64)
        self._active.index_add_(0, index, (code != 0).long())
        self.count += len(x)

    def state(self) -> dict[str, Any]:
        """Return what was added."""
        parts = {"origin": self.origin, "sums": self._sums, "mean": self._mean}
        tensors = {name: part.cpu() for name, part in (parts | {"active": self._active}).items()}
        return {"count": self.count, **tensors}

    def load(self, state: Mapping[str, Any], units: int) -> None:
        """Go on with the sums of a state; raise `SettingError`, or any error, if it is none.

        `units` is n.
        """
        origin, sums, mean, active = (state[key] for key in ("origin", "sums", "mean", "active"))
        if not isinstance(state["count"], int) or not 0 <= state["count"] < 1 << 62:
            raise SettingError("has a count that is none")
        check_sums(origin, tuple(self.origin.shape))
        check_sums(sums, tuple(self._sums.shape), torch.float64)
        check_sums(mean, tuple(self._mean.shape), torch.float64)
        if active.shape != (units,) or active.dtype != torch.int64 or bool((active < 0).any()):
            raise SettingError("has numbers of activations that are none")
        self.count = state["count"]
        self.origin = origin.to(self.origin, copy=True)
        self._sums, self._mean = sums.to(self._sums, copy=True), mean.to(self._mean, copy=True)
        self._active = active.to(self._active, copy=True)

    def compute(self) -> dict[str, float]:
        """Return the figures of the whole set.

        - `explained_variance`: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², x̄ the mean of the whole set;
        - `norm_ratio`: Σ‖x̂‖² / Σ⟨x, x̂⟩, 1 of an unbiased reconstruction, below 1 of a shrunk one;
        - `cosine`: the mean of cos(x, x̂);
        - `l0`: active latents a row; `dead_share`: of the latents, active on none of the rows.
        """
        count = torch.tensor([float(self.count)], dtype=torch.float64, device=self._sums.device)
        sums, mean = total(torch.cat([count, self._sums])), total(self._mean)
        number, error, around, size, inner, cosine = sums.tolist()
        spread = around - float(mean.square().sum()) / number
        active = total(self._active)
        return {
            "explained_variance": 1 - error / spread if spread > LEAST_SPREAD * around else 0.0,
            "norm_ratio": size / inner if inner > 0 else 0.0,
            "cosine": cosine / number,
            "l0": float(active.sum()) / number,
            "dead_share": float((active == 0).double().mean()),
        }

    @property
    def rates(self) -> Tensor:
        """The share of the rows on which each latent was active, `(n,)`."""
        return total(self._active) / self.number

    @property
    def number(self) -> int:
        """How many rows there were, in all processes."""
        return int(total(self._active.new_tensor([self.count])))


def _squares(rows: Tensor) -> Tensor:
    """Return ‖row‖² of each row, `(B,)`, without a tensor of squares."""
    return torch.linalg.vector_norm(rows, dim=1).square_()


class HasCoded(Protocol):
    """What `DictionaryLosses` needs of a model; see `Dictionary`."""

    code_dim: int
    sparsity: Selection
    variance: Tensor

    @property
    def b_dec(self) -> Tensor:
        """The pre-bias, `(d,)`."""

    def coded(self, x: Tensor, target: Tensor | None = None, fit: Fit | None = None) -> Coded:
        """Return what the model makes of rows; add them to a fit."""

    def reported(self, terms: Terms) -> dict[str, Tensor]:
        """Return the terms by name."""


class DictionaryLosses:
    """The terms of a dictionary's loss and its `Fit` over a whole split: see `Losses`."""

    def __init__(self, model: HasCoded) -> None:
        self.model = model
        self.means = Means()
        self.activity = Fit(model.b_dec, model.code_dim)

    def add(self, batch: Batch, others: Mapping[str, Tensor]) -> None:
        """Add a batch, and means over it of other quantities."""
        x, target = batch.x.flatten(1), batch.given[0].flatten(1)
        coded = self.model.coded(x, target, self.activity)
        self.means.add(self.model.reported(coded.terms) | dict(others), len(x))

    def compute(self) -> dict[str, float]:
        """Return all means by name."""
        values, fit = self.means.compute(), self.activity.compute()
        model = self.model
        penalty = model.sparsity.of_split(values["penalty"], fit["l0"], float(model.variance))
        loss = values["loss"] - values["penalty"] + penalty
        return values | {"loss": loss, "penalty": penalty} | fit
