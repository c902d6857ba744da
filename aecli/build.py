"""Configuration → objects: the only caller of Hydra's `instantiate`.

A configuration may come out of a checkpoint that a stranger made, so a `_target_` is imported and
called only if it is on the list.
"""

from collections.abc import Iterator
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aecli.errors import SettingError

TRAINER = "lightning.pytorch.Trainer"
ALLOWED = frozenset(
    {
        "aecli.data.Digits",
        "aecli.data.IDXFiles",
        "aecli.data.InMemoryDataModule",
        "aecli.likelihoods.Bernoulli",
        "aecli.likelihoods.ContinuousBernoulli",
        "aecli.likelihoods.CrossEntropy",
        "aecli.likelihoods.Gaussian",
        "aecli.likelihoods.MSE",
        "aecli.models.Autoencoder",
        "aecli.models.IWAE",
        "aecli.models.PCA",
        "aecli.models.VAE",
        "aecli.networks.Conv",
        "aecli.networks.MLP",
        "aecli.noise.Gaussian",
        "aecli.noise.Masking",
        "aecli.noise.Noise",
        "aecli.noise.SaltAndPepper",
        "aecli.optimizers.Optimization",
        "aecli.pretraining.Denoising",
        "aecli.pretraining.Pretraining",
        "aecli.pretraining.RBM",
        "aecli.pretraining.Sparse",
        "aecli.sparsity.KL",
        "aecli.sparsity.L1",
        "aecli.sparsity.Sigmoid",
        "aecli.sparsity.Sparsity",
        "aecli.sparsity.TopK",
        TRAINER,
    }
)


def build(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Return the object that `config[key]` describes, with its parts.

    `arguments` join those of the configuration.

    Raises:
        SettingError: for a `_target_` that is not on the list, a value that a part refuses, or
            a setting that it does not have.
    """
    # Resolved first: what is checked is then what is called.
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise SettingError(str(error).splitlines()[0]) from error
    if not isinstance(plain.get(key), dict) or "_target_" not in plain[key]:
        raise SettingError(f"{key}={plain.get(key)}: must be one of the options of this group")
    for path, target in _targets(plain[key], key):
        if target not in ALLOWED or (target == TRAINER and path != "trainer._target_"):
            raise SettingError(f"{path}={target}: not a part of aecli; nothing of it was run")
    try:
        return instantiate(plain[key], _convert_="all", **arguments)
    except InstantiationException as error:
        raise _mistake(error, key) from error


def _targets(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.items():
            here = f"{path}.{name}"
            if name == "_target_":
                yield here, value
            yield from _targets(value, here)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _targets(value, f"{path}[{index}]")


def _mistake(error: InstantiationException, key: str) -> SettingError:
    """Return the `SettingError` under Hydra's error, or one that tells the innermost cause.

    A part is made of settings alone: if making it fails, a setting was wrong.
    """
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, SettingError):
        cause = cause.__cause__
    if isinstance(cause, SettingError):
        return cause
    told = str(cause) or type(cause).__name__
    return SettingError(f"{key}: {' '.join(told.split())}")
