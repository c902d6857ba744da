import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from aecli.evaluation.gap import gaps
from aecli.evaluation.quadrature import TOLERANCE
from aecli.priors import Prior, Standard
from tests.evaluation.linear import batches, linear_vae, marginal, true_posterior


@pytest.fixture
def known():
    model = linear_vae()
    x = marginal(model).sample((6,)).view(6, 1, 2, 2)
    mean, log_variance = model.posterior(x)
    q = MultivariateNormal(mean, log_variance.exp().diag_embed())
    return (
        model,
        x,
        marginal(model).log_prob(x.flatten(1)),
        kl_divergence(q, true_posterior(model, x)),
    )


def test_both_sides_are_the_known_gap(known):
    model, x, log_p, kl = known
    found = gaps(model, batches(x, 4), images=6, at_once=1000, samples=5000)
    assert kl.min() > 0.05
    assert torch.allclose(found.kl, kl, atol=TOLERANCE)
    integrated = torch.tensor([each.log_p for each in found.posterior]).double()
    assert torch.allclose(integrated, log_p, atol=TOLERANCE)
    assert torch.allclose(found.log_p, log_p, atol=0.05)
    errors = (found.elbo - (log_p - kl)) / found.elbo_error
    assert errors.abs().max() < 4
    assert errors.abs().max() > 0.05  # the standard error is of the size of the errors
    assert torch.allclose(found.integrated, found.kl, atol=5 * found.elbo_error.max())


def test_of_other_codes_only_the_bound_is_known():
    model = linear_vae(units=3)
    x = marginal(model).sample((3,)).view(3, 1, 2, 2)
    found = gaps(model, batches(x, 3), images=3, at_once=1000, samples=5000)
    assert found.posterior == []
    kl = kl_divergence(
        MultivariateNormal(model.posterior(x).mean, torch.eye(3).double()), true_posterior(model, x)
    )
    assert torch.allclose(found.sampled, kl, atol=0.1)


class Sampled(Standard):
    """N(0, I), of which no formula for the KL is known."""

    kl = Prior.kl


@pytest.mark.parametrize("prior", [Standard, Sampled])
def test_batches_and_what_is_decoded_together_change_nothing(known, prior):
    model, x, *_ = known
    model.prior = prior()
    one = gaps(model, batches(x, 6), images=5, at_once=700, samples=300)
    other = gaps(model, batches(x, 2), images=5, at_once=40, samples=300)
    for name in ("log_p", "elbo", "elbo_error", "kl"):
        assert len(getattr(one, name)) == 5
        assert torch.allclose(getattr(one, name), getattr(other, name), rtol=1e-9)
