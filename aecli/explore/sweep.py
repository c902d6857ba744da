"""Several runs in one page: in which setting they differ, and whether they go together."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aecli.config import plain
from aecli.errors import SettingError
from aecli.overrides import key_of
from aecli.runs.load import Loaded
from aecli.runs.paths import OVERRIDES, shown
from aecli.runs.records import ELSEWHERE, HIDDEN, PLACES, SOURCE, Value, ordered
from aecli.runs.records import shown as as_typed
from aecli.text import one_line
from aecli.tree import leaves
from aecli.untrusted import read_yaml

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
    labels: list[list[str]]
    """The values of these settings, of each run."""


def sweep(runs: Sequence[Loaded]) -> Sweep:
    """Return the runs in order of the settings in which they differ.

    Raises `SettingError` for runs of different data.
    """
    check_same_data(runs)
    settings = [_settings(run) for run in runs]
    keys = _differing(settings, set().union(*map(_typed, runs)))
    ranks = {key: ordered({of.get(key) for of in settings}) for key in keys}
    order = sorted(
        range(len(runs)), key=lambda n: [ranks[key].index(settings[n].get(key)) for key in keys]
    )
    if keys:
        labels = [[as_typed(settings[n].get(key)) for key in keys] for n in order]
    else:
        labels = [[one_line(runs[n].run.directory.name)] for n in order]
    return Sweep([runs[n] for n in order], keys, labels)


def check_same_data(runs: Sequence[Loaded]) -> None:
    """Raise `SettingError` unless all runs have the same test examples."""
    first = _data(runs[0])
    for run in runs[1:]:
        for key, value in _data(run).items():
            if value != first.get(key):
                raise SettingError(
                    f"run={shown(run.run.directory)}: has other test examples than"
                    f" {shown(runs[0].run.directory)} (dataset.{key} differs); a page shows runs"
                    " of the same"
                )


def _data(run: Loaded) -> dict[str, Any]:
    dataset = {key: value for key, value in plain(run.config.dataset).items() if key not in ALONE}
    return {"option": run.choices["dataset"], **dataset}


def _settings(run: Loaded) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, value in leaves(plain(run.config)):
        parts = key.split(".")
        follows = parts[0] == "model" and len(parts) > 2 and parts[1] in PARTS
        elsewhere = parts[0] in ELSEWHERE or key in PLACES or key.startswith(SOURCE)
        if not (follows or elsewhere or parts[-1].startswith(HIDDEN)):
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
