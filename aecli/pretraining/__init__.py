"""Pretraining: what is done to a model's weights before the training proper."""

from aecli.pretraining.denoising import Denoising
from aecli.pretraining.greedy import Pretraining
from aecli.pretraining.rbm import RBM
from aecli.pretraining.sparse import Sparse

__all__ = ["RBM", "Denoising", "Pretraining", "Sparse"]
