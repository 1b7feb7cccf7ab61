"""A Sphinx extension: what the previews of references show. A page may not read another one from a file, so each is given as a script, too.

`_static/previews/chapters/01_….js` holds the statements, exercises, equations or works of a page as they stand there, and
`_static/previews/symbols.js` the rows of the notation by the symbols that they explain. `_static/previews.js` loads such a script when a
reader's pointer or focus first rests on a reference to one of them, or the pointer on a letter of a formula; until then it costs nothing.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bs4 import BeautifulSoup, Tag

if TYPE_CHECKING:
    from sphinx.application import Sphinx

OUTPUT = "_static/previews"
NOTATION = "appendices/notation"
ALPHABETS = ("mathcal", "mathbf", "mathbb")
"""The classes with which KaTeX marks a letter that is not of the usual alphabet; the same in `_static/previews.js`."""
SHOWN = re.compile(r'<div class="(?:proof|exercise|math|citation)\b[^"]*"[^>]*? id="([^"]+)"')
LEFT_OUT = re.compile(r'<a class="headerlink".*?</a>|</?a\b[^>]*>| (?:id|tabindex)="[^"]*"', re.DOTALL)


def element(page: str, start: int, tag: str = "div") -> str:
    """The element of an HTML page that begins at a place, to its end.

    >>> element("<p><div><div>a</div></div></p>", 3)
    '<div><div>a</div></div>'
    """
    depth = 0
    for found in re.compile(rf"<(/?){tag}\b").finditer(page, start):
        depth += -1 if found[1] else 1
        if not depth:
            return page[start : page.index(">", found.end()) + 1]
    return ""


def parts(page: str) -> dict[str, str]:
    """What can be shown of an HTML page, by its ids, without links and ids."""
    return {found[1]: LEFT_OUT.sub("", element(page, found.start())) for found in SHOWN.finditer(page) if found[1] != "proof"}


def symbol(formula: Tag) -> str | None:
    """What a formula of KaTeX explains, if it begins with a letter: the letter, its alphabet, and what hangs on it above and below.

    >>> formula = '<span class="mord"><span class="mord mathnormal">K</span><span class="msupsub">θ</span></span><span>=</span>'
    >>> symbol(BeautifulSoup(formula, "html.parser"))
    'K||θ'
    """
    first = next((leaf for leaf in formula.find_all("span") if not leaf.find(True) and leaf.get_text(strip=True)), None)
    if first is None or "mord" not in (first.get("class") or []):
        return None
    hangs = first.find_next_sibling()
    decoration = hangs.get_text() if hangs and "msupsub" in (hangs.get("class") or []) else ""
    alphabet = next((name for name in ALPHABETS if name in first["class"]), "")
    return f"{first.get_text()}|{alphabet}|{decoration.replace(chr(0x200B), '')}"


def rows(page: str) -> list[dict[str, Any]]:
    """The rows of the notation: the symbols that each explains, the formulas of its first cell, and first and last cell as they stand."""
    found = []
    for row in BeautifulSoup(page, "html.parser").select("tbody tr"):
        first, *_, last = row.find_all("td")
        symbols = [symbol(formula) for formula in first.select(".katex-html")]
        found.append({"symbols": [name for name in symbols if name], "row": LEFT_OUT.sub("", f"<tr>{first}{last}</tr>")})
    return found


def _write(app: "Sphinx", page: str, _template: str, context: dict[str, Any], doctree: object) -> None:
    if not doctree or app.builder.format != "html":
        return
    shown: dict[str, Any] = {page: parts(context["body"])}
    if page == NOTATION:
        shown["symbols"] = rows(context["body"])
    for name, what in shown.items():
        if what:
            path = Path(app.outdir) / OUTPUT / f"{name}.js"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"previews({json.dumps(name)}, {json.dumps(what, ensure_ascii=False)});\n", encoding="utf-8")


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("html-page-context", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
