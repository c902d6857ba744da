"""What a training step leaves in memory: nothing, without waiting for the garbage collector."""

import gc

import pytest
import torch

from aecli.build import build
from tests.conftest import ALIKE, SPARSITIES, STEPWISE, configure, slow_unless, small

GRADIENTS = {"vae": ("stl",), "iwae": ("dreg",)}
KINDS = [slow_unless(variant in ALIKE, small(variant)) for variant in STEPWISE]
KINDS += [
    (*small(variant), f"model.gradient={gradient}")
    for variant, gradients in GRADIENTS.items()
    for gradient in gradients
]
KINDS += [("model=ae", "model.code_dim=200", f"sparsity={name}") for name in SPARSITIES]
KINDS += [("model=vae", "prior=vamp")]


@pytest.mark.parametrize("words", KINDS, ids=" ".join)
def test_a_step_is_freed_at_once(words):
    config, _ = configure(*words)
    config.dataset.shape = [1, 8, 8]
    model, x = build(config, "model"), torch.rand(30, 1, 8, 8).round()
    counts = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            for _ in range(2):  # the first of all may make what stays
                model.zero_grad()
                model.terms(x).loss.backward()
            counts.append(sum(type(one) is torch.Tensor for one in gc.get_objects()))
    finally:
        gc.enable()
    assert counts[0] == counts[1]
