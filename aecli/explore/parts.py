"""A model's parts in plain numbers and words: its likelihood, its noise, the units of its data."""

from collections.abc import Sequence
from typing import Any

from aecli.columns import columns_of
from aecli.data import Card
from aecli.data.array_card import ArrayCard
from aecli.data.table_card import TableCard
from aecli.explore.plan import Untranslatable
from aecli.likelihoods import Likelihood
from aecli.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli, CrossEntropy
from aecli.likelihoods.gaussian import MSE, Gaussian
from aecli.likelihoods.mixed import Mixed
from aecli.noise import Gaussian as GaussianNoise
from aecli.noise import Masking, Noise, SaltAndPepper
from aecli.text import one_line

LONGEST_NAME = 40
"""Characters of the name of a column or a category."""
MOST_NAMES = 1000
"""Columns that have a name in the page; further ones are told by their number."""


def likelihood_in_words(likelihood: Likelihood, features: Sequence[Any] | None) -> dict[str, Any]:
    """Return what turns a decoder's output into a mean and a score; `features` are the card's.

    Raises `Untranslatable` for a plugin's likelihood.
    """
    kind = type(likelihood)
    if kind in (Bernoulli, CrossEntropy):
        return {"kind": "bernoulli", "is_density": likelihood.is_density}
    if kind is ContinuousBernoulli:
        return {"kind": "continuous_bernoulli", "is_density": True}
    if isinstance(likelihood, Gaussian) and kind is Gaussian:
        sigma = float(likelihood.log_sigma.exp())
        return {"kind": "gaussian", "is_density": True, "sigma": sigma}
    if isinstance(likelihood, MSE) and kind is MSE:
        output = "sigmoid" if likelihood.takes_logits else "linear"
        return {"kind": "squared_error", "is_density": False, "output": output}
    if isinstance(likelihood, Mixed) and kind is Mixed and features is not None:
        columns = columns_of(features)
        return {
            "kind": "mixed",
            "is_density": True,
            "numbers": columns.numbers,
            "categories": [[block.start, len(block)] for block in columns.categories],
            "mask": None if columns.mask is None else columns.mask.start,
            "columns": columns.of,
            "sigma": likelihood.sigma.tolist(),
        }
    raise Untranslatable(kind.__name__)


def noise_in_words(noise: Noise, features: Sequence[Any] | None) -> dict[str, Any] | None:
    """Return the noise that a run was trained with; None without one, or with a plugin's."""
    if type(noise) is GaussianNoise:
        return {"kind": "gaussian", "level": noise.std, "low": noise.low, "high": noise.high}
    if type(noise) is SaltAndPepper:
        own = {"kind": "salt and pepper", "level": noise.amount, "salt": noise.salt}
        return own | {"low": noise.low, "high": noise.high}
    if type(noise) is Masking:
        columns = None if features is None else columns_of(features).of
        return {"kind": "masking", "level": noise.amount, "columns": columns}
    return None


def card_in_words(card: Card) -> dict[str, Any]:
    """Return what an example is: an image, or a row with a column for each feature.

    `mask` is where a row of a table says of its first column whether it is there, if it does.
    """
    if len(card.shape) == 3:
        return {"kind": "image", "shape": list(card.shape)}
    if isinstance(card, TableCard):
        columns = [
            {
                "name": one_line(column.name, LONGEST_NAME),
                "kind": column.kind,
                "shift": column.shift,
                "scale": column.scale,
                "categories": [one_line(text, LONGEST_NAME) for text in column.categories],
            }
            for column in card.columns
        ]
        mask = card.shape[0] - len(columns) if card.missing == "mask" else None
        return {"kind": "row", "shape": list(card.shape), "columns": columns, "mask": mask}
    count = min(card.shape[0], MOST_NAMES)
    shifts, scales = [0.0] * count, [1.0] * count
    if isinstance(card, ArrayCard):
        shifts, scales = (
            moment.expand(card.shape)[:count].tolist() for moment in (card.shift, card.scale)
        )
    names = [
        {"name": f"x{n}", "kind": "number", "shift": a, "scale": b, "categories": []}
        for n, (a, b) in enumerate(zip(shifts, scales, strict=True))
    ]
    return {"kind": "row", "shape": list(card.shape), "columns": names, "mask": None}
