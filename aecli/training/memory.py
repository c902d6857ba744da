"""The memory that a training takes, from the shapes of its tensors alone."""

import torch
from omegaconf import DictConfig
from torch import Tensor

from aecli.build import build, sizes
from aecli.config import plain
from aecli.data import DataModule
from aecli.size import check_fits

NUMBERS_A_WEIGHT = 4
"""The weight, its gradient and Adam's two moments."""
AVERAGED = 2
"""With `trainer.average`: the average, and the weight while the average is in its place."""


def check_memory(config: DictConfig, data: DataModule) -> None:
    """Refuse a model and a batch size that a training step has no memory for.

    The model computes its loss on a batch of torch's "meta" tensors, which have a shape and no
    memory; counted are the weights and, where that can be seen, what autograd keeps of the step
    for the gradient.

    Raises:
        SettingError: naming the settings that decide about it.
    """
    with torch.device("meta"):
        model = build(config, "model").train()
    count = len(data.splits["train"])
    size = min(data.batch_size or count, count)
    shapes = [shape for key in ("target_shape", "shape") if (shape := config.dataset.get(key))]
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += 0 if isinstance(tensor, torch.nn.Parameter) else tensor.nbytes
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.terms(*(torch.empty(size, *shape, device="meta") for shape in shapes))
    except (NotImplementedError, RuntimeError, ValueError):
        kept = 0  # a part looks at numbers, or refuses the batch, as it will when it trains
    weights = sum(weight.nbytes for weight in model.parameters())
    is_averaged = config.trainer.get("average") is not None
    numbers = NUMBERS_A_WEIGHT + (AVERAGED if is_averaged else 0)
    layers = sizes(plain(config.model))
    samples = f", model.samples={config.model.samples}" if "samples" in config.model else ""
    check_fits(
        f"dataset.batch_size={config.dataset.batch_size}{samples}, {layers}: a training step",
        numbers * weights + kept,
    )
