"""The page that `aecli compare --output` writes: what stands in it, and what a browser does."""

import io
import json
import re
import shutil
from base64 import b64decode
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from torch.utils.tensorboard import SummaryWriter

from aecli.commands.compare import main
from tests.commands.made import make
from tests.explore.browser import chromium, phone

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title=1\">"


class Read(HTMLParser):
    """The elements of a page, each a name and its attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def log(run, values, name="val/loss", picture=True):
    """Write a curve over the epochs, and a picture, into a run's event file."""
    with SummaryWriter(str(run)) as writer:
        for epoch, value in enumerate(values):
            writer.add_scalar(name, value, 10 * epoch)
            writer.add_scalar("epoch", epoch, 10 * epoch)
        if picture:
            writer.add_image("reconstructions", torch.rand(3, 20, 40), 0)


@pytest.fixture
def page(sweep, tmp_path):
    for number, name in enumerate(("0_a", "1_b", "2_c", "10_d")):
        log(sweep / name, [100 + number, 95, 91 + number])
    log(sweep / "2_c", [1.0], name=f"val/{EVIL}", picture=False)
    make(sweep, "11_e", 95.0, model="ae", beta=1.0, settings={"network.activation": EVIL})
    main(["--metric", "val/loss", "--output", "mine"])
    return tmp_path / "mine" / "index.html"


