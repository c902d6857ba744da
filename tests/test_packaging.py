"""A wheel carries the configuration and works from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[1]


FINDS = """
from hydra.core.plugins import Plugins
assert "hydra_plugins.aecli.OptunaSweeper" in Plugins.instance().class_name_to_class
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build a wheel from a copy of the sources and install it into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("aecli", "conf", "hydra_plugins"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    # By the setuptools that is here: a build in isolation would fetch one from the network.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    conf = REPOSITORY / "conf"
    assert {f"aecli/conf/{path.relative_to(conf)}" for path in conf.glob("**/*.yaml")} <= names
    page = REPOSITORY / "aecli" / "explore" / "page"
    assert {f"aecli/explore/page/{path.name}" for path in page.iterdir()} <= names
    assert not any(name.startswith(("tests", "outputs")) for name in names)
    plugins = {name for name in names if name.startswith("hydra_plugins")}
    assert plugins == {"hydra_plugins/aecli/__init__.py"}  # no __init__ in the namespace itself
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


def test_the_wheel_trains_from_another_folder(site, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(site)}
    where = "import aecli, aecli.conf; print(aecli.__file__, aecli.conf.__file__)"
    for words in (["-c", where], ["-m", "aecli", "train", "trainer=debug", "model=pca"]):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        if words[0] == "-c":
            assert done.stdout.count(str(site)) == 2
    assert list(tmp_path.glob("outputs/pca-digits/*/checkpoints/best.ckpt"))


def test_hydra_finds_the_sweeper_of_an_installed_wheel(site, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(site)}
    line = [sys.executable, "-c", FINDS]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
