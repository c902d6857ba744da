"""A browser for the tests of the page."""

import pytest

from tests.explore.browser import chromium, until
from tests.explore.made import page


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


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
