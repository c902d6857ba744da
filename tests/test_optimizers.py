import pytest
import torch
from torch import nn

from aecli.errors import SettingError
from aecli.optimizers import ALGORITHMS, Optimization


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_descends(algorithm):
    weight = nn.Parameter(torch.ones(3))
    optimizer = Optimization(algorithm, lr=0.1).optimizer([weight])
    for _ in range(20):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.abs().max() < 0.6


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0.0, [1, 1, 1]),
        ("linear", 0.0, [1, 0.5, 0]),
        ("cosine", 0.0, [1, 0.5, 0]),
        ("cosine", 0.5, [0, 1, 0]),
    ],
)
def test_schedules(schedule, warmup, expected):
    optimization = Optimization("sgd", lr=0.2, schedule=schedule, warmup=warmup)
    optimizer = optimization.optimizer([nn.Parameter(torch.ones(1))])
    scheduler = optimization.scheduler(optimizer, steps=10)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"] / 0.2)
        optimizer.step()
        scheduler.step()
    assert [rates[0], rates[5], rates[10]] == pytest.approx(expected)
    assert optimization.is_constant == (expected == [1, 1, 1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "lion"}, "optimizer.algorithm=lion: must be one of adam, adamw"),
        ({"lr": 0}, "optimizer.lr=0: must be a number above 0"),
        ({"lr": "fast"}, "optimizer.lr=fast"),
        ({"schedule": "step"}, "optimizer.schedule=step"),
        ({"warmup": 1}, "optimizer.warmup=1"),
        ({"weight_decay": -1}, r"optimizer=adam \(weight_decay=-1\): .*-1"),
        ({"betas": [0.9, 2]}, "optimizer=adam"),
        ({"momentum": 0.9}, "optimizer=adam .*momentum"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Optimization(**({"algorithm": "adam", "lr": 1e-3} | settings))
