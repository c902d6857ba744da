"""Greedy layer-wise pretraining: each pair of layers learns to reconstruct its input.

From the features to the code, layer after layer: what the layers below make of them is the
input v `(B, D)`; the layer's own output is h `(B, H)`. The learned weights become those of the
encoder's layer and, transposed, of the decoder's mirror image of it: the network is unrolled and
untied (Hinton & Salakhutdinov 2006).
"""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from aecli.data import DataModule
from aecli.errors import SettingError, check_int
from aecli.models import Autoencoder
from aecli.networks import TiedLinear
from aecli.progress import Tracked
from aecli.randomness import derived_seed
from aecli.sparsity import Sigmoid

UNROLLED = (nn.Flatten, nn.Linear, TiedLinear, nn.Sigmoid, nn.Unflatten)
"""What an encoder and a decoder that can be pretrained are made of."""


class TiedWeights(NamedTuple):
    """One layer, its weights the same in both directions, in the network's own memory."""

    weight: Tensor
    """W, `(H, D)`."""
    hidden_bias: Tensor
    """b, `(H,)`."""
    visible_bias: Tensor
    """c, `(D,)`."""


class Layer(NamedTuple):
    """A layer of the encoder and its mirror image in the decoder."""

    depth: int
    """From 0 at the features."""
    down: nn.Linear
    """v → a."""
    up: nn.Linear | TiedLinear
    """h → v."""
    linear: bool
    """Whether h = a, as in a code without a sparsity; else h = sigmoid(a)."""

    @property
    def tied(self) -> TiedWeights:
        """The weights for a learner that has the same in both directions."""
        return TiedWeights(self.down.weight.data, self.down.bias.data, self.up.bias.data)


class Learner(Protocol):
    """Something that learns one layer."""

    def step(self, visible: Tensor, epoch: int) -> None:
        """Learn from a batch `(B, D)` in `epoch`, counted from 0."""


class Pretraining:
    """Base class: what is done to a model's weights before the training. This one does nothing.

    A subclass defines `__call__`, which changes the weights in place; the split "train" of the data
    is there for it.
    """

    draws_weights = False
    """Whether it draws weights and biases of its own first, whatever they were."""

    def __call__(self, model: Autoencoder, data: DataModule) -> None:
        """Set the model's weights in place; here, leave them."""


class Greedy(Pretraining):
    """Layer-wise pretraining; a subclass says how one layer learns.

    Args:
        epochs: passes over the training split for each layer.
        batch_size: examples a step; None for the whole split.
    """

    tied = True
    """Whether a learner has the same weights in both directions."""

    def __init__(self, epochs: int, batch_size: int | None) -> None:
        self.epochs = check_int("pretraining.epochs", epochs, 1)
        if batch_size is not None:
            check_int("pretraining.batch_size", batch_size, 1)
        self.batch_size = batch_size

    def learner(self, layer: Layer) -> Learner:
        """Return what learns the layer's weights in place."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, model: Autoencoder, data: DataModule) -> None:
        """Pretrain every layer of a fully connected sigmoid network.

        Raises `SettingError` for a model that has no such layers, and for data outside [0, 1].
        """
        pairs = pretrainable_layers(model)
        low, high = (float(end) for end in data.values().aminmax())
        if low < 0 or high > 1:
            raise SettingError(
                f"pretraining: takes data in [0, 1] alone, and this has values from {low:g} to"
                f" {high:g}; choose pretraining=none, or a dataset.scale that gives [0, 1]"
            )
        layers = [
            Layer(depth, *pair, linear=model.sparsity.is_none and depth == len(pairs) - 1)
            for depth, pair in enumerate(pairs)
        ]
        run_seed = torch.initial_seed()
        for layer in layers:
            epochs = count()

            def seed(depth: int = layer.depth, epochs: Iterator[int] = epochs) -> int:
                return derived_seed(run_seed, "pretraining", depth, next(epochs))

            batches = data.shuffled("train", self.batch_size, seed)
            learner = self.learner(layer)
            width, height = layer.down.in_features, layer.down.out_features
            name = f"pretraining layer {layer.depth + 1} of {len(layers)} ({width}-{height})"
            for epoch in Tracked(range(self.epochs), name):
                for batch in batches:
                    visible = batch.x.flatten(1)
                    for below in layers[: layer.depth]:
                        visible = below.down(visible).sigmoid()
                    learner.step(visible, epoch)
            if not layer.down.weight.isfinite().all():
                raise SettingError(f"{name}: diverged; try a smaller pretraining.lr")
            if self.tied and not isinstance(layer.up, TiedLinear):
                layer.up.weight.copy_(layer.down.weight.T)


def pretrainable_layers(model: Autoencoder) -> list[tuple[nn.Linear, nn.Linear | TiedLinear]]:
    """Return each layer of the encoder with its mirror image in the decoder, features first.

    Raises `SettingError` for a model that is not made of pairs of sigmoid layers.
    """
    if not model.can_be_pretrained:
        raise SettingError("pretraining: is for an autoencoder, such as model=ae")
    modules = [*model.encoder.children(), *model.decoder.children()]
    if not all(isinstance(module, UNROLLED) for module in modules):
        raise SettingError("pretraining: needs network=mlp with network.activation=sigmoid")
    if not model.sparsity.is_none and not isinstance(model.sparsity, Sigmoid):
        raise SettingError("pretraining: needs sparsity=none, sigmoid or kl")
    if not model.likelihood.takes_logits:
        raise SettingError(
            "pretraining: needs outputs in (0, 1): likelihood=cross_entropy, bernoulli, or mse"
            " with likelihood.output=sigmoid"
        )
    down = [m for m in model.encoder.children() if isinstance(m, nn.Linear)]
    up = [m for m in model.decoder.children() if isinstance(m, nn.Linear | TiedLinear)]
    return list(zip(down, reversed(up), strict=True))
