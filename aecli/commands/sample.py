"""`aecli sample`: examples from a run, as a PNG grid and an `.npz`, and into its TensorBoard.

With `out=` into a file or a folder instead, in the units of the run's data.
"""

import io
import logging
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from aecli import figures, files
from aecli.commands.restored import new_examples, place_for
from aecli.data import Examples
from aecli.data.splits import check_label
from aecli.errors import (
    SettingError,
    check_bool,
    check_choice,
    check_int,
    check_list,
    check_number,
    check_seed,
)
from aecli.evaluation import metrics
from aecli.models.vae import has_normal_prior
from aecli.runs.find import Run, find_one
from aecli.runs.load import Loaded, load
from aecli.runs.paths import SAMPLES, check_writable, shown
from aecli.size import check_fits
from aecli.text import one_line

log = logging.getLogger(__name__)

DENSITIES = ("gaussian", "gmm")
COMPONENTS = 10
"""Gaussians in the mixture of `density=gmm`."""
SPANNED = 100
"""The principal components of the codes in which a density is fitted, at most."""

WRITTEN_AT_ONCE = 1000
"""Samples that go to `out=` at a time."""
COPIES = 8
"""Of the examples as they are drawn: enlarged, with lines, in a grid, as bytes, below a title."""


class Samples(NamedTuple):
    """Examples and where they came from."""

    images: Tensor
    """`(N, *S)`."""
    columns: int
    """How many of them stand in a row of the picture."""
    codes: Tensor
    """What each was decoded from, `(N, K)`."""
    what: str
    """What the picture shows, for its title."""
    left: Sequence[str] = ()
    """What stands left of each row of the picture."""
    above: Sequence[str] = ()
    """What stands above each of its columns."""


def main(config: DictConfig) -> None:
    """Make the examples that `kind=` means from the run that `run=` means."""
    make = KINDS[check_choice("kind", config.kind, KINDS)]
    _check_settings(config)
    out = None if config.out is None else place_for(config, "new.npz")
    run = find_one(config.run, config.output_dir)
    if out is None:
        check_writable(run.directory, SAMPLES)
    loaded = load(run, config.device, **config.dataset)
    config = _filled(loaded, config)
    _check_memory(loaded, config)
    pl.seed_everything(check_seed("seed", config.seed), verbose=False)
    with torch.no_grad():
        samples = make(loaded, config)
    if out is None:
        _write(run, loaded, config.kind, samples)
    else:
        _write_out(out, config, loaded, samples)


def _check_settings(config: DictConfig) -> None:
    """Refuse a setting out of range, and one that the kind does not take."""
    takes = TAKES[config.kind]
    check_bool("overwrite", config.overwrite)
    for key in dict.fromkeys(key for keys in TAKES.values() for key in keys):
        if config[key] is not None and key not in takes:
            fitting = ", ".join(kind for kind, keys in TAKES.items() if key in keys)
            raise SettingError(f"{key}={config[key]}: goes with kind={fitting}, not {config.kind}")
    if config.overwrite and config.out is None:
        raise SettingError("overwrite=true: goes with out=…")
    if config.n is not None:
        check_int("n", config.n, 1)
        for key in ("images", "classes"):
            if config[key] is not None and config.kind == "interpolate":
                raise SettingError(f"n={config.n}: {key}=… makes one row; leave n out")
    if config.steps is not None:
        check_int("steps", config.steps, 2)
    if config.span is not None:
        check_number("span", config.span, low=0, open_low=True)


def _filled(loaded: Loaded, config: DictConfig) -> DictConfig:
    """Return the settings, with the defaults of their kind for those that were not typed.

    Raises `SettingError` for more examples, rows or units than the run has, and for a setting
    without an effect on its model.
    """
    examples, units = len(loaded.data.splits["test"]), loaded.model.code_dim
    most, why = {
        "reconstruct": (examples, "the test set's examples"),
        "interpolate": (examples, "the test set's examples"),
        "traverse": (units, "the units of the code"),
    }.get(config.kind, (None, ""))
    if config.kind == "manifold" and has_normal_prior(loaded.model) and config.span is not None:
        raise SettingError(f"span={config.span}: a model with a prior spans that; leave span out")
    filled = config.copy()
    for key, value in TAKES[config.kind].items():
        if config[key] is None:
            filled[key] = value
        elif key == "n":
            check_int("n", config.n, 1, most, why)
    if "n" in TAKES[config.kind] and most is not None:
        filled.n = most if filled.n is None else min(filled.n, most)
    return filled


