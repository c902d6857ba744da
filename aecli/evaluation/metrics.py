"""What `aecli eval` computes on the test split: means over examples, never over batches.

Nats per example, unless a name says otherwise; examples are `(B, *S)`, images `(B, C, H, W)` or
rows of numbers `(B, D)`, not binarized. What is drawn belongs to the example: no value depends on
how the split is cut into batches. docs/metrics.md is the list for users.
"""

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from aecli.data import Batch, Card
from aecli.errors import check_choice, check_list, check_number
from aecli.models import VAE, Autoencoder
from aecli.models.accumulators import Means
from aecli.models.losses import SplitLosses
from aecli.models.vae import ACTIVE_VARIANCE
from aecli.noise import Masking, Noise

Features = Sequence[Sequence[Any]] | None
"""What the numbers of a table's row are, as `Card.features`."""
GAUSSIAN, UNIFORM = 11, 7
"""Pixels on a side of SSIM's windows: Wang et al.'s, and that for images which it does not fit."""


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


NOISES = {
    _snake(kind.__name__): kind
    for kind in Noise.__subclasses__()
    if kind.__module__ == Noise.__module__  # not those of plugins, which may take other settings
}
"""The kinds of noise, by the names that they have on the command line."""


@torch.no_grad()
def reconstruction(
    model: Autoencoder, batches: Iterable[Batch], losses: SplitLosses | None = None
) -> dict[str, float]:
    """Return the terms of the loss on x, and the errors of the examples' reconstructions.

    - `loss`, `penalty`, and `nll`, `kl`, `elbo`, `clean_loss` where they exist (see
      `aecli.models.Losses`): on x, binarized if so set;
    - `mse`: mean over the features of the squared error; `sse`: its sum over the features of an
      example, the unit of Hinton & Salakhutdinov 2006; of images alone `psnr`: 10 log₁₀(R² / mse),
      in dB, R being the length of the data's range, and `ssim`: structural similarity (Wang et al.
      2004): of the reconstruction of the example, not binarized and unclipped for the errors,
      against it, as means over examples;
    - `mean_activation`, `l0` (active units per example) and `dead_share` of the code; of a
      dictionary those of `aecli.models.dictionary_sums.Fit`.

    Where batches have targets, these take the place of the examples in all errors.

    `losses` are new ones of the model's, if what they add up is wanted afterwards.
    """
    losses = losses or model.losses()
    low, high = model.noise.low, model.noise.high
    for batch in batches:
        x, output = batch.wanted, model.reconstruct(batch.original)
        mse = model.likelihood.mse(output, x)
        sse = model.likelihood.errors(output, x).flatten(1).sum(dim=1)
        quality = {"mse": mse.mean(), "sse": sse.mean()}
        if x.dim() == 4:
            share = mse / (high - low) ** 2
            quality["psnr"] = (-10 * share.clamp_min(1e-12).log10()).mean()
            similarity = ssim((output - low) / (high - low), (x - low) / (high - low))
            quality |= {} if similarity is None else {"ssim": similarity}
        losses.add(batch, quality)
    return losses.compute() | losses.activity.compute()


def ssim(output: Tensor, image: Tensor) -> Tensor | None:
    """Return the mean structural similarity to images `(B, C, H, W)` in [0, 1], the output clipped.

    A mean over the channels, and over the places where the window lies within the image, so without
    borders, as in Wang et al. 2004 and in scikit-image: their Gaussian window of 11×11 pixels
    (σ = 1.5); for smaller images a uniform one of 7×7, and None for images that are smaller still.
    """
    side = min(image.shape[-2:])
    if side < UNIFORM:
        return None
    fits = side >= GAUSSIAN
    border = (GAUSSIAN if fits else UNIFORM) // 2
    _, values = structural_similarity_index_measure(
        output.clamp(0, 1),
        image,
        gaussian_kernel=fits,
        sigma=1.5,
        kernel_size=UNIFORM,  # of the uniform window alone
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    return values[..., border:-border, border:-border].mean()


def noises(
    model: Autoencoder, noise: str, levels: Sequence[float], features: Features = None
) -> dict[float, Noise]:
    """Return a noise of each level (its std, or its amount), in the range of the model's data.

    `features` are those of a table's data card.
    """
    made = noises_of(noise, levels, features)
    for one in made.values():
        one.to(model.device)
        one.low, one.high = model.noise.low, model.noise.high
    return made


def noises_of(noise: str, levels: Sequence[float], features: Features = None) -> dict[float, Noise]:
    """Return a noise of each level, on the CPU and for data in [0, 1].

    Raises `SettingError` for a kind of noise that there is not, and a level that it cannot have.
    """
    kind = NOISES[check_choice("eval.noise", noise, NOISES)]
    others = {"features": features} if kind is Masking else {}

    def of_level(key: str, level: float) -> Noise:
        return kind(check_number(key, level, low=0), **others)

    key = "eval.noise_levels"
    made = check_list(key, levels, of_level, "[0.1,0.3]", may_be_empty=True, distinct=True)
    return dict(zip(levels, made, strict=True))


def levels_of(noise: str, levels: Sequence[float], card: Card) -> list[float]:
    """Return the levels by which an example can be corrupted at all; of few features not by all."""
    size, made = prod(card.shape), noises_of(noise, levels, card.features)
    return [level for level, one in made.items() if not one.rounds_to_nothing(size)]


@torch.no_grad()
def noisy_reconstruction(
    model: Autoencoder,
    batches: Iterable[Batch],
    noise: str,
    levels: Sequence[float],
    features: Features = None,
) -> dict[str, float]:
    """Return `mse_<noise>_<level>`: mean squared error per feature against the clean example.

    The input is the example, not binarized, corrupted by a noise of each level.
    """
    corruptions = noises(model, noise, levels, features)
    if not corruptions:
        return {}
    means = Means()
    for batch in batches:
        errors = {}
        for level, corruption in corruptions.items():
            corrupted = corruption.corrupt(batch.original, batch.draws.of(f"noise {level}"))
            output = model.reconstruct(corrupted)
            error = model.likelihood.mse(output, batch.wanted)
            errors[f"mse_{noise}_{level:.15g}"] = error.mean()
        means.add(errors, len(batch.original))
    return means.compute()


@torch.no_grad()
def active_units(model: VAE, batches: Iterable[Batch]) -> int:
    """Return how many latents the model uses: Var_x E_q[z_j] > 0.01 (Burda et al. 2015, §3)."""
    means = torch.cat([model.posterior(batch.x).mean for batch in batches])
    variance = means.var(dim=0, correction=min(1, len(means) - 1))  # one example has none
    return int((variance > ACTIVE_VARIANCE).sum())


def codes(model: Autoencoder, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Return the codes `(N, K)` of the examples and their labels `(N,)`, on the CPU."""
    return _rows(batches, model.encode)


def pixels(batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Return the examples as rows `(N, D)` and their labels `(N,)`, on the CPU."""
    return _rows(batches, lambda x: x.flatten(1))


@torch.no_grad()
def _rows(batches: Iterable[Batch], features: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    pairs = [(features(batch.original).cpu(), batch.label.cpu()) for batch in batches]
    rows, labels = zip(*pairs, strict=True)
    return torch.cat(rows), torch.cat(labels)
