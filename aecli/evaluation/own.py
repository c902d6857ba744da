"""Metrics of a user's own: `aecli eval` computes those of the plugins, beside aecli's."""

import math
import re
from collections.abc import Collection, Iterable
from typing import ClassVar

import torch

from aecli import plugins
from aecli.data import Batch
from aecli.errors import SettingError
from aecli.models import Autoencoder
from aecli.progress import Items, Tracked

NAME = re.compile("[a-z][a-z0-9_]{0,39}")
RESERVED = (
    "checkpoint",
    "classified_images",
    "firing_rates",
    "own_metrics",
    "seconds",
    "seed",
    "settings",
    "theory",
)
"""What stands beside the test metrics in `metrics.json`."""


class Metric:
    """Base class: a number that is computed from a model and the test split.

    A public subclass in a plugin is made without arguments and computed by every `aecli eval` that
    names the plugin, or whose run was made with it. It stands under `name` in the table, in
    `metrics.json` (test), in TensorBoard and in `aecli compare` (`--metric test/NAME`).
    """

    name: ClassVar[str]
    """Lower-case letters, digits and `_`; none of aecli's metrics has it."""
    unit: ClassVar[str] = ""
    """Such as "squared error per pixel"."""
    more_is_better: ClassVar[bool] = False
    """Whether `aecli compare` ranks the run with the largest value first."""

    def __call__(self, model: Autoencoder, batches: Iterable[Batch]) -> float:
        """Return the value, a finite number: a mean over examples, never over batches.

        No gradient is kept. `batches` are those of the test split in its own order, on the model's
        device. Random numbers belong to the examples: `batch.draws.of(name)` gives them.
        """
        raise NotImplementedError


def own_metrics(names: Iterable[str]) -> dict[str, tuple[str, Metric]]:
    """Return the metrics of the plugins that were typed, and of those `names`, by their names.

    Each comes with its plugin. Raises `SettingError` for a name that is none, or stands there
    twice.
    """
    found: dict[str, tuple[str, Metric]] = {}
    for plugin, module in plugins.named(names).items():
        for kind in plugins.own_classes(module, plugin):
            if Metric not in kind.__mro__:
                continue
            metric = kind()
            name = getattr(metric, "name", None)
            where = f"plugins=[{plugin}]: the metric {kind.__name__}"
            if not isinstance(name, str) or not NAME.fullmatch(name) or name in RESERVED:
                raise SettingError(f"{where} has the name {name!r}; must be one such as sharpness")
            if name in found and type(found[name][1]) is not kind:
                raise SettingError(f"{where} has the name of another one: {name}")
            found[name] = plugin, metric
    return found


@torch.no_grad()
def computed(
    own: dict[str, tuple[str, Metric]],
    model: Autoencoder,
    batches: Items,
    taken: Collection[str],
) -> dict[str, float]:
    """Return the value of each of the metrics.

    Raises `SettingError` for a name that is `taken`, a mistake in a metric, and a value that is no
    finite number.
    """
    values = {}
    for name, (plugin, metric) in own.items():
        where = f"metric {name} ({plugin}.{type(metric).__name__})"
        if name in taken:
            raise SettingError(f"{where}: aecli has a metric of this name; give it another one")
        try:
            value = float(metric(model, Tracked(batches, f"measuring {name}")))
        except SettingError:
            raise
        except Exception as error:
            raise SettingError(f"{where}: {plugins.told(error, plugin)}") from error
        if not math.isfinite(value):
            raise SettingError(f"{where}: gave {value}; must give a finite number")
        values[name] = value
    return values
