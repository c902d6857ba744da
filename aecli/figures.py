"""Tensors → pictures: grids of images, and a map of codes. PNG files, or arrays for TensorBoard.

Images are `(N, C, H, W)` with values in [0, 1]; what lies outside is clipped. Examples of other
shapes are drawn: rows of numbers `(N, D)` as bars.
"""

import io
from collections.abc import Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from aecli.colours import COLOURS
from aecli.text import chart_label, one_line

SMALLEST = 56
"""Pixels: smaller images are enlarged by a whole factor to be seen."""
MOST_BARS = 112
MOST_COLOURS = 20
MOST_UNITS = 600
TEXT, MARGIN = 14, 6
"""Pixels: the size of what is written around a grid, and the space around that."""
CELL, LETTERS = 0.6, 10 / 72
"""Inches: the side of an example in labelled rows, and the size of the rows' names."""


def as_images(examples: Tensor) -> Tensor:
    """Return examples as images `(N, 1 or 3, H, W)` in [0, 1], on the CPU.

    Of a fourth channel, the opacity, what is seen over white; other numbers of channels as their
    mean; rows of numbers `(N, D)` as bars.
    """
    examples = examples.detach().cpu().float()
    if examples.dim() == 2:
        return bars(examples)
    channels = examples.shape[1]
    if channels == 4:
        examples = examples.clamp(0, 1)
        colour, opacity = examples[:, :3], examples[:, 3:]
        examples = colour * opacity + 1 - opacity
    elif channels not in (1, 3):
        examples = examples.mean(dim=1, keepdim=True)
    return examples.clamp(0, 1)


def bars(rows: Tensor) -> Tensor:
    """Return a picture `(N, 1, H, W)` of each row of numbers `(N, D)`: a bar from 0 for each.

    All have one scale, with 0 on it; the 0.5 % of bars that are the longest may reach beyond it. Of
    more than `MOST_BARS` numbers each bar shows the extremes of a few.
    """
    up, down = rows.clamp(min=0), -rows.clamp(max=0)
    if rows.shape[1] > MOST_BARS:
        up, down = (F.adaptive_max_pool1d(lengths, MOST_BARS) for lengths in (up, down))
    high, low = (_most(lengths) for lengths in (up, down))
    at = torch.linspace(high, -low, SMALLEST)[:, None]  # the value at a line of pixels
    half = max(high + low, 1e-12) / (2 * SMALLEST - 3)  # half of the lines' distance, and a bit
    inside = (at <= up[:, None] + half) & (at >= -down[:, None] - half)
    width = -(-SMALLEST // up.shape[1])
    return 1 - 0.8 * inside.float().repeat_interleave(width, dim=2).unsqueeze(1)


def _most(lengths: Tensor) -> float:
    return float(np.quantile(lengths[lengths > 0], 0.995)) if lengths.any() else 0.0


def area(shape: Sequence[int]) -> float:
    """Return how many numbers the picture of an example has, at most: its bars, or it enlarged."""
    if len(shape) == 1:
        return SMALLEST * max(2 * SMALLEST, MOST_BARS)
    return prod(shape) * max(1.0, SMALLEST / shape[-1]) ** 2


def squared(images: Tensor) -> Tensor:
    """Return images `(N, C, H, W)` filled up with white to a square."""
    height, width = images.shape[2:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(images, (left, side - width - left, top, side - height - top), value=1.0)


def grid(images: Tensor, columns: int, line: float = 0.5) -> Tensor:
    """Return examples row by row, with lines of this grey between: `(C, …, …)`."""
    images = as_images(images)
    factor = max(1, round(SMALLEST / images.shape[-1]))
    images = images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    images = F.pad(images, (0, 2, 0, 2), value=line)
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    empty = images.new_full((rows * columns - count, channels, height, width), line)
    cells = torch.cat([images, empty]).view(rows, columns, channels, height, width)
    return cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def framed(
    picture: Tensor, title: str, rows: Sequence[str] = (), columns: Sequence[str] = ()
) -> Tensor:
    """Return a grid `(C, H, W)` on white, below its title: `(C, H', W')`.

    `rows` stand left of as many rows of the grid, `columns` above its columns; a text that is wider
    than its column is left out.
    """
    font, (height, width) = _font(), picture.shape[1:]
    title, *names = (one_line(text) for text in (title, *rows))
    line = TEXT + 2 * MARGIN
    left = MARGIN + round(max((font.getlength(name) + MARGIN for name in names), default=0))
    top = line * (2 if columns else 1)
    across = left + max(width, round(font.getlength(title))) + MARGIN
    image = Image.new("RGB" if len(picture) == 3 else "L", (across, top + height + MARGIN), "white")
    image.paste(Image.fromarray(_bytes(picture)), (left, top))
    draw = ImageDraw.Draw(image)
    draw.text((left, line / 2), title, "black", font, "lm")
    for place, name in enumerate(names):
        middle = top + height * (place + 0.5) / len(names)
        draw.text((left - MARGIN, middle), name, "black", font, "rm")
    for place, name in enumerate(map(one_line, columns)):
        if font.getlength(name) <= width / len(columns):
            middle = left + width * (place + 0.5) / len(columns)
            draw.text((middle, 1.5 * line), name, "black", font, "mm")
    pixels = np.asarray(image).reshape(*image.size[::-1], -1)
    return torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)


@cache
def _font() -> ImageFont.FreeTypeFont:
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), TEXT)


