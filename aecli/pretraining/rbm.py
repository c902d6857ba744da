"""Restricted Boltzmann machines."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

from aecli.errors import check_list, check_number
from aecli.pretraining.greedy import Greedy, Layer, Learner, TiedWeights


class RBM(Greedy):
    """Restricted Boltzmann machines, learned by one step of contrastive divergence (CD-1).

    E(v, h) = −cᵀv − bᵀh − hᵀWv with v and h in {0, 1}; the linear code layer has Gaussian hidden
    units of unit variance, p(h|v) = N(b + Wv, I), and the rate `linear_lr`. With ⟨⟩₀ the data's
    statistics and ⟨⟩₁ those after one step of Gibbs sampling, means over the batch,

        ΔW ← momentum · ΔW + lr · (⟨h vᵀ⟩₀ − ⟨h vᵀ⟩₁ − weight_decay · W),  W ← W + ΔW.

    Inputs are probabilities in [0, 1], hidden states are sampled, reconstructions are not (Hinton
    & Salakhutdinov 2006, and their code). Weights start at N(0, 0.1²), biases at 0.

    Args:
        lr: rate > 0 of the stochastic layers.
        linear_lr: that of a linear code layer.
        momentum: of the first five epochs, and of those after them.
        weight_decay: ≥ 0, on W.
    """

    START_EPOCHS = 5
    draws_weights = True

    def __init__(
        self,
        epochs: int,
        batch_size: int,
        lr: float,
        linear_lr: float,
        momentum: Sequence[float],
        weight_decay: float,
    ) -> None:
        super().__init__(epochs, batch_size)
        self.lr = check_number("pretraining.lr", lr, low=0, open_low=True)
        self.linear_lr = check_number("pretraining.linear_lr", linear_lr, low=0, open_low=True)
        share = partial(check_number, low=0, high=1, open_high=True)
        self.momentum = check_list("pretraining.momentum", momentum, share, "[0.5,0.9]", length=2)
        self.weight_decay = check_number("pretraining.weight_decay", weight_decay, low=0)

    def learner(self, layer: Layer) -> Learner:
        """Return the machine of this layer, its weights drawn anew."""
        layer.down.weight.normal_(0, 0.1)
        layer.down.bias.zero_()
        layer.up.bias.zero_()
        return Machine(self, layer)


class Machine:
    """One restricted Boltzmann machine; see `RBM`."""

    def __init__(self, settings: RBM, layer: Layer) -> None:
        self.settings = settings
        self.weights = layer.tied
        self.linear = layer.linear
        self.lr = settings.linear_lr if layer.linear else settings.lr
        self.changes = TiedWeights(*(torch.zeros_like(weight) for weight in self.weights))

    def hidden(self, visible: Tensor) -> Tensor:
        """Return E[h|v], `(B, H)`."""
        a = F.linear(visible, self.weights.weight, self.weights.hidden_bias)
        return a if self.linear else a.sigmoid()

    def visible(self, hidden: Tensor) -> Tensor:
        """Return E[v|h], `(B, D)`."""
        return (hidden @ self.weights.weight + self.weights.visible_bias).sigmoid()

    def sample(self, mean: Tensor) -> Tensor:
        """Return hidden states `(B, H)` of these means."""
        if self.linear:
            return mean + torch.randn_like(mean)
        return (torch.rand_like(mean) < mean).to(mean.dtype)

    def contrast(self, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return h `(2, B, H)` and v `(2, B, D)` of the data, and after one step of sampling."""
        hidden = self.hidden(visible)
        again = self.visible(self.sample(hidden))
        return torch.stack([hidden, self.hidden(again)]), torch.stack([visible, again])

    def step(self, visible: Tensor, epoch: int) -> None:
        """Take a step of CD-1."""
        number = self.changes.weight.dtype  # with precision=bf16-mixed h and v are of bfloat16
        hidden, visible = (state.to(number) for state in self.contrast(visible))
        hidden[1].neg_()
        momentum = self.settings.momentum[epoch >= RBM.START_EPOCHS]
        rate = self.lr / hidden.shape[1]
        # Both products at once and right into ΔW: what is as large as W takes longer to go through
        # memory than to compute.
        outer = hidden.flatten(0, 1).T, visible.flatten(0, 1)
        self.changes.weight.addmm_(*outer, beta=momentum, alpha=rate)
        if decay := self.settings.weight_decay:
            self.changes.weight.sub_(self.weights.weight, alpha=self.lr * decay)
        hidden_bias = hidden.sum(dim=(0, 1))
        self.changes.hidden_bias.mul_(momentum).add_(hidden_bias, alpha=rate)
        visible_bias = (visible[0] - visible[1]).sum(dim=0)
        self.changes.visible_bias.mul_(momentum).add_(visible_bias, alpha=rate)
        for weight, change in zip(self.weights, self.changes, strict=True):
            weight.add_(change)
