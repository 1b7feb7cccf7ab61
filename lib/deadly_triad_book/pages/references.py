"""A Sphinx extension: the works of the bibliography end with links to them, a DOI, a number of the arXiv or an address.

They are the fields `doi`, `eprint` and `url` of `references.bib`. The style is pybtex's own but for an address, which is shown by its host:
whole, it would be the longest line of the page.
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pybtex.plugin import register_plugin  # type: ignore[import-untyped]
from pybtex.style.formatting.alpha import Style  # type: ignore[import-untyped]
from pybtex.style.template import field, href  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

NAME = "linked"


class Linked(Style):  # type: ignore[misc]
    """Pybtex's style, in which an address is a link named by its host."""

    def format_url(self, entry: Any) -> Any:
        """A link named by where it leads."""
        return href(field("url", raw=True))[urlsplit(entry.fields.get("url", "")).hostname or ""]


def _choose(_app: "Sphinx", config: "Config") -> None:
    config.bibtex_default_style = NAME


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    register_plugin("pybtex.style.formatting", NAME, Linked)
    app.connect("config-inited", _choose)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
