"""Parts of a user's own: which modules may be imported, because the user said so. No torch here.

A plugin is a module that somebody typed as `plugins=[NAME]`, or that an installed package names
under the entry point `aecli.plugins`. What a checkpoint or a file of settings names alone is never
imported, and not even looked up. The current folder comes last: a plugin in it hides no module that
is installed, and the folder is searched only if the plugin lies in it.
"""

import importlib
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from aecli.errors import SettingError, check_list, refused
from aecli.text import first_line, one_line

ENTRY_POINT = "aecli.plugins"
"""The group of entry points under which an installed package names its module."""
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
LONGEST = 60
"""Characters of a module's name."""
MOST = 10
"""Plugins of a run."""

_typed: dict[str, ModuleType] = {}
"""The plugins that the user of this process has named."""


class UntrustedError(SettingError):
    """A run was made with plugins that the user has not named."""

    asks = ""
    """What to type, without the name of the run."""


def check(value: Any) -> list[str]:
    """Return `value` if it is a list of modules that are there; imports none of them.

    Raises `SettingError` naming the key, the value and what is allowed.
    """
    names = check_list("plugins", value, _name, "[my_noise]", may_be_empty=True, distinct=True)
    for name in names:
        _found(name)
    return names


def trust(value: Any) -> None:
    """Import the plugins that the user has named; what they define may be made from now on.

    Raises `SettingError` for a name of no module, and for a module with a mistake in it: it names
    the file and the line.
    """
    for name in check(value):
        if name not in _typed:
            if _found(name) is None:
                sys.path.append(str(Path.cwd()))
                importlib.invalidate_caches()
            module = imported(name, name)
            if not hasattr(module, "__path__") and not any(own_classes(module, name)):
                raise SettingError(
                    f"plugins=[{name}]: {name} has no part of its own:"
                    " no public class that extends one of aecli's"
                )
            _typed[name] = module


def own_classes(module: ModuleType, plugin: str) -> Iterator[type]:
    """Yield the public classes of a plugin that stand in a module and extend one of aecli's."""
    for name, value in vars(module).items():
        if isinstance(value, type) and not name.startswith("_"):
            is_own = f"{value.__module__}.".startswith(f"{plugin}.")
            if is_own and any(base.__module__.startswith("aecli.") for base in value.__mro__):
                yield value


def trusted() -> list[str]:
    """Return the names of the plugins that the user has typed or installed."""
    return list(dict.fromkeys([*_typed, *_installed()]))


def named(names: Iterable[str]) -> dict[str, ModuleType]:
    """Return the modules of the plugins that were typed and of trusted ones with these `names`."""
    return {name: imported(name, name) for name in dict.fromkeys([*_typed, *names])}


def plugin_of(name: Any) -> str | None:
    """Return the trusted plugin that a dotted name lies in, such as that of a class; else None."""
    return next((p for p in trusted() if str(name).startswith(f"{p}.") or name == p), None)


def as_typed(names: Iterable[str]) -> str:
    """Return plugins as a word of a line, after a blank; "" without any."""
    names = ",".join(names)
    return f" plugins=[{names}]" if names else ""


def of_word(word: str) -> Any:
    """Return what a word such as plugins=[my_noise] names, for `trust`."""
    value = word.partition("=")[2]
    return value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else value


def used(node: Any) -> Iterator[str]:
    """Yield the plugins that the `_target_`s of a configuration lie in."""
    if isinstance(node, dict):
        if plugin := plugin_of(node.get("_target_")):
            yield plugin
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from used(value)


def require(names: Any, where: str) -> None:
    """Refuse a run that says that it was made with plugins which the user has not named.

    Raises `UntrustedError`, or `SettingError` for what are no names of modules; imports nothing.
    """
    if not isinstance(names, list) or len(names) > MOST or not all(map(_is_name, names)):
        raise SettingError(f"{where}: its plugins are no names of modules")
    if missing := [name for name in names if plugin_of(name) is None]:
        word = as_typed([*_typed, *missing]).strip()
        them = "it" if len(missing) == 1 else "them"
        asks = f"made with {', '.join(missing)}; add {word} if you trust {them}"
        error = UntrustedError(f"{where}: {asks}")
        error.asks = asks
        raise error


def imported(module: str, plugin: str) -> ModuleType:
    """Import a module of a trusted plugin; raise a mistake in it as `SettingError`."""
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise SettingError(f"plugins=[{plugin}]: there is no module {module}") from error
        raise SettingError(f"plugins=[{plugin}]: {told(error, plugin)}") from error


def told(error: BaseException, plugin: str) -> str:
    """Return an error that a plugin has caused as one line: its file, the line and the message."""
    place = place_of(error, plugin)
    return f"{place}{': ' if place else ''}{type(error).__name__}: {first_line(error)}"


def place_of(error: BaseException, plugin: str) -> str:
    """Return the last place in a plugin that an error came through, FILE:LINE; "" if none is."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_in(Path(frame.filename), plugin)]
    return f"{_shown(own[-1].filename)}:{own[-1].lineno}" if own else ""


def _name(key: str, value: Any) -> str:
    if not _is_name(value) or value.endswith(".py"):
        raise refused(key, value, "the name of a module, without a path or an ending")
    if value.partition(".")[0] == "aecli":
        raise SettingError(f"{key}=[{value}]: aecli's own parts need no plugins=")
    return value


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST and bool(NAME.fullmatch(value))


def _found(name: str) -> ModuleSpec | None:
    """Return how Python finds the package or the module that a plugin lies in, without importing.

    None if it lies in the current folder, where Python does not look.
    Raises `SettingError` if it lies nowhere, or if an installed module hides that of this folder.
    """
    top = name.partition(".")[0]
    spec = _spec(top)
    own = [path for path in (Path(f"{top}.py"), Path(top) / "__init__.py") if path.is_file()]
    if spec is None:
        if not own and not ("." in name and Path(top).is_dir()):
            raise SettingError(
                f"plugins=[{name}]: there is no module {top} in this folder, and none is installed"
            )
        return None
    if own and own[0].resolve() != Path(spec.origin or "").resolve():
        raise SettingError(
            f"plugins=[{name}]: {own[0]} has the name of another module"
            f" ({spec.origin}), which comes first; rename yours"
        )
    return spec


def _spec(top: str) -> ModuleSpec | None:
    try:
        return find_spec(top)
    except ValueError:  # of __main__
        return None


def _is_in(path: Path, plugin: str) -> bool:
    """Tell whether a file is one of the plugin's: in its package, or beside it if it lies here."""
    spec = _spec(plugin.partition(".")[0])
    folders = list(spec.submodule_search_locations or []) if spec else []
    if spec and spec.origin and Path(spec.origin).parent == Path.cwd():
        folders.append(str(Path.cwd()))
    is_ours = path.is_relative_to(Path(__file__).parent)
    inside = any(path.is_relative_to(folder) for folder in folders) and not is_ours
    return inside or bool(spec and str(path) == spec.origin)


def _shown(file: str) -> str:
    path = Path(file)
    return one_line(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def folders() -> list[Path]:
    """Return the folders `conf` of installed plugins, in which their options lie; imports none."""
    found = []
    for name in _installed():
        top, *below = name.split(".")
        spec = _spec(top)
        for place in (spec and spec.submodule_search_locations) or ():
            folder = Path(place, *below, "conf")
            found += [folder] if folder.is_dir() else []
    return found


@cache
def _installed() -> Sequence[str]:
    """Return the modules that installed packages name; imports none of them."""
    names = [point.module for point in entry_points(group=ENTRY_POINT)]
    return [name for name in names if _is_name(name)]
