"""A known dictionary comes back: atoms drawn by Zipf's law, and what is trained on their sums."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from aecli.build import build
from aecli.data import Batch
from tests.conftest import configure

FEATURES, ATOMS, LATENTS, ACTIVE, ROWS = 64, 128, 192, 5, 256


def rows(atoms, generator):
    """Return sums of about five atoms each, `(ROWS, FEATURES)`."""
    often = torch.arange(1, ATOMS + 1).rsqrt()
    often = often * (ACTIVE / often.sum())
    there = torch.rand(ROWS, ATOMS, generator=generator) < often
    size = 1 + torch.rand(ROWS, ATOMS, generator=generator)
    return (there * size) @ atoms * 3


def recovered(model, atoms):
    """Return the mean over the true atoms of the largest cosine of a learned one (MMCS)."""
    learned = F.normalize(model.W_dec.detach(), dim=1)
    return float((atoms @ learned.T).amax(dim=1).mean())


def trained(variant, *words, steps=150):
    """Train; return how much is recovered before, half-way and after, and the last half's fit."""
    config, _ = configure(
        f"model={variant}_sae", f"model.code_dim={LATENTS}", "optimizer.lr=1e-2", *words
    )
    config.dataset.shape = [FEATURES]
    torch.manual_seed(0)
    model = build(config, "model").train()
    draw = torch.Generator().manual_seed(1)
    atoms = F.normalize(torch.randn(ATOMS, FEATURES, generator=draw), dim=1)
    model.start_at(torch.cat([rows(atoms, draw) for _ in range(8)]))
    model.steady = True
    optimizer = model.optimization.optimizer(model.parameters())
    found, fit = [recovered(model, atoms)], {}
    for step in range(1, steps + 1):
        x = rows(atoms, draw)
        batch = Batch(x, x, torch.zeros(ROWS))
        optimizer.zero_grad()
        model.training_step(batch, step).backward()
        optimizer.step()
        model.on_train_batch_end(None, batch, step)
        if step in (steps // 2, steps):
            found.append(recovered(model, atoms))
            fit = model.training_values()
    return found, fit


@pytest.fixture(scope="module")
def baseline():
    return trained("l1", "sparsity.weight=6", "sparsity.start_l0=10")


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (("topk", "sparsity.k=4"), 150),
        (("batch_topk", "sparsity.k=4"), 150),
        (("matryoshka", "sparsity.k=4", "sparsity.shares=[0.25,0.5,1]"), 150),
        (("jumprelu", "sparsity.k=4"), 400),
        (("gated", "sparsity.weight=8", "sparsity.start_l0=10"), 150),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_recovery_rises_and_less_is_lost_than_by_l1_with_as_many_active(words, steps, baseline):
    (start, half, end), fit = trained(*words, steps=steps)
    assert start + 0.05 < half < end
    (_, _, _), plain = baseline
    assert fit["l0"] <= plain["l0"] + 0.1
    assert fit["explained_variance"] > plain["explained_variance"]


def test_l1_recovers_too(baseline):
    (start, half, end), _ = baseline
    assert start + 0.05 < half < end
