"""Sparse dictionaries: wide codes of which few latents are active, of a network's activations."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS

from aecli.data import Batch
from aecli.dictionaries.gradients import Memory
from aecli.distributed import processes, total
from aecli.errors import SettingError
from aecli.models.accumulators import Means
from aecli.models.dictionary_sums import Coded, DictionaryLosses, Fit
from aecli.models.losses import Terms
from aecli.models.sparse_coder import SparseCoder


class Dictionary(SparseCoder):
    """x̂ = z W_dec + b_dec, z = selection((x − b_dec) W_encᵀ + b_enc); loss = ‖x − x̂‖² + penalty.

    A sparse autoencoder of n latents, W_enc and W_dec `(n, d)`, b_enc `(n,)`, b_dec `(d,)`, on rows
    x `(B, d)`. The rows of W_dec are the dictionary's atoms. Which latents are active, and what
    else joins the loss, is the part `sparsity`: see `aecli.dictionaries`. What they share follows
    Gao et al. 2024, arXiv 2406.04093:

    - Start: b_dec at the geometric median of 32,768 training rows; W_dec of random unit rows;
      W_enc = c · W_dec, with c such that random unit rows come back with norm 1; b_enc 0.
    - Atoms of norm 1 (where the part has them): the gradient's part along them is left out, and
      they are set to norm 1 after each step of the optimizer.
    - AuxK: dead latents, those that were not active on the last `dead_after` rows, learn from the
      error e = x − x̂: of them the `aux_k` largest pre-activations of each row are decoded to ê,
      and aux_weight · V · mean‖ê − e‖² / mean‖e − ē‖² joins the loss in training. V is the variance
      E‖x − x̄‖² of the 32,768 rows, and ē the mean error of the batch.

    The loss is a sum over features, a mean over rows, as everywhere here. The paper's is the same
    divided by V: 1 means "predicts the mean" there.

    A batch's loss and gradients are added up over parts of some rows, see `Gradients`: what a step
    holds beside them does not grow with B, but for the places, 8 bytes each.

    A **transcoder** (Dunefsky et al. 2024, arXiv 2406.11944) has targets y `(B, e)` in the place of
    x in all but the encoder: W_dec is `(n, e)`, b_dec `(e,)` the median of the targets, and

        ŷ = z W_dec + b_dec, z = selection((x − c) W_encᵀ + b_enc); loss = ‖y − ŷ‖² + penalty.

    No pre-bias is subtracted from x, as in the transcoders of sparsify and SAELens, but a constant
    c, the geometric median of the rows: it is a part of b_enc (an export adds −W_enc c to that),
    and without it a mean far from 0 would make the same latents active on all rows. W_enc starts
    with random unit rows; each atom as the unit vector along Σ z y over the rows on which its
    latent is among the largest, where sparsify takes a first step from 0; and W_enc is scaled to
    the least error.

    With `trainer.precision=bf16-mixed` the selection is made from products in bfloat16, of some
    places more than needed; all that follows is exact, in float32.

    Args:
        shape: of an example: (d,), or (C, H, W), whose pixels are then a row.
        target_shape: of a target: (e,); None where x is reconstructed.
        code_dim: n.
        network, noise: those of `network=none` and `noise=none`; a dictionary knows no others.
        sparsity: which latents are active.
        likelihood: that of `mse`, as it is.
        optimizer: the optimizer and its schedule.
        aux_weight: ≥ 0, of AuxK; 1/32 in the paper.
        aux_k: dead latents that are decoded; None for the power of two next to d/2 from below.
        dead_after: rows without an activation after which a latent counts as dead.
    """

    can_be_pretrained = False

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        if issubclass(self.optimization.algorithm, LBFGS):
            raise SettingError(
                "optimizer=lbfgs: computes a step several times, and a dictionary counts its rows"
                " by steps; choose optimizer=adam"
            )
        self._fit: Fit | None = None
        self._memory: Memory = None

    def reported(self, terms: Terms) -> dict[str, Tensor]:
        """Add the squared error per feature."""
        return super().reported(terms) | {"mse": terms.nll / len(self.b_dec)}

    def losses(self) -> DictionaryLosses:
        """Return what adds up the terms over a whole split."""
        return DictionaryLosses(self)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss of a batch; count the rows that each latent was not active on."""
        if not self.steady:
            self.anneal(self.global_step)
        x, target = batch.x.flatten(1), batch.given[0].flatten(1)
        coded = self.coded(x, target, self._fit_of_epoch(), self._free_memory())
        self._train.add(self.reported(coded.terms), len(x))
        self._count(coded, len(x))
        self.sparsity.observe(coded.code)
        return self.minimized(coded.terms.loss, batch, index)

    def _free_memory(self) -> Memory:
        """Return memory for the gradients, the same for all steps, on a processor.

        To map new memory takes more time than to fill it. None while gradients lie there that the
        optimizer has not used yet.
        """
        if self.device.type != "cpu" or self.W_enc.grad is not None:
            return None
        if self._memory is None:
            self._memory = torch.empty_like(self.W_enc), torch.empty_like(self.W_dec)
        return self._memory

    def configure_optimizers(self) -> Any:
        """Return the optimizer, which drops the gradients that it has used, and the schedule."""
        configured = super().configure_optimizers()
        optimizer = configured["optimizer"] if isinstance(configured, dict) else configured
        optimizer.register_step_post_hook(self._drop_gradients)
        return configured

    def _drop_gradients(self, *_: Any) -> None:
        # The next step computes its gradients before Lightning drops those of this one.
        self.W_enc.grad = self.W_dec.grad = None

    @torch.no_grad()
    def _count(self, coded: Coded, rows: int) -> None:
        active = total(coded.places.totals((coded.code != 0).int())) > 0
        count = self.rows_since_active.new_full((), rows)
        self.rows_since_active.add_(total(count)).masked_fill_(active, 0)
        self._most_idle += processes() * (rows + 1)  # another process may have a row more
        if self.aux_weight and self._most_idle >= self.dead_after:
            self._most_idle = float(self.rows_since_active.max())

    def sums(self) -> dict[str, Any]:
        """Return what is added up over an epoch."""
        return {"train": self._train, "fit": self._fit_of_epoch()}

    def _fit_of_epoch(self) -> Fit:
        if self._fit is None:
            self._fit = Fit(self.b_dec, self.code_dim)
        return self._fit

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add up the terms and the fit on x, and the squared error before it was binarized."""
        if self._validation is None:
            self._validation = self.losses()
        if batch.target is not None or torch.equal(batch.original, batch.x):
            return self._validation.add(batch, {})
        error = self.likelihood.mse(self.reconstruct(batch.original), batch.original)
        return self._validation.add(batch, {"mse": error.mean()})

    def on_train_start(self) -> None:
        """Look once how long latents were not active."""
        super().on_train_start()
        self._most_idle = float(self.rows_since_active.max())

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        """Set the atoms to norm 1 after the optimizer's step, and what else the part keeps so."""
        if self.sparsity.has_unit_rows:
            with torch.no_grad():
                self.W_dec.div_(torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True))
        self.sparsity.after_step()

    def histograms(self) -> dict[str, Tensor]:
        """Return what TensorBoard draws of the epoch that ends, over all processes."""
        if self._fit is None or not self._fit.count:
            return {}
        rates = self._fit.rates.clamp_min(0.5 / self._fit.number)
        return {"log10_of_the_firing_rates": rates.log10()}

    def training_values(self) -> dict[str, float]:
        """Return the means and the fit over the epoch that ends, and start anew."""
        values = self._train.compute()
        if self._fit is not None and self._fit.count:
            values |= self._fit.compute()
        self._train, self._fit = Means(), None
        return values
