"""Hand-written training loops: what a variant costs with nothing around it.

Each loss is what one would type into a script: plain torch on one float tensor of images in
memory, the same arithmetic and the same random numbers as aecli's variant, so that both end at
the same loss.
"""

import copy
from collections.abc import Callable, Generator
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from aecli.data import DataModule


class Bare:
    """A loop over shuffled batches of `images` `(N, 1, 28, 28)`, with Adam.

    Args:
        loss: (encoder, decoder, x) → the loss of a batch.
        model: its networks are copied and trained, at the same rate.
        data: its training images are taken, in batches of the same size, binarized alike.
    """

    def __init__(
        self,
        loss: Callable[[nn.Module, nn.Module, Tensor], Tensor],
        model: pl.LightningModule,
        data: DataModule,
    ) -> None:
        self.loss = loss
        self.encoder, self.decoder = copy.deepcopy(nn.ModuleList([model.encoder, model.decoder]))
        self.images, self.batch_size = images(data), data.batch_size
        self.dynamic = data.binarize == "dynamic"
        self.drawn: Tensor | None = None
        weights = {*self.encoder.parameters(), *self.decoder.parameters()}
        self.optimizer = torch.optim.Adam(weights, lr=learning_rate(model), fused=True)

    def epoch(self, seed: int) -> Generator[None, None, float]:
        """Train for an epoch, pausing after each step; return its mean loss.

        While `drawn` is set, a batch binarized by aecli in another way, it is taken instead of a
        draw of its own: so that the losses can be compared.
        """
        count = len(self.images)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        generator = torch.Generator().manual_seed(seed + 1)
        total = torch.zeros(())
        for index in order.split(self.batch_size):
            x = self.images[index]
            if self.dynamic:
                x = torch.bernoulli(x, generator=generator) if self.drawn is None else self.drawn
            loss = self.loss(self.encoder, self.decoder, x)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(index)
            yield
        return float(total / count)


def photos(path: Path) -> None:
    """Write 8,000 pictures of 3 × 64 × 64, blocks of chance colours, into an `.npy` of bytes."""
    blocks = np.random.default_rng(0).integers(0, 256, (8000, 3, 8, 8), np.uint8)
    np.save(path, blocks.repeat(8, axis=2).repeat(8, axis=3))


def images(data: DataModule) -> Tensor:
    """Return the training images as one tensor in [0, 1]."""
    train = data.splits["train"]
    return train.examples.card.scaled(train.values)


def learning_rate(model: pl.LightningModule) -> float:
    """Return the rate that a model is about to be trained with."""
    return model.trainer.optimizers[0].param_groups[0]["lr"]


def vae(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    """Return −ELBO with a Bernoulli likelihood."""
    mean, log_variance = encoder(x).chunk(2, dim=1)
    z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
    nll = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    return (nll + kl) / len(x)


def ae(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    """Return the squared error."""
    return (decoder(encoder(x)) - x).square().sum() / len(x)


def dae(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    """Return the squared error from an input of which exactly three tenths are 0."""
    flat = x.flatten(1)
    masked = torch.rand_like(flat).topk(int(0.3 * flat.shape[1] + 0.5), sorted=False).indices
    corrupted = flat.scatter(1, masked, 0.0)
    return (decoder(encoder(corrupted)) - x).square().sum() / len(x)


def sparse_ae(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    """Return the squared error + 3 Σ KL(0.1 ‖ ρ̂)."""
    code = encoder(x).sigmoid()
    mean = code.mean(dim=0).clamp(1e-6, 1 - 1e-6)
    kl = 0.1 * (0.1 / mean).log() + 0.9 * (0.9 / (1 - mean)).log()
    return (decoder(code) - x).square().sum() / len(x) + 3.0 * kl.sum()


def ksparse_ae(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    """Return the squared error from the 25 largest activations."""
    a = encoder(x)
    values, units = a.topk(25, dim=1, sorted=False)
    code = torch.zeros_like(a).scatter(1, units, values)
    return (decoder(code) - x).square().sum() / len(x)
