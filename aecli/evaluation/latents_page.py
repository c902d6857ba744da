"""Latents and their top rows as a page for a browser, and as a table.

The page is one file that loads nothing and runs nothing: its content security policy allows its own
style sheet alone. All texts from files are escaped.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape

from aecli.evaluation.latents import Latent
from aecli.evaluation.origins import Origin
from aecli.html import csp_hash
from aecli.text import csv_cell, one_line, printable

COLUMNS = ("latent", "rank", "activation", "file", "row", "before", "token", "after")
HEIGHT, BAR = 60, 9
"""Of a histogram, in pixels: a bar's largest height, and its width with the gap."""
NAME, LENGTH, LINE = 104, 140, 20
"""Of bars with names, in pixels: the room for a name, the longest bar, and a bar with the gap."""
STYLE = """
:root { color-scheme: light dark; --line: #8884; --mark: #ffd54a; --bar: #4878a8; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
h1 { overflow-wrap: anywhere } nav { font-size: .85rem }
table { border-collapse: collapse } th { text-align: left; font-weight: 600 }
th, td { padding: .15rem .8rem .15rem 0; vertical-align: top; border-bottom: 1px solid var(--line) }
.number { text-align: right; font-variant-numeric: tabular-nums } td.number { white-space: nowrap }
.text { font-family: ui-monospace, monospace; font-size: .85rem; overflow-wrap: anywhere }
.text, .wide { width: 100% }
.from { opacity: .7; font-size: .85rem; min-width: 6rem; overflow-wrap: anywhere }
mark { background: var(--mark); color: black; white-space: pre-wrap; border-radius: .15rem }
svg { display: block; margin: .5rem 0; max-width: 100%; height: auto }
table { margin-top: 1rem } rect { fill: var(--bar) }
svg text { fill: currentColor; font-size: 11px }
figure { margin: 0 } figcaption { font-size: .85rem; opacity: .8 }
"""


class Page:
    """What some latents do on the N rows of a split.

    Args:
        title: of the page, such as "topk_sae on activations".
        rows: N.
        rates: how many of all latents have a firing rate in a range, by the name of the range.
        latents: those that are shown.
        origins: where the row at each place comes from that is one of theirs.
    """

    def __init__(
        self,
        title: str,
        rows: int,
        rates: Mapping[str, int],
        latents: Sequence[Latent],
        origins: Mapping[int, Origin],
    ) -> None:
        self.title, self.rows, self.rates = title, rows, rates
        self.latents, self.origins = latents, origins

    def html(self) -> bytes:
        """Return the page."""
        policy = f"default-src 'none'; style-src {csp_hash(STYLE)}"
        parts = [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(self.title)}: latents</title><style>{STYLE}</style></head><body>",
            f'<h1 id="all">Latents of {_text(self.title)}</h1>',
            self._overview(),
            *map(self._latent, self.latents),
            "</body></html>\n",
        ]
        return "\n".join(parts).encode()

    def csv(self) -> bytes:
        """Return the rows as a table: a line for each latent and row."""
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for latent in self.latents:
            for rank, active in enumerate(latent.rows, 1):
                origin = self.origins[active.place]
                context = origin.context or ("", "", "")
                cells = (latent.number, rank, active.activation, origin.file, origin.row, *context)
                writer.writerow(map(csv_cell, cells))
        return file.getvalue().encode()

    def _overview(self) -> str:
        lines = [
            f'<tr><td class="number"><a href="#latent-{latent.number}">{latent.number}</a></td>'
            f'<td class="number">{latent.rate:.3%}</td><td class="number">{latent.active:,}</td>'
            f'<td class="number">{latent.mean:.4g}</td></tr>'
            for latent in self.latents
        ]
        return (
            f"<p>On the {self.rows:,} rows of the test split. A latent is <em>active</em> on a row"
            " if its activation is above 0; its firing rate is the share of rows on which it is."
            " </p>"
            f"<figure>{_bars(self.rates)}<figcaption>All {sum(self.rates.values()):,} latents by"
            " their firing rates.</figcaption></figure>"
            '<table><tr><th class="number">latent</th><th class="number">firing rate</th>'
            '<th class="number">rows</th><th class="number">mean activation where active</th></tr>'
            f"{''.join(lines)}</table>"
        )

    def _latent(self, latent: Latent) -> str:
        head = f'<h2 id="latent-{latent.number}">Latent {latent.number}</h2>'
        head += '<nav><a href="#all">all latents</a></nav>'
        if not latent.active:
            return f"{head}<p>Active on none of the {self.rows:,} rows.</p>"
        used = max(place for place, count in enumerate(latent.bins) if count) + 1
        bins = latent.bins[:used]
        ends = f"from 0 to {used * latent.width:.4g}"
        return (
            f"{head}<p>Active on {latent.active:,} of {self.rows:,} rows ({latent.rate:.3%}), with"
            f" a mean of {latent.mean:.4g}, at most {latent.rows[0].activation:.4g}.</p>"
            f"<figure>{_histogram(bins, latent.width)}<figcaption>Its activations where it is"
            f" active, {ends}.</figcaption></figure>"
            '<table class="wide"><tr><th class="number">activation</th><th>text</th>'
            "<th>from</th></tr>"
            f"{''.join(map(self._row, latent.rows))}</table>"
        )

    def _row(self, active: tuple[int, float]) -> str:
        place, activation = active
        origin = self.origins[place]
        text = ""
        if origin.context is not None:
            before, token, after = map(_text, origin.context)
            text = f"{before}<mark>{token}</mark>{after}"
        where = f"{_text(origin.file)} row {_text(origin.row)}".strip()
        return (
            f'<tr><td class="number">{activation:.4g}</td><td class="text">{text}</td>'
            f'<td class="from">{where}</td></tr>\n'
        )


