"""SIGTERM, by which a cluster says that a job has to go: stop at once, and say how to go on."""

import signal
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer

from aecli.errors import Terminated


def stop_on_sigterm() -> None:
    """Let SIGTERM end this process in order, unless somebody else handles it already.

    Nothing has to be saved then: the checkpoint of the last whole epoch lies on the disk, and a
    run goes on from there.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _stop)


class StopOnSigterm(Callback):
    """Keeps Lightning's own answer to SIGTERM away, which waits for a batch and for other ranks."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put back the answer from before; send it on to the processes that Lightning started."""
        before = trainer._signal_connector._original_handlers.get(signal.SIGTERM)
        if before is not _stop:
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signal.SIGTERM)
            _stop(number, frame)

        signal.signal(signal.SIGTERM, stop)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough
    raise Terminated
