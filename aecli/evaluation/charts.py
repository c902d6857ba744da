"""Figures of what `eval=theory` measures. Colours that all eyes tell apart (Okabe & Ito 2008)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from aecli import figures
from aecli.evaluation.aggregate import Aggregate
from aecli.evaluation.gap import Gaps
from aecli.evaluation.generated import SOURCES, Generated
from aecli.models import VAE
from aecli.models.vae import has_normal_prior
from aecli.priors import log_mixture
from aecli.text import chart_label, one_line

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
SHOWN = 12
"""Generated examples of a source in the picture."""
CELLS = 120
"""On a side of the picture of a plane of codes."""
MOST_UNITS = 40
DRAWN = 2000
"""Posteriors of which the picture of a plane is made."""


def gap(found: Gaps, samples: int, title: str) -> Figure:
    """Return the gap by example: a histogram, and beside it both sides where both are known."""
    both = bool(found.posterior)
    values = (found.integrated if both else found.sampled).numpy()
    figure = Figure(figsize=(11 if both else 6, 4.8), layout="constrained")
    axes = figure.subplots(1, 2 if both else 1, squeeze=False)[0]
    axes[0].hist(values, bins=min(40, max(10, len(values) // 5)), color=BLUE)
    axes[0].axvline(values.mean(), color=ORANGE, label=f"mean {values.mean():.3g}")
    axes[0].set(xlabel="log p(x) − ELBO (nats)", ylabel=f"images, of {len(values):,}")
    by = "log p(x) by integration" if both else f"a lower bound, by {samples:,} samples of z"
    axes[0].set_title(f"the gap by example; {by}", fontsize=10)
    axes[0].legend()
    if both:
        kl, sampled = found.kl.numpy(), found.sampled.numpy()
        ends = [0, 1.05 * max(kl.max(), values.max())]
        axes[1].plot(ends, ends, color=GREY, linewidth=1, label="equal")
        error = {"yerr": 2 * found.elbo_error.numpy(), "elinewidth": 1}
        label = "log p(x) by integration (± 2 standard errors of the ELBO)"
        axes[1].errorbar(kl, values, fmt="o", markersize=5, color=BLUE, label=label, **error)
        label = f"log p(x) by {samples:,} samples of q: low where q misses a part of p(z|x)"
        axes[1].plot(kl, sampled, "x", markersize=5, color=ORANGE, label=label)
        axes[1].set(xlabel="KL(q(z|x) ‖ p(z|x)), by integration (nats)")
        axes[1].set_ylabel("log p(x) − ELBO (nats)")
        axes[1].set_title("both sides, a point an image", fontsize=10)
        axes[1].legend(fontsize=7.5)
    figure.suptitle(f"gap of the ELBO: {chart_label(title)}")
    return figure


def gradients(
    steps: Sequence[tuple[str, int]], totals: Mapping[str, list[float]], title: str
) -> Figure:
    """Return the total variance of each estimator at the checkpoints (name, step)."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    names = {
        "score": ("score function", ORANGE, "s"),
        "baseline": ("score function with a baseline", GREEN, "^"),
        "reparameterized": ("reparameterized", BLUE, "o"),
    }
    places = range(len(steps))
    for name, values in totals.items():
        label, colour, marker = names[name]
        axes.plot(places, values, color=colour, marker=marker, label=label)
    axes.set_xticks(
        places, [f"{one_line(chart_label(name), 20)}\nstep {step:,}" for name, step in steps]
    )
    axes.set_xlim(-0.4, len(steps) - 0.6)
    axes.set_yscale("log")
    axes.set(xlabel="checkpoint", ylabel="variance of one draw,\nsum over μ and log σ (nats²)")
    axes.set_title(f"gradients of the ELBO: {chart_label(title)}")
    axes.legend()
    return figure


@torch.no_grad()
def aggregate(model: VAE, found: Aggregate, title: str) -> Figure:
    """Return the aggregated posterior beside the prior: densities of a plane, or bars of units."""
    if found.mean.shape[1] == 2:
        return _plane(model, found, title)
    if len(found.unit_kl):
        return _units(found, title)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    values = found.divergence.numpy()
    axes.hist(values, bins=50, color=BLUE)
    axes.axvline(values.mean(), color=ORANGE, label=f"mean {values.mean():.3g}")
    axes.set(xlabel="log q(z) − log p(z), z ~ q(z) (nats)", ylabel=f"samples, of {len(values):,}")
    axes.set_title(f"aggregated posterior against the prior: {chart_label(title)}", fontsize=10)
    axes.legend()
    return figure


