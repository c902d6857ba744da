"""Compared runs as pictures, from their TensorBoard files alone.

The files may be a stranger's: what is read and drawn of them has bounds.
"""

import io
import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aecli.colours import COLOURS
from aecli.commands.compare.groups import MOST, Group
from aecli.errors import SettingError
from aecli.runs.records import Record, Value, ordered, value_text
from aecli.text import chart_label, first_line, one_line
from aecli.untrusted import size_of

log = logging.getLogger(__name__)

MOST_RUNS = 50
"""Runs of which curves are drawn."""
LARGEST = 64 * 1024**2
"""Bytes of a run's event files that are read; a run of aecli writes under a tenth of it."""
MOST_PIXELS, TALLEST = 2**24, 2.0
"""Pixels of a picture, and its height over its width."""
PICTURES = ("samples", "reconstructions")
PARTS = ("val/loss", "val/nll", "val/kl", "val/penalty")
"""What is drawn over the epochs beside the metric."""
SQUARED = ("mse",)
"""Likelihoods of which the loss is a squared error."""
ROW, SLACK = 66, 6
"""Pixels from one row of reconstructions to the next, and how much less the first may have."""
OF_EVAL = "test/reconstructions"
"""The picture that `aecli eval` makes."""
SPLITS = ("val/", "train/")


class Line(NamedTuple):
    """A metric of a run over its epochs."""

    group: int
    is_validation: bool
    epochs: Sequence[float]
    values: Sequence[float]


