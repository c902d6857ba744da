import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from aecli.evaluation.quadrature import TOLERANCE, integrated

LOW, HIGH = torch.tensor([-10.0, -8.0]).double(), torch.tensor([9.0, 11.0]).double()


def normal(mean, covariance):
    return MultivariateNormal(torch.tensor(mean).double(), torch.tensor(covariance).double())


def test_of_two_normals_it_is_the_closed_form():
    p = normal([1.0, -0.5], [[0.3, 0.12], [0.12, 0.1]])
    q = normal([0.9, -0.4], [[0.04, 0.0], [0.0, 0.01]])
    found = integrated(lambda z: torch.stack([p.log_prob(z) - 300, q.log_prob(z)]), LOW, HIGH)
    assert found.log_p == pytest.approx(-300, abs=TOLERANCE)
    assert found.log_q == pytest.approx(0, abs=TOLERANCE)
    assert found.kl == pytest.approx(kl_divergence(q, p).item(), abs=TOLERANCE)
    assert found.change <= TOLERANCE


def test_a_narrow_mode_far_from_q_is_found():
    wide, narrow = normal([2.0, 2.0], [[1.0, 0], [0, 1.0]]), normal([-7, 6], [[4e-4, 0], [0, 4e-4]])

    def densities(z):
        both = torch.logaddexp(wide.log_prob(z), narrow.log_prob(z) + math.log(3))
        return torch.stack([both, wide.log_prob(z)])

    found = integrated(densities, LOW, HIGH)
    assert found.log_p == pytest.approx(math.log(4), abs=0.01)
    assert found.kl == pytest.approx(math.log(4), abs=0.01)


def test_where_q_is_p_up_to_a_factor_the_divergence_is_zero():
    q = normal([0.0, 1.0], [[0.5, 0.0], [0.0, 0.2]])
    found = integrated(lambda z: torch.stack([q.log_prob(z) + 7, q.log_prob(z)]), LOW, HIGH)
    assert found.kl == pytest.approx(0, abs=1e-9)
    assert found.log_p - found.log_q == pytest.approx(7)
