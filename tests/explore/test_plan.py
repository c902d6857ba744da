"""Operations compute what the modules do; what the page cannot compute is told by name."""

import numpy as np
import pytest
import torch

from aecli.explore.model import _principal, networks
from aecli.explore.plan import Untranslatable, as_kept, compute, rounded
from aecli.models import VAE
from aecli.networks.mlp import HIDDEN
from tests.explore.made import loaded

CASES = [
    *[("model=vae", f"network.activation={name}") for name in HIDDEN],
    ("model=vae", "network.batch_norm=true", "network.activation=gated"),
    ("model=ae", "network.tied=true", "network.batch_norm=true"),
    ("model=ae", "network=linear_tied", "sparsity=topk", "sparsity.k=2"),
    ("model=ae", "network.tied=true", "sparsity=topk", "sparsity.k=2", "sparsity.by=magnitude"),
    ("model=vae", "sparsity=l1"),
    ("model=sparse_ae",),
    ("model=contractive_ae",),
    ("model=pca",),
    ("model=vae", "network=conv", "network.channels=[4,6,5]"),
    ("model=ae", "network=conv", "network.activation=elu"),
]


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_operations_are_the_networks(words, tmp_path):
    run = loaded(tmp_path, *words)
    steps, model, x = networks(run), run.model, torch.rand(20, 1, 8, 8)
    encoded = compute(steps.encoder, x.flatten(1))
    if isinstance(model, VAE):
        posterior = model.posterior(x)
        encoded, log_variance = encoded.chunk(2, dim=1)
        torch.testing.assert_close(log_variance, posterior.log_variance)
    torch.testing.assert_close(encoded, model.encode(x))
    z = torch.randn(20, model.code_dim)
    output = compute(steps.decoder, z).view(20, 1, 8, 8)
    torch.testing.assert_close(model.likelihood(output).mean, model.decode(z).mean)


def test_a_tied_weight_is_kept_once(tmp_path):
    untied, tied = (
        networks(loaded(tmp_path, "model=ae", "network=linear", f"network.tied={tied}"))
        for tied in ("false", "true")
    )
    assert tied.size < 0.6 * untied.size


def test_weights_are_rounded_by_less_than_half_a_unit_in_the_last_place():
    for scale in (1e-30, 1.0, 1e30):  # float16 ends at 6e-8 and at 65504
        weight = scale * torch.randn(50, 50)
        half, factor = rounded(weight)
        error = (half.double() * factor - weight.double()).abs()
        assert (error <= weight.abs() * 2**-11 + factor * 2**-25).all()
    assert rounded(torch.zeros(2, 2))[0].tolist() == [[0, 0], [0, 0]]


def test_only_matrices_are_rounded(tmp_path):
    steps = networks(loaded(tmp_path, "model=vae")).decoder
    for own, kept in zip(steps, as_kept(steps), strict=True):
        for key, weight in own.weights.items():
            is_same = torch.equal(weight, kept.weights[key])
            assert is_same == (key == "bias")


def test_what_the_page_cannot_compute_is_named(tmp_path):
    run = loaded(tmp_path, "model=vae", "network=resnet", "network.channels=[4,4]")
    with pytest.raises(Untranslatable, match="Residual"):
        networks(run)


def test_a_subclass_of_a_plugin_is_not_taken_for_what_it_extends(tmp_path):
    run = loaded(tmp_path, "model=vae")

    class Louder(type(run.model.likelihood)):
        def forward(self, parameters):
            return super().forward(2 * parameters)

    run.model.likelihood.__class__ = Louder
    with pytest.raises(Untranslatable, match="Louder"):
        networks(run)

    class Other(VAE):
        def decode(self, code):
            return super().decode(-code)

    run = loaded(tmp_path, "model=vae")
    run.model.__class__ = Other
    with pytest.raises(Untranslatable, match="Other"):
        networks(run)


@pytest.mark.parametrize("code", [np.full((9, 3), 0.1), np.tile([1.0, 2.0], (9, 1))])
def test_codes_that_are_all_the_same_have_no_components(code):
    components, explained = _principal(code)
    np.testing.assert_array_equal(components, np.eye(code.shape[1])[:2])
    np.testing.assert_array_equal(explained, [0, 0])
