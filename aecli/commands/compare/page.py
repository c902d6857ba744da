"""Compared runs as one HTML file that fetches nothing: table, curves, pictures, settings.

What stands in it may be a stranger's: every string is escaped, and a policy in the page's head lets
the browser run and load nothing but what is written here.
"""

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from PIL import Image

from aecli.commands.compare import charts
from aecli.commands.compare.groups import MOST, Group, varied
from aecli.html import csp_hash, in_script
from aecli.runs.records import Record, ordered, value_text
from aecli.text import one_line

MOST_METRICS, MOST_POINTS = 40, 400
"""Curves to choose from, and points of a line."""
MOST_ROWS = 2000
WIDEST = 960
"""Pixels of a picture: a wider one is made smaller."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(?![\w.])", re.IGNORECASE)
"""What a cell of numbers begins with."""
NUMERIC = ' class="number"'

Series = dict[str, list[tuple[float, float]]]
"""By metric: (epoch, value)."""


def page(
    groups: Sequence[Group],
    keys: Sequence[str],
    metric: str,
    table: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> str:
    """Return the page as HTML.

    Args:
        groups: the best first.
        keys: the settings that are columns of the table.
        metric: what they are sorted by.
        table: the head and a row for each group.
        notes: what stands below the table.
    """
    style, script = (_own(f"page.{kind}") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {csp_hash(style)};"
        f" script-src {csp_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(len(groups))} models compared by {_text(metric)}</title>",
        f"<style>{style}</style></head><body><main>",
        f"<h1>Runs, compared by {_text(metric)}</h1>",
        *_table(groups, keys, table),
        "<ul>",
        *(f"<li>{_text(note, 5000)}</li>" for note in notes),
        "</ul>",
        *_curves(groups, keys, metric),
        *_pictures(groups, keys),
        *_settings(groups),
        f"</main><script>{script}</script></body></html>\n",
    ]
    return "\n".join(parts)


def _own(name: str) -> str:
    return files("aecli.commands.compare").joinpath(name).read_text(encoding="utf-8")


def _text(value: Any, longest: int = 200) -> str:
    """Return a foreign string as HTML that is only shown."""
    return escape(one_line(value, longest))


def _table(
    groups: Sequence[Group], keys: Sequence[str], table: Sequence[Sequence[str]]
) -> list[str]:
    head, *rows = table
    cells = "".join(
        f'<th scope="col"{NUMERIC if place >= len(keys) else ""}>'
        f'<button type="button">{_text(name)}</button></th>'
        for place, name in enumerate(head)
    )
    lines = [
        '<section aria-labelledby="table"><h2 id="table">Table</h2>',
        '<p class="controls"><label for="filter">Show rows with</label>',
        f'<input id="filter" type="search" autocomplete="off" placeholder="{_example(groups)}">',
        '<output id="count" for="filter"></output></p>',
        '<div class="wide" tabindex="0" role="region" aria-labelledby="table">',
        f'<table id="runs"><thead><tr>{cells}</tr></thead><tbody>',
    ]
    missing = dict.fromkeys(varied(groups))
    for number, (group, row) in enumerate(zip(groups, rows[:MOST_ROWS], strict=False)):
        has = {**missing, **group.settings}
        settings = "\n".join(f"{one_line(key)}={value_text(value)}" for key, value in has.items())
        line = "".join(_cell(text, place >= len(keys)) for place, text in enumerate(row))
        lines.append(f'<tr data-group="{number}" data-settings="{escape(settings)}">{line}</tr>')
    lines.append("</tbody></table></div>")
    if len(rows) > MOST_ROWS:
        lines.append(f"<p>The first {MOST_ROWS:,} of {len(rows):,}; table.csv has all.</p>")
    return [*lines, "</section>"]


def _example(groups: Sequence[Group]) -> str:
    """Return what might be typed to filter these rows: a setting of the best of them."""
    settings = groups[0].settings
    key = next((key for key in varied(groups) if key in settings), next(iter(settings), None))
    return "a word" if key is None else _text(f"{key}={value_text(settings[key])}", 60)


def _cell(text: str, is_number: bool) -> str:
    found = NUMBER.match(text)
    value = f' data-value="{found.group()}"' if found else ""
    return f"<td{NUMERIC if is_number else ''}{value}>{_text(text)}</td>"


def _curves(groups: Sequence[Group], keys: Sequence[str], metric: str) -> list[str]:
    """Return the data of the curves, which the script draws: the runs of the best groups."""
    lines: list[dict[str, Any]] = []
    most = charts.MOST_RUNS // min(len(groups), MOST)
    for number, group in enumerate(groups[:MOST]):
        runs = group.records[:most]
        for record in runs:
            name = _group_name(group, keys)
            if len(runs) > 1:
                name += f" ({one_line(record.directory.name, 60)})"
            lines.append({"group": number, "name": name, "metrics": _history(record)})
    lines = [line for line in lines if line["metrics"]]
    if not lines:
        return []
    names = dict.fromkeys(name for line in lines for name in line["metrics"])
    chosen = metric if metric in names else next(iter(names))
    units = {name: charts.unit_of(name, groups) for name in names}
    data = in_script({"metric": chosen, "names": sorted(names), "units": units, "lines": lines})
    return [
        '<section aria-labelledby="curves"><h2 id="curves">Curves</h2>',
        '<p class="controls"><label for="metric">Metric</label><select id="metric"></select>',
        '<label><input id="logarithmic" type="checkbox"> logarithmic</label></p>',
        '<svg id="chart" role="img" tabindex="0" aria-labelledby="curves"',
        ' aria-describedby="hint"></svg><p id="values" aria-live="polite"></p>',
        *_left_out(groups, most),
        '<p id="hint">Move over the curves, or focus them and press ← and →, to read values.</p>',
        "<noscript><p>curves.png, beside this page, shows them without a script.</p></noscript>",
        f'<script type="application/json" id="data">{data}</script>',
        "</section>",
    ]


def _left_out(groups: Sequence[Group], most: int) -> list[str]:
    """Return what says which runs have lines, if not all have: of the best groups, `most` each."""
    every = sum(len(group.records) for group in groups)
    drawn = sum(len(group.records[:most]) for group in groups[:MOST])
    if drawn == every:
        return []
    rows = f"of the {MOST} best rows" if len(groups) > MOST else "row"
    told = f"Lines are drawn of {drawn:,} of the {every:,} runs: at most {most} of each {rows}."
    return [f"<p>{told}</p>"]


def _history(record: Record) -> Series:
    """Return a run's metrics by epoch, thinned to `MOST_POINTS` a line and the last one."""
    found: Series = {}
    for name, points in charts.history(record, MOST_METRICS).items():
        step = -(-len(points) // MOST_POINTS)
        thinned = points[::step]
        if thinned[-1] != points[-1]:
            thinned.append(points[-1])
        found[one_line(name, 60)] = thinned
    return found


def _pictures(groups: Sequence[Group], keys: Sequence[str]) -> list[str]:
    lines = []
    for number, group in enumerate(groups[:MOST]):
        picture = charts.reconstructions(group.records[0])
        if picture is not None:
            name = escape(_group_name(group, keys))
            lines.append(
                f'<figure data-group="{number}"><figcaption>{name}</figcaption>'
                f'<img loading="lazy" src="{_data_url(picture)}" alt="what {name} makes of'
                ' examples"></figure>'
            )
    if not lines:
        return []
    head = '<section aria-labelledby="pictures"><h2 id="pictures">Reconstructions</h2>'
    return [head, '<div class="pictures">', *lines, "</div></section>"]


def _data_url(picture: Image.Image) -> str:
    """Return a picture, encoded anew, as a URL that holds it."""
    picture.thumbnail((WIDEST, 2 * WIDEST))
    contents = io.BytesIO()
    picture.save(contents, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(contents.getvalue()).decode()}"


def _settings(groups: Sequence[Group]) -> list[str]:
    """Return all settings that differ, each value a button that shows its rows."""
    lines = []
    for key in varied(groups):
        values = ordered({group.settings.get(key) for group in groups})
        buttons = [
            f'<button type="button" data-filter="{_text(key)}={escape(value_text(value))}">'
            f"{escape(value_text(value))}</button>"
            for value in values[:MOST]
        ]
        more = f" and {len(values) - MOST} more" if len(values) > MOST else ""
        row = f'<th scope="row">{_text(key)}</th><td>{" ".join(buttons)}{more}</td>'
        lines.append(f"<tr>{row}</tr>")
    if not lines:
        return []
    return [
        '<section aria-labelledby="settings"><h2 id="settings">Settings that differ</h2>',
        '<div class="wide"><table id="differing">',
        *lines[:MOST_ROWS],
        "</table></div></section>",
    ]


def _group_name(group: Group, keys: Sequence[str]) -> str:
    settings = [f"{one_line(key)}={value_text(group.settings.get(key))}" for key in keys]
    return one_line(" ".join(settings) or group.records[0].directory.name)
