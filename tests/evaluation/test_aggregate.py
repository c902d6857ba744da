import math

import pytest
import torch
from scipy.integrate import quad

from aecli.evaluation import aggregate
from aecli.evaluation.aggregate import aggregated
from aecli.models.vae import Posterior
from tests.evaluation.linear import batches, linear_vae

X = torch.randn(400, 1, 2, 2).double()


def with_posterior(posterior):
    """Return a model that encodes example i of X as `posterior(i)`: means and log-variances."""
    model = linear_vae()
    model.posterior = lambda x: Posterior(*posterior(x))
    return model


def test_where_all_posteriors_are_one_nothing_is_known_of_the_image():
    mean, log_variance = torch.tensor([0.5, -1.0]).double(), torch.tensor([-1.0, 0.3]).double()
    model = with_posterior(lambda x: (mean.expand(len(x), 2), log_variance.expand(len(x), 2)))
    found = aggregated(model, batches(X, 100), images=400)
    exact = Posterior(mean[None], log_variance[None]).kl().item()
    assert found.information.abs().max() < 1e-6
    error = found.divergence.std() / 20
    assert found.divergence.mean().item() == pytest.approx(exact, abs=4 * error.item())
    assert found.unit_divergence.sum().item() == pytest.approx(exact, abs=1e-6)
    assert torch.allclose(found.unit_kl, found.unit_divergence, atol=1e-6)


def test_where_posteriors_are_apart_the_code_says_which_image_it_is():
    places = torch.arange(400).double()
    model = with_posterior(
        lambda x: (torch.stack([places, -places], 1), torch.full((400, 2), -9.0))
    )
    found = aggregated(model, batches(X, 400), images=400)
    assert found.information.mean().item() == pytest.approx(math.log(400), abs=1e-6)


def test_the_two_parts_are_the_mean_divergence():
    """(1/n) Σ KL(q(z|x_i) ‖ p) = I(i; z) + KL(q(z) ‖ p)."""
    model = with_posterior(lambda x: (2 * x.flatten(1)[:, :2], x.flatten(1)[:, 2:] - 1))
    found = aggregated(model, batches(X, 400), images=400)
    parts = found.information + found.divergence
    exact = Posterior(found.mean, found.log_variance).kl().mean().item()
    assert parts.mean().item() == pytest.approx(exact, abs=4 * parts.std().item() / 20)
    assert found.unit_kl.sum().item() == pytest.approx(exact)


def test_a_units_divergence_is_the_integral():
    model = with_posterior(lambda x: (2 * x.flatten(1)[:, :2], x.flatten(1)[:, 2:] - 2))
    found = aggregated(model, batches(X[:5], 5), images=5)

    def integrand(z):
        each = torch.distributions.Normal(found.mean[:, 1], (0.5 * found.log_variance[:, 1]).exp())
        q = each.log_prob(torch.tensor(z)).exp().mean().item()
        return q * (math.log(q) + 0.5 * z * z + 0.5 * math.log(2 * math.pi)) if q else 0.0

    exact = quad(integrand, -15, 15, limit=500)[0]
    assert found.unit_divergence[1].item() == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("deviation", [3e-4, 1e-9])
def test_narrow_posteriors_at_two_places_are_two_components(deviation):
    """Of half of the images each: log q(z) = log ½ + log N, exactly, however narrow N is."""
    places = torch.tensor([-3.0, 3.0]).repeat(200)
    log_variance = torch.full((400, 2), 2 * math.log(deviation))
    model = with_posterior(lambda x: (torch.stack([places, -places], 1), log_variance))
    found = aggregated(model, batches(X, 400), images=400)
    assert found.information.mean().item() == pytest.approx(math.log(2), abs=1e-6)
    exact = 4.5 - math.log(deviation) - 0.5 - math.log(2)
    assert found.integrated.tolist() == [deviation > 1e-6] * 2
    # By samples (z − mean)² / σ² is a mean of 400 squares, of z rounded to float32.
    tolerance = 1e-4 if deviation > 1e-6 else 0.6
    assert found.unit_divergence.tolist() == pytest.approx([exact] * 2, abs=tolerance)


def test_a_finer_grid_than_there_is_time_for_gives_way_to_samples(monkeypatch):
    model = with_posterior(lambda x: (2 * x.flatten(1)[:, :2], x.flatten(1)[:, 2:] - 2))
    by_grid = aggregated(model, batches(X, 400), images=400)
    monkeypatch.setattr(aggregate, "MOST_DENSITIES", 1)
    by_samples = aggregated(model, batches(X, 400), images=400)
    assert by_grid.integrated.all()
    assert not by_samples.integrated.any()
    assert torch.allclose(by_samples.unit_divergence, by_grid.unit_divergence, atol=0.2)


def test_batches_change_nothing_and_only_the_images_asked_for_count():
    model = with_posterior(lambda x: (2 * x.flatten(1)[:, :2], x.flatten(1)[:, 2:] - 1))
    one = aggregated(model, batches(X, 400), images=150)
    other = aggregated(model, batches(X, 64), images=150)
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a, b)
    assert len(one.mean) == 150
