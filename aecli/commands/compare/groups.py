"""Runs that differ in the seed alone, as groups, and how the groups differ."""

from collections.abc import Hashable, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from aecli.runs import intervals
from aecli.runs.intervals import Difference
from aecli.runs.records import HIDDEN, SEED, Record, Value, loss_of

ALWAYS = ("model.code_dim",)
"""Settings that are shown where they differ, even if nobody typed them: presets set them."""
MOST = 12
"""Groups in a picture, the best ones, and settings with a panel: more are not legible."""


class Group(NamedTuple):
    """Runs that differ in the seed alone."""

    settings: dict[str, Value]
    records: list[Record]

    def having(self, metric: str) -> list[Record]:
        """Return the runs that have the metric."""
        return [record for record in self.records if metric in record.metrics]

    def values(self, metric: str) -> list[float]:
        """Return the metric of each run that has it."""
        return [record.metrics[metric] for record in self.having(metric)]


class Repeated(NamedTuple):
    """A run of the same settings and seed as another one, which is counted in its place."""

    record: Record
    counted: Record

    def __str__(self) -> str:
        one, other = self.record.metrics, self.counted.metrics
        validated = [n for n in one.keys() & other.keys() if n.startswith("val/")]
        agree = all(one[name] == other[name] for name in validated)
        values = "" if agree else ", with other values"
        return f"{self.record.directory.name} (as {self.counted.directory.name}{values})"


def grouped(records: Iterable[Record]) -> tuple[list[Group], list[Repeated]]:
    """Return the runs in groups that differ in the seed alone, and those that are not counted.

    Of several runs of the same settings and seed, the one with the most metrics is counted, the
    first of these. Runs without a seed are the same if all of their metrics are.
    """
    counted: dict[frozenset, dict[Hashable, Record]] = {}
    repeated = []
    for record in records:
        settings = frozenset((k, v) for k, v in record.settings.items() if k != SEED)
        runs = counted.setdefault(settings, {})
        seed = record.settings.get(SEED)
        identity = frozenset(record.metrics.items()) if seed is None else seed
        if twin := runs.get(identity):
            more = len(record.metrics) > len(twin.metrics)
            repeated.append(Repeated(twin, record) if more else Repeated(record, twin))
        runs[identity] = repeated[-1].counted if twin else record
    return [Group(dict(settings), [*runs.values()]) for settings, runs in counted.items()], repeated


def differing(groups: Sequence[Group]) -> list[str]:
    """Return the keys of the settings that distinguish the groups.

    Those that were typed and `ALWAYS`, if they suffice; otherwise every key that varies.
    """
    found = varied(groups)
    typed = {key for group in groups for record in group.records for key in record.typed}
    chosen = [key for key in found if key in typed or key in ALWAYS]
    distinct = {tuple(group.settings.get(key) for key in chosen) for group in groups}
    return sorted(chosen if len(distinct) == len(groups) else found, key=lambda k: k.count("."))


def varied(groups: Sequence[Group]) -> list[str]:
    """Return the keys of all settings in which the groups differ."""
    keys = dict.fromkeys(key for group in groups for key in group.settings)
    return [
        key
        for key in keys
        if not key.rpartition(".")[2].startswith(HIDDEN)
        and len({group.settings.get(key) for group in groups}) > 1
    ]


def ranked(groups: Iterable[Group], metric: str) -> list[Group]:
    """Return the groups that have the metric, the best first."""
    having = [group for group in groups if group.values(metric)]
    records = [record for group in having for record in group.records]
    return sorted(having, key=lambda g: loss_of(metric, fmean(g.values(metric)), records))


def difference(group: Group, best: Group, metric: str) -> Difference | None:
    """Return the difference of the means of a metric, paired by seed if both have the same seeds.

    None where there is no interval: one of the two has one run with the metric.
    """
    return intervals.of_difference(_by_seed(group, metric), _by_seed(best, metric))


def _by_seed(group: Group, metric: str) -> dict[Hashable, float]:
    values: dict[Hashable, float] = {}
    for record in group.having(metric):
        seed = record.settings.get(SEED)
        values[record.directory if seed is None else seed] = record.metrics[metric]
    return values
