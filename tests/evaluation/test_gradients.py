import math

import numpy as np
import pytest
import torch

from aecli.evaluation.gradients import agreement, spreads
from aecli.models.vae import log_normal
from aecli.priors import Prior, Standard
from tests.evaluation.linear import SIGMA, batches, linear_vae, marginal

DRAWS = 20_000


@pytest.fixture
def known():
    model = linear_vae()
    model.encoder[1].bias[2:] = torch.tensor([-1.0, 0.5]).double()  # log σ²
    return model, marginal(model).sample((2,)).view(2, 1, 2, 2)


def exact(model, x):
    """Return each estimator's mean and variance by a Gauss-Hermite rule that is exact here."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    noise = torch.cartesian_prod(*[torch.tensor(nodes)] * 2)
    share = torch.tensor(np.outer(weights, weights).ravel() / weights.sum() ** 2)
    weight, bias = model.decoder[0].weight, model.decoder[0].bias
    found = {"score": [], "reparameterized": []}
    for mean, log_variance, image in zip(*model.posterior(x), x.flatten(1), strict=True):
        sigma = (0.5 * log_variance).exp()
        z = mean + sigma * noise
        left = image - bias - z @ weight.T
        value = log_normal(left, torch.zeros(4), torch.full((4,), 2 * math.log(SIGMA)).double())[
            :, None
        ]
        slope = left @ weight / SIGMA**2
        exact_part = torch.cat([-mean, 1 - sigma**2])
        estimates = {
            "score": value * torch.cat([noise / sigma, noise**2 - 1], dim=1) + exact_part,
            "reparameterized": torch.cat([slope, slope * sigma * noise], dim=1) + exact_part,
        }
        for name, each in estimates.items():
            average = share @ each
            found[name].append((average, share @ (each - average) ** 2))
    return {n: [torch.stack(part) for part in zip(*each, strict=True)] for n, each in found.items()}


def test_means_and_variances_are_those_of_a_known_model(known):
    model, x = known
    found = spreads(model, batches(x, 2), images=2, at_once=5000, draws=DRAWS)
    assert torch.allclose(
        *(mean for mean, _ in exact(model, x).values()), atol=1e-6
    )  # the same gradient
    for name, (mean, variance) in exact(model, x).items():
        error = (variance / DRAWS).sqrt()
        assert ((found[name].mean - mean) / error).abs().max() < 4
        assert torch.allclose(found[name].variance, variance, rtol=0.3)
    score, path = (exact(model, x)[name][1].sum() for name in ("score", "reparameterized"))
    ratio = found["score"].total.sum() / found["reparameterized"].total.sum()
    assert float(ratio) == pytest.approx(float(score / path), rel=0.1)
    assert ratio > 10
    assert found["baseline"].total.sum() < found["score"].total.sum()


def test_agreement_tells_the_same_mean_from_another(known):
    model, x = known
    found = spreads(model, batches(x, 2), images=2, at_once=5000, draws=2000)
    path = found["reparameterized"]
    for name in ("score", "baseline"):
        assert 0.3 < agreement(found[name], path, 2000) < 2
    other = path._replace(mean=path.mean + 5 * found["baseline"].variance.sqrt())
    assert agreement(found["baseline"], other, 2000) > 10


def test_with_another_prior_the_gradient_is_that_of_the_same_elbo(known):
    """N(0, I) in disguise: its KL is then estimated, without bias."""

    class Disguised(Prior):
        log_prob = Standard.log_prob
        sample = Standard.sample

    model, x = known
    mean = exact(model, x)["reparameterized"][0]
    model.prior = Disguised()
    found = spreads(model, batches(x, 2), images=2, at_once=5000, draws=DRAWS)
    for spread in found.values():
        assert ((spread.mean - mean) / (spread.variance / DRAWS).sqrt()).abs().max() < 4


def test_batches_and_what_is_decoded_together_change_nothing(known):
    model, x = known
    one = spreads(model, batches(x, 2), images=2, at_once=5000, draws=50)
    other = spreads(model, batches(x, 1), images=2, at_once=7, draws=50)
    for name, spread in one.items():
        assert torch.allclose(spread.mean, other[name].mean)
        assert torch.allclose(spread.variance, other[name].variance)
