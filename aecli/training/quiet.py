"""Other libraries' messages go to the run's log; the terminal is for what a user can use."""

import logging
import warnings

QUIETENED = ("lightning", "lightning.pytorch", "lightning.fabric")
"""The loggers that `quieten` changes."""


def quieten() -> None:
    """Let the loggers of Lightning say what is wrong alone, and warnings go to the log."""
    logging.captureWarnings(True)
    # Lightning advises srun wherever there is one, as on a login node. One process needs none, and
    # `prepare_for_lightning` sees to it that srun is used where it has to be.
    warnings.filterwarnings("ignore", "The `srun` command is available on your system")
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is no news
    for name in QUIETENED:
        logging.getLogger(name).setLevel(logging.WARNING)
