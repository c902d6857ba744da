"""Whether `resume=` would take a run's last checkpoint: checked without its data and its device."""

from aecli import __version__
from aecli.build import build
from aecli.config import plain
from aecli.distributed import prepare_for_lightning
from aecli.errors import SettingError
from aecli.runs.checkpoint import only_setting_errors, read
from aecli.runs.rebuilt import rebuilt
from aecli.runs.resume import State
from aecli.training.arguments import check_arguments
from aecli.training.average import averages
from aecli.training.speed import FASTEST, Arithmetic
from aecli.training.trainer import build_trainer, own_callbacks

ANYWHERE = {"accelerator": "cpu", "devices": 1, "strategy": "auto", "max_epochs": -1}
"""A trainer of one process, and without an end, so that it does not count batches of the data."""


def check_resumable(state: State) -> None:
    """Refuse a run whose training `aecli train resume=` would refuse to go on with.

    A run of another version of aecli is left to that version. Nothing is trained or written.
    Raises `SettingError` in the words of `aecli train`.
    """
    found = state.stored()
    if state.last is None or found.version != __version__:
        return
    config = found.config
    check_arguments(plain(config.trainer))
    epochs = config.trainer.max_epochs
    precision = config.trainer.precision
    arithmetic = Arithmetic(*(found.arithmetic or (precision, False)))
    if arithmetic.precision == FASTEST:
        arithmetic = Arithmetic("32-true", compiled=False)
    config.trainer.update(ANYWHERE)
    prepare_for_lightning()
    model = build(config, "model")
    callbacks = [*own_callbacks(config), *averages(config, model)]
    trainer = build_trainer(config, state.directory, found.choices, callbacks, arithmetic)
    trainer.strategy.connect(model)
    trainer.lightning_module.trainer = trainer
    contents = read(state.last)
    try:
        with only_setting_errors(state.last, contents):
            rebuilt(contents, state.last, trainer, epochs)
    except SettingError as error:
        raise SettingError(str(error).replace("run=", "resume=", 1)) from error
