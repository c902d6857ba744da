import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from aecli.errors import SettingError
from aecli.likelihoods import (
    MSE,
    Bernoulli,
    ContinuousBernoulli,
    CrossEntropy,
    Gaussian,
    Likelihood,
)

GREY = torch.tensor([0.0, 0.25, 1.0])
BINARY = torch.tensor([0.0, 1.0])


@pytest.fixture
def parameters():
    return torch.randn(16, 1, 8, 8)


def test_bernoulli_is_the_binary_cross_entropy_summed_over_pixels(parameters, images):
    x = images.round()
    expected = F.binary_cross_entropy_with_logits(parameters, x, reduction="none").sum((1, 2, 3))
    for likelihood in (Bernoulli(), CrossEntropy()):
        p = likelihood(parameters)
        assert torch.allclose(-p.log_prob(x), expected, rtol=1e-5)
        assert torch.allclose(p.mean, parameters.sigmoid())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 5), (1, 28, 28)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_bernoulli_is_the_same_with_and_without_a_gradient(shape, scale):
    logits = scale * torch.randn(4, 6, *shape)
    for x in (torch.rand(6, *shape), torch.rand(6, *shape).round()):
        p = Bernoulli()(logits)
        expected = p.log_prob(x)
        with torch.no_grad():
            assert torch.allclose(p.log_prob(x), expected, rtol=1e-5, atol=1e-4)
            half = Bernoulli()(logits.bfloat16()).log_prob(x)
        assert half.dtype == torch.float32


def test_a_sure_decoders_log_likelihood_is_exact_without_a_gradient():
    x = (torch.rand(20, 1, 28, 28) < 0.2).float()
    logits = (2 * x - 1) * (20 + 60 * torch.rand_like(x))
    logits[..., 0, 0] *= -1  # surely wrong
    with torch.no_grad():
        found = Bernoulli()(logits).log_prob(x)
    exact = -F.softplus((1 - 2 * x) * logits.double()).sum((1, 2, 3))
    assert torch.allclose(found.double(), exact, rtol=1e-6)


def test_gaussian_is_its_formula_and_sigma_can_be_learned(parameters, images):
    likelihood = Gaussian(0.3, learn_sigma=True)
    squares = (images - parameters).square().flatten(1).sum(1)
    expected = -squares / (2 * 0.09) - 64 * (math.log(0.3) + 0.5 * math.log(2 * math.pi))
    log_p = likelihood(parameters).log_prob(images)
    assert torch.allclose(log_p, expected, rtol=1e-4)
    log_p.sum().backward()
    assert likelihood.log_sigma.grad != 0
    assert not list(Gaussian(0.3).parameters())


def test_mse_is_the_plain_squared_error(parameters, images):
    p = MSE()(parameters)
    assert torch.allclose(-p.log_prob(images), (images - parameters).square().sum((1, 2, 3)))
    assert p.mean is parameters


def test_mse_has_a_weight_and_a_sigmoid_output(parameters, images):
    p = MSE(weight=0.5, output="sigmoid")(parameters)
    expected = 0.5 * (images - parameters.sigmoid()).square().sum((1, 2, 3))
    assert torch.allclose(-p.log_prob(images), expected)
    assert torch.equal(p.mean, parameters.sigmoid())
    with pytest.raises(SettingError, match=r"likelihood\.weight=0: must be"):
        MSE(weight=0)
    with pytest.raises(SettingError, match=r"likelihood\.output=tanh: must be one of linear, sig"):
        MSE(output="tanh")


@pytest.mark.parametrize("likelihood", [Bernoulli(), CrossEntropy(), MSE(output="sigmoid")])
def test_who_takes_logits_has_their_sigmoid_as_mean(likelihood, parameters):
    assert likelihood.takes_logits
    assert torch.allclose(likelihood(parameters).mean, parameters.sigmoid())
    assert not any(other.takes_logits for other in (MSE(), Gaussian(1.0), ContinuousBernoulli()))


def test_the_mean_of_a_continuous_bernoulli_is_exact_to_float32():
    """Torch's own is off by up to 0.06, where its two terms cancel or a sigmoid saturates."""
    logits = torch.cat([torch.linspace(-200, 200, 4001), torch.linspace(-1, 1, 4001)])
    wide = logits.double()
    exact = torch.where(wide.abs() < 1e-3, 0.5 + wide / 12, -1 / torch.expm1(-wide) - 1 / wide)
    found = ContinuousBernoulli()(logits[:, None]).mean[:, 0]
    torch.testing.assert_close(found.double(), exact, atol=5e-7, rtol=0)
    assert ContinuousBernoulli()(torch.tensor([[0.0]])).mean == 0.5


