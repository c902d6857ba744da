"""Likelihoods: the decoder's output `(…, *S)` → p(x|z) over examples of a shape S.

S is `(C, H, W)` or `(D,)`. Each module owns its output activation and the data's support, and
returns an object with the interface of `torch.distributions`: `log_prob(x)` `(…)` in nats, summed
over an example's features, and `mean` `(…, *S)`, the reconstruction. x is a batch, `(B, *S)`: all
its dimensions but the first are features. Leading dimensions broadcast: for L outputs of each of B
examples, `(L, B, *S)`, the log_prob of x is `(L, B)`.
"""

from aecli.likelihoods.base import Distribution, Features, Likelihood, features
from aecli.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli, CrossEntropy
from aecli.likelihoods.gaussian import MSE, Gaussian
from aecli.likelihoods.mixed import Mixed

__all__ = [
    "MSE",
    "Bernoulli",
    "ContinuousBernoulli",
    "CrossEntropy",
    "Distribution",
    "Features",
    "Gaussian",
    "Likelihood",
    "Mixed",
    "features",
]
