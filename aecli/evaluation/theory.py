"""`eval=theory`: what the derivation of the ELBO claims, measured on the run at hand."""

import logging
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch import Tensor

from aecli.build import build
from aecli.data import DataModule
from aecli.errors import SettingError, check_int
from aecli.evaluation import charts
from aecli.evaluation.aggregate import aggregated
from aecli.evaluation.distances import BLOCKS, NEIGHBORS
from aecli.evaluation.gap import SAMPLES, gaps
from aecli.evaluation.generated import LEAST, SOURCES, generated
from aecli.evaluation.gradients import DRAWS, agreement, spreads
from aecli.models import VAE, Autoencoder
from aecli.runs.load import Loaded, load
from aecli.runs.paths import BEST, LAST

log = logging.getLogger(__name__)

OF_A_POSTERIOR = ("gap_images", "gradient_images", "aggregate_images")
KEYS = (*OF_A_POSTERIOR, "generated_images")
"""The settings, each the number of images that its measure takes, or None to leave it out."""
NATS = "nats per image"


@dataclass
class Measured:
    """Numbers by name, how each was estimated, and their pictures."""

    values: dict[str, float] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    """Unit, bound or value, samples and images, of each of `values`."""
    figures: dict[str, Figure] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    """What is no single number: by checkpoint, or by unit."""

    def add(self, name: str, value: float | Tensor, how: str, error: float | Tensor = 0.0) -> None:
        """Add a number and, if it is not 0, its standard error."""
        self.values[name] = float(value)
        spread = f"± {float(error):.2g}, " if error > 0 else ""  # not of a single image: nan
        self.how[name] = f"{spread}{how}"

    def add_mean(self, name: str, values: Tensor, how: str) -> None:
        """Add the mean over images `(n,)`, with its standard error over them."""
        error = values.std(correction=min(1, len(values) - 1)) / math.sqrt(len(values))
        self.add(name, values.mean(), f"{how}, {len(values):,} images", error)


class Snapshot(NamedTuple):
    """A model as it was at some time of its training."""

    name: str
    step: int
    model: VAE


