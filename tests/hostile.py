"""What the tests of hostile files share: made-up values, and bounds of time and memory."""

import copy
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from aecli.errors import SettingError
from aecli.runs.checkpoint import KEY

SECONDS, MEGABYTES = 4, 200
"""What refusing a file may take, of the time of a processor that may be a slow one."""
STRANGE = (
    None, True, -1, 0, 1, 10**9, 2**31, 2**63, -(2**63), 10**400, 0.5, float("nan"), float("inf"),
    1e300,
    "", "x", "../../docs", "/etc/passwd", "\x1b[2J", "\ud800", [], {}, [None], {"x": 1}, (1, 2),
    torch.zeros(()), torch.zeros(1), torch.zeros(3, 5), torch.full((2,), torch.nan),
    torch.zeros(2, dtype=torch.int8), torch.zeros(1).expand(1000, 1000), torch.eye(2).to_sparse(),
)  # fmt: skip
"""Values that something else stands for: wrong types, sizes and ranges."""
DROPPED = object()


def paths(tree: Any, prefix: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every part of a tree of dicts and lists, the tree itself left out."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for name, value in items:
        yield (*prefix, name)
        if isinstance(value, dict | list | tuple):
            yield from paths(value, (*prefix, name))


def at(tree: Any, path: tuple) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def changed(tree: Any, path: tuple, value: Any) -> Any:
    """Return a copy of a tree, tensors shared, with `value` at a path; `DROPPED` takes it out."""
    name, *rest = path
    new = dict(tree) if isinstance(tree, dict) else list(tree)
    if rest:
        new[name] = changed(new[name], tuple(rest), value)
    elif value is DROPPED:
        del new[name]
    else:
        new[name] = copy.copy(value)
    return type(tree)(new) if isinstance(tree, tuple) else new


def tensors_like(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return tensors that almost could stand for this one."""
    return [
        tensor.new_zeros((*tensor.shape, 2)),
        tensor.new_zeros(tensor.shape).double(),
        tensor.new_zeros(1).expand(tensor.shape or (1,)).to(torch.bfloat16),
        torch.zeros(max(tensor.numel() - 1, 0), dtype=tensor.dtype),
        torch.full(tensor.shape, torch.nan),
    ]


def mutations(
    checkpoint: dict[str, Any], generator: random.Random
) -> Iterator[tuple[tuple, dict[str, Any]]]:
    """Yield changed checkpoints without end: a part dropped, or something strange for it."""
    own = {key: value for key, value in checkpoint.items() if key != KEY}
    places = list(paths(own))
    while True:
        path = generator.choice(places)
        value = at(own, path)
        strange = [DROPPED, *STRANGE]
        if isinstance(value, torch.Tensor):
            strange += tensors_like(value) * 3
        if isinstance(value, dict):
            strange += [value | {"x": 1}, value | {"../../docs": 1}, list(value.values())]
        if isinstance(value, list | tuple):
            strange += [[*value, *value], list(value)[:-1], dict(enumerate(value))]
        yield path, changed(checkpoint, path, generator.choice(strange))


def put(path: Path, kind: str) -> None:
    """Put something that is no ordinary file at a free path."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(10 * 1024**3)
    elif kind == "empty":
        path.touch()
    elif kind != "missing":
        path.symlink_to({"device": "/dev/zero", "loop": path.name, "nowhere": "gone"}[kind])


@contextmanager
def bounded(seconds: float = SECONDS, megabytes: float = MEGABYTES) -> Iterator[None]:
    """Require that the body takes no longer and no more memory, where Linux tells the latter."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    measured = reset.exists()
    if measured:
        reset.write_text("5")  # the peak starts again from what is used now
        before = _kilobytes(status, "VmRSS")
    start = time.process_time()  # not the wall's: other processes may be busy
    yield
    assert time.process_time() - start < seconds
    if measured:
        assert (_kilobytes(status, "VmHWM") - before) / 1000 < megabytes


def _kilobytes(status: Path, name: str) -> int:
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def refusal(action: Callable[..., Any], *arguments: Any) -> str | None:
    """Return why an action refuses, None if it does not; it may raise nothing else.

    The reason has to be one plain line.
    """
    try:
        action(*arguments)
    except SettingError as error:
        refused = error
    else:
        return None
    assert is_one_plain_line(refused), refused
    return str(refused)


def is_one_plain_line(error: Exception) -> bool:
    """Tell whether a message is what the command line may print: one line, without escapes."""
    return str(error).isprintable() and 0 < len(str(error)) < 2000
