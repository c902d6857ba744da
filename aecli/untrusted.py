"""Files that a stranger may have made, read within bounds. Imports no torch.

A run that was given away is data, and may be a trap: a pipe that never ends, a link to a device, a
document of a kilobyte that unfolds to gigabytes. Each reader here takes regular files only, looks
at the size before it reads, and refuses what is deeper or larger than any file of aecli.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from aecli.computed import code_dim, dictionary_lr
from aecli.errors import SettingError
from aecli.text import first_line, one_line

MOST_BYTES = 1 << 20
"""Of a JSON file; those of a run have a few thousand."""
MOST_BYTES_OF_YAML = 1 << 18
"""YAML takes a hundred times longer to read."""
MOST_NODES = 10_000
"""Values in a file, all levels together."""
MOST_DEPTH = 40
LONGEST_TEXT = 10_000
"""Characters of one value or name."""
LONGEST_NUMBER = 1000
"""Digits of a number: YAML has some, 1:1:1…, that take a time quadratic in their length."""
WIDEST_INTEGER = 64
"""Bits of an integer: what a float of a metric or a setting can stand for."""

INTERPOLATION = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")
"""The one form that is followed in a file: to a key of the same file."""

DATA = "${oc.env:AECLI_DATA,null}"
"""What conf/ says of `dataset.root`, and with it the `.hydra/config.yaml` of a run."""

CODE_DIM = re.compile(r"\$\{code_dim:(\d{1,9}),\$\{dataset\.shape\}\}")
"""What conf/ says of `model.code_dim`: its size follows from the data."""

DICTIONARY_LR = "${dictionary_lr:${model.code_dim}}"
"""What conf/ says of the rate of a dictionary."""

TARGET_SHAPE = "${oc.select:dataset.target_shape,null}"
"""What conf/ says of `model.target_shape`: only some data sets have it."""

_Base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # many times faster where it is built


class _Loader(_Base):  # type: ignore[misc, valid-type]
    """YAML as OmegaConf reads it: a date stays a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in rules if not tag.endswith(":timestamp")]
    for first, rules in _Base.yaml_implicit_resolvers.items()
}


