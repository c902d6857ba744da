"""The autoencoder, and what every variant shares: the step, the metrics, the optimizer."""

import math
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import LBFGS

from aecli.data import Batch
from aecli.distributed import gathered
from aecli.errors import SettingError, check_int
from aecli.likelihoods import Distribution, Likelihood
from aecli.models.accumulators import Activity, Means
from aecli.models.losses import Losses, SplitLosses, Terms
from aecli.networks import Network, last_bias
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.randomness import TORCH, Draws
from aecli.sparsity import Sparsity

SUMS = "sums"
"""Where a checkpoint carries what was added up of its epoch, a state for each process."""


class LastStep(NamedTuple):
    """An epoch's last step where gradients are accumulated, of fewer batches than the others."""

    start: float
    """Its first batch."""
    share: float
    """What the losses of its batches are multiplied by."""


class Autoencoder(pl.LightningModule):
    """loss = −log p(x|z) + penalty, with (z, penalty) = sparsity(encoder(noise(x))).

    With `likelihood=mse` and a small code this is the nonlinear PCA of Hinton & Salakhutdinov,
    Science 2006. With a noise it is the denoising autoencoder of Vincent et al., ICML 2008: the
    target is the clean x, in training and in `loss` of an evaluation (beside `clean_loss`, that of
    the clean input). With a sparsity it is the sparse (Ng, CS294A notes 2011) or k-sparse
    one (Makhzani & Frey, arXiv 1312.5663).

    Examples are `(B, *S)`: images `(B, C, H, W)`, or rows `(B, D)`; codes are `(B, K)`.

    The base class of every variant. One with another loss overrides `terms`, one with another code
    `encode` and `decode`; the rest follows from them. A gradient of the loss reaches every
    parameter.

    Args:
        network: the plan of encoder and decoder.
        code_dim: K.
        noise: x → x̃, active in training only.
        sparsity: pre-activation → code and penalty.
        likelihood: decoder's output → p(x|z).
        optimizer: the optimizer and its schedule.
    """

    has_prior = False
    """Whether examples can be drawn from the model alone."""
    can_be_pretrained = True
    """Whether it is a stack of layers that can be trained one after another."""
    takes_targets = False
    """Whether it can learn to make something else of an example than the example again."""
    sparsities: type = Sparsity
    """What the part `sparsity` must be."""

    def __init__(
        self,
        network: Network,
        code_dim: int,
        noise: Noise,
        sparsity: Sparsity,
        likelihood: Likelihood,
        optimizer: Optimization,
    ) -> None:
        super().__init__()
        check_part("network", network, Network)
        check_part("noise", noise, Noise)
        check_part("sparsity", sparsity, self.sparsities)
        check_part("likelihood", likelihood, Likelihood)
        check_part("optimizer", optimizer, Optimization)
        self.code_dim = check_int("model.code_dim", code_dim, 1)
        self.make_weights(network)
        self.noise = noise
        self.sparsity = sparsity
        self.likelihood = likelihood
        self.optimization = optimizer
        self._train, self._activity = Means(), Activity(sparsity)
        self._validation: SplitLosses | None = None
        self._last_step = LastStep(math.inf, 1.0)

    def make_weights(self, network: Network) -> None:
        """Make the encoder and the decoder."""
        self.encoder, self.decoder = network.build(self.code_dim, self.outputs)
        self.output_bias = network.output_bias

    @property
    def outputs(self) -> int:
        """Numbers that the encoder gives for an example."""
        return self.code_dim

    def encode(self, x: Tensor) -> Tensor:
        """Return the code `(B, K)` of clean examples."""
        return self.sparsity(self.encoder(x)).code

    def decode(self, code: Tensor) -> Distribution:
        """Return p(x|z) for codes `(B, K)`."""
        return self.likelihood(self.decoder(code))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean of p(x|z) at the code of x, `(B, *S)`."""
        return self.decode(self.encode(x)).mean

    def sample_prior(self, count: int) -> Tensor:
        """Return codes drawn from the prior, `(count, K)`, of a model that has one."""
        raise NotImplementedError

    @property
    def start_rows(self) -> int:
        """Training examples that `start_at` needs."""
        return 0

    def start_at(self, examples: Tensor, targets: Tensor | None = None) -> None:
        """Start the weights at training examples `(N, *S)` and their targets, if any, `(N, *T)`.

        For variants that do.
        """

    @torch.no_grad()
    def start_output(self, mean: Tensor) -> None:
        """Start the decoder's last bias where p(x|z) has a mean of the training data, `(*S)`.

        A bias of each channel takes the mean over the channel's pixels.
        """
        bias = last_bias(self.decoder)
        if bias.numel() != mean.numel():
            mean = mean.flatten(1).mean(dim=1)
        bias.copy_(self.likelihood.output_of(mean.to(bias)).flatten())

    def terms(self, x: Tensor, seen: Tensor | None = None, draws: Draws = TORCH) -> Terms:
        """Return the parts of the loss for clean examples x, the target.

        The encoder sees `seen`; by default x, corrupted if in training. What is drawn, is drawn
        from `draws`.
        """
        code, penalty = self.sparsity(self.encoder(self.noise(x) if seen is None else seen))
        log_likelihood = self.decode(code).log_prob(x).mean()
        return Terms(penalty - log_likelihood, -log_likelihood, penalty, None, code)

    def reported(self, terms: Terms) -> dict[str, Tensor]:
        """Return the terms by the names that they are logged under, those that exist."""
        named = {"loss": terms.loss, "penalty": terms.penalty}
        if self.likelihood.is_density:
            named["nll"] = terms.nll
        if terms.kl is not None:
            named["kl"] = terms.kl
            if self.likelihood.is_density:
                named["elbo"] = -(terms.nll + terms.kl)
        if terms.bound is not None and self.likelihood.is_density:
            named["bound"] = terms.bound
        return named

    def losses(self) -> SplitLosses:
        """Return what adds up the terms over a whole split."""
        return Losses(self)

    @property
    def takes_plain_steps(self) -> bool:
        """Whether training is a loop of forward, backward and a step of the optimizer."""
        return self.automatic_optimization and not issubclass(self.optimization.algorithm, LBFGS)

    @property
    def is_steady(self) -> bool:
        """Whether each training step computes the same, so that it can be compiled once."""
        return self.sparsity.is_steady

    @property
    def smallest_batch(self) -> tuple[int, str]:
        """The examples that a training batch needs, and the setting that asks for them.

        Two where they are normalized together.
        """
        normalizes = any(isinstance(m, nn.BatchNorm1d) for m in self.modules())
        own = (2, "network.batch_norm=true") if normalizes else (1, "")
        return max(own, self.sparsity.smallest_batch)

    def anneal(self, step: int) -> None:
        """Move the schedules, but for the optimizer's, to a training step."""
        self.sparsity.anneal(step / self._steps)

    def compile_terms(self) -> None:
        """Let `torch.compile` make the terms of a training one piece; the weights keep their names.

        Those of an evaluation stay as they are: their draws are not torch's own.
        """
        plain, compiled = self.terms, torch.compile(self.terms)

        def terms(x: Tensor, seen: Tensor | None = None, draws: Draws = TORCH) -> Terms:
            return compiled(x) if seen is None else plain(x, seen, draws)

        self.terms = terms  # type: ignore[method-assign]

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        """Return the loss of a batch."""
        if not self.steady:
            self.anneal(self.global_step)
        terms = self.terms(batch.x)
        self._train.add(self.reported(terms), len(batch.x))
        self._activity.add(terms.code)
        return self.minimized(terms.loss, batch, index)

    def minimized(self, loss: Tensor, batch: Batch, index: int) -> Tensor:
        """Return a batch's loss, times its share of a step.

        Lightning divides it by `trainer.accumulate_grad_batches`, where an epoch's last step has
        fewer batches, too.
        """
        share = batch.weight * (self._last_step.share if index >= self._last_step.start else 1)
        return loss if share == 1 else loss * share

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add up the terms on x, and the squared error per feature before it was binarized."""
        if self._validation is None:
            self._validation = self.losses()
        error = self.likelihood.mse(self.reconstruct(batch.original), batch.original)
        self._validation.add(batch, {"mse": error.mean()})

    def sums(self) -> dict[str, Any]:
        """Return what is added up over an epoch, by name; a checkpoint within one carries it.

        Each has the methods `state` and `load` of `aecli.models.accumulators`.
        """
        return {"train": self._train, "activity": self._activity}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what each process has added up of an epoch that has not ended."""
        checkpoint[SUMS] = gathered({name: part.state() for name, part in self.sums().items()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with these sums; another number of processes is refused later."""
        states = checkpoint[SUMS]
        for name, part in self.sums().items():
            part.load(states[self.global_rank % len(states)][name], self.code_dim)

    def on_train_start(self) -> None:
        """Note how many steps there will be, for the schedules, if there are any."""
        self._steps = float(self.trainer.estimated_stepping_batches)
        self.steady = self.is_steady
        batches, together = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        if left := int(batches) % together:
            self._last_step = LastStep(batches - left, together / left)

    def on_validation_epoch_end(self) -> None:
        """Log the validation means."""
        assert self._validation is not None, "there was no batch"
        self._log("val", self._validation.compute())
        self._validation = None

    def on_train_epoch_end(self) -> None:
        """Log the training means and the health of the code, and start anew.

        They are in the event file before a checkpoint says that the epoch is done. Lightning would
        log them after it, and a run killed in between would lack them.
        """
        values = self.training_values()
        self._log("train", values, logger=False)
        if self.logger is not None:
            named = {f"train/{name}": value for name, value in values.items()}
            self.logger.log_metrics(named, self.global_step - 1)
            self.logger.save()

    def histograms(self) -> dict[str, Tensor]:
        """Return what TensorBoard draws of the epoch that ends, over all processes."""
        means = self._activity.unit_means
        return {} if means is None else {"mean_activation_of_units": means}

    def training_values(self) -> dict[str, float]:
        """Return the means over the epoch that ends, and start anew."""
        values = self._train.compute() | self._activity.compute()
        self._train, self._activity = Means(), Activity(self.sparsity)
        return values

    def configure_optimizers(self) -> Any:
        """Return the optimizer and, if the rate changes, its schedule."""
        optimizer = self.optimization.optimizer(self.parameters())
        if self.optimization.is_constant:
            return optimizer
        schedule = self.optimization.scheduler(optimizer, self.trainer.estimated_stepping_batches)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _log(self, split: str, values: dict[str, float], logger: bool | None = None) -> None:
        if not math.isfinite(values["loss"]):
            raise SettingError(
                f"training diverged: {split}/loss is {values['loss']} in epoch"
                f" {self.current_epoch + 1}; {self.optimization.remedy}"
            )
        self.log_dict({f"{split}/{name}": v for name, v in values.items()}, logger=logger)


def check_part(name: str, part: Any, kind: type) -> None:
    """Refuse a part that is not of its kind: made of another group's option, say."""
    if not isinstance(part, kind):
        of_others = " of this model" if name == "sparsity" and isinstance(part, nn.Module) else ""
        raise SettingError(f"model.{name}={part}: is no {name}{of_others}; choose one by {name}=…")
