"""What the networks share: the contract, the activations, and how an image is halved."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from aecli.errors import (
    SettingError,
    check_int,
    check_list,
    check_number,
    check_shape,
    shortened,
)

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

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Batch normalization in all its forms: in training an output depends on the whole batch."""
GLOROT, DATA = "glorot", "data"
WIDEST = 1
"""Standard deviation of a start's weights: wider, a network's outputs leave float32."""

check_size = partial(check_int, low=1)


class EncoderDecoder(NamedTuple):
    """The two halves of an autoencoder, for examples of a shape S: `(C, H, W)`, or `(D,)`."""

    encoder: nn.Module
    """`(B, *S)` → `(B, outputs)`."""
    decoder: nn.Module
    """`(B, code_dim)` → `(B, *S)`."""


class Network:
    """Base class: the plan of an encoder and a decoder. This one is none, and builds nothing.

    A subclass takes its settings and the data's `shape` in its constructor, and makes the modules
    in `build`. It holds no weights itself.
    """

    init: str | float | None = None
    """How the weights start, see `start`."""
    output_bias: str | None = None
    """"data" if the decoder's last bias starts at the mean training example; None as `build` says.
    """

    def set_start(self, init: Any, output_bias: Any) -> None:
        """Set how weights and the last bias start; raise `SettingError` for what is no start."""
        if init is not None and init != GLOROT:
            try:
                check_number("network.init", init, low=0, high=WIDEST, open_low=True)
            except SettingError as error:
                raise SettingError(
                    f"network.init={shortened(init)}: must be null, {GLOROT}, or the standard"
                    f" deviation of a normal in ]0, {WIDEST}], such as 0.01"
                ) from error
        if output_bias not in (None, DATA):
            raise SettingError(
                f"network.output_bias={shortened(output_bias)}: must be null or {DATA}"
            )
        self.init, self.output_bias = init, output_bias

    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        """Make an encoder to `outputs` numbers and a decoder from `code_dim` numbers.

        `outputs` is K for an autoencoder and 2K for a VAE: mean and log-variance. A gradient
        has to reach every parameter of both.
        """
        raise SettingError("network=none: is for a dictionary; choose network=mlp, or another")

    @property
    def is_none(self) -> bool:
        """Whether there is no encoder and no decoder to build."""
        return type(self) is Network


def start(parts: Iterable[nn.Module], init: Any, matrices: int = 1) -> None:
    """Draw the weights of linear layers and convolutions anew; their biases become 0.

    Args:
        parts: whose layers these are.
        init: "glorot" for U(−a, a), a² = 6 / (inputs + outputs) (Glorot & Bengio 2010, eq. 16);
            a number σ for N(0, σ²); None leaves everything as it is.
        matrices: how many of them the weight of each layer holds, one above the other.
    """
    if init is None:
        return
    for layer in (layer for part in parts for layer in part.modules()):
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        for weight in layer.weight.data.chunk(matrices):
            if init == GLOROT:
                nn.init.xavier_uniform_(weight)
            else:
                nn.init.normal_(weight, std=float(init))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def last_bias(decoder: nn.Module) -> nn.Parameter:
    """Return the bias of a decoder's last layer."""
    biases = (getattr(module, "bias", None) for module in reversed(list(decoder.modules())))
    found = next((bias for bias in biases if isinstance(bias, nn.Parameter)), None)
    if found is None:
        raise SettingError("network.output_bias=data: the decoder of this network has no bias")
    return found


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
