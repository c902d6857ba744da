"""Values that a likelihood calls impossible: of such data p(x|z) is 0, whatever `log_prob` says."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aecli.data import Batch, DataModule
from aecli.data.module import NEW
from aecli.errors import SettingError
from aecli.models import Autoencoder
from aecli.text import one_line

DENSITIES = ("nll", "elbo", "marginal_nll")
"""Kinds of score that are made of p(x|z)."""


def check_splits(model: Autoencoder, data: DataModule, names: Sequence[str], option: str) -> None:
    """Refuse splits with values that the model's likelihood, of the name `option`, does not have.

    What is scaled by the ends of the training split may leave [0, 1] in the others. They are not
    read where the likelihood is one of any number, or no density: a little beyond the ends it is a
    loss like any other. Nor where it leaves out what it does not know, as one of tables does.
    """
    likelihood = model.likelihood
    has_ends = likelihood.support and likelihood.is_density and not likelihood.leaves_out_missing
    for name in names if has_ends else ():
        values = data.values(name)
        if not likelihood.supports(values).all():
            raise SettingError(
                f"likelihood={option}: is for values {likelihood.support}, and the {name} split has"
                f" some from {values.min():g} to {values.max():g} (dataset.scale=minmax knows the"
                " training split alone); choose likelihood=gaussian_learned or mse, or scale all"
                " of the data yourself and set dataset.scale=none"
            )


def check_examples(
    kind: str,
    model: Autoencoder,
    data: DataModule,
    batch: Batch,
    ids: Sequence[Any] | np.ndarray,
    split: str,
) -> None:
    """Refuse an example, by its id, that has no score of a `kind` since its values are impossible.

    What is binarized has none of these: values beyond [0, 1] count as its ends, in every split.
    """
    likelihood = model.likelihood
    if kind not in DENSITIES or not likelihood.support or data.binarize != "none":
        return
    x = batch.given[0]
    wrong = ~likelihood.supports(x).flatten(1).all(dim=1)
    if wrong.any():
        first = int(wrong.int().argmax())
        values = x[first]
        whose = "" if split == NEW else f" of the {split} split"
        way_out = ", or leave the example out" if split == NEW else ""
        has = f"values from {values.min():g} to {values.max():g} on the scale of the model's input"
        if likelihood.leaves_out_missing:
            has = "a category that the training split does not have"
        raise SettingError(
            f"kind={kind}: example {one_line(ids[first])}{whose} has {has}, and the run's"
            f" likelihood is one of values {likelihood.support} alone; use kind=mse{way_out}"
        )
