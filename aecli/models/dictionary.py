"""Sparse dictionaries: wide codes of which few latents are active, of a network's activations."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple, NoReturn, cast

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from aecli.data import Batch
from aecli.dictionaries.auxiliary import auxiliary_loss, geometric_median
from aecli.dictionaries.collectors import Collector, Largest
from aecli.dictionaries.places import Places, decoded, encoded
from aecli.dictionaries.products import Encoder
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
Memory = tuple[Tensor | None, Tensor | None]


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
        self._memory: Memory | None = None
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
        around = rows - self.pre_bias
        if targets is None:
            self.W_enc.div_(tied_scale(l0, *weights, self.W_dec))
        else:
            encoder = Encoder(around, *weights)
            self.W_enc.mul_(fit_decoder(l0, encoder, made - self.b_dec, self.W_dec))
        self.sparsity.start(Encoder(around, *weights), self.b_enc, variance_of(rows))

    @property
    def is_steady(self) -> bool:
        """Whether a step can be compiled: it takes as many places as the batch has."""
        return False

    @property
    def _may_be_dead(self) -> bool:
        """Whether AuxK has to look for dead latents, for which it waits for the device."""
        return self.training and self.aux_weight > 0 and self._most_idle >= self.dead_after

    @property
    def dead(self) -> Tensor:
        """The latents that count as dead, `(D,)`."""
        return (self.rows_since_active >= self.dead_after).nonzero().squeeze(1)

    def coded(
        self, x: Tensor, target: Tensor | None = None, memory: Memory = (None, None)
    ) -> Coded:
        """Return what a step makes of rows x `(B, d)`; in training with the auxiliary loss.

        Args:
            x: the rows.
            target: what is reconstructed, `(B, e)`; None for x.
            memory: where the gradients of W_enc and W_dec are written.
        """
        kind = x.device.type
        mixed = self.training and torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if mixed else self.W_enc.dtype
        with torch.autocast(kind, enabled=False):
            return self._coded(x, x if target is None else target, dtype, memory)

    def _coded(self, x: Tensor, target: Tensor, dtype: torch.dtype, memory: Memory) -> Coded:
        rows, around = len(x), x - self.pre_bias.detach()
        main, revived = self._selected(around, dtype)
        places, values = main
        if revived is not None:
            places, values = main.places.beside(revived.places), torch.cat([values, revived.values])
        of_encoder, of_decoder = memory
        a = encoded(values, around, self.W_enc, self.b_enc, self.pre_bias, places, of_encoder)
        a, dead_a = a.tensor_split([len(main.places)])
        code = self.sparsity.activation(a, main.places, self.b_enc)
        on_sphere = self.sparsity.has_unit_rows
        every = code if revived is None else torch.cat([code, dead_a.relu()])
        sums = decoded(every, self.W_dec, places, on_sphere=on_sphere, memory=of_decoder)
        sums, of_dead = sums.tensor_split([main.places.bags])
        levels = sums.unflatten(0, (-1, rows))
        levels = levels if len(levels) == 1 else levels.cumsum(dim=0)
        output = levels[-1] + self.b_dec
        nll = F.mse_loss(output, target, reduction="sum") / rows
        parts = (main.places, a, code, levels, self.W_dec, self.variance)
        penalty = self.sparsity.penalty(Step(target, self.b_dec, *parts))
        if revived is not None:
            penalty = penalty + self._auxiliary(of_dead, target - output.detach())
        terms = Terms(nll + penalty, nll, penalty, None, main.places.code(code.detach()))
        return Coded(terms, output, main.places, code.detach())

    @torch.no_grad()
    def _selected(self, around: Tensor, dtype: torch.dtype) -> tuple["Found", "Found | None"]:
        """Return the places that a step looks at, and those of its dead latents, if there are."""
        shift = self.sparsity.shift
        bias = self.b_enc if shift is None else self.b_enc - shift
        encoder = Encoder(around, self.W_enc, bias, dtype)
        collectors: list[Collector] = [self.sparsity.collector(encoder)]
        if self._may_be_dead and len(dead := self.dead):
            collectors.append(Largest(self.aux_k, encoder, dead, shift))
        for a in encoder.chunks():
            for collector in collectors:
                collector.add(a)
        main = self._found(collectors[0], encoder, shift)
        if self.sparsity.levels > 1:
            level = self.sparsity.level_of(main.places.index)
            places, order = main.places.in_levels(level, self.sparsity.levels)
            main = Found(places, main.values[order])
        revived = self._found(collectors[1], encoder, shift) if len(collectors) > 1 else None
        return main, revived

    def _found(self, collector: Collector, encoder: Encoder, shift: Tensor | None) -> "Found":
        places, values = collector.found()
        if not encoder.is_exact:
            values = encoder.at(places)
        places, values = collector.chosen(places, values)
        if shift is not None:
            values = values + shift.index_select(0, places.index)
        return Found(places, values)

    def _auxiliary(self, sums: Tensor, error: Tensor) -> Tensor:
        """Return the auxiliary loss of what is decoded from dead latents, `(B, d)`."""
        count = total(error.new_tensor(len(error), dtype=torch.float64))
        squares, mean = total(error.double().square().sum()), total(error.double().sum(dim=0))
        spread = squares - mean.square().sum() / count
        weight = self.aux_weight * self.variance
        return weight * auxiliary_loss(sums, error, count.to(error), spread.to(error))

    def terms(self, x: Tensor, seen: Tensor | None = None, draws: Draws = TORCH) -> Terms:
        """Return the parts of the loss for clean examples x `(B, *S)`; the code is sparse (COO).

        Of a transcoder x are the targets, and `seen` the rows.
        """
        return self.coded((x if seen is None else seen).flatten(1), x.flatten(1)).terms

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the code of examples, `(B, n)`: in evaluation mode, by the rule of inference."""
        if torch.compiler.is_exporting():  # the places of a code are not known in advance
            a = F.linear(x.flatten(1) - self.pre_bias, self.W_enc, self.b_enc)
            return self.sparsity.dense(a, self.b_enc)
        found, _ = self._selected(x.flatten(1) - self.pre_bias, self.W_enc.dtype)
        code = self.sparsity.activation(found.values, found.places, self.b_enc)
        return found.places.code(code).to_dense()

    def decode(self, code: Tensor) -> Distribution:
        """Return p(x|z) for codes `(B, n)`, dense or sparse."""
        return self.likelihood((code @ self.W_dec + self.b_dec).unflatten(1, self.made_shape))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return x̂ `(B, *S)`, of a transcoder ŷ `(B, *T)`, without a dense code."""
        found, _ = self._selected(x.flatten(1) - self.pre_bias, self.W_enc.dtype)
        code = self.sparsity.activation(found.values, found.places, self.b_enc)
        sums = found.places.sums(code, self.W_dec).unflatten(0, (-1, len(x))).sum(dim=0)
        return (sums + self.b_dec).unflatten(1, self.made_shape)

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
        coded = self.coded(x, target, self._gradients())
        self._train.add(self.reported(coded.terms), len(x))
        self._fit_of_epoch().add(target, coded.output.detach(), coded.places.index, coded.code)
        self._count(coded, len(x))
        self.sparsity.observe(coded.code)
        return coded.terms.loss if batch.weight == 1 else coded.terms.loss * batch.weight

    def _gradients(self) -> Memory:
        """Return memory for the gradients, the same for all steps, on a processor.

        The system would map new memory for each, which takes more time than to fill it.
        """
        if self._memory is None and self.device.type == "cpu":
            self._memory = torch.empty_like(self.W_enc), torch.empty_like(self.W_dec)
        return (None, None) if self._memory is None else self._memory

    @torch.no_grad()
    def _count(self, coded: Coded, rows: int) -> None:
        active = total(coded.places.totals((coded.code != 0).long())) > 0
        count = self.rows_since_active.new_full((), rows)
        self.rows_since_active.add_(total(count)).masked_fill_(active, 0)
        self._most_idle += processes() * (rows + 1)  # another process may have a row more

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


class Found(NamedTuple):
    """What a selection has found in the pre-activations."""

    places: Places
    values: Tensor
    """The pre-activations there, `(M,)`."""


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
