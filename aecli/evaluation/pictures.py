"""What `aecli eval` draws of a run: reconstructions, filters, activations, a map of codes."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from aecli import figures
from aecli.evaluation import metrics
from aecli.models import Autoencoder, Dictionary
from aecli.models.vae import has_normal_prior
from aecli.networks import TiedLinear
from aecli.runs.load import Loaded
from aecli.text import one_line

SHOWN = 16
"""Examples in the pictures of reconstructions and of activations."""
SHOWN_FILTERS = 100
MAPPED = 1 << 27
"""Numbers in the codes of a split of which pictures are drawn."""


@torch.no_grad()
def drawn(loaded: Loaded, noise: str, levels: list[float]) -> dict[str, Tensor]:
    """Return the pictures of a run by name, `(C, H, W)`; `noise` and `levels` are those of eval."""
    model = loaded.model
    batch = next(iter(loaded.data.batches("test", SHOWN)))
    has_target = batch.target is not None  # of another width than what it is made of, perhaps
    named = "target" if has_target else "input"
    rows = [(named, batch.wanted), ("output", model.reconstruct(batch.original))]
    for level, corruption in metrics.noises(model, noise, levels, loaded.card.features).items():
        corrupted = corruption.corrupt(batch.original, batch.draws.of(f"noise {level}"))
        level_name, output = f"{noise} {level:g}", model.reconstruct(corrupted)
        if has_target:
            rows.append((f"output, {level_name}", output))
        else:
            rows += [(level_name, corrupted), ("output", output)]
    what = f"{loaded.choices['model']} on {loaded.choices['dataset']}"
    title = f"{what}: {_examples(len(batch.original))}, and what the model makes of them"
    pictures = {"reconstructions": figures.pixels_of(figures.labelled_rows(rows, title))}
    if len(loaded.data.splits["test"]) * model.code_dim > MAPPED:
        return pictures
    codes, numbers = metrics.codes(model, loaded.data.batches("test"))
    weights, shows, together = _filters(model, codes, batch.wanted.shape[1:])
    grid = figures.filters(weights, columns=10, together=together)
    pictures["filters"] = figures.framed(grid, f"{what}: {shows}")
    labels = np.array(loaded.data.names(numbers)) if loaded.data.is_labelled else None
    first = slice(0, SHOWN)
    order = (
        np.arange(len(codes[first])) if labels is None else np.argsort(labels[first], kind="stable")
    )
    names = ["" for _ in order] if labels is None else [one_line(labels[row], 12) for row in order]
    title = f"{what}: the codes of {_examples(len(order))}, a row each"
    figure = figures.activations(batch.original[order], codes[order], names, title)
    pictures["activations"] = figures.pixels_of(figure)
    if min(codes.shape) >= 2:
        points, origin = codes.numpy(), np.zeros(2)
        axes = ("z0", "z1")
        if points.shape[1] > 2:
            points, origin = _principal(points)
            axes = ("principal component 1", "principal component 2")
        title = f"{what}: the codes of the test set"
        prior = origin if has_normal_prior(model) else None
        figure = figures.code_map(points, labels, title, axes, prior)
        pictures["codes"] = figures.pixels_of(figure)
    return pictures


def _examples(count: int) -> str:
    return "a test example" if count == 1 else f"{count} test examples"


class Filters(NamedTuple):
    """What the units of a model stand for, as examples."""

    weights: Tensor
    """`(N, *S)`."""
    what: str
    """For the title."""
    together: bool
    """Whether they have one scale."""


def _filters(model: Autoencoder, codes: Tensor, shape: torch.Size) -> Filters:
    """Return the weights from the code's units to features of a `shape`, if one layer decodes.

    Otherwise what each unit adds: the output at the mean of the `codes` `(N, K)` and a standard
    deviation of the unit more, less that at a standard deviation less. In a deep network, the
    weights of a layer by themselves look like noise.
    """
    if isinstance(model, Dictionary):
        atoms = model.W_dec[:SHOWN_FILTERS].unflatten(1, shape)
        return Filters(atoms, "atoms of the dictionary", together=False)
    decoder = list(model.decoder.children())
    if len(decoder) == 2 and isinstance(decoder[0], nn.Linear | TiedLinear):
        weight = decoder[0].weight
        # Stored (D, K) by an ordinary layer; a tied one holds the encoder's (outputs, D).
        columns = weight.T if isinstance(decoder[0], nn.Linear) else weight[: model.code_dim]
        weights = columns[:SHOWN_FILTERS].unflatten(1, shape)
        return Filters(weights, "weights from each unit of the code to the output", together=False)
    mean, deviation = codes.mean(dim=0), codes.std(dim=0, correction=0)
    moved = torch.diag(deviation)[:SHOWN_FILTERS]
    more, less = (model.decode((mean + sign * moved).to(model.device)).mean for sign in (1, -1))
    return Filters(more - less, "what each unit adds, output at mean + σ less mean − σ", True)


def _principal(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points `(N, K)` on their first two principal components, and where 0 lies there."""
    from sklearn.decomposition import PCA

    fitted = PCA(2, random_state=0).fit(points)
    return fitted.transform(points), fitted.transform(np.zeros_like(points[:1]))[0]
