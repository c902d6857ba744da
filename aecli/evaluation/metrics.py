"""What `aecli eval` computes on the test split: means over examples, never over batches.

Nats per image, unless a name says otherwise; images are grey `(B, C, H, W)` in [0, 1]. What is
drawn belongs to the example: no value depends on how the split is cut into batches.
docs/metrics.md is the list for users.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from aecli.data import Batch
from aecli.errors import check_choice, check_list, check_number
from aecli.models import VAE, Autoencoder, Losses
from aecli.models.accumulators import Means
from aecli.noise import Noise

ACTIVE_VARIANCE = 0.01
"""Variance over images of its posterior mean above which a latent is active (Burda et al. 2015)."""
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
def reconstruction(model: Autoencoder, batches: Iterable[Batch]) -> dict[str, float]:
    """Return the terms of the loss on x, and the errors of grey images' reconstructions.

    - `loss`, `penalty`, and `nll`, `kl`, `elbo`, `clean_loss` where they exist (see
      `aecli.models.Losses`): on x, binarized if so set;
    - `mse`: mean over the pixels of the squared error; `sse`: its sum over the pixels of an
      image, the unit of Hinton & Salakhutdinov 2006; of images alone `psnr`: 10 log₁₀(1 / mse), in
      dB, and `ssim`: structural similarity (Wang et al. 2004): of the grey image's reconstruction,
      unclipped for the errors, against that grey image, as means over images;
    - `mean_activation`, `l0` (active units per image) and `dead_share` of the code.
    """
    losses = Losses(model)
    for batch in batches:
        image, output = batch.original, model.reconstruct(batch.original)
        error = model.likelihood.errors(output, image).flatten(1)
        mse = error.mean(dim=1)
        similarity = ssim(output, image)
        quality = {
            "mse": mse.mean(),
            "sse": error.sum(dim=1).mean(),
        }
        if image.dim() == 4:
            quality["psnr"] = (-10 * mse.clamp_min(1e-12).log10()).mean()
        losses.add(batch, quality | ({} if similarity is None else {"ssim": similarity}))
    return losses.compute() | losses.activity.compute()


def ssim(output: Tensor, image: Tensor) -> Tensor | None:
    """Return the mean structural similarity over images, of the output clipped to [0, 1].

    A mean over the places where the window lies within the image, so without borders, as in Wang
    et al. 2004 and in scikit-image: their Gaussian window of 11×11 pixels (σ = 1.5); for smaller
    images a uniform one of 7×7, and None for images that are smaller still.
    """
    side = min(image.shape[-2:])
    if image.dim() < 4 or side < UNIFORM:
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


@torch.no_grad()
def noisy_reconstruction(
    model: Autoencoder, batches: Iterable[Batch], noise: str, levels: Sequence[float]
) -> dict[str, float]:
    """Return `mse_<noise>_<level>`: mean squared error per pixel against the clean image.

    The input is the grey image corrupted by a noise of each level (its std, or its amount).
    """
    kind = NOISES[check_choice("eval.noise", noise, NOISES)]

    def of_level(key: str, level: float) -> Noise:
        return kind(check_number(key, level, low=0))

    key = "eval.noise_levels"
    made = check_list(key, levels, of_level, "[0.1,0.3]", may_be_empty=True, distinct=True)
    noises = dict(zip(levels, made, strict=True))
    if not noises:
        return {}
    means = Means()
    for batch in batches:
        errors = {}
        for level, noise_ in noises.items():
            corrupted = noise_.corrupt(batch.original, batch.draws.of(f"noise {level}"))
            output = model.reconstruct(corrupted)
            error = model.likelihood.errors(output, batch.original).mean()
            errors[f"mse_{noise}_{level:g}"] = error
        means.add(errors, len(batch.original))
    return means.compute()


@torch.no_grad()
def active_units(model: VAE, batches: Iterable[Batch]) -> int:
    """Return how many latents the model uses: Var_x E_q[z_j] > 0.01 (Burda et al. 2015, §3)."""
    means = torch.cat([model.posterior(batch.x).mean for batch in batches])
    return int((means.var(dim=0) > ACTIVE_VARIANCE).sum())


def codes(model: Autoencoder, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Return the codes `(N, K)` of the grey images and their labels `(N,)`, on the CPU."""
    return _rows(batches, model.encode)


def pixels(batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Return the grey images as rows `(N, D)` and their labels `(N,)`, on the CPU."""
    return _rows(batches, lambda image: image.flatten(1))


@torch.no_grad()
def _rows(batches: Iterable[Batch], features: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    pairs = [(features(batch.original).cpu(), batch.label.cpu()) for batch in batches]
    rows, labels = zip(*pairs, strict=True)
    return torch.cat(rows), torch.cat(labels)
