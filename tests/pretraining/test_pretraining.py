"""Each learner against its formula, and the layers that it leaves in the network."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from aecli.build import build
from aecli.data import DataModule
from aecli.errors import SettingError
from aecli.pretraining import RBM, Denoising, Sparse
from aecli.pretraining.denoising import Denoiser
from aecli.pretraining.greedy import Layer, pretrainable_layers
from aecli.pretraining.rbm import Machine
from aecli.pretraining.sparse import SparseLearner
from tests.conftest import configure

SIGMOID = ("network.activation=sigmoid", "likelihood=cross_entropy", "model=ae")
SETTINGS = {
    "rbm": {"lr": 0.1, "linear_lr": 0.01, "momentum": [0.5, 0.9], "weight_decay": 0.0},
    "denoising": {"lr": 0.1, "momentum": 0.0, "amounts": [0.25, 0.0]},
    "sparse": {"target": 0.1, "weight": 3.0, "weight_decay": 1e-3, "iterations": 5},
}


def layer(width=6, height=4, *, linear=False):
    torch.manual_seed(0)
    return Layer(0, nn.Linear(width, height), nn.Linear(height, width), linear)


def rbm(**settings):
    return RBM(epochs=1, batch_size=10, **(SETTINGS["rbm"] | settings))


@pytest.fixture
def patterns():
    """Return 200 binary vectors of six, in which the halves are alike and one is common."""
    generator = torch.Generator().manual_seed(0)
    half = torch.bernoulli(torch.tensor([0.9, 0.5, 0.2]).expand(200, 3), generator=generator)
    return half.repeat(1, 2)


def log_likelihood(machine, data):
    """Return the mean of log p(v), with the partition function summed over all 2^6 vectors."""
    weight, hidden_bias, visible_bias = machine.weights

    def unnormalized(v):
        a = F.linear(v, weight, hidden_bias)
        # Σ_h e^(ha) over {0, 1} is 1 + e^a; over a Gaussian of unit variance, e^(a²/2).
        hidden = a.square() / 2 if machine.linear else F.softplus(a)
        return v @ visible_bias + hidden.sum(1)

    everything = torch.tensor(list(itertools.product([0.0, 1.0], repeat=data.shape[1])))
    return (unnormalized(data).mean() - unnormalized(everything).logsumexp(0)).item()


@pytest.mark.parametrize("linear", [False, True])
@torch.no_grad()
def test_contrastive_divergence_raises_the_exact_likelihood(patterns, linear):
    machine = rbm().learner(layer(linear=linear))
    before = log_likelihood(machine, patterns)
    for epoch in range(30):
        for batch in patterns.split(20):
            machine.step(batch, epoch)
    after = log_likelihood(machine, patterns)
    # Independent pixels of the right means would have this; the machine finds the halves alike.
    p = patterns.mean(0)
    independent = (p * p.log() + (1 - p) * (1 - p).log()).sum().item()
    assert before < independent + 0.3 < after


@torch.no_grad()
def test_cd1_is_its_formula(patterns):
    machine = Machine(rbm(), layer())
    v = patterns[:7]
    start = [w.clone() for w in machine.weights]
    torch.manual_seed(5)
    machine.step(v, epoch=0)
    gradient = [(w - before) / 0.1 for w, before in zip(machine.weights, start, strict=True)]
    weight, hidden_bias, visible_bias = start
    torch.manual_seed(5)
    p_h = torch.sigmoid(v @ weight.T + hidden_bias)
    h = torch.bernoulli(p_h)
    v1 = torch.sigmoid(h @ weight + visible_bias)
    h1 = torch.sigmoid(v1 @ weight.T + hidden_bias)
    outer = torch.stack(
        [torch.outer(a, b) - torch.outer(c, d) for a, b, c, d in zip(p_h, v, h1, v1, strict=True)]
    )
    expected = outer.mean(0), (p_h - h1).mean(0), (v - v1).mean(0)
    for found, formula in zip(gradient, expected, strict=True):
        assert torch.allclose(found, formula, atol=1e-6)


@torch.no_grad()
def test_momentum_and_weight_decay_shape_the_step(patterns):
    machine = Machine(rbm(weight_decay=0.5), layer())
    # Ones for the data and zeros after sampling: a gradient of 1 for every weight.
    both = torch.ones(2, len(patterns), 1)
    both[1] = 0
    machine.contrast = lambda v: (both.repeat(1, 1, 4), both.repeat(1, 1, 6))
    start = [w.clone() for w in machine.weights]
    machine.step(patterns, epoch=0)
    first = 0.1 * (1 - 0.5 * start[0])
    assert torch.allclose(machine.weights.weight, start[0] + first)
    assert torch.allclose(machine.weights.hidden_bias, start[1] + 0.1)
    machine.step(patterns, epoch=4)
    assert torch.allclose(machine.weights.hidden_bias, start[1] + 0.1 + 0.15)
    machine.step(patterns, epoch=5)
    assert torch.allclose(machine.weights.hidden_bias, start[1] + 0.25 + 0.1 + 0.9 * 0.15)


def test_gaussian_hidden_units_have_unit_variance():
    machine = Machine(rbm(), layer(linear=True))
    mean = torch.full((20000, 4), 3.0)
    sample = machine.sample(mean)
    assert torch.allclose(sample.mean(0), torch.tensor(3.0), atol=0.05)
    assert torch.allclose(sample.std(0), torch.tensor(1.0), atol=0.03)
    assert machine.lr == 0.01


@pytest.mark.parametrize("linear", [False, True])
def test_a_denoiser_has_tied_weights_and_the_clean_target(patterns, linear):
    one = layer(linear=linear)
    settings = Denoising(1, 10, **(SETTINGS["denoising"] | {"amounts": [0.5]}))
    denoiser = Denoiser(settings, one)
    torch.manual_seed(3)
    loss = denoiser.loss(patterns)
    torch.manual_seed(3)
    corrupted = denoiser.noise.corrupt(patterns)
    assert ((corrupted == 0).sum(1) >= 3).all()
    a = one.down(corrupted)
    output = ((a if linear else a.sigmoid()) @ one.down.weight + one.up.bias).sigmoid()
    expected = F.binary_cross_entropy(output, patterns, reduction="none").sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    before = one.down.weight.clone()
    denoiser.step(patterns, 0)
    assert not torch.equal(before, one.down.weight)  # in the network's own memory


def test_a_sparse_learner_is_ngs_cost_on_the_whole_set(patterns):
    one = layer()
    learner = SparseLearner(Sparse(1, **SETTINGS["sparse"]), one)
    h = one.down(patterns).sigmoid()
    v = one.up(h).sigmoid()
    rho, mean = 0.1, h.mean(0)
    kl = rho * (rho / mean).log() + (1 - rho) * ((1 - rho) / (1 - mean)).log()
    expected = 0.5 * (v - patterns).square().sum(1).mean() + 3 * kl.sum()
    assert learner.cost(patterns).item() == pytest.approx(expected.item(), rel=1e-5)
    before = learner.cost(patterns).item()
    for epoch in range(5):
        learner.step(patterns, epoch)
    assert learner.cost(patterns).item() < before
    assert one.down(patterns).sigmoid().mean().item() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("kind", SETTINGS)
def test_greedy_pretraining_unrolls_into_the_network(kind):
    config, _ = configure(
        *SIGMOID,
        f"pretraining={kind}",
        "pretraining.epochs=2",
        "network.hidden=[20]",
        "model.code_dim=10",
        "sparsity=sigmoid",
    )
    model, data = build(config, "model"), build(config, "dataset")
    data.setup()
    x = next(iter(data.batches("validation", 200))).x
    with torch.no_grad():
        before = model.terms(x).loss.item()
        build(config, "pretraining")(model, data)
        after = model.terms(x).loss.item()
    assert after < before
    down, up = [
        [m for m in half if isinstance(m, nn.Linear)] for half in (model.encoder, model.decoder)
    ]
    for one, mirrored in zip(down, reversed(up), strict=True):
        tied = torch.equal(one.weight, mirrored.weight.T)
        assert tied == (kind != "sparse")
        assert one.weight.data_ptr() != mirrored.weight.data_ptr()  # untied from here on
        assert all(p.requires_grad and p.grad is None for p in one.parameters()) or kind == "sparse"


@pytest.mark.parametrize("scale", ["minmax", "standard"])
def test_rows_are_pretrained_if_they_lie_between_0_and_1(scale, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(80, 6)))
    array = (f"dataset.file={tmp_path}/x.npy", f"dataset.scale={scale}", "dataset.shape=[6]")
    settings = ("pretraining=rbm", "pretraining.epochs=1", "network.hidden=[5]")
    config, _ = configure(*SIGMOID, *settings, "dataset=array", *array, "model.code_dim=3")
    model, data = build(config, "model"), build(config, "dataset")
    data.setup()
    if scale == "minmax":
        build(config, "pretraining")(model, data)
        return
    with pytest.raises(SettingError, match=r"pretraining: takes data in \[0, 1\] alone.* from -"):
        build(config, "pretraining")(model, data)


def test_a_linear_code_gets_the_linear_rate_and_tied_networks_stay_tied():
    config, _ = configure(
        *SIGMOID,
        "pretraining=rbm",
        "pretraining.epochs=1",
        "network.hidden=[20]",
        "network.tied=true",
    )
    model, data = build(config, "model"), build(config, "dataset")
    data.setup()
    build(config, "pretraining")(model, data)
    assert model.decoder[0].weight is model.encoder[-1].weight
    assert model.encoder[-1].weight.abs().max() < 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=vae", "network.activation=sigmoid"], "is for an autoencoder"),
        (["model=pca"], "is for an autoencoder"),
        (["model=ae"], "network.activation=sigmoid"),
        ([*SIGMOID, "network.batch_norm=true"], "network=mlp"),
        (["model=ae", "network=conv", "network.activation=sigmoid"], "network=mlp"),
        ([*SIGMOID, "sparsity=topk"], "needs sparsity=none, sigmoid or kl"),
        ([*SIGMOID, "likelihood=mse"], r"outputs in \(0, 1\)"),
        ([*SIGMOID, "pretraining=denoising", "pretraining.amounts=[0.1]"], "layer 2 needs one too"),
        ([*SIGMOID, "pretraining=denoising", "pretraining.amounts=0.1"], "must be a list"),
        ([*SIGMOID, "pretraining=sparse"], "pretraining=sparse: needs sparsity=sigmoid"),
        ([*SIGMOID, "pretraining.momentum=0.5"], "pretraining.momentum=0.5: must be a list of 2"),
        ([*SIGMOID, "pretraining.lr=1e9"], "diverged"),
    ],
)
def test_what_cannot_be_pretrained_is_refused(overrides, message):
    config, _ = configure("pretraining=rbm", "pretraining.epochs=1", *overrides)
    model, data = build(config, "model"), build(config, "dataset")
    data.setup()
    with pytest.raises(SettingError, match=message):
        build(config, "pretraining")(model, data)


def test_orders_of_layers_epochs_and_seeds_do_not_meet(monkeypatch):
    used = []
    shuffled = DataModule.shuffled

    def noted(self, name, size, seed):
        return shuffled(self, name, size, lambda: used.append(seed()) or used[-1])

    monkeypatch.setattr(DataModule, "shuffled", noted)
    settings = ("pretraining=rbm", "pretraining.epochs=3", "network.hidden=[20]")
    config, _ = configure(*SIGMOID, *settings, "dataset.train_size=50")
    data = build(config, "dataset")
    data.setup()
    for run_seed in (0, 1, 2):
        torch.manual_seed(run_seed)
        build(config, "pretraining")(build(config, "model"), data)
    assert len(set(used)) == len(used) == 3 * 2 * 3
    first = list(used)
    torch.manual_seed(0)
    build(config, "pretraining")(build(config, "model"), data)
    assert used[len(first) :] == first[:6]  # a run repeats itself


def test_layers_to_pretrain_are_pairs_and_other_models_refuse():
    config, _ = configure(
        "model=ae", "network.activation=sigmoid", "network.hidden=[20]", "likelihood=cross_entropy"
    )
    pairs = pretrainable_layers(build(config, "model"))
    assert [(down.out_features, up.in_features) for down, up in pairs] == [(20, 20), (30, 30)]
    for variant in ("vae", "iwae", "pca"):
        with pytest.raises(SettingError, match="pretraining: is for an autoencoder"):
            pretrainable_layers(build(configure(f"model={variant}")[0], "model"))
