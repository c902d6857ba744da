"""Networks: pairs of an encoder x̃ → a and a decoder z → the likelihood's parameters.

A network is a plan; `build` makes the two modules for a code size. Examples are images
`(B, C, H, W)` or rows of numbers `(B, D)`, pre-activations `(B, outputs)`, codes `(B, code_dim)`.
"""

from aecli.networks.conv import Conv
from aecli.networks.mlp import MLP, TiedLinear
from aecli.networks.plan import ACTIVATIONS, BATCH_NORMS, EncoderDecoder, Network, last_bias
from aecli.networks.resnet import ResNet

__all__ = [
    "ACTIVATIONS",
    "BATCH_NORMS",
    "MLP",
    "Conv",
    "EncoderDecoder",
    "Network",
    "ResNet",
    "TiedLinear",
    "last_bias",
]
