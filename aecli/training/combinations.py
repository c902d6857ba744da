"""Choices that do not go together, each right by itself: refused before the training."""

from collections.abc import Mapping
from math import prod

from omegaconf import DictConfig, OmegaConf

from aecli.config import plain
from aecli.data import DataModule
from aecli.errors import SettingError, shortened
from aecli.models import VAE, Autoencoder
from aecli.optimizers import LBFGS
from aecli.pretraining import Pretraining
from aecli.runs.checkpoint import STANDARD


def check_combination(
    config: DictConfig,
    choices: Mapping[str, str],
    model: Autoencoder,
    data: DataModule,
    pretraining: Pretraining,
) -> None:
    """Raise `SettingError` for a part that another part of the same run would make useless."""
    _check_prior(config, choices, model)
    _check_targets(config, choices, model)
    _check_noise(config, choices, model, data)
    if pretraining.draws_weights:
        _check_start(config)
    _check_plain_steps(config, model)
    if config.trainer.max_epochs == 0 and not model.automatic_optimization:
        raise SettingError(
            f"trainer.max_epochs=0: model={choices['model']} is solved in its first epoch; set 1"
        )
    if config.dataset.get("missing") == "mask" and not model.likelihood.leaves_out_missing:
        raise SettingError(
            f"dataset.missing=mask: likelihood={choices['likelihood']} counts every entry; add"
            " likelihood=mixed, which leaves the missing ones out, or set dataset.missing=mean"
        )


def _check_prior(config: DictConfig, choices: Mapping[str, str], model: Autoencoder) -> None:
    """Refuse a prior that no part of the model would ask."""
    is_standard = OmegaConf.select(config, "prior._target_") == STANDARD
    if not is_standard and not isinstance(model, VAE):
        raise SettingError(
            f"prior={choices.get('prior')}: model={choices['model']} has no prior; choose model=vae"
            " or iwae"
        )


def _check_targets(config: DictConfig, choices: Mapping[str, str], model: Autoencoder) -> None:
    """Refuse targets that the model would not look at."""
    targets = config.dataset.get("targets")
    if targets is not None and not model.takes_targets:
        raise SettingError(
            f"dataset.targets={shortened(plain(config.dataset)['targets'])}:"
            f" model={choices['model']} reconstructs its own input; choose a sparse dictionary,"
            " such as model=topk_sae"
        )


def _check_noise(
    config: DictConfig, choices: Mapping[str, str], model: Autoencoder, data: DataModule
) -> None:
    """Refuse a noise that would leave all as it is."""
    if model.noise.rounds_to_nothing(prod(data.card.shape)):
        raise SettingError(
            f"noise.amount={config.noise.amount}: noise={choices['noise']} of so few features is"
            " none of them; choose more, or noise=none"
        )


def _check_start(config: DictConfig) -> None:
    """Refuse a start of the weights that a pretraining would not see."""
    for key in ("init", "output_bias"):
        if (value := config.network.get(key)) is not None:
            raise SettingError(
                f"network.{key}={value}: pretraining draws weights and biases of its own; leave it"
                " null"
            )


def _check_plain_steps(config: DictConfig, model: Autoencoder) -> None:
    """Refuse what changes a gradient after L-BFGS has asked for that of its cost."""
    if not issubclass(model.optimization.algorithm, LBFGS):
        return
    for key, usual in (("accumulate_grad_batches", 1), ("gradient_clip_val", None)):
        if (value := config.trainer.get(key, usual)) not in (usual, None):
            raise SettingError(
                f"trainer.{key}={value}: optimizer=lbfgs searches along a line by exact gradients;"
                " leave it out, or choose optimizer=adam"
            )
