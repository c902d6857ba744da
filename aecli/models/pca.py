"""Principal component analysis, the linear baseline, through the same commands as the rest."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from aecli.data import Batch
from aecli.errors import SettingError
from aecli.likelihoods import MSE, Gaussian, Likelihood
from aecli.models.autoencoder import Autoencoder
from aecli.networks import MLP
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.size import check_fits
from aecli.sparsity import Sparsity

MATRICES = 6
"""Of the size of the covariance, in float64, that its sums and its eigenvectors take at once."""


class PCA(Autoencoder):
    """z = Wᵀ(x − x̄), x̂ = W z + x̄, with the K leading eigenvectors of the covariance as W's columns.

    The linear autoencoder of least squared error (Pearson 1901; Bourlard & Kamp 1988), solved in
    closed form: one pass over the training set adds up its first and second moments, no gradient
    step is taken. Encoder and decoder are one linear layer each, so that everything else, the
    pictures of its filters too, works as for an autoencoder.

    Args:
        shape: (C, H, W) of an image, or (D,) of a row.
        code_dim: K, at most the number of features.
        noise, sparsity: those of `noise=none` and `sparsity=none`; PCA knows no others.
        likelihood: that of `mse`, or `gaussian` with a σ that is not learned; both have the same
            solution.
        optimizer: not used.
    """

    can_be_pretrained = False

    def __init__(
        self,
        shape: Sequence[int],
        code_dim: int,
        noise: Noise,
        sparsity: Sparsity,
        likelihood: Likelihood,
        optimizer: Optimization,
    ) -> None:
        if not noise.is_none:
            raise SettingError("model=pca is solved on clean examples: it takes only noise=none")
        if not sparsity.is_none:
            raise SettingError("model=pca has no code to make sparse: it takes only sparsity=none")
        if likelihood.leaves_out_missing:
            raise SettingError(
                "model=pca: is solved for the squared error, of all entries: it takes"
                " likelihood=mse, not mixed"
            )
        if not isinstance(likelihood, MSE | Gaussian) or likelihood.takes_logits:
            raise SettingError(
                "model=pca: its output is the mean itself: it takes likelihood=mse or gaussian"
            )
        if any(True for _ in likelihood.parameters()):
            raise SettingError(
                "likelihood.learn_sigma=true: model=pca takes no gradient steps to learn it by"
            )
        network = MLP(shape, hidden=[], activation="relu")
        super().__init__(network, code_dim, noise, sparsity, likelihood, optimizer)
        self.automatic_optimization = False
        self.requires_grad_(False)
        self._moments: tuple[Tensor, Tensor] | None = None
        self._count = 0
        features = self._linear[0].in_features
        if code_dim > features:
            raise SettingError(
                f"model.code_dim={code_dim}: an example has only {features} components"
            )

    @property
    def _linear(self) -> tuple[nn.Linear, nn.Linear]:
        """The layers of the encoder and of the decoder."""
        layers = [*self.encoder.children(), *self.decoder.children()]
        encoder, decoder = (layer for layer in layers if isinstance(layer, nn.Linear))
        return encoder, decoder

    def on_train_start(self) -> None:
        """Refuse more features than there is memory for."""
        super().on_train_start()
        features = self._linear[0].in_features
        check_fits(
            f"model=pca: the covariance of {features:,} features", MATRICES * 8 * features**2
        )

    def training_step(self, batch: Batch, index: int) -> None:
        """Add the batch to the moments; after the last batch, solve."""
        x = batch.x.flatten(1).double()
        total, squares = x.sum(dim=0), x.T @ x
        if self._moments is not None:
            total, squares = self._moments[0] + total, self._moments[1] + squares
        self._moments = total, squares
        self._count += len(x)
        if self.trainer.is_last_batch:
            self.solve(total, squares, self._count)
            optimizer: Any = self.optimizers()
            optimizer.step()  # empty, but Lightning saves no checkpoint after 0 steps
            self.trainer.should_stop = True

    def on_train_epoch_end(self) -> None:
        """Log nothing: there was no loss along the way."""

    def configure_optimizers(self) -> SGD:
        """Return an optimizer that has no gradient to follow."""
        return SGD(self.parameters())

    def solve(self, total: Tensor, squares: Tensor, count: int) -> None:
        """Set the weights from Σ x `(D,)`, Σ x xᵀ `(D, D)` and the number of examples."""
        mean = total / count
        covariance = squares / count - mean.outer(mean)
        vectors = torch.linalg.eigh(covariance).eigenvectors  # columns, ascending eigenvalues
        components = vectors.flip(1)[:, : self.code_dim]
        encoder, decoder = self._linear
        encoder.weight.copy_(components.T)
        encoder.bias.copy_(-(mean @ components))
        decoder.weight.copy_(components)
        decoder.bias.copy_(mean)
