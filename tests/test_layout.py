"""The floors of the house: imports run down only, and no two modules import each other."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

AECLI = Path(__file__).parents[1] / "aecli"
FLOORS = (
    ("__main__",),
    ("cli", "api", "estimator", "in_process", "failures"),
    ("commands",),
    ("evaluation", "explore"),
    ("training", "sweeps"),
    ("runs", "pretraining"),
    ("models",),
    (
        "noise",
        "sparsity",
        "dictionaries",
        "priors",
        "networks",
        "likelihoods",
        "optimizers",
        "data",
        "build",
    ),
    (
        "config",
        "schemas",
        "computed",
        "errors",
        "figures",
        "distributed",
        "signals",
        "progress",
        "tree",
        "messages",
        "overrides",
        "plugins",
        "flags",
        "hydra_keys",
        "options",
        "swept",
        "size",
        "files",
        "patterns",
        "html",
        "machine",
        "npy",
        "malloc",
        "codes",
        "colours",
        "columns",
        "rows",
        "pictures",
        "archive",
        "pickled",
        "terminal",
        "text",
        "untrusted",
        "randomness",
        "threads",
    ),
    ("__init__",),
)
"""From the door to the cellar; a room on a floor is a module or a folder of `aecli/`."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imports(path: Path) -> set[str]:
    """Return the modules of aecli that a file imports, as dotted paths below `aecli`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "aecli":
            below = node.module.split(".")[1:]
            for alias in node.names:
                is_module = (AECLI.joinpath(*below, f"{alias.name}.py")).is_file()
                found.add(".".join([*below, alias.name] if is_module else below) or "__init__")
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("aecli.")}
    return found


def modules() -> dict[str, Path]:
    """Return every module below `aecli`; a package by its folder's name.

    Without `aecli/__init__.py`: all import the version from it, and its `load` imports, once it is
    called, what it needs.
    """
    named = {}
    for path in AECLI.rglob("*.py"):
        parts = path.relative_to(AECLI).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts)] = path
    del named["__init__"]
    return named


def test_every_room_has_a_floor():
    assert {name.split(".")[0] for name in modules()} == set(FLOOR) - {"__init__"}


def test_imports_run_down_only():
    up = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imports(path)
        if FLOOR[other.split(".")[0]] < FLOOR[name.split(".")[0]]
    ]
    assert not up


def test_no_two_modules_import_each_other():
    graph = {name: imports(path) - {name} for name, path in modules().items()}
    # A package's own modules are imported by it, not it by them.
    graph = {
        name: {o for o in others if not name.startswith(f"{o}.")} for name, others in graph.items()
    }
    TopologicalSorter(graph).prepare()
