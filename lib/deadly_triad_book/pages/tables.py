"""A Sphinx extension: tables from pandas.

The corner is an empty cell, and not the heading without words that pandas makes of it. Where the rows have a name, it stands in the
corner, and not in a row of its own. Numbers stand at the right of their column, and so does its heading; words at the left.
"""

import re
from typing import TYPE_CHECKING, Any, Final

from bs4 import BeautifulSoup, Tag
from docutils import nodes  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx

NAMED_ROWS: Final = re.compile(
    r"(<thead>\s*<tr[^>]*>\s*)<th></th>((?:(?!</tr>).)*</tr>)\s*<tr>\s*<th>([^<]+)</th>\s*(?:<th></th>\s*)+</tr>", re.DOTALL
)
NUMBER: Final = re.compile(r"[-−+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|inf|∞)( ?%)?( ± [\d.]+)?|nan|[-–—]?")


def aligned(table: str) -> str:
    """A table whose columns of numbers, with their headings, have the class `number`.

    >>> head = "<thead><tr><td></td><th>n</th><th>end</th></tr></thead>"
    >>> print(aligned(head + chr(10) + "<tbody><tr><th>a</th><td>-1.5</td><td>far</td></tr></tbody>"))
    <thead><tr><td></td><th class="number">n</th><th>end</th></tr></thead>
    <tbody><tr><th>a</th><td class="number">-1.5</td><td>far</td></tr></tbody>
    """
    soup = BeautifulSoup(table, "html.parser")
    rows = [row.find_all("td") for row in soup.select("tbody tr")]
    width = min(map(len, rows), default=0)
    numeric = [all(NUMBER.fullmatch(row[k].get_text(strip=True)) for row in rows) for k in range(width)]
    for row in rows:
        for cell, is_number in zip(row, numeric, strict=False):
            _mark(cell, is_number=is_number)
    for heading in soup.select("thead tr"):
        heading.attrs.pop("style", None)
        end = width
        for cell in reversed(heading.find_all(["th", "td"])):
            start = end - int(str(cell.get("colspan", "1")))
            if start < 0:
                break
            _mark(cell, is_number=all(numeric[start:end]))
            end = start
    return str(soup)


def _mark(cell: Tag, *, is_number: bool) -> None:
    if is_number:
        cell["class"] = "number"


def _mend(_app: "Sphinx", document: nodes.document, _page: str) -> None:
    for raw in document.findall(nodes.raw):
        if 'class="dataframe' in (text := raw.astext()):
            raw.children = [nodes.Text(aligned(NAMED_ROWS.sub(r"\1<th>\3</th>\2", text).replace("<th></th>", "<td></td>")))]


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
