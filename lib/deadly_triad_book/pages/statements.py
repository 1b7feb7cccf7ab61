"""A Sphinx extension: ways to a place in the book other than reading up to it.

The directive `statements` lists every definition, lemma, proposition and theorem by its number and name, chapter by chapter. Each name is
also an entry of the general index, and so is each term of `appendices/terms.yml`, which says where in the book a term is at home.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]
from docutils import nodes  # type: ignore[import-untyped]
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PLAIN = {r"\to": "→"} | {f"_{digit}": chr(ord("₀") + digit) for digit in range(10)}
TERMS = Path("appendices") / "terms.yml"
log = logging.getLogger(__name__)


class statement_list(nodes.General, nodes.Element):  # type: ignore[misc]  # noqa: N801  writers call it by this name
    """Where the list will stand."""


class Statements(SphinxDirective):
    """`{statements}`: no arguments, no content."""

    def run(self) -> list[nodes.Node]:
        """Keep the place until all numbers are known."""
        return [statement_list()]


def statements(document: nodes.document) -> Iterator[nodes.Element]:
    """The numbered statements of a page, in their order."""
    return (node for node in document.findall(nodes.Admonition) if node.get("realtype") and node["ids"])


def title(statement: nodes.Element) -> list[nodes.Node]:
    """What is written after a statement's number, without its brackets and without whom it cites; empty if it has no name."""
    found = next((child for child in statement.children if isinstance(child, nodes.title)), None)
    children = [] if found is None else [child.deepcopy() for child in found.children]
    cited = next((i for i, child in enumerate(children) if isinstance(child, addnodes.pending_xref)), None)
    text = [i for i, child in enumerate(children[:cited]) if isinstance(child, nodes.Text)]
    if text:
        children[text[0]] = nodes.Text("".join(str(children[text[0]]).partition("(")[2:]))
        last = str(children[text[-1]])
        children[text[-1]] = nodes.Text(last.removesuffix(")") if cited is None else last[: last.rfind(" (")])
    return [child for child in children[:cited] if child.astext()]


@cache
def terms(path: Path) -> dict[str, list[tuple[str, str]]]:
    """By page, the terms that are at home there, each with the id of its place; none in a book without such a file."""
    found: dict[str, list[tuple[str, str]]] = {}
    for term, place in yaml.safe_load(path.read_text(encoding="utf-8") if path.exists() else "{}").items():
        page, _, anchor = place.partition("#")
        found.setdefault(page, []).append((term, anchor))
    return found


def plain(name: list[nodes.Node]) -> str:
    """A name without TeX, as the index, which sets no formulas, can show it."""
    text = "".join(child.astext() for child in name)
    for tex, letter in PLAIN.items():
        text = text.replace(tex, letter)
    return text


def entry(text: str, anchor: str, *, main: bool = False) -> addnodes.index:
    """An entry of the index; `a; b` stands under a. The search shows a main entry before others."""
    return addnodes.index(entries=[("single", text, anchor, "main" if main else "", None)])


class Indexed(SphinxTransform):
    """Entries of the index, before Sphinx collects them."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        """Put entries before statements, and into the places of terms."""
        places = {name: node for node in self.document.findall(nodes.Element) for name in node["ids"]}
        for statement in list(statements(self.document)):
            name = plain(title(statement))
            if name:
                statement.parent.insert(statement.parent.index(statement), entry(name, statement["ids"][0]))
        for term, anchor in terms(Path(self.env.srcdir) / TERMS).get(self.env.docname, []):
            if anchor not in places:
                log.warning("%s sends '%s' to '#%s', which is not on this page", TERMS, term, anchor, location=self.env.docname)
            else:
                places[anchor].insert(
                    1 if isinstance(places[anchor], nodes.section) else len(places[anchor].children),
                    entry(term, anchor, main=";" not in term),
                )


def listed(environment: "BuildEnvironment", builder: Any, page: str, here: str) -> nodes.Element | None:
    """The statements of one page as items with links; None if there are none."""
    items = nodes.bullet_list()
    numbers = environment.toc_fignumbers.get(page, {})
    for statement in statements(environment.get_doctree(page)):
        anchor = statement["ids"][0]
        number = ".".join(map(str, numbers[statement["countertype"]][anchor]))
        address = f"{builder.get_relative_uri(here, page)}#{anchor}"
        link = nodes.reference("", f"{statement['realtype'].title()} {number}", refuri=address, internal=True)
        name = title(statement)
        items += nodes.list_item("", nodes.paragraph("", "", link, *([nodes.Text(". "), *name] if name else [])))
    return items if items.children else None


def _fill(app: "Sphinx", document: nodes.document, page: str) -> None:
    for place in list(document.findall(statement_list)):
        found: list[nodes.Node] = []
        for other in app.env.toctree_includes.get(app.config.root_doc, []):
            if (items := listed(app.env, app.builder, other, page)) is not None:
                number = ".".join(map(str, app.env.toc_secnumbers.get(other, {}).get("", ())))
                heading = nodes.strong("", f"{number}. {app.env.titles[other].astext()}")
                found += [nodes.paragraph("", "", heading), items]
        place.replace_self(found)


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.add_directive("statements", Statements)
    app.add_node(statement_list)
    app.add_transform(Indexed)
    app.connect("doctree-resolved", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
