"""Configuration → objects: the only caller of Hydra's `instantiate`.

A configuration may come out of a checkpoint that a stranger made, so a `_target_` is imported and
called only if it is on the list.
"""

from collections.abc import Iterator
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aecli.errors import SettingError, shortened
from aecli.messages import of_omegaconf
from aecli.size import check_fits

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
        raise SettingError(of_omegaconf(error)) from error
    if not isinstance(plain.get(key), dict) or "_target_" not in plain[key]:
        raise SettingError(f"{key}={plain.get(key)}: must be one of the options of this group")
    for path, target in _targets(plain[key], key):
        if target not in ALLOWED or (target == TRAINER and path != "trainer._target_"):
            raise SettingError(f"{path}={target}: not a part of aecli; nothing of it was run")
    if key == "model":
        _check_weights(plain[key])
    return _made(plain[key], key, **arguments)


def _made(node: dict[str, Any], key: str, **arguments: Any) -> Any:
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        raise _mistake(error, key) from error


def _check_weights(node: dict[str, Any]) -> None:
    """Refuse a model whose weights there is no memory for, before any is taken.

    It is made on torch's "meta" device first, where a tensor has a shape and no memory.
    """
    with torch.device("meta"):
        model = _made(node, "model")
    size = sum(weight.nbytes for weight in model.state_dict().values())
    check_fits(f"{sizes(node)} makes a model that", size)


def sizes(node: dict[str, Any]) -> str:
    """Return the settings that decide about a model's size, as they are typed."""
    lists = {k: v for k, v in (node.get("network") or {}).items() if isinstance(v, list)}
    lists.pop("shape", None)
    told = [f"network.{key}={value}" for key, value in lists.items()]
    return shortened(", ".join([f"model.code_dim={node.get('code_dim')}", *told])).replace("'", "")


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
    if isinstance(cause, RuntimeError) and "overflowed" in told:
        return SettingError(f"{key}: is larger than any memory: see the sizes of its layers")
    return SettingError(f"{key}: {' '.join(told.split())}")
