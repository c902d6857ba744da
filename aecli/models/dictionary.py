"""Sparse dictionaries: wide codes of which few latents are active, of a network's activations."""

from collections.abc import Sequence
from math import prod
from typing import Any, NoReturn, cast

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from aecli.data import Batch
from aecli.dictionaries.auxiliary import ErrorSpread, auxiliary_loss, geometric_median
from aecli.dictionaries.collectors import Collector, Found, LargestOfSome, collected
from aecli.dictionaries.gradients import Gradients, Leaves, Memory, Weights
from aecli.dictionaries.parts import Part, Whole, beside, in_levels, split
from aecli.dictionaries.places import Places, decoded
from aecli.dictionaries.products import PART, Encoder
from aecli.dictionaries.selection import Selection, Step
from aecli.dictionaries.starts import fit_decoder, tied_scale, unit, variance_of
from aecli.distributed import processes, total
from aecli.errors import SettingError, check_int, check_number, check_shape
from aecli.likelihoods import MSE, Distribution, Likelihood
from aecli.models.accumulators import Means
from aecli.models.autoencoder import Autoencoder
from aecli.models.dictionary_sums import Coded, DictionaryLosses, Fit
from aecli.models.losses import Terms
from aecli.networks import Network
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.randomness import TORCH, Draws
from aecli.sparsity import Sparsity

START_ROWS = 32_768
"""Training rows that the start is found on."""
DEAD_AFTER = 10_000_000


