"""Stacked denoising autoencoders."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

from aecli.errors import SettingError, check_list, check_number
from aecli.noise import Masking
from aecli.pretraining.greedy import Greedy, Layer, Learner, TiedWeights


class Denoising(Greedy):
    """Denoising autoencoders with tied weights (Vincent et al. 2008, 2010).

    y = sigmoid(Wṽ + b), z = sigmoid(Wᵀy + c), loss = −Σ v log z + (1−v) log(1−z), with ṽ the
    layer's input v of which exactly a share is 0; stochastic gradient descent. A linear code
    layer has y = Wṽ + b.

    Args:
        lr: rate > 0.
        momentum: in [0, 1).
        amounts: share of the inputs that is masked, a number for each layer; 0 for the plain
            stacked autoencoder.
    """

    def __init__(
        self, epochs: int, batch_size: int, lr: float, momentum: float, amounts: Sequence[float]
    ) -> None:
        super().__init__(epochs, batch_size)
        self.lr = check_number("pretraining.lr", lr, low=0, open_low=True)
        self.momentum = check_number(
            "pretraining.momentum", momentum, low=0, high=1, open_high=True
        )
        share = partial(check_number, low=0, high=1)
        self.amounts = check_list("pretraining.amounts", amounts, share, "[0.1,0.2,0.3]")

    def learner(self, layer: Layer) -> Learner:
        """Return the denoising autoencoder of this layer."""
        if layer.depth >= len(self.amounts):
            raise SettingError(
                f"pretraining.amounts={self.amounts}: layer {layer.depth + 1} needs one too"
            )
        return Denoiser(self, layer)


class Denoiser:
    """One tied denoising autoencoder; see `Denoising`."""

    def __init__(self, settings: Denoising, layer: Layer) -> None:
        self.weights = TiedWeights(*(weight.requires_grad_() for weight in layer.tied))
        self.noise = Masking(settings.amounts[layer.depth])
        self.linear = layer.linear
        self.optimizer = torch.optim.SGD(
            list(self.weights), settings.lr, momentum=settings.momentum, fused=True
        )

    def loss(self, visible: Tensor) -> Tensor:
        """Return the cross-entropy of v `(B, D)`, summed over the features, a mean over B."""
        weight, hidden_bias, visible_bias = self.weights
        a = F.linear(self.noise.corrupt(visible), weight, hidden_bias)
        output = F.linear(a if self.linear else a.sigmoid(), weight.T, visible_bias)
        total = F.binary_cross_entropy_with_logits(output, visible, reduction="sum")
        return total / len(visible)

    @torch.enable_grad()
    def step(self, visible: Tensor, epoch: int) -> None:
        """Take a step of stochastic gradient descent."""
        self.optimizer.zero_grad()
        self.loss(visible).backward()
        self.optimizer.step()
