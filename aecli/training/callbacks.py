"""What happens around a training: its configuration kept, its best epoch, its TensorBoard pages."""

import math
import re
import signal
from collections.abc import Mapping
from types import FrameType
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.tensorboard import FileWriter, SummaryWriter
from torch.utils.tensorboard.summary import hparams
from typing_extensions import override

from aecli.data import Batch, DataModule
from aecli.distributed import gathered
from aecli.errors import SettingError, check_int, check_number
from aecli.figures import as_images, grid, labelled_rows, pixels_of, squared
from aecli.models import Autoencoder
from aecli.randomness import derived_seed
from aecli.runs.checkpoint import KEY, pack, pack_data
from aecli.signals import stop

HPARAMS = {
    "seed": "seed",
    "code_dim": "model.code_dim",
    "beta": "model.beta",
    "hidden": "network.hidden",
    "tied": "network.tied",
    "noise_amount": "noise.amount",
    "noise_std": "noise.std",
    "k": "sparsity.k",
    "sparsity_target": "sparsity.target",
    "sparsity_weight": "sparsity.weight",
    "binarize": "dataset.binarize",
    "batch_size": "dataset.batch_size",
    "algorithm": "optimizer.algorithm",
    "lr": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "epochs": "trainer.max_epochs",
    "average": "trainer.average",
}
"""The settings that TensorBoard's HPARAMS page shows, beside the choice in each group."""
SHOWN = 12
"""Examples in a row of reconstructions."""
LARGEST_WORLD = 1024
"""Processes whose random states are read from a checkpoint."""
PROJECTED = 400
"""Codes that the embedding projector gets."""
WIDEST_PROJECTED = 5000
"""Units of a code that it gets: it reads them as text."""


class Events(TensorBoardLogger):
    """TensorBoard's event files alone: the settings have their place in `.hydra/`."""

    @override
    def save(self) -> None:
        self.experiment.flush()


class KeepConfiguration(Callback):
    """Puts the run's configuration into every checkpoint."""

    def __init__(
        self,
        config: DictConfig,
        choices: Mapping[str, str],
        arithmetic: tuple[str, bool, bool] | None = None,
    ) -> None:
        self.packed = pack(config, choices, arithmetic)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.packed["data"] = pack_data(_data(trainer))

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[KEY] = self.packed


class KeepRandomState(Callback):
    """Keeps torch's random state: a resumed run draws the numbers that an uninterrupted one would.

    Each of several processes has a state of its own, so that they draw different noise.
    """

    def __init__(self) -> None:
        self.loaded: list[dict[str, Any]] | None = None

    @override
    def state_dict(self) -> dict[str, Any]:
        state = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        return {"processes": gathered(state)}

    def checked(self, state: Any, where: str) -> dict[str, Any]:
        """Return a copy of a loaded state if torch takes it, else raise `SettingError`."""
        try:
            processes = [
                {
                    "cpu": _random_state(one["cpu"], "cpu"),
                    "cuda": [_random_state(device, "cuda") for device in one["cuda"]],
                }
                for one in state["processes"][:LARGEST_WORLD]
            ]
        except Exception as error:  # whatever torch raises at a made-up state
            raise SettingError(f"{where}: is no state of torch's random numbers") from error
        return {"processes": processes}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Until the next epoch starts: what Lightning does before it may draw numbers.
        self.loaded = state_dict["processes"]

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank:
            torch.manual_seed(derived_seed(torch.initial_seed(), "rank", trainer.global_rank))

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.loaded is None:
            return
        if len(self.loaded) != trainer.world_size:
            raise SettingError(
                f"resume: {trainer.world_size} processes go on with a run of {len(self.loaded)};"
                " start as many as there were"
            )
        state = self.loaded[trainer.global_rank]
        torch.set_rng_state(state["cpu"])
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        self.loaded = None


def _random_state(state: Tensor, device: str) -> Tensor:
    """Return a copy of a generator's state; raises whatever a generator raises at a made-up one."""
    if device == "cpu" or torch.cuda.is_available():
        torch.Generator(device).set_state(state)
    return state.clone()


class StopOnSigterm(Callback):
    """Ends a training at SIGTERM as `aecli.signals` does.

    Lightning's own handler waits for the end of the batch and for all other processes.
    """

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.before = signal.getsignal(signal.SIGTERM)  # Lightning's is not in place yet

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.before is not stop:
            return

        def stop_all(number: int, frame: FrameType | None) -> None:
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signal.SIGTERM)  # those that Lightning started
            stop(number, frame)

        signal.signal(signal.SIGTERM, stop_all)


