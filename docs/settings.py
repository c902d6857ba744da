"""Write docs/settings.md: every setting, from the comments in conf/ and the classes' docstrings.

    python docs/settings.py

A test fails as long as the page is not what this makes of conf/.
"""

import inspect
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from hydra.utils import get_class

ROOT = Path(__file__).parents[1]
CONF, PAGE = ROOT / "conf", Path(__file__).parent / "settings.md"
COMMANDS = (
    "train", "eval", "sample", "encode", "decode", "score", "reconstruct", "export", "explore",
    "data",
)  # fmt: skip
GROUPS = {
    "model": "the variant",
    "network": "encoder and decoder",
    "noise": "what the input is corrupted by",
    "sparsity": "what the encoder's output becomes on its way to the code",
    "likelihood": "p(x|z), and so the loss of a reconstruction",
    "prior": "p(z), of `vae` and `iwae`",
    "optimizer": "the algorithm and its learning rate",
    "pretraining": "what happens to the weights before the training",
    "dataset": "the examples and their splits",
    "trainer": "the device, the arithmetic, the length of the training",
    "eval": "what `aecli eval` measures",
    "sweeper": "which runs a line with `-m` makes",
    "launcher": "where these runs are made",
}
WIRED = re.compile(r"\$\{(oc\.select:)?[\w.]+(,null)?\}")
"""A value that another group provides: nobody types it."""
UNTYPED = ("defaults", "hydra", "_target_", "source")
LINE = re.compile(
    r"(?P<indent> *)(?P<key>[\w.]+):(?: +(?P<value>[^# ].*?))?(?: +# (?P<comment>.*))?"
)
INTRODUCTION = """\
# Every setting

<!-- Made by docs/settings.py from conf/ and the docstrings: edit those. -->

A line of `aecli` is made of choices and values: `noise=gaussian` chooses an option of a group, and
`noise.std=0.2` sets a value of the option that was chosen. This page lists the groups, their
options and their settings, with the defaults. `null` means none, or what the setting says of it.
Below the settings stand the formula and the source of each part, as they stand in its class.

`aecli train --help` lists the settings of what is chosen on the line, and
`aecli train --cfg job` prints the whole configuration without a run.
"""


class Setting(NamedTuple):
    """A line of a YAML file."""

    key: str
    """As it is typed, such as `noise.std`."""
    default: str
    meaning: str


class Option(NamedTuple):
    """A YAML file of conf/."""

    meaning: str
    """Its comment at the top."""
    bases: list[str]
    """Options of the same group that it starts from."""
    choices: list[str]
    """Options of other groups that it chooses, such as `noise=masking`."""
    target: str
    settings: list[Setting]


def read(path: Path, prefix: str) -> Option:
    """Return what a file says; `prefix` is its group with a dot, or nothing."""
    text = path.read_text()
    top = [line for line in text.splitlines() if not line.startswith("# @package")]
    count = next(i for i, line in enumerate(top) if not line.startswith("#"))
    if "@package _global_" in text:
        prefix = ""
    (target,) = re.findall(r"^ *_target_: (\S+)$", text, re.M)[:1] or [""]
    bases = re.findall(r"^  - /?(\w+)(?:@_here_)?$", text, re.M)
    choices = re.findall(r"^  - override /(\w+): (\w+)$", text, re.M)
    return Option(
        _joined(line.removeprefix("# ") for line in top[:count]),
        [base for base in bases if base != "_self_" and not base.endswith("_schema")],
        [f"{group}={option}" for group, option in choices],
        target,
        list(_settings(top[count:], prefix)),
    )


def _joined(lines: Iterable[str]) -> str:
    """Return a comment's sentences as one line; what is indented in it stays as it is."""
    text = ""
    for is_code, part in groupby(lines, lambda line: line.startswith(" ")):
        if is_code:
            text += "\n\n```text\n" + dedent("\n".join(part)) + "\n```\n\n"
        else:
            text += _safe(" ".join(part))
    return text.strip()


