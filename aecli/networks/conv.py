"""Convolutions."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import nn

from aecli.errors import check_choice
from aecli.networks.plan import (
    ACTIVATIONS,
    EncoderDecoder,
    Network,
    halved,
    start,
)


class Conv(Network):
    """Convolutions of stride 2 that halve the image, then a linear layer; the decoder mirrors it.

    Args:
        shape: (C, H, W) of an image.
        channels: of each halving, from the pixels to the code; None for `halved`'s choice.
        activation: after each convolution, a name in `ACTIVATIONS`.
        init: how the weights start, see `start`.
        output_bias: see `Network.output_bias`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int] | None,
        activation: str,
        init: str | float | None = None,
        output_bias: str | None = None,
    ) -> None:
        self.shapes = halved("conv", shape, channels)
        self.activation = ACTIVATIONS[check_choice("network.activation", activation, ACTIVATIONS)]
        self.set_start(init, output_bias)

    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        """Make an encoder to `outputs` numbers and a decoder from `code_dim` numbers."""
        features = prod(self.shapes[-1])
        down: list[nn.Module] = []
        for wide, small in pairwise(self.shapes):
            down += [nn.Conv2d(wide[0], small[0], 3, stride=2, padding=1), self.activation()]
        up: list[nn.Module] = []
        for small, wide in pairwise(reversed(self.shapes)):
            # A stride of 2 maps 2n−1 and 2n pixels to n: the padding says which it was.
            padding = (wide[1] + 1) % 2, (wide[2] + 1) % 2
            layer = nn.ConvTranspose2d(
                small[0], wide[0], 3, stride=2, padding=1, output_padding=padding
            )
            up += [self.activation(), layer]
        built = EncoderDecoder(
            nn.Sequential(*down, nn.Flatten(), nn.Linear(features, outputs)),
            nn.Sequential(nn.Linear(code_dim, features), nn.Unflatten(1, self.shapes[-1]), *up),
        )
        start(built, self.init)
        return built
