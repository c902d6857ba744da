"""The site builds from the pages, with every link whole, and fetches nothing when it is read."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

FETCHED = re.compile(
    r"""<(?:script|img|iframe|link(?!\s+rel="(?:index|search|next|prev|canonical)"))\b[^>]*
        (?:src|href)="(?:https?:)?//|url\(["']?(?:https?:)?//|@import""",
    re.VERBOSE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for generator in ("sphinx", "myst_parser", "furo", "latex2mathml"):
        pytest.importorskip(generator, reason='needs pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, ROOT / "docs", folder], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_every_page_is_there(site):
    pages = (path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))
    assert all((site / page.with_suffix(".html")).is_file() for page in pages)


def test_nothing_is_fetched(site):
    assert FETCHED.search('<script src="https://example.org/x.js">')
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not (found := FETCHED.search(path.read_text())), (path.name, found[0])


def test_formulas_are_drawn_by_the_browser(site):
    page = (site / "variants" / "vae.html").read_text()
    assert "<math" in page
    assert r"\mathrm" not in page