def _safe(text: str) -> str:
    """Return a comment as Markdown: no tags, and pages of docs/ as links."""
    return re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", text.replace("<", r"\<"))


def _settings(lines: list[str], prefix: str) -> Iterator[Setting]:
    parents: list[tuple[int, str]] = []
    found: list[Setting] = []
    for line in lines:
        if re.fullmatch(r" +#.*", line) and found:  # a comment that goes on
            meaning = f"{found[-1].meaning} {line.strip().removeprefix('#').strip()}"
            found[-1] = found[-1]._replace(meaning=meaning)
            continue
        if not (match := LINE.fullmatch(line)):
            continue
        indent = len(match["indent"])
        parents = [parent for parent in parents if parent[0] < indent]
        names = [*(name for _, name in parents), match["key"]]
        value = (match["value"] or "").strip()
        if not value:
            parents.append((indent, match["key"]))
        elif not any(name in UNTYPED for name in names) and not WIRED.fullmatch(value):
            found.append(Setting(prefix + ".".join(names), value, match["comment"] or ""))
    yield from found


def documented(target: str) -> tuple[str, dict[str, str]]:
    """Return a class's docstring up to its arguments, and what it says of each argument."""
    kind = get_class(target)
    arguments: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("aecli"):
            arguments |= _arguments(inspect.getdoc(base) or "")
    text = re.split(r"\n+Args\b", inspect.getdoc(kind) or "")[0]
    return text if kind.__module__.startswith("aecli") else "", arguments


def _arguments(docstring: str) -> dict[str, str]:
    found = {}
    for block in re.findall(r"^Args.*:\n((?:(?: {4}.*)?\n?)+)", docstring, re.M):
        for names, text in re.findall(r"^ {4}([\w, ]+): ((?:.*\n?)(?: {8}.*\n?)*)", block, re.M):
            if not text.startswith("see "):
                found |= {name: " ".join(text.split()) for name in names.split(", ")}
    return found


def section(title: str, option: Option) -> Iterator[str]:
    """Yield the lines about an option."""
    yield from (f"### {title}", "")
    if option.meaning:
        yield from (option.meaning, "")
    more = [f"starts from `{base}`" for base in option.bases if base != "parts"]
    more += [f"chooses `{choice}`" for choice in option.choices if not choice.startswith("hydra")]
    if more:
        said = ", ".join(more)
        yield from (f"It {said}.", "")
    text, arguments = documented(option.target) if option.target else ("", {})
    yield from table(option.settings, arguments)
    if text:
        yield from (f"`{option.target}`:", "", "```text", text, "```", "")


def table(settings: list[Setting], arguments: dict[str, str]) -> Iterator[str]:
    """Yield a table of settings; what has no comment is explained by the class's docstring."""
    if not settings:
        return
    yield from ("| setting | default | meaning |", "|---|---|---|")
    for key, default, comment in settings:
        meaning = _safe(comment or arguments.get(key.rpartition(".")[2], ""))
        cells = (f"`{key}`", f"`{default}`", meaning)
        yield ("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    yield ""


def page() -> str:
    """Return the page."""
    lines = [INTRODUCTION]
    for command in COMMANDS:
        option = read(CONF / f"{command}.yaml", "")
        about = option.meaning.removeprefix(f"aecli {command}: ")
        lines += [f"## aecli {command}", "", about[0].upper() + about[1:], ""]
        lines += table(option.settings, {})
    for group, meaning in GROUPS.items():
        lines += [f"## {group}", "", f"{meaning[0].upper()}{meaning[1:]}.", ""]
        for path in sorted((CONF / group).rglob("*.yaml")):
            lines += section(f"{group}={path.stem}", read(path, f"{group}."))
        if group == "optimizer":
            lines += section("the schedule of the rate", read(CONF / "schedule.yaml", "optimizer."))
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
