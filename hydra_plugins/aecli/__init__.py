"""What Hydra finds by its name: it looks for plugins in the namespace `hydra_plugins` only.

Every program of this environment that uses Hydra imports this; it imports the rest at a sweep's
start.
"""

from typing import Any

from hydra.plugins.sweeper import Sweeper


class OptunaSweeper(Sweeper):
    """The sweeper of `sweeper=optuna`."""

    def setup(self, **given: Any) -> None:
        """Take what Hydra gives to a sweeper."""
        from aecli.sweeps.sweeper import Search

        self._search = Search()
        self._search.setup(**given)

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs of a sweep."""
        self._search.sweep(arguments)
