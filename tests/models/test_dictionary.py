"""Dictionaries: their losses and gradients beside plain autograd on dense codes."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from aecli.build import build
from tests.conftest import configure

D, N, B, K = 12, 64, 40, 5


def dictionary(variant, *words, features=D, latents=N):
    """Return a small dictionary in double precision, with every parameter away from its start."""
    config, _ = configure(f"model={variant}", f"model.code_dim={latents}", *words)
    config.dataset.shape = [features]
    torch.manual_seed(0)
    model = build(config, "model")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.W_dec.copy_(F.normalize(model.W_dec, dim=1))
    return model.train()


def dense(model, x):
    """Return the pre-activations and the unit decoder of a plain implementation, with gradients."""
    a = (x - model.b_dec) @ model.W_enc.T + model.b_enc
    return a, F.normalize(model.W_dec, dim=1)


def topk_code(a, k):
    kept = a.topk(k, dim=1).indices
    return torch.zeros_like(a).scatter(1, kept, a.gather(1, kept).relu())


def gradients(loss, model):
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return dict(zip(named, grads, strict=True))


def agree(model, loss, expected):
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    found, wanted = gradients(loss, model), gradients(expected, model)
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-5, msg=name)
        assert grad.abs().sum() > 0, name


@pytest.fixture
def x():
    return torch.randn(B, D, generator=torch.Generator().manual_seed(1)) + 0.5


def openai_loss(model, x, dead, k, k_aux, weight=1 / 32, variance=1.0):
    """Return the loss of openai/sparse_autoencoder times the variance, on dense codes."""
    a, atoms = dense(model, x)
    output = topk_code(a, k) @ atoms + model.b_dec
    error = (x - output).detach()
    alive = torch.ones(len(atoms), dtype=torch.bool)
    alive[dead] = False
    code = topk_code(a.masked_fill(alive, -torch.inf), min(k_aux, len(dead)))
    if not len(dead):
        return (x - output).square().sum(1).mean()
    aux = (code @ atoms - error).square().mean() / (error - error.mean(0)).square().mean()
    mse = (x - output).square().mean() / (variance / x.shape[1])
    return variance * (mse + weight * aux)


@pytest.mark.parametrize("dead", [0, 3, 40])
def test_the_loss_of_topk_and_its_gradients_are_those_of_openai(x, dead):
    model = dictionary("topk_sae", f"sparsity.k={K}", "model.aux_k=6")
    model.variance.fill_(7.0)
    latents = torch.randperm(N)[:dead]
    model.rows_since_active[latents] = 10**7
    loss = model.terms(x).loss
    agree(model, loss, openai_loss(model, x, latents, K, 6, variance=7.0))