class BestEpoch(Callback):
    """Remembers the validation metrics of the epoch with the least val/loss.

    `objective` is the metric that a sweeper will ask for: one that the model has.
    """

    def __init__(self, objective: str) -> None:
        self.objective = objective
        self.metrics: dict[str, float] = {"loss": math.inf}
        self.epoch = 0

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "epoch": self.epoch}

    def checked(self, state: Any, where: str) -> dict[str, Any]:
        """Return a copy of a loaded state if it is one, else raise `SettingError`."""
        if not isinstance(state, dict) or not isinstance(state.get("metrics"), dict):
            raise SettingError(f"{where}: must have metrics and an epoch")
        epoch = check_int(f"{where}: epoch", state.get("epoch"), 0)
        if epoch == 0:  # within the first one
            return {"metrics": {"loss": math.inf}, "epoch": 0}
        metrics = {
            name: check_number(f"{where}: {name}", value)
            for name, value in state["metrics"].items()
            if isinstance(name, str) and re.fullmatch(r"[a-z]\w*", name)
        }
        if "loss" not in metrics:
            raise SettingError(f"{where}: has no loss")
        return {"metrics": metrics, "epoch": epoch}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics, self.epoch = state_dict["metrics"], state_dict["epoch"]

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = {
            name.removeprefix("val/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        if self.objective.removeprefix("val/") not in values:
            known = ", ".join(f"val/{name}" for name in values)
            raise SettingError(f"objective={self.objective}: must be one of {known} for this model")
        if values["loss"] < self.metrics["loss"]:
            self.metrics, self.epoch = values, trainer.current_epoch + 1


class TensorBoardPages(Callback):
    """HPARAMS at the start, pictures and histograms along the way, the projector at the end.

    All of several processes draw, since a part may sum over them; the first has the writer.
    """

    def __init__(self, config: DictConfig, choices: Mapping[str, str], every: int) -> None:
        self.hparams = _hparams(config, choices)
        self.every = every

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        # Without the first, which would fix the columns, and so the filters, for all runs beside
        # this one. TensorBoard finds them from what the runs have.
        _, *session = hparams(self.hparams, {})
        events = cast(FileWriter, _writer(trainer).file_writer)
        for summary in session:
            events.add_summary(summary)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        last = trainer.should_stop or epoch == trainer.max_epochs
        if self.every and (epoch % self.every == 0 or last):
            self._draw(trainer, pl_module)

    @torch.no_grad()
    def _draw(self, trainer: Trainer, model: Any) -> None:
        writer, step = _writer(trainer), trainer.global_step
        # Pictures draw random numbers of their own: the training goes on as if there were none.
        with torch.random.fork_rng():
            model.eval()
            batch = _validation_batch(trainer, SHOWN)
            images = batch.original.to(model.dtype)
            rows = [("input", images)]
            if not model.noise.is_none:
                rows.append(("corrupted", model.noise.corrupt(images)))
            output = model.reconstruct(rows[-1][1])
            if batch.target is not None:
                rows = [("target", batch.target)]
            rows.append(("output", output))
            writer.add_image("reconstructions", pixels_of(labelled_rows(rows)), step)
            if model.has_prior:
                samples = model.decode(model.sample_prior(64)).mean
                writer.add_image("samples", grid(samples, 8), step)
            model.train()
        for name, values in model.histograms.items():
            writer.add_histogram(name, values, step)

    @override
    @torch.no_grad()
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = cast(Autoencoder, pl_module)
        if not self.every or model.code_dim > WIDEST_PROJECTED:
            return
        split, labelled = _data(trainer).splits["validation"], _data(trainer).is_labelled
        images = _validation_batch(trainer, PROJECTED).original
        codes = model.eval().encode(images.to(cast(torch.dtype, model.dtype)))
        _writer(trainer).add_embedding(
            codes.float().cpu(),
            metadata=_data(trainer).names(split.labels[: len(images)]) if labelled else None,
            label_img=squared(as_images(images)),
            global_step=trainer.global_step,
            tag="codes",
        )


def _writer(trainer: Trainer) -> SummaryWriter:
    return cast(TensorBoardLogger, trainer.logger).experiment


def _data(trainer: Trainer) -> DataModule:
    return cast(DataModule, trainer.datamodule)  # type: ignore[attr-defined]


def _validation_batch(trainer: Trainer, count: int) -> Batch:
    return next(iter(_data(trainer).batches("validation", count)))


def _hparams(config: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = dict(choices)
    for name, key in HPARAMS.items():
        value = OmegaConf.select(config, key)
        if value is not None:
            values[name] = value if isinstance(value, int | float | str) else str(value)
    return values
