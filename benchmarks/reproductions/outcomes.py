"""What the results of an experiment say: its mean, interval and verdict, and whether they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from aecli.runs import intervals
from aecli.runs.experiment import verdict
from aecli.runs.intervals import Interval
from aecli.runs.records import more_is_better
from benchmarks.reproductions.results import read
from benchmarks.reproductions.settings import differences, of_experiment


@dataclass(frozen=True)
class Outcome:
    """An experiment as it is now, and its results."""

    name: str
    published: Mapping[str, Any]
    """The experiment's `published`: metric, value, goal, source, evidence."""
    seeds: int
    """Runs that the row asks for."""
    runs: Sequence[Mapping[str, Any]] = ()
    """Results of the experiment's present settings; if there are none, those of other settings."""
    other_settings: str = ""
    """If the results are of other settings: "stale" or "changed", and what differs."""

    @property
    def metric(self) -> str:
        """The metric of the row."""
        return self.published["metric"]

    @property
    def higher(self) -> bool:
        """Whether more of the metric is better."""
        return more_is_better(f"test/{self.metric}")

    @property
    def counts(self) -> bool:
        """Whether there are results that may be compared."""
        return bool(self.runs) and not self.other_settings

    @property
    def values(self) -> list[float]:
        """What the runs measured."""
        return [run["here"] for run in self.runs]

    @property
    def by_seed(self) -> dict[int, float]:
        """What the runs measured, by seed."""
        return {run["seed"]: run["here"] for run in self.runs}

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the mean over seeds; of one run, that over the test images."""
        if len(self.runs) == 1:
            stored = self.runs[0]["interval"]
            return Interval(*stored) if stored else None
        return intervals.of_mean(self.values)

    @property
    def verdict(self) -> str | None:
        """Whether the goal is reached; None without a goal or without results that count."""
        goal = self.published["goal"]
        if goal is None or not self.counts:
            return None
        return verdict(goal, mean(self.values), self.interval, higher=self.higher)


def outcome(name: str, seeds: int, results: Path) -> Outcome:
    """Return what the results of an experiment say, read from the files in `results`."""
    settings, published = of_experiment(name)
    found = [result for seed in range(seeds) if (result := read(results, name, seed))]
    differing = [list(differences(result["settings"], settings)) for result in found]
    same = [result for result, differs in zip(found, differing, strict=True) if not differs]
    if same or not found:
        return Outcome(name, published, seeds, same)
    # Typed by whoever ran it, or the experiment's file and defaults have changed since.
    kind = "changed" if any(result["changed"] for result in found) else "stale"
    return Outcome(name, published, seeds, found, f"{kind}: {differing[0][0]}{_more(differing[0])}")


def _more(differs: Sequence[str]) -> str:
    return f" and {len(differs) - 1} more" if len(differs) > 1 else ""


def rounded(value: float) -> str:
    """Return a value as it is printed: two digits behind the point, three of a share."""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
