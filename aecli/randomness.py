"""Random numbers: seeds that are derived from seeds, and draws that belong to examples."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

BLOCK = 64
"""Consecutive examples that share a generator in `FixedDraws`."""


def derived_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2⁶³) that is a hash of its parts.

    Counting on from a seed (s, s + 1, …) would give the seeds of other runs.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
MIXER = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))
"""The constants of SplitMix64, as numbers of 64 bits with a sign."""


class Draws:
    """torch's own random numbers, which follow the run's seed: those of a training."""

    def uniform(self, x: Tensor, *samples: int) -> Tensor:
        """Return u ~ U[0, 1), of the shape `(*samples, *x.shape)` and on the device of x."""
        return torch.rand_like(x.expand(*samples, *x.shape) if samples else x)

    def normal(self, x: Tensor, *samples: int) -> Tensor:
        """Return ε ~ N(0, 1), of the shape `(*samples, *x.shape)` and on the device of x."""
        return torch.randn_like(x.expand(*samples, *x.shape) if samples else x)

    def of(self, purpose: str) -> "Draws":
        """Return draws for a purpose; here the same, since each call draws anew."""
        return self

    def after(self, count: int) -> "Draws":
        """Return the draws of the examples after the first `count` of them; here the same."""
        return self


class FixedDraws(Draws):
    """Draws of an evaluation: an example's numbers depend on a seed and its place in the split.

    They do not depend on the batches that the split is cut into. Each `BLOCK` of consecutive
    examples has a generator of its own; all numbers of a block are drawn, whichever are used.

    Args:
        seed: of all draws from the split.
        first: place in the split of the first of the examples that x will hold.
    """

    def __init__(self, seed: int, first: int) -> None:
        self.seed = seed
        self.first = first
        self._generators: dict[int, Generator] = {}

    def of(self, purpose: str) -> "FixedDraws":
        """Return draws of other numbers: of their own for each purpose."""
        return FixedDraws(derived_seed(self.seed, purpose), self.first)

    def after(self, count: int) -> "FixedDraws":
        """Return the draws of the examples after the first `count` of them."""
        return FixedDraws(self.seed, self.first + count)

    def uniform(self, x: Tensor, *samples: int) -> Tensor:
        """Return u ~ U[0, 1), of the shape `(*samples, *x.shape)` and on the device of x."""
        return self._drawn(torch.rand, x, samples)

    def normal(self, x: Tensor, *samples: int) -> Tensor:
        """Return ε ~ N(0, 1), of the shape `(*samples, *x.shape)` and on the device of x."""
        return self._drawn(torch.randn, x, samples)

    def _drawn(self, draw: Callable[..., Tensor], x: Tensor, samples: tuple[int, ...]) -> Tensor:
        start, end = self.first, self.first + len(x)
        like: dict[str, Any] = {"device": x.device, "dtype": x.dtype}
        drawn = [
            draw(*samples, BLOCK, *x.shape[1:], generator=self._generator(block, x.device), **like)
            for block in range(start // BLOCK, -(-end // BLOCK))
        ]
        place = start % BLOCK
        return torch.cat(drawn, dim=len(samples)).narrow(len(samples), place, len(x))

    def _generator(self, block: int, device: torch.device) -> Generator:
        if block not in self._generators:
            seed = derived_seed(self.seed, block)
            self._generators[block] = Generator(device).manual_seed(seed)
        return self._generators[block]


class SharedDraws(Draws):
    """The same numbers for every example: what is made of one depends on it alone, not its place.

    Each mean over draws is as free of bias as with numbers of its own for each example.

    Args:
        seed: of all draws.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generators: dict[torch.device, Generator] = {}

    def of(self, purpose: str) -> "SharedDraws":
        """Return draws of other numbers: of their own for each purpose."""
        return SharedDraws(derived_seed(self.seed, purpose))

    def after(self, count: int) -> "SharedDraws":
        """Return the draws of other examples: the same, from their first on."""
        return SharedDraws(self.seed)

    def uniform(self, x: Tensor, *samples: int) -> Tensor:
        """Return u ~ U[0, 1), of the shape `(*samples, *x.shape)`, alike along x's first."""
        return self._drawn(torch.rand, x, samples)

    def normal(self, x: Tensor, *samples: int) -> Tensor:
        """Return ε ~ N(0, 1), of the shape `(*samples, *x.shape)`, alike along x's first."""
        return self._drawn(torch.randn, x, samples)

    def _drawn(self, draw: Callable[..., Tensor], x: Tensor, samples: tuple[int, ...]) -> Tensor:
        if x.device not in self._generators:
            self._generators[x.device] = Generator(x.device).manual_seed(self.seed)
        like: dict[str, Any] = {"device": x.device, "dtype": x.dtype}
        one = draw(*samples, 1, *x.shape[1:], generator=self._generators[x.device], **like)
        return one.expand(*samples, *x.shape)


def uniform_of(x: Tensor, seed: int) -> Tensor:
    """Return u ~ U[0, 1) of the shape of x `(N, *S)`, float32, made of each example's own numbers.

    Wherever an example stands, and whatever beside, its u is the same; other examples have others.
    Their numbers are counted through the mixer of SplitMix64 (Steele, Lea & Flood 2014).
    """
    numbers = x.flatten(1).float().contiguous().view(torch.int32).long()
    steps = torch.arange(1, numbers.shape[1] + 1, device=x.device) * GOLDEN
    own = _mixed(_mixed(numbers + steps).sum(dim=1, keepdim=True) + derived_seed(seed, "content"))
    return ((_mixed(own + steps) >> 40) & (1 << 24) - 1).view(x.shape).float() * 2.0**-24


def _mixed(numbers: Tensor) -> Tensor:
    """Return whole numbers `(…)`, modulo 2⁶⁴, mixed so that each bit depends on all of them."""
    for shift, factor in MIXER:
        numbers = (numbers ^ (numbers >> shift) & (1 << 64 - shift) - 1) * factor
    return numbers ^ (numbers >> 31) & (1 << 33) - 1


TORCH = Draws()
"""Draws from torch's global generators."""
