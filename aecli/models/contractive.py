"""The contractive autoencoder."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from aecli.errors import SettingError, check_number
from aecli.models.autoencoder import Autoencoder
from aecli.models.losses import Terms
from aecli.networks import BATCH_NORMS
from aecli.randomness import TORCH, Draws
from aecli.sparsity import KL, Sigmoid


class ContractiveAutoencoder(Autoencoder):
    """loss = −log p(x|z) + penalty + λ ‖J(x)‖²_F, J = ∂z/∂x, z = sparsity(encoder(x)).

    The code is made insensitive to small changes of the input, but for those that the
    reconstruction needs (Rifai et al., ICML 2011, eq. 5). J is taken at the clean x, with or
    without a noise, and λ ‖J(x)‖²_F, a mean over the batch, is logged as `contraction`. For one
    layer of sigmoid units with the weights W `(K, D)` it is in closed form (eq. 6),

        ‖J(x)‖²_F = Σ_j (z_j (1 − z_j))² Σ_i W_ji²,

    and else exact as well, by K backward passes: it takes K times the time and the memory of one.
    Which units a `TopK` or a `Lifetime` keeps counts as fixed.

    Args (beside those of `Autoencoder`):
        contraction: λ ≥ 0, nats per unit of ‖J(x)‖²_F.

    Raises:
        SettingError: for batch normalization, by which a code depends on the whole batch.
    """

    def __init__(self, contraction: float, **parts: Any) -> None:
        super().__init__(**parts)
        self.contraction = check_number("model.contraction", contraction, low=0)
        if any(isinstance(module, BATCH_NORMS) for module in self.encoder.modules()):
            raise SettingError(
                "network.batch_norm=true: an example's code would depend on the others of its"
                " batch; model=contractive_ae takes only network.batch_norm=false"
            )

    @property
    def is_one_sigmoid_layer(self) -> bool:
        """Whether the penalty is in closed form."""
        kinds = [type(module) for module in self.encoder.children()]
        return kinds == [nn.Flatten, nn.Linear] and type(self.sparsity) in (Sigmoid, KL)

    @property
    def is_steady(self) -> bool:
        """Whether a step can be compiled, too: gradients of gradients cannot."""
        return super().is_steady and self.is_one_sigmoid_layer

    def terms(self, x: Tensor, seen: Tensor | None = None, draws: Draws = TORCH) -> Terms:
        """Return the parts of the loss for clean examples x `(B, *S)`."""
        seen = self.noise(x) if seen is None else seen
        terms = super().terms(x, seen, draws)
        if not self.is_one_sigmoid_layer:
            norms = self.jacobian_norms(x)
        else:
            norms = self.sigmoid_norms(terms.code if seen is x else self.encoder(x).sigmoid())
        contraction = self.contraction * norms.mean()
        return terms._replace(loss=terms.loss + contraction, contraction=contraction)

    def reported(self, terms: Terms) -> dict[str, Tensor]:
        """Add λ ‖J(x)‖²_F."""
        assert terms.contraction is not None
        return super().reported(terms) | {"contraction": terms.contraction}

    def sigmoid_norms(self, code: Tensor) -> Tensor:
        """Return ‖J(x)‖²_F of one layer of sigmoid units from its code `(B, K)`: `(B,)`."""
        _, layer = self.encoder.children()
        assert isinstance(layer, nn.Linear)
        return (code * (1 - code)).square() @ layer.weight.square().sum(dim=1)

    def jacobian_norms(self, x: Tensor) -> Tensor:
        """Return ‖J(x)‖²_F of examples x `(B, *S)`, `(B,)`; differentiable where gradients are on.

        The examples do not depend on each other: a backward pass from one unit of all codes gives
        a row of each example's J.
        """
        is_training = torch.is_grad_enabled()
        # A sparsity's running means are those of the training's own pass.
        buffers = {name: buffer.clone() for name, buffer in self.sparsity.named_buffers()}
        with torch.inference_mode(mode=False), torch.enable_grad():
            # No leaf: torch's counter of operations, which hooks into modules, fails on one.
            x = x.clone().requires_grad_().clone()
            code = functional_call(self.sparsity, buffers, (self.encoder(x),)).code
            norms = x.new_zeros(len(x))
            for unit in code.unbind(dim=1):
                (row,) = torch.autograd.grad(
                    unit.sum(), x, retain_graph=True, create_graph=is_training
                )
                norms = norms + row.flatten(1).square().sum(dim=1)
        return norms