def _check_memory(loaded: Loaded, config: DictConfig) -> None:
    """Refuse more examples than there is memory for, as arrays and in their picture."""
    shape = loaded.card.made_shape
    rows = config.steps if config.kind == "manifold" else config.n
    count = rows * (config.steps or 1)
    typed = ", ".join(f"{k}={config[k]}" for k in ("n", "steps") if config[k] is not None)
    numbers = max(prod(shape), figures.area(shape))
    check_fits(f"{typed}: {count:,} examples", COPIES * 4 * count * numbers)


def prior(loaded: Loaded, config: DictConfig) -> Samples:
    """Decode codes drawn from the prior, or from a density fitted to the training codes."""
    return drawn(loaded, config.n, config.density)


def drawn(loaded: Loaded, n: int, density: str | None) -> Samples:
    """Decode n codes drawn from the prior, or from a density fitted to the training codes."""
    model = loaded.model
    what = "decoded from draws of the prior"
    if density is not None:
        codes = _draw_from_density(loaded, density, n)
        what = f"decoded from draws of density={density}, fitted to the training codes"
    elif model.has_prior:
        codes = model.sample_prior(n)
    else:
        raise SettingError(
            f"kind=prior: model={loaded.choices['model']} has no prior to draw from;"
            " density=gaussian or density=gmm fits one to its training codes"
        )
    return Samples(model.decode(codes).mean, _square(n), codes, what)


