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

A figure of something that takes long to compute gets it from a cell, `hand_over("a-name", …)` with the option `:data: a-name`; its module
exports a function from the data to the figure. Why a state is as it is may stand under the figure, in `:::{why} key`, with links and
formulas: a figure that has `whys(state)` shows those that it names, and a page without scripts shows all.
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
import { readFileSync } from "fs";
const [drawing, stage, module, query, panels] = process.argv.slice(1);
const { picture } = await import(drawing), { withQuery } = await import(stage), { figure: found } = await import(module);
const figure = typeof found === "function" ? found(JSON.parse(readFileSync(0, "utf-8"))) : found;
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
def still(name: str, query: str = "", panels: str = "", data: str = "") -> dict[str, Any]:
    """A figure in a state: its `picture` as HTML, what it `says`, and whether it would raise an `alarm`.

    Args:
        name: of the figure.
        query: the state, as far as it differs from the figure's own.
        panels: those that are shown, all by default.
        data: as JSON, for a figure that is made of data.

    Raises:
        RuntimeError: with what node says, if a module has a fault.
    """
    modules = [(MODULES / f"{module}.mjs").as_uri() for module in ("drawing", "stage", f"{name}_figure")]
    command = [str(NODE), "--input-type=module", "-e", DRAW, *modules, query, panels]
    ran = subprocess.run(command, input=data, capture_output=True, text=True, encoding="utf-8", check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return dict(json.loads(ran.stdout))


class explorable(nodes.General, nodes.Element):  # type: ignore[misc] # noqa: N801
    """A figure; its children are the question above it, its picture, and reasons."""


class explorable_picture(nodes.General, nodes.Element):  # type: ignore[misc] # noqa: N801
    """The still picture and what it says."""


class explorable_why(nodes.General, nodes.Element):  # type: ignore[misc] # noqa: N801
    """A reason, which is shown in those states that it is a reason for."""


class ExplorableDirective(SphinxDirective):
    """A figure that a reader moves, with a question above it."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[Any] = {
        "name": directives.unchanged_required,
        "state": directives.unchanged,
        "panels": directives.unchanged,
        "data": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Make the node of the figure."""
        (name,) = self.arguments
        if name not in names():
            raise self.error(f"explorable must be one of {', '.join(names())}, got {name}")
        shown = {"figure": name, "state": self.options.get("state", ""), "panels": self.options.get("panels", ""), "data": self.data()}
        content = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, content)
        node = explorable(**shown)
        self.options.setdefault("name", f"explore-{name}")
        self.add_name(node)
        reasons = [child for child in content.children if isinstance(child, explorable_why)]
        node += [child for child in content.children if child not in reasons]
        node += [explorable_picture(**shown)]
        if reasons:
            node += [
                nodes.raw("", '<p class="ex-reasons">Why it ends so, in one state of the figure or another:</p>', format="html"),
                *reasons,
            ]
        return [node]

    def data(self) -> str:
        """What a cell of the page has handed over, as JSON; empty if the figure asks for nothing."""
        if "data" not in self.options:
            return ""
        renderer = self.state.document.get("nb_renderer")
        found = renderer.renderer.nb_client.glue_data.get(self.options["data"]) if renderer else None
        if found is None:
            raise self.error(f"data must be what a cell of the page hands over, got {self.options['data']}")
        return str(found["data"]["application/json"])


class WhyDirective(SphinxDirective):
    """A reason under a figure: :::{why} key."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Make the node of the reason."""
        node = explorable_why(key=self.arguments[0])
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


def visit_picture(translator: "HTML5Translator", node: explorable_picture) -> None:
    """Close the question, and show the still picture with what it says."""
    drawn = still(node["figure"], node["state"], node["panels"], node["data"])
    translator.body.append(f'</div><p class="ex-said">{escape(drawn["says"])}</p><div class="ex-panels">{drawn["picture"]}</div>\n')
    if node["data"]:
        data = node["data"].replace("</", "<\\/")
        translator.body.append(f'<script type="application/json" class="ex-data">{data}</script>\n')


def visit_why(translator: "HTML5Translator", node: explorable_why) -> None:
    """Open a reason."""
    translator.body.append(translator.starttag(node, "div", CLASS="ex-why", **{"data-why": node["key"]}))


def close(translator: "HTML5Translator", _node: nodes.Node) -> None:
    """Close a box."""
    translator.body.append("</div>\n")


def nothing(_translator: "HTML5Translator", _node: nodes.Node) -> None:
    """A picture has no end of its own."""


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
    app.add_node(explorable, html=(visit, close))
    app.add_node(explorable_picture, html=(visit_picture, nothing))
    app.add_node(explorable_why, html=(visit_why, close))
    app.add_directive("explorable", ExplorableDirective)
    app.add_directive("why", WhyDirective)
    app.add_role("sets", SetsRole())
    app.connect("builder-inited", _write_scripts)
    app.connect("html-page-context", _add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
