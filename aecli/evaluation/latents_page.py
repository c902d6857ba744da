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
STYLE = """
:root { color-scheme: light dark; --line: #8884; --mark: #ffd54a; --bar: #4878a8; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
table { border-collapse: collapse } th { text-align: left; font-weight: 600 }
th, td { padding: .15rem .8rem .15rem 0; vertical-align: top; border-bottom: 1px solid var(--line) }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.text { font-family: ui-monospace, monospace; font-size: .85rem; overflow-wrap: anywhere }
.text, .wide { width: 100% } .from { opacity: .7; font-size: .85rem; white-space: nowrap }
mark { background: var(--mark); color: black; white-space: pre; border-radius: .15rem }
svg { display: block; margin: .5rem 0 } table { margin-top: 1rem } rect { fill: var(--bar) }
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
            f"<h1>Latents of {_text(self.title)}</h1>",
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
        all_latents = _histogram(list(self.rates.values()), list(self.rates), wide=True)
        return (
            f"<p>On the {self.rows:,} rows of the test split. A latent is <em>active</em> on a row"
            " if its activation is above 0; its firing rate is the share of rows on which it is."
            " </p>"
            f"<figure>{all_latents}<figcaption>All {sum(self.rates.values()):,} latents by their"
            " firing rates.</figcaption></figure>"
            '<table><tr><th class="number">latent</th><th class="number">firing rate</th>'
            '<th class="number">rows</th><th class="number">mean activation where active</th></tr>'
            f"{''.join(lines)}</table>"
        )

    def _latent(self, latent: Latent) -> str:
        head = f'<h2 id="latent-{latent.number}">Latent {latent.number}</h2>'
        if not latent.active:
            return f"{head}<p>Active on none of the {self.rows:,} rows.</p>"
        used = max(place for place, count in enumerate(latent.bins) if count) + 1
        ends = [""] * used
        ends[0], ends[-1] = "0", f"{used * latent.width:.4g}"
        return (
            f"{head}<p>Active on {latent.active:,} of {self.rows:,} rows ({latent.rate:.3%}), with"
            f" a mean of {latent.mean:.4g}, at most {latent.rows[0].activation:.4g}.</p>"
            f"<figure>{_histogram(latent.bins[:used], ends)}<figcaption>Its activations where it is"
            " active.</figcaption></figure>"
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


def _histogram(counts: Sequence[int], names: Sequence[str], wide: bool = False) -> str:
    """Return bars with a name below each; with `wide` ones their counts are above them."""
    step = 110 if wide else BAR
    top = 16 if wide else 2
    most = max([*counts, 1])
    drawn = []
    for place, (count, name) in enumerate(zip(counts, names, strict=True)):
        height = round(HEIGHT * count / most, 1)
        left = 40 + place * step
        width = step - (30 if wide else 1)
        label = f"{one_line(name)}: {count:,}" if name else f"{count:,}"
        drawn.append(
            f'<rect x="{left}" y="{top + HEIGHT - height}" width="{width}" height="{height}">'
            f"<title>{escape(label)}</title></rect>"
        )
        if name:
            drawn.append(_label(left + width / 2, top + HEIGHT + 14, name))
        if wide:
            drawn.append(_label(left + width / 2, top + HEIGHT - height - 3, f"{count:,}"))
    size = 80 + len(counts) * step, top + HEIGHT + 20
    return f'<svg width="{size[0]}" height="{size[1]}" role="img">{"".join(drawn)}</svg>'


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="middle">{escape(one_line(text))}</text>'