@pytest.mark.parametrize("logit", [-40.0, -3.0, -0.01, 0.0, 2.0])
def test_continuous_bernoulli_integrates_to_one_and_has_its_mean(logit):
    x = torch.linspace(0, 1, 20001, dtype=torch.float64)
    parameters = torch.full((20001, 1, 1, 1), logit, dtype=torch.float64)
    p = ContinuousBernoulli()(parameters)
    density = p.log_prob(x.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-4)
    assert torch.trapezoid(x * density, x).item() == pytest.approx(p.mean[0].item(), abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_p_of_a_continuous_bernoulli_is_exact_for_every_logit(dtype):
    """Torch's own clamps the probability: at -1000 its density integrates to 0.016."""
    logits = torch.cat([torch.linspace(-1, 1, 401), torch.linspace(-1000, 1000, 401)]).to(dtype)
    x = torch.linspace(0, 1, 11)[:, None].expand(-1, len(logits))
    wide = logits.double().requires_grad_()
    zero = wide.detach().abs() < 1e-3
    at = torch.where(zero, 1.0, wide)
    log_z = torch.where(
        zero, wide / 2 + wide**2 / 24, at.clamp_min(0) + (-torch.expm1(-at.abs()) / at.abs()).log()
    )
    exact = x.double() * wide - log_z
    logits = logits.float().requires_grad_()
    parameters = logits.to(dtype).expand(11, -1).reshape(-1, 1)
    found = ContinuousBernoulli()(parameters).log_prob(x.reshape(-1, 1)).view(x.shape)
    torch.testing.assert_close(found.double(), exact, atol=1e-6, rtol=1e-6)
    (expected,), (got,) = (
        torch.autograd.grad(log_p.sum(), of) for log_p, of in ((exact, wide), (found, logits))
    )
    rounding = 2e-5 if dtype == torch.float32 else 0.02  # of the gradients that are added up
    torch.testing.assert_close(got.double(), expected, atol=rounding, rtol=1e-2)


@pytest.mark.parametrize(
    "likelihood", [Bernoulli(), CrossEntropy(), ContinuousBernoulli(), Gaussian(1.0), MSE()]
)
def test_one_number_per_image_and_a_gradient(likelihood, parameters, images):
    parameters.requires_grad_()
    log_p = likelihood(parameters).log_prob(images.round())
    assert log_p.shape == (16,)
    log_p.sum().backward()
    assert torch.isfinite(parameters.grad).all()
    assert (parameters.grad != 0).any()


@pytest.mark.parametrize(
    ("likelihood", "values", "fits"),
    [
        (Bernoulli(), BINARY, True),
        (Bernoulli(), GREY, False),
        (CrossEntropy(), GREY, True),
        (CrossEntropy(), GREY * 2, False),
        (ContinuousBernoulli(), GREY, True),
        (ContinuousBernoulli(), GREY - 0.5, False),
        (Gaussian(1.0), GREY * 9, True),
        (MSE(), GREY * 9, True),
    ],
)
def test_data_outside_the_support_is_refused(likelihood, values, fits):
    if fits:
        likelihood.check(values)
    else:
        with pytest.raises(SettingError, match="likelihood="):
            likelihood.check(values)


@pytest.mark.parametrize("sigma", [0, -1, "big"])
def test_impossible_sigma_is_refused(sigma):
    with pytest.raises(SettingError, match=f"likelihood.sigma={sigma}: must be a number of at"):
        Gaussian(sigma)


@pytest.mark.parametrize(
    ("likelihood", "support"),
    [
        (Bernoulli(), BINARY),
        (CrossEntropy(), torch.linspace(0, 1, 2001)),
        (ContinuousBernoulli(), torch.linspace(0, 1, 2001)),
        (Gaussian(0.3), torch.linspace(-9, 9, 20001)),
        (MSE(), torch.linspace(-9, 9, 20001)),
    ],
)
def test_densities_are_those_whose_probabilities_sum_to_one(likelihood, support):
    p = likelihood(torch.full((len(support), 1, 1, 1), 0.7)).log_prob(support.view(-1, 1, 1, 1))
    total = p.exp().sum() if len(support) == 2 else torch.trapezoid(p.exp(), support)
    assert likelihood.is_density == (abs(total.item() - 1) < 1e-3)


KINDS = [Bernoulli(), CrossEntropy(), ContinuousBernoulli(), Gaussian(0.7), MSE(2.0)]


@pytest.mark.parametrize("likelihood", KINDS, ids=lambda likelihood: type(likelihood).__name__)
@pytest.mark.parametrize("shape", [(63,), (3, 3, 7), (4, 5, 1)])
def test_an_example_may_have_any_shape(likelihood, shape):
    """As a row, as an image and number by number it has the same likelihood."""
    parameters, x = torch.randn(2, 6, *shape), torch.rand(6, *shape).round()
    row = x.flatten(1)[:, :, None]
    expected = likelihood(parameters.flatten(2)[..., None]).log_prob(row.expand(6, -1, 1))
    single = [
        likelihood(parameters.flatten(2)[..., [i]]).log_prob(x.flatten(1)[:, [i]])
        for i in range(parameters[0, 0].numel())
    ]
    for context in (torch.enable_grad(), torch.no_grad()):
        with context:
            log_prob = likelihood(parameters).log_prob(x)
        assert log_prob.shape == (2, 6)
        assert torch.allclose(log_prob, sum(single), rtol=1e-4)
        assert torch.allclose(log_prob, expected, rtol=1e-4)
    mean = likelihood(parameters[0]).mean
    assert mean.shape == likelihood.errors(mean, x).shape == x.shape
    assert torch.allclose(likelihood.mse(mean, x), (mean - x).square().flatten(1).mean(1))


@pytest.mark.parametrize(
    "likelihood",
    [
        Bernoulli(),
        CrossEntropy(),
        ContinuousBernoulli(),
        Gaussian(0.3),
        MSE(),
        MSE(output="sigmoid"),
    ],
    ids=repr,
)
def test_the_output_of_a_mean_has_that_mean(likelihood):
    mean = torch.tensor([0.0, 1e-5, 0.0015, 0.2, 0.499, 0.5, 0.501, 0.9, 0.9985, 1.0])
    output = likelihood.output_of(mean)
    assert torch.allclose(likelihood(output).mean, mean, atol=1.001e-3)
    inside = slice(2, -2)
    assert torch.allclose(likelihood(output).mean[inside], mean[inside], atol=2e-6)


def test_a_likelihood_that_cannot_say_its_output_is_refused():
    with pytest.raises(SettingError, match=r"network.output_bias=data: Own has no `output_of`"):
        type("Own", (Likelihood,), {})().output_of(GREY)
