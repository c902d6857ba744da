"""A run's model as the page has it: its networks, its codes, and what its units carry."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from aecli.errors import SettingError
from aecli.explore.blob import Blob
from aecli.explore.examples import Codes, codes, measured, score_name
from aecli.explore.parts import likelihood_in_words, noise_in_words
from aecli.explore.plan import (
    Operation,
    Untranslatable,
    as_kept,
    compute,
    operations,
    rounded,
    sparsity_operations,
)
from aecli.models import VAE, Autoencoder
from aecli.models.vae import ACTIVE_VARIANCE, Posterior, has_normal_prior
from aecli.runs.load import Loaded
from aecli.runs.paths import shown

OF_TEXT = 4 / 3
"""Bytes of base64 for one byte."""


class Networks(NamedTuple):
    """Encoder and decoder as operations, sparsity and all: x → code or posterior, z → output."""

    encoder: list[Operation]
    decoder: list[Operation]
    likelihood: dict[str, Any]

    @property
    def size(self) -> float:
        """Bytes that the weights take in the page, before they are compressed."""
        steps = [*self.encoder, *self.decoder]
        weights = {_identity(w): w for step in steps for w in step.weights.values()}
        return OF_TEXT * sum(2 * weight.numel() for weight in weights.values())


def networks(loaded: Loaded) -> Networks:
    """Return the operations of a model; raise `Untranslatable` if the page cannot compute them."""
    model, kind = loaded.model, type(loaded.model)
    own = (Autoencoder, VAE)
    if not any(kind.encode is o.encode for o in own) or not any(
        kind.decode is o.decode for o in own
    ):
        raise Untranslatable(kind.__name__)
    shape = loaded.card.shape
    encoder = operations(model.encoder, shape)
    decoder = operations(model.decoder, [model.code_dim])
    sparsity = sparsity_operations(model.sparsity)
    likelihood = likelihood_in_words(model.likelihood, loaded.card.features)
    if isinstance(model, VAE):
        return Networks(encoder, [*sparsity, *decoder], likelihood)
    return Networks([*encoder, *sparsity], decoder, likelihood)


class Statistics(NamedTuple):
    """Of the codes of a split's examples."""

    examples: int
    """How many of them were looked at."""
    mean: np.ndarray
    """`(K,)`, float64, as all of them."""
    variance: np.ndarray
    kl: np.ndarray | None
    """`(K,)`: the mean over the examples of KL(q(z_j|x) ‖ N(0, 1)), nats."""
    components: np.ndarray
    """`(2, K)`: the first two principal components; fewer rows of a code of one unit."""
    explained: np.ndarray
    """`(2,)`: the share of the variance of each."""
    mse: float
    active: int
    """Units in use: Var_x E_q[z_j] > 0.01 (Burda et al. 2015, §3); of a code without a posterior
    those that are not constant."""


def statistics(loaded: Loaded, split: str) -> Statistics:
    """Return the statistics of a split's codes, of 10,000 of it at most."""
    model = loaded.model
    parts = [codes(model, x, rounds=False) for x in measured(loaded.data.splits[split])]
    code = torch.cat([part.code for part in parts]).double().numpy()
    if not np.isfinite(code).all():
        raise SettingError(f"{shown(loaded.run.checkpoint)}: its codes are not finite numbers")
    kl = None
    if has_normal_prior(model):
        log_variance = torch.cat([p.log_variance for p in parts if p.log_variance is not None])
        kl = Posterior(torch.from_numpy(code), log_variance.double()).unit_kl().mean(dim=0).numpy()
    components, explained = _principal(code)
    mse = float(torch.cat([part.mse for part in parts]).double().mean())
    variance = code.var(axis=0)
    moving = variance > ACTIVE_VARIANCE if isinstance(model, VAE) else np.ptp(code, axis=0) > 1e-3
    mean, active = code.mean(axis=0), int(moving.sum())
    return Statistics(len(code), mean, variance, kl, components, explained, mse, active)


