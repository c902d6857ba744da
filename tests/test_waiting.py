"""Processes that wait for others which never come."""

import socket
from datetime import timedelta

import pytest

from aecli import distributed
from aecli.errors import SettingError
from aecli.training.speed import Arithmetic
from aecli.training.trainer import build_trainer
from tests.conftest import configure


@pytest.mark.slow
def test_a_process_says_what_it_waits_for_and_does_not_wait_for_ever(monkeypatch, capsys):
    started = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "RANK": "0"}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    for name, value in (started | place).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "WAIT", timedelta(seconds=2))
    monkeypatch.setattr(distributed, "SILENT", 0.1)
    with pytest.raises(
        SettingError, match=f"not all of them reached 127.0.0.1:{place['MASTER_PORT']}"
    ):
        distributed.agree("")
    assert "aecli: rank 0 of 2 waits at 127.0.0.1:" in capsys.readouterr().err


def test_machines_that_nobody_started_are_not_waited_for(tmp_path):
    config, choices = configure("trainer=ddp", "+trainer.num_nodes=2")
    with pytest.raises(SettingError, match=r"trainer.num_nodes=2: .* torchrun or srun"):
        build_trainer(config, tmp_path, choices, [], Arithmetic("32-true", compiled=False))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
