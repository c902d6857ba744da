"""How much of a known dictionary a learned one has: as SynthSAEBench measures it.

The definitions are those of Chanin & Garriga-Alonso 2026 (arXiv 2602.14687) and of the code in
SAELens 6.54 (sae_lens/synthetic/evals.py); MMCS is that of Sharkey et al. 2022.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from aecli.data import Drawn
from aecli.models import Dictionary
from aecli.size import check_fits

BYTES = 24
"""Of memory for each cosine, while the assignment is found."""


class Alignment(NamedTuple):
    """What n atoms and N true features have in common, by their directions alone."""

    best: Tensor
    """The true feature with the largest |cos| of each atom, `(n,)`."""
    values: dict[str, float]
    """`mcc`, `mmcs` and `uniqueness`."""


def alignment(atoms: Tensor, features: Tensor) -> Alignment:
    """Return how atoms `(n, d)` lie to true features `(N, d)`.

    - `mcc`: the mean of |cos| over the pairs of the one-to-one assignment with the largest sum, of
      min(n, N) pairs (by the Hungarian algorithm);
    - `mmcs`: the mean over the true features of their largest cosine with an atom;
    - `uniqueness`: how many true features are the nearest one of an atom, by |cos|, over n.

    Raises `SettingError` if their cosines do not fit into memory.
    """
    check_fits(
        f"eval: the cosines of {len(atoms):,} atoms and {len(features):,} true features",
        BYTES * len(atoms) * len(features),
    )
    cosines = F.normalize(atoms.float().cpu(), dim=1) @ F.normalize(features, dim=1).T
    mmcs = float(cosines.amax(dim=0).double().mean())
    sizes = cosines.abs_()
    best = sizes.argmax(dim=1)
    pairs = linear_sum_assignment(sizes.numpy(), maximize=True)
    return Alignment(
        best,
        {
            "mcc": float(sizes.numpy()[pairs].mean(dtype="float64")),
            "mmcs": mmcs,
            "uniqueness": len(best.unique()) / len(atoms),
        },
    )


class FeatureDetection:
    """Each latent as a detector of its nearest true feature, over rows that are added.

    Args:
        best: the number of that feature, of each latent, `(n,)`.
        features: N.
    """

    def __init__(self, best: Tensor, features: int) -> None:
        self.best, self.features = best, features
        self.both, self.fired = torch.zeros(2, len(best), dtype=torch.float64)
        self.true = torch.zeros(features, dtype=torch.float64)

    def add(self, row: Tensor, latent: Tensor, drawn: Drawn) -> None:
        """Add rows: where latents are active, `(M,)` each, and what the rows are made of."""
        rows, firings = len(drawn.x), drawn.firings
        there = torch.zeros(rows, self.features, dtype=torch.bool)
        there[firings.row, firings.feature] = True
        hit = there[row, self.best[latent]]
        count = len(self.best)
        self.fired += latent.bincount(minlength=count)
        self.both += latent[hit].bincount(minlength=count)
        self.true += firings.feature.bincount(minlength=self.features)

    def compute(self) -> dict[str, float]:
        """Return the means over the latents of precision, recall, and their harmonic mean F1.

        A latent without an activation has none of them right: all three are 0 there.
        """
        true = self.true[self.best]
        precision = self.both / self.fired.clamp_min(1)
        recall = self.both / true.clamp_min(1)
        f1 = 2 * self.both / (self.fired + true).clamp_min(1)  # 2 P R / (P + R)
        values = {"f1": f1, "precision": precision, "recall": recall}
        return {name: float(value.mean()) for name, value in values.items()}


@torch.no_grad()
def recovery(model: Dictionary, features: Tensor, parts: Iterable[Drawn]) -> dict[str, float]:
    """Return `mcc`, `mmcs`, `uniqueness`, and `f1`, `precision` and `recall` of the firing.

    `features` are the true ones, `(N, d)`; `parts` are the rows of a split.
    """
    best, values = alignment(model.W_dec, features)
    detection = FeatureDetection(best, len(features))
    for drawn in parts:
        coded = model.coded(drawn.x.to(model.device))
        active = coded.code != 0
        row, latent = (part[active].long().cpu() for part in (coded.places.row, coded.places.index))
        detection.add(row, latent, drawn)
    return values | detection.compute()
