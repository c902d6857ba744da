"""A VAE of which everything is known: x = W z + b + SIGMA ε, a linear Gaussian decoder."""

import torch
from torch.distributions import MultivariateNormal

from aecli.data import Batch
from aecli.likelihoods import Gaussian
from aecli.models import VAE
from aecli.randomness import FixedDraws
from tests.evaluation.test_metrics import parts

SIGMA = 0.7


def linear_vae(units=2):
    """Return the model, in float64; q has the true posterior's mean and the prior's variance."""
    model = VAE(**parts((1, 2, 2), Gaussian(SIGMA)), code_dim=units).double().requires_grad_(False)
    weight, bias = model.decoder[0].weight, model.decoder[0].bias
    gain = torch.linalg.solve(weight.T @ weight + SIGMA**2 * torch.eye(units).double(), weight.T)
    model.encoder[1].weight.copy_(torch.cat([gain, torch.zeros(units, 4)]))
    model.encoder[1].bias.copy_(torch.cat([-gain @ bias, torch.zeros(units)]))
    return model


def marginal(model):
    """Return p(x)."""
    weight, bias = model.decoder[0].weight, model.decoder[0].bias
    return MultivariateNormal(bias, weight @ weight.T + SIGMA**2 * torch.eye(4).double())


def true_posterior(model, x):
    """Return p(z|x) for x `(B, 1, 2, 2)`."""
    weight, bias = model.decoder[0].weight, model.decoder[0].bias
    precision = torch.eye(weight.shape[1]).double() + weight.T @ weight / SIGMA**2
    covariance = precision.inverse()
    mean = (x.flatten(1) - bias) @ weight @ covariance / SIGMA**2
    return MultivariateNormal(mean, covariance)


def batches(x, size):
    """Return x in batches, with the draws that belong to the examples."""
    parts = x.split(size)
    return [
        Batch(part, part, torch.zeros(len(part)), draws=FixedDraws(0, number * size))
        for number, part in enumerate(parts)
    ]
