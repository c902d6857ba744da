"""The linear probe: logistic regression on a code, which measures how well it separates labels."""

import hashlib
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from scipy.optimize import minimize
from torch import Tensor

from aecli.data import Batches, InMemoryDataModule
from aecli.errors import check_int, check_number
from aecli.evaluation import metrics
from aecli.models import Autoencoder

log = logging.getLogger(__name__)

CURVATURE = 0.1
"""Of the softmax's loss, roughly p(1 − p): scales the steps, not the solution."""
HISTORY = 20
"""Steps that L-BFGS remembers."""
NO_DEVIATION = 1e-6
"""A feature is constant if its standard deviation is below this share of the largest."""


LAST: dict[tuple[Any, ...], "Fit"] = {}
"""The last fit on pixels, by its settings and a digest of what was fitted."""


class Probe:
    """Multinomial logistic regression on standardized features, by L-BFGS to a tolerance.

    The cost is that of scikit-learn's `LogisticRegression(C=C)` after its `StandardScaler`,

        C Σ_i −log p(label_i | u_i) + ½ ‖W‖²,  p(·|u) = softmax(W u + b),

    with u the features less their means over the training images, divided by their standard
    deviations there; a constant feature counts as 0. It is convex, so that its solution does not
    depend on the order of sums, on threads or on the start.

    Args:
        C: > 0; the weight of the labels against small weights.
        tolerance: > 0, of the largest derivative of the cost, over C and the number of images.
        steps: ≥ 1, of L-BFGS at most.
    """

    def __init__(self, C: float, tolerance: float, steps: int) -> None:  # noqa: N803
        self.C = check_number("eval.probe.C", C, low=0, open_low=True)
        self.tolerance = check_number("eval.probe.tolerance", tolerance, low=0, open_low=True)
        self.steps = check_int("eval.probe.steps", steps, 1)

    def __call__(
        self, model: Autoencoder, data: InMemoryDataModule, batch_size: int
    ) -> dict[str, float]:
        """Return the test errors in % on codes and on raw pixels, and whether both fits converged.

        The last, `probe_converged`, is 1 or 0.
        """
        train, test = (data.batches(name, batch_size) for name in ("train", "test"))
        kinds: dict[str, Callable[[Batches], tuple[Tensor, Tensor]]] = {
            "probe_error": lambda batches: metrics.codes(model, batches),
            "probe_error_pixels": metrics.pixels,
        }
        values: dict[str, float] = {}
        converged = True
        for name, rows in kinds.items():
            log.info("fitting the linear probe of %s", name)
            # The runs of a sweep have the same pixels, whose fit takes the longest.
            fit = (self._fitted_before if rows is metrics.pixels else self.fit)(*rows(train))
            values[name] = fit.error(*rows(test))
            converged = converged and fit.converged
            if not fit.converged:
                log.info(
                    "%s: not converged to eval.probe.tolerance=%g after eval.probe.steps=%d",
                    name,
                    self.tolerance,
                    self.steps,
                )
        return values | {"probe_converged": int(converged)}

    def _fitted_before(self, features: Tensor, labels: Tensor) -> "Fit":
        """Return `fit` of these features, the one from before if they are the same."""
        rows = [tensor.contiguous().numpy().data for tensor in (features, labels)]
        contents = [hashlib.sha256(data).digest() for data in rows]
        key = (self.C, self.tolerance, self.steps, *contents)
        if key not in LAST:
            fit = self.fit(features, labels)
            LAST.clear()
            LAST[key] = fit
        return LAST[key]

    def fit(self, features: Tensor, labels: Tensor) -> "Fit":
        """Return the classifier of features `(N, K)` with these labels `(N,)`."""
        x = features.double()
        mean = x.mean(dim=0)
        x = x - mean
        deviation = x.square().mean(dim=0).sqrt()
        varies = deviation > NO_DEVIATION * deviation.max()
        scale = torch.where(varies, 1 / deviation, 0.0)
        x.mul_(scale)

        # In the coordinates V, W = P V, the cost has about the same curvature in all directions: P
        # whitens the features, but for those directions that the ridge holds.
        ridge = 1 / (self.C * len(x))
        variances, directions = torch.linalg.eigh(x.T @ x / len(x))
        shrink = (CURVATURE * variances.clamp_min(0) + ridge).rsqrt()
        whitening = directions * shrink
        x = x @ whitening
        penalty = ridge * shrink.square()[:, None]

        classes, target = labels.unique(return_inverse=True)
        one_hot = F.one_hot(target).double()

        def cost(flat: np.ndarray) -> tuple[float, np.ndarray]:
            """Return the cost over C · N and its gradient at V and b, in a row."""
            weight = torch.from_numpy(flat).view(-1, len(classes))
            v, b = weight[:-1], weight[-1]
            log_p = torch.addmm(b, x, v).log_softmax(dim=1)
            value = 0.5 * (penalty * v * v).sum() - log_p.gather(1, target[:, None]).mean()
            error = log_p.exp_().sub_(one_hot).div_(len(x))
            gradient = torch.cat([x.T @ error + penalty * v, error.sum(dim=0)[None]])
            return float(value), gradient.flatten().numpy()

        found = minimize(
            cost,
            np.zeros((x.shape[1] + 1) * len(classes)),
            jac=True,
            method="L-BFGS-B",
            options={
                "gtol": self.tolerance,
                "ftol": 0.0,
                "maxiter": self.steps,
                "maxfun": 2 * self.steps,
                "maxcor": HISTORY,
            },
        )
        converged = bool(abs(found.jac).max() <= self.tolerance)
        log.info("fitted in %d steps", found.nit)
        weight = torch.from_numpy(found.x).view(-1, len(classes))
        w = scale[:, None] * (whitening @ weight[:-1])
        return Fit(classes, w, weight[-1] - mean @ w, converged)


class Fit(NamedTuple):
    """A linear classifier: softmax(x w + b)."""

    classes: Tensor
    """`(L,)`, the labels."""
    weight: Tensor
    """`(K, L)`, float64."""
    bias: Tensor
    """`(L,)`."""
    converged: bool
    """Whether the tolerance was reached."""

    def error(self, features: Tensor, labels: Tensor) -> float:
        """Return the share of wrong labels, in %."""
        chosen = torch.addmm(self.bias, features.double(), self.weight).argmax(dim=1)
        return 100 * float((self.classes[chosen] != labels).double().mean())
