"""`aecli compare`: runs side by side, from their directories alone. Imports no torch."""

import argparse
import os
from collections.abc import Mapping, Sequence
from os.path import commonpath
from pathlib import Path

from aecli import files
from aecli.commands.compare import groups, tables
from aecli.commands.compare.groups import MOST, Group, Repeated
from aecli.commands.compare.meaning import Conflict, conflicts, usual_metric
from aecli.commands.words import Parser
from aecli.errors import SettingError
from aecli.runs import records
from aecli.runs.paths import OUTPUTS, shown
from aecli.runs.records import Record, some
from aecli.text import counted, one_line

PAGE = "index.html"
LONGEST_NOTE = 5_000
"""Characters of a line below the table: it may hold a long path."""

DESCRIPTION = """\
Compares finished runs: a table sorted by a metric, with only the settings that differ, and
mean ± standard deviation over runs that differ in nothing but the seed (n: the runs that have the
metric, where some do not). "vs best" is the difference of the means from the first row with its
95 % confidence interval over seeds: of the differences seed by seed where both have the same
seeds, otherwise Welch's. It does not allow for the best having been chosen among many.

A * marks what does not compare: losses of another β, penalty, likelihood or data, and test
metrics of other evaluation settings. Without --metric, the runs are sorted by the first of
val/loss, val/elbo and val/mse that compares.
"""
EXAMPLES = """\
examples:
  aecli compare                                    the newest sweep
  aecli compare outputs/vae-mnist                  all runs in a folder
  aecli compare 'outputs/*-digits' model=vae,ae    a pattern, and a filter
  aecli compare --metric test/mse --output mine    also index.html, a page to sort, filter and
                                                   look at, and its parts: table.csv, table.md,
                                                   curves.png, settings.png, grid.png,
                                                   codes.png

The same runs in TensorBoard: tensorboard --logdir outputs
"""


def main(arguments: Sequence[str]) -> None:
    """Compare the runs that `arguments` name, print the table, write the rest if asked for.

    Raises `SettingError` if there are no such runs.
    """
    parser = _parser()
    asked = parser.parse_args(arguments)
    parser.refuse_run(asked.runs)
    output = _new_folder(asked.output)
    filters = [text for text in asked.runs if "=" in text and not os.path.lexists(text)]
    specs = [text for text in asked.runs if text not in filters]
    directories = records.find(specs, Path(OUTPUTS))
    read = records.read(directories)
    if not read:
        raise SettingError(f"none of {len(directories)} runs has finished; nothing to compare")
    found, repeated = groups.grouped(records.matching(read, filters))
    compared = _records(found)
    metric, instead_of = (asked.metric, None) if asked.metric else usual_metric(compared)
    ranked = groups.ranked(found, metric)
    if not ranked:
        known = sorted({name for record in compared for name in record.metrics})
        raise SettingError(
            f"--metric {metric}: no run has it; must be one of {some(known, len(tables.BESIDE))}"
        )
    having = sum(len(group.records) for group in ranked)
    keys = groups.differing(ranked)
    names = tables.columns(ranked, metric)
    marked = conflicts(_records(ranked), names)
    metrics = sorted(names, key=lambda name: name != metric and name in marked)
    table = tables.rows(ranked, keys, metrics, marked)
    hidden = tables.show(table, len(keys))
    notes = [
        *([f"not shown in so narrow a terminal: {', '.join(hidden)}"] if hidden else []),
        *_notes(ranked, metric, instead_of, marked, repeated, len(compared) - having),
    ]
    print("\n".join(one_line(note, LONGEST_NOTE) for note in notes))  # noqa: T201
    if output is not None:
        _write(output, ranked, _in_turn(found, ranked), keys, metric, table, notes)


