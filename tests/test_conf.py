"""Every YAML file under conf/ composes, and every `_target_` fits the signature it names."""

import inspect
from itertools import product

import pytest
import torch
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import OmegaConf

from aecli.build import build, is_part
from aecli.cli import COMMANDS
from aecli.training.arguments import NOT_LIGHTNINGS
from tests.conftest import CONF, LAYERED, SPARSITIES, configure, options, slow_unless

OPTIONS = [
    f"{folder.name}={name}"
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name not in ("hydra", "eval", "__pycache__")
    for name in options(folder.name)
]


def targets(node):
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_binds(option):
    config, choices = configure(option)
    group, name = option.split("=")
    assert choices[group] == name
    found = list(targets(OmegaConf.to_container(config, resolve=True)))
    assert len(found) >= 8
    for node in found:
        is_trainer = node["_target_"] == "lightning.pytorch.Trainer"
        assert is_trainer or is_part(node["_target_"])
        own = NOT_LIGHTNINGS if is_trainer else ()
        arguments = {k: v for k, v in node.items() if not k.startswith("_") and k not in own}
        inspect.signature(get_object(node["_target_"])).bind(**arguments)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"train", "data"}))
def test_the_other_commands_compose(command):
    config, _ = configure(command=command)
    assert config.run == "latest"


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith("dataset=")])
def test_the_data_sets_compose_without_a_training(option):
    data, training = configure(option, command="data")[0], configure(option)[0]
    assert "optimizer" not in data
    assert set(data.dataset) == set(training.dataset)
    assert data.dataset._target_ == training.dataset._target_


@pytest.mark.parametrize(
    ("variant", "noise", "sparsity"),
    [
        slow_unless("none" in (noise, sparsity), variant, noise, sparsity)
        for variant, noise, sparsity in product(LAYERED, options("noise"), SPARSITIES)
        if variant != "pca"
    ],
)
def test_any_noise_and_sparsity_goes_with_any_model_but_pca(variant, noise, sparsity):
    words = (f"model={variant}", f"noise={noise}", f"sparsity={sparsity}", "model.code_dim=200")
    config, _ = configure(*words)
    terms = build(config, "model").terms(torch.rand(12, 1, 8, 8).round())
    assert terms.loss.isfinite()
    assert terms.loss.requires_grad


def test_the_command_line_wins_over_a_preset():
    config, choices = configure(
        "model=dae", "noise=gaussian", "noise.std=0.7", "likelihood=gaussian"
    )
    assert choices["noise"] == "gaussian"
    assert config.model.noise.std == 0.7
    assert config.model.likelihood._target_ == "aecli.likelihoods.Gaussian"
    config, _ = configure("model=vae", "dataset.binarize=none", "trainer.max_epochs=3")
    assert (config.dataset.binarize, config.trainer.max_epochs) == ("none", 3)


def test_a_setting_that_reaches_no_part_is_an_error():
    with pytest.raises(HydraException, match=r"noise\.amount"):
        configure("noise=none", "noise.amount=0.3")
