"""A Sphinx extension: the corner of a table from pandas is an empty cell, and not the heading without words that pandas makes of it."""

from typing import TYPE_CHECKING, Any

from docutils import nodes  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _mend(_app: "Sphinx", document: nodes.document, _page: str) -> None:
    for raw in document.findall(nodes.raw):
        if 'class="dataframe' in raw.astext():
            raw.children = [nodes.Text(raw.astext().replace("<th></th>", "<td></td>"))]


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
