"""What the tests share: composed configurations, tiny trainings, and where MNIST is."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch import seed_everything
from omegaconf import open_dict

from aecli.config import register

CONF = Path(__file__).parents[1] / "conf"
MNIST = Path(__file__).parents[2] / "shared" / "data"
VARIANTS = tuple(sorted(path.stem for path in CONF.glob("model/*.yaml")))
PROBABILISTIC = ("vae", "iwae")
EXPERIMENTS = sorted(
    str(path.relative_to(CONF / "experiment").with_suffix(""))
    for path in (CONF / "experiment").rglob("*.yaml")
)


def configure(*overrides: str, command: str = "train"):
    """Compose a configuration as the command line does; return it and the choice in each group."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_module("aecli.conf", version_base="1.3"):
        config = compose(command, list(overrides), return_hydra_config=True)
    choices = {k: str(v) for k, v in config.hydra.runtime.choices.items() if "/" not in k}
    with open_dict(config):
        del config["hydra"]
    return config, choices


@pytest.fixture(autouse=True)
def _seeded():
    seed_everything(0, verbose=False)
    torch.set_num_threads(1)  # tiny tensors: more threads only cost


@pytest.fixture
def mnist():
    """Return the folder that holds MNIST, for `dataset.root`."""
    if not (MNIST / "mnist").is_dir():
        pytest.skip(f"needs MNIST in {MNIST}/mnist")
    return MNIST


@pytest.fixture
def images():
    """Return 16 images of 1×8×8 in [0, 1]."""
    return torch.rand(16, 1, 8, 8)
