import math

import pytest
import torch

from aecli.data import Batch
from aecli.errors import SettingError
from aecli.evaluation.annealing import Annealing
from aecli.randomness import TORCH, FixedDraws
from tests.evaluation.test_likelihood import linear_gaussian

__all__ = ["linear_gaussian"]


def test_annealing_finds_the_exact_likelihood(linear_gaussian):
    model, x, exact = linear_gaussian
    estimate = Annealing(steps=60, chains=30, images=8).log_likelihood(model, x[:8], TORCH)
    assert torch.allclose(estimate, exact[:8], atol=0.15)
    assert (estimate - exact[:8]).mean().item() == pytest.approx(0, abs=0.06)


def test_the_estimate_of_p_is_unbiased_with_few_steps(linear_gaussian):
    model, x, exact = linear_gaussian
    annealing = Annealing(steps=5, chains=1, images=4)
    many = x[:4].repeat(1500, 1, 1, 1)
    ratio = (annealing.log_likelihood(model, many, TORCH).view(1500, 4) - exact[:4]).exp()
    error = ratio.mean(1).std() / math.sqrt(1500)
    assert ratio.mean().item() == pytest.approx(1, abs=4 * error.item())
    assert error < 0.05
    # In the log it lies below, by Jensen's inequality.
    assert ratio.log().mean() < -0.05


def test_betas_grow_from_0_to_1():
    betas = Annealing(steps=10, chains=1, images=1).betas()
    assert (betas[0], betas[-1], len(betas)) == (0, 1, 11)
    assert betas == sorted(betas)


def test_only_the_first_images_in_bounded_pieces_and_in_any_batches(linear_gaussian):
    model, x, _ = linear_gaussian
    decoded = []
    model.decoder.register_forward_hook(lambda _, inputs, __: decoded.append(len(inputs[0])))
    annealing = Annealing(steps=4, chains=3, images=13)
    values = []
    for size, at_once in ((20, 30), (4, 1000), (7, 5)):
        starts = range(0, 20, size)
        batches = [
            Batch(part, part, torch.zeros(len(part)), draws=FixedDraws(0, start))
            for start, part in zip(starts, x.split(size), strict=True)
        ]
        decoded.clear()
        values.append(annealing(model, batches, at_once))
        assert max(decoded) <= at_once
        assert sum(decoded) % 13 == 0
    assert values == pytest.approx([values[0]] * 3, rel=1e-9)


@pytest.mark.parametrize("key", ["steps", "chains", "images"])
def test_impossible_settings_are_refused(key):
    with pytest.raises(SettingError, match=f"eval.ais.{key}=-1"):
        Annealing(**({"steps": 1, "chains": 1, "images": 1} | {key: -1}))
