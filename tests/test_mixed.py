"""likelihood=mixed: the columns of a table as independent variables, missing ones left out."""

import math

import pytest
import torch
from torch import distributions as d

from aecli.errors import SettingError
from aecli.likelihoods import Mixed
from aecli.likelihoods.mixed import LEAST_SIGMA
from aecli.noise import Masking

PLAIN = [["number", 2], ["category", 3], ["number", 1]]
MASKED = [*PLAIN, ["mask", 4]]


def rows(masked):
    """Return 5 rows of two numbers, a category of three, a number and, if so, their mask."""
    torch.manual_seed(0)
    x = torch.randn(5, 6)
    x[:, 2:5] = torch.eye(3)[torch.tensor([0, 1, 2, 1, 0])]
    if not masked:
        return x
    mask = torch.ones(5, 4)
    mask[1, 0] = mask[2, 2] = mask[3, 3] = 0
    x[1, 0] = x[3, 5] = 0
    x[2, 2:5] = 0
    return torch.cat([x, mask], dim=1)


def reference(likelihood, parameters, x, there):
    """Return log p of each row by torch.distributions, column by column."""
    sigma = likelihood.sigma
    columns = [
        d.Normal(parameters[..., 0], sigma[0]).log_prob(x[:, 0]),
        d.Normal(parameters[..., 1], sigma[1]).log_prob(x[:, 1]),
        d.Categorical(logits=parameters[..., 2:5]).log_prob(x[:, 2:5].argmax(dim=1)),
        d.Normal(parameters[..., 5], sigma[2]).log_prob(x[:, 5]),
    ]
    return (torch.stack(columns, dim=-1) * there).sum(dim=-1)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("samples", [(), (3,)])
def test_log_prob_is_that_of_the_columns(masked, samples):
    likelihood = Mixed(MASKED if masked else PLAIN, sigma=0.7, learn_sigma=True)
    with torch.no_grad():
        likelihood.log_sigma += torch.tensor([0.1, -0.4, 0.3])
    x = rows(masked)
    parameters = torch.randn(*samples, 5, x.shape[1])
    there = x[:, 6:] if masked else torch.ones(5, 4)
    found = likelihood(parameters).log_prob(x)
    assert found.shape == (*samples, 5)
    torch.testing.assert_close(found, reference(likelihood, parameters, x, there))


def test_a_mask_of_ones_is_no_mask():
    x, parameters = rows(masked=False), torch.randn(5, 6)
    masked = torch.cat([x, torch.ones(5, 4)], dim=1)
    with_mask = Mixed(MASKED, 1.0, learn_sigma=False)
    without = Mixed(PLAIN, 1.0, learn_sigma=False)
    wide = torch.cat([parameters, torch.randn(5, 4)], dim=1)
    torch.testing.assert_close(with_mask(wide).log_prob(masked), without(parameters).log_prob(x))
    torch.testing.assert_close(
        with_mask.errors(with_mask(wide).mean, masked)[:, :6],
        without.errors(without(parameters).mean, x),
    )


def test_missing_entries_have_no_influence():
    likelihood, x = Mixed(MASKED, 1.0, learn_sigma=True), rows(masked=True)
    parameters = torch.randn(5, 10, requires_grad=True)
    other = x.clone()
    other[1, 0], other[3, 5], other[2, 3] = 7.0, -3.0, 1.0
    likelihood(parameters).log_prob(x).sum().backward()
    torch.testing.assert_close(
        likelihood(parameters).log_prob(other), likelihood(parameters).log_prob(x)
    )
    missing = [(1, 0), (3, 5), (2, 2), (2, 3), (2, 4)]
    assert all(parameters.grad[place] == 0 for place in missing)
    errors = likelihood.errors(likelihood(parameters).mean, other)
    assert all(errors[place] == 0 for place in missing)
    assert not errors[:, 6:].any()
    assert (errors[0, :6] > 0).all()


def test_the_mean_is_means_and_probabilities():
    likelihood = Mixed(MASKED, 1.0, learn_sigma=False)
    parameters = torch.randn(2, 5, 10)
    mean = likelihood(parameters).mean
    torch.testing.assert_close(mean[..., [0, 1, 5]], parameters[..., [0, 1, 5]])
    torch.testing.assert_close(mean[..., 2:5], parameters[..., 2:5].softmax(dim=-1))
    assert (mean[..., 6:] == 1).all()


def test_probabilities_of_a_category_sum_to_one_and_a_density_integrates_to_one():
    likelihood = Mixed([["number", 1], ["category", 3]], 0.5, learn_sigma=False)
    parameters = torch.randn(1, 4)
    place = torch.linspace(-10, 10, 4001)
    total = 0.0
    for category in torch.eye(3):
        x = torch.cat([place[:, None], category.expand(4001, 3)], dim=1)
        total += float(likelihood(parameters.expand(4001, 4)).log_prob(x).exp().sum()) * 20 / 4000
    assert total == pytest.approx(1, abs=1e-3)