def reconstruct(loaded: Loaded, config: DictConfig) -> Samples:
    """Show test examples, each beside its reconstruction."""
    x = _test_examples(loaded, torch.arange(config.n))
    codes, targets = loaded.model.encode(x), loaded.data.splits["test"].examples.targets
    wanted, what, above = x, "test examples beside their outputs", "test"
    if targets is not None:
        wanted = _test_examples(loaded, torch.arange(config.n), targets)
        what, above = "targets of test examples beside the outputs", "target"
    pairs = torch.stack([wanted, loaded.model.decode(codes).mean], dim=1).flatten(0, 1)
    columns, twice = 2 * max(1, _square(len(x)) // 2), codes.repeat_interleave(2, dim=0)
    return Samples(pairs, columns, twice, what, above=[above, "output"] * (columns // 2))


def interpolate(loaded: Loaded, config: DictConfig) -> Samples:
    """Walk in straight lines between two codes: of examples, or the means of two classes."""
    model = loaded.model
    if config.classes is not None and config.images is not None:
        raise SettingError("images, classes: kind=interpolate takes one of the two")
    ends = "between two test examples of different classes"
    if config.classes is not None:
        pair = _pair("classes", config.classes)
        start, end = (_class_mean(loaded, label)[None] for label in pair)
        ends = f"from the mean code of {pair[0]} to that of {pair[1]}"
    elif config.images is not None:
        pair = _pair("images", config.images)
        start, end = (model.encode(_test_example(loaded, number)) for number in pair)
        ends = f"from test example {pair[0]} to {pair[1]}"
    else:
        labels = loaded.data.splits["test"].labels
        first = torch.randperm(len(labels))[: config.n]
        other = torch.stack([_other_class(labels, index) for index in first])
        start, end = (model.encode(_test_examples(loaded, numbers)) for numbers in (first, other))
    weight = torch.linspace(0, 1, config.steps, device=start.device)[None, :, None]
    codes = ((1 - weight) * start[:, None] + weight * end[:, None]).flatten(0, 1)
    shares = [f"{share:.0%}" for share in torch.linspace(0, 1, config.steps).tolist()]
    what = f"decoded along the line {ends}"
    return Samples(model.decode(codes).mean, config.steps, codes, what, above=shares)


def manifold(loaded: Loaded, config: DictConfig) -> Samples:
    """Decode a grid over a code of two units.

    For a VAE with prior=standard the grid has equal steps of the prior's probability (Kingma &
    Welling 2013, fig. 4); for others it spans the mean training code ± `span` standard deviations.
    """
    model = loaded.model
    if model.code_dim != 2:
        raise SettingError(
            f"kind=manifold: needs a code of 2 units, and this run's has {model.code_dim};"
            " train one with model.code_dim=2, or use kind=traverse"
        )
    if has_normal_prior(model):
        share = torch.linspace(0, 1, config.steps + 2)[1:-1]
        axes = torch.distributions.Normal(0.0, 1.0).icdf(share).repeat(2, 1)
    else:
        codes = torch.from_numpy(_training_codes(loaded))
        unit = torch.linspace(-config.span, config.span, config.steps)
        axes = codes.mean(dim=0)[:, None] + _deviation(codes)[:, None] * unit
    # Up in the picture is up in the second unit.
    axes[1] = axes[1].flip(0)
    second, first = torch.meshgrid(axes[1], axes[0], indexing="ij")
    codes = torch.stack([first, second], dim=-1).flatten(0, 1).to(model.device)
    above, left = ([f"{value:.2f}" for value in axis.tolist()] for axis in axes)
    what = "decoded over the plane of codes: z0 to the right, z1 upward"
    return Samples(model.decode(codes).mean, config.steps, codes, what, left, above)


def traverse(loaded: Loaded, config: DictConfig) -> Samples:
    """Move one unit at a time, a row each, from -span to +span standard deviations of its codes.

    The others stay at the code of a test example. The units of largest variance come first.
    """
    model = loaded.model
    training = torch.from_numpy(_training_codes(loaded)).to(model.device)
    mean, deviation = training.mean(dim=0), _deviation(training)
    units = deviation.argsort(descending=True)[: config.n]
    numbers = config.images if config.images is not None else [0]
    if len(numbers) != 1:
        raise SettingError(f"images={list(numbers)}: kind=traverse takes one test example")
    start = model.encode(_test_example(loaded, numbers[0]))
    codes = start.repeat(len(units), config.steps, 1)
    walk = torch.linspace(-config.span, config.span, config.steps, device=model.device)
    rows = torch.arange(len(units))
    codes[rows, :, units] = mean[units, None] + deviation[units, None] * walk
    codes = codes.flatten(0, 1)
    what = "one unit moved in each row, in standard deviations σ of its codes"
    left = [f"z{unit}, σ {deviation[unit]:.2g}" for unit in units.tolist()]
    above = [f"{value:.1f}" for value in walk.tolist()]
    return Samples(model.decode(codes).mean, config.steps, codes, what, left, above)


KINDS: dict[str, Callable[[Loaded, DictConfig], Samples]] = {
    "prior": prior,
    "reconstruct": reconstruct,
    "interpolate": interpolate,
    "manifold": manifold,
    "traverse": traverse,
}
TAKES: dict[str, dict[str, Any]] = {
    "prior": {"n": 64, "density": None},
    "reconstruct": {"n": 64},
    "interpolate": {"n": 10, "steps": 12, "images": None, "classes": None},
    "manifold": {"steps": 12, "span": 3.0},
    "traverse": {"n": None, "steps": 12, "span": 3.0, "images": None},
}
"""The settings that a kind takes, with its defaults; the `n` of traverse: all units."""


def _write(run: Run, loaded: Loaded, kind: str, samples: Samples) -> None:
    """Write the picture and the arrays under a free name; add the picture to TensorBoard."""
    title = f"{loaded.choices['model']} on {loaded.choices['dataset']}: {samples.what}"
    grid = figures.grid(samples.images, samples.columns)
    picture = figures.framed(grid, title, samples.left, samples.above)
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays, images=samples.images.cpu().numpy(), codes=samples.codes.cpu().numpy()
    )
    # Arrays first: where there is a picture, there is what it shows.
    contents = {".npz": arrays.getvalue(), ".png": figures.png(picture)}
    run.check_there()
    paths = files.write_new(run.directory / SAMPLES, kind, contents)
    log.info("written: %s, %s", shown(paths[1]), shown(paths[0]))
    with SummaryWriter(str(run.directory)) as writer:
        writer.add_image(f"samples/{paths[0].stem}", picture, loaded.step)


def _write_out(out: Path, config: DictConfig, loaded: Loaded, samples: Samples) -> None:
    """Write the samples to a folder of images, or to a file with their codes beside them."""
    count = len(samples.images)
    with new_examples(out, config, loaded, count) as add:
        codes = samples.codes.numpy(force=True)
        for rows in np.array_split(np.arange(count), -(-count // WRITTEN_AT_ONCE)):
            add({"id": rows, "z": codes[rows]}, samples.images[rows])
    log.info("written: %s", shown(out))


def _draw_from_density(loaded: Loaded, density: str, n: int) -> Tensor:
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    check_choice("density", density, DENSITIES)
    components = 1 if density == "gaussian" else COMPONENTS
    codes = _training_codes(loaded).astype(np.float64)
    if len(codes) < (least := max(2, components)):
        raise SettingError(
            f"density={density}: needs {least} training examples, and the run has {len(codes)}"
        )
    # Full covariances of a code of 1,000 units would take minutes.
    span = PCA(min(SPANNED, *codes.shape), svd_solver="covariance_eigh")
    projected = span.fit_transform(codes)
    seed = int(torch.randint(1 << 31, ()))  # of torch's, which the setting has seeded
    mixture = GaussianMixture(components, reg_covar=1e-6 + 1e-3 * codes.var(), random_state=seed)
    drawn, _ = mixture.fit(projected).sample(n)
    np.random.default_rng(seed).shuffle(drawn)  # they come sorted by component
    return torch.from_numpy(span.inverse_transform(drawn)).float().to(loaded.model.device)


def _deviation(codes: Tensor) -> Tensor:
    """Return the standard deviation of each unit of codes `(N, K)`, `(K,)`; 0 of a single one."""
    return codes.std(dim=0, correction=min(1, len(codes) - 1))


def _training_codes(loaded: Loaded) -> np.ndarray:
    return metrics.codes(loaded.model, loaded.data.batches("train", 1000))[0].numpy()


def _class_mean(loaded: Loaded, label: int | str) -> Tensor:
    codes, labels = metrics.codes(loaded.model, loaded.data.batches("test", 1000))
    known = labels.unique()
    names = dict(zip(loaded.data.names(known), known.tolist(), strict=True))
    if not loaded.data.is_labelled or str(label) not in names:
        of = f"must be of {', '.join(names)}" if loaded.data.is_labelled else "it has no labels"
        raise SettingError(f"classes={one_line(label)}: no such class in the test set; {of}")
    return codes[labels == names[str(label)]].mean(dim=0).to(loaded.model.device)


def _test_examples(loaded: Loaded, numbers: Tensor, of: Examples | None = None) -> Tensor:
    """Return examples of the test set `(n, *S)` by their numbers `(n,)`, not binarized.

    `of` are others of the same numbers: their targets.
    """
    split = loaded.data.splits["test"]
    examples = of or split.examples
    stored = examples.taken(split.rows[numbers.to(split.rows.device)])
    return examples.card.scaled(stored).to(loaded.model.device)


def _test_example(loaded: Loaded, number: int) -> Tensor:
    total = len(loaded.data.splits["test"])
    check_int("images", number, 0, total - 1, "the test set's examples")
    return _test_examples(loaded, torch.tensor([number]))


def _other_class(labels: Tensor, index: Tensor) -> Tensor:
    others = (labels != labels[index]).nonzero().flatten()
    if not len(others):
        raise SettingError(
            "kind=interpolate: the test set has no labels, or one class only; use images=[0,1]"
        )
    return others[torch.randint(len(others), ())]


def _pair(key: str, values: list[Any]) -> list[Any]:
    each = check_label if key == "classes" else partial(check_int, low=0)
    return check_list(key, values, each, "[3,8]", length=2, distinct=True)


def _square(n: int) -> int:
    return max(1, round(n**0.5))
