"""What a sparse dictionary computes of rows: their code, their reconstruction, the loss."""

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from aecli.dictionaries.auxiliary import ErrorSpread, auxiliary_loss, geometric_median
from aecli.dictionaries.collectors import Collector, Found, LargestOfSome, collected
from aecli.dictionaries.gradients import Gradients, Leaves, Memory, Weights
from aecli.dictionaries.parts import Part, Whole, beside, in_levels, split
from aecli.dictionaries.places import Places, decoded
from aecli.dictionaries.products import PART, Encoder
from aecli.dictionaries.selection import Selection, Step
from aecli.dictionaries.starts import fit_decoder, tied_scale, unit, variance_of
from aecli.errors import SettingError, check_int, check_number, check_shape
from aecli.likelihoods import MSE, Distribution, Likelihood
from aecli.models.autoencoder import Autoencoder
from aecli.models.dictionary_sums import Coded, Fit
from aecli.models.losses import Terms
from aecli.networks import Network
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.randomness import TORCH, Draws
from aecli.sparsity import Sparsity

START_ROWS = 32_768
"""Training rows that the start is found on."""
DEAD_AFTER = 10_000_000


class SparseCoder(Autoencoder):
    """What a `Dictionary` computes, whose docstring has the formulas and the arguments."""

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