class Theory:
    """The measures that the settings ask for.

    Args:
        settings: of `aecli eval`; the keys of `KEYS`, each null or a number of images ≥ 1. A
            checkpoint's may lack them.
    """

    def __init__(self, settings: DictConfig) -> None:
        given = {key: settings.get(key) for key in KEYS}
        self.images = {
            key: check_int(f"eval.{key}", value, LEAST if key == "generated_images" else 1)
            for key, value in given.items()
            if value is not None
        }
        self.at_once = settings.decoded_at_once
        self.batch_size = settings.batch_size

    def check(self, loaded: Loaded) -> None:
        """Raise `SettingError` for a measure that the run's model does not have."""
        if (images := self.images.get("generated_images")) is not None:
            check_generated(f"eval.generated_images={images}", loaded)
        asked = [key for key in OF_A_POSTERIOR if key in self.images]
        if not asked:
            return
        key, name = f"eval.{asked[0]}={self.images[asked[0]]}", loaded.choices["model"]
        if not isinstance(loaded.model, VAE):
            raise SettingError(
                f"{key}: model={name} has no posterior q(z|x); of it only"
                " eval.generated_images=5000 can be measured, without eval=theory"
            )
        if not loaded.model.likelihood.is_density and asked != ["aggregate_images"]:
            raise SettingError(
                f"{key}: the run's likelihood is no density, so that there is no log p(x)"
            )

    def measure(self, loaded: Loaded, seed: int) -> Measured:
        """Return what was measured, deterministic in `seed`, whatever the batch size."""
        measures = {
            "gap_images": self._gap,
            "gradient_images": self._gradient,
            "aggregate_images": self._aggregate,
            "generated_images": self._generated,
        }
        measured = Measured()
        title = f"{loaded.choices['model']} on {loaded.choices['dataset']}, test set"
        for key in self.images:
            log.info("measuring %s", key.removesuffix("_images"))
            count = min(self.images[key], len(loaded.data.splits["test"]))
            measures[key](measured, loaded, count, seed, title)
        return measured

    def _gap(self, to: Measured, loaded: Loaded, count: int, seed: int, title: str) -> None:
        model, test = cast(VAE, loaded.model), self._test(loaded.data, seed)
        found = gaps(model, test, count, self.at_once, SAMPLES)
        by = f"{SAMPLES:,} samples of z"
        to.add_mean("gap_elbo", found.elbo, f"{NATS}, the ELBO without bias, {by}")
        to.add_mean("gap_log_p", found.log_p, f"{NATS}, ≤ log p(x), {by}")
        to.add_mean("gap_sampled", found.sampled, f"{NATS}, ≤ log p(x) − ELBO, {by}")
        if found.posterior:
            change = max(each.change for each in found.posterior)
            grid = f"log p(x) by integration (last refinement: {change:.1g})"
            to.add_mean("gap_integrated", found.integrated, f"{NATS}, log p(x) − ELBO, {grid}")
            of = "KL(q(z|x) ‖ p(z|x)), by integration"
            to.add_mean("gap_kl", found.kl, f"{NATS}, {of}")
            difference = found.integrated - found.kl
            to.add_mean("gap_difference", difference, f"{NATS}, gap_integrated − gap_kl")
        to.figures["gap"] = charts.gap(found, SAMPLES, title)

    def _gradient(self, to: Measured, loaded: Loaded, count: int, seed: int, title: str) -> None:
        weights = _over_training(loaded)
        totals: dict[str, list[float]] = {}
        for _, step, model in weights:
            found = spreads(model, self._test(loaded.data, seed), count, self.at_once, DRAWS)
            for estimator, spread in found.items():
                totals.setdefault(estimator, []).append(float(spread.total.mean()))
            if step == loaded.step:
                by = f"one draw of z, from {DRAWS:,} draws, {count:,} images"
                for estimator, spread in found.items():
                    how = f"nats², variance summed over μ and log σ, {by}"
                    to.add(f"gradient_variance_{estimator}", spread.total.mean(), how)
                score, path = found["score"], found["reparameterized"]
                ratio = score.total.mean() / path.total.mean()
                to.add("gradient_variance_ratio", ratio, f"score function / reparameterized, {by}")
                how = "rms of the means' differences in standard errors: 1 if both are unbiased"
                to.add("gradient_agreement", agreement(score, path, DRAWS), how)
        to.details["gradient_variance"] = [
            {"checkpoint": name, "step": step, **{e: values[at] for e, values in totals.items()}}
            for at, (name, step, _) in enumerate(weights)
        ]
        steps = [(name, step) for name, step, _ in weights]
        to.figures["gradients"] = charts.gradients(steps, totals, title)

    def _aggregate(self, to: Measured, loaded: Loaded, count: int, seed: int, title: str) -> None:
        model = cast(VAE, loaded.model)
        found = aggregated(model, self._test(loaded.data, seed), count)
        how = "without bias for these images, a sample of z each"
        to.add_mean("aggregate_kl", found.divergence, f"nats, KL(q(z) ‖ p(z)), {how}")
        most = f"I(image; z) ≤ log {count:,} = {math.log(count):.3g}"
        to.add_mean("aggregate_information", found.information, f"{NATS}, {most}, {how}")
        if len(found.unit_kl):
            to.details["unit_kl"] = found.unit_kl.tolist()
            to.details["unit_aggregate_kl"] = found.unit_divergence.tolist()
            units, narrow = len(found.unit_kl), int((found.integrated == 0).sum())
            by = "by integration"
            if narrow:
                by += f", of {narrow} of {units} units by a sample of each image"
            how = f"nats, KL(q(z_j) ‖ p(z_j)), the mean over the units, {by}, {count:,} images"
            to.add("aggregate_kl_per_unit", found.unit_divergence.mean(), how)
        to.figures["aggregate"] = charts.aggregate(model, found, title)

    def _generated(self, to: Measured, loaded: Loaded, count: int, seed: int, title: str) -> None:
        found = generated(loaded.model, loaded.data, count, self.at_once, seed)
        each = f"{len(found.examples['test']):,}"
        log.info("%s examples of each source, compared by %s", each, found.space)
        to.details["generated"] = {"examples": len(found.examples["test"]), "space": found.space}
        near = f"mean distance to the nearest training example, of {each}"
        neighbor = found.test_neighbor
        to.add("generated_neighbor_test", neighbor.value, f"{near} test examples", neighbor.error)
        for name, (kernel, neighbor, manifolds) in found.distances.items():
            of = f"{each} of each, {SOURCES[name]}"
            how = f"MMD² from the test set, without bias, {BLOCKS} blocks, {of}"
            to.add(f"generated_kernel_{name}", kernel.value, how, kernel.error)
            to.add(f"generated_neighbor_{name}", neighbor.value, near, neighbor.error)
            how = f"share of {each} that lie in the test set's manifold, k = {NEIGHBORS}"
            to.add(f"generated_precision_{name}", manifolds.precision, how)
            how = f"share of {each} test examples in their manifold, k = {NEIGHBORS}"
            to.add(f"generated_recall_{name}", manifolds.recall, how)
        to.figures["generated"] = charts.generated(found, title)

    def _test(self, data: DataModule, seed: int) -> Any:
        return data.batches("test", self.batch_size, seed)


def check_generated(setting: str, loaded: Loaded) -> None:
    """Refuse to compare what a model makes with the data, if the two cannot be compared."""
    if loaded.card.target_shape is not None:
        raise SettingError(
            f"{setting}: the run's model makes targets of what it reads, no examples; type"
            " eval.generated_images=null"
        )
    sizes = {name: len(loaded.data.splits[name]) for name in ("test", "train")}
    for name, size in sizes.items():
        if size < LEAST:
            raise SettingError(
                f"{setting}: needs {LEAST} test and {LEAST} training examples, and the {name} split"
                f" has {size}; type eval.generated_images=null"
            )


def _over_training(loaded: Loaded) -> list[Snapshot]:
    """Return the run's model at the start, and at its checkpoints, by their steps."""
    found: dict[int, Snapshot] = {}
    if (start := _initial(loaded)) is not None:
        found[0] = Snapshot("initial", 0, start)
    device = "cpu" if loaded.model.device.type == "cpu" else "gpu"
    for name in (BEST, LAST):
        run = loaded.run.at(name)
        if run.checkpoint.stem == name and run != loaded.run:
            other = load(run, device)
            found[other.step] = Snapshot(name, other.step, cast(VAE, other.model))
    own = loaded.run.checkpoint.stem
    found[loaded.step] = Snapshot(own, loaded.step, cast(VAE, loaded.model))
    return [found[step] for step in sorted(found)]


def _initial(loaded: Loaded) -> VAE | None:
    """Return the model as its training drew it from the seed; None where the data had a part in it.

    That is so with a learned prior, and with `network.output_bias=data`.
    """
    config = loaded.config
    model: Autoencoder = loaded.model
    learned = any(True for _ in cast(VAE, model).prior.parameters())
    if learned or model.output_bias is not None or "seed" not in config:
        log.info("the initial weights are left out: they depend on the data")
        return None
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        start: VAE = build(config, "model")
    start.noise.fit(loaded.data.values(), loaded.card.shape)
    return start.eval().requires_grad_(False).to(model.device)