def test_it_holds_all_and_fetches_nothing(page):
    text = page.read_text(encoding="utf-8")
    found = Read(text)
    names = [name for name, _ in found.elements]
    assert names.count("script") == 2  # the data, and the page's own
    assert names.count("img") == names.count("figure") == 2  # of groups with pictures
    assert all(
        a["src"].startswith("data:image/png;base64,") for n, a in found.elements if n == "img"
    )
    assert not any(key in a for n, a in found.elements for key in ("href", "action", "onerror"))
    (policy,) = [a["content"] for n, a in found.elements if n == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", text)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert data["metric"] == "val/loss"
    assert data["units"]["val/loss"] == "nats per example"
    assert [line["metrics"]["val/loss"][-1][0] for line in data["lines"]] == [3.0] * 4
    assert "best by val/loss" in text
    settings = [a["data-filter"] for _, a in found.elements if "data-filter" in a]
    assert {"model=vae", "model=ae", "model.beta=1", "model.beta=4"} <= set(settings)
    (example,) = [a["placeholder"] for _, a in found.elements if "placeholder" in a]
    assert example in settings


def test_foreign_strings_are_only_shown(page):
    text = page.read_text(encoding="utf-8")
    assert "<script>document" not in text
    assert "<img src=x" not in text
    assert any("network.activation" in part for part in Read(text).texts)


def test_a_run_without_events_has_no_curves(sweep, tmp_path):
    main(["--output", "mine"])
    text = (tmp_path / "mine" / "index.html").read_text(encoding="utf-8")
    assert 'id="runs"' in text
    assert 'id="chart"' not in text
    assert "<figure" not in text


@pytest.fixture
def browser(tmp_path):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs chromium and chromedriver")
    with chromium(tmp_path / "profile") as browser:
        yield browser


def column(browser, number):
    script = """return [...document.querySelectorAll('#runs tbody tr')].filter(r => !r.hidden)
        .map(r => r.cells[arguments[0]].textContent)"""
    return browser.execute_script(script, number)


@pytest.mark.slow
def test_in_a_browser_it_sorts_filters_and_shows_values(page, browser):
    browser.get(page.as_uri())
    assert browser.title == "3 models compared by val/loss"
    heads = [head.text for head in browser.find_elements(By.CSS_SELECTOR, "#runs th button")]
    loss, beta = heads.index("val/loss*"), heads.index("model.beta")
    before = column(browser, loss)
    button = browser.find_elements(By.CSS_SELECTOR, "#runs th button")[beta]
    for order in ("ascending", "descending"):
        button.send_keys(Keys.ENTER)  # by the keyboard, too
        assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == order
        values = [float(text) for text in column(browser, beta)]
        assert values == sorted(values, reverse=order == "descending")
    assert sorted(column(browser, loss)) == sorted(before)
    field = browser.find_element(By.ID, "filter")
    field.send_keys("model=vae model.beta=1")
    assert len(column(browser, loss)) == 1
    assert browser.find_element(By.ID, "count").text == "1 of 3 rows"
    paths = "return document.querySelectorAll('#chart path').length"
    assert browser.execute_script(paths) == 2
    field.clear()
    field.send_keys(Keys.SPACE)
    assert browser.execute_script(paths) == 4
    chart = browser.find_element(By.ID, "chart")
    assert "epoch 3" in browser.find_element(By.ID, "values").text
    browser.execute_script("arguments[0].focus()", chart)
    webdriver.ActionChains(browser).send_keys(Keys.ARROW_LEFT).perform()
    assert "epoch 2" in browser.find_element(By.ID, "values").text
    webdriver.ActionChains(browser).move_to_element_with_offset(
        chart, -chart.size["width"] // 2 + 65, 0
    ).perform()
    told = browser.find_element(By.ID, "values").text
    assert "epoch 1" in told
    assert "100" in told
    browser.find_element(By.CSS_SELECTOR, "[data-filter='model=ae']").click()
    assert len(column(browser, loss)) == 1
    phone(browser, 390)
    wide = "return document.documentElement.scrollWidth"
    assert browser.execute_script(wide) <= 390
    assert browser.get_log("browser") == []


def opened(browser, folder, *words):
    """Open the page of all runs in a folder, in the browser."""
    main([str(folder), "--metric", "val/loss", "--output", f"{folder}-page", *words])
    browser.get((folder.parent / f"{folder.name}-page" / "index.html").as_uri())


def values(browser):
    """Return what is said below the curves: the epoch, and of each line the value."""
    spans = browser.find_elements(By.CSS_SELECTOR, "#values > *")
    head, *rest = [span.text for span in spans]
    return head, [text.rpartition(": ")[2] for text in rest]


@pytest.mark.slow
def test_long_curves_end_where_the_runs_do(tmp_path, browser):
    """One of 450 epochs, which is thinned, and one of 300, which is not."""
    folder = tmp_path / "long"
    for name, beta, count in (("0_a", 1.0, 450), ("1_b", 2.0, 300)):
        make(folder, name, 100.0 - count / 100, beta=beta)
        log(folder / name, [100 - epoch / 100 for epoch in range(1, count + 1)], picture=False)
    opened(browser, folder)
    assert values(browser) == ("epoch 450", ["95.5", "97 (epoch 300)"])
    chart = browser.find_element(By.ID, "chart")
    browser.execute_script("arguments[0].focus()", chart)
    left = [Keys.ARROW_LEFT] * 76  # over 449, 447, … 301 to 300, where the thinned line has none
    webdriver.ActionChains(browser, duration=0).send_keys(*left).perform()
    assert values(browser) == ("epoch 300", ["97.01 (epoch 299)", "97"])


@pytest.mark.slow
def test_runs_of_one_epoch_have_their_values(tmp_path, browser):
    folder = tmp_path / "short"
    for name, beta, loss in (("0_a", 1.0, 12.5), ("1_b", 2.0, 14.5)):
        make(folder, name, loss, beta=beta)
        log(folder / name, [loss], picture=False)
    opened(browser, folder)
    assert values(browser) == ("epoch 1", ["12.5", "14.5"])


def check_filter(browser, cases):
    """Type each text as the filter, and require so many of three rows."""
    field = browser.find_element(By.ID, "filter")
    for text, rows in cases:
        browser.execute_script("arguments[0].value = ''", field)
        field.send_keys(text)
        assert browser.find_element(By.ID, "count").text == f"{rows} of 3 rows", text


@pytest.mark.slow
def test_a_typed_number_is_that_number_however_it_is_written(page, browser):
    browser.get(page.as_uri())
    cases = (
        ("model.beta=4.0", 1),
        ("model.beta=4e0 model=vae", 1),
        ("model.beta=4.1", 0),
        ("model.beta=40", 0),
        ("model.beta=", 0),
        ("beta=4", 0),
        ("model=ae", 1),
    )
    check_filter(browser, cases)


@pytest.mark.slow
def test_typed_comparisons_are_of_settings_and_columns(page, browser):
    browser.get(page.as_uri())
    heads = [head.text for head in browser.find_elements(By.CSS_SELECTOR, "#runs th button")]
    loss = heads.index("val/loss*")
    least = min(float(text.split()[0]) for text in column(browser, loss))
    cases = (
        ("model.beta>1", 1),
        ("model.beta>=1", 3),
        ("model.beta<4e0 model=vae", 1),
        ("model.beta<=4", 3),
        ("model.beta>1 model.beta<4", 0),
        ("runs>=1", 3),
        (f"val/loss<={least}", 1),
        (f"val/loss<{least}", 0),
        ("model.beta>", 0),
        ("model>1", 0),
        ("beta>1", 0),
    )
    check_filter(browser, cases)


@pytest.mark.slow
def test_an_axis_is_logarithmic_where_all_values_are_above_zero(tmp_path, browser):
    folder = tmp_path / "wide"
    make(folder, "0_a", 0.1, beta=1.0)
    log(folder / "0_a", [1000.0, 10.0, 0.1], picture=False)
    make(folder, "1_b", -1.0, beta=2.0)
    log(folder / "1_b", [3.0, 2.0, -1.0], picture=False)
    opened(browser, folder)
    box = browser.find_element(By.ID, "logarithmic")
    assert not box.is_enabled()
    browser.find_element(By.ID, "filter").send_keys("model.beta=1")
    height = """return document.querySelector('#chart path').getAttribute('d').slice(1).split('L')
        .map(place => Number(place.split(',')[1]))"""
    first, middle, last = browser.execute_script(height)
    assert (middle - first) / (last - first) == pytest.approx(990 / 999.9)
    box.click()
    first, middle, last = browser.execute_script(height)
    assert (middle - first) / (last - first) == pytest.approx(0.5)
    texts = [text.text for text in browser.find_elements(By.CSS_SELECTOR, "#chart text")]
    assert texts[:5] == ["0.1", "1", "10", "100", "1000"]


def test_runs_without_a_line_are_counted(tmp_path):
    folder = tmp_path / "many"
    for row in range(13):
        for seed in range(5):
            name = f"{row}_{seed}"
            make(folder, name, 100.0 + row, beta=float(row), seed=seed)
            log(folder / name, [100.0 + row], picture=False)
    main([str(folder), "--metric", "val/loss", "--output", str(tmp_path / "all")])
    text = (tmp_path / "all" / "index.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert len(data["lines"]) == 48
    told = "Lines are drawn of 48 of the 65 runs: at most 4 of each of the 12 best rows."
    assert f"<p>{told}</p>" in text
    main([str(folder), "model.beta=0", "--metric", "val/loss", "--output", str(tmp_path / "one")])
    assert "Lines are drawn" not in (tmp_path / "one" / "index.html").read_text(encoding="utf-8")


def test_pictures_are_made_smaller(sweep, tmp_path):
    with SummaryWriter(str(sweep / "0_a")) as writer:
        writer.add_image("reconstructions", torch.rand(3, 100, 3000), 0)
    main(["--output", "mine"])
    text = (tmp_path / "mine" / "index.html").read_text(encoding="utf-8")
    (data,) = re.findall(r"data:image/png;base64,([^\"]+)", text)
    with Image.open(io.BytesIO(b64decode(data))) as image:
        assert image.width == 960
