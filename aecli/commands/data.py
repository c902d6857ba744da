"""`aecli data`: what a run would see of a data set, as a table and a picture, without training."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.markup import escape
from rich.table import Column, Table
from torch import Tensor

from aecli import figures, files
from aecli.build import build
from aecli.commands.places import file_for
from aecli.data import DataModule
from aecli.data.records import Records
from aecli.data.summary import ColumnSummary, Summary, chosen, summary
from aecli.errors import check_bool
from aecli.progress import show
from aecli.runs.paths import shown
from aecli.text import one_line
from aecli.training.source_contract import check_source

log = logging.getLogger(__name__)

MOST = 30
"""Classes, columns or histograms that are shown."""
IMAGES = 100
"""On a contact sheet."""
DRAWN = 10_000
"""Examples that a histogram counts."""


def main(config: DictConfig) -> None:
    """Read the data set that `dataset` describes, print what it is like, draw it to `out`."""
    check_bool("overwrite", config.overwrite)
    out = None if config.out is None else file_for(config, "sheet.png", (".png",))
    refuses_missing = config.dataset.get("missing") == "error"
    if refuses_missing:  # a training does; here it is told which they are
        config.dataset.missing = "mask"
    data: DataModule = build(config, "dataset")
    check_source(config, HydraConfig.get().runtime.choices, data)
    records = data.source.read(data.root, None)
    rows = data.splitting(records)
    found = summary(records)
    if told := "; ".join(filter(None, (records.understood, data.splitting.said(records)))):
        log.info(told)
    name = HydraConfig.get().runtime.choices["dataset"]
    table = Table("", "", title=name, title_justify="left", show_header=False)
    for key, value in _properties(found, records, rows, data):
        table.add_row(key, escape(value))
    show(table)
    if found.columns:
        show(_columns(found.columns))
    if refuses_missing and found.missing:
        log.info("values are missing: a training needs dataset.missing=mean, median or mask")
    if out is not None:
        with files.new_files(out, overwrite=config.overwrite) as (file,):
            file.write(_picture(data, records, rows["train"]))
        log.info("written: %s", shown(out))


def _properties(
    found: Summary, records: Records, rows: dict[str, Tensor], data: DataModule
) -> Iterator[tuple[str, str]]:
    """Yield the lines of the table: what a property is called, and its value."""
    yield "examples", f"{found.count:,}"
    for name, split in rows.items():
        yield f"  {name}", f"{len(split):,}"
    yield "shape", str(list(found.shape))
    yield "type", found.kind
    if np.isfinite(found.low):
        mean = f", mean {found.mean:.4g}" if np.isfinite(found.mean) else ""
        yield "values", f"from {found.low:.6g} to {found.high:.6g}{mean}"
    yield "missing values", f"{found.missing:,}"
    what = "columns" if found.columns else "features"
    yield f"constant {what}", f"{found.constant:,}"
    yield "duplicates", f"{found.duplicates:,} examples are the same as an earlier one"
    if records.labels is not None:
        numbers, counts = (part.tolist() for part in records.labels.unique(return_counts=True))
        yield "classes", str(len(numbers))
        for number, count in zip(numbers[:MOST], counts, strict=False):
            label = records.classes[number] if records.classes else number
            yield f"  {one_line(label, 60)}", f"{count:,}"
        if len(numbers) > MOST:
            yield "  …", f"{len(numbers) - MOST} more"
    size = data.batch_size or len(rows["train"])
    yield "batches", f"{-(-len(rows['train']) // size):,} of {size:,} examples in an epoch"


def _columns(columns: list[ColumnSummary]) -> Table:
    heads = ("type", "missing", "distinct", "values")
    table = Table(Column("column", overflow="fold"), *heads, title_justify="left")
    for column in columns[:MOST]:
        if column.low is not None:
            values = f"from {column.low:.6g} to {column.high:.6g}, mean {column.mean:.4g}"
        else:
            values = ", ".join(f"{one_line(t, 30)} ({n:,})" for t, n in column.commonest)
        cells = (one_line(column.name, 60), column.kind, f"{column.missing:,}")
        table.add_row(*map(escape, (*cells, f"{column.distinct:,}", values)))
    if len(columns) > MOST:
        table.add_row("…", "", "", "", f"{len(columns) - MOST} more columns")
    return table


def _picture(data: DataModule, records: Records, train: Tensor) -> bytes:
    """Return a contact sheet of images or, of other examples, the histograms of their columns."""
    card = None if hasattr(records.data, "columns") else data.source.fit(records, train)
    if card is not None and len(card.shape) == 3:
        stored = card.stored(chosen(records.data, IMAGES))
        images = card.scaled(torch.as_tensor(stored))
        return figures.png(figures.grid(images, max(1, round(len(images) ** 0.5))))
    some = chosen(records.data, DRAWN)
    named = dict(_values(some))
    title = f"{len(some):,} of {len(records):,} examples"
    return figures.png(figures.pixels_of(figures.histograms(named, title)))


def _values(some: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the values of the first columns of examples."""
    if hasattr(some, "columns"):
        for name in some.columns[:MOST]:
            yield str(name), some[name].dropna().to_numpy()
    else:
        for number, values in enumerate(np.asarray(some).reshape(len(some), -1).T[:MOST]):
            yield f"x{number}", values[~np.isnan(values)]