def _plane(model: VAE, found: Aggregate, title: str) -> Figure:
    reach = 1.05 * float(found.mean.abs().max().clamp_min(3))
    axis = torch.linspace(-reach, reach, CELLS, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    step = max(1, len(found.mean) // DRAWN)
    log_q = log_mixture(z, found.mean[::step], found.log_variance[::step])
    log_p = model.log_prior(z.float().to(model.device)).cpu()
    figure = Figure(figsize=(10.5, 5), layout="compressed")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    densities = [values.double().exp().view(CELLS, CELLS).T.numpy() for values in (log_q, log_p)]
    highest = max(density.max() for density in densities)
    norm = LogNorm(highest * 1e-4, highest, clip=True)
    for axes, density, name in zip(panels, densities, ("q(z)", "p(z)"), strict=True):
        ends = (-reach, reach, -reach, reach)
        drawn = axes.imshow(density, origin="lower", extent=ends, norm=norm, cmap="cividis")
        axes.set_title({"q(z)": "aggregated posterior q(z)", "p(z)": "prior p(z)"}[name])
        axes.set(xlabel="z0", ylabel="z1")
        axes.label_outer()
        if has_normal_prior(model):
            _circles(axes)
    figure.colorbar(drawn, ax=panels, label="density (per squared unit of the code)")
    figure.suptitle(chart_label(title))
    return figure


def _circles(axes: Axes) -> None:
    """Draw where the prior N(0, I) is 1, 2 and 3 deviations from its mean."""
    for radius in (1, 2, 3):
        axes.add_patch(Circle((0, 0), radius, fill=False, color="white", linewidth=1))
        axes.annotate(f"{radius}σ", (0, radius), color="white", fontsize=8, ha="center")


def _units(found: Aggregate, title: str) -> Figure:
    order = found.unit_kl.argsort(descending=True)[:MOST_UNITS]
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(order))
    for shift, values, name, colour in (
        (-0.2, found.unit_kl, "mean of KL(q(z_j|x) ‖ p(z_j)): what the unit carries", BLUE),
        (0.2, found.unit_divergence, "KL(q(z_j) ‖ p(z_j)): how far the prior is", ORANGE),
    ):
        axes.bar(places + shift, values[order].numpy(), 0.4, label=name, color=colour)
    axes.set_xticks(places, [f"z{int(unit)}" for unit in order], fontsize=8)
    of = f", {len(order)} of {len(found.unit_kl)}" if len(order) < len(found.unit_kl) else ""
    axes.set(xlabel=f"unit of the code, by what it carries{of}", ylabel="nats")
    axes.set_title(f"aggregated posterior against the prior: {chart_label(title)}")
    axes.legend()
    return figure


def generated(found: Generated, title: str) -> Figure:
    """Return a row of examples of each source, with its distances from the test set."""
    rows: list[tuple[str, Tensor]] = [("test examples", found.examples["test"][:SHOWN])]
    for name, distances in found.distances.items():
        kernel, (precision, recall) = distances.kernel, distances.manifolds
        label = SOURCES[name].replace(" of the training", "\nof the training")
        numbers = f"kernel {kernel.value:.3g} ± {kernel.error:.1g}"
        shares = f"precision {precision:.2f}, recall {recall:.2f}"
        rows.append((f"{label}\n{numbers}\n{shares}", found.examples[name][:SHOWN]))
    figure = figures.labelled_rows(rows)
    figure.set_layout_engine("constrained")
    figure.set_size_inches(10.5, 0.73 * len(rows) + 0.5)
    (axes,) = figure.axes
    axes.tick_params(labelsize=7)
    axes.set_title(f"random codes, decoded: {chart_label(title)}", fontsize=10)
    return figure


def rate_distortion(points: Sequence[tuple[float, float, float]], title: str) -> Figure:
    """Return the models of a sweep as points (β, rate KL, distortion nll), in nats."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    betas, rate, distortion = (np.array(column) for column in zip(*points, strict=True))
    # One model for each β is a curve; several, that differ in other things, are points.
    style = "o-" if len(set(betas)) == len(betas) else "o"
    axes.plot(rate, distortion, style, color=BLUE, label="models")
    for beta, x, y in points:
        axes.annotate(f"β = {beta:g}", (x, y), xytext=(6, 6), textcoords="offset points")
    axes.margins(0.15)
    best = float((rate + distortion).min())
    ends = np.array([0.0, axes.get_xlim()[1]])
    axes.set(xlim=ends, ylim=axes.get_ylim())
    axes.plot(ends, best - ends, "--", color=GREY, label=f"rate + distortion = {best:.4g}, −ELBO")
    axes.set(xlabel="rate: KL(q(z|x) ‖ p(z)) (nats per image)")
    axes.set(ylabel="distortion: −log p(x|z) (nats per image)")
    axes.set_title(f"rate and distortion over β: {chart_label(title)}")
    axes.legend()
    return figure
