"""aecli: train, evaluate and compare autoencoders from the command line, and load them in Python.

>>> import aecli
>>> run = aecli.load("latest")
>>> codes = run.encode(examples)

`examples` is an array, a DataFrame, or the path of such data as the run was trained on.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aecli.api import Model
    from aecli.errors import SettingError
    from aecli.estimator import Autoencoder

__version__ = "0.9.0"
__all__ = ["Autoencoder", "Model", "SettingError", "load", "train"]


def train(*words: str, device: str = "auto") -> "Model":
    """Train a run in this process and return its model.

    Args:
        words: those of `aecli train`, such as "model=vae", "dataset=mnist". Nothing is printed or
            written elsewhere than by the command: the run goes to a new directory under outputs/.
        device: of the model that is returned: "auto", "cpu" or "gpu".

    Raises:
        SettingError: with the line that the command would print.
    """
    # Imported here, as everything in this file: `import aecli` alone takes no time.
    from aecli import api, in_process

    return api.open_run(str(in_process.train(words)), device)


def load(
    run: str,
    device: str = "auto",
    root: str | None = None,
    output_dir: str = "outputs",
    file: str | None = None,
    plugins: Sequence[str] = (),
    files: str | Sequence[str] | None = None,
    targets: str | Sequence[str] | None = None,
) -> "Model":
    """Return the model, the data and the configuration of a run.

    Args:
        run: the run's directory, a checkpoint file, or "latest" for the newest run.
        device: "auto", "cpu" or "gpu".
        root: the folder of the data files, if they are no longer where the training had them.
        output_dir: where "latest" is looked for.
        file: the data file, likewise.
        plugins: the modules with parts of your own that the run was made with (docs/own-parts.md).
        files, targets: the files of activations, likewise.

    Raises:
        SettingError: if there is no such run, if `run` is a sweep with several of them, or if the
            checkpoint is damaged or not made by aecli; for a plugin that cannot be imported, and
            one that is needed and not named.
    """
    from aecli import api
    from aecli.plugins import trust

    trust(list(plugins))
    places = {"root": root, "file": file, "files": files, "targets": targets}
    return api.open_run(str(run), device, output_dir, **places)


_PLACES = {
    "Autoencoder": "aecli.estimator",
    "Model": "aecli.api",
    "SettingError": "aecli.errors",
}
"""The modules of the names that are imported once they are asked for."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'aecli' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
