"""What the dictionaries differ in: which latents of a code are active, and what this costs.

Sparse autoencoders of 10⁴ latents and more on the activations of a network. Each part is computed
at the places of a code that are not 0, see `places`.
"""

from aecli.dictionaries.selection import Selection
from aecli.dictionaries.thresholds import Gated, JumpReLU, JumpReLUToTarget, NormL1
from aecli.dictionaries.topk import BatchTopK, Matryoshka, TopK

__all__ = [
    "BatchTopK",
    "Gated",
    "JumpReLU",
    "JumpReLUToTarget",
    "Matryoshka",
    "NormL1",
    "Selection",
    "TopK",
]