def size_of(path: Path) -> int:
    """Return the size of a regular file in bytes.

    Raises `SettingError` for anything else at `path`, such as a folder, a pipe or a device, and if
    the system refuses to look; `FileNotFoundError` if nothing is there.
    """
    with _plain_errors(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SettingError(f"{one_line(path)}: is no regular file")
    return status.st_size


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the contents of a regular file of at most `most` bytes.

    Raises `SettingError` for another kind of file, a larger one, and one that cannot be read;
    `FileNotFoundError` if nothing is there.
    """
    size_of(path)
    with _plain_errors(path):
        # Not blocking: a pipe may have taken the file's place since `size_of` looked.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        size = os.fstat(descriptor).st_size  # memory is taken for what is asked for
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(min(size, most) + 1) or b""  # None: from a pipe without a writer
    if len(data) > most:
        raise SettingError(f"{one_line(path)}: is larger than {most:,} bytes")
    return data


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Turn an error of the file system into a `SettingError`, but for a missing file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SettingError(
            f"{one_line(path)}: cannot be read ({error.strerror or error})"
        ) from error


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises `SettingError` for a damaged file, one out of bounds and one that cannot be read;
    `FileNotFoundError` if nothing is there.
    """
    try:
        values = json.loads(read_bytes(path).decode())
    except SettingError:
        raise
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{one_line(path)}: damaged ({first_line(error)})") from error
    check_tree(values, one_line(path))
    return values


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, interpolations as they stand there.

    Raises `SettingError` for a damaged file, one out of bounds, one that cannot be read, and one
    with aliases, which aecli does not write; `FileNotFoundError` if nothing is there.
    """
    where = one_line(path)
    try:
        text = read_bytes(path, MOST_BYTES_OF_YAML).decode()
        if "*" in text or len(text) > MOST_NODES:  # others have neither an alias nor many nodes
            _check_events(text, where)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            values = None if node is None else _built(node)
        finally:
            loader.dispose()
    except SettingError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise SettingError(f"{where}: damaged ({first_line(error)})") from error
    check_tree(values, where)
    return values


def check_tree(tree: Any, where: str) -> None:
    """Refuse a tree of dicts and lists that is too large or too deep, or not of plain values.

    A part that is shared is counted wherever it stands: what it unfolds to is what is bounded.
    Raises `SettingError` naming `where`.
    """
    left = MOST_NODES
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        left -= 1
        if left < 0:
            raise SettingError(f"{where}: holds more than {MOST_NODES:,} values")
        if depth > MOST_DEPTH:
            raise SettingError(f"{where}: is nested deeper than {MOST_DEPTH} levels")
        if isinstance(node, dict):
            for name in node:
                if not isinstance(name, str):
                    raise SettingError(f"{where}: has a key that is no text: {one_line(name)}")
                _check_value(name, where)
            waiting += [(value, depth + 1) for value in node.values()]
        elif isinstance(node, list | tuple):
            waiting += [(value, depth + 1) for value in node]
        else:
            _check_value(node, where)
        if len(waiting) > left:
            raise SettingError(f"{where}: holds more than {MOST_NODES:,} values")


def resolved(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a configuration with every `${key}` replaced by what stands at that key of it.

    Nothing else is followed but the four above: a file must not read the environment, or call a
    resolver.
    Raises `SettingError` for other interpolations, unknown keys, circles, and what unfolds to
    more than any configuration of aecli.
    """
    left = [MOST_NODES]

    def follow(node: Any, depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > MOST_DEPTH:
            raise SettingError(f"{where}: its interpolations unfold too far")
        if isinstance(node, dict):
            return {name: follow(value, depth + 1) for name, value in node.items()}
        if isinstance(node, list):
            return [follow(value, depth + 1) for value in node]
        if not isinstance(node, str) or "${" not in node:
            return node
        if node == DATA:
            return os.environ.get("AECLI_DATA")
        if node == DICTIONARY_LR:
            return dictionary_lr(follow("${model.code_dim}", depth + 1))
        if node == TARGET_SHAPE:
            dataset = tree.get("dataset")
            shape = dataset.get("target_shape") if isinstance(dataset, dict) else None
            return follow(shape, depth + 1)
        if CODE_DIM.fullmatch(node):
            return size_of_code(node, tree)
        found = INTERPOLATION.fullmatch(node)
        if not found:
            raise SettingError(f"{where}: {one_line(node)}: only ${{key}} is followed in a file")
        target: Any = tree
        for name in found[1].split("."):
            if not isinstance(target, dict) or name not in target:
                raise SettingError(f"{where}: {one_line(node)}: there is no such key")
            target = target[name]
        return follow(target, depth + 1)

    return follow(tree, 0)


def size_of_code(text: str, tree: Mapping[str, Any]) -> int:
    """Return what a text such as `CODE_DIM` stands for in a configuration.

    Before the data was read, which says the shape, that is the size that it is at most.
    """
    sized = CODE_DIM.fullmatch(text)
    assert sized is not None, "matched before"
    dataset = tree.get("dataset")
    shape = dataset.get("shape") if isinstance(dataset, Mapping) else None
    is_shape = isinstance(shape, list) and all(type(size) is int for size in shape)
    return code_dim(int(sized[1]), shape if is_shape else None)


TAG = "tag:yaml.org,2002:"
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
SCALARS: dict[str, Callable[[yaml.ScalarNode], Any]] = {
    f"{TAG}{name}": getattr(_CONSTRUCTOR, f"construct_yaml_{name}")
    for name in ("null", "bool", "int", "float", "str")
}


def _built(node: yaml.Node) -> Any:
    """Return the value of a node. PyYAML's own way, for objects of any type, takes three times as
    long.

    Raises `yaml.YAMLError` for a type that JSON does not have, and for a key that is no scalar.
    """
    if isinstance(node, yaml.ScalarNode) and node.tag in SCALARS:
        if len(node.value) > LONGEST_NUMBER and node.tag != f"{TAG}str":
            raise yaml.YAMLError("a number is too long")
        return SCALARS[node.tag](node)
    if node.tag == f"{TAG}seq":
        return [_built(item) for item in node.value]
    if node.tag == f"{TAG}map" and all(isinstance(key, yaml.ScalarNode) for key, _ in node.value):
        return {_built(key): _built(value) for key, value in node.value}
    raise yaml.YAMLError(f"a value of type {node.tag}")


def _check_events(text: str, where: str) -> None:
    """Refuse a document that is too large or too deep before it takes the time to build its nodes,
    and one with an alias: by one, a kilobyte unfolds to gigabytes or to a circle.
    """
    nodes = depth = 0
    loader = _Loader(text)
    try:
        while loader.check_event():
            event = loader.get_event()
            if isinstance(event, yaml.AliasEvent):
                raise SettingError(f"{where}: has a YAML alias, which aecli does not write")
            nodes += isinstance(event, yaml.NodeEvent)
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if nodes > 2 * MOST_NODES:  # the names count too
                raise SettingError(f"{where}: holds more than {MOST_NODES:,} values")
            if depth > MOST_DEPTH + 1:
                raise SettingError(f"{where}: is nested deeper than {MOST_DEPTH} levels")
    finally:
        loader.dispose()


def _check_value(value: Any, where: str) -> None:
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise SettingError(f"{where}: has a text of more than {LONGEST_TEXT:,} characters")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise SettingError(f"{where}: has a text that is no Unicode: {one_line(value)}")
    elif isinstance(value, int):
        if value.bit_length() > WIDEST_INTEGER:
            raise SettingError(f"{where}: has a number of {value.bit_length()} bits")
    elif not (value is None or isinstance(value, float)):
        raise SettingError(f"{where}: has a value of type {type(value).__name__}")
