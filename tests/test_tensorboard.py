"""What TensorBoard shows of a sweep, in a real browser: Debian's chromium and chromium-driver."""

import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.test_cli import aecli

MODELS = ("pca", "ae", "sparse_ae", "ksparse_ae", "vae")
OPTIONS = """
    --headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync
    --window-size=1600,1000
"""
# The page is made of nested shadow trees, which a selector does not reach into.
WALK = """
    const found = [];
    const walk = node => {
        if (['STYLE', 'SCRIPT'].includes(node.tagName)) return;
        visit(node);
        if (node.shadowRoot) walk(node.shadowRoot);
        for (const child of node.childNodes) walk(child);
    };
    walk(document.body);
    return found;
"""
TEXTS = (
    "const visit = n => { if (n.nodeType === 3 && n.textContent.trim()) "
    "found.push(n.textContent.trim()); };" + WALK
)
IMAGES = (
    "const visit = n => { if (n.tagName === 'IMG' && n.src.includes('individualImage')) "
    "found.push(n.naturalWidth); };" + WALK
)

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs chromium and chromedriver, such as Debian's chromium and chromium-driver",
)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    words = (f"model={','.join(MODELS)}", "trainer.max_epochs=2", "network.hidden=[8]")
    done = aecli("train", "-m", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    return sweep


@pytest.fixture(scope="module")
def page(sweep, tmp_path_factory):
    """Return a function that opens a page and waits until a script's answer is as wanted."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(sweep), "--port", port]
    board = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for option in OPTIONS.split():
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def answer(name, script, is_there):
        last = None
        for _ in range(60):
            with suppress(WebDriverException):  # the server is not up yet
                if last is None:
                    browser.get("about:blank")
                    browser.get(f"{address}/#{name}")
                last = browser.execute_script(script)
                if last and is_there(last):
                    return last
            time.sleep(1)
        raise AssertionError(f"{name}: {last}")

    yield answer
    browser.quit()
    board.kill()
    board.wait()


def test_runs_are_listed_by_names_that_say_what_they_are(page):
    names = [f"{number}_model-{model}" for number, model in enumerate(MODELS)]
    page("timeseries", TEXTS, lambda texts: all(n in "\n".join(texts) for n in names))


def test_hparams_has_settings_and_metrics_of_every_variant_in_one_table(page, sweep):
    losses = []
    for run in sorted(path for path in sweep.iterdir() if path.is_dir()):
        events = EventAccumulator(str(run)).Reload()
        losses.append(events.Scalars("val/loss")[-1].value)
    assert len(losses) == len(MODELS)
    cells = {"code_dim", "beta", "val/loss", "dynamic", "1000.0"}
    texts = page("hparams", TEXTS, lambda texts: cells <= set(texts))
    shown = [float(text) for text in texts if text.replace(".", "", 1).isdigit()]
    for loss in losses:
        assert any(value == pytest.approx(loss, rel=1e-3) for value in shown), loss


def test_images_shows_reconstructions(page):
    widths = page("images", IMAGES, lambda widths: sum(width > 50 for width in widths) >= 5)
    assert widths
