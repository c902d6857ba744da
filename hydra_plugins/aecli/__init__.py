"""What Hydra finds by its name: it looks for plugins in the namespace `hydra_plugins` only.

Every program of this environment that uses Hydra imports this: so no torch and no Optuna here.
"""

from aecli.sweeps import sweeper


class OptunaSweeper(sweeper.OptunaSweeper):
    """The sweeper of `sweeper=optuna`."""
