r"""A Sphinx extension: figures that a reader moves.

    :::{explorable} baird
    :name: explore-baird
    :panels: map plane

    Three knobs. Which of them never helps?
    :::

    … and in the prose: {sets}`at $\gamma = 0.87$ it settles <explore-baird?g=0.87>`

A figure is two modules in `explorables/`: pure functions (`baird.mjs`, which a test runs against the Python package) and a drawing
(`baird_figure.mjs`), a function of the state that makes text. So node draws the same picture into the page while the book is built: that
is what is there without scripts and on paper. A browser takes no modules from a file, so the modules of a figure are joined to one
script, which only the pages that show it load.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl

from docutils import nodes  # type: ignore[import-untyped]
from docutils.parsers.rst import directives  # type: ignore[import-untyped]
from sphinx.util.docutils import ReferenceRole, SphinxDirective

from deadly_triad_book.pages.formulas import NODE

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

MODULES = Path(__file__).parent / "explorables"
OUTPUT = "_static/explorables"
IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+)\.mjs";\n', re.MULTILINE)
DRAW = """
const [drawing, stage, module, query, panels] = process.argv.slice(1);
const { picture } = await import(drawing), { withQuery } = await import(stage), { figure } = await import(module);
const state = withQuery(figure.state, query, [...figure.knobs, ...(figure.start ?? [])]);
const shown = picture(figure, state, panels ? panels.split(" ") : Object.keys(figure.panels));
console.log(JSON.stringify({ picture: shown, says: figure.says(state), alarm: figure.alarm(state) }));
"""


def names() -> list[str]:
    """The figures there are."""
    return sorted(path.name.removesuffix("_figure.mjs") for path in MODULES.glob("*_figure.mjs"))


def _in_order(module: str) -> Iterator[str]:
    """The modules that a module needs, each after those that it needs itself."""
    for needed in IMPORT.findall((MODULES / f"{module}.mjs").read_text(encoding="utf-8")):
        yield from _in_order(needed)
    yield module


def joined(name: str) -> str:
    """The modules of a figure as one script that a page can load from a file."""
    pieces = []
    for module in dict.fromkeys([*_in_order(f"{name}_figure"), *_in_order("stage")]):
        text = IMPORT.sub("", (MODULES / f"{module}.mjs").read_text(encoding="utf-8"))
        pieces.append(re.sub(r"^export ", "", text, flags=re.MULTILINE))
    start = f'document.querySelectorAll(".explorable[data-figure={name}]").forEach((root) => play(root, figure));'
    return f'(() => {{\n"use strict";\n{"".join(pieces)}\n{start}\n}})();\n'


@cache
def still(name: str, query: str = "", panels: str = "") -> dict[str, Any]:
    """A figure in a state: its `picture` as HTML, what it `says`, and whether it would raise an `alarm`.

    Raises:
        RuntimeError: with what node says, if a module has a fault.
    """
    modules = [(MODULES / f"{module}.mjs").as_uri() for module in ("drawing", "stage", f"{name}_figure")]
    command = [str(NODE), "--input-type=module", "-e", DRAW, *modules, query, panels]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return dict(json.loads(ran.stdout))


class explorable(nodes.General, nodes.Element):  # type: ignore[misc] # noqa: N801
    """A figure; its children are the question above it."""


class ExplorableDirective(SphinxDirective):
    """A figure that a reader moves, with a question above it."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[Any] = {"name": directives.unchanged_required, "state": directives.unchanged, "panels": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Make the node of the figure."""
        (name,) = self.arguments
        if name not in names():
            raise self.error(f"explorable must be one of {', '.join(names())}, got {name}")
        node = explorable(figure=name, state=self.options.get("state", ""), panels=self.options.get("panels", ""))
        self.options.setdefault("name", f"explore-{name}")
        self.add_name(node)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


class SetsRole(ReferenceRole):
    """Words of a sentence that set a figure: {sets}`words <explore-name?key=value&key=value>`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make a link to the figure that carries the state."""
        where, _, query = self.target.partition("?")
        if not (self.has_explicit_title and parse_qsl(query, strict_parsing=True)):
            return [], [self.inliner.reporter.error(f"sets must read `words <figure?key=value>`, got {self.text}", line=self.lineno)]
        link = nodes.raw(
            "", f'<a class="ex-sets" href="#{escape(where)}" data-set="{escape(query)}">{escape(self.title)}</a>', format="html"
        )
        return [link], []


def visit(translator: "HTML5Translator", node: explorable) -> None:
    """Open the figure: the question comes first."""
    attributes = {"data-figure": node["figure"], "data-state": node["state"]}
    translator.body.append(translator.starttag(node, "div", CLASS="explorable", **attributes))
    translator.body.append('<div class="ex-question">')


def depart(translator: "HTML5Translator", node: explorable) -> None:
    """Close it with its still picture and what that says."""
    drawn = still(node["figure"], node["state"], node["panels"])
    translator.body.append(f'</div><p class="ex-said">{escape(drawn["says"])}</p><div class="ex-panels">{drawn["picture"]}</div></div>\n')


def _add_scripts(app: "Sphinx", _page: str, _template: str, _context: dict[str, Any], doctree: nodes.document | None) -> None:
    for name in sorted({node["figure"] for node in doctree.findall(explorable)} if doctree else ()):
        app.add_js_file(f"explorables/{name}.js", loading_method="defer")


def _write_scripts(app: "Sphinx") -> None:
    if app.builder.format == "html":
        folder = Path(app.outdir) / OUTPUT
        folder.mkdir(parents=True, exist_ok=True)
        for name in names():
            (folder / f"{name}.js").write_text(joined(name), encoding="utf-8")


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.add_node(explorable, html=(visit, depart))
    app.add_directive("explorable", ExplorableDirective)
    app.add_role("sets", SetsRole())
    app.connect("builder-inited", _write_scripts)
    app.connect("html-page-context", _add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
