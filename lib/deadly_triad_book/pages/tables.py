"""A Sphinx extension: heads of tables from pandas.

The corner is an empty cell, and not the heading without words that pandas makes of it. Where the rows have a name, it stands in the
corner, and not in a row of its own.
"""

import re
from typing import TYPE_CHECKING, Any, Final

from docutils import nodes  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx

NAMED_ROWS: Final = re.compile(
    r"(<thead>\s*<tr[^>]*>\s*)<th></th>((?:(?!</tr>).)*</tr>)\s*<tr>\s*<th>([^<]+)</th>\s*(?:<th></th>\s*)+</tr>", re.DOTALL
)


def _mend(_app: "Sphinx", document: nodes.document, _page: str) -> None:
    for raw in document.findall(nodes.raw):
        if 'class="dataframe' in (text := raw.astext()):
            raw.children = [nodes.Text(NAMED_ROWS.sub(r"\1<th>\3</th>\2", text).replace("<th></th>", "<td></td>"))]


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
