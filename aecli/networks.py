"""Networks: pairs of an encoder x̃ → a and a decoder z → the likelihood's parameters.

A network is a plan; `build` makes the two modules for a code size. Images are `(B, C, H, W)`,
pre-activations `(B, outputs)`, codes `(B, code_dim)`; rows of numbers are `(B, D)`.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from aecli.errors import SettingError, check_bool, check_choice, check_int, check_list, check_shape

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}


_size = partial(check_int, low=1)


class EncoderDecoder(NamedTuple):
    """The two halves of an autoencoder."""

    encoder: nn.Module
    """`(B, C, H, W)` → `(B, outputs)`."""
    decoder: nn.Module
    """`(B, code_dim)` → `(B, C, H, W)`."""


class Network:
    """Base class: the plan of an encoder and a decoder.

    A subclass takes its settings and the data's `shape` in its constructor, and makes the modules
    in `build`. It holds no weights itself.
    """

    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        """Make an encoder to `outputs` numbers and a decoder from `code_dim` numbers.

        `outputs` is K for an autoencoder and 2K for a VAE: mean and log-variance. A gradient
        has to reach every parameter of both.
        """
        raise NotImplementedError


class MLP(Network):
    """Fully connected layers D → hidden → outputs, and code_dim → hidden reversed → D.

    Args:
        shape: (C, H, W) of an image, or (D,) of a row.
        hidden: sizes of the hidden layers, from the pixels to the code; may be empty.
        activation: after each hidden layer, a name in `ACTIVATIONS`.
        tied: each decoder layer uses the transposed weights of the encoder layer it mirrors
            (biases are its own). Of an encoder with several outputs per code unit (a VAE's mean
            and log-variance) the first `code_dim` rows, the mean's, are tied.
        batch_norm: normalize each hidden layer before its activation (Ioffe & Szegedy 2015).

    Sigmoid networks start at four times Glorot's range, at which their layers neither saturate
    nor go linear (Glorot & Bengio 2010, and the Theano tutorials); others at torch's.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        activation: str,
        tied: bool = False,
        batch_norm: bool = False,
    ) -> None:
        self.shape = check_shape("dataset.shape", shape)
        self.hidden = check_list("network.hidden", hidden, _size, "[400] or []", may_be_empty=True)
        self.activation = ACTIVATIONS[check_choice("network.activation", activation, ACTIVATIONS)]
        self.tied = check_bool("network.tied", tied)
        self.batch_norm = check_bool("network.batch_norm", batch_norm)

    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        """Make an encoder to `outputs` numbers and a decoder from `code_dim` numbers."""
        pixels = prod(self.shape)
        down = self._layers([pixels, *self.hidden, outputs])
        if self.tied:
            sizes = [code_dim, *reversed(self.hidden), pixels]
            up: list[nn.Module] = [
                TiedLinear(layer, inputs)
                for layer, inputs in zip(reversed(down), sizes[:-1], strict=True)
            ]
        else:
            up = list(self._layers([code_dim, *reversed(self.hidden), pixels]))
        return EncoderDecoder(
            encoder=nn.Sequential(nn.Flatten(), *self._activate(down, self.hidden)),
            decoder=nn.Sequential(
                *self._activate(up, self.hidden[::-1]), nn.Unflatten(1, self.shape)
            ),
        )

    def _layers(self, sizes: Sequence[int]) -> list[nn.Linear]:
        layers = [nn.Linear(i, o) for i, o in pairwise(sizes)]
        if self.activation is nn.Sigmoid:
            for layer in layers:
                nn.init.xavier_uniform_(layer.weight, gain=4)
                nn.init.zeros_(layer.bias)
        return layers

    def _activate(self, layers: Sequence[nn.Module], hidden: Sequence[int]) -> list[nn.Module]:
        modules: list[nn.Module] = []
        for layer, size in zip(layers, hidden, strict=False):  # one layer more than hidden ones
            norm = [nn.BatchNorm1d(size)] if self.batch_norm else []
            modules += [layer, *norm, self.activation()]
        return [*modules, layers[-1]]


def image_shape(name: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape of images; raise `SettingError` for rows, which a network has no use for."""
    checked = check_shape("dataset.shape", shape)
    if len(checked) == 1:
        raise SettingError(
            f"network={name}: is for images, and the data are rows of {checked[0]} numbers; choose"
            " network=mlp"
        )
    return checked[0], checked[1], checked[2]


class TiedLinear(nn.Module):
    """y = x Wᵀ[:inputs] + b, with W the weights of the encoder's `layer` and b its own."""

    def __init__(self, layer: nn.Linear, inputs: int) -> None:
        super().__init__()
        self.weight = layer.weight  # the same parameter, not a copy
        self.inputs = inputs
        # The bias starts as that of an ordinary layer of this size would.
        self.bias = nn.Linear(inputs, layer.in_features).bias

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, inputs)` to `(B, layer.in_features)`."""
        return F.linear(x, self.weight[: self.inputs].t(), self.bias)


class Conv(Network):
    """Convolutions of stride 2 that halve the image, then a linear layer; the decoder mirrors it.

    Args:
        shape: (C, H, W) of an image.
        channels: of each halving, from the pixels to the code.
        activation: after each convolution, a name in `ACTIVATIONS`.
    """

    def __init__(self, shape: Sequence[int], channels: Sequence[int], activation: str) -> None:
        self.shape = image_shape("conv", shape)
        self.channels = check_list("network.channels", channels, _size, "[32,64]")
        self.activation = ACTIVATIONS[check_choice("network.activation", activation, ACTIVATIONS)]

    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        """Make an encoder to `outputs` numbers and a decoder from `code_dim` numbers."""
        shapes: list[tuple[int, int, int]] = [self.shape]
        for channels in self.channels:
            _, height, width = shapes[-1]
            shapes.append((channels, (height + 1) // 2, (width + 1) // 2))
        features = prod(shapes[-1])
        down: list[nn.Module] = []
        for wide, small in pairwise(shapes):
            down += [nn.Conv2d(wide[0], small[0], 3, stride=2, padding=1), self.activation()]
        up: list[nn.Module] = []
        for small, wide in zip(shapes[:0:-1], shapes[-2::-1], strict=True):
            # A stride of 2 maps 2n−1 and 2n pixels to n: the padding says which it was.
            padding = (wide[1] + 1) % 2, (wide[2] + 1) % 2
            layer = nn.ConvTranspose2d(
                small[0], wide[0], 3, stride=2, padding=1, output_padding=padding
            )
            up += [self.activation(), layer]
        return EncoderDecoder(
            encoder=nn.Sequential(*down, nn.Flatten(), nn.Linear(features, outputs)),
            decoder=nn.Sequential(nn.Linear(code_dim, features), nn.Unflatten(1, shapes[-1]), *up),
        )