def labelled_rows(rows: Sequence[tuple[str, Tensor]], title: str = "") -> Figure:
    """Return a figure with rows of N examples, each by its name, N the same for all.

    Names and title take a margin of their own: the examples of two figures have one size, and lie
    one below the other, whatever the rows are called.
    """
    names, images = zip(*rows, strict=True)
    count = len(images[0])
    picture = _bytes(grid(torch.cat(images), columns=count))
    if picture.ndim == 2:
        picture = np.stack([picture] * 3, axis=-1)
    height, width = picture.shape[:2]
    longest = max(_font().getlength(line) for name in names for line in name.split("\n"))
    left, top = max(1.1, 0.2 + longest / TEXT * LETTERS), 0.35 if title else 0.0
    across = CELL * count
    down = across * height / width
    size = (left + across + 0.1, top + down)
    figure = Figure(figsize=size)
    axes = figure.subplots()
    figure.subplots_adjust(left / size[0], 0, (left + across) / size[0], down / size[1])
    axes.imshow(picture)
    axes.set_yticks([height * (row + 0.5) / len(rows) for row in range(len(rows))], names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_title(chart_label(title), fontsize=11, loc="left")
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def filters(weights: Tensor, columns: int, *, together: bool = False) -> Tensor:
    """Return a grid of weights `(N, *S)`, in which 0 of an image is grey.

    Each is scaled by its own largest, or `together` by the largest of all.
    """
    scale = weights.flatten(1).abs().amax(dim=1).clamp_min(1e-12)
    scale = scale.max().expand_as(scale) if together else scale
    weights = weights / scale.view(-1, *[1] * (weights.dim() - 1))
    if weights.dim() == 2:
        return grid(weights, columns)
    if weights.shape[1] == 4:  # the opacity is no colour
        weights = weights[:, :3]
    return grid(0.5 + 0.5 * weights, columns, line=1.0)


def activations(examples: Tensor, codes: Tensor, names: Sequence[str], title: str) -> Figure:
    """Return the codes `(N, K)` of examples `(N, *S)`, a row each: how active each unit is.

    White is 0. Of more than `MOST_UNITS` units each cell shows the most active of a few.
    """
    if codes.shape[1] > MOST_UNITS:
        up, down = (F.adaptive_max_pool1d(c.clamp(min=0), MOST_UNITS) for c in (codes, -codes))
        codes = torch.where(up >= down, up, -down)
    most, signed = max(float(codes.abs().max()), 1e-12), bool((codes < 0).any())
    figure = Figure(figsize=(9, 0.6 + 0.36 * len(codes)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 18))
    pictures = grid(squared(as_images(examples)), columns=1)
    left.imshow(pictures.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1, aspect="auto")
    height = pictures.shape[1] / len(codes)
    left.set_yticks([height * (row + 0.5) for row in range(len(codes))], names)
    left.set_xticks([])
    left.tick_params(length=0)
    colours = {"cmap": "PuOr", "vmin": -most} if signed else {"cmap": "Greys", "vmin": 0}
    drawn = right.imshow(
        codes.numpy(), aspect="auto", interpolation="nearest", vmax=most, **colours
    )
    right.set_yticks([])
    right.set(xlabel="unit of the code")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(drawn, ax=right, label="activation", pad=0.01)
    figure.suptitle(chart_label(title), fontsize=11)
    return figure


def code_map(
    points: np.ndarray,
    labels: np.ndarray | None,
    title: str,
    axes_names: Sequence[str],
    prior: np.ndarray | None = None,
) -> Figure:
    """Return a scatter of points `(N, 2)` coloured by label `(N,)`, with names of the two axes.

    Of more than `MOST_COLOURS` labels the commonest have a colour, the others are grey. `prior` is
    the centre `(2,)` of the prior N(0, I), of which one and two standard deviations are drawn.
    """
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    if prior is not None:
        axes.set_aspect("equal", "datalim")
        turn = np.linspace(0, 2 * np.pi, 100)
        for radius, name in ((1, "prior: σ and 2σ"), (2, None)):
            x, y = prior[0] + radius * np.cos(turn), prior[1] + radius * np.sin(turn)
            axes.plot(x, y, "k--", linewidth=1, label=name)
    style: dict[str, Any] = {
        "s": min(max(20_000 / len(points), 3), 30),
        "alpha": 0.7,
        "linewidths": 0,
    }
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], **style)
    else:
        names, counts = np.unique(labels, return_counts=True)
        coloured = np.sort(names[np.argsort(-counts, kind="stable")[:MOST_COLOURS]])
        if len(names) > MOST_COLOURS:
            x, y = points[~np.isin(labels, coloured)].T
            label = f"{len(names) - MOST_COLOURS} others"
            axes.scatter(x, y, color="lightgrey", label=label, **style)
        colours = COLOURS if len(coloured) <= len(COLOURS) else colormaps["tab20"].colors  # type: ignore[attr-defined]
        for colour, name in zip(colours, coloured, strict=False):
            x, y = points[labels == name].T
            label = one_line(chart_label(name), 30)
            axes.scatter(x, y, color=colour, label=label, **style)
        legend = axes.legend(title="label", loc="center left", bbox_to_anchor=(1, 0.5))
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([40])
    axes.set(title=chart_label(title), xlabel=axes_names[0], ylabel=axes_names[1])
    return figure


