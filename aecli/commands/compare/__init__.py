"""`aecli compare`: runs side by side, from their directories alone. Imports no torch."""

import argparse
from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path

from aecli.commands.compare import tables
from aecli.errors import SettingError
from aecli.runs import records
from aecli.runs.paths import shown
from aecli.runs.records import Group

OUTPUTS = Path("outputs")
SAME_UNIT = ("model", "likelihood", "dataset", "dataset.binarize")
"""Settings by which the losses of two runs mean the same."""

DESCRIPTION = """\
Compares finished runs: a table sorted by a metric, with only the settings that differ, and
mean ± standard deviation over runs that differ in nothing but the seed.
"""
EXAMPLES = """\
examples:
  aecli compare                                    the newest sweep
  aecli compare outputs/vae-mnist                  all runs in a folder
  aecli compare 'outputs/*-digits' model=vae,ae    a pattern, and a filter
  aecli compare --metric test/mse --output mine    also table.csv, table.md, curves.png,
                                                   settings.png and grid.png, into mine/

The same runs in TensorBoard: tensorboard --logdir outputs
"""


def main(arguments: Sequence[str]) -> None:
    """Compare the runs that `arguments` name, print the table, write the rest if asked for.

    Raises `SettingError` if there are no such runs.
    """
    asked = _parser().parse_args(arguments)
    filters = [text for text in asked.runs if "=" in text and not Path(text).exists()]
    specs = [text for text in asked.runs if text not in filters]
    directories = records.find(specs, OUTPUTS)
    read = records.read(directories)
    if not read:
        raise SettingError(f"none of {len(directories)} runs has finished; nothing to compare")
    groups = records.grouped(records.matching(read, filters))
    metric = asked.metric or _usual_metric(groups)
    ranked = records.ranked(groups, metric)
    if not ranked:
        known = sorted({name for group in groups for r in group.records for name in r.metrics})
        raise SettingError(f"--metric {metric}: no run has it; must be one of {', '.join(known)}")
    keys = records.differing(ranked)
    table = tables.rows(ranked, keys, metric)
    tables.show(table, len(keys))
    _tell(ranked, metric, len(groups) - len(ranked))
    if asked.output:
        _write(asked.output, ranked, keys, metric, tables.markdown(table))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
        help="sort by this: val/loss, test/mse … (default: val/loss, or val/mse if"
        " the losses do not compare)",
    )
    parser.add_argument("--output", type=Path, help="folder for CSV, Markdown and pictures")
    return parser


def _usual_metric(groups: Sequence[Group]) -> str:
    units = {tuple(group.settings.get(key) for key in SAME_UNIT) for group in groups}
    return "val/loss" if len(units) == 1 else "val/mse"


def _tell(ranked: Sequence[Group], metric: str, without: int) -> None:
    pick = max if records.more_is_better(metric) else min
    having = [record for record in ranked[0].records if metric in record.metrics]
    best = pick(having, key=lambda record: record.metrics[metric])
    if without:
        print(f"left out: {without} without {metric}")  # noqa: T201
    directories = [str(r.directory.parent) for group in ranked for r in group.records]
    print(f"best by {metric}: {shown(best.directory)}")  # noqa: T201
    print(f"tensorboard --logdir {shown(Path(commonpath(directories)))}")  # noqa: T201


def _write(
    folder: Path, ranked: Sequence[Group], keys: Sequence[str], metric: str, markdown: str
) -> None:
    from aecli.commands.compare import charts

    if folder.exists() and not folder.is_dir():
        raise SettingError(f"--output {folder}: is a file; must be a folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(markdown)
    (folder / "table.csv").write_text(tables.comma_separated(ranked, keys))
    pictures = {
        "curves.png": charts.curves(ranked, keys, metric),
        "settings.png": charts.against_settings(ranked, keys, metric),
        "grid.png": charts.grid(ranked, keys),
    }
    for name, figure in pictures.items():
        if figure is not None:
            charts.save(figure, folder / name)
    written = ["table.md", "table.csv", *(name for name, f in pictures.items() if f is not None)]
    print(f"written: {', '.join(written)} in {shown(folder)}")  # noqa: T201
