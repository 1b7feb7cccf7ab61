"""A Sphinx extension: the works of the bibliography end with links to them, a DOI, a number of the arXiv or an address.

They are the fields `doi`, `eprint` and `url` of `references.bib`. The style is pybtex's own but for an address, which is shown by its host:
whole, it would be the longest line of the page. And a list of works has items: docutils gives them a role that no list may have.
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from docutils import nodes  # type: ignore[import-untyped]
from pybtex.plugin import register_plugin  # type: ignore[import-untyped]
from pybtex.style.formatting.alpha import Style  # type: ignore[import-untyped]
from pybtex.style.template import field, href  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.writers.html5 import HTML5Translator

NAME = "linked"


class Linked(Style):  # type: ignore[misc]
    """Pybtex's style, in which an address is a link named by its host."""

    def format_url(self, entry: Any) -> Any:
        """A link named by where it leads."""
        return href(field("url", raw=True))[urlsplit(entry.fields.get("url", "")).hostname or ""]


def visit(translator: "HTML5Translator", node: nodes.citation) -> None:
    """Open an item, and before the first one the list."""
    if not isinstance(node.previous_sibling(), nodes.citation):
        translator.body.append('<div role="list" class="citation-list">\n')
    translator.body.append(translator.starttag(node, "div", CLASS="citation", role="listitem"))


def depart(translator: "HTML5Translator", node: nodes.citation) -> None:
    """Close an item, and after the last one the list."""
    last = not isinstance(node.next_node(descend=False, siblings=True), nodes.citation)
    translator.body.append("</div>\n</div>\n" if last else "</div>\n")


def _choose(_app: "Sphinx", config: "Config") -> None:
    config.bibtex_default_style = NAME


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    register_plugin("pybtex.style.formatting", NAME, Linked)
    app.add_node(nodes.citation, override=True, html=(visit, depart))
    app.connect("config-inited", _choose)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