def _principal(code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.decomposition import PCA

    if min(code.shape) < 2 or not np.ptp(code, axis=0).any():  # nothing to find the components of
        return np.eye(code.shape[1])[: min(2, code.shape[1])], np.zeros(min(2, code.shape[1]))
    found = PCA(2, random_state=0).fit(code)
    return found.components_, found.explained_variance_ratio_


def described(
    loaded: Loaded, steps: Networks | None, found: Statistics, of: Codes, blob: Blob
) -> dict[str, Any]:
    """Return what the page knows of a model, but for its decodings on a grid.

    Args:
        loaded: the run.
        steps: its networks; None if the page has a grid in their place.
        found: statistics of its codes.
        of: the codes of the examples in the page.
        blob: where arrays go.
    """
    model = loaded.model
    has_prior = model.has_prior and isinstance(model, VAE)
    is_normal = has_prior and found.kl is not None
    return {
        "name": loaded.choices["model"],
        "units": model.code_dim,
        "prior": ("normal" if is_normal else "other") if has_prior else None,
        "binary": loaded.config.dataset.get("binarize", "none") != "none",
        "noise": noise_in_words(model.noise, loaded.card.features),
        "likelihood": None if steps is None else steps.likelihood,
        "encoder": None if steps is None else _in_page(steps.encoder, blob),
        "decoder": None if steps is None else _in_page(steps.decoder, blob),
        "sum": steps is not None and is_sum(steps.decoder, steps.likelihood),
        "codes": _in_halves(of.code, blob),
        "logVariances": None if of.log_variance is None else _in_halves(of.log_variance, blob),
        "scores": blob.add(of.score.float().numpy()),
        "scoreName": score_name(model),
        "mean": blob.add(found.mean.astype(np.float32)),
        "variance": blob.add(found.variance.astype(np.float32)),
        "kl": None if found.kl is None else blob.add(found.kl.astype(np.float32)),
        "components": blob.add(found.components.astype(np.float32)),
        "explained": found.explained.tolist(),
        "figures": {
            "measured": found.examples,
            "active": found.active,
            "mse": found.mse if np.isfinite(found.mse) else None,
            "kl": None if found.kl is None else float(found.kl.sum()),
        },
    }


def is_sum(decoder: Sequence[Operation], likelihood: dict[str, Any]) -> bool:
    """Return whether a reconstruction is a sum of pictures, one for each unit, and a bias."""
    return len(decoder) == 1 and likelihood["kind"] in ("gaussian", "squared_error")


def difference(model: Autoencoder, steps: Networks, x: Tensor, of: Codes) -> float:
    """Return how far the page's reconstructions are from the run's own, at most.

    That is what rounding the weights to 16 bits does, at the codes of examples x `(n, *S)`;
    relative to the largest value, or absolute where all are below 1.
    """
    code = of.code.to(model.device)
    own = model.decode(code).mean.flatten(1)
    output = compute(as_kept(steps.decoder), code).unflatten(1, x.shape[1:])
    likelihood: nn.Module = model.likelihood
    page = likelihood(output).mean.flatten(1)
    return float((page - own).abs().max() / own.abs().max().clamp_min(1))


def _in_page(steps: Sequence[Operation], blob: Blob) -> list[dict[str, Any]]:
    found = []
    for name, settings, weights in steps:
        kept: dict[str, Any] = {"name": name, **settings}
        for key, weight in weights.items():
            if weight.dim() < 2:
                kept[key] = blob.add(weight.float().numpy(force=True))
            else:
                half, factor = rounded(weight)
                kept[key] = blob.add(half.numpy(force=True), factor, _identity(weight))
        found.append(kept)
    return found


def _in_halves(values: Tensor, blob: Blob) -> dict[str, Any]:
    half, factor = rounded(values)
    return blob.add(half.numpy(), factor)


def _identity(weight: Tensor) -> tuple[int, ...]:
    """Return what is the same for a weight that two layers share."""
    return weight.data_ptr(), *weight.shape
