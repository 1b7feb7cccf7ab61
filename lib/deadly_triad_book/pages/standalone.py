"""A Sphinx extension: each chapter as a notebook that reads on its own, in JupyterLab, on Colab and on GitHub.

A chapter's source has no outputs, and roles and directives that only Sphinx understands. When the pages are written, Sphinx knows every
number, title and citation; so its document is written again, as plain Markdown, between the cells of the executed notebook. The result
takes the place of the source that a page offers for download. It is made by every build and is never committed.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from docutils import nodes  # type: ignore[import-untyped]

from deadly_triad_book.execution import cache_in, read_source
from deadly_triad_book.pages.repository import requirement

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

ABOUT = "Made from the book *{book}* and executed by its build. Figures to move are on the book's own pages."
CLONE = " To run it you need the book's package: `pip install .` in a clone of the book."
INSTALL = """# Elsewhere than in the book's own environment, on Colab for one, this installs its package.
import importlib.util

if importlib.util.find_spec("deadly_triad_book") is None:
    %pip install --quiet "{requirement}"
"""
BIBLIOGRAPHY = "appendices/bibliography"
NUMBERED = ("Theorem", "Proposition", "Lemma", "Definition", "Exercise")
SPECIAL = re.compile(r"([\\`*_\[\]<$])")


class Numbers:
    """What stands before a title, a caption or an equation of one page."""

    def __init__(self, environment: "BuildEnvironment", page: str) -> None:
        self.figures = environment.toc_fignumbers.get(page, {})
        self.sections = environment.toc_secnumbers.get(page, {})

    def of(self, node: nodes.Element, kind: str) -> str:
        """The number of a thing of a kind (`figure`, `theorem`, `displaymath`); empty if it has none."""
        table = self.figures.get(kind, {})
        return next((".".join(map(str, table[name])) for name in node["ids"] if name in table), "")

    def of_section(self, node: nodes.Element) -> str:
        """The number of a section, with a dot and a space after it; empty if it has none."""
        keys = [""] if isinstance(node.parent, nodes.document) else [f"#{name}" for name in node["ids"]]
        found = next((self.sections[key] for key in keys if key in self.sections), None)
        return f"{'.'.join(map(str, found))}. " if found else ""


class Writer:
    """Markdown for the nodes of one page, cut where its code cells stand.

    Args:
        numbers: of the page.
        links: the address of another page's notebook, from its name in the HTML; None where there is none.
    """

    def __init__(self, numbers: Numbers, links: Callable[[str], str | None]) -> None:
        self.numbers, self.links = numbers, links
        self.depth = 0
        self.cited: dict[str, None] = {}

    # --- inside a line ---

    def line(self, node: nodes.Node) -> str:
        """One line: text, emphasis, formulas, links."""
        return "".join(self.inline(child) for child in node.children)

    def inline(self, node: nodes.Node) -> str:
        """A part of a line."""
        if isinstance(node, nodes.Text):
            return SPECIAL.sub(r"\\\1", str(node)).replace("\n", " ")
        inner = {"emphasis": "*{}*", "strong": "**{}**"}.get(node.tagname)
        if inner:
            return inner.format(self.line(node))
        match node.tagname:
            case "literal":
                return f"`{node.astext()}`"
            case "math":
                return f"${node.astext()}$"
            case "reference":
                return self.link(node)
            case "image" | "raw" | "target" | "comment":
                return ""
        return self.line(node)

    def link(self, node: nodes.Node) -> str:
        """A link to the web, or to another notebook; bare text where the aim is elsewhere on the page."""
        assert isinstance(node, nodes.Element)
        text, address = self.line(node), node.get("refuri", "")
        page, _, anchor = address.partition("#")
        if page.endswith(f"{Path(BIBLIOGRAPHY).name}.html"):
            self.cited[anchor] = None
        if node.get("internal") or not address.startswith("http"):
            address = self.links(page) if page else None
        return f"[{text}]({address})" if address else text

    # --- between lines ---

    def blocks(self, node: nodes.Node) -> Iterator[str | int]:
        """Paragraphs in Markdown and, where a code cell stands, its index in the source."""
        for child in node.children:
            yield from self.block(child)

    def block(self, node: nodes.Node) -> Iterator[str | int]:
        """What one node comes to."""
        if isinstance(node, nodes.Element) and node.get("nb_element") == "cell_code":
            yield node["cell_index"]
            yield from (self.caption(figure) for figure in node.findall(nodes.figure))
            return
        method = getattr(self, f"block_{node.tagname}", None)
        if method is not None:
            yield from method(node)
        elif isinstance(node, nodes.Admonition):
            yield from self.boxed(node)
        elif isinstance(node, (nodes.Inline, nodes.TextElement)):
            yield from filter(None, [self.inline(node)])
        else:
            yield from self.blocks(node)

    def block_section(self, node: nodes.section) -> Iterator[str | int]:
        """A heading with its number, and what stands under it."""
        self.depth += 1
        for child in node.children:
            if isinstance(child, nodes.title):
                yield f"{'#' * self.depth} {self.numbers.of_section(node)}{self.line(child)}"
            else:
                yield from self.block(child)
        self.depth -= 1

    def block_paragraph(self, node: nodes.paragraph) -> Iterator[str]:
        """Text."""
        yield self.line(node).strip()

    def block_math_block(self, node: nodes.math_block) -> Iterator[str]:
        """A displayed formula, with its number."""
        number = self.numbers.of(node, "displaymath")
        text = node.astext().strip()
        if "\\\\" in text and not text.startswith("\\begin"):
            text = f"\\begin{{split}}{text}\\end{{split}}"
        tag = f" \\tag{{{number}}}" if number else ""
        yield f"$$\n{text}{tag}\n$$"

    def block_literal_block(self, node: nodes.literal_block) -> Iterator[str]:
        """Code that is only shown."""
        yield f"```\n{node.astext()}\n```"

    def block_bullet_list(self, node: nodes.Element) -> Iterator[str]:
        """Items, each with a mark and what belongs to it indented."""
        marks = (f"{i}." for i in count(node.get("start", 1))) if node.tagname == "enumerated_list" else iter(lambda: "-", "")
        items = []
        for item, mark in zip(node.children, marks, strict=False):
            indented = ("\n" + " " * (len(mark) + 1)).join(self.whole(item).splitlines())
            items.append(f"{mark} {indented}")
        yield "\n".join(items)

    block_enumerated_list = block_bullet_list

    def block_definition_list(self, node: nodes.definition_list) -> Iterator[str]:
        """Terms in bold face, each with its text after it."""
        for item in node.children:
            term, definition = item.children[0], item.children[-1]
            yield f"**{self.line(term)}** {self.whole(definition)}"

    def block_table(self, node: nodes.table) -> Iterator[str]:
        """Rows between bars."""
        rows = [[self.whole(entry).replace("\n", " ") for entry in row.children] for row in node.findall(nodes.row)]
        yield "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])

    def block_block_quote(self, node: nodes.Element) -> Iterator[str]:
        """Set off by a bar."""
        yield quote(self.whole(node))

    def block_proof_node(self, node: nodes.Element) -> Iterator[str | int]:
        """A proof: its one box says so in its first word."""
        yield from self.box("", [block for child in node.children for block in self.blocks(child)])

    def block_explorable_why(self, _node: nodes.Element) -> Iterator[str]:
        """A reason for the state of a figure, which stays on the page."""
        yield from ()

    def block_dropdown_main(self, node: nodes.Element) -> Iterator[str | int]:
        """What the page folds away."""
        title, *rest = node.children
        yield from self.box(f"**{self.line(title).strip()}.**", [block for child in rest for block in self.block(child)], folded=True)

    def boxed(self, node: nodes.Element) -> Iterator[str | int]:
        """Theorems, exercises, solutions, asides."""
        title = next((child for child in node.children if isinstance(child, nodes.title)), None)
        rest = [block for child in node.children if child is not title for block in self.block(child)]
        yield from self.box(self.heading(node, title), rest, folded="dropdown" in node["classes"])

    def box(self, heading: str, rest: list[str | int], *, folded: bool = False) -> Iterator[str | int]:
        """Blocks under a heading in bold face: with a bar at their left, or folded; bare if a code cell stands among them."""
        if any(isinstance(block, int) for block in rest):
            yield from [heading, *rest]
        elif folded:
            yield f"<details>\n<summary>{heading.replace('*', '').replace(chr(92), '')}</summary>\n\n{joined(rest)}\n\n</details>"
        else:
            yield quote(f"{heading} {joined(rest)}".strip())

    def heading(self, node: nodes.Element, title: nodes.title | None) -> str:
        """What a box is, its number, and its name in brackets."""
        name = self.line(title).strip() if title is not None else ""
        kind = next((word for word in NUMBERED if word.lower() in (node.get("realtype", ""), node.get("type", ""))), "")
        if not kind:
            return f"**{name}.**" if name else ""
        number = self.numbers.of(node, node.get("countertype") or kind.lower())
        name = name.removeprefix(kind).removeprefix(f" {number}").strip().removeprefix("(").removesuffix(")")
        return f"**{kind} {number}**{f' ({name}).' if name else '.'}"

    def caption(self, node: nodes.figure) -> str:
        """A figure's number and caption; the picture is an output of its cell."""
        text = " ".join(self.line(child) for child in node.children if isinstance(child, nodes.caption))
        return f"**Figure {self.numbers.of(node, 'figure')}.** {text}"

    def whole(self, node: nodes.Node) -> str:
        """All text under a node in one piece."""
        return joined(self.blocks(node))


