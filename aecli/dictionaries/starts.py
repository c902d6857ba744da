"""Where the weights of a dictionary start."""

import torch
from torch import Tensor

from aecli.dictionaries.collectors import Largest
from aecli.dictionaries.places import Places
from aecli.dictionaries.products import Encoder

PROBES = 256
"""Random unit rows by which the encoder's scale is set."""


def unit(rows: Tensor) -> Tensor:
    """Return rows `(N, d)` scaled to norm 1; a row of zeros stays one."""
    tiny = torch.finfo(rows.dtype).tiny
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(tiny)


def variance_of(rows: Tensor) -> Tensor:
    """Return E‖x − x̄‖² of rows `(N, d)`."""
    return (rows - rows.mean(dim=0)).square().sum(dim=1).mean()


def tied_scale(l0: int, encoder: Tensor, bias: Tensor, decoder: Tensor) -> Tensor:
    """Return the mean norm with which random unit rows come back, of L0 latents each.

    The encoder W_enc `(n, d)` divided by it brings them back with norm 1.
    """
    probes = Encoder(unit(torch.randn(PROBES, encoder.shape[1])), encoder, bias)
    places, values = _active(l0, probes)
    return torch.linalg.vector_norm(places.sums(values, decoder), dim=1).mean()


def fit_decoder(l0: int, encoder: Encoder, targets: Tensor, decoder: Tensor) -> Tensor:
    """Turn atoms W_dec `(n, e)` to what goes with their latents; return the encoder's scale.

    The atom of a latent becomes the unit vector along Σ z y over the rows on which it is among the
    L0 largest: the first step of a decoder that starts at 0. Where it is on none, it stays. The
    scale s > 0 is that of the least Σ ‖y − s z W_dec‖².

    Args:
        l0: the latents that are active on a row.
        encoder: of the rows.
        targets: y without its pre-bias, `(B, e)`.
        decoder: W_dec, which is written to.
    """
    places, values = _active(l0, encoder)
    along = torch.empty_like(decoder)
    places.sums_by_latent(values, targets, along)
    along = unit(along)
    decoder.copy_(torch.where(along.any(dim=1, keepdim=True), along, decoder))
    output = places.sums(values, decoder)
    scale = (output * targets).sum() / output.square().sum()
    return scale if scale.isfinite() and scale > 0 else torch.ones_like(scale)


def _active(l0: int, encoder: Encoder) -> tuple[Places, Tensor]:
    active = Largest(l0, encoder)
    for a in encoder.chunks():
        active.add(a)
    places, values = active.found()
    return places, values.relu()
