import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torchmetrics.image.kid import poly_mmd

from aecli.evaluation import distances
from aecli.evaluation.distances import kernel_distance, mmd2, nearest, precision_recall


def test_the_kernel_distance_is_that_of_another_library():
    a, b = torch.randn(70, 5).double(), 1 + torch.randn(70, 5).double()
    assert mmd2(a, b).item() == pytest.approx(poly_mmd(a, b).item())


def test_the_kernel_distance_has_no_bias_and_says_its_error():
    values = [kernel_distance(torch.randn(200, 3), torch.randn(200, 3)) for _ in range(200)]
    differences = torch.tensor([each.value for each in values])
    assert differences.mean().abs() < 4 * differences.std() / math.sqrt(200)
    assert differences.min() < 0
    errors = torch.tensor([each.error for each in values])
    assert errors.square().mean().sqrt().item() == pytest.approx(differences.std().item(), rel=0.2)
    assert kernel_distance(torch.randn(200, 3), 1 + torch.randn(200, 3)).value > 1


def test_one_row_more_makes_no_block_of_its_own(monkeypatch):
    sizes = []
    monkeypatch.setattr(distances, "mmd2", lambda a, b: sizes.append(len(a)) or torch.zeros(()))
    kernel_distance(torch.randn(101, 3), torch.randn(111, 3))
    assert sizes == [11] + 9 * [10]


def by_hand(samples, data, k):
    """Precision as in Kynkäänniemi et al. 2019, eq. 1 and 2, with scikit-learn's neighbours."""
    radius = NearestNeighbors(n_neighbors=k + 1).fit(data).kneighbors(data)[0][:, -1]
    apart = np.linalg.norm(samples[:, None] - data[None], axis=2)
    return (apart <= radius).any(axis=1).mean()


def test_precision_and_recall_are_those_of_the_paper(monkeypatch):
    samples, data = torch.randn(120, 4).double(), 0.5 + 1.5 * torch.randn(150, 4).double()
    expected = by_hand(samples.numpy(), data.numpy(), 3), by_hand(data.numpy(), samples.numpy(), 3)
    assert 0.1 < expected[1] < expected[0] < 1
    assert precision_recall(samples, data) == pytest.approx(expected)
    monkeypatch.setattr(distances, "TOGETHER", 1000)  # a few rows at a time
    assert precision_recall(samples, data) == pytest.approx(expected)


def test_a_dropped_mode_costs_recall_and_strange_samples_precision():
    one, other = torch.randn(300, 2), 50 + torch.randn(300, 2)
    both = torch.cat([torch.randn(300, 2), 50 + torch.randn(300, 2)])
    dropped, strange = precision_recall(one, both), precision_recall(torch.cat([one, other]), one)
    assert dropped.precision > 0.95
    assert 0.4 < dropped.recall < 0.55
    assert strange.precision == pytest.approx(0.5, abs=0.01)
    assert strange.recall == 1


def test_the_nearest_is_that_of_scikit_learn():
    rows, others = torch.randn(40, 3).double(), torch.randn(90, 3).double()
    apart, _ = NearestNeighbors(n_neighbors=4).fit(others).kneighbors(rows)
    for count in (1, 4):
        assert torch.allclose(nearest(rows, others, count), torch.from_numpy(apart[:, count - 1]))
