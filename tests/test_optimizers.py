import pytest
import torch
from torch import nn

from aecli.errors import SettingError
from aecli.optimizers import ALGORITHMS, Optimization, burda


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_descends(algorithm):
    weight = nn.Parameter(torch.ones(3))
    optimizer = Optimization(algorithm, lr=0.1).optimizer([weight])

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    for _ in range(20):
        optimizer.step(closure)
    assert weight.abs().max() < 0.6


def test_lbfgs_minimizes_the_cost_with_the_decay_of_the_weights_but_not_of_the_biases():
    weight, bias = nn.Parameter(torch.zeros(1, 2)), nn.Parameter(torch.zeros(2))
    settings = {"weight_decay": 0.25, "line_search_fn": "strong_wolfe"}
    optimizer = Optimization("lbfgs", lr=1.0, **settings).optimizer([weight, bias])

    def closure():
        optimizer.zero_grad()
        loss = 0.5 * (weight - 3).square().sum() + 0.5 * (bias - 3).square().sum()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert float(first) == pytest.approx(18)
    assert weight.tolist()[0] == pytest.approx([3 / 1.25] * 2, rel=1e-4)
    assert bias.tolist() == pytest.approx([3, 3], rel=1e-4)


def test_steps_fall_by_their_factor():
    optimization = Optimization("adam", 1.0, schedule="steps", steps=[0.4, 0.7], step_factor=0.5)
    assert [optimization.factor(done) for done in (0, 0.39, 0.4, 0.7, 1)] == [1, 1, 0.5, 0.25, 0.25]
    assert not optimization.is_constant


def test_stages_are_parts_of_the_whole_training_with_a_warmup_too():
    optimization = Optimization("adam", 1.0, schedule="steps", steps=[0.5], warmup=0.2)
    rates = [optimization.factor(done) for done in (0, 0.1, 0.2, 0.49, 0.5, 1)]
    assert rates == pytest.approx([0, 0.5, 1, 1, 0.1, 0.1])
    optimization = Optimization("adam", 1.0, schedule="burda", warmup=0.2)
    assert optimization.factor(0.1) == pytest.approx(0.5 * burda(0.1))
    assert optimization.factor(0.7) == burda(0.7)


@pytest.mark.parametrize(
    ("warmup", "decay"),
    [(0.0, 0.2), (0.05, 0.2), (0.25, 0.75), (0.1, 0.5), (0.8, 0.2), (0.9, 0.1)],
)
def test_a_trapezoid_rises_stays_and_falls_to_0_over_the_last_share(warmup, decay):
    optimization = Optimization("adam", 1.0, schedule="trapezoid", warmup=warmup, decay=decay)
    for step in range(101):
        done = step / 100
        up = 1.0 if warmup == 0 else done / warmup
        assert optimization.factor(done) == pytest.approx(
            min(1.0, up, (1 - done) / decay), abs=1e-12
        )
    assert not optimization.is_constant


def test_burda_has_stages_of_3_to_the_i_parts():
    epochs = [round(10 ** (-i / 7), 6) for i in range(8) for _ in range(3**i)]
    assert len(epochs) == 3280
    assert [round(burda(epoch / 3280), 6) for epoch in range(3280)] == epochs
    assert burda(1.0) == pytest.approx(0.1)


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
        (
            {"schedule": "steps", "steps": [2]},
            r"optimizer.steps=\[2\]: must .* each value must be a number in",
        ),
        ({"schedule": "steps"}, r"optimizer.steps=\[\]: must be a list of at least one"),
        ({"schedule": "steps", "steps": [0.5], "step_factor": 0}, "optimizer.step_factor=0"),
        ({"steps": [0.5]}, "optimizer.steps=.*: goes with optimizer.schedule=steps"),
        ({"step_factor": 0.5}, "optimizer.step_factor=0.5: goes with optimizer.schedule=steps"),
        ({"decay": 0.5}, "optimizer.decay=0.5: goes with optimizer.schedule=trapezoid"),
        ({"schedule": "trapezoid", "decay": 0}, r"optimizer.decay=0: must be a number in \]0, 1\]"),
        (
            {"schedule": "trapezoid", "warmup": 0.9},
            "optimizer.decay=0.2: with optimizer.warmup=0.9 at most 0.1 of the training are left",
        ),
        ({"algorithm": "lbfgs", "history_size": 2**31 - 1}, "optimizer.history_size=2147483647"),
        ({"algorithm": "lbfgs", "line_search_fn": "wolfe"}, "optimizer.line_search_fn=wolfe"),
        ({"algorithm": "sgd", "nesterov": True}, "optimizer.nesterov=true: needs"),
        ({"eps": float("inf")}, "optimizer.eps=inf: must be a number"),
        ({"algorithm": "lbfgs", "weight_decay": -1}, "optimizer.weight_decay=-1"),
        ({"weight_decay": -1}, "optimizer.weight_decay=-1: must be a number"),
        ({"betas": [0.9, 2]}, r"optimizer.betas=\[0.9,2\]: must .* each value must be a number in"),
        ({"betas": ""}, "optimizer.betas=: must be a list of 2 values"),
        ({"momentum": 0.9}, "optimizer.momentum=0.9: no such setting of adam"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Optimization(**({"algorithm": "adam", "lr": 1e-3} | settings))
