"""`aecli cite`: BibTeX of the methods that a run used, from its settings. Imports no torch."""

import re
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from aecli.commands.words import Parser, unquoted
from aecli.errors import SettingError
from aecli.runs.find import Run, find
from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import CONFIG, HYDRA
from aecli.text import one_line
from aecli.tree import leaves
from aecli.untrusted import read_yaml

ALL_OF_PCA = ("model", "dataset")
"""The groups that have an effect with model=pca."""
ANY = "*"

DESCRIPTION = """\
Prints BibTeX of the methods that runs used: of the model, its parts and its optimizer, and of the
data set, each below the settings that chose it.
"""
EXAMPLES = """\
examples:
  aecli cite run=latest
  aecli cite run=outputs/sweeps/DATE_TIME > methods.bib
"""


class Reason(NamedTuple):
    """A choice of a run, and the references that stand for it."""

    choice: str
    """As it is typed, such as "prior=vamp"."""
    references: tuple[str, ...] | None
    """Their keys; None if the choice is not one of aecli's own."""


def main(arguments: Sequence[str]) -> None:
    """Print the references of the runs that `run=` means.

    Raises `SettingError` if there is none, or its settings cannot be read.
    """
    parser = Parser(
        prog="aecli cite",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", default="run=latest", help="run=RUN (default: latest)")
    typed = parser.parse_args(arguments).run
    if not typed.startswith("run="):
        if "=" in typed:
            raise SettingError(f"{typed}: aecli cite has one setting, run=RUN")
        raise SettingError(f"{typed}: type aecli cite run={typed}")
    runs = find(unquoted(typed.removeprefix("run=")))
    reasons = [reason for run in runs for reason in _reasons(run)]
    print(bibtex(reasons), end="")  # noqa: T201


def bibtex(reasons: Iterable[Reason]) -> str:
    """Return the entries of all references, each once, below the choices that they stand for."""
    choices: dict[str, dict[str, None]] = {}
    unknown: dict[str, None] = {}
    for choice, keys in reasons:
        if keys is None:
            unknown[choice] = None
        for key in keys or ():
            choices.setdefault(key, {})[choice] = None
    known = references()
    cited = [f"% {one_line(', '.join(named))}\n{known[key]}" for key, named in choices.items()]
    of_others = [f"% {one_line(choice)}: no part of aecli, cite its author\n" for choice in unknown]
    return "\n".join([*cited, *of_others])


@cache
def references() -> dict[str, str]:
    """Return the entries of `references.bib` by their keys."""
    text = (resources(__name__) / "references.bib").read_text(encoding="utf-8")
    entries = re.finditer(r"^@\w+\{(\w+),\n.*?^\}\n", text, flags=re.MULTILINE | re.DOTALL)
    return {entry[1]: entry[0] for entry in entries}


@cache
def methods() -> dict[str, dict[Any, Any]]:
    """Return which references stand for the options of each group, and for settings."""
    return yaml.safe_load((resources(__name__) / "methods.yaml").read_text(encoding="utf-8"))


def _reasons(run: Run) -> Iterator[Reason]:
    choices, config = _settings(run)
    groups = {name: options for name, options in methods().items() if name != "settings"}
    if choices.get("model") == "pca":
        groups = {name: groups[name] for name in ALL_OF_PCA}
    paper, _, name = choices.get("experiment", "").partition("/")
    if name:
        yield Reason(f"experiment={paper}/{name}", (paper,) if paper in references() else None)
    for group, options in groups.items():
        if option := choices.get(group):
            keys = options.get(option)
            yield Reason(f"{group}={option}", None if keys is None else tuple(keys))
    for key, value in leaves(config):
        if key.partition(".")[0] in groups | {"trainer": None}:
            yield Reason(f"{key}={value}", _of_setting(key, value))


def _of_setting(key: str, value: Any) -> tuple[str, ...]:
    values = methods()["settings"].get(key)
    if values is None or value is None:
        return ()
    known = None if isinstance(value, list) else values.get(value)
    return tuple(values.get(ANY, ()) if known is None else known)


def _settings(run: Run) -> tuple[dict[str, str], Mapping[str, Any]]:
    """Return the option of each group and the configuration of a run.

    Raises `SettingError` if they cannot be read.
    """
    if not (run.directory / CONFIG).is_file():
        from aecli.config import plain
        from aecli.runs.checkpoint import stored  # imports torch: for a checkpoint by itself

        found = stored(run.checkpoint)
        return dict(found.choices), plain(found.config)
    choices = read_metrics(run.directory).get("choices")
    if choices is None:
        choices = _of_hydra(run.directory)
    config = read_yaml(run.directory / CONFIG)
    if not isinstance(config, dict):
        raise SettingError(f"{one_line(run.directory / CONFIG)}: damaged (it holds no settings)")
    named = {name: "none" if option is None else str(option) for name, option in choices.items()}
    return named, config


def _of_hydra(directory: Path) -> dict[str, Any]:
    path = directory / HYDRA
    try:
        found = read_yaml(path)["hydra"]["runtime"]["choices"]
        return dict(found)
    except FileNotFoundError as error:
        raise SettingError(f"{one_line(path)}: is missing") from error
    except (KeyError, TypeError, ValueError) as error:
        raise SettingError(f"{one_line(path)}: damaged (it holds no choices)") from error
