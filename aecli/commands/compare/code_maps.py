"""The codes of compared runs, side by side on one scale, from their TensorBoard files alone."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aecli.colours import COLOURS
from aecli.commands.compare.charts import MOST, name_of
from aecli.commands.compare.groups import Group
from aecli.errors import SettingError
from aecli.runs.records import Record
from aecli.text import chart_label, first_line, one_line
from aecli.untrusted import read_bytes

log = logging.getLogger(__name__)

LARGEST = 64 * 1024**2
"""Bytes of a run's codes that are read: 400 codes of 5,000 units have half of it."""
FURTHEST = 1e6
"""A code further from 0 is no code that a picture can show."""
ACROSS = 4


class Points(NamedTuple):
    """The codes of a run in the plane."""

    at: np.ndarray
    """`(N, 2)`."""
    labels: list[str]
    prior: np.ndarray | None
    """Where the centre of the prior N(0, I) lies, `(2,)`."""
    axes: tuple[str, str]


def code_maps(groups: Sequence[Group], keys: Sequence[str]) -> Figure | None:
    """Return a panel for each group: the codes of one run's validation examples, all on one scale.

    Codes of more than two units on their first two principal components. With a prior N(0, I), one
    and two of its standard deviations. None if no run has codes of two units or more.
    """
    found = [(name_of(group, keys), _points(group.records[0])) for group in groups[:MOST]]
    drawn = [(name, points) for name, points in found if points is not None]
    if not drawn:
        return None
    across = min(ACROSS, len(drawn))
    down = -(-len(drawn) // across)
    figure = Figure(figsize=(3.6 * across + 0.9, 3.7 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten()
    labels = sorted({label for _, points in drawn for label in points.labels}, key=_by_number)
    colours = dict(zip(labels, COLOURS, strict=False)) if len(labels) <= len(COLOURS) else {}
    reach = 1.05 * max(np.abs(points.at).max() for _, points in drawn)
    if any(points.prior is not None for _, points in drawn):
        reach = max(reach, 2.1)
    for axes, (name, points) in zip(panels, drawn, strict=False):
        _draw(axes, points, colours)
        axes.set_title(one_line(name, 40), fontsize="medium")
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.set(xlabel=points.axes[0], ylabel=points.axes[1])
    for axes in panels[len(drawn) :]:
        axes.set_visible(False)
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        order = sorted(handles, key=_by_number)
        figure.legend([handles[name] for name in order], order, loc="outside right center")
    return figure


def _draw(axes: Axes, points: Points, colours: dict[str, str]) -> None:
    of_each = np.array(points.labels) if points.labels else np.array([""] * len(points.at))
    for label in sorted(set(of_each), key=_by_number):
        x, y = points.at[of_each == label].T
        shown = chart_label(one_line(label, 20)) if label in colours else None
        axes.scatter(x, y, s=14, alpha=0.7, linewidths=0, color=colours.get(label), label=shown)
    if points.prior is not None:
        turn = np.linspace(0, 2 * np.pi, 100)
        for radius in (1, 2):
            x, y = points.prior[:, None] + radius * np.stack([np.cos(turn), np.sin(turn)])
            axes.plot(x, y, "k--", linewidth=1, label="prior: σ, 2σ")


def _points(record: Record) -> Points | None:
    """Return the codes that a run has left for TensorBoard's projector; None if it has none."""
    written = sorted(record.directory.glob("[0-9]*/codes/tensors.tsv"), key=_step)
    if not written:
        return None
    try:
        lines = read_bytes(written[-1], LARGEST).decode().split("\n")
        if not any(map(str.strip, lines)):
            raise SettingError("the file is empty")
        codes = np.loadtxt(lines, delimiter="\t", ndmin=2)
        if not np.isfinite(codes).all() or np.abs(codes).max() > FURTHEST:
            raise SettingError(f"numbers beyond {FURTHEST:,.0f}")
        beside = written[-1].with_name("metadata.tsv")
        labels = read_bytes(beside).decode().splitlines() if beside.is_file() else []
    except Exception as error:  # whatever the reading of arbitrary bytes can raise
        log.warning(
            "not drawn: codes of %s (%s)", one_line(record.directory.name), first_line(error)
        )
        return None
    if min(codes.shape) < 2:
        return None
    labels = labels if len(labels) == len(codes) else []
    origin, axes = np.zeros(2), ("z0", "z1")
    if codes.shape[1] > 2:
        mean = codes.mean(axis=0)
        _, _, directions = np.linalg.svd(codes - mean, full_matrices=False)
        codes, origin = (codes - mean) @ directions[:2].T, -mean @ directions[:2].T
        axes = ("principal component 1", "principal component 2")
    has_prior = "val/kl" in record.metrics and record.settings.get("prior") == "standard"
    return Points(codes, labels, origin if has_prior else None, axes)


def _step(written: Path) -> tuple[float, str]:
    return _by_number(written.parents[1].name)


def _by_number(label: str) -> tuple[float, str]:
    try:
        number = float(label)
    except ValueError:
        number = math.inf
    return (number if number == number else math.inf, label)
