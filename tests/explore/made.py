"""Pages of models with random weights, as `aecli explore` would make them of a run."""

import torch
from torch import nn

from aecli.build import build
from aecli.commands import explore
from aecli.config import composed
from aecli.explore.sweep import Sweep
from aecli.runs.find import Run
from aecli.runs.load import Loaded
from tests.conftest import configure


def loaded(folder, *words):
    """Return a run in memory: its weights are random, and nothing of it is on the disk."""
    is_mlp = not any(word.startswith("network=") or word == "model=pca" for word in words)
    small = ["network.hidden=[12]"] if is_mlp else []
    config, choices = configure("model.code_dim=3", *small, *words)
    if config.dataset.shape is None:  # it is found in the data
        data = build(config, "dataset")
        data.setup()
        config.dataset.shape, config.dataset.features = list(data.shape), data.card.features
    model = build(config, "model")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):  # as after a training
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_(1, 0.3)
    model = model.eval().requires_grad_(False)
    return Loaded(Run(folder / "run", folder / "run.ckpt"), config, choices, model, None, 0)


def page(*runs, **settings):
    """Return the text of the page of some runs."""
    config = composed("explore", *(f"{key}={value}" for key, value in settings.items()))
    sweep = Sweep(list(runs), ["setting"], [f"run {n}" for n in range(len(runs))])
    with torch.no_grad():
        return explore.made(sweep, config)[0].decode()
