"""What was typed, word by word, before Hydra composes a configuration from it. No torch here.

An override is a word such as `model.beta=4`, `+trainer.max_time=…` or `~noise`. Imports Hydra only
where it checks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any

from aecli import plugins
from aecli.errors import SettingError, shortened
from aecli.flags import COMPLETION, SHOW, SWEEP, sorted_words
from aecli.hydra_keys import OF_A_SWEEP, check_hydra_key, is_below
from aecli.options import NAME, groups, options
from aecli.swept import MOST_RUNS, check_values, matching

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

WIRED = {
    "model.network": "choose network=… or set network.…",
    "model.noise": "choose noise=… or set noise.…",
    "model.sparsity": "choose sparsity=… or set sparsity.…",
    "model.likelihood": "choose likelihood=… or set likelihood.…",
    "model.optimizer": "choose optimizer=… or set optimizer.…",
    "model.prior": "choose prior=… or set prior.…",
    "model.shape": "choose dataset=…",
    "model.target_shape": "set dataset.targets=…",
    "network.shape": "choose dataset=…",
    "prior.shape": "choose dataset=…",
    "dataset.shape": "choose dataset=…",
    "dataset.target_shape": "set dataset.targets=…",
    "dataset.source": "choose dataset=…",
    "dataset.features": "choose dataset=…",
    "likelihood.features": "choose dataset=…",
    "noise.features": "choose dataset=…",
    "sparsity.units": "set model.code_dim=…",
}
"""Settings that follow from others, and which: nobody sets them by themselves."""

OF_DATA = ("dataset", "plugins", "out", "overwrite", "hydra")
"""What `aecli data` takes of a configuration of `aecli train`."""

KEY = re.compile(r"(\+\+?|~)?[\w$-]+([./][\w$-]+)*(@[\w.:-]*)?", re.ASCII)


def key_of(override: str) -> str:
    """Return the key of an override such as `+noise.std=0.3`: `noise.std`."""
    return override.lstrip("+~").partition("=")[0]


@dataclass(frozen=True)
class Line:
    """What a line asks for as a whole."""

    command: str
    is_sweep: bool
    searches: bool
    """Whether the sweep is one of sweeper=optuna."""
    runs: bool
    """Whether something is run, rather than shown."""


def checked(command: str, words: Sequence[str]) -> list[str]:
    """Return the words after a command as Hydra takes them: the overrides in one piece, then flags.

    A `glob(…)` is replaced by the options that it means.

    Raises:
        SettingError: for a flag that there is not, or an override that no configuration can
            answer to: it names the word and what is allowed.
    """
    typed, flags = sorted_words(words)
    if COMPLETION.intersection(flags):  # the words are half typed
        return [*typed, *flags]
    line = Line(
        command,
        is_sweep=bool(SWEEP.intersection(flags)) or "hydra.mode=MULTIRUN" in typed,
        searches=any(word.startswith(("sweeper=optuna", "hydra/sweeper=")) for word in typed),
        runs=not SHOW.intersection(flags),
    )
    overrides = [_parsed(word, _example(command, word, typed)) for word in typed]
    _check_typed_once(typed)
    runs = 1
    for override in overrides:
        count = _checked(override, line)
        runs = count if line.searches else runs * count  # a search runs sweeper.trials of them
        if runs > MOST_RUNS:
            told = shortened(override.input_line)
            raise SettingError(f"{told}: makes more than {MOST_RUNS:,} runs")
    return [*map(_with_options, overrides), *flags]


def _example(command: str, word: str, typed: Sequence[str]) -> str:
    """Return a word as it could be: of `resume latest` and `resume = latest`, `resume=latest`."""
    after = [each for each in typed[typed.index(word) + 1 :][:2] if each != "="]
    if after and "=" not in after[0] and word.replace(".", "").isidentifier():
        return f"{word}={after[0]}"
    return {"train": "model=vae", "data": "dataset=digits"}.get(command, "run=latest")


def _parsed(word: str, example: str) -> "Override":
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = word.partition("=")
    shown = shortened(word)
    if key.strip() != key and KEY.fullmatch(key.strip()):
        right = shortened(f"{key.strip()}={value.strip()}")
        raise SettingError(f"{shown}: no blanks around a key; type {right}")
    if not KEY.fullmatch(key) or (not equals and not word.startswith("~")):
        raise SettingError(f"{shown}: must be SETTING=VALUE, such as {example}")
    if value in (",", ";"):  # as a shell hands dataset.decimal=',' on
        word = f"{key}='{value}'"
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise SettingError(f"{shown}: not understood; {_grammar(key, value)}") from error


def _grammar(key: str, value: str) -> str:
    """Return what to type in place of a value that Hydra's grammar does not know."""
    if re.fullmatch(r"\s*[a-z_]+\(.*\)\s*", value):
        return (
            "several values are typed as a,b or range(FROM,TO,STEP) or glob(PATTERN), those of"
            " sweeper=optuna also as interval(FROM,TO) or tag(log, interval(FROM,TO))"
        )
    if re.search(r"(^|[\[{,])\s*,|,\s*($|[\]}])", value):
        return "a value is missing beside a comma; a list is [1,2], without spaces or in quotes"
    quoted = quote(f'{key}="{value}"')
    return (
        "a value with spaces or special characters goes in quotes, as in"
        f" {shortened(quoted)}; a list is [1,2], without spaces"
    )


