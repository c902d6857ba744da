"""Dictionaries that make targets of their rows: their losses, gradients, start and training."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from aecli.build import build
from aecli.data import Batch
from tests.conftest import configure
from tests.models.test_dictionary import (
    DICTIONARIES,
    B,
    D,
    N,
    agree,
    dictionary,
    gradients,
    moved,
    squares,
    topk_code,
)

E = 7
"""Numbers of a target."""


def transcoder(variant, *words, features=D, made=E, latents=N):
    """Return a small transcoder with every parameter away from its start."""
    config, _ = configure(
        f"model={variant}_sae", f"model.code_dim={latents}", "dataset=activations", *words
    )
    config.dataset.shape, config.dataset.target_shape = [features], [made]
    model = moved(config)
    with torch.no_grad():
        model.center.copy_(torch.randn(features))
    return model


@pytest.fixture
def pair():
    draw = torch.Generator().manual_seed(1)
    return torch.randn(B, D, generator=draw) + 0.5, torch.randn(B, E, generator=draw) - 0.5


@pytest.mark.parametrize("dead", [0, 20])
def test_the_loss_of_topk_and_its_gradients_are_those_of_dense_codes(pair, dead):
    x, y = pair
    model = transcoder("topk", "sparsity.k=5", "model.aux_k=6")
    model.variance.fill_(7.0)
    latents = torch.randperm(N)[:dead]
    model.rows_since_active[latents] = 10**7
    a = (x - model.center) @ model.W_enc.T + model.b_enc
    atoms = F.normalize(model.W_dec, dim=1)
    output = topk_code(a, 5) @ atoms + model.b_dec
    expected = squares(y - output)
    if dead:
        alive = torch.ones(N, dtype=torch.bool)
        alive[latents] = False
        error = (y - output).detach()
        made = topk_code(a.masked_fill(alive, -torch.inf), 6) @ atoms
        expected = expected + 7 / 32 * squares(made - error) / squares(error - error.mean(0))
    agree(model, model.terms(y, x).loss, expected)


@pytest.mark.parametrize("variant", DICTIONARIES)
def test_with_the_rows_as_targets_and_the_pre_bias_as_center_it_is_the_dictionary(pair, variant):
    x, _ = pair
    one, other = dictionary(variant), transcoder(variant, made=D)
    with torch.no_grad():
        for parameter, own in zip(one.parameters(), other.parameters(), strict=True):
            own.copy_(parameter)
        other.center.copy_(one.b_dec)
    losses = one.terms(x).loss, other.terms(x, x).loss
    torch.testing.assert_close(*losses)
    found, wanted = gradients(losses[1], other), gradients(losses[0], one)
    del found["b_dec"], wanted["b_dec"]  # of the dictionary it is the encoder's, too
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("variant", DICTIONARIES)
def test_a_code_decodes_to_the_targets_shape(pair, variant):
    x, y = pair
    model = transcoder(variant).eval().requires_grad_(False)
    code = model.encode(x)
    a = (x - model.center) @ model.W_enc.T + model.b_enc
    torch.testing.assert_close(model.sparsity.dense(a, model.b_enc), code)
    made = model.decode(code).mean
    assert made.shape == (B, E)
    torch.testing.assert_close(model.reconstruct(x), made)
    torch.testing.assert_close(made, code @ model.W_dec + model.b_dec)
    y = made + y  # or the ratio of norms would have a denominator near 0
    losses = model.losses()
    losses.add(Batch(x, x, torch.zeros(B), target=y), {})
    fit = losses.compute()
    spread = (y - y.mean(0)).square().sum()
    expected = 1 - (y - made).square().sum() / spread
    assert fit["explained_variance"] == pytest.approx(float(expected), rel=1e-5)
    assert fit["norm_ratio"] == pytest.approx(float(made.square().sum() / (made * y).sum()), 1e-5)
    assert fit["cosine"] == pytest.approx(float(F.cosine_similarity(made, y).mean()), rel=1e-5)
    assert fit["mse"] == pytest.approx(float((y - made).square().mean()), rel=1e-5)


def mapped(count, draw, atoms, matrix):
    """Return rows `(count, 64)` of few atoms each, and what a linear map makes of them."""
    there = torch.rand(count, len(atoms), generator=draw) < 4 / len(atoms)
    x = (there * (1 + torch.rand(count, len(atoms), generator=draw))) @ atoms + 3
    return x, x @ matrix


@pytest.fixture(scope="module")
def world():
    draw = torch.Generator().manual_seed(1)
    atoms = F.normalize(torch.randn(48, 64, generator=draw), dim=1) * 8
    return draw, atoms, torch.randn(64, 24, generator=draw) / 8


def new(variant, *words):
    words = (f"model={variant}_sae", "model.code_dim=128", "dataset=activations", *words)
    config, _ = configure(*words, "optimizer.lr=1e-2")
    config.dataset.shape, config.dataset.target_shape = [64], [24]
    torch.manual_seed(0)
    return build(config, "model").train()


def explained(model, x, y):
    return float(
        1 - (y - model.eval().reconstruct(x)).square().sum() / (y - y.mean(0)).square().sum()
    )


@pytest.mark.parametrize("factors", [(1, 1), (1000, 0.001)], ids=str)
@pytest.mark.parametrize("variant", ["topk", "jumprelu", "l1"])
def test_the_start_is_at_the_data_whatever_its_scale(world, variant, factors):
    (x, y), (of_x, of_y) = mapped(2000, *world), factors
    x[0], y[0] = 1e4, 1e4  # moves a mean, not a median
    model = new(variant, "sparsity.start_l0=8" if variant == "l1" else "sparsity.k=8")
    model.start_at(x * of_x, y * of_y)
    spread = (y[1:] - y[1:].median(dim=0).values).abs().mean()
    assert (model.b_dec / of_y - y.median(dim=0).values).abs().max() < spread
    assert (model.center / of_x - x.median(dim=0).values).abs().max() < 2
    torch.testing.assert_close(model.W_dec.norm(dim=1), torch.ones(128))
    assert model.variance / of_y**2 == pytest.approx(float((y - y.mean(0)).square().sum(1).mean()))
    if variant == "jumprelu":  # thresholds are in units of what the encoder sees
        spread = (x - x.mean(0)).square().sum(1).mean().sqrt()
        assert model.sparsity.unit / of_x == pytest.approx(float(spread))
    (x, y) = x[1:], y[1:]
    if variant == "topk":
        assert explained(model, x * of_x, y * of_y) > 0.2
    else:
        l0 = (model.eval().encode(x * of_x) != 0).sum(dim=1).float().mean()
        assert l0 == pytest.approx(8, abs=3)


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("topk", ("sparsity.k=6",)),
        ("batch_topk", ("sparsity.k=6",)),
        ("jumprelu", ("sparsity.k=6",)),
    ],
)
def test_a_linear_map_is_learned(world, variant, words):
    model = new(variant, *words)
    x, y = mapped(2000, *world)
    model.start_at(x, y)
    before = explained(model, x, y)
    model.train().steady = True
    optimizer = model.optimization.optimizer(model.parameters())
    for step in range(300):
        x, y = mapped(256, *world)
        batch = Batch(x, x, torch.zeros(256), target=y)
        optimizer.zero_grad()
        model.training_step(batch, step).backward()
        optimizer.step()
        model.on_train_batch_end(None, batch, step)
    after = explained(model, *mapped(2000, *world))
    assert before < 0.9 < 0.97 < after
