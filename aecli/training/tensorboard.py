"""TensorBoard's pages of a training: HPARAMS, pictures, histograms, the projector."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard import FileWriter, SummaryWriter
from torch.utils.tensorboard.summary import hparams
from typing_extensions import override

from aecli.data import Batch
from aecli.figures import as_images, grid, labelled_rows, pixels_of, squared
from aecli.models import Autoencoder
from aecli.training.callbacks import data_of

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
"""The settings that TensorBoard's HPARAMS page shows, beside the choice in each group; and what was
typed, by its key."""
STOPPING = "early_stopping"
"""What may be typed beside the settings of the groups."""
SHOWN = 12
"""Examples in a row of reconstructions."""
PROJECTED = 400
"""Codes that the embedding projector gets."""
WIDEST_PROJECTED = 5000
"""Units of a code that it gets: it reads them as text."""


class Events(TensorBoardLogger):
    """TensorBoard's event files alone: the settings have their place in `.hydra/`."""

    @override
    def save(self) -> None:
        self.experiment.flush()


class TensorBoardPages(Callback):
    """HPARAMS at the start, pictures and histograms along the way, the projector at the end.

    All of several processes draw, since a part may sum over them; the first has the writer.
    """

    def __init__(
        self, config: DictConfig, choices: Mapping[str, str], typed: Iterable[str], every: int
    ) -> None:
        self.hparams = _hparams(config, choices, typed)
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
        for name, values in model.histograms().items():
            writer.add_histogram(name, values, step)

    @override
    @torch.no_grad()
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = cast(Autoencoder, pl_module)
        if not self.every or model.code_dim > WIDEST_PROJECTED:
            return
        split, labelled = data_of(trainer).splits["validation"], data_of(trainer).is_labelled
        images = _validation_batch(trainer, PROJECTED).original
        codes = model.eval().encode(images.to(cast(torch.dtype, model.dtype)))
        _writer(trainer).add_embedding(
            codes.float().cpu(),
            metadata=data_of(trainer).names(split.labels[: len(images)]) if labelled else None,
            label_img=squared(as_images(images)),
            global_step=trainer.global_step,
            tag="codes",
        )


def _writer(trainer: Trainer) -> SummaryWriter:
    return cast(TensorBoardLogger, trainer.logger).experiment


def _validation_batch(trainer: Trainer, count: int) -> Batch:
    return next(iter(data_of(trainer).batches("validation", count)))


def _hparams(
    config: DictConfig, choices: Mapping[str, str], typed: Iterable[str]
) -> dict[str, Any]:
    values: dict[str, Any] = dict(choices)
    settings = [key for key in typed if "." in key and key not in HPARAMS.values()]
    others = {key: key for key in settings if key.partition(".")[0] in (*choices, STOPPING)}
    for name, key in (HPARAMS | others).items():
        value = OmegaConf.select(config, key)
        if value is not None:
            values[name] = value if isinstance(value, int | float | str) else str(value)
    return values
