"""What an evaluation costs over the matrix products that it cannot do without."""

import time

import torch
from torch import Tensor, nn

from aecli.build import build
from aecli.config import composed
from aecli.metrics import marginal_nll

SAMPLES = 200
IMAGES = 1000


def importance_sampling() -> float:
    """Return the rate of −log p(x) by 200 samples over that of the decoder's products alone, in %.

    On the first 1,000 test images of MNIST, with the network of `model=vae` as it is drawn: its
    weights do not matter here. The products are those of the same sizes, in the same pieces.
    """
    config = composed("train", "model=vae", "dataset=mnist")
    model, data = build(config, "model"), build(config, "dataset")
    at_once = composed("eval", "run=none").eval.decoded_at_once
    data.setup()
    images = next(iter(data.batches("test", IMAGES)))
    layers = [module for module in model.decoder.modules() if isinstance(module, nn.Linear)]
    products = _seconds_of_products(layers, at_once)
    start = time.perf_counter()
    marginal_nll(model.eval(), [images], SAMPLES, at_once)
    return 100 * products / (time.perf_counter() - start)


@torch.no_grad()
def _seconds_of_products(layers: list[nn.Linear], at_once: int) -> float:
    inputs: list[Tensor] = [torch.randn(at_once, layer.in_features) for layer in layers]
    start = time.perf_counter()
    for _ in range(SAMPLES * IMAGES // at_once):
        for layer, x in zip(layers, inputs, strict=True):
            x @ layer.weight.T
    return time.perf_counter() - start
