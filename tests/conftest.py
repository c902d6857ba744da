"""What the tests share: the options in `conf/`, composed configurations, and where MNIST is."""

import os
import signal
import time
from pathlib import Path

# Set before torch starts its threads, for the processes that tests start, too: they share the
# processors with other workers, and threads that wait for work would spin against those.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "100")

# A shell ignores Ctrl-C for what it starts in the background, and aecli would leave it at that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch import seed_everything
from omegaconf import open_dict

from aecli.build import build
from aecli.config import register
from aecli.models import Dictionary

CONF = Path(__file__).parents[1] / "conf"
MNIST = Path(__file__).parents[2] / "shared" / "data"
UNTIL = float(os.environ.get("AECLI_SLOW_UNTIL", "inf"))
"""When the last slow test may begin, in seconds since 1970: `.ci/run` has 40 minutes."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out a slow test that there is no time for."""
    if item.get_closest_marker("slow") and time.time() > UNTIL:
        pytest.skip("left out: the time for slow tests was over")


def options(group: str) -> list[str]:
    """Return the names of a group's options, as they are typed."""
    folder = CONF / group
    return sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))


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


def small(variant: str) -> tuple[str, ...]:
    """Return the overrides that choose a model with a small network, if its width can be set."""
    config, _ = configure(f"model={variant}")
    hidden = ["network.hidden=[16]"] if "hidden" in config.network else []
    # A step of it takes a backward pass for each unit of the code.
    units = ["model.code_dim=5"] if variant == "contractive_ae" else []
    units = ["model.code_dim=64"] if variant.endswith("_sae") else units
    return (f"model={variant}", *hidden, *units)


_MODELS = {name: build(configure(f"model={name}")[0], "model") for name in options("model")}
VARIANTS = list(_MODELS)
PROBABILISTIC = [name for name, model in _MODELS.items() if model.has_prior]
STEPWISE = [name for name, model in _MODELS.items() if model.takes_plain_steps]
"""The variants that are trained by gradient steps."""
ALIKE = {"ae", "vae", "sparse_ae", "topk_sae"}
"""One each of the variants whose training differs in kind: what takes seconds is a fast test of
these alone."""
DICTIONARIES = [name for name, model in _MODELS.items() if isinstance(model, Dictionary)]
LAYERED = [name for name in VARIANTS if name not in DICTIONARIES]
"""The variants with a network."""


def slow_unless(is_fast: bool, *values: object) -> object:
    """Return a case of a parametrized test, a slow one unless it is to be a fast one."""
    return pytest.param(*values, marks=() if is_fast else pytest.mark.slow)


STEPWISE_CASES = [slow_unless(name in ALIKE, name) for name in STEPWISE]
NETWORKS = [name for name in options("network") if name != "none"]
OF_DICTIONARIES = [
    name
    for name in options("sparsity")
    if configure(f"sparsity={name}")[0].sparsity._target_.startswith("aecli.dictionaries.")
]
"""Sparsities of dictionaries; the others are those of the models with a network."""
SPARSITIES = [name for name in options("sparsity") if name not in OF_DICTIONARIES]
EXPERIMENTS = options("experiment")


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
