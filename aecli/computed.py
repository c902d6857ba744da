"""Defaults that follow from other settings: what `${code_dim:…}` in `conf/` stands for."""

from collections.abc import Sequence
from math import prod
from typing import Any


def code_dim(most: int, shape: Sequence[int] | None) -> int:
    """Return a size of the code for examples of a shape: `most`, or half of them if less."""
    return most if shape is None else min(most, -(-prod(shape) // 2))


def dictionary_lr(latents: Any) -> float:
    """Return 2·10⁻⁴ · √(2¹⁴/n), the rate of a dictionary of n latents (Gao et al. 2024)."""
    is_size = isinstance(latents, int) and latents > 0  # else the model refuses it
    return 2e-4 * (2**14 / latents) ** 0.5 if is_size else 2e-4
