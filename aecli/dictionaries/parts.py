"""The parts of a batch, some rows each, on which a step is taken one after the other."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from aecli.dictionaries.collectors import Found


class Part(NamedTuple):
    """Some R rows of a batch."""

    x: Tensor
    """`(R, d)`."""
    target: Tensor
    """`(R, d)`, or `(R, e)`."""
    main: Found
    """What the selection has found."""
    code: Tensor
    """z there, a constant."""
    dead: Found | None
    """What was found of the dead latents, if there are some."""


class Whole(NamedTuple):
    """What a part has to know of the whole batch."""

    rows: int
    """B."""
    of_batch: Tensor | None
    """See `Selection.of_batch`."""
    norms: Tensor
    """Those of the atoms, `(n,)`: all 1 where they are kept so."""
    share: Tensor | None
    """See `aecli.dictionaries.auxiliary.ErrorSpread`, if there are dead latents."""


def split(
    size: int, x: Tensor, target: Tensor, main: Found, code: Tensor, dead: Found | None
) -> list[Part]:
    """Return the parts of `size` rows each of a batch."""
    mains = main.split(size)
    codes = code.split([len(part.places) for part in mains])
    deads = [None] * len(mains) if dead is None else dead.split(size)
    return list(map(Part, x.split(size), target.split(size), mains, codes, deads))


def in_levels(found: Found, level: Tensor, levels: int) -> Found:
    """Return what was found in a bag for each row and level; `level` is that of each place."""
    places, order = found.places.in_levels(level, levels)
    return Found(places, found.values[order])


def beside(found: Found, dead: Found | None) -> Found:
    """Return what was found, and in further bags what was found of the dead latents above 0."""
    if dead is None:
        return Found(replace(found.places), found.values)  # a copy: what it finds out goes with it
    kept = dead.values > 0  # often few are; of a few rows at a time, since a copy is made
    places = found.places.beside(dead.places.where(kept))
    return Found(places, torch.cat([found.values, dead.values[kept]]))
