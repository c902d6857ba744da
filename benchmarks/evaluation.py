"""What an evaluation costs over the matrix products that it cannot do without."""

import time
from itertools import islice

import torch
from torch import nn

from aecli.build import build
from aecli.config import composed
from aecli.evaluation.likelihood import marginal_nll
from aecli.malloc import keep_freed_memory

SAMPLES = 200
IMAGES, TURNS = 1000, 10


@torch.no_grad()
def importance_sampling() -> float:
    """Return the rate of −log p(x) by 200 samples over that of the decoder's products alone, in %.

    On the first 1,000 test images of MNIST, with the network of `model=vae` as it is drawn: its
    weights do not matter here. The products are those of the same sizes, in the same pieces. The
    two take turns, every 100 images.
    """
    keep_freed_memory()
    config = composed("train", "model=vae", "dataset=mnist")
    model, data = build(config, "model").eval(), build(config, "dataset")
    at_once = composed("eval", "run=none").eval.decoded_at_once
    data.setup()
    batches = islice(data.batches("test", IMAGES // TURNS), TURNS)
    layers = [module for module in model.decoder.modules() if isinstance(module, nn.Linear)]
    inputs = [torch.randn(at_once, layer.in_features) for layer in layers]
    products = evaluation = 0.0
    for batch in batches:
        start = time.perf_counter()
        for _ in range(SAMPLES * IMAGES // TURNS // at_once):
            for layer, x in zip(layers, inputs, strict=True):
                x @ layer.weight.T
        middle = time.perf_counter()
        marginal_nll(model, [batch], SAMPLES, at_once)
        products += middle - start
        evaluation += time.perf_counter() - middle
    return 100 * products / evaluation