def joined(blocks: Iterable[str | int]) -> str:
    """Paragraphs with empty lines between them."""
    return "\n\n".join(block for block in blocks if isinstance(block, str) and block)


def quote(text: str) -> str:
    """Text with a bar at its left."""
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def assemble(blocks: Iterable[str | int], executed: nbformat.NotebookNode, before: str, install: str = "") -> nbformat.NotebookNode:
    """The notebook: text between code cells, these with their outputs; cells that the page does not show are folded.

    Args:
        blocks: of the page, as `Writer` gives them.
        executed: the source with outputs.
        before: a cell of text that stands below the title.
        install: code that stands below that; no cell if it is empty.
    """
    metadata = {key: executed.metadata[key] for key in ("kernelspec", "language_info") if key in executed.metadata}
    made = nbformat.v4.new_notebook(metadata=metadata)  # type: ignore[no-untyped-call]
    text: list[str] = []
    cells = iter([(index, cell) for index, cell in enumerate(executed.cells) if cell.cell_type == "code"])

    def close() -> None:
        if text:
            made.cells.append(nbformat.v4.new_markdown_cell(joined(list(text)), id=f"text-{len(made.cells)}"))  # type: ignore[no-untyped-call]
            text.clear()

    for block in blocks:
        if isinstance(block, str):
            text.append(block)
            continue
        close()
        for index, cell in cells:
            made.cells.append(plain_cell(cell))
            if index == block:
                break
    close()
    made.cells += [plain_cell(cell) for _, cell in cells]
    made.cells.insert(1, nbformat.v4.new_markdown_cell(before, id="about"))  # type: ignore[no-untyped-call]
    if install:
        made.cells.insert(2, nbformat.v4.new_code_cell(install, id="install"))  # type: ignore[no-untyped-call]
    return made


