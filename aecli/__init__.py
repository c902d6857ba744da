"""aecli: train, evaluate and compare autoencoders from the command line, and load them in Python.

>>> import aecli
>>> run = aecli.load("latest")
>>> batch = next(iter(run.data.batches("test")))
>>> codes = run.model.encode(batch.original)
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aecli.runs.load import Loaded

__version__ = "0.3.0"


def load(
    run: str,
    device: str = "auto",
    root: str | None = None,
    output_dir: str = "outputs",
    plugins: Sequence[str] = (),
) -> "Loaded":
    """Return the model, the data and the configuration of a run.

    Args:
        run: the run's directory, a checkpoint file, or "latest" for the newest run.
        device: "auto", "cpu" or "gpu".
        root: the folder of the data files, if they are no longer where the training had them.
        output_dir: where "latest" is looked for.
        plugins: the modules with parts of your own that the run was made with (docs/own-parts.md).

    Raises:
        SettingError: if there is no such run, if `run` is a sweep with several of them, or if the
            checkpoint is damaged or not made by aecli; for a plugin that cannot be imported, and
            one that is needed and not named.
    """
    # Imported here: `import aecli` alone takes no time.
    from aecli.errors import SettingError
    from aecli.plugins import trust
    from aecli.runs import find
    from aecli.runs import load as loading

    trust(list(plugins))
    runs = find.find(run, output_dir)
    if len(runs) > 1:
        raise SettingError(f"run={run}: is a sweep of {len(runs)} runs; name one of them")
    return loading.load(runs[0], device, root)
