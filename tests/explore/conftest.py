"""A browser for the tests of the page."""

import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.explore.browser import until
from tests.explore.made import page

OPTIONS = """
    --headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync
    --window-size=1280,1000
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for option in OPTIONS.split():
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield browser
    browser.quit()


@pytest.fixture
def shown(browser, tmp_path):
    """Return a function that opens a page of runs, and waits until it has drawn itself."""

    def show(*runs, **settings):
        file = tmp_path / "explore.html"
        file.write_text(page(*runs, **settings))
        browser.get(file.as_uri())
        until(browser, "return Boolean(globalThis.explore)")
        return browser

    yield show
    assert browser.get_log("browser") == []  # no error, and nothing that the policy had to refuse