def plain_cell(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A code cell with what a reader can see of its outputs, folded if the page leaves its code out."""
    outputs = [out for out in cell.outputs if not any(kind.startswith("application/papermill") for kind in out.get("data", {}))]
    hidden = {"hide-input", "remove-input"} & set(cell.metadata.get("tags", []))
    metadata = {"jupyter": {"source_hidden": True}, "cellView": "form"} if hidden else {}
    return nbformat.v4.new_code_cell(  # type: ignore[no-untyped-call]
        cell.source, id=cell.id, execution_count=cell.execution_count, outputs=outputs, metadata=metadata
    )


def references(app: "Sphinx") -> dict[str, str]:
    """What the bibliography has, in Markdown, by the anchors that citations aim at; nothing in a book without one."""
    if BIBLIOGRAPHY not in app.env.all_docs:
        return {}
    writer = Writer(Numbers(app.env, BIBLIOGRAPHY), lambda _: None)
    entries = app.env.get_and_resolve_doctree(BIBLIOGRAPHY, app.builder).findall(nodes.citation)
    return {name: writer.line(next(entry.findall(nodes.paragraph))) for entry in entries for name in entry["ids"]}


def convert(
    app: "Sphinx", page: str, executed: nbformat.NotebookNode, others: Mapping[str, str], entries: Mapping[str, str]
) -> nbformat.NotebookNode:
    """The notebook of one page.

    Args:
        app: after its pages were written.
        page: its name.
        executed: its source with outputs.
        others: the files of the other pages' notebooks, by their names in the HTML.
        entries: the bibliography.
    """
    needed = requirement(os.environ)
    about = ABOUT.format(book=app.config["project"]) + ("" if needed else CLONE)
    writer = Writer(Numbers(app.env, page), lambda name: others.get(Path(name).name))
    blocks = list(writer.blocks(app.env.get_and_resolve_doctree(page, app.builder)))
    if writer.cited:
        blocks += ["## References", "\n".join(f"- {entries[name]}" for name in sorted(writer.cited, key=entries.__getitem__))]
    return assemble(blocks, executed, about, INSTALL.format(requirement=needed) if needed else "")


def _write_all(app: "Sphinx", failure: Exception | None) -> None:
    if failure or app.builder.format != "html":
        return
    entries = references(app)
    sources = {page: path for page in sorted(app.env.all_docs) if (path := Path(app.env.doc2path(page))).suffix == ".ipynb"}
    files = {f"{Path(page).name}.html": path.name for page, path in sources.items()}
    with cache_in(app.env.mystnb_config.execution_cache_path) as cache:  # type: ignore[attr-defined]
        notebooks = {page: cache.merge_match_into_notebook(read_source(path))[1] for page, path in sources.items()}
    for page, executed in notebooks.items():
        made = convert(app, page, executed, files, entries)
        nbformat.validate(made)
        nbformat.write(made, Path(app.outdir) / "_sources" / f"{page}.ipynb")  # type: ignore[no-untyped-call]
    if sources and requirement(os.environ):  # for Binder, which reads what to install beside the notebooks
        folder = Path(app.outdir) / "_sources" / Path(next(iter(sources))).parent
        (folder / "requirements.txt").write_text(f"{requirement(os.environ)}\n", encoding="utf-8")


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("build-finished", _write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
