"""A mistake in what was typed, found by Hydra or OmegaConf, as one plain line. No torch here."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from errno import EDQUOT, EFBIG, EIO, ENOSPC
from itertools import islice, product
from typing import Any, get_args, get_type_hints

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, GrammarParseError, OmegaConfBaseException

from aecli.config import composed
from aecli.errors import SettingError, shortened
from aecli.options import groups, options, text_of
from aecli.overrides import WIRED, key_of
from aecli.text import first_line, installs, one_line

HIDDEN = ("_", "hydra")
"""Keys that are Hydra's own."""
GOES_WITH = {
    "sweeper": "sweeper=optuna",
    "eval": "an experiment=…, which evaluates itself",
    "published": "an experiment=…, which has a result to be held against",
}
"""Settings of `aecli train` that exist only beside another one."""
SHOWN = 6
"""Options that are named."""
MOST_COMPOSED = 20
"""Combinations of a sweep's choices that are looked at."""
NOTES = ("object_type=", "full_key:", "reference_type=", "See https")
"""What OmegaConf adds about its own types."""
KINDS = {
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "string": "text",
}
"""OmegaConf's types in words."""
REASONS: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"Value '(?s:.*)' of type '\w+' could not be converted to (\w+)": lambda m: (
        f"must be {KINDS.get(m[1], m[1])}"
    ),
    r"Cannot convert '\w+' to (\w+): (?s:.*)": lambda m: f"must be {KINDS.get(m[1], m[1])}",
    r"Incompatible value '(?s:.*)' for field of type '(\w+)'": lambda m: (
        f"must be {KINDS.get(m[1], m[1])}"
    ),
    r"(?s:.*)field '.*' is not Optional(?s:.*)": "must not be null",
    r"Value '(?s:.*)' is not a valid (\w+) \(type \w+\)": lambda m: (
        f"must be {KINDS.get(m[1], m[1])}"
    ),
    r"Invalid value assigned: \w+ is not a ListConfig.*": "must be a list, such as [1,2]",
    r"Invalid value '(?s:.*)', expected one of \[(.*)\]": r"must be one of \1",
    r"Cannot assign \w+ to Dict\[.*\]": "must be {NAME: VALUE}",
    r"Interpolation key '(.*)' not found": r"there is no setting \1",
    r"Recursive interpolation detected": "it refers to itself",
    r"KeyError raised .*: \"Environment variable '(.*)' not found\"": (
        r"the environment variable \1 is not set"
    ),
    r"Unsupported interpolation type (.*)": r"there is no resolver \1",
    r"\w+ raised while resolving interpolation: (.*)": r"cannot be resolved: \1",
}
"""What OmegaConf says, as patterns, and the same in the words of a command line."""


def plain(error: Exception, command: str) -> str:
    """Return an error about what was typed as one line: key, value, what is allowed."""
    if isinstance(error, SettingError):
        return str(error)
    text, cause = str(error), error.__cause__
    if isinstance(error, MissingConfigException) and (said := _no_such_option(error)):
        return said
    for failure in (error, cause):
        if isinstance(failure, OSError) and not isinstance(failure, HydraException):
            return of_system(failure)
    if "Unexpected type for root: NoneType" in text:
        words = [word for word in sys.argv if key_of(word).partition(".")[0] in GOES_WITH]
        needed = {GOES_WITH[key_of(word).partition(".")[0]] for word in words}
        return f"{', '.join(words)}: goes with {', '.join(sorted(needed))}"
    if there := re.match(r"Could not append to config. An item is already at '([^']*)'", text):
        return f"{_typed(there[1]) or there[1]}: is a setting already; leave out the +"
    unknown = re.match(r"Could not override '([^']*)'", text)
    if unknown and isinstance(cause, ConfigKeyError | AttributeError):
        inner = getattr(cause, "full_key", None) or ""
        is_inside = inner.startswith(f"{unknown[1]}.")
        return _no_such_setting(inner if is_inside else unknown[1], command)
    merging = re.match(r"Error merging override (.*)", text, re.DOTALL)
    if isinstance(cause or error, OmegaConfBaseException):
        return of_omegaconf(cause or error, merging[1] if merging else None)
    return _of_hydra(error)


