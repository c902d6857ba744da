"""The rows of docs/reproductions.md in their order, and what each is held against.

A new experiment is its file in `conf/experiment/` and a line here.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Row(NamedTuple):
    """An experiment's row."""

    seeds: int
    """Three where a run takes under 30 minutes, else one."""
    better_than: Mapping[str, float] = {}
    """Other rows of the same metric, and by how much at least this one has to be better."""
    better_than_pixels: float | None = None
    """By how much at least its probe has to be better on the codes than on the raw pixels."""


ROWS = {
    "hinton2006/pca": Row(3),
    "hinton2006/deep_ae": Row(3),
    "hinton2006/deep_ae_batch_norm": Row(1),
    "hinton2006/dbn3": Row(1),
    "vincent2010/sdae3": Row(3, {"vincent2010/mlp": 0.0}),
    "vincent2010/mlp": Row(3),
    "vincent2010/basic_sdae3": Row(3, {"vincent2010/basic_sae3": 0.3}),
    "vincent2010/basic_sae3": Row(3),
    "ng2011/self_taught": Row(3, better_than_pixels=1.0),
    "ng2011/stacked": Row(3),
    "makhzani2013/k10": Row(1),
    "makhzani2013/k25": Row(1, {"makhzani2013/k40": 0.0}, better_than_pixels=0.0),
    "makhzani2013/k40": Row(1),
    "makhzani2013/k70": Row(1),
    "makhzani2015/fc_wta": Row(3),
    "rifai2011/contractive": Row(3, {"rifai2011/plain": 0.0, "rifai2011/weight_decay": 0.0}),
    "rifai2011/plain": Row(3),
    "rifai2011/weight_decay": Row(3),
    "kingma2013/vae_400": Row(1),
    "kingma2013/d2": Row(3),
    "kingma2013/d5": Row(3),
    "kingma2013/d10": Row(3),
    "kingma2013/d20": Row(3),
    "goodfellow2013/vae": Row(3),
    "sonderby2015/vae": Row(1),
    "altosaar2016/vae": Row(3),
    "burda2015/vae": Row(1),
    "burda2015/vae5": Row(1),
    "burda2015/iwae5": Row(1, {"burda2015/vae": 1.0}),
    "burda2015/iwae50": Row(1),
    "roeder2017/stl": Row(1, {"burda2015/vae": 0.0}),
    "tucker2018/dreg5": Row(1, {"burda2015/iwae5": 0.0}),
    "tomczak2018/vae": Row(1),
    "tomczak2018/vamp": Row(1, {"tomczak2018/vae": 1.0}),
    "synthsaebench/batch_topk_l25": Row(1, {"synthsaebench/l1_l25": 0.0}),
    "synthsaebench/matryoshka_l25": Row(1, {"synthsaebench/batch_topk_l25": 0.0}),
    "synthsaebench/jumprelu_l25": Row(1, {"synthsaebench/l1_l25": 0.0}),
    "synthsaebench/l1_l25": Row(1),
}

ADDED: Mapping[str, Any] = {
    "model.gradient": "plain",
    "optimizer.decay": 0.2,
    "prior._target_": "Standard",
}
"""Settings that aecli got after the first results, with the value that computes what was computed
before: a result from before them is not stale. Null is such a value by itself."""
