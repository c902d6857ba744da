"""Whether the values of a metric compare: which settings are part of its definition.

A loss is -log p(x|z) + penalty + β KL on a run's validation images. Another likelihood, penalty, β
or data set makes another loss, and the run with the smaller value is not the better one.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aecli.runs.records import HIDDEN, Record, Value, ordered, some, value_text

PREFERRED = ("val/loss", "val/elbo", "val/mse")
"""What the runs are sorted by: the first of these that all of them have and that compares."""
LOSSES = ("loss", "clean_loss")
IN_NATS = (
    *LOSSES, "nll", "kl", "elbo", "bound", "penalty", "contraction",
    "marginal_nll", "marginal_nll_ais",
)  # fmt: skip
"""Metrics on the images that the model sees, binarized perhaps; the others take grey images."""
GAP = "gap_"
"""How others of them begin."""
BINARIZED = ("dataset.binarize", "dataset.binarize_seed")
BATCH, TRAIN_SIZE, VALIDATED = (
    "dataset.batch_size",
    "dataset.train_size",
    "trainer.limit_val_batches",
)
RATIOS = ("explained_variance", "norm_ratio", "cosine", "l0", "dead_share")
"""Metrics of activations that have no unit."""
MODEL = "model._target_"
CLASSIFIED = ("eval.classes", "eval.train_size")
"""Settings of both classifiers, the probe and the fine-tuned one."""
CLASSIFIERS = {"probe", "finetune"}
OF_TRAINING = CLASSIFIERS | {"generated"}
"""Words of the metrics that the training split is part of, as that of a classifier."""


class Conflict(NamedTuple):
    """Settings that are part of a metric's definition and differ between runs that have it."""

    metric: str
    keys: tuple[str, ...]
    records: Sequence[Record]

    def __str__(self) -> str:
        names = ["model" if key == MODEL else key for key in self.keys]
        names.sort(key=lambda name: name.count("."))  # options before their settings
        if len(names) > 1:
            return f"{some(names, 3)} differ"
        values = {_setting(record, names[0]) for record in self.records}
        return f"{names[0]} is {some([value_text(value) for value in ordered(values)])}"

    def divides(self, records: Iterable[Record]) -> bool:
        """Return whether the settings differ between some of the runs, too."""
        return any(_differs(records, key, self.metric) for key in self.keys)


def conflicts(records: Sequence[Record], metrics: Iterable[str]) -> dict[str, Conflict]:
    """Return those of `metrics` whose values do not compare over the runs, each with why."""
    varied = [
        key
        for parts in ([r.settings for r in records], [r.evaluation for r in records])
        for key in dict.fromkeys(key for part in parts for key in part)
        if len({part.get(key) for part in parts}) > 1
    ]
    found = {}
    for metric in metrics:
        having = [record for record in records if metric in record.metrics]
        differing = {
            key for key in varied if _defines(key, metric) and _differs(having, key, metric)
        }
        # Options that differ have different settings: that need not be said.
        named = [key for key in varied if key in differing and not _is_below(key, differing)]
        if differing:
            found[metric] = Conflict(metric, tuple(named or differing), having)
    return found


def usual_metric(records: Sequence[Record]) -> tuple[str, str | None]:
    """Return the metric to sort by, and the one that it replaces because that does not compare."""
    having = [m for m in PREFERRED if all(m in record.metrics for record in records)]
    found = conflicts(records, having)
    metric = next((metric for metric in having if metric not in found), None)
    if metric is None:  # of other data, say: nothing compares
        return PREFERRED[-1], None
    return metric, having[0] if metric != having[0] else None


def _defines(key: str, metric: str) -> bool:
    """Return whether a setting is part of a metric's definition."""
    split, _, name = metric.rpartition("/")
    root = key.partition(".")[0]
    if not split:  # epochs, train_seconds
        return False
    if key in (BATCH, VALIDATED):
        return split == "val"
    if root == "dataset":
        return key not in BINARIZED or _is_in_nats(name)
    if root == "eval":
        return split == "test" and _measures(key, name)
    if root == "noise":  # a loss is that of corrupted inputs; all else is measured on clean ones
        return name == "loss"
    if key == "likelihood":
        return _is_in_nats(name)
    if root == "sparsity":
        return name in (*LOSSES, "penalty")
    if key == "model.samples":  # of an importance-weighted bound
        return name in (*LOSSES, "bound")
    if key == "model.contraction":
        return name in (*LOSSES, "contraction")
    return name in LOSSES and (root == "likelihood" or key in (MODEL, "model.beta"))


def _measures(key: str, name: str) -> bool:
    """Return whether a setting of `aecli eval` is part of a test metric's definition.

    Most of them begin with a word of its name: `eval.probe.C`, `eval.ais.steps`.
    """
    words = name.split("_")
    if key in CLASSIFIED:
        return not CLASSIFIERS.isdisjoint(words)
    if key == "eval.importance_samples":
        return name == "marginal_nll"
    return key == "eval.checkpoint" or key.split(".")[1].partition("_")[0] in words


def _is_in_nats(name: str) -> bool:
    return name in IN_NATS or name.startswith(GAP)


def _effective(record: Record, key: str, metric: str) -> Value:
    """Return a setting's value; None where it has no effect on how the run's metric is made."""
    value = _setting(record, key)
    if key == BATCH and record.settings.get(VALIDATED) is None:
        return None
    if key == TRAIN_SIZE:
        name = metric.rpartition("/")[2]
        is_made_of_it = not OF_TRAINING.isdisjoint(name.split("_"))
        return value if is_made_of_it or _follows_the_scale(name, record) else None
    root = key.partition(".")[0]
    if root == "sparsity" and record.metrics.get("val/penalty") == 0:
        return None
    if key == "model.samples" and "val/bound" not in record.metrics:
        return None
    if key == "dataset.binarize" and value == "dynamic":
        return "fixed"  # outside training, one draw
    return value


def _follows_the_scale(name: str, record: Record) -> bool:
    """Return whether a metric is in a unit that follows from the training split."""
    scale, shape = (record.settings.get(f"dataset.{part}") for part in ("scale", "shape"))
    if scale == "auto":  # rows are standardized, images are not
        return str(shape).count(",") == 0
    if scale == "norm":  # one number for all columns: a ratio stays as it is
        return name not in RATIOS
    return scale not in (None, "none")


def _setting(record: Record, key: str) -> Value:
    return (record.evaluation if key.startswith("eval.") else record.settings).get(key)


def _differs(records: Iterable[Record], key: str, metric: str) -> bool:
    return len({_effective(record, key, metric) for record in records}) > 1


def _is_below(key: str, others: set[str]) -> bool:
    """Return whether a setting belongs to an option among `others`, or is nothing to type."""
    group, _, name = key.rpartition(".")
    if key == MODEL:
        return False
    return (
        name.startswith(HIDDEN)
        or group.partition(".")[0] in others
        or (group == "model" and MODEL in others)
    )