def of_system(error: OSError) -> str:
    """Return an error of the operating system as one line that names the file.

    Where a write fails the system names no file: the run's directory stands for it.
    """
    full = error.errno in (ENOSPC, EDQUOT)
    place = error.filename
    if place is None and (full or error.errno in (EIO, EFBIG)) and HydraConfig.initialized():
        hydra = HydraConfig.get()
        place = hydra.sweep.dir if hydra.mode == RunMode.MULTIRUN else hydra.run.dir
    if full:
        return f"{place or 'the disk'}: no space left on the disk; make room"
    return f"{place}: {error.strerror}" if place and error.strerror else first_line(error)


def of_omegaconf(error: Any, word: str | None = None) -> str:
    """Return an error of OmegaConf's as one line; `word` is the override that caused it."""
    key = str(error.full_key or "")
    if word is None:
        word = _typed(key) if key else " ".join(w for w in sys.argv[1:] if "${" in w) or None
    if word is None:
        return f"{key}: {_reason(error)}" if key else _reason(error)
    typed, typed_key = shortened(word), key_of(word)
    if key and typed_key.startswith(f"{key}."):
        return f"{typed}: no such setting; {key} has one value"
    if re.search("not a subclass of|Cannot merge|Cannot assign", str(error).splitlines()[0]):
        return f"{typed}: {_of_structure(error, word)}"
    inside = key if typed_key and key.startswith((f"{typed_key}.", f"{typed_key}[")) else ""
    return f"{typed}: {f'{inside} ' if inside else ''}{_reason(error)}"


def _reason(error: Any) -> str:
    """Return what OmegaConf says, in the words of a command line."""
    if isinstance(error, GrammarParseError):
        return "not understood; another setting is typed as '${NAME}', text with a $ as '\\${…'"
    lines = [line.strip() for line in str(error).splitlines()]
    text = "; ".join(line.rstrip(".") for line in lines if line and not line.startswith(NOTES))
    text, stands_for = re.subn(r"^While dereferencing interpolation '.*?': ", "", text)
    value = re.match(r"(?:Value|Incompatible value) '(.*?)'( of type| for field)", text)
    for pattern, words in REASONS.items():
        if found := re.fullmatch(pattern, text):
            text = words(found) if callable(words) else found.expand(words)
            break
    if not (stands_for and value):
        return text
    shown = {"None": "null", "True": "true", "False": "false"}.get(value[1], shortened(value[1]))
    return f"stands for {shown}; {text}"


def _of_structure(error: Any, word: str) -> str:
    """Return what to type where one value stands for several settings, or the reverse."""
    if word.partition("=")[2].lstrip().startswith("{"):
        return "must be a list, such as [1,2], or a single value"
    kinds = [error.ref_type]
    if is_dataclass(error.object_type) and error.key:
        hint = get_type_hints(error.object_type).get(str(error.key))
        kinds = [hint, *get_args(hint)]
    names = [field.name for kind in kinds if is_dataclass(kind) for field in fields(kind)]
    if not names:
        return "must be {NAME: VALUE}"
    return f"has the settings {', '.join(names)}; type {key_of(word)}.{names[0]}=VALUE"


def _typed(key: str) -> str | None:
    """Return the word that set a key: the key itself, one above it, or one below it."""
    words = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    for related in (
        lambda typed: typed == key,
        lambda typed: key.startswith(f"{typed}."),
        lambda typed: typed.startswith(f"{key}."),
    ):
        if found := [word for word in words if related(key_of(word))]:
            return found[-1]
    return None


def _no_such_option(error: MissingConfigException) -> str:
    file = error.missing_cfg_file or ""
    launcher = re.fullmatch(r"(?:hydra/)?launcher/(\w+)", file)
    if launcher and launcher[1] in options("launcher"):
        extra = "slurm" if launcher[1].startswith("submitit") else "sweep"
        return f"launcher={launcher[1]}: not installed; {installs(extra)}"
    group, _, name = file.partition("/")
    if group == "hydra":
        group, _, name = file.rpartition("/")
    known = options(group) if group == "experiment" else error.options
    return f"{group}={name}: must be one of {', '.join(known)}" if known else ""


def _of_hydra(error: Exception) -> str:
    """Return what else Hydra, or a launcher of it, says, and the words typed that are theirs."""
    lines = [line.strip() for line in f"{error}\n{error.__cause__ or ''}".splitlines()]
    text = "; ".join(line.rstrip(".") for line in lines if line and not line.startswith(NOTES))
    text = one_line(text or type(error).__name__, 400)
    if unknown := re.search(r"unexpected keyword argument '(\w+)'", text):
        text = f"there is no setting {unknown[1]}"
    theirs = " ".join(_of_hydras(sys.argv[3:]))
    return f"{theirs}: {text}" if theirs and theirs not in text else text


