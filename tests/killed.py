"""Trains, is killed, goes on: `python -m tests.killed DIRECTORY` for test_interruption.

Each training but the last one is killed: at a random moment of an epoch, or within the writing of
a checkpoint, of which there are some within the epochs, too. The epochs are drawn from the whole
training, one from each of its parts.
"""

import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import lightning.pytorch as pl

from aecli.commands.train import train
from aecli.runs.resume import last_checkpoint
from aecli.training import loop
from aecli.training.quiet import quieten
from tests.conftest import configure

EPOCHS, KILLS = 60, 20
SETTINGS = (
    "model=vae", "network.hidden=[16]", f"trainer.max_epochs={EPOCHS}", "pictures_every=7",
)  # fmt: skip
HALF_A_CHECKPOINT = 20_000
"""Bytes; a checkpoint of this model has 58 kB."""
HOW = ("at any moment", "half a checkpoint written", "a checkpoint written, not yet in its place")


class Fate(pl.Callback):
    """Says by a pipe that the epoch of the kill has begun, or ends the process in that epoch."""

    def __init__(self, epoch: int, how: str, pipe: int) -> None:
        self.epoch, self.how, self.pipe = epoch, how, pipe

    def on_train_epoch_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epoch and self.how == "at any moment":
            os.write(self.pipe, b"!")

    def on_save_checkpoint(self, trainer: pl.Trainer, model: pl.LightningModule, _: dict) -> None:
        if trainer.current_epoch < self.epoch:
            return
        if self.how == "half a checkpoint written":
            # The write that goes past the limit ends the process, without a core dump.
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (HALF_A_CHECKPOINT, resource.RLIM_INFINITY))
        elif self.how == "a checkpoint written, not yet in its place":
            sys.addaudithook(_die_before_a_rename)


def _die_before_a_rename(event: str, _: tuple) -> None:
    if event == "os.rename":
        os.kill(os.getpid(), signal.SIGKILL)


def main(directory: Path) -> None:
    """Kill a training `KILLS` times, say what lies there each time, then let it end."""
    chance, seconds = random.Random(0), 0.1  # an epoch takes about as long
    for number in range(KILLS):
        part = EPOCHS / KILLS
        epoch = chance.randrange(int(part * number), int(part * (number + 1)))
        ours, theirs = os.pipe()
        child = _start(directory, Fate(epoch, HOW[number % len(HOW)], theirs))
        os.close(theirs)
        if os.read(ours, 1):  # b"" if the child has ended
            time.sleep(chance.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
        os.close(ours)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        written = ",".join(sorted(path.name for path in (directory / "checkpoints").glob("*")))
        print(f"{epoch} {code} {written}", flush=True)  # noqa: T201
    _, status = os.waitpid(_start(directory), 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def _start(directory: Path, *callbacks: pl.Callback) -> int:
    child = os.fork()  # no second import of torch: twenty of these are a minute
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # TensorBoard prints
        quieten()
        loop.SAVED_EVERY, loop.SAVING_TAKES = 0.02, 1.0
        config, choices = configure(*SETTINGS)
        train(config, directory, choices, last_checkpoint(directory), callbacks)
        os._exit(0)
    return child


if __name__ == "__main__":
    main(Path(sys.argv[1]))