class Dictionary(Autoencoder):
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

    takes_targets = True
    sparsities = Selection
    sparsity: Selection  # type: ignore[assignment]
    center: Tensor | None
    """c of a transcoder, `(d,)`."""
    rows_since_active: Tensor
    variance: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        code_dim: int,
        network: Network,
        noise: Noise,
        sparsity: Selection,
        likelihood: Likelihood,
        optimizer: Optimization,
        aux_weight: float = 0.0,
        aux_k: int | None = None,
        dead_after: int = DEAD_AFTER,
        target_shape: Sequence[int] | None = None,
    ) -> None:
        _check_others(network, noise, likelihood)
        self.shape = self.made_shape = check_shape("dataset.shape", shape)
        if target_shape is not None:
            self.made_shape = check_shape("dataset.target_shape", target_shape)
        # Both are parts of a code, but nothing takes one for the other: see `sparsities`.
        part = cast(Sparsity, sparsity)
        super().__init__(network, code_dim, noise, part, likelihood, optimizer)
        features = prod(self.made_shape)
        self.W_dec = nn.Parameter(unit(torch.randn(code_dim, features)))
        read, is_tied = prod(self.shape), target_shape is None
        drawn = self.W_dec.detach().clone() if is_tied else unit(torch.randn(code_dim, read))
        self.W_enc = nn.Parameter(drawn)
        self.b_enc = nn.Parameter(torch.zeros(code_dim))
        self.b_dec = nn.Parameter(torch.zeros(features))
        self.register_buffer("center", None if is_tied else torch.zeros(read))
        self.dead_after = check_int("model.dead_after", dead_after, 1)
        self.aux_weight = check_number("model.aux_weight", aux_weight, low=0)
        for key, value, usual in (("aux_k", aux_k, None), ("dead_after", dead_after, DEAD_AFTER)):
            if value != usual and not aux_weight:
                raise SettingError(f"model.{key}={value}: goes with a model.aux_weight above 0")
        half = 1 << max(0, (features // 2).bit_length() - 1)
        least = min(half, code_dim)
        self.aux_k = least if aux_k is None else check_int("model.aux_k", aux_k, 1, code_dim)
        self.register_buffer("rows_since_active", torch.zeros(code_dim, dtype=torch.int64))
        self.register_buffer("variance", torch.ones(()))
        self._fit: Fit | None = None
        self._memory: Memory = None
        self._most_idle = float("inf")
        """At least the rows that any latent was not active on; known without a look."""

    def make_weights(self, network: Network) -> None:
        """Make no layers: the weights are four tensors of this model."""
        self.output_bias = None

    @property
    def start_rows(self) -> int:
        """Training rows that the start is found on."""
        return START_ROWS

    @property
    def pre_bias(self) -> Tensor:
        """What the encoder subtracts from x, `(d,)`: b_dec; of a transcoder c."""
        return self.b_dec if self.center is None else self.center

    @torch.no_grad()
    def start_at(self, examples: Tensor, targets: Tensor | None = None) -> None:
        """Start at training rows `(N, *S)`: the pre-bias at their median, the encoder's scale.

        With targets `(N, *T)` as a transcoder does.
        """
        rows = examples.flatten(1)
        made = rows if targets is None else targets.flatten(1)
        self.variance.copy_(variance_of(made))
        self.b_dec.copy_(geometric_median(made))
        if self.center is not None:
            self.center.copy_(geometric_median(rows))
        l0, weights = self.sparsity.start_l0, (self.W_enc, self.b_enc)
        encoder = Encoder(rows, *weights, pre_bias=self.pre_bias)
        if targets is None:
            self.W_enc.div_(tied_scale(l0, *weights, self.W_dec))
        else:
            self.W_enc.mul_(fit_decoder(l0, encoder, made - self.b_dec, self.W_dec))
        self.sparsity.start(encoder, self.b_enc, variance_of(rows))

    @property
    def is_steady(self) -> bool:
        """Whether a step can be compiled: it takes as many places as the batch has."""
        return False

    @property
    def dead(self) -> Tensor:
        """The latents that count as dead, `(D,)`."""
        return (self.rows_since_active >= self.dead_after).nonzero().squeeze(1)

    def coded(
        self, x: Tensor, target: Tensor | None = None, fit: Fit | None = None, memory: Memory = None
    ) -> Coded:
        """Return what a step makes of rows x `(B, d)`; in training with the auxiliary loss.

        Args:
            x: the rows.
            target: what is reconstructed, `(B, e)`; None for x.
            fit: what the rows and their reconstructions are added to.
            memory: where the gradients of W_enc and W_dec are written; before, anything may be.
        """
        kind = x.device.type
        mixed = self.training and torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if mixed else self.W_enc.dtype
        with torch.autocast(kind, enabled=False):
            return self._coded(x, x if target is None else target, dtype, fit, memory)

    def _coded(
        self, x: Tensor, target: Tensor, dtype: torch.dtype, fit: Fit | None, memory: Memory
    ) -> Coded:
        # The gradients' memory is free until there are some.
        main, dead = self._selected(x, dtype, None if memory is None else memory[0])
        with torch.no_grad():
            code = self.sparsity.activation(main.values, main.places, self.b_enc)
        size = max(1, PART // (self.sparsity.levels + (dead is not None)))
        parts = split(size, x, target, main, code, dead)
        whole = self._whole(len(x), code, parts)
        gradients = None
        if torch.is_grad_enabled() and self.W_enc.requires_grad:
            others = tuple(self.sparsity.parameters())
            weights = Weights(self.W_enc, self.W_dec, self.b_enc, self.b_dec, others)
            norms = None if self.sparsity.has_unit_rows else whole.norms
            gradients = Gradients(weights, norms, self.center is None, memory)
        nll, penalty = x.new_zeros(()), x.new_zeros(())
        for part in parts:
            with torch.set_grad_enabled(gradients is not None):
                own_nll, own_penalty, output = self._of_part(part, whole, gradients)
            nll += own_nll
            penalty += own_penalty
            if fit is not None:
                fit.add(part.target, output, part.main.places.index, part.code)
        loss = nll + penalty
        loss = loss if gradients is None else gradients.attached_to(loss)
        return Coded(Terms(loss, nll, penalty, None, code), main.places, code)

    def _of_part(
        self, part: Part, whole: Whole, gradients: Gradients | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a part's share of nll and penalty, and its x̂; add its gradients."""
        main = part.main
        if self.sparsity.levels > 1:
            level = self.sparsity.level_of(main.places.index)
            main = in_levels(main, level, self.sparsity.levels)
        places, values = beside(main, part.dead)
        every_a = values.detach().requires_grad_(gradients is not None)
        a, dead_a = every_a.tensor_split([len(main.places)])
        code = self.sparsity.activation(a, main.places, self.b_enc)
        every_code = code if part.dead is None else torch.cat([code, dead_a.relu()])
        sums = decoded(every_code, self.W_dec, places)
        of_main, of_dead = sums.tensor_split([main.places.bags])
        levels = of_main.unflatten(0, (-1, len(part.x)))
        levels = levels if len(levels) == 1 else levels.cumsum(dim=0)
        output = levels[-1] + self.b_dec
        nll = F.mse_loss(output, part.target, reduction="sum") / whole.rows
        seen = (main.places, a, code, levels, self.W_dec.detach(), whole.norms, self.variance)
        step = Step(whole.rows, whole.of_batch, part.target, self.b_dec, *seen)
        penalty = self.sparsity.penalty(step)
        if whole.share is not None:
            error = part.target - output.detach()
            weight = self.aux_weight * self.variance / whole.rows
            penalty = penalty + weight * auxiliary_loss(of_dead, error, whole.share)
        if gradients is not None:
            leaves = Leaves(every_a, every_code, sums)
            gradients.add(nll + penalty, leaves, places, part.x - self.pre_bias.detach())
        return nll.detach(), penalty.detach(), output.detach()

    @torch.no_grad()
    def _whole(self, rows: int, code: Tensor, parts: list[Part]) -> Whole:
        """Return what the parts have to know of the whole batch."""
        share = None
        if parts[0].dead is not None:
            spread = ErrorSpread(self.b_dec)
            for part in parts:
                output = part.main.places.sums(part.code, self.W_dec) + self.b_dec
                spread.add(part.target - output)
            share = spread.share()
        norms = torch.ones_like(self.b_enc)
        if not self.sparsity.has_unit_rows:
            norms = torch.linalg.vector_norm(self.W_dec, dim=1)
        return Whole(rows, self.sparsity.of_batch(code, rows), norms, share)

    @torch.no_grad()
    def _selected(
        self, x: Tensor, dtype: torch.dtype, scratch: Tensor | None = None
    ) -> tuple[Found, Found | None]:
        """Return the places that a step looks at, and those of its dead latents, if there are."""
        shift = self.sparsity.shift
        bias = self.b_enc if shift is None else self.b_enc - shift
        encoder = Encoder(x, self.W_enc, bias, dtype, self.pre_bias, scratch)
        collectors: list[Collector] = [self.sparsity.collector(encoder)]
        # Whoever looks for dead latents waits for the device.
        may_be_dead = self.training and self.aux_weight > 0 and self._most_idle >= self.dead_after
        if may_be_dead and len(dead := self.dead):
            collectors.append(LargestOfSome(self.aux_k, encoder, dead, shift))
        found = collected(encoder, collectors, shift)
        return found[0], found[1] if len(found) > 1 else None

    def terms(self, x: Tensor, seen: Tensor | None = None, draws: Draws = TORCH) -> Terms:
        """Return the parts of the loss for clean examples x `(B, *S)`; the code is sparse (COO).

        Of a transcoder x are the targets, and `seen` the rows.
        """
        coded = self.coded((x if seen is None else seen).flatten(1), x.flatten(1))
        return coded.terms._replace(code=coded.places.code(coded.code))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the code of examples, `(B, n)`: in evaluation mode, by the rule of inference."""
        if torch.compiler.is_exporting():  # the places of a code are not known in advance
            a = F.linear(x.flatten(1) - self.pre_bias, self.W_enc, self.b_enc)
            return self.sparsity.dense(a, self.b_enc)
        places, code = self._code(x.flatten(1))
        return places.code(code).to_dense()

    def _code(self, x: Tensor) -> tuple[Places, Tensor]:
        (places, values), _ = self._selected(x, self.W_enc.dtype)
        return places, self.sparsity.activation(values, places, self.b_enc)

    def decode(self, code: Tensor) -> Distribution:
        """Return p(x|z) for codes `(B, n)`, dense or sparse."""
        return self.likelihood((code @ self.W_dec + self.b_dec).unflatten(1, self.made_shape))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return x̂ `(B, *S)`, of a transcoder ŷ `(B, *T)`, without a dense code."""
        places, code = self._code(x.flatten(1))
        return (places.sums(code, self.W_dec) + self.b_dec).unflatten(1, self.made_shape)

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
        return coded.terms.loss if batch.weight == 1 else coded.terms.loss * batch.weight

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
        active = total(coded.places.totals((coded.code != 0).long())) > 0
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
        """Add up the terms and the fit."""
        if self._validation is None:
            self._validation = self.losses()
        self._validation.add(batch, {})

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

    def training_values(self) -> dict[str, float]:
        """Return the means and the fit over the epoch that ends, and start anew."""
        values = self._train.compute()
        if self._fit is not None and self._fit.count:
            values |= self._fit.compute()
            rates = self._fit.rates.clamp_min(0.5 / self._fit.count).log10()
            self.histograms = {"log10_of_the_firing_rates": rates}
        self._train, self._fit = Means(), None
        return values

    def pretrainable_layers(self) -> NoReturn:
        """Refuse: there are no layers to stack."""
        raise SettingError("pretraining: is for an autoencoder, such as model=ae")


def _check_others(network: Network, noise: Noise, likelihood: Likelihood) -> None:
    """Refuse parts that could not reach a dictionary."""
    if not isinstance(network, Network) or not network.is_none:
        raise SettingError("model: a dictionary is two matrices: it takes only network=none")
    if not isinstance(noise, Noise) or not noise.is_none:
        raise SettingError("model: a dictionary sees clean examples: it takes only noise=none")
    is_plain = isinstance(likelihood, MSE) and likelihood.weight == 1
    if not is_plain or likelihood.takes_logits:
        raise SettingError(
            "model: a dictionary is trained on the squared error: it takes only likelihood=mse,"
            " with likelihood.weight=1 and likelihood.output=linear"
        )