def _of_hydras(words: Sequence[str]) -> list[str]:
    """Return the words of a line that are for Hydra and its launchers, flags with their values."""
    found, follows = [], False
    for word in words:
        is_flag = word.startswith("-")
        if is_flag or follows or key_of(word).startswith(("hydra", "launcher", "sweeper")):
            found.append(word)
        follows = is_flag and word not in ("-m", "--multirun")
    return [shortened(word) for word in found if word not in ("-m", "--multirun")]


def _no_such_setting(key: str, command: str) -> str:
    if key.startswith("launcher."):
        return f"{key}: no such setting; those of a launcher are typed as hydra.{key}=VALUE"
    if key.startswith("sweeper.space."):
        name = key.removeprefix("sweeper.space.")
        return f"{key}: cannot be added; type the values to search themselves, as {name}=1,2"
    of_hydra = key.startswith("hydra.")
    root, chosen = _without(key, command)
    node, reached = root, list[str]()
    *path, last = key.split(".")
    for name in path:
        if not isinstance(node, Mapping) or not isinstance(node.get(name), Mapping):
            break
        node = node[name]
        reached.append(name)
    where = ".".join(reached)
    known = [name for name in node if _is_shown(name, where)]
    settings = f"has the settings {', '.join(known)}" if known else "has no settings"
    hint = "" if of_hydra else _similar(last, where, root, known)
    having = _options_with(last, where) if where in groups() and path == [where] else []
    elsewhere = f"; {where}={' or '.join(having)} has it" if having else ""
    told = f"{where or 'this command'} {settings} {chosen}{elsewhere}"
    return f"{key}: no such setting{hint} ({told})"


def _options_with(name: str, group: str) -> list[str]:
    """Return a few options of a group whose files have a setting of this name, those of aecli."""
    nodes: dict[str, Any] = {
        option: OmegaConf.create(text_of(group, option)) for option in options(group)
    }
    # Some fill in other groups, too, and have their own settings below its name.
    return [option for option, node in nodes.items() if name in node.get(group, node)][:SHOWN]


def _without(key: str, command: str) -> tuple[Mapping[str, Any], str]:
    """Return the configuration that has no such setting, and how it was chosen.

    Of a sweep that is the first of its combinations of choices that lacks it.
    """
    words = [word for word in sys.argv if "=" in word and key_of(word) in groups()]
    swept = [word for word in words if "," in word and "(" not in word]
    fixed = [word for word in words if "," not in word]
    values = [[f"{key_of(w)}={v}" for v in w.partition("=")[2].split(",")] for w in swept]
    for each in islice(product(*values), MOST_COMPOSED):
        try:
            config = composed(command, *fixed, *each, of_hydra=True)
        except (HydraException, OmegaConfBaseException):  # one of the choices is a mistake, too
            config = composed(command, of_hydra=True)
        root: Any = OmegaConf.to_container(config, resolve=False)
        if not _has(root, key):
            break
    group = key.partition(".")[0]
    choice = root["hydra"]["runtime"]["choices"].get(group)
    if group != "hydra":
        del root["hydra"]
    chosen = [*map(shortened, each)] or ([f"{group}={shortened(choice)}"] if choice else [])
    return root, f"with {' '.join(chosen)}" if chosen else "as chosen here"


def _has(root: Any, key: str) -> bool:
    for name in key.split("."):
        if not isinstance(root, Mapping) or name not in root:
            return False
        root = root[name]
    return True


def _is_shown(name: str, where: str) -> bool:
    return not name.startswith(HIDDEN) and f"{where}.{name}" not in WIRED


def _similar(name: str, where: str, config: Mapping[Any, Any], here: Sequence[str]) -> str:
    """Return a hint at a setting of a similar name, in the same place or in another."""
    close = [f"{where}.{near}" if where else near for near in get_close_matches(name, here, n=1)]
    elsewhere = {
        k: f"{group}.{k}"
        for group, inside in config.items()
        if isinstance(inside, Mapping)
        for k in inside
        if _is_shown(str(k), group)
    }
    # In another place than the one that was typed only what is nearly the same.
    likeness = 0.9 if where else 0.6
    close += [elsewhere[near] for near in get_close_matches(name, elsewhere, 1, likeness)]
    return f"; did you mean {close[0]}?" if close else ""
