"""A known dictionary of features, and sparse sums of them: data of which the answer is known."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Generator, Tensor

from aecli.errors import SettingError, check_int, check_list, check_number, refused
from aecli.randomness import derived_seed
from aecli.size import check_fits

PROJECTIONS = 2
"""Steps towards a tight frame; after one Σ (f_i · f_j)² is within 10⁻⁴ of the least."""
SELDOM = 0.02
"""A probability: less likely places are found without a draw for each."""
OWN_LEAST = 0.01
"""Variance of each feature's Gaussian that is not shared, at least."""


class Firings(NamedTuple):
    """Which features are active in some rows: M pairs, those of a row together, rows rising."""

    row: Tensor
    """`(M,)`, int64, from 0 on."""
    feature: Tensor
    """`(M,)`, int64."""
    value: Tensor
    """How much, `(M,)`, above 0."""


class TrueDictionary:
    """x = Σ_i c_i f_i + b: of N unit features f_i `(d,)` a sparse c `(N,)` ≥ 0 is active.

    The model of SynthSAEBench (Chanin & Garriga-Alonso 2026, arXiv 2602.14687), after the
    description and the code in SAELens 6.54 (sae_lens/synthetic):

    - Features: random unit rows, made a tight frame, Fᵀ F = (N/d) I, which has the least
      Σ_{i≠j} (f_i · f_j)² there can be (Benedetto & Fickus 2003). SAELens descends that sum for 100
      steps and comes as near. ‖b‖ is `bias`.
    - Rates, by Zipf's law: p_i = lowest + (highest − lowest) · (i^−a − N^−a) / (1 − N^−a), where
      i = 1 … N.
    - Correlation, by a Gaussian copula: c_i > 0 where g_i > Φ⁻¹(1 − p̃_i), g = A ε + s ⊙ η, with
      ε ~ N(0, I_r), η ~ N(0, I_N), A `(N, r)` ~ N(0, scale²) drawn once and for all, and
      s_i² = 1 − ‖A_i‖².
    - Trees: the first features are the roots, those after them their children, level by level. A
      child can be active only where its parent is. Of the children of an `exclusive` parent that
      would be active at once, one is, each as likely. To make up for that,
      p̃_i = min(1, p_i / p_parent · (1 + Σ_{siblings} p_j / p_parent)), the sum for exclusive
      parents only; p̃_i = p_i of roots and of features in no tree. It does so in part: a feature
      in a tree is active less often than p_i, the less the deeper.
    - Magnitudes: c_i = max(0, m_i + σ_i ν) · c_parent / m_parent, ν ~ N(0, 1), the last factor for
      children only; m_i falls evenly from `magnitudes[0]` to `magnitudes[1]`, and
      σ_i ~ |N(deviation[0], deviation[1]²)| once and for all.

    Given ε the features are independent of each other. So a child is drawn only where its parent is
    active, which SAELens draws everywhere and sets to 0: the same distribution for far fewer draws.

    Args:
        true_features: N.
        width: d.
        rate_exponent: a ≥ 0.01.
        highest_rate, lowest_rate: p of the first and the last feature, in (0, 1].
        correlation_rank: r ≥ 1.
        correlation_scale: ≥ 0; the correlation of g_i and g_j is about ± scale² √r.
        trees: roots, 0 … N.
        branching: children of a parent, 1 … 1000.
        depth: levels below the roots, 1 … 20.
        exclusive: share of the parents whose children exclude each other, in [0, 1].
        magnitudes: m of the first and of the last feature, above 0.
        deviation: mean and standard deviation of what σ is the absolute value of, ≥ 0.
        bias: ‖b‖ ≥ 0.
        seed: of all that is drawn once and for all.

    Raises `SettingError` for settings that cannot be, and for more features than memory holds.
    """

    def __init__(
        self,
        true_features: int,
        width: int,
        rate_exponent: float,
        highest_rate: float,
        lowest_rate: float,
        correlation_rank: int,
        correlation_scale: float,
        trees: int,
        branching: int,
        depth: int,
        exclusive: float,
        magnitudes: Sequence[float],
        deviation: Sequence[float],
        bias: float,
        seed: int,
    ) -> None:
        self.count = count = check_int("dataset.true_features", true_features, 1)
        self.width, self.seed = check_int("dataset.width", width, 1), seed
        self.exponent = check_number("dataset.rate_exponent", rate_exponent, 0.01)
        self.highest = check_number("dataset.highest_rate", highest_rate, 0, 1, open_low=True)
        self.lowest = check_number("dataset.lowest_rate", lowest_rate, 0, 1, open_low=True)
        if lowest_rate > highest_rate:
            raise SettingError(
                f"dataset.lowest_rate={lowest_rate}: must be at most"
                f" dataset.highest_rate={highest_rate}"
            )
        self.rank = check_int("dataset.correlation_rank", correlation_rank, 1, 10_000)
        self.scale = check_number("dataset.correlation_scale", correlation_scale, 0)
        self.trees = check_int("dataset.trees", trees, 0)
        self.branching = check_int("dataset.branching", branching, 1, 1000)
        self.depth = check_int("dataset.depth", depth, 1, 20)
        self.exclusive = check_number("dataset.exclusive", exclusive, 0, 1)
        above, from_0 = partial(check_number, low=0, open_low=True), partial(check_number, low=0)
        self.magnitudes = check_list("dataset.magnitudes", magnitudes, above, "[5,4]", length=2)
        self.deviation = check_list("dataset.deviation", deviation, from_0, "[0.5,0.5]", length=2)
        self.bias_norm = check_number("dataset.bias", bias, 0)
        levels = [trees * branching**level for level in range(depth + 1)]
        self.parents, self.in_trees = sum(levels[:-1]), sum(levels)
        if self.in_trees > count:
            raise SettingError(
                f"dataset.trees={trees}, dataset.branching={branching}, dataset.depth={depth}: are"
                f" trees of {self.in_trees:,} features, and dataset.true_features={count}"
            )
        sizes = f"dataset.true_features={count}, dataset.width={width}"
        check_fits(f"{sizes}: the features", 40 * count * (width + self.rank))

    def _drawn(self, name: str, *shape: int) -> Tensor:
        """Return draws from N(0, 1), float64, that the seed and a name give."""
        generator = Generator().manual_seed(derived_seed(self.seed, name))
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    @cached_property
    def features(self) -> Tensor:
        """The unit features f, `(N, d)`."""
        return tight_frame(self._drawn("features", self.count, self.width)).float()

    @cached_property
    def bias(self) -> Tensor:
        """What is added to each row, b, `(d,)`."""
        return (self.bias_norm * F.normalize(self._drawn("bias", self.width), dim=0)).float()

    @cached_property
    def shared(self) -> Tensor:
        """What each feature has of the shared Gaussians, A, `(N, r)`."""
        return (self.scale * self._drawn("correlation", self.count, self.rank)).float()

    @cached_property
    def own(self) -> Tensor:
        """The standard deviation s of each feature's own part, `(N,)`."""
        own = 1 - self.shared.square().sum(dim=1)
        if own.min() < OWN_LEAST:
            raise refused(
                "dataset.correlation_scale",
                self.scale,
                f"smaller, since scale² times dataset.correlation_rank={self.rank} is the part of"
                " each feature that is shared: well below 1",
            )
        return own.sqrt()

    @cached_property
    def mean(self) -> Tensor:
        """The mean magnitudes m, `(N,)`."""
        first, last = self.magnitudes
        return torch.linspace(first, last, self.count)

    @cached_property
    def spread(self) -> Tensor:
        """The standard deviations σ of the magnitudes, `(N,)`."""
        mean, deviation = self.deviation
        return (mean + deviation * self._drawn("deviation", self.count)).abs().float()

    @cached_property
    def excludes(self) -> Tensor:
        """Whether the children of each parent exclude each other, `(parents,)`."""
        order = self._drawn("exclusive", self.parents).argsort()
        return order.argsort() < int(self.exclusive * self.parents)

    @cached_property
    def rates(self) -> Tensor:
        """The share of the rows that each feature shall be active on, p, `(N,)`, float64."""
        powers = torch.arange(1, self.count + 1, dtype=torch.float64) ** -self.exponent
        share = (powers - powers[-1]) / (1 - powers[-1]) if self.count > 1 else powers
        return self.lowest + (self.highest - self.lowest) * share

    @cached_property
    def thresholds(self) -> Tensor:
        """Above which its Gaussian makes a feature active, whose parent is, `(N,)`."""
        tried = self.rates.clone()
        if self.trees:
            children = slice(self.trees, self.in_trees)
            given = self.rates[children].view(-1, self.branching) / self.rates[: self.parents, None]
            others = (given.sum(dim=1, keepdim=True) - given) * self.excludes[:, None]
            tried[children] = (given * (1 + others)).flatten().clamp_max(1)
        return -torch.special.ndtri(tried).float()

    @cached_property
    def _reach(self) -> Tensor:
        """Above which A ε makes a feature in no tree active more often than `SELDOM`."""
        least = torch.special.ndtri(torch.tensor(SELDOM))
        return (self.thresholds + self.own * least)[self.in_trees :]

    def draw(self, rows: int, generator: Generator) -> Firings:
        """Return what is active in some rows, drawn by a generator of the processor's."""
        common = torch.randn(rows, self.rank, generator=generator)
        roots, alone = slice(0, self.trees), slice(self.in_trees, None)
        g = torch.randn(rows, self.trees, generator=generator).mul_(self.own[roots])
        g += common @ self.shared[roots].T
        row, feature = (g > self.thresholds[roots]).nonzero(as_tuple=True)
        above = self._sized(row, feature, generator)
        row, place = self._seldom(common @ self.shared[alone].T, generator)
        levels = [above, self._sized(row, place + self.in_trees, generator)]
        for _ in range(self.depth if self.trees else 0):
            above = self._children(above, common, generator)
            levels.append(above)
        row, feature, value = map(torch.cat, zip(*levels, strict=True))
        order = row.argsort(stable=True)
        return Firings(row[order], feature[order], value[order])

    def _sized(self, row: Tensor, feature: Tensor, generator: Generator) -> Firings:
        """Return how much features without a parent are active, without those that are not."""
        value = self._magnitude(feature, generator)
        here = value > 0
        return Firings(row[here], feature[here], value[here])

    def _seldom(self, shared: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return where features in no tree are active, as rows and columns of A ε `(rows, n)`.

        Given A ε, one is active with the probability π = Φ((A ε − threshold) / s): where u < π for
        a u ~ U(0, 1). Few u are below `SELDOM`: those alone are drawn, by the gaps between them. Of
        the other places only those can be active where π is above it.
        """
        flat, columns = shared.view(-1), shared.shape[1]
        thresholds, own = self.thresholds[self.in_trees :], self.own[self.in_trees :]

        def probability(place: Tensor) -> Tensor:
            column = place % columns
            return torch.special.ndtr((flat[place] - thresholds[column]) / own[column])

        few = successes(len(flat), SELDOM, generator)
        few = few[SELDOM * torch.rand(len(few), generator=generator) < probability(few)]
        often = (shared > self._reach).view(-1).nonzero().squeeze(1)
        u = SELDOM + (1 - SELDOM) * torch.rand(len(often), generator=generator)
        often = often[u < probability(often)]
        place = torch.cat([few, often]).unique()  # what is in both had its u below
        return place // max(1, columns), place % max(1, columns)

    def _children(self, above: Firings, common: Tensor, generator: Generator) -> Firings:
        """Return which children of active features are active."""
        shape = len(above.feature), self.branching
        number = self.trees + above.feature[:, None] * self.branching + torch.arange(shape[1])
        by_parent = self.shared[self.trees : self.in_trees].view(self.parents, -1)
        shared = by_parent[above.feature].view(*shape, self.rank)
        g = torch.randn(shape, generator=generator).mul_(self.own[number])
        g += (shared @ common[above.row, :, None]).squeeze(2)
        value = self._magnitude(number, generator)
        would = (g > self.thresholds[number]) & (value > 0)
        lot = torch.rand(shape, generator=generator).masked_fill_(~would, -1)
        wins = torch.zeros_like(would).scatter_(1, lot.argmax(dim=1, keepdim=True), value=True)
        active = would & (wins | ~self.excludes[above.feature, None])
        value *= (above.value / self.mean[above.feature])[:, None]
        row = above.row[:, None].expand(shape)
        return Firings(row[active], number[active], value[active])

    def _magnitude(self, feature: Tensor, generator: Generator) -> Tensor:
        noise = torch.randn(feature.shape, generator=generator)
        return torch.addcmul(self.mean[feature], self.spread[feature], noise).relu_()

    def sums(self, firings: Firings, rows: int) -> Tensor:
        """Return x of some rows, `(rows, d)`."""
        counts = firings.row.bincount(minlength=rows)
        starts = counts.cumsum(0) - counts
        x = F.embedding_bag(
            firings.feature, self.features, starts, mode="sum", per_sample_weights=firings.value
        )
        return x + self.bias


def tight_frame(rows: Tensor) -> Tensor:
    """Return rows `(N, d)`, float64, moved to the next tight frame of unit rows, about.

    Each step takes the nearest matrix with F Fᵀ or Fᵀ F in proportion to I, F (FᵀF)^−½, and scales
    its rows to norm 1. Fewer rows than numbers become orthogonal.
    """
    rows = F.normalize(rows, dim=1)
    for _ in range(PROJECTIONS):
        if len(rows) < rows.shape[1]:
            values, vectors = torch.linalg.eigh(rows @ rows.T)
            rows = (vectors * values.rsqrt()) @ (vectors.T @ rows)
        else:
            values, vectors = torch.linalg.eigh(rows.T @ rows)
            rows = rows @ ((vectors * values.rsqrt()) @ vectors.T)
        rows = F.normalize(rows, dim=1)
    return rows


def successes(count: int, rate: float, generator: Generator) -> Tensor:
    """Return the places of `count` at which a draw with the probability `rate` comes true, rising.

    The gaps between them are drawn, which are geometric.
    """
    found, last = [], -1
    while last < count:
        gaps = torch.empty(int(count * rate) + 64, dtype=torch.int64)
        places = last + gaps.geometric_(rate, generator=generator).cumsum(0)
        found.append(places)
        last = int(places[-1])
    every = torch.cat(found)
    return every[every < count]
