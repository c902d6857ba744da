"""What `aecli eval` computes on the test split: means over examples, never over batches.

Nats per image, unless a name says otherwise; images are grey `(B, C, H, W)` in [0, 1].
"""

import math
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from aecli.data import Batch
from aecli.errors import check_choice, check_int, check_number
from aecli.models import VAE, Autoencoder
from aecli.models.accumulators import Activity, Means
from aecli.noise import Gaussian, Masking, Noise, SaltAndPepper

NOISES: dict[str, type[Noise]] = {
    "gaussian": Gaussian,
    "salt_and_pepper": SaltAndPepper,
    "masking": Masking,
}
ACTIVE_VARIANCE = 0.01
"""Variance over images of its posterior mean above which a latent is active (Burda et al. 2015)."""


@torch.no_grad()
def reconstruction(model: Autoencoder, batches: Iterable[Batch]) -> dict[str, float]:
    """Return the loss's terms on x, and how well grey images come back.

    - `loss`, `penalty`, and `nll`, `kl`, `elbo` where they exist: on x, binarized if so set;
    - `mse`: mean over the pixels of the squared error; `sse`: its sum over the pixels of an
      image, the unit of Hinton & Salakhutdinov 2006; `psnr`: 10 log₁₀(1 / mse) of an image, in
      dB; `ssim`: structural similarity (Wang et al. 2004): of the grey image's reconstruction,
      unclipped for the errors, against that grey image, as means over images;
    - `mean_activation`, `l0` (active units per image) and `dead_share` of the code.
    """
    means, activity = Means(), Activity(model.sparsity.active)
    for x, image, *_ in batches:
        terms = model.terms(x)
        output = model.reconstruct(image)
        error = (output - image).square().flatten(1)
        mse = error.mean(dim=1)
        named = model.reported(terms) | {
            "mse": mse.mean(),
            "sse": error.sum(dim=1).mean(),
            "psnr": (-10 * mse.clamp_min(1e-12).log10()).mean(),
            "ssim": ssim(output, image),
        }
        means.add(named, len(x))
        activity.add(terms.code)
    return means.compute() | activity.compute()


def ssim(output: Tensor, image: Tensor) -> Tensor:
    """Return the mean structural similarity over images, of the output clipped to [0, 1]."""
    value = structural_similarity_index_measure(output.clamp(0, 1), image, data_range=1.0)
    assert isinstance(value, Tensor)
    return value


@torch.no_grad()
def noisy_reconstruction(
    model: Autoencoder, batches: Iterable[Batch], noise: str, levels: Sequence[float]
) -> dict[str, float]:
    """Return `mse_<noise>_<level>`: mean squared error per pixel against the clean image.

    The input is the grey image corrupted by a noise of each level (its std, or its amount).
    """
    kind = NOISES[check_choice("eval.noise", noise, NOISES)]
    noises = {level: kind(check_number("eval.noise_levels", level, low=0)) for level in levels}
    if not noises:
        return {}
    means = Means()
    for _, image, *_ in batches:
        errors = {
            f"mse_{noise}_{level:g}": (model.reconstruct(noise_.corrupt(image)) - image)
            .square()
            .mean()
            for level, noise_ in noises.items()
        }
        means.add(errors, len(image))
    return means.compute()


@torch.no_grad()
def active_units(model: VAE, batches: Iterable[Batch]) -> int:
    """Return how many latents the model uses: Var_x E_q[z_j] > 0.01 (Burda et al. 2015, §3)."""
    means = torch.cat([model.posterior(x).mean for x, *_ in batches])
    return int((means.var(dim=0) > ACTIVE_VARIANCE).sum())


@torch.no_grad()
def marginal_nll(model: VAE, batches: Iterable[Batch], samples: int, at_once: int) -> float:
    """Return the mean of −log p(x) estimated with `samples` importance samples for each image.

    `at_once` bounds the memory: that many images are decoded at the same time.
    """
    check_int("eval.importance_samples", samples, 1)
    check_int("eval.decoded_at_once", at_once, 1)
    means = Means()
    for batch, *_ in batches:
        for x in batch.split(at_once):
            means.add({"log_p": importance_bound(model, x, samples, at_once).mean()}, len(x))
    return -means.compute()["log_p"]


@torch.no_grad()
def importance_bound(model: VAE, x: Tensor, samples: int, at_once: int) -> Tensor:
    """Return log (1/S) Σ_s p(x|z_s) p(z_s) / q(z_s|x), z_s ~ q(z|x), for x `(B, …)`: `(B,)`, nats.

    A lower bound of log p(x) in expectation that never falls as S grows and converges to it
    (Burda, Grosse & Salakhutdinov 2015, arXiv 1509.00519, eq. 8 and theorem 1).
    """
    posterior = model.posterior(x)
    together = max(1, at_once // len(x))
    total = torch.full((len(x),), -math.inf, device=x.device, dtype=x.dtype)
    for done in range(0, samples, together):
        count = min(together, samples - done)
        z = posterior.sample(count)
        log_likelihood = model.log_likelihood(x, model.sparsity(z.flatten(0, 1)).code)
        log_weight = model.log_weight(posterior, z, log_likelihood)
        total = torch.logaddexp(total, log_weight.logsumexp(dim=0))
    return total - math.log(samples)


@torch.no_grad()
def codes(model: Autoencoder, batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes `(N, K)` of the grey images and their labels `(N,)`."""
    pairs = [(model.encode(image).cpu(), label.cpu()) for _, image, label, _ in batches]
    parts = [torch.cat(part).numpy() for part in zip(*pairs, strict=True)]
    return parts[0], parts[1]


def pixels(batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Return the grey images as rows `(N, D)` and their labels `(N,)`."""
    pairs = [(image.flatten(1).cpu(), label.cpu()) for _, image, label, _ in batches]
    parts = [torch.cat(part).numpy() for part in zip(*pairs, strict=True)]
    return parts[0], parts[1]


def probe_error(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], steps: int
) -> float:
    """Return the test error in % of scikit-learn's logistic regression on features `(N, K)`.

    The features are divided by one number, their standard deviation over everything, which keeps
    their geometry and lets L-BFGS, stopped after `steps` steps, come far.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scale = max(float(train[0].std()), 1e-12)
    probe = LogisticRegression(max_iter=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the steps are part of the protocol
        probe.fit(train[0] / scale, train[1])
    return 100 * (1 - probe.score(test[0] / scale, test[1]))