def _parser() -> Parser:
    parser = Parser(
        prog="aecli compare",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN or KEY=VALUE",
        help="runs, folders of runs, patterns; settings to have (default: the newest sweep)",
    )
    parser.add_argument(
        "--metric",
        help="sort by this: val/loss, test/mse … (default: val/loss, or val/elbo or val/mse if"
        " the losses do not compare)",
    )
    parser.add_argument(
        "--output", help="new or empty folder for a page, CSV, Markdown and pictures"
    )
    return parser


def _new_folder(asked: str | None) -> Path | None:
    """Return the folder that `--output` names, None without it.

    Raises `SettingError` if it cannot be made.
    """
    if asked is None:
        return None
    if not asked:
        raise SettingError("--output '': must be the path of a new or an empty folder")
    try:
        files.refuse_existing(Path(asked))
    except SettingError as error:
        raise SettingError(f"--output {error}") from error
    return Path(asked)


def _records(found: Sequence[Group]) -> list[Record]:
    return [record for group in found for record in group.records]


def _in_turn(found: Sequence[Group], ranked: Sequence[Group]) -> list[Group]:
    """Return the best groups in the order of their runs, as `-m model.beta=0.1,1,10` names them."""
    best = {id(group) for group in ranked[:MOST]}
    return [group for group in found if id(group) in best]


def _notes(
    ranked: Sequence[Group],
    metric: str,
    instead_of: str | None,
    marked: Mapping[str, Conflict],
    repeated: Sequence[Repeated],
    without: int,
) -> list[str]:
    """Return what stands below the table, a line each."""
    notes = []
    if without:
        notes.append(f"left out: {counted(without, 'runs')} without {metric}")
    if repeated:
        notes.append(f"same settings and seed, counted once: {some(list(map(str, repeated)))}")
    versions = sorted({record.version for record in _records(ranked) if record.version})
    if len(versions) > 1:
        notes.append(f"made by several versions of aecli: {some(versions)}")
    causes: dict[str, list[str]] = {}
    for name, conflict in marked.items():
        causes.setdefault(str(conflict), []).append(name)
    for why, names in causes.items():
        verb = "does" if len(names) == 1 else "do"
        so = f"; sorted by {metric} instead" if instead_of in names else ""
        notes.append(f"{tables.MARK} {', '.join(names)} {verb} not compare: {why}{so}")
    best = min(
        ranked[0].having(metric),
        key=lambda record: records.loss_of(metric, record.metrics[metric], [record]),
    )
    notes.append(f"best by {metric}: {shown(best.directory)}")
    directories = [str(record.directory.parent) for record in _records(ranked)]
    notes.append(f"tensorboard --logdir {shown(Path(commonpath(directories)))}")
    return notes


def _write(
    folder: Path,
    ranked: Sequence[Group],
    in_turn: Sequence[Group],
    keys: Sequence[str],
    metric: str,
    table: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> None:
    from aecli.commands.compare import charts
    from aecli.commands.compare.code_maps import code_maps
    from aecli.commands.compare.page import page

    # What a preset sets goes with the preset: a picture of it alone would say nothing.
    typed = [key for key in keys if any(key in record.typed for record in _records(ranked))]
    pictures = {
        "curves.png": charts.curves(ranked, keys, metric),
        "settings.png": charts.against_settings(ranked, typed or keys, metric),
        "grid.png": charts.grid(in_turn, keys),
        "codes.png": code_maps(in_turn, keys),
    }
    drawn = {name: figure for name, figure in pictures.items() if figure is not None}
    with files.new_folder(folder) as new:
        (new / "table.md").write_text(tables.markdown(table, notes))
        (new / "table.csv").write_text(tables.comma_separated(ranked, keys))
        for name, figure in drawn.items():
            charts.save(figure, new / name)
        (new / PAGE).write_text(page(ranked, keys, metric, table, notes), encoding="utf-8")
    print(f"written: {', '.join([PAGE, 'table.md', 'table.csv', *drawn])} in {shown(folder)}")  # noqa: T201
