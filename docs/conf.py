"""The site: `sphinx-build -W -b html docs site` makes it from these pages, without a network.

The formulas are blocks of LaTeX that GitHub renders, too; here they become MathML, which browsers
draw by themselves, so that no script is fetched. Fonts are the reader's own.
"""

from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

project = "aecli"
extensions = ["myst_parser"]
exclude_patterns = ["reproductions", "_static"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = "aecli"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
highlight_language = "text"
myst_heading_anchors = 4
myst_fence_as_directive = ["math"]
html_math_renderer = "mathml"


def mathml(formula: str, display: str = "inline") -> str:
    """Return LaTeX as MathML, with the space after a logarithm that LaTeX has."""
    return convert(formula, display=display).replace(
        "<mi>log</mi>", "<mi>log</mi><mspace width='.2em'/>"
    )


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula that stands by itself."""
    self.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a sentence."""
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def link_pages_alone(app: Sphinx, page: nodes.document) -> None:
    """Turn links to the repository's other Markdown files, which GitHub follows, into text."""
    for link in list(page.findall(pending_xref)):
        if Path(link["reftarget"]).is_absolute():
            link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Tell Sphinx how formulas are written and which links are followed."""
    app.connect("doctree-read", link_pages_alone)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
