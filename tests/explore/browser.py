"""A page in Chromium: starting it, waiting for it, and what the networks in it compute."""

import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.explore.made import loaded

IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs chromium and chromedriver, such as Debian's chromium and chromium-driver",
    ),
]
OPTIONS = """
    --headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync
    --window-size=1280,1000
"""
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


def chromium(profile):
    """Start Chromium without a window, with its profile in a folder."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for option in OPTIONS.split():
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def phone(browser, width):
    """Make the browser's window as wide as a phone."""
    size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


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
