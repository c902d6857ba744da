"""What was typed, word by word, before Hydra composes a configuration from it. No torch here.

An override is a word such as `model.beta=4`, `+trainer.max_time=…` or `~noise`; a flag is one such
as `-m`. Imports Hydra only where it checks.
"""

from collections.abc import Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from aecli.errors import SettingError, shortened

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

FLAGS: dict[str, tuple[str, ...] | None] = {
    "-h": (),
    "--help": (),
    "--hydra-help": (),
    "--version": (),
    "-m": (),
    "--multirun": (),
    "-r": (),
    "--run": (),
    "-c": ("job", "hydra", "all"),
    "--cfg": ("job", "hydra", "all"),
    "--resolve": (),
    "-i": ("", "all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--info": ("", "all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "-p": None,
    "--package": None,
    "-cp": None,
    "--config-path": None,
    "-cn": None,
    "--config-name": None,
    "-cd": None,
    "--config-dir": None,
    "-sc": (),
    "--shell-completion": (),
    "--shell_completion": (),
}
"""Hydra's flags and the words that may follow each: none, one of these ("": none), or any (None).

`--experimental-rerun` is left out, which unpickles a file.
"""

COMPLETION = {"-sc", "--shell-completion", "--shell_completion"}
SWEEP = {"-m", "--multirun", "hydra.mode=MULTIRUN"}

WIRED = {
    "model.network": "choose network=… or set network.…",
    "model.noise": "choose noise=… or set noise.…",
    "model.sparsity": "choose sparsity=… or set sparsity.…",
    "model.likelihood": "choose likelihood=… or set likelihood.…",
    "model.optimizer": "choose optimizer=… or set optimizer.…",
    "model.shape": "choose dataset=…",
    "network.shape": "choose dataset=…",
    "dataset.shape": "choose dataset=…",
    "dataset.source": "choose dataset=…",
    "sparsity.units": "set model.code_dim=…",
}
"""Settings that follow from others, and which: nobody sets them by themselves."""

GROUPS_OF = {"eval": ("eval",), "sample": ()}
"""The groups whose option can be chosen, for commands that cannot choose all."""

ONE_VALUE = ("launcher", "sweeper", "resume", "output_dir", "objective")
"""Settings of a whole sweep: its runs cannot differ in them."""
MOST_RUNS = 100_000
"""Runs of a sweep: more is a slip of the finger."""


def key_of(override: str) -> str:
    """Return the key of an override such as `+noise.std=0.3`: `noise.std`."""
    return override.lstrip("+~").partition("=")[0]


def checked(command: str, words: Sequence[str]) -> list[str]:
    """Return the words after a command as Hydra takes them: the overrides in one piece, then flags.

    Raises:
        SettingError: for a flag that there is not, or an override that no configuration can
            answer to: it names the word and what is allowed.
    """
    typed, flags = _sorted(words)
    if not COMPLETION.intersection(flags):  # under completion the words are half typed
        is_sweep = not SWEEP.isdisjoint([*flags, *typed])
        runs = 1
        for override in [_parsed(word, _example(command, word, typed)) for word in typed]:
            _check_key(override)
            if command == "train":
                _check_wiring(override)
            _check_option(override, command)
            runs *= _values(override, is_sweep=is_sweep)
            if runs > MOST_RUNS:
                told = shortened(override.input_line)
                raise SettingError(f"{told}: makes more than {MOST_RUNS:,} runs")
    return [*typed, *flags]


def _example(command: str, word: str, typed: Sequence[str]) -> str:
    """Return a word as it could be: of `resume latest`, `resume=latest`."""
    after = typed[typed.index(word) + 1 :][:1]
    if after and "=" not in after[0] and word.replace(".", "").isidentifier():
        return f"{word}={after[0]}"
    return "model=vae" if command == "train" else "run=latest"


def _sorted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides, and the flags with the words that belong to them."""
    overrides: list[str] = []
    flags: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flag, given, value = word.partition("=")
        if flag not in FLAGS:
            raise SettingError(_no_such_flag(word, left))
        flags.append(flag)
        takes = FLAGS[flag]
        if given:
            left.insert(0, value)
        if takes == ():
            if given:
                raise SettingError(f"{word}: {flag} takes no value")
        elif takes is None:
            if not left:
                raise SettingError(f"{flag}: needs a value after it")
            flags.append(left.pop(0))
        elif left and left[0] in takes:
            flags.append(left.pop(0))
        elif "" not in takes or given:
            typed = f"{flag} {left[0]}" if left else flag
            raise SettingError(f"{typed}: {flag} must be followed by one of {', '.join(takes)}")
    return overrides, flags


def _no_such_flag(word: str, after: Sequence[str]) -> str:
    setting = word.lstrip("-").replace("-", "_")
    if "=" not in setting and after and not after[0].startswith("-") and "=" not in after[0]:
        setting, word = f"{setting}={after[0]}", f"{word} {after[0]}"
    hint = f"settings are typed as {setting if '=' in setting else 'model=vae'}"
    return f"{word}: no such flag; {hint} (all flags: aecli train --hydra-help)"


def _parsed(word: str, example: str) -> "Override":
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = word.partition("=")
    if not key_of(word) or (not equals and not word.startswith("~")):
        raise SettingError(f"{shortened(word)}: must be SETTING=VALUE, such as {example}")
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        quoted = quote(f'{key}="{value}"')
        raise SettingError(
            f"{shortened(word)}: not understood; a value with spaces or special characters goes in"
            f" quotes, as in {shortened(quoted)}; a list is [1,2], without spaces"
        ) from error


def _check_key(override: "Override") -> None:
    typed = shortened(override.input_line)
    key = key_of(str(override.input_line))
    if override.is_delete():
        raise SettingError(f"{typed}: a setting cannot be taken away; set it, as in {key}=VALUE")
    if override.package is not None or "@" in key:
        raise SettingError(f"{typed}: a group has one place here; leave out the @")
    if key == "hydra.run.dir" and Path(str(override.value())).name in ("", ".."):
        raise SettingError(f"{typed}: must be a new directory, such as hydra.run.dir=mine")
    if key.startswith("hydra"):
        return
    if any(part.startswith("_") for part in key.split(".")):
        raise SettingError(f"{typed}: is no setting: keys with a leading _ belong to Hydra")


def _check_wiring(override: "Override") -> None:
    typed, key = shortened(override.input_line), key_of(str(override.input_line))
    for wired, instead in WIRED.items():
        if key == wired or key.startswith(f"{wired}."):
            raise SettingError(f"{typed}: follows from other settings; {instead}")


def _check_option(override: "Override", command: str) -> None:
    typed, key = shortened(override.input_line), key_of(str(override.input_line))
    value = override.value()
    if key in groups() and key not in GROUPS_OF.get(command, groups()):
        raise SettingError(f"{typed}: a run keeps its parts (see aecli {command} --help)")
    if key in groups() and not override.is_sweep_override() and not isinstance(value, str):
        raise SettingError(f"{typed}: must be one of {', '.join(options(key))}")


def groups() -> list[str]:
    """Return the groups that have options, such as model."""
    folders = [entry.name for entry in files("aecli.conf").iterdir() if entry.is_dir()]
    return [name for name in folders if name != "hydra" and name[0] != "_"]


def options(group: str) -> list[str]:
    """Return the names of a group's options, those in its folders too, as FOLDER/NAME."""
    names: list[str] = []
    for entry in (files("aecli.conf") / group).iterdir():
        if entry.is_dir():
            names += [f"{entry.name}/{option}" for option in options(f"{group}/{entry.name}")]
        elif entry.name.endswith(".yaml"):
            names.append(entry.name.removesuffix(".yaml"))
    return sorted(names)


def _values(override: "Override", *, is_sweep: bool) -> int:
    """Return how many values of a setting a sweep runs through, `MOST_RUNS` + 1 if more."""
    from hydra.core.override_parser.types import ChoiceSweep, RangeSweep

    typed, value = shortened(override.input_line), override.value()
    if not override.is_sweep_override():
        return 1
    if not is_sweep:
        raise SettingError(
            f"{typed}: several values are a sweep, which needs -m; a list is typed in brackets"
        )
    if key_of(str(override.input_line)) in ONE_VALUE:
        raise SettingError(f"{typed}: must be one value for the whole sweep")
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep):
        if not value.step:
            raise SettingError(f"{typed}: the step of a range must not be 0")
        if count := sum(1 for _ in islice(value.range(), MOST_RUNS + 1)):
            return count
        raise SettingError(f"{typed}: is an empty range, so that there is nothing to run")
    return 1  # an interval of Optuna's, or a glob
