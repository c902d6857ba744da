"""Several runs in one page: in which setting they differ, and whether they go together."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aecli.config import plain
from aecli.errors import SettingError
from aecli.overrides import key_of
from aecli.runs.load import Loaded
from aecli.runs.paths import OVERRIDES, shown
from aecli.runs.records import ELSEWHERE, HIDDEN, SOURCE, Value, ordered, places_of, value_text
from aecli.text import one_line
from aecli.tree import leaves
from aecli.untrusted import read_yaml

log = logging.getLogger(__name__)

ALONE = ("batch_size", "train_size", "binarize", "binarize_seed", "root", "file")
"""Settings of a data set that leave the test examples as they are."""
PARTS = ("network", "noise", "sparsity", "likelihood", "optimizer", "prior")
"""Of a model: what is set there follows from the groups of these names."""
MOST_KEYS = 3
"""Settings that tell a page's models apart."""


class Sweep(NamedTuple):
    """Runs in the order in which a slider goes through them."""

    runs: list[Loaded]
    keys: list[str]
    """The settings in which they differ; none of them: they are told by their names."""
    labels: list[str]
    """Of each run: the value of the only key, or KEY=VALUE of several, or its name."""


def sweep(runs: Sequence[Loaded]) -> Sweep:
    """Return the runs in order of the settings in which they differ: numbers by their size.

    Of several runs that are the same one, the first is there. Raises `SettingError` for runs of
    different data.
    """
    check_same_data(runs)
    runs = _distinct(runs)
    settings = [_settings(run) for run in runs]
    typed = [_typed(run) for run in runs]
    keys = _differing(settings, set().union(*typed))
    ranks = {key: _in_order([of.get(key) for of in settings]) for key in keys}
    order = sorted(
        range(len(runs)), key=lambda n: [ranks[key].index(settings[n].get(key)) for key in keys]
    )
    labels = _labels(settings, typed, keys) if keys else [_name(run) for run in runs]
    return Sweep([runs[n] for n in order], keys, [labels[n] for n in order])


def _distinct(runs: Sequence[Loaded]) -> list[Loaded]:
    """Return the runs without those that have the settings and the steps of an earlier one."""
    found: dict[frozenset[Any], Loaded] = {}
    for run in runs:
        identity = frozenset((_settings(run, hidden=True) | {"step": run.step}).items())
        if (first := found.setdefault(identity, run)) is not run:
            same = f"the same settings as {shown(first.run.directory)}"
            log.info("left out: %s has %s", shown(run.run.directory), same)
    return list(found.values())


def _in_order(values: Sequence[Value]) -> list[Value]:
    """Return the values of a setting: numbers by size, others as the runs have them."""
    distinct = list(dict.fromkeys(values))
    is_text = [isinstance(value, str) for value in distinct]
    return distinct if any(is_text) else ordered(distinct)


def _labels(
    settings: Sequence[Mapping[str, Value]], typed: Sequence[set[str]], keys: Sequence[str]
) -> list[str]:
    """Return what tells each run apart: of several settings those typed for it, if it has any."""
    if len(keys) == 1:
        return [value_text(of.get(keys[0])) for of in settings]
    for wanted in (typed, [set(keys)] * len(settings)):
        labels = [
            " ".join(
                f"{key}={value_text(of[key])}"
                for key in keys
                if key in words and of.get(key) is not None
            )
            for of, words in zip(settings, wanted, strict=True)
        ]
        if all(labels) and len(set(labels)) == len(labels):
            break
    return labels


def _name(run: Loaded) -> str:
    return one_line(f"{run.run.directory.name}/{run.run.checkpoint.stem}")


def check_same_data(runs: Sequence[Loaded]) -> None:
    """Raise `SettingError` unless all runs have the same test examples."""
    first = _data(runs[0])
    for run in runs[1:]:
        for key, value in _data(run).items():
            if value != first.get(key):
                raise SettingError(
                    f"run={shown(run.run.directory)}: has other test examples than"
                    f" {shown(runs[0].run.directory)} ({key} differs); a page shows runs of the"
                    " same"
                )


def _data(run: Loaded) -> dict[str, Any]:
    dataset = plain(run.config.dataset)
    alone = ALONE if places_of(dataset) else {*ALONE} - {"root"}
    kept = {f"dataset.{key}": value for key, value in dataset.items() if key not in alone}
    return {"dataset": run.choices["dataset"], **kept}


def _settings(run: Loaded, *, hidden: bool = False) -> dict[str, Value]:
    """Return the settings of a run by the keys that are typed, and `hidden` ones, too."""
    found: dict[str, Value] = {}
    places = places_of(plain(run.config.dataset))
    for key, value in leaves(plain(run.config)):
        parts = key.split(".")
        follows = parts[0] == "model" and len(parts) > 2 and parts[1] in PARTS
        elsewhere = parts[0] in ELSEWHERE or key in places or key.startswith(SOURCE)
        if not (follows or elsewhere or (parts[-1].startswith(HIDDEN) and not hidden)):
            is_list = isinstance(value, list)
            found[key] = f"[{','.join(map(str, value))}]" if is_list else value
    return found | {key: str(value) for key, value in run.choices.items()}


def _typed(run: Loaded) -> set[str]:
    """Return the keys that were typed for a run, if it still has the file that says so."""
    path = run.run.directory / OVERRIDES
    return {key_of(str(word)) for word in read_yaml(path)} if path.is_file() else set()


def _differing(settings: Sequence[Mapping[str, Value]], typed: set[str]) -> list[str]:
    """Return the settings that tell the runs apart: typed ones, if these are enough."""
    keys = dict.fromkeys(key for of in settings for key in of)
    varied = sorted(
        (key for key in keys if len({of.get(key) for of in settings}) > 1),
        key=lambda key: key.count("."),
    )
    for wanted in ([key for key in varied if key in typed], varied[:MOST_KEYS]):
        if len({tuple(of.get(key) for key in wanted) for of in settings}) == len(settings):
            return wanted
    return []
