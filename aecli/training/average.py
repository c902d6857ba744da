"""A running average of the weights, which is validated and kept in the place of the weights.

Lightning's `WeightAveraging` keeps the average in an `AveragedModel` of torch's, which waits for
the device at each step to ask whether it is the first, starts at the initial weights and never
forgets them faster, and leaves the statistics of batch normalization to the user.
"""

from itertools import islice
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, update_bn
from typing_extensions import override

from aecli.distributed import total
from aecli.errors import SettingError
from aecli.models import Autoencoder, Dictionary
from aecli.networks import BATCH_NORMS
from aecli.randomness import derived_seed
from aecli.runs.checkpoint import check_weights
from aecli.training.callbacks import data_of


def averages(config: DictConfig, model: Autoencoder) -> list["RunningAverage"]:
    """Return the callback that `trainer.average` asks for, or none.

    Raises `SettingError` for a model that is not trained by plain steps.
    """
    decay = config.trainer.get("average")
    if decay is None:
        return []
    if not model.takes_plain_steps:
        raise SettingError(
            f"trainer.average={decay}: is over many small steps, which this model or optimizer does"
            " not take; leave it out"
        )
    if isinstance(model, Dictionary):
        raise SettingError(
            f"trainer.average={decay}: an average of atoms of norm 1 has another norm; a dictionary"
            " is trained with trainer.average=null"
        )
    return [RunningAverage(decay, model)]


def decay_at(step: int, decay: float) -> float:
    """Return d_t of step t = 1, 2, …: min(d, (1 + t)/(10 + t))."""
    return min(decay, (1 + step) / (10 + step))


class RunningAverage(Callback):
    """ā_t = d_t ā_{t−1} + (1 − d_t) θ_t after optimizer step t, of all parameters θ; ā_0 = θ_0.

    d_t = min(d, (1 + t)/(10 + t)), so that the average is not biased towards the initial weights:
    their share in it is 1/17,000 after ten steps. It is then over about the last ninth of the
    training, until t = 9/(1 − d); from there on over about the last 1/(1 − d) steps.

    From a validation on, or the end of an epoch without one, to the start of the next epoch, the
    model holds the average: that is what is validated, drawn, and saved as the model's weights.
    The weights that the training goes on from lie beside it in the state of this callback. Buffers
    are those of the training, but for the statistics of batch normalization: these are those of one
    pass of the averaged model over the epoch's training batches, the mean of the batches' own.

    Averages of iterates: Polyak & Juditsky, SIAM J. Control Optim. 30(4), 1992. d_t: TensorFlow's
    `ExponentialMovingAverage` with `num_updates`. Statistics: Izmailov et al. 2018, §3.2 (arXiv
    1803.05407).

    Args:
        decay: d in (0, 1).
        model: the model that will be trained.
    """

    def __init__(self, decay: float, model: Autoencoder) -> None:
        self.decay, self.model = decay, model
        self.average: list[Tensor] | None = None
        """Of each parameter; None before the training starts."""
        self.trained: dict[str, Tensor] | None = None
        """The model's state in training, while the model holds the average."""
        self.step = 0
        """Optimizer steps that the average has seen."""

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The parameters are on the training's device now, and lie there as they will stay.
        self.parameters: list[Tensor] = list(self.model.parameters())
        start = self.average or self.parameters
        pairs = zip(self.parameters, start, strict=True)
        self.average = [torch.empty_like(p).copy_(value.detach()) for p, value in pairs]
        self.step = trainer.global_step

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.trained is not None:
            self.model.load_state_dict(self.trained)
            self.trained = None

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:  # gradients are being accumulated
            return
        self.step = trainer.global_step
        update = get_ema_multi_avg_fn(decay_at(self.step, self.decay))  # one operation for all
        update(cast(list[Tensor], self.average), self.parameters, self.step)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._put_into_the_model(trainer)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._put_into_the_model(trainer)  # without a validation in this epoch

    @torch.no_grad()
    def _put_into_the_model(self, trainer: Trainer) -> None:
        if self.average is None or self.trained is not None:
            return
        self.trained = {name: value.clone() for name, value in self.model.state_dict().items()}
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.copy_(average)
        if any(isinstance(module, BATCH_NORMS) for module in self.model.modules()):
            self._normalize(trainer)

    def _normalize(self, trainer: Trainer) -> None:
        """Set the statistics of batch normalization to those of one pass over the epoch's batches.

        All other buffers, and the random numbers that the training goes on with, stay as they are.
        """
        data = data_of(trainer)
        precision = trainer.precision_plugin
        batches = islice(data.train_dataloader(), int(trainer.num_training_batches))
        before = {buffer: buffer.clone() for buffer in self.model.buffers()}
        with torch.random.fork_rng(), precision.forward_context():
            torch.manual_seed(derived_seed(data.run_seed, "average", trainer.global_rank))
            update_bn((precision.convert_input(b.x) for b in batches), _Pass(self.model))
        for module in self.model.modules():
            if isinstance(module, BATCH_NORMS):
                for buffer in module.buffers(recurse=False):
                    del before[buffer]
                    if buffer.is_floating_point():
                        buffer.copy_(total(buffer) / trainer.world_size)
        for buffer, value in before.items():
            buffer.copy_(value)

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.trained is None and self.average is not None:  # within an epoch
            pairs = zip(self.parameters, self.average, strict=True)
            averages = {id(parameter): average for parameter, average in pairs}
            for name, parameter in self.model.named_parameters(remove_duplicate=False):
                checkpoint["state_dict"][name] = averages[id(parameter)]

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.model.state_dict() if self.trained is None else self.trained}

    def checked(self, state: Any, where: str) -> dict[str, Any]:
        """Return a copy of a loaded state if it is one of the model, else raise `SettingError`."""
        weights = state.get("weights") if isinstance(state, dict) else None
        check_weights(self.model, weights, where)
        kept = cast(dict[str, Tensor], weights).items()
        return {"weights": {k: v.clone(memory_format=torch.contiguous_format) for k, v in kept}}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The model's weights, loaded before this, are the average.
        self.average = [parameter.detach().clone() for parameter in self.model.parameters()]
        self.model.load_state_dict(state_dict["weights"])


class _Pass(nn.Module):
    """A model's terms as in training, but never compiled, for torch's `update_bn` to call."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model
        self.training = model.training  # `update_bn` leaves the model as it finds this

    def forward(self, x: Tensor) -> None:
        self.model.terms(x, self.model.noise(x))
