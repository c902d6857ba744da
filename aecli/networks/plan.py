"""What the networks share: the contract, the activations, and how an image is halved."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from torch import nn

from aecli.errors import SettingError, check_int, check_list, check_shape, shortened

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}
FEWEST_HALVINGS, SMALLEST_SIDE = 2, 8
"""An image is halved this often at least, and until its shorter side is this short, in pixels."""
FIRST_CHANNELS, MOST_CHANNELS = 32, 256
"""Of the first halving, doubled at each, and of the last ones."""

check_size = partial(check_int, low=1)


class EncoderDecoder(NamedTuple):
    """The two halves of an autoencoder, for examples of a shape S: `(C, H, W)`, or `(D,)`."""

    encoder: nn.Module
    """`(B, *S)` → `(B, outputs)`."""
    decoder: nn.Module
    """`(B, code_dim)` → `(B, *S)`."""


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


ImageShape = tuple[int, int, int]
"""(C, H, W)."""


def halved(network: str, shape: Sequence[int], channels: Sequence[int] | None) -> list[ImageShape]:
    """Return the shapes of an image: its own, and that after each halving.

    Args:
        network: its name on the command line, for the messages.
        shape: (C, H, W). An odd side 2n − 1 becomes n, as does 2n.
        channels: after each halving; None for 32, 64, … up to 256, as many as bring the shorter
            side to 8 pixels or fewer, two at least.

    Raises `SettingError` for rows, and for an image that is too small.
    """
    image = _image_shape(network, shape)
    side = min(image[1:])
    room = (side - 1).bit_length()  # ⌈log₂ side⌉
    if not room:
        raise SettingError(
            f"network={network}: halves an image, and one of {image[1]} × {image[2]} pixels is too"
            " small; choose network=mlp"
        )
    if channels is None:
        enough = max(FEWEST_HALVINGS, (-(-side // SMALLEST_SIDE) - 1).bit_length())
        sizes = [
            min(FIRST_CHANNELS << number, MOST_CHANNELS) for number in range(min(enough, room))
        ]
    else:
        sizes = check_list("network.channels", channels, check_size, "[32,64]")
    if len(sizes) > room:
        raise SettingError(
            f"network.channels={shortened(sizes)}: halves an image {len(sizes)} times, and one of"
            f" {image[1]} × {image[2]} pixels can be halved {room} times"
        )
    shapes = [image]
    for size in sizes:
        _, height, width = shapes[-1]
        shapes.append((size, (height + 1) // 2, (width + 1) // 2))
    return shapes


def _image_shape(network: str, shape: Sequence[int]) -> ImageShape:
    checked = check_shape("dataset.shape", shape)
    if len(checked) == 1:
        raise SettingError(
            f"network={network}: is for images, and the data are rows of {checked[0]} numbers;"
            " choose network=mlp"
        )
    return checked[0], checked[1], checked[2]
