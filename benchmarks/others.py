"""The same VAE in other people's training loops, each as its users would write it.

Needs `pip install -e ".[benchmark]"`.
"""

import copy
import logging
import tempfile
import warnings
from collections.abc import Generator

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from aecli.data import DataModule
from benchmarks import bare


class Pythae:
    """An epoch of pythae's `BaseTrainer` with its `VAE`, on grey images."""

    def __init__(self, model: pl.LightningModule, data: DataModule) -> None:
        from pythae.data.datasets import BaseDataset
        from pythae.models import VAE, VAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        class Encoder(BaseEncoder):
            def __init__(self, network: nn.Module) -> None:
                super().__init__()
                self.network = network

            def forward(self, x: Tensor) -> ModelOutput:
                mean, log_variance = self.network(x).chunk(2, dim=1)
                return ModelOutput(embedding=mean, log_covariance=log_variance)

        class Decoder(BaseDecoder):
            def __init__(self, network: nn.Module) -> None:
                super().__init__()
                self.network = network

            def forward(self, z: Tensor) -> ModelOutput:
                return ModelOutput(reconstruction=self.network(z).sigmoid())

        logging.getLogger("pythae").setLevel(logging.ERROR)
        encoder, decoder = copy.deepcopy(nn.ModuleList([model.encoder, model.decoder]))
        settings = VAEConfig(
            input_dim=data.shape, latent_dim=model.code_dim, reconstruction_loss="bce"
        )
        images, labels = bare.images(data), data.splits["train"].labels
        self.folder = tempfile.TemporaryDirectory()
        self.trainer = BaseTrainer(
            VAE(settings, Encoder(encoder), Decoder(decoder)),
            BaseDataset(images, labels),
            training_config=BaseTrainerConfig(
                output_dir=self.folder.name,
                per_device_train_batch_size=data.batch_size,
                learning_rate=bare.learning_rate(model),
            ),
        )
        self.trainer.prepare_training()
        self.epochs = 0

    def epoch(self, seed: int) -> Generator[None, None, float]:
        """Train for an epoch, without a pause; return its mean loss. The order is pythae's own."""
        trainer, config = self.trainer, self.trainer.training_config
        self.epochs += 1
        trainer.callback_handler.on_epoch_begin(
            training_config=config,
            epoch=self.epochs,
            train_loader=trainer.train_loader,
            eval_loader=None,
        )
        loss = trainer.train_step(self.epochs)
        trainer.callback_handler.on_epoch_end(training_config=config)
        yield
        return float(loss)


class Script(pl.LightningModule):
    """A VAE as it is typed into a script."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, lr: float) -> None:
        super().__init__()
        self.encoder, self.decoder, self.lr = encoder, decoder, lr

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Return the loss, and log it."""
        (x,) = batch
        loss = bare.vae(self.encoder, self.decoder, x)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return torch's default Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class PlainLightning:
    """An epoch of the script that most people write.

    A `DataLoader` over a `TensorDataset`, `self.log` in each step, the default progress bar.
    """

    def __init__(self, model: pl.LightningModule, data: DataModule) -> None:
        encoder, decoder = copy.deepcopy(nn.ModuleList([model.encoder, model.decoder]))
        self.module = Script(encoder, decoder, bare.learning_rate(model))
        images = TensorDataset(bare.images(data))
        self.loader = DataLoader(images, batch_size=data.batch_size, shuffle=True)
        self.folder = tempfile.TemporaryDirectory()
        self.trainer = pl.Trainer(
            max_epochs=0,
            default_root_dir=self.folder.name,
            enable_model_summary=False,
            accelerator="cpu" if model.device.type == "cpu" else "auto",
        )

    def epoch(self, seed: int) -> Generator[None, None, float]:
        """Train for an epoch, without a pause; return its mean loss. The order is the loader's."""
        self.trainer.fit_loop.max_epochs += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few workers, of the folder that exists
            self.trainer.fit(self.module, self.loader)
        yield
        return float(self.trainer.callback_metrics["train/loss_epoch"])
