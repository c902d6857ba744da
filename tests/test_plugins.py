"""Which modules may be imported, and what is said of those that cannot."""

import importlib
import sys

import pytest
from omegaconf import OmegaConf

from aecli import plugins
from aecli.build import build
from aecli.errors import SettingError
from aecli.plugins import UntrustedError, check, of_word, plugin_of, require, trust, used
from aecli.runs.checkpoint import pack
from tests.conftest import configure
from tests.hostile import STRANGE, is_one_plain_line, refusal

NOISE = """
from pathlib import Path
from aecli.noise import Masking, Noise
Path("imported").touch()
class Mine(Noise):
    def __init__(self, amount=1.0):
        super().__init__()
        self.amount = amount + 0
class _Hidden(Noise): pass
class Nothing: pass
def make(): pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty folder that is the current one; forget what is imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(plugins, "_typed", {})
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]
    importlib.invalidate_caches()


def write(path, text=NOISE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def noise(target, **settings):
    config, _ = configure("model=ae")
    config.noise = OmegaConf.create({"_target_": target, **settings})
    return config


def test_a_part_of_a_named_plugin_is_made(folder):
    write(folder / "mine.py")
    trust(["mine"])
    model = build(noise("mine.Mine", amount=0.5), "model")
    assert (type(model.noise).__module__, model.noise.amount) == ("mine", 0.5)


def test_a_part_of_a_package_may_lie_in_a_module_of_it(folder):
    write(folder / "lab" / "__init__.py", "")
    write(folder / "lab" / "noises.py")
    trust(["lab"])
    assert build(noise("lab.noises.Mine"), "model").noise.amount == 1


def test_a_plugin_that_is_not_named_is_not_imported_nor_looked_up(folder, monkeypatch):
    write(folder / "mine.py")
    monkeypatch.syspath_prepend(str(folder))  # it could be
    write(folder / "other.py", "from aecli.noise import Noise\nclass Other(Noise): pass")
    trust(["other"])
    asked = []
    monkeypatch.setattr(plugins, "find_spec", asked.append)
    finder = type("Finder", (), {"find_spec": lambda self, name, *_: asked.append(name)})()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    for target in ("mine.Mine", "mine.deeper.Mine", "other2.Mine", "mine"):
        with pytest.raises(SettingError, match="not a part of aecli, and nothing of it was run"):
            build(noise(target), "model")
    with pytest.raises(UntrustedError):
        require(["mine"], "run=x")
    assert not any(str(name).startswith(("mine", "other2")) for name in asked)
    assert "mine" not in sys.modules
    assert not (folder / "imported").exists()


@pytest.mark.parametrize(
    ("target", "group"),
    [
        ("mine.Masking", "noise"),  # aecli's, under another name
        ("mine._Hidden", "noise"),
        ("mine.Nothing", "noise"),
        ("mine.make", "noise"),
        ("mine.Path", "noise"),
        ("mine.absent", "noise"),
        ("mine", "noise"),
        ("mine.Mine", "sparsity"),
        ("mine.Mine", "likelihood"),
    ],
)
def test_only_public_classes_that_extend_the_base_class_are_parts(folder, target, group):
    write(folder / "mine.py")
    trust(["mine"])
    config, _ = configure("model=ae")
    config[group] = OmegaConf.create({"_target_": target})
    with pytest.raises(SettingError, match=rf"{group}\._target_={target}: (is no {group}|not a)"):
        build(config, "model")


def test_a_mistake_in_a_constructor_has_its_place(folder):
    write(folder / "mine.py")
    trust(["mine"])
    with pytest.raises(SettingError, match=r"^model: mine\.py:8: TypeError: can only concatenate"):
        build(noise("mine.Mine", amount="x"), "model")
    with pytest.raises(SettingError, match=r"^noise\.nothing=3: no such setting \(noise has"):
        build(noise("mine.Mine", amount=1.0, nothing=3), "model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os\n\nx = y\n", r"mine\.py:3: NameError: name 'y' is not defined"),
        ("def f(:\n", r"mine\.py:1: SyntaxError: "),
        ("import no_such_module\n", r"mine\.py:1: ModuleNotFoundError: No module named 'no_such"),
        ("import helper\n", r"helper\.py:1: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", r"mine\.py:2: SystemExit: 3"),
        ("from aecli.noise import Wrong\n", r"mine\.py:1: ImportError: cannot import name"),
        ("import json\nx = json.loads('{')", r"mine\.py:2: JSONDecodeError: "),
        ("x = 1\n", "has no part of its own: no public class that extends one of aecli's"),
        ("from aecli.noise import Noise", "has no part of its own"),
        ("\x00", r"SyntaxError: source code string cannot contain null bytes"),
    ],
)
def test_a_mistake_in_a_plugin_is_one_line_with_its_place(folder, text, message):
    write(folder / "mine.py", text)
    write(folder / "helper.py", "1 / 0")
    with pytest.raises(SettingError, match=rf"^plugins=\[mine\]: (mine )?{message}") as refused:
        trust(["mine"])
    assert is_one_plain_line(refused.value)
    assert not plugins._typed


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["nowhere"], r"plugins=\[nowhere\]: there is no module nowhere in this folder, and none"),
        (["aecli.noise"], r"plugins=\[aecli.noise\]: aecli's own parts need no plugins="),
        (["mine", "mine"], "mine stands there twice"),
        *(
            (["mine", name], "the name of a module, without a path or an ending")
            for name in ("./mine", "mine.py.", "/tmp/mine", "a b", "", "ünï", 3, None, "x" * 61)
        ),
        *((value, "must be a list, such as") for value in ("mine", 3, None, {"mine": 1}, 0.5)),
    ],
)
def test_what_is_no_list_of_modules_is_refused(folder, value, message):
    write(folder / "mine.py")
    with pytest.raises(SettingError, match=message):
        check(value)


def test_checking_imports_nothing(folder):
    write(folder / "mine.py")
    assert check(["mine"]) == ["mine"]
    assert check([]) == []
    assert "mine" not in sys.modules
    assert str(folder) not in sys.path


def test_the_current_folder_hides_no_module(folder):
    write(folder / "json.py")
    with pytest.raises(SettingError, match=r"plugins=\[json\]: json\.py has the name of another"):
        trust(["json"])
    write(folder / "mine.py")
    trust(["mine"])
    assert sys.path[-1] == str(folder)
    assert sys.modules["json"] is importlib.import_module("json")


def test_the_current_folder_is_not_searched_for_installed_plugins(folder, monkeypatch):
    (folder / "elsewhere").mkdir()
    write(folder / "elsewhere" / "mine.py")
    monkeypatch.syspath_prepend(str(folder / "elsewhere"))
    trust(["mine"])
    assert str(folder) not in sys.path


@pytest.fixture
def installed(folder, monkeypatch):
    """Install a package with an entry point; return its name."""
    site = folder / "site"
    write(site / "lab_noise" / "__init__.py")
    write(site / "lab_noise" / "conf" / "noise" / "mine.yaml", "_target_: lab_noise.Mine")
    write(site / "lab_noise-1.dist-info" / "METADATA", "Name: lab_noise\nVersion: 1\n")
    write(site / "lab_noise-1.dist-info" / "entry_points.txt", "[aecli.plugins]\nx = lab_noise\n")
    monkeypatch.syspath_prepend(str(site))
    plugins._installed.cache_clear()
    yield "lab_noise"
    plugins._installed.cache_clear()


def test_an_installed_plugin_needs_no_naming(installed):
    require([installed], "run=x")
    assert plugin_of("lab_noise.Mine") == installed
    assert installed not in sys.modules  # before a part of it is made
    config, choices = configure("model=ae", "noise=mine")
    assert type(build(config, "model").noise).__module__ == installed
    assert pack(config, choices)["config"]["plugins"] == [installed]


def test_a_run_records_the_plugins_that_were_typed_and_those_that_it_uses(folder):
    for name in ("mine", "other"):
        write(folder / f"{name}.py")
    trust(["mine", "other"])
    config = noise("other.Mine")
    config.plugins = ["mine"]
    assert pack(config, {})["config"]["plugins"] == ["mine", "other"]
    assert list(used({"a": [{"_target_": "third.X"}]})) == []


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (["a"], "made with a; add plugins=[mine,a] if you trust it"),
        (["a", "mine", "b.c"], "made with a, b.c; add plugins=[mine,a,b.c] if you trust them"),
    ],
)
def test_a_run_asks_for_its_plugins(folder, names, asked):
    write(folder / "mine.py")
    trust(["mine"])
    with pytest.raises(UntrustedError) as refused:
        require(names, "run=x")
    assert str(refused.value) == f"run=x: {asked}"
    assert refused.value.asks == asked
    require(["mine"], "run=x")
    require([], "run=x")


@pytest.mark.parametrize(
    "value", [*STRANGE, *([s] for s in STRANGE), ["a"] * 11, ["a; rm -rf /"], ["x" * 60] * 10]
)
def test_names_of_a_stranger_are_names_or_refused(folder, value):
    reason = refusal(require, value, "run=x")
    assert value == [] or reason
    if reason and "trust" in reason:
        assert set(value) <= {"x", "x" * 60}


def test_the_word_of_a_command_that_hydra_does_not_configure():
    assert of_word("plugins=[a,b.c]") == ["a", "b.c"]
    assert of_word("plugins=a") == "a"
