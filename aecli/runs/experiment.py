"""An experiment of a paper: what was published beside what came out here."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from aecli.config import composed
from aecli.runs import intervals
from aecli.runs.intervals import Interval
from aecli.runs.metrics_file import read_metrics, update_metrics
from aecli.tree import leaves

log = logging.getLogger(__name__)

FREE = {
    "seed",
    "output_dir",
    "resume",
    "pictures_every",
    "dataset.root",
    "eval.batch_size",
    "eval.decoded_at_once",
    "eval.noise",
    "eval.noise_levels",
    "eval.pictures",
    "eval.gap_images",
    "eval.gradient_images",
    "eval.aggregate_images",
    "eval.generated_images",
    "trainer.accelerator",
}
"""Settings that a published number does not depend on: where things lie, and what is drawn."""

FOUND = ("dataset.shape", "dataset.features")
"""Settings that are null until the data is read."""

EVIDENCE = {
    "read": "read there",
    "quoted": "as quoted by somebody else",
    "memory": "from memory, not looked up",
}
"""What `published.evidence` means."""

REACHED, MISSED, UNDECIDED = "reached", "missed", "undecided"


def report(name: str, config: DictConfig, values: Mapping[str, float], directory: Path) -> None:
    """Print `published X · here Y · Δ`, and write it into the run's `metrics.json`.

    A test error has its 95 % interval over test images. Where a setting differs from the
    experiment's own, that is printed instead of a comparison: the number is then another
    experiment's. `values` are the test metrics of `evaluate`.
    """
    published = config.published
    here = with_accuracies(values).get(published.metric)
    interval = _over_images(published.metric, here, directory)
    changed = list(changes(name, config))
    result: dict[str, Any] = {
        "name": name,
        "metric": published.metric,
        "published": published.value,
        "goal": published.goal,
        "here": here,
        "interval": interval,
        "source": published.source,
        "evidence": published.evidence,
        "changed": changed,
    }
    measured = f"here no {published.metric}" if here is None else f"here {here:.4g}"
    if interval is not None:
        measured += f" [{interval.low:.3g}, {interval.high:.3g}]"
    log.info("experiment %s, %s on the test set:", name, published.metric)
    if changed:
        log.info("  changed: %s · %s", ", ".join(changed), measured)
    elif published.value is None or here is None:
        log.info("  published %s · %s", published.value or "nothing", measured)
    else:
        difference = result["difference"] = here - published.value
        log.info("  published %.4g · %s · Δ %+.2g", published.value, measured, difference)
    log.info("  %s (%s)", published.source, EVIDENCE.get(published.evidence, published.evidence))
    update_metrics(directory, {"experiment": result})


def verdict(goal: float, here: float, interval: Interval | None, *, higher: bool) -> str:
    """Return whether a value reaches its goal: "undecided" if its interval holds the goal inside.

    Without an interval the value alone decides. `higher`: more is better.
    """
    if interval is not None and interval.low < goal < interval.high:
        return UNDECIDED
    return REACHED if (here >= goal if higher else here <= goal) else MISSED


def _over_images(metric: str, here: float | None, directory: Path) -> Interval | None:
    """Return the interval of a test error or accuracy in %; None for any other metric."""
    images = read_metrics(directory).get("test", {}).get("classified_images")
    if here is None or images is None or not metric.endswith(("_error", "_accuracy")):
        return None
    return intervals.of_error(here, images)


def with_accuracies(values: Mapping[str, float]) -> dict[str, float]:
    """Add `…_accuracy` = 100 − `…_error`, in %, for papers that report that."""
    errors = {name: value for name, value in values.items() if name.endswith("_error")}
    return {
        **values,
        **{name.removesuffix("error") + "accuracy": 100 - value for name, value in errors.items()},
    }


def changes(name: str, config: DictConfig) -> Iterator[str]:
    """Return `key=value` for each setting that differs from those of the experiment."""
    own, now = _settings(composed("train", f"experiment={name}")), _settings(config)
    # What is interpolated is compared where it is set.
    copies = tuple(key for key, value in own.items() if str(value).startswith("${"))
    for key in sorted(own.keys() | now.keys()):
        if key in FOUND and own.get(key) is None:
            continue
        copied = key in copies or key.startswith(tuple(f"{copy}." for copy in copies))
        if own.get(key) != now.get(key) and key not in FREE and not copied:
            yield f"{key}={now[key]}" if key in now else f"{key} left out"


def _settings(config: DictConfig) -> dict[str, Any]:
    """Return each setting by its key, interpolations as they stand there."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return dict(leaves(plain))
