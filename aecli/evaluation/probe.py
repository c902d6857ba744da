"""The linear probe: logistic regression on a code, which measures how well it separates labels."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from scipy.optimize import minimize
from torch import Tensor

from aecli.data import Batches, DataModule
from aecli.errors import check_int, check_number
from aecli.evaluation import metrics
from aecli.evaluation.kept import kept
from aecli.models import Autoencoder
from aecli.size import check_fits

log = logging.getLogger(__name__)

STAGES = (15, 15, 15)
"""Steps of L-BFGS after each of which the curvature is taken anew, at the weights reached."""
HISTORY = 20
"""Steps that L-BFGS remembers."""
MOST_FACTORS = 1 << 26
"""Numbers in the factors of the curvature, above which all classes share one."""
LEAST_CURVATURE = 1e-5
"""Of a direction, as a share of the mean over all."""
NO_DEVIATION = 2e-7
"""A feature is constant if its standard deviation is below this share of its largest value: what
float32 tells apart."""
BYTES = 20
"""Of memory for each number of the features: itself, and twice in float64."""
ROUNDING = 1e-10
"""And below this share of the largest deviation: what is 0 but for the rounding of a product."""


class Probe:
    """Multinomial logistic regression on standardized features, by L-BFGS to a tolerance.

    The cost is that of scikit-learn's `LogisticRegression(C=C)` after its `StandardScaler`,

        C Σ_i −log p(label_i | u_i) + ½ ‖W‖²,  p(·|u) = softmax(W u + b),

    of two classes ½ ‖w₁ − w₀‖² in place of ½ ‖W‖²; u are the features less their means over the
    training examples, divided by their standard deviations there; a constant feature counts as 0.
    It is convex, so that its solution does not depend on the order of sums, on threads or on the
    start.

    Args:
        C: > 0; the weight of the labels against small weights.
        tolerance: > 0, of the largest derivative of the cost over C and the number of examples, in
            coordinates in which its curvature is about one.
        steps: ≥ 1, of L-BFGS at most.
    """

    def __init__(self, C: float, tolerance: float, steps: int) -> None:  # noqa: N803
        self.C = check_number("eval.probe.C", C, low=0, open_low=True)
        self.tolerance = check_number("eval.probe.tolerance", tolerance, low=0, open_low=True)
        self.steps = check_int("eval.probe.steps", steps, 1)

    def __call__(self, model: Autoencoder, data: DataModule, batch_size: int) -> dict[str, float]:
        """Return the test errors in % on codes and on raw features, and if both fits converged.

        The last, `probe_converged`, is 1 or 0. Raises `SettingError` if the codes do not fit into
        memory.
        """
        count = len(data.splits["train"])
        check_fits(
            f"eval.protocol=probe: the fit to {count:,} codes of {model.code_dim:,} numbers",
            BYTES * count * model.code_dim,
        )
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
            fit = (self.fit_once if rows is metrics.pixels else self.fit)(*rows(train))
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

    def fit_once(self, features: Tensor, labels: Tensor) -> "LinearClassifier":
        """Return `fit` of these features, the one from before if they are the same."""
        settings = (self.C, self.tolerance, self.steps)
        return kept("probe", settings, (features, labels), lambda: self.fit(features, labels))

    def fit(self, features: Tensor, labels: Tensor) -> "LinearClassifier":
        """Return the classifier of features `(N, K)` with these labels `(N,)`."""
        x = features.double()
        mean = x.mean(dim=0)
        x = x - mean
        deviation = x.square().mean(dim=0).sqrt()
        varies = deviation > NO_DEVIATION * features.abs().amax(dim=0)
        varies &= deviation > ROUNDING * deviation.max()
        scale = torch.where(varies, 1 / deviation, 0.0)
        x = torch.cat([x.mul_(scale), x.new_ones(len(x), 1)], dim=1)  # the last weight is b
        classes, target = labels.unique(return_inverse=True)
        one_hot = F.one_hot(target).double()
        # Of two classes the sum of squares is half of that of the difference, as w₀ = −w₁.
        share = (2 if len(classes) == 2 else 1) / (self.C * len(x))
        ridge = x.new_full((x.shape[1], 1), share)
        ridge[-1] = 0

        def cost(weight: Tensor) -> tuple[Tensor, Tensor]:
            """Return the cost over C · N and its gradient at the weights W and b, `(K + 1, L)`."""
            log_p = (x @ weight).log_softmax(dim=1)
            value = 0.5 * (ridge * weight * weight).sum() - log_p.gather(1, target[:, None]).mean()
            error = log_p.exp_().sub_(one_hot).div_(len(x))
            return value, x.T @ error + ridge * weight

        weight = x.new_zeros(x.shape[1], len(classes))
        steps, converged = 0, False
        for most in (*STAGES, self.steps):
            factors = _curvature(x, weight, ridge)
            found = _minimum(cost, weight, factors, self.tolerance, min(most, self.steps - steps))
            steps += found.steps
            weight, converged = found.weight, found.converged
            if converged or steps == self.steps:
                break
        log.info("fitted in %d steps", steps)
        w = scale[:, None] * weight[:-1]
        return LinearClassifier(classes, w, weight[-1] - mean @ w, converged)


def _curvature(x: Tensor, weight: Tensor, ridge: Tensor) -> Tensor:
    """Return the Cholesky factors of the cost's second derivatives in the weights of each class.

    Σ_i p_l(1 − p_l) u_i u_iᵀ / N + ridge, of class l; `(L, K + 1, K + 1)`, or one for all classes.
    In float32: a rough curvature changes the number of steps, not the solution.
    """
    rows = x.float()
    p = (rows @ weight.float()).softmax(dim=1)
    curvature = p * (1 - p)
    if len(weight) ** 2 * weight.shape[1] > MOST_FACTORS or not weight.any():
        curvature = curvature.mean(dim=1, keepdim=True)
    grams = [(rows * share[:, None]).T @ rows / len(x) for share in curvature.T]
    second = torch.stack(grams).double()
    diagonal = second.diagonal(dim1=1, dim2=2)
    diagonal += ridge[:, 0] + LEAST_CURVATURE * diagonal.mean(dim=1, keepdim=True)
    return torch.linalg.cholesky(second)


class _Minimum(NamedTuple):
    weight: Tensor
    steps: int
    converged: bool


def _minimum(
    cost: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    factors: Tensor,
    tolerance: float,
    steps: int,
) -> _Minimum:
    """Go down from `start` in coordinates V in which the curvature is about one: v_l = F_lᵀ w_l.

    What all classes have in common changes no probability; it is taken away.
    """

    one = torch.eye(len(start), dtype=start.dtype, device=start.device)
    inverse = torch.linalg.solve_triangular(factors.mT, one, upper=True)

    def of(v: np.ndarray) -> Tensor:
        weight = (inverse @ torch.from_numpy(v).view(-1, len(start), 1))[..., 0].T
        return weight - weight.mean(dim=1, keepdim=True)

    def value_and_gradient(v: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = cost(of(v))
        columns = (gradient - gradient.mean(dim=1, keepdim=True)).T[..., None]
        return float(value), (inverse.mT @ columns).flatten().numpy()

    found = minimize(
        value_and_gradient,
        (factors.mT @ start.T[..., None]).flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        options={
            "gtol": tolerance,
            "ftol": 0.0,
            "maxiter": steps,
            "maxfun": 2 * steps + 10,
            "maxcor": HISTORY,
        },
    )
    return _Minimum(of(found.x), found.nit, bool(abs(found.jac).max() <= tolerance))


class LinearClassifier(NamedTuple):
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
