"""Stacked sparse autoencoders."""

import torch
from torch import Tensor

from aecli.errors import SettingError, check_int, check_number
from aecli.networks import TiedLinear
from aecli.optimizers import LBFGS
from aecli.pretraining.greedy import Greedy, Layer, Learner
from aecli.sparsity import bernoulli_kl


class Sparse(Greedy):
    """Sparse autoencoders on the whole set, by L-BFGS (Ng, CS294A notes 2011).

    h = sigmoid(Wv + b), v̂ = sigmoid(Vh + c), and the cost, with means over the training split,

        ½ mean ‖v − v̂‖² + (λ/2)(‖W‖² + ‖V‖²) + β Σ_j KL(ρ ‖ ρ̂_j).

    Args:
        epochs: times `iterations` of L-BFGS for each layer.
        target: ρ, the mean activation that each unit shall have.
        weight: β, of the penalty.
        weight_decay: λ.
        iterations: of L-BFGS in an epoch.
    """

    tied = False

    def __init__(
        self, epochs: int, target: float, weight: float, weight_decay: float, iterations: int
    ) -> None:
        super().__init__(epochs, batch_size=None)
        self.target = check_number(
            "pretraining.target", target, low=0, high=1, open_low=True, open_high=True
        )
        self.weight = check_number("pretraining.weight", weight, low=0)
        self.weight_decay = check_number("pretraining.weight_decay", weight_decay, low=0)
        self.iterations = check_int("pretraining.iterations", iterations, 1)

    def learner(self, layer: Layer) -> Learner:
        """Return the sparse autoencoder of this layer."""
        if layer.linear or isinstance(layer.up, TiedLinear):
            raise SettingError(
                "pretraining=sparse: needs sparsity=sigmoid or kl, and network.tied=false"
            )
        return SparseLearner(self, layer)


class SparseLearner:
    """One sparse autoencoder; see `Sparse`."""

    def __init__(self, settings: Sparse, layer: Layer) -> None:
        self.settings = settings
        self.layer = layer
        parameters = [*layer.down.parameters(), *layer.up.parameters()]
        self.optimizer = LBFGS(
            parameters,
            lr=1.0,
            weight_decay=settings.weight_decay,
            max_iter=settings.iterations,
            history_size=50,
            line_search_fn="strong_wolfe",
            tolerance_grad=0.0,
            tolerance_change=0.0,
        )

    def cost(self, visible: Tensor) -> Tensor:
        """Return the cost on v `(B, D)` but for the weight decay."""
        hidden = self.layer.down(visible).sigmoid()
        error = (self.layer.up(hidden).sigmoid() - visible).square().sum() / len(visible)
        sparsity = bernoulli_kl(self.settings.target, hidden.mean(dim=0)).sum()
        return 0.5 * error + self.settings.weight * sparsity

    @torch.enable_grad()
    def step(self, visible: Tensor, epoch: int) -> None:
        """Take `iterations` of L-BFGS, in full precision: its line search needs it."""
        visible = visible.to(self.layer.down.weight.dtype)

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            cost = self.cost(visible)
            cost.backward()
            return cost

        with torch.autocast(visible.device.type, enabled=False):
            self.optimizer.step(closure)