def _check_typed_once(typed: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for word in typed:
        key = key_of(word)
        if key in seen:
            both = f"{shortened(seen[key])} {shortened(word)}"
            raise SettingError(f"{both}: {key} is typed twice; type it once")
        seen[key] = word


def _checked(override: "Override", line: Line) -> int:
    """Check an override of a line; return how many values a sweep runs through."""
    typed, key = shortened(override.input_line), key_of(str(override.input_line))
    _check_key(override, typed, key)
    if line.command in ("train", "data"):
        _check_wiring(typed, key)
    if line.command == "data" and not is_below(key, OF_DATA):
        raise SettingError(
            f"{typed}: aecli data takes dataset, its settings, plugins, out and overwrite"
        )
    _check_option(override, typed, key, line)
    if key == "hydra.run.dir" and (line.is_sweep or line.command != "train"):
        raise SettingError(f"{typed}: is the folder of a single training; it has no effect here")
    of_a_sweep = is_below(key, OF_A_SWEEP)
    if key == "launcher":
        of_a_sweep = override.value() != "basic" and override.value() in options("launcher")
    if of_a_sweep and line.runs and not line.is_sweep:
        raise SettingError(f"{typed}: has an effect in a sweep only; add -m")
    if not override.is_sweep_override():
        if key == "plugins" and line.runs:
            plugins.check(override.value())
        return 1
    if not line.is_sweep:
        raise SettingError(
            f"{typed}: several values are a sweep, which needs -m; a list is typed in brackets"
        )
    return check_values(override, key, searches=line.searches)


def _check_key(override: "Override", typed: str, key: str) -> None:
    if override.is_delete():
        raise SettingError(f"{typed}: a setting cannot be taken away; set it, as in {key}=VALUE")
    if override.package is not None or "@" in key:
        raise SettingError(f"{typed}: a group has one place here; leave out the @")
    if override.value() == {} and not override.is_add():  # Hydra merges it into what is there
        raise SettingError(f"{typed}: is empty, so that it would set nothing; leave it out")
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        if not override.is_sweep_override():
            check_hydra_key(typed, key, override.value())
    elif any(part.startswith("_") for part in key.split(".")):
        raise SettingError(f"{typed}: is no setting: it is what an option is made of")


def _check_wiring(typed: str, key: str) -> None:
    for wired, instead in WIRED.items():
        if is_below(key, [wired]):
            raise SettingError(f"{typed}: follows from other settings; {instead}")


def _check_option(override: "Override", typed: str, key: str, line: Line) -> None:
    if key not in groups():
        return
    if key == "eval" and line.command == "train":
        raise SettingError(f"{typed}: an experiment=… chooses it; set eval.NAME=VALUE")
    if line.command not in ("train", "data", key):
        raise SettingError(f"{typed}: a run keeps its parts (see aecli {line.command} --help)")
    if override.is_add() or override.is_force_add():
        raise SettingError(f"{typed}: a group is chosen without the +, as in {typed.lstrip('+')}")
    for value in _chosen(override):
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise SettingError(f"{typed}: must be one of {', '.join(options(key))}")


def _chosen(override: "Override") -> list[Any]:
    """Return the options that an override chooses; none of a pattern."""
    from hydra.core.override_parser.types import ChoiceSweep, Glob

    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [getattr(choice, "text", choice) for choice in value.list]
    return [] if isinstance(value, Glob) else [value]


def _with_options(override: "Override") -> str:
    """Return the word; one with a `glob(…)` with the options that it means in its place."""
    from hydra.core.override_parser.types import Glob

    word = str(override.input_line)
    if isinstance(pattern := override.value(), Glob):
        return f"{key_of(word)}={','.join(matching(pattern, key_of(word), word))}"
    return word
