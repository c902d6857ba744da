"""The page of latents and their top rows in a browser: on a phone nothing of it is cut off."""

from aecli.evaluation.latents import BINS, Active, Latent
from aecli.evaluation.latents_page import Page
from aecli.evaluation.origins import Origin
from tests.explore.browser import IN_A_BROWSER, chromium, phone

pytestmark = IN_A_BROWSER
RATES = {"0": 2, "below 1e-6": 0, "0.0001 to 0.001": 12_345, "0.1 to 1": 1_000_000}
CUT_OFF = """
    const width = document.documentElement.clientWidth;
    return [...document.querySelectorAll('body *')]
        .filter(e => e.getBoundingClientRect().right > width || e.scrollWidth > width)
        .map(e => e.outerHTML);
"""


def test_it_fits_a_phone_and_leads_back(tmp_path):
    words = ("a before " * 10, "a_token_without_any_space_in_it_" * 3, " after" * 10)
    origins = {0: Origin("a_file_of_rows_with_a_long_name_" * 3 + ".npy", "123456", words)}
    rows = [Active(0, 1234.5678)]
    latents = [Latent(n, 3, 0.0003, 1.5, [3] * BINS, 0.25, rows) for n in (7, 123_456)]
    page = Page("topk_sae on activations_of_a_long_name_" * 2, 10_000, RATES, latents, origins)
    (tmp_path / "page.html").write_bytes(page.html())
    with chromium(tmp_path / "profile") as browser:
        phone(browser, 360)
        browser.get((tmp_path / "page.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
        assert browser.execute_script(CUT_OFF) == []
        link, back = browser.execute_script(
            "return ['td a', 'nav a'].map(one => document.querySelector(one).getAttribute('href'))"
        )
        there = "return Boolean(document.querySelector(arguments[0]))"
        assert (link, back) == ("#latent-7", "#all")
        assert all(browser.execute_script(there, place) for place in (link, back))
        assert browser.get_log("browser") == []
