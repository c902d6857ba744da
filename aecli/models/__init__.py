"""The variants, each a LightningModule: what differs in the training step, and nothing else."""

from aecli.models.autoencoder import Autoencoder
from aecli.models.contractive import ContractiveAutoencoder
from aecli.models.dictionary import Dictionary
from aecli.models.iwae import IWAE
from aecli.models.losses import Losses, Terms
from aecli.models.pca import PCA
from aecli.models.vae import VAE

__all__ = [
    "IWAE",
    "PCA",
    "VAE",
    "Autoencoder",
    "ContractiveAutoencoder",
    "Dictionary",
    "Losses",
    "Terms",
]