def histogram(values: Mapping[str, np.ndarray], axis: str, mark: float | None = None) -> Figure:
    """Return histograms of values `(n,)` by their names, as densities, and a line at `mark`.

    What lies above 99.5 % of all values is counted at the right end.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    every = np.concatenate(list(values.values()))
    ends = float(every.min()), float(np.quantile(every, 0.995))
    bins = np.histogram_bin_edges(np.clip(every, *ends), bins=50)
    for name, part in values.items():
        label = f"{chart_label(name)} ({len(part):,})"
        axes.hist(np.clip(part, *ends), bins=list(bins), density=True, alpha=0.6, label=label)
    if mark is not None:
        axes.axvline(
            mark, color="black", linestyle="--", linewidth=1, label=f"threshold {mark:.4g}"
        )
    axes.legend()
    axes.set(xlabel=axis, ylabel="density")
    return figure


def firing_rates(rates: np.ndarray, rows: int, title: str) -> Figure:
    """Return a histogram of the firing rates `(n,)` of latents on so many rows; dead ones apart."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    alive = rates[rates > 0]
    edges = np.logspace(np.log10(0.7 / rows), 0, 50)
    axes.hist(alive, bins=list(edges), color=COLOURS[0])
    dead = len(rates) - len(alive)
    counted = f"{len(alive):,} of {len(rates):,} latents fire; {dead:,} {_are(dead)} dead"
    axes.set_title(f"{chart_label(title)}\n{counted} (never active on the {rows:,} test rows)")
    axes.title.set_fontsize(11)
    axes.set(xscale="log", ylabel="number of latents")
    axes.set_xlabel("firing rate: the share of the rows on which a latent is active")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def histograms(values: Mapping[str, np.ndarray], title: str) -> Figure:
    """Return a histogram of each column's values `(n,)`; bars of the commonest, if it has texts."""
    across = min(5, len(values))
    down = -(-len(values) // across)
    figure = Figure(figsize=(2.4 * across, 0.4 + 1.8 * down), layout="constrained")
    places = figure.subplots(down, across, squeeze=False).flatten()
    for place, (name, column) in zip(places, values.items(), strict=False):
        place.set_title(one_line(chart_label(name), 24), fontsize=8)
        place.tick_params(labelsize=7)
        if column.dtype.kind in "fiub":
            place.hist(column.astype(float), bins=30)
        else:
            texts, counts = np.unique(column.astype(str), return_counts=True)
            most = counts.argsort()[::-1][:8]
            place.barh([one_line(chart_label(text), 12) for text in texts[most]], counts[most])
    for place in places[len(values) :]:
        place.set_visible(False)
    figure.suptitle(chart_label(title), fontsize=9)
    return figure


def png(picture: Tensor) -> bytes:
    """Return a picture `(C, H, W)` as the contents of a PNG file."""
    contents = io.BytesIO()
    Image.fromarray(_bytes(picture)).save(contents, format="PNG", optimize=True)
    return contents.getvalue()


def pixels_of(figure: Figure) -> Tensor:
    """Return a figure's pixels `(3, H, W)` in [0, 1]."""
    figure.set_dpi(110)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba(), dtype=np.float32)[..., :3]
    return torch.from_numpy(pixels / 255).permute(2, 0, 1)


def _bytes(picture: Tensor) -> np.ndarray:
    """Return `(H, W)` or `(H, W, 3)` bytes of a picture `(C, H, W)`."""
    return (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).squeeze(-1).numpy()
