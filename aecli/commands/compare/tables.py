"""Compared runs as a table: on the terminal, as Markdown, as CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from rich.cells import cell_len
from rich.console import JustifyMethod
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from aecli import progress
from aecli.commands.compare.groups import Group, difference
from aecli.commands.compare.meaning import Conflict
from aecli.runs.intervals import Difference
from aecli.runs.records import SEED, value_text
from aecli.text import csv_cell, markdown_cell, one_line

BESIDE = (
    "val/loss",
    "val/elbo",
    "val/kl",
    "val/mse",
    "test/mse",
    "test/elbo",
    "test/kl",
    "test/marginal_nll",
    "test/marginal_nll_ais",
    "test/probe_error",
    "test/finetune_error",
    "test/sse",
    "train_seconds",
)
"""The metrics beside the one sorted by, where some run has them, the first ones where not all fit.
"""
MARK = "*"
"""Behind a metric, and behind a value, that does not compare."""
NOTHING = "–"
AGAINST_BEST = "vs best"
"""The column of the differences from the best group."""


def columns(groups: Sequence[Group], metric: str) -> list[str]:
    """Return the metrics of the table, the one sorted by first, those of plugins last."""
    own = [name for group in groups for record in group.records for name in record.own]
    known = [name for name in dict.fromkeys([*BESIDE, *own]) if name != metric]
    others = [name for name in known if any(group.values(name) for group in groups)]
    return [metric, *others]


def rows(
    groups: Sequence[Group],
    keys: Sequence[str],
    metrics: Sequence[str],
    conflicts: Mapping[str, Conflict],
) -> list[list[str]]:
    """Return the head and a row for each group: settings, runs, the metric, then the others.

    Beside the metric that sorts them stands the difference from the best group with its 95 %
    interval, if any has one.
    """
    first = metrics[0]
    against = [_against_best(group, groups[0], first, conflicts) for group in groups]
    has_interval = any(cell != NOTHING for cell in against)
    head = [*keys, "runs"]
    body = [
        [value_text(g.settings.get(key)) for key in keys] + [str(len(g.records))] for g in groups
    ]
    for name in metrics:
        head.append(f"{name}{MARK}" if name in conflicts else name)
        for group, row in zip(groups, body, strict=True):
            row.append(cell(group, name, conflicts.get(name)))
        if name == first and has_interval:
            head.append(AGAINST_BEST)
            for row, text in zip(body, against, strict=True):
                row.append(text)
    return [head, *body]


def cell(group: Group, metric: str, conflict: Conflict | None = None) -> str:
    """Return "mean ± standard deviation" over the runs, and their number where some are without.

    Values that do not compare with each other have no mean: they are the range with a mark.
    """
    values = group.values(metric)
    if not values:
        return NOTHING
    number = "" if len(values) == len(group.records) else f" (n={len(values)})"
    if conflict is not None and conflict.divides(group.having(metric)):
        return f"{min(values):.4g} to {max(values):.4g}{number}{MARK}"
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    return f"{fmean(values):.4g}{spread}{number}"


def _against_best(group: Group, best: Group, metric: str, conflicts: Mapping[str, Conflict]) -> str:
    if group is best or metric in conflicts:
        return NOTHING
    found = difference(group, best, metric)
    return NOTHING if found is None else _with_interval(found)


def _with_interval(found: Difference) -> str:
    """Return "+0.83 [0.31, 1.35]", with two digits of half of the interval's width."""
    low, high = found.interval
    scale = max((high - low) / 2, abs(found.value) / 1000)  # a width of 0 has no digits
    decimals = max(0, 1 - math.floor(math.log10(scale))) if scale else 0
    return f"{found.value:+z.{decimals}f} [{low:z.{decimals}f}, {high:z.{decimals}f}]"


def show(table: Sequence[Sequence[str]], settings: int) -> list[str]:
    """Print a table of which the first `settings` columns are no numbers.

    Return the heads of the columns that a terminal has no room for.
    """
    columns = list(zip(*[map(one_line, row) for row in table], strict=True))
    widths = [max(map(cell_len, column)) + len(" ┃ ") for column in columns]
    least = settings + 2  # the settings, the number of runs, and the metric
    room = progress.width()
    free = math.inf if room is None else room - 1 - sum(widths[:least])
    shown_columns, hidden = columns[:least], []
    for column, width in zip(columns[least:], widths[least:], strict=True):
        if width <= free:
            shown_columns.append(column)
            free -= width
        else:
            hidden.append(column[0])
    printed = Table()
    for number, (name, *_) in enumerate(shown_columns):
        justify: JustifyMethod = "left" if number < settings else "right"
        printed.add_column(escape(name), justify=justify, overflow="fold")
    body = [list(map(Text, column[1:])) for column in shown_columns]
    if free >= 0:  # no cell is folded: rich draws one of many lines ten times as fast as many cells
        body = [[Text("\n").join(column)] for column in body]
    for row in zip(*body, strict=True):
        printed.add_row(*row)
    progress.show(printed, sum(widths) + 1)
    return hidden


def markdown(table: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Return a table in Markdown, the notes below it as a list."""
    head, *body = [[markdown_cell(text) for text in row] for row in table]
    lines = [head, ["---"] * len(head), *body]
    rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return rows + "\n" + "".join(f"- {markdown_cell(note)}\n" for note in notes)


def comma_separated(groups: Sequence[Group], keys: Sequence[str]) -> str:
    """Return a line for each run: its settings, seed, every metric and its directory.

    After the directory, the settings of its evaluation, where runs differ in them.
    """
    records = [record for group in groups for record in group.records]
    metrics = dict.fromkeys(name for record in records for name in record.metrics)
    evaluation = [
        key
        for key in dict.fromkeys(key for record in records for key in record.evaluation)
        if len({record.evaluation.get(key) for record in records}) > 1
    ]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(map(csv_cell, [*keys, SEED, *metrics, "directory", *evaluation]))
    for record in records:
        settings = [record.settings.get(key) for key in (*keys, SEED)]
        values = [record.metrics.get(name) for name in metrics]
        measured = [record.evaluation.get(key) for key in evaluation]
        writer.writerow(map(csv_cell, [*settings, *values, record.directory, *measured]))
    return text.getvalue()