def _text(text: str) -> str:
    """Return a text of a file for HTML: escaped, its line ends and tabs to be seen."""
    return escape(printable(text).replace("\n", "↵").replace("\t", "⇥"))


def _bars(counts: Mapping[str, int]) -> str:
    """Return a bar for each count, from the left, between its name and its number."""
    most = max([*counts.values(), 1])
    drawn, told = [], []
    for place, (name, count) in enumerate(counts.items()):
        top = place * LINE
        length = round(LENGTH * count / most, 1)
        drawn.append(_label(NAME - 6, top + 14, name, "end"))
        drawn.append(f'<rect x="{NAME}" y="{top + 3}" width="{length}" height="{LINE - 6}"/>')
        drawn.append(_label(NAME + length + 6, top + 14, f"{count:,}", "start"))
        told.append(f"{name}: {count:,}")
    return _svg(NAME + LENGTH + 60, len(counts) * LINE, "".join(drawn), "; ".join(told))


def _histogram(counts: Sequence[int], width: float) -> str:
    """Return a bar for each bin of a `width`, which its title names, beside one another."""
    most = max(counts)
    drawn = []
    for place, count in enumerate(counts):
        height = round(HEIGHT * count / most, 1)
        drawn.append(
            f'<rect x="{place * BAR}" y="{HEIGHT - height}" width="{BAR - 1}" height="{height}">'
            f"<title>{_bin(place, width)}: {count:,}</title></rect>"
        )
    told = (
        f"Histogram with {len(counts)} bins: the fullest is {_bin(counts.index(most), width)}, with"
        f" {most:,} rows"
    )
    return _svg(len(counts) * BAR, HEIGHT, "".join(drawn), told)


def _bin(place: int, width: float) -> str:
    return f"{place * width:.4g} to {(place + 1) * width:.4g}"


def _svg(width: float, height: float, drawn: str, told: str) -> str:
    """Return a picture with what is told of it to those who do not see it."""
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(one_line(told, 1000))}">{drawn}</svg>'
    )


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(one_line(text))}</text>'
