"""Fully connected layers."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import prod

import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from aecli.errors import SettingError, check_bool, check_choice, check_list, check_shape
from aecli.networks.plan import (
    ACTIVATIONS,
    EncoderDecoder,
    Network,
    check_size,
    start,
)

GATED = "gated"
HIDDEN: dict[str, Callable[[], nn.Module]] = {**ACTIVATIONS, GATED: partial(nn.GLU, dim=1)}
"""What may stand after a fully connected layer."""


class MLP(Network):
    """Fully connected layers D → hidden → outputs, and code_dim → hidden reversed → D.

    Args:
        shape: (C, H, W) of an image, or (D,) of a row.
        hidden: sizes of the hidden layers, from the features to the code; may be empty.
        activation: after each hidden layer, a name in `HIDDEN`. "gated" is the gated linear unit
            h = (W x + b) ⊙ σ(V x + c) (Dauphin et al. 2017, arXiv 1612.08083, eq. 1), as in Tomczak
            & Welling 2018; W and V are the two halves of one layer that is twice as wide.
        tied: each decoder layer uses the transposed weights of the encoder layer it mirrors
            (biases are its own). Of an encoder with several outputs per code unit (a VAE's mean
            and log-variance) the first `code_dim` rows, the mean's, are tied.
        batch_norm: normalize each hidden layer before its activation (Ioffe & Szegedy 2015).
        init: how the weights start, see `start`.
        output_bias: see `Network.output_bias`.

    Without an `init`, sigmoid networks start at four times Glorot's range, at which their layers
    neither saturate nor go linear (Glorot & Bengio 2010, and the Theano tutorials); others at
    torch's.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        activation: str,
        tied: bool = False,
        batch_norm: bool = False,
        init: str | float | None = None,
        output_bias: str | None = None,
    ) -> None:
        self.shape = check_shape("dataset.shape", shape)
        self.hidden = check_list(
            "network.hidden", hidden, check_size, "[400] or []", may_be_empty=True
        )
        self.activation = HIDDEN[check_choice("network.activation", activation, HIDDEN)]
        self.width = 2 if activation == GATED else 1
        self.tied = check_bool("network.tied", tied)
        if self.tied and activation == GATED:
            raise SettingError(
                "network.tied=true: a gated layer has two matrices, so that the decoder cannot use"
                " them transposed; set network.tied=false, or another network.activation"
            )
        self.batch_norm = check_bool("network.batch_norm", batch_norm)
        self.set_start(init, output_bias)

    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        """Make an encoder to `outputs` numbers and a decoder from `code_dim` numbers."""
        pixels = prod(self.shape)
        down = self._layers([pixels, *self.hidden, outputs])
        if self.tied:
            sizes = [code_dim, *reversed(self.hidden), pixels]
            up: list[nn.Module] = [
                TiedLinear(layer, inputs, self.init)
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
        *hidden, last = pairwise(sizes)
        layers = [*(nn.Linear(i, self.width * o) for i, o in hidden), nn.Linear(*last)]
        if self.activation is nn.Sigmoid:
            for layer in layers:
                nn.init.xavier_uniform_(layer.weight, gain=4)
                nn.init.zeros_(layer.bias)
        start(layers[:-1], self.init, self.width)
        start(layers[-1:], self.init)
        return layers

    def _activate(self, layers: Sequence[nn.Module], hidden: Sequence[int]) -> list[nn.Module]:
        modules: list[nn.Module] = []
        for layer, size in zip(layers, hidden, strict=False):  # one layer more than hidden ones
            norm = [nn.BatchNorm1d(self.width * size)] if self.batch_norm else []
            modules += [layer, *norm, self.activation()]
        return [*modules, layers[-1]]


class TiedLinear(nn.Module):
    """y = x Wᵀ[:inputs] + b, with W the weights of the encoder's `layer` and b its own.

    The bias starts as that of an ordinary layer of this size would.
    """

    def __init__(self, layer: nn.Linear, inputs: int, init: str | float | None = None) -> None:
        super().__init__()
        self.weight = layer.weight  # the same parameter, not a copy
        self.inputs = inputs
        ordinary = nn.Linear(inputs, layer.in_features)
        start([ordinary], init)
        self.bias = ordinary.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, inputs)` to `(B, layer.in_features)`."""
        return F.linear(x, self.weight[: self.inputs].t(), self.bias)
