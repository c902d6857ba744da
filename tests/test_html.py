"""What pages are made safe by, and that every page is."""

import json
import re
from pathlib import Path

import pytest

from aecli.html import csp_hash, in_script

AECLI = Path(__file__).parents[1] / "aecli"
EVIL = "</script><!-- <script> \u2028 & \x1b[2J"


def test_no_text_ends_the_data():
    text = in_script({"names": [EVIL]})
    assert not set("<>&\u2028\x1b") & set(text)
    assert json.loads(text) == {"names": [EVIL]}


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        in_script([float("nan")])


def test_a_hash_is_that_of_the_specification():
    """The example of Content Security Policy Level 3, §8.3."""
    script = "alert('Hello, world.');"
    assert csp_hash(script) == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"


def test_every_page_takes_its_hashes_from_here():
    texts = {path.name: path.read_text() for path in AECLI.rglob("*page.py")}
    with_policy = {name for name, text in texts.items() if "default-src" in text}
    assert with_policy == {"page.py", "latents_page.py"}
    for path in AECLI.rglob("*.py"):
        if path.name != "html.py":
            assert not re.search(r"['\"]sha256-|u003c", path.read_text()), path
