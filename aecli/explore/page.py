"""One HTML file out of `page/`: the template, its style, its modules, and the data of the runs.

Nothing in the file is fetched from anywhere, and its policy lets nothing be: it runs the one script
and the one style whose hashes it names.
"""

import re
from html import escape
from importlib.resources import files
from typing import Any

from aecli import __version__
from aecli.html import csp_hash, in_script

FOLDER = files("aecli.explore") / "page"
MODULES = (
    "blob", "network", "likelihood", "noise", "model", "pictures", "plane", "view", "state",
    "tabs", "drawing", "map", "painting", "find", "decoded", "units", "pen", "form", "input",
    "morph", "sum", "sweep", "link", "main",
)  # fmt: skip
"""The JavaScript modules; each imports from those before it."""
STYLES = ("style.css", "views.css", "panels.css", "narrow.css")
IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?(?:function|const|class) (\w+))", re.MULTILINE)


def page(title: str, data: dict[str, Any], arrays: str) -> str:
    """Return the page of some `data`, and of the `arrays` that it points into, as a `Blob`'s text.

    All texts in `data` may be foreign: the page shows them as text.
    """
    style, code = "".join(map(_file, STYLES)), script()
    policy = (
        f"default-src 'none'; script-src {csp_hash(code)}; style-src {csp_hash(style)};"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": escape(policy),
        "title": escape(title),
        "style": style,
        "data": in_script({**data, "version": __version__}),
        "arrays": arrays,
        "script": code,
    }
    template = _file("page.html")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def script() -> str:
    """Return the modules as one: each a function that is called once and returns its exports.

    A browser loads no module from another file where the page itself is a file.
    """
    return "\n".join(_module(name, _file(f"{name}.js")) for name in MODULES)


def _module(name: str, text: str) -> str:
    exports = ", ".join(found[2] for found in EXPORT.finditer(text))
    text = IMPORT.sub(r"const \1 = module_\2;", EXPORT.sub(r"\1", text))
    return f"const module_{name} = (() => {{\n{text}\nreturn {{ {exports} }};\n}})();"


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
