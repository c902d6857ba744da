"""SIGTERM ends a training at once, whatever Lightning would do about it."""

import os
import signal

import lightning.pytorch as pl
import pytest

from aecli.commands.train import train
from aecli.signals import Terminated, stop_on_sigterm
from tests.conftest import configure


class Terminates(pl.Callback):
    """Sends SIGTERM to its own process within the first batch."""

    survived = False

    def on_train_batch_start(self, *args):
        os.kill(os.getpid(), signal.SIGTERM)
        self.survived = True


@pytest.fixture
def handler():
    """Return what sets a handler of SIGTERM; put back the one from before."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda handler: signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGTERM, before)


SHORT = ("trainer=debug", "network.hidden=[8]", "pictures_every=0")


def test_sigterm_ends_a_training_in_the_middle_of_a_batch(tmp_path, handler):
    handler(signal.SIG_DFL)
    stop_on_sigterm()
    config, choices = configure(*SHORT)
    terminates = Terminates()
    with pytest.raises(Terminated):
        train(config, tmp_path, choices, callbacks=[terminates])
    assert not terminates.survived


def test_a_handler_of_somebody_else_stays(tmp_path, handler):
    heard = []
    handler(lambda number, frame: heard.append(number))
    config, choices = configure(*SHORT)
    with pytest.raises(SystemExit):  # Lightning's way, once the batch has ended
        train(config, tmp_path, choices, callbacks=[terminates := Terminates()])
    assert terminates.survived
    assert heard == [signal.SIGTERM]
