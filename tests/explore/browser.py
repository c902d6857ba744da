"""A page in Chromium: waiting for it, and what the networks in it compute."""

import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch

from tests.explore.made import loaded

IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs chromium and chromedriver, such as Debian's chromium and chromium-driver",
    ),
]
SPARSE = ("model=ae", "network=linear_tied", "sparsity=topk", "model.code_dim=40", "sparsity.k=5")
RUN = """
    const [kind, rows] = arguments;
    const { model } = explore.state;
    const of = {
        decode: z => model.decode(z),
        encode: x => model.encode(x).code,
        score: x => [model.score(x, model.encode(x)).value],
        corrupt: x => x,
    };
    return rows.map(row => Array.from(of[kind](Float32Array.from(row))));
"""


def until(browser, script):
    for _ in range(200):
        if browser.execute_script(script):
            return
        time.sleep(0.05)
    raise AssertionError(f"{script}: {browser.get_log('browser')}")


def computed(browser, kind, rows):
    return torch.tensor(browser.execute_script(RUN, kind, rows.tolist()))


def table(folder, *words):
    """Return a run on a table with numbers, a category, and missing entries."""
    draw = np.random.default_rng(0)
    height = 170 + 8 * draw.normal(size=200)
    town = np.where(height > 170, "Rome", "Oslo").astype(object)
    height[:5], town[5:10] = np.nan, None
    pd.DataFrame({"height": height, "town": town, "age": range(200)}).to_csv(
        folder / "t.csv", index=False
    )
    where = ("dataset=table", f"dataset.file={folder}/t.csv", "dataset.missing=mask")
    return loaded(folder, *where, *words)
