"""The importance-weighted autoencoder."""

import math
from typing import Any

from torch import Tensor

from aecli.errors import SettingError
from aecli.models.losses import Terms
from aecli.models.vae import VAE
from aecli.randomness import TORCH, Draws


class IWAE(VAE):
    """loss = −log (1/k) Σ_i w_i + penalty, w_i = p(x|z_i) p(z_i) / q(z_i|x), z_i ~ q(z|x).

    A lower bound of log p(x) that is the ELBO for k = 1 and never falls as k grows (Burda, Grosse
    & Salakhutdinov 2015, arXiv 1509.00519, eq. 8). Logged as `bound`; `nll`, `kl` and `elbo`
    are those of the same samples as a VAE would report them, so that the two compare.

    Args (beside those of `Autoencoder`):
        samples: k ≥ 1.
    """

    def __init__(self, samples: int = 5, **parts: Any) -> None:
        for name in ("beta", "warmup_epochs", "warmup_steps"):
            if name in parts:
                raise SettingError(f"model.{name}={parts[name]}: the bound of model=iwae has no β")
        super().__init__(samples=samples, **parts)

    def terms(self, x: Tensor, seen: Tensor | None = None, draws: Draws = TORCH) -> Terms:
        """Return the parts of the loss for clean examples x `(B, *S)`."""
        posterior = self.posterior(self.noise(x) if seen is None else seen)
        z = posterior.sample(self.samples, draws)
        code, penalty = self.sparsity(z.flatten(0, 1))
        log_likelihood = self.log_likelihood(x, code)
        log_weight = self.log_weight(posterior, z, log_likelihood)
        bound = (log_weight.logsumexp(dim=0) - math.log(self.samples)).mean()
        nll, kl = -log_likelihood.mean(), self.prior.kl(posterior, z).mean()
        return Terms(penalty - bound, nll, penalty, kl, code)

    def reported(self, terms: Terms) -> dict[str, Tensor]:
        """Add the bound."""
        return super().reported(terms) | {"bound": terms.penalty - terms.loss}
