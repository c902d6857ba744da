"""The threads of a training: fewer where they do not help, or would take what others hold."""

import logging

import pytest
import torch

from aecli.build import build
from aecli.commands.train import train
from aecli.config import composed
from aecli.threads import Sharing
from aecli.training.threads import LEAST_WORK, multiplications

SHORT = ("model=ae", "trainer.max_epochs=1", "pictures_every=0")
CHOICES = {"model": "ae", "dataset": "digits"}


@pytest.fixture
def looks(monkeypatch):
    """Return a list that grows with every look at the free cores."""
    seen = []
    monkeypatch.setattr(Sharing, "look", lambda self: seen.append(self))
    return seen


@pytest.mark.parametrize(("deterministic", "looks_at_all"), [("false", True), ("true", False)])
def test_cores_are_shared_unless_every_bit_counts(tmp_path, looks, deterministic, looks_at_all):
    settings = (*SHORT, f"trainer.deterministic={deterministic}")
    train(composed("train", *settings), tmp_path, CHOICES)
    assert bool(looks) == looks_at_all


@pytest.mark.parametrize(("hidden", "expected"), [(8, 1), (400, 2)])
def test_a_small_network_takes_one_thread(tmp_path, caplog, looks, hidden, expected):
    caplog.set_level(logging.INFO)
    torch.set_num_threads(2)
    train(composed("train", *SHORT, f"network.hidden=[{hidden}]"), tmp_path, CHOICES)
    said = "threads: 1 of 2, since the network is small" in caplog.text
    assert said == (expected == 1)
    assert 32 * 2 * 64 * 8 < LEAST_WORK < 32 * 2 * 64 * 400
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("model=ae",), 2 * 64 * 400 + 400 * 20 * 2),
        (("model=ae", "network.tied=true"), 2 * 64 * 400 + 400 * 20 * 2),
        (("model=iwae", "model.samples=7"), 64 * 400 + 400 * 40 + 7 * (20 * 400 + 400 * 64)),
        (
            ("model=ae", "network=conv", "network.channels=[3]"),
            2 * 16 * 3 * 9 + 2 * 16 * 3 * 20,  # a kernel of 3×3 at each of 4×4 places
        ),
    ],
    ids=str,
)
def test_the_multiplications_of_a_batch(settings, expected):
    config = composed("train", *settings, "model.code_dim=20", "dataset.batch_size=32")
    model, data = build(config, "model"), build(config, "dataset")
    data.setup("fit")
    state = torch.get_rng_state()
    assert multiplications(model, data) == 32 * expected
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def test_the_threads_are_back_after_a_training_that_failed(tmp_path, monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(Sharing, "look", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(composed("train", *SHORT, "network.hidden=[8]"), tmp_path, CHOICES)
    assert torch.get_num_threads() == 2


def test_a_system_that_does_not_say_what_its_cores_do(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError("/proc/stat")

    monkeypatch.setattr("psutil.cpu_times", refuse)
    train(composed("train", *SHORT), tmp_path, CHOICES)
