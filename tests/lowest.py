"""Print the lowest versions that pyproject.toml allows, as a constraints file for pip.

pip install -c <(python tests/lowest.py) -e ".[sweep,slurm,table,hdf5,export]"
"""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(requirements: list[str]) -> list[str]:
    """Return `name==version` for each requirement, with the version that stands after `>=`."""
    found = []
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        bound = re.search(r"[>=]=\s*([\w.]+)", requirement)
        if name and bound:
            found.append(f"{name[0]}=={bound[1]}")
    return found


if __name__ == "__main__":
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    kinds = ("sweep", "slurm", "table", "hdf5", "export")
    wanted = [*project["dependencies"], *(name for kind in kinds for name in extras[kind])]
    print(*lowest(wanted), sep="\n")  # noqa: T201
