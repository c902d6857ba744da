"""The picture of docs/reproductions.md: published against here, all rows, by unit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from aecli import files
from aecli.runs.experiment import MISSED, REACHED, UNDECIDED
from benchmarks.reproductions.outcomes import Outcome, rounded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NO_GOAL, NOT_COMPARED = "no goal", "stale"
MARKS = {
    REACHED: ("o", "#0072b2"),
    MISSED: ("X", "#d55e00"),
    UNDECIDED: ("D", "#b8860b"),
    NO_GOAL: (".", "#777777"),
    NOT_COMPARED: ("s", "#bbbbbb"),
}
"""Shape and colour of each verdict: to be told apart without colours, and by the colour-blind."""
UNITS = {
    "error": "error, %",
    "accuracy": "error, %",
    "sse": "squared error per image",
    "f1": "F1 of the firing",
}
"""Of the metrics whose names end so; of all others nats."""


def draw(outcomes: Mapping[str, Outcome], path: Path) -> None:
    """Draw here − published of each row that has both, worse to the right; nothing if none has."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes.values():
        changed = outcome.other_settings.startswith("changed")  # another experiment
        if outcome.runs and not changed and outcome.published["value"] is not None:
            unit = UNITS.get(outcome.metric.rpartition("_")[2], "nats per image")
            groups.setdefault(unit, []).append(outcome)
    if not groups:
        return
    rows = [len(group) for group in groups.values()]
    figure, axes = plt.subplots(
        len(groups),
        figsize=(8, 0.27 * sum(rows) + 0.75 * len(groups) + 0.5),
        height_ratios=[count + 1 for count in rows],
        layout="constrained",
        squeeze=False,
        facecolor="white",
    )
    for place, (unit, group) in zip(axes.flat, groups.items(), strict=True):
        _draw_group(place, unit, group)
    used = [mark for mark in MARKS if any(mark == _mark(o) for g in groups.values() for o in g)]
    legend = [
        plt.Line2D([], [], marker=MARKS[mark][0], color=MARKS[mark][1], linewidth=0, label=mark)
        for mark in used
    ]
    legend.append(plt.Line2D([], [], color="#777777", label="95 % interval"))
    legend.append(
        plt.Line2D([], [], marker="|", color="black", markersize=12, linewidth=0, label="goal")
    )
    figure.legend(handles=legend, loc="outside upper center", ncols=len(legend), fontsize=8)
    with files.replacing(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def _draw_group(axes: "Axes", unit: str, group: Sequence[Outcome]) -> None:
    """Draw the rows of one unit, the first at the top."""
    axes.axvline(0, color="#777777", linewidth=1, zorder=0)
    labels = []
    for place, outcome in enumerate(group):
        published, goal, here = (
            outcome.published["value"],
            outcome.published["goal"],
            mean(outcome.values),
        )
        shape, color = MARKS[_mark(outcome)]
        sign = -1 if outcome.higher else 1
        if outcome.interval is not None:
            ends = [sign * (end - published) for end in outcome.interval]
            axes.plot(ends, [place, place], color=color, linewidth=1.5, zorder=1)
        if goal is not None:
            at = sign * (goal - published)
            axes.plot(at, place, "|", color="black", markersize=12, zorder=2)
        axes.plot(sign * (here - published), place, shape, color=color, markersize=7, zorder=3)
        labels.append(f"{rounded(here)} (published {published:g})")
    axes.set_yticks(range(len(group)), [outcome.name for outcome in group], fontsize=8)
    axes.set_ylim(len(group) - 0.5, -0.5)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(group)), labels, fontsize=8)
    for side in (axes, beside):
        side.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="y", color="#eeeeee", zorder=-1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    beside.spines["right"].set_visible(False)
    axes.set_xlabel(f"{unit}: here − published (right is worse)", fontsize=8)


def _mark(outcome: Outcome) -> str:
    return NOT_COMPARED if outcome.other_settings else outcome.verdict or NO_GOAL
