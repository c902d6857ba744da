"""An experiment of a paper: what was published beside what came out here."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from aecli.config import composed
from aecli.runs.metrics_file import update_metrics

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
    "trainer.accelerator",
}
"""Settings that a published number does not depend on: where things lie, and what is drawn."""

SURE = {
    "read": "read there",
    "quoted": "as quoted by somebody else",
    "memory": "from memory, not looked up",
}
"""How `published.sure` is told."""


def report(name: str, config: DictConfig, values: Mapping[str, float], directory: Path) -> None:
    """Print `published X · here Y · Δ`, and write it into the run's `metrics.json`.

    Where a setting differs from the experiment's own, print that instead of a comparison: the
    number is then another experiment's. `values` are the test metrics of `evaluate`.
    """
    published = config.published
    here = with_accuracies(values).get(published.metric)
    told = f"here no {published.metric}" if here is None else f"here {here:.4g}"
    changed = list(changes(name, config))
    result: dict[str, Any] = {
        "name": name,
        "metric": published.metric,
        "published": published.value,
        "goal": published.goal,
        "here": here,
        "source": published.source,
        "sure": published.sure,
        "changed": changed,
    }
    log.info("experiment %s, %s on the test set:", name, published.metric)
    if changed:
        log.info("  changed: %s · %s", ", ".join(changed), told)
    elif published.value is None:
        log.info("  published nothing · %s", told)
    else:
        difference = result["difference"] = here - published.value
        log.info("  published %.4g · %s · Δ %+.2g", published.value, told, difference)
    log.info("  %s (%s)", published.source, SURE.get(published.sure, published.sure))
    update_metrics(directory, {"experiment": result})


def with_accuracies(values: Mapping[str, float]) -> dict[str, float]:
    """Add `…_accuracy` = 100 − `…_error`, in %, for papers that report that."""
    errors = {name: value for name, value in values.items() if name.endswith("_error")}
    return {
        **values,
        **{name.removesuffix("error") + "accuracy": 100 - value for name, value in errors.items()},
    }


def changes(name: str, config: DictConfig) -> Iterator[str]:
    """Return `key=value` for each setting that differs from those of the experiment."""
    own, now = (dict(_leaves(c)) for c in (composed("train", f"experiment={name}"), config))
    # What is interpolated is compared where it is set.
    copies = tuple(key for key, value in own.items() if str(value).startswith("${"))
    for key in sorted(own.keys() | now.keys()):
        copied = key in copies or key.startswith(tuple(f"{copy}." for copy in copies))
        if own.get(key) != now.get(key) and key not in FREE and not copied:
            yield f"{key}={now[key]}" if key in now else f"{key} left out"


def _leaves(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """Return each key of a configuration with its value, interpolations as they stand there."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from walk(value, f"{path}.{key}" if path else str(key))
        else:
            yield path, node

    yield from walk(OmegaConf.to_container(config, resolve=False), "")
