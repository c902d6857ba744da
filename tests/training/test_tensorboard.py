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

from tests.commandline import aecli_process as aecli
from tests.events import scalars

MODELS = ("pca", "ae", "sparse_ae", "ksparse_ae", "vae")
SEEDS = 6
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
# The pane that asks the server for the runs, and its answer as the table shows it.
PANE = (
    "const visit = n => { if (n.tagName === 'TF-HPARAMS-QUERY-PANE') found.push(n); };"
    + WALK.replace("return found;", "const [pane] = found;")
)
SHOWN = (
    PANE
    + """
    return pane && pane.sessionGroups && pane.sessionGroups.map(group => [
        group.hparams.model,
        group.metricValues.find(value => value.name.tag === 'val/loss').value || 0,
    ]);
"""
)
CLICK = """
    const [tag, text] = arguments;
    const visit = n => {
        if (n.tagName === tag && n.textContent.trim() === text) found.push(n);
    };
""" + WALK.replace("return found;", "found[0].click();")
IMAGES = (
    "const visit = n => { if (n.tagName === 'IMG' && n.src.includes('individualImage')) "
    "found.push(n.naturalWidth); };" + WALK
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs chromium and chromedriver, such as Debian's chromium and chromium-driver",
    ),
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    seeds = ",".join(map(str, range(SEEDS)))
    words = (f"model={','.join(MODELS)}", f"seed={seeds}", "trainer.max_epochs=1")
    done = aecli("train", "-m", *words, "network.hidden=[8]", cwd=folder)
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

    def answer(name, script, is_there, opens=True):
        last = None
        for _ in range(60):
            with suppress(WebDriverException):  # the server is not up yet
                if opens and last is None:
                    browser.get("about:blank")
                    browser.get(f"{address}/#{name}")
                last = browser.execute_script(script)
                if last and is_there(last):
                    return last
            time.sleep(1)
        raise AssertionError(f"{name}: {last}")

    answer.click = lambda tag, text: browser.execute_script(CLICK, tag, text)
    yield answer
    browser.quit()
    board.kill()
    board.wait()


def test_runs_are_listed_by_names_that_say_what_they_are(page):
    names = [f"{SEEDS * number}_model-{model}_seed-0" for number, model in enumerate(MODELS)]
    page("timeseries", TEXTS, lambda texts: all(n in "\n".join(texts) for n in names))


def test_hparams_has_settings_and_metrics_of_every_variant_in_one_table(page, sweep):
    losses = []
    for run in sorted(path for path in sweep.iterdir() if path.is_dir()):
        losses.append(scalars(run)["val/loss"][-1][1])
    assert len(losses) == SEEDS * len(MODELS)
    cells = {"code_dim", "model", "val/loss", "dynamic", "1000.0"}
    page("hparams", TEXTS, lambda texts: cells <= set(texts))
    shown = page("hparams", SHOWN, lambda groups: len(groups) == len(losses))
    assert sorted(loss for _, loss in shown) == pytest.approx(sorted(losses))


def test_hparams_sorts_and_filters(page):
    page("hparams", SHOWN, lambda groups: len(groups) == SEEDS * len(MODELS))
    page.click("PAPER-ITEM", "val/loss")
    page.click("PAPER-ITEM", "Descending")
    falls = lambda groups: groups == sorted(groups, key=lambda group: -group[1])  # noqa: E731
    page("hparams", SHOWN, falls, opens=False)
    page.click("PAPER-CHECKBOX", "sparse_ae")
    page.click("PAPER-CHECKBOX", "pca")
    left = {"ae", "ksparse_ae", "vae"}
    are_left = lambda groups: {model for model, _ in groups} == left  # noqa: E731
    shown = page("hparams", SHOWN, are_left, opens=False)
    assert len(shown) == SEEDS * len(left)
    assert falls(shown)


def test_images_shows_reconstructions(page):
    page("images", IMAGES, lambda widths: sum(width > 50 for width in widths) >= 5)
