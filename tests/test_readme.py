"""What the README and the docs tell people to type exists: options, settings, flags."""

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

import aecli.commands.compare
from tests.conftest import CONF, configure

ROOT = Path(__file__).parents[1]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *(ROOT / "docs").glob("*.md")]
GROUPS = {
    group.name: {str(path.relative_to(group).with_suffix("")) for path in group.rglob("*.yaml")}
    for group in CONF.iterdir()
    if group.is_dir() and group.name not in ("hydra", "__pycache__")
}


def code(page: Path) -> list[str]:
    """Return the lines of a page's indented blocks, and its code within sentences."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^ {4}(.+)$", text, flags=re.MULTILINE)
    sentences = re.sub(r"^ {4}.+$", "", text, flags=re.MULTILINE)
    return blocks + [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", sentences)]


def lines(*commands: str) -> list[str]:
    """Return the lines of all pages that run one of these commands, if they can be typed as is.

    Those with options of one's own are run by `test_own_parts.py`.
    """
    found = {
        line.split("&& ")[-1].split("   ")[0].split(" #")[0].strip()
        for page in PAGES
        for line in code(page)
    }
    starts = tuple(f"aecli {command} " for command in commands)
    no_line = "…|=NAME|--config-dir"
    return sorted(
        line for line in found if line.startswith(starts) and not re.search(no_line, line)
    )


def values(override: Override) -> list[str]:
    """Return what each job of a sweep would be given for an override, the ends of an interval."""
    if not override.is_sweep_override():
        return [override.input_line]
    key = override.get_key_element()
    if isinstance(interval := override.value(), IntervalSweep):
        return [f"{key}={interval.start}", f"{key}={interval.end}"]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


OF_HYDRA = (
    "train", "eval", "sample", "encode", "score", "reconstruct", "decode", "export", "explore",
    "data",
)  # fmt: skip


@pytest.mark.parametrize("line", lines(*OF_HYDRA))
def test_a_line_composes(line):
    _, command, *words = shlex.split(line)
    overrides = [word for word in words if word not in ("-m", "--multirun", "--cfg", "job")]
    if "--help" in overrides:
        return
    typed = [values(override) for override in OverridesParser.create().parse_overrides(overrides)]
    first = [one[0] for one in typed]
    configure(*first, command=command)
    for place, alternatives in enumerate(typed):
        for other in alternatives[1:3]:
            configure(*first[:place], other, *first[place + 1 :], command=command)


@pytest.mark.parametrize("line", lines("compare"))
def test_a_line_of_compare_has_flags_that_it_knows(line):
    source = Path(aecli.commands.compare.__file__).read_text()
    assert all(f'"{word}"' in source for word in shlex.split(line) if word.startswith("-"))


def test_there_are_lines():
    assert len(lines(*OF_HYDRA)) > 40
    assert lines("compare")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_a_page_names_exist(page):
    named = {
        (group, option)
        for line in code(page)
        for group, options in re.findall(r"(?<![\w./])([a-z]+)=([\w/,]+)", line)
        if group in GROUPS
        for option in options.split(",")
    }
    # An option added by a page of instructions is not there yet.
    created = set(re.findall(r"`(?:my_)?conf/(\w+)/(\w+)\.yaml`", page.read_text()))
    assert {f"{g}={o}" for g, o in named - created if o and o not in GROUPS[g] | {"null"}} == set()


def test_every_model_has_a_row_in_the_readme():
    rows = re.findall(
        r"^\| `(\w+)` \|[^|]+\| `(aecli train [^`]+)` \|$", PAGES[0].read_text(), re.M
    )
    assert {name for name, _ in rows} == GROUPS["model"]
    for name, line in rows:
        assert f"model={name}" in line.split()


@pytest.mark.parametrize("group", ["model", "dataset", "experiment"])
def test_the_readme_or_a_page_names_every_option(group):
    text = "\n".join(page.read_text() for page in PAGES)
    missing = {o for o in GROUPS[group] if not re.search(rf"(?<!\w){re.escape(o)}(?!\w)", text)}
    assert not missing
