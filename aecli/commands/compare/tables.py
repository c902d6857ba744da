"""Compared runs as a table: on the terminal, as Markdown, as CSV."""

import csv
import io
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Column, Table

from aecli import progress
from aecli.runs.records import Group, Value
from aecli.text import csv_cell, markdown_cell, one_line

BESIDE = (
    "val/loss",
    "val/mse",
    "val/elbo",
    "test/mse",
    "test/sse",
    "test/elbo",
    "test/marginal_nll",
    "test/probe_error",
    "test/finetune_error",
    "train_seconds",
)
"""The metrics that stand beside the one sorted by, where some run has them."""


def rows(groups: Sequence[Group], keys: Sequence[str], metric: str) -> list[list[str]]:
    """Return the head and a row for each group: settings, runs, the metric, then the others."""
    others = [name for name in BESIDE if name != metric and any(g.values(name) for g in groups)]
    head = [*keys, "runs", metric, *others]
    body = [
        [
            *(shown(group.settings.get(key)) for key in keys),
            str(len(group.records)),
            *(group.told(name) for name in (metric, *others)),
        ]
        for group in groups
    ]
    return [head, *body]


def show(table: Sequence[Sequence[str]], settings: int) -> None:
    """Print a table of which the first `settings` columns are no numbers."""
    head, *body = table
    columns = [
        Column(escape(one_line(name)), justify="left" if i < settings else "right", overflow="fold")
        for i, name in enumerate(head)
    ]
    printed = Table(*columns)
    for row in body:
        printed.add_row(*(escape(one_line(cell)) for cell in row))
    progress.show(printed)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    head, *body = [[markdown_cell(cell) for cell in row] for row in table]
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def comma_separated(groups: Sequence[Group], keys: Sequence[str]) -> str:
    """Return a line for each run: its settings, seed, every metric and its directory."""
    metrics = dict.fromkeys(name for g in groups for r in g.records for name in r.metrics)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(map(csv_cell, [*keys, "seed", *metrics, "directory"]))
    for group in groups:
        for record in group.records:
            settings = [record.settings.get(key) for key in (*keys, "seed")]
            values = [record.metrics.get(name) for name in metrics]
            writer.writerow(map(csv_cell, [*settings, *values, record.directory]))
    return text.getvalue()


def shown(value: Value) -> str:
    """Return a setting as it is typed; "" where a run does not have it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
