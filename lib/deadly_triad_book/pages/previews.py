"""A Sphinx extension: what the previews of references show. A page may not read another one from a file, so each is given as a script, too.

`_static/previews/chapters/01_….js` holds the statements, exercises, equations or works of a page as they stand there. `_static/previews.js`
loads it when a reader's pointer or focus first rests on a reference to one of them; until then it costs nothing.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

OUTPUT = "_static/previews"
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


def _write(app: "Sphinx", page: str, _template: str, context: dict[str, Any], doctree: object) -> None:
    shown = parts(context["body"]) if doctree and app.builder.format == "html" else {}
    if shown:
        path = Path(app.outdir) / OUTPUT / f"{page}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"previews({json.dumps(page)}, {json.dumps(shown, ensure_ascii=False)});\n", encoding="utf-8")


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("html-page-context", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