def curves(groups: Sequence[Group], keys: Sequence[str], metric: str) -> Figure | None:
    """Return a metric and the parts of the loss over the epochs, a panel each.

    A colour for each group and a line for each run: of validation, and dashed of training. None if
    no run logged any of them by epoch.
    """
    lines: dict[str, list[Line]] = {name: [] for name in dict.fromkeys([metric, *PARTS])}
    for number, group in enumerate(groups[:MOST]):
        for record in group.records[: MOST_RUNS // min(len(groups), MOST)]:
            events = _events(record)
            for name, found in lines.items():
                of_training = name.replace("val/", "train/", 1)
                for logged in dict.fromkeys([name, of_training]):
                    epochs, values = _by_epoch(events, logged)
                    if len(values):
                        found.append(Line(number, logged == name, epochs, values))
    panels = {name: found for name, found in lines.items() if any(any(one.values) for one in found)}
    if not panels:
        return None
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    figure = Figure(figsize=(4.6 * across, 3.6 * down + 0.4), layout="constrained")
    places = figure.subplots(down, across, squeeze=False).flatten()
    for axes, (name, found) in zip(places, panels.items(), strict=False):
        for line in found:
            style = {"marker": "o"} if len(line.values) == 1 else {}
            style["linestyle"] = "-" if line.is_validation else ":"
            axes.plot(line.epochs, line.values, color=_colour(line.group), **style)
        axes.set(xlabel="epoch", ylabel=unit_of(name, groups))
        axes.set_title(chart_label(name.removeprefix("val/")))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    names = [name_of(group, keys) for group in groups[:MOST]]
    handles = [Line2D([], [], color=_colour(n), label=name) for n, name in enumerate(names)]
    handles.append(Line2D([], [], color="k", label="validation"))
    if any(not line.is_validation for found in panels.values() for line in found):
        handles.append(Line2D([], [], color="k", linestyle=":", label="training"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _colour(group: int) -> str:
    return COLOURS[group % len(COLOURS)]


def unit_of(metric: str, groups: Sequence[Group]) -> str:
    """Return the unit of a part of the loss, "" if the groups differ in it."""
    metric = metric.replace("train/", "val/", 1)
    if metric in ("val/kl", "val/elbo"):
        return "nats per example"
    if metric not in PARTS:
        return ""
    kinds = {group.settings.get("likelihood") in SQUARED for group in groups}
    if len(kinds) > 1:
        return ""
    return "squared error per example" if kinds == {True} else "nats per example"


def against_settings(groups: Sequence[Group], keys: Sequence[str], metric: str) -> Figure | None:
    """Return a panel for each setting that differs, a point for each run, a line through the means.

    None if no setting differs.
    """
    keys = keys[:MOST]
    if not keys:
        return None
    figure = Figure(figsize=(4.2 * len(keys), 4), layout="constrained")
    for axes, key in zip(np.ravel(figure.subplots(1, len(keys), sharey=True)), keys, strict=True):
        values: dict[Value, list[float]] = {}
        for group in groups:
            values.setdefault(group.settings.get(key), []).extend(group.values(metric))
        order = ordered(values)
        is_numeric = all(_is_number(value) for value in order)
        places: Sequence[Any] = order if is_numeric else range(len(order))
        for place, value in zip(places, order, strict=True):
            axes.plot([place] * len(values[value]), values[value], "o", color=COLOURS[0], alpha=0.5)
        axes.plot(places, [mean(values[value]) for value in order], "-" if is_numeric else "_k")
        if is_numeric and 0 < 20 * min(places) <= max(places):
            axes.set_xscale("log")
        if not is_numeric:
            axes.set_xticks(
                places, [chart_label(value_text(value)) for value in order], rotation=30
            )
        axes.set_xlabel(chart_label(key))
        axes.set_ylabel(chart_label(metric))
        axes.label_outer()
    return figure


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def grid(groups: Sequence[Group], keys: Sequence[str]) -> Figure | None:
    """Return the last reconstructions of a run of each group, one below the other.

    Samples, where no run has reconstructions. None if there are neither.
    """
    found = [(group, _pictures(group.records[0])) for group in groups[:MOST]]
    for kind in reversed(PICTURES):
        rows = [
            (name_of(group, keys), pictures[kind]) for group, pictures in found if kind in pictures
        ]
        if rows:
            return _stacked(_without_repeated(rows) if kind == PICTURES[1] else rows)
    return None


def _without_repeated(rows: Sequence[tuple[str, Image.Image]]) -> list[tuple[str, Image.Image]]:
    """Take the rows with which all pictures begin, their input, out of them, and put them first.

    Of a picture that begins with other ones, all is left as it is.
    """
    first = rows[0][1]
    cut = min((_same_rows(image, first) for _, image in rows[1:]), default=0)
    if not cut:
        return list(rows)
    kept = [(name, image.crop((0, cut, image.width, image.height))) for name, image in rows]
    return [("", first.crop((0, 0, first.width, cut))), *kept]


def _same_rows(image: Image.Image, first: Image.Image) -> int:
    """Return the height of the rows with which two pictures begin alike; both keep another."""
    if image.width != first.width:
        return 0
    height = min(image.height, first.height)
    pixels, known = (np.asarray(one)[:height] for one in (image, first))
    differs = (pixels != known).any(axis=(1, 2))
    same = int(differs.argmax()) if differs.any() else 0
    return min(same, (same + SLACK) // ROW * ROW)


def _stacked(rows: Sequence[tuple[str, Image.Image]]) -> Figure:
    height = sum(image.height / image.width for _, image in rows)
    figure = Figure(figsize=(9, 9 * height + 0.35 * len(rows)), layout="constrained")
    panels = figure.subplots(
        len(rows), 1, squeeze=False, height_ratios=[image.height / image.width for _, image in rows]
    )
    for axes, (name, image) in zip(panels[:, 0], rows, strict=True):
        axes.imshow(image)
        axes.set_title(name, fontsize="medium", loc="left")
        axes.axis("off")
    return figure


def name_of(group: Group, keys: Sequence[str]) -> str:
    """Return the settings of a group that differ, as they are typed, for a chart."""
    settings = [f"{key}={value_text(group.settings.get(key))}" for key in keys]
    return chart_label(" ".join(settings) or group.records[0].directory.name)


def _events(record: Record) -> EventAccumulator | None:
    """Return what a run's event files hold; None, with a warning, if that cannot be read."""
    everything = {"scalars": 0, "images": 1, "tensors": 1, "histograms": 1}
    try:
        if sum(map(size_of, record.directory.glob("*tfevents*"))) > LARGEST:
            raise SettingError(f"larger than {LARGEST:,} bytes")
        return EventAccumulator(str(record.directory), size_guidance=everything).Reload()
    except Exception as error:  # whatever the reading of arbitrary bytes can raise
        _warn(f"the event files of {record.directory.name}", error)
        return None


def _warn(what: str, error: Exception) -> None:
    log.warning("not drawn: %s (%s)", one_line(what), first_line(error))


def _by_epoch(
    events: EventAccumulator | None, metric: str
) -> tuple[Sequence[float], Sequence[float]]:
    logged = events.Tags()["scalars"] if events else []
    if events is None or metric not in logged or "epoch" not in logged:
        return [], []
    epoch_at = {point.step: point.value + 1 for point in events.Scalars("epoch")}
    points = [point for point in events.Scalars(metric) if point.step in epoch_at]
    return [epoch_at[point.step] for point in points], [point.value for point in points]


def history(record: Record, most: int) -> dict[str, list[tuple[float, float]]]:
    """Return a run's metrics of training and validation as (epoch, value), the first `most`."""
    events = _events(record)
    found: dict[str, list[tuple[float, float]]] = {}
    for name in events.Tags()["scalars"] if events else []:
        if name.startswith(SPLITS) and len(found) < most:
            pairs = zip(*_by_epoch(events, name), strict=True)
            points = [pair for pair in pairs if all(map(math.isfinite, pair))]
            if points:
                found[name] = points
    return found


def reconstructions(record: Record) -> Image.Image | None:
    """Return a picture of a run: of its evaluation, else of its training; None if it has none."""
    pictures = _pictures(record, (OF_EVAL, *reversed(PICTURES)))
    return next(iter(pictures.values()), None)


def _pictures(record: Record, kinds: Sequence[str] = PICTURES) -> dict[str, Image.Image]:
    events = _events(record)
    if events is None:
        return {}
    found = {}
    for kind in kinds:
        if kind not in events.Tags()["images"]:
            continue
        try:
            found[kind] = _decoded(events.Images(kind)[-1].encoded_image_string)
        except Exception as error:  # whatever arbitrary bytes can raise
            _warn(f"{kind} of {record.directory.name}", error)
    return found


def _decoded(png: bytes) -> Image.Image:
    """Return a picture; raise `SettingError` if it is too large."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(png), formats=["PNG"])
    if image.width * image.height > MOST_PIXELS or image.height > TALLEST * image.width:
        raise SettingError(f"a picture of {image.width} by {image.height} pixels")
    return image.convert("RGB")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    figure.savefig(path, dpi=110)