def test_settings():
    assert (
        Mixed(PLAIN, 0.3, learn_sigma=True).log_sigma.tolist() == [pytest.approx(math.log(0.3))] * 3
    )
    assert not list(Mixed(PLAIN, 0.3, learn_sigma=False).parameters())
    with pytest.raises(SettingError, match="likelihood=mixed: is for the columns of a table"):
        Mixed(None, 1.0, learn_sigma=True)
    with pytest.raises(SettingError, match=r"likelihood\.sigma=0"):
        Mixed(PLAIN, 0, learn_sigma=True)


def test_masking_masks_whole_columns_and_says_so_in_the_mask():
    noise, x = Masking(0.5, MASKED), rows(masked=False) + 2.0
    x = torch.cat([x, torch.ones(5, 4)], dim=1)
    masked = noise.corrupt(x)
    columns = [masked[:, 0], masked[:, 1], masked[:, 2:5].sum(dim=1), masked[:, 5]]
    gone = torch.stack(columns, dim=1) == 0
    assert (gone.sum(dim=1) == 2).all()  # exactly half of four columns
    assert torch.equal(masked[:, 6:] == 0, gone)
    assert ((masked == x) | (masked == 0)).all()


def test_any_widths_give_what_each_column_gives_by_itself():
    widths = [1, 2, 3, 4, 5, 9, 16, 17, 3]
    likelihood = Mixed([["number", 1], *(["category", k] for k in widths)], 1.0, False)
    parts = [30 * torch.randn(3, 4, k) for k in widths]
    chosen = [torch.randint(k, (4,)) for k in widths]
    one_hot = [
        torch.nn.functional.one_hot(c, k).float() for c, k in zip(chosen, widths, strict=True)
    ]
    zero = torch.zeros(4, 1)
    p = likelihood(torch.cat([torch.zeros(3, 4, 1), *parts], dim=-1))
    found = p.log_prob(torch.cat([zero, *one_hot], dim=-1))
    expected = d.Normal(0.0, likelihood.sigma).log_prob(torch.zeros(1)).expand(3, 4)
    for part, choice in zip(parts, chosen, strict=True):
        expected = expected + d.Categorical(logits=part).log_prob(choice)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(p.mean[..., 1:], torch.cat([q.softmax(-1) for q in parts], dim=-1))


def test_half_floats_give_what_floats_give():
    likelihood, x = Mixed(MASKED, 1.0, learn_sigma=False), rows(masked=True)
    for half in (torch.bfloat16, torch.float16):
        parameters = torch.randn(5, 10).to(half)
        found = likelihood(parameters).log_prob(x)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, likelihood(parameters.float()).log_prob(x))


def test_the_density_of_a_column_that_does_not_vary_has_an_end():
    likelihood = Mixed([["number", 1]], 1.0, learn_sigma=True)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.5)
    x = torch.zeros(8, 1)
    for _ in range(100):
        optimizer.zero_grad()
        (-likelihood(x).log_prob(x).mean()).backward()
        optimizer.step()
    greatest = d.Normal(0.0, LEAST_SIGMA).log_prob(torch.zeros(()))
    assert likelihood.log_sigma.item() < math.log(LEAST_SIGMA)
    torch.testing.assert_close(likelihood(x).log_prob(x), greatest.expand(8), atol=1e-3, rtol=0)
    with pytest.raises(SettingError, match=r"likelihood\.sigma=0\.0001: must be a number of at"):
        Mixed([["number", 1]], 1e-4, learn_sigma=True)


@pytest.mark.parametrize(
    "features",
    [
        [],
        [["number", 0]],
        [["number", 2**31 - 1]],
        [["number", 1.5]],
        [["text", 2]],
        [["number"]],
        "abc",
        [["mask", 1], ["number", 1]],
        [["number", 2], ["mask", 1]],
        [["number", 1], ["mask", 1], ["number", 1]],
        [["number", 9_000_000], ["number", 9_000_000]],
    ],
)
def test_features_of_no_table_are_refused(features):
    for part in (lambda: Mixed(features, 1.0, learn_sigma=True), lambda: Masking(0.5, features)):
        with pytest.raises(SettingError, match=r"dataset\.features"):
            part()


@pytest.mark.parametrize("masked", [False, True])
def test_the_output_of_a_mean_has_that_mean(masked):
    likelihood = Mixed(MASKED if masked else PLAIN, sigma=0.7, learn_sigma=True)
    mean = torch.tensor([0.3, -2.0, 0.2, 0.7, 0.1, 1.5, *([0.9] * 4 if masked else [])])
    found = likelihood(likelihood.output_of(mean)).mean[:6]
    assert torch.allclose(found, mean[:6], atol=1e-6)
