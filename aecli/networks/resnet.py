"""Residual networks."""

from collections.abc import Sequence
from itertools import pairwise
from math import gcd, prod

from torch import Tensor, nn

from aecli.errors import SettingError, check_choice, check_int, shortened
from aecli.networks.plan import (
    ACTIVATIONS,
    EncoderDecoder,
    Network,
    halved,
    start,
)

GROUP = 16
"""Channels that are normalized together (Wu & He 2018, table 3)."""


MOST_BLOCKS = 100
"""Of each halving; the deepest network of He et al. 2016 has 1,001 layers in all."""


class ResNet(Network):
    """Residual blocks in place of the convolutions of `Conv`: for photos of 32 to 256 pixels.

    A convolution of stride 2 halves the image first; then come the blocks of each size, of which
    the first one halves it again (He et al. 2016, arXiv 1603.05027: identity mappings, the
    activation first). The decoder has the same blocks from the code to the pixels; it doubles
    the image by repeating pixels before a block, so that no pixel is drawn more often than its
    neighbour (Odena, Dumoulin & Olah 2016). Channels are normalized in groups (Wu & He 2018, arXiv
    1803.08494): an example's code does not depend on the rest of its batch.

    Args:
        shape: (C, H, W) of an image.
        channels: of each halving, from the pixels to the code; None for `halved`'s choice.
        blocks: of each size, from 1 to `MOST_BLOCKS`.
        activation: before each convolution of a block, a name in `ACTIVATIONS`.
        init: how the weights start, see `start`.
        output_bias: see `Network.output_bias`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int] | None,
        blocks: int,
        activation: str,
        init: str | float | None = None,
        output_bias: str | None = None,
    ) -> None:
        self.shapes = halved("resnet", shape, channels)
        if any(prod(halving) == 1 for halving in self.shapes):  # a number alone has no variance
            raise SettingError(
                f"network.channels={shortened(channels)}: 1 channel of 1 × 1 pixels is normalized"
                " to 0, whatever it was; must be 2 channels or more there, or fewer halvings"
            )
        self.blocks = check_int("network.blocks", blocks, 1, MOST_BLOCKS)
        self.activation = ACTIVATIONS[check_choice("network.activation", activation, ACTIVATIONS)]
        self.set_start(init, output_bias)

    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        """Make an encoder to `outputs` numbers and a decoder from `code_dim` numbers."""
        image, first, last = self.shapes[0], self.shapes[1], self.shapes[-1]
        down: list[nn.Module] = [nn.Conv2d(image[0], first[0], 3, stride=2, padding=1)]
        down += self._blocks(first[0])
        for wide, small in pairwise(self.shapes[1:]):
            down += [self._block(wide[0], small[0], stride=2), *self._blocks(small[0], but=1)]
        up: list[nn.Module] = []
        for small, wide in pairwise(self.shapes[:0:-1]):
            up += [*self._blocks(small[0], but=1), nn.Upsample(wide[1:])]
            up += [self._block(small[0], wide[0])]
        up += [*self._blocks(first[0]), *self._activated(first[0]), nn.Upsample(image[1:])]
        features = prod(last)
        built = EncoderDecoder(
            nn.Sequential(
                *down, *self._activated(last[0]), nn.Flatten(), nn.Linear(features, outputs)
            ),
            nn.Sequential(
                nn.Linear(code_dim, features),
                nn.Unflatten(1, last),
                *up,
                nn.Conv2d(first[0], image[0], 3, padding=1),
            ),
        )
        start(built, self.init)
        return built

    def _blocks(self, channels: int, but: int = 0) -> list[nn.Module]:
        return [self._block(channels, channels) for _ in range(self.blocks - but)]

    def _block(self, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        residual = nn.Sequential(
            *self._activated(inputs),
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1),
            *self._activated(outputs),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        is_same = inputs == outputs and stride == 1
        shortcut = nn.Identity() if is_same else nn.Conv2d(inputs, outputs, 1, stride=stride)
        return Residual(shortcut, residual)

    def _activated(self, channels: int) -> list[nn.Module]:
        groups = gcd(channels, max(1, channels // GROUP))
        return [nn.GroupNorm(groups, channels), self.activation()]


class Residual(nn.Module):
    """y = shortcut(x) + residual(x)."""

    def __init__(self, shortcut: nn.Module, residual: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, inputs, H, W)` to `(B, outputs, H', W')`."""
        return self.shortcut(x) + self.residual(x)
