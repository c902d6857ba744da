"""The table of docs/reproductions.md."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from aecli import files
from aecli.runs import intervals
from aecli.runs.experiment import verdict
from aecli.runs.intervals import Interval
from benchmarks.reproductions.outcomes import Outcome, rounded
from benchmarks.reproductions.rows import ROWS, Row

START, END = "<!-- table: written by benchmarks/reproductions -->", "<!-- end of table -->"
HEAD = (
    "| `aecli train experiment=…` | metric | published | goal | here | 95 % | seeds | epochs |"
    " minutes | beside it |"
)


def write_table(page: Path, outcomes: Mapping[str, Outcome], picture: Path) -> None:
    """Put the table of all rows, and the picture if there is one, in their place in the page."""
    before, _, rest = page.read_text().partition(START)
    _, _, after = rest.partition(END)
    parts = ["\n".join([HEAD, re.sub(r"[^|]+", "---", HEAD), *(row(n, outcomes) for n in ROWS)])]
    if picture.exists():
        parts.insert(0, f"![What was published beside what came out here]({picture.name})")
    if runs := [run for outcome in outcomes.values() for run in outcome.runs]:
        parts.append(machine(runs))
    written = "\n\n".join(parts)
    files.write(page, f"{before}{START}\n\n{written}\n\n{END}{after}")


def machine(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return a line about what the runs were made with."""

    def kinds(values: Iterator[Any]) -> str:
        return ", ".join(sorted({str(value) for value in values if value is not None}))

    def versions(what: str) -> str:
        return f"{what} {kinds(run['versions'][what] for run in runs)}"

    hours = sum(_minutes(run) for run in runs) / 60
    dates = sorted({run["date"] for run in runs})
    return (
        f"{len(runs)} runs, {hours:.1f} hours in all, on {kinds(run['processor'] for run in runs)}"
        f" ({kinds(run['device'] for run in runs)}), threads a run:"
        f" {kinds(run['threads'] for run in runs)};"
        f" {', '.join(map(versions, ('aecli', 'torch', 'python')))};"
        f" {' to '.join(dict.fromkeys((dates[0], dates[-1])))}."
    )


def row(name: str, outcomes: Mapping[str, Outcome]) -> str:
    """Return an experiment's row: mean ± standard deviation over its runs, and the interval."""
    outcome = outcomes[name]
    published = outcome.published
    value = "–" if published["value"] is None else f"{published['value']} ({published['evidence']})"
    cells = [f"`{name}`", outcome.metric, value, _goal(outcome)]
    if not outcome.runs:
        cells += ["not run yet", "–", f"0 of {outcome.seeds}", "–", "–", ""]
        return f"| {' | '.join(cells)} |"
    here, interval = outcome.values, outcome.interval
    minutes = mean(map(_minutes, outcome.runs))
    spread = f" ± {stdev(here):.2g}" if len(here) > 1 else ""
    measured = f"**{rounded(mean(here))}**{spread}"
    cells += [
        f"{measured} ({outcome.other_settings})" if outcome.other_settings else measured,
        f"{interval.low:.2f} to {interval.high:.2f}" if interval else "–",
        f"{len(here)}" if len(here) == outcome.seeds else f"{len(here)} of {outcome.seeds}",
        f"{mean(run['epochs'] for run in outcome.runs):.0f}",
        f"{minutes:.0f}" if minutes >= 1 else "<1",
        "; ".join(beside(ROWS[name], outcome, outcomes)),
    ]
    return f"| {' | '.join(cells)} |"


def _goal(outcome: Outcome) -> str:
    """Return the goal and whether it is reached."""
    if outcome.published["goal"] is None:
        return "–"
    goal = f"{'≥' if outcome.higher else '≤'} {outcome.published['goal']}"
    if outcome.verdict:
        so_far = " so far" if len(outcome.runs) < outcome.seeds else ""
        return f"{goal}: {outcome.verdict}{so_far}"
    return f"{goal}: not compared" if outcome.runs else goal


def _minutes(run: Mapping[str, Any]) -> float:
    """Return the minutes of pretraining, training and evaluation."""
    return sum(seconds or 0 for seconds in run["seconds"].values()) / 60


def beside(row: Row, outcome: Outcome, outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """Say how an experiment compares with others of the table and with the raw pixels."""
    if not outcome.counts:
        return
    for name, least in row.better_than.items():
        other = outcomes[name]
        if other.counts:
            worse, better = (other, outcome) if not outcome.higher else (outcome, other)
            gain = mean(worse.values) - mean(better.values)
            found = intervals.of_difference(worse.by_seed, better.by_seed)
            word = "over" if outcome.higher else "under"
            yield _gain(gain, found and found.interval, f"{word} `{name}`", least)
    if row.better_than_pixels is not None:
        tests = [run["test"] for run in outcome.runs]
        gains = [test["probe_error_pixels"] - test["probe_error"] for test in tests]
        interval = intervals.of_mean(gains)
        yield _gain(mean(gains), interval, "under raw pixels", row.better_than_pixels)


def _gain(gain: float, interval: Interval | None, what: str, least: float) -> str:
    bounds = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval else ""
    outcome = verdict(least, gain, interval, higher=True)
    return f"{gain:.2f}{bounds} {what} (≥ {least:g}: {outcome})"
