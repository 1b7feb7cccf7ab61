"""The notebooks that the site offers for download: plain Markdown, numbers filled in, outputs in place."""

import re
import tomllib
from types import SimpleNamespace

import nbformat
import pytest
from deadly_triad_book.pages.repository import requirement
from deadly_triad_book.pages.standalone import Writer, assemble, convert, joined, references, setup
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement

# --- one node at a time ----------------------------------------------------------------------------------------------


class Fixed:
    """Numbers of a page that has one of each."""

    def of(self, node, kind):
        return {"figure": "3.2", "theorem": "3.1", "displaymath": "3.4", "exercise": "3.5"}[kind] if node["ids"] else ""

    def of_section(self, _node):
        return "3. "


def paragraph(*parts):
    return nodes.paragraph("", "", *(nodes.Text(part) if isinstance(part, str) else part for part in parts))


def math(text):
    return nodes.math(text, text)


def cell(index, *children):
    return nodes.container("", *children, nb_element="cell_code", cell_index=index)


@pytest.fixture
def write():
    """The blocks that nodes come to."""
    writer = Writer(Fixed(), {"02_next.html": "02_next.ipynb"}.get)

    def write(*parts):
        return list(writer.blocks(nodes.container("", *parts)))

    write.cited = writer.cited
    return write


def test_signs_that_mean_something_in_markdown_are_escaped_and_formulas_are_not(write):
    assert write(paragraph("a*b_c [d] $5 ", math("x_1 * y"), " ", nodes.literal("", "f_1"))) == [r"a\*b\_c \[d\] \$5 $x_1 * y$ `f_1`"]


def test_a_heading_has_its_number_and_its_depth(write):
    inner = nodes.section("", nodes.title("", "Inner"), paragraph("text"), ids=["inner"])
    assert write(nodes.section("", nodes.title("", "Outer"), inner, ids=["outer"])) == ["# 3. Outer", "## 3. Inner", "text"]


@pytest.mark.parametrize(
    ("text", "ids", "expected"),
    [
        ("a = b", [], "$$\na = b\n$$"),
        ("a = b", ["equation-one"], "$$\na = b \\tag{3.4}\n$$"),
        (r"a \\ b", [], "$$\n\\begin{split}a \\\\ b\\end{split}\n$$"),
        (r"\begin{aligned}a \\ b\end{aligned}", [], "$$\n\\begin{aligned}a \\\\ b\\end{aligned}\n$$"),
    ],
)
def test_a_displayed_formula_has_its_number(write, text, ids, expected):
    assert write(nodes.math_block(text, text, ids=ids)) == [expected]


def test_what_belongs_to_an_item_is_indented_under_it(write):
    items = [nodes.list_item("", paragraph("one"), paragraph("more")), nodes.list_item("", paragraph("two"))]
    assert write(nodes.enumerated_list("", *items, start=3)) == ["3. one\n   \n   more\n4. two"]
    assert write(nodes.bullet_list("", *[item.deepcopy() for item in items])) == ["- one\n  \n  more\n- two"]
    terms = nodes.definition_list_item("", nodes.term("", "stable"), nodes.definition("", paragraph("does not run away")))
    assert write(nodes.definition_list("", terms)) == ["**stable** does not run away"]


def test_a_table_keeps_its_rows(write):
    rows = [nodes.row("", *(nodes.entry("", paragraph(text)) for text in texts)) for texts in (("a", "b"), ("c", "d"))]
    body = nodes.tgroup("", nodes.thead("", rows[0]), nodes.tbody("", rows[1]))
    assert write(nodes.table("", body)) == ["| a | b |\n| --- | --- |\n| c | d |"]


def test_a_theorem_is_named_and_numbered_and_set_off(write):
    theorem = nodes.admonition("", nodes.title("", " (Banach (1922))"), nodes.section("", paragraph("One."), paragraph("Two.")))
    theorem.attributes |= {"ids": ["thm"], "realtype": "theorem", "countertype": "theorem"}
    assert write(theorem) == ["> **Theorem 3.1** (Banach (1922)). One.\n>\n> Two."]
    exercise = nodes.admonition("", nodes.title("", "Exercise 3.5 (Steps)"), paragraph("Count."), ids=["ex"], type="exercise")
    assert write(exercise) == ["> **Exercise 3.5** (Steps). Count."]
    assert write(nodes.admonition("", nodes.title("", "Erratum"), paragraph("No."))) == ["> **Erratum.** No."]
    assert write(nodes.block_quote("", paragraph("Said."))) == ["> Said."]


def test_what_the_page_folds_is_folded_unless_code_stands_in_it(write):
    folded = nodes.admonition("", nodes.title("", "Solution"), paragraph("Yes."), classes=["dropdown"])
    assert write(folded) == ["<details>\n<summary>Solution.</summary>\n\nYes.\n\n</details>"]
    with_code = nodes.admonition("", nodes.title("", "Solution"), paragraph("See."), cell(7), classes=["dropdown"])
    assert write(with_code) == ["**Solution.**", "See.", 7]
    main = type("dropdown_main", (nodes.General, nodes.Element), {})("", nodes.title("", "In full"), paragraph("All."))
    assert write(main) == ["<details>\n<summary>In full.</summary>\n\nAll.\n\n</details>"]
    proof = type("proof_node", (nodes.Admonition, nodes.Element), {})("", nodes.admonition("", paragraph("Proof. Short.")))
    assert write(proof) == ["> Proof. Short."]


def test_links_go_to_the_web_or_to_another_notebook_or_nowhere(write):
    web = nodes.reference("", "there", refuri="https://example.org/a")
    other = nodes.reference("", "Theorem 2.1", refuri="02_next.html#thm", internal=True)
    here = nodes.reference("", "Fig. 3.2", refid="fig", internal=True)
    cited = nodes.reference("", "Baird", refuri="../appendices/bibliography.html#id4", internal=True)
    assert write(paragraph(web, ", ", other, ", ", here, ", ", cited)) == [
        "[there](https://example.org/a), [Theorem 2.1](02_next.ipynb), Fig. 3.2, Baird"
    ]
    assert list(write.cited) == ["id4"]


def test_code_that_is_only_shown_and_what_only_a_page_can_show(write):
    block = nodes.literal_block("x = 1", "x = 1")
    raw = nodes.raw("", "<script></script>", format="html")
    assert write(block, raw, nodes.comment("", "no"), paragraph(nodes.emphasis("", "so"), nodes.strong("", "loud"))) == [
        "```\nx = 1\n```",
        "*so***loud**",
    ]


# --- a page ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ran():
    """A notebook as it ran: two cells that the page shows, one that it folds, one that it leaves out."""
    glued = nbformat.v4.new_output("display_data", {"application/papermill.record/text/plain": "1"})
    said = nbformat.v4.new_output("stream", name="stdout", text="hello")
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell("first", outputs=[glued, said], metadata={"tags": ["hide-input"]}),
        nbformat.v4.new_code_cell("left out", outputs=[glued]),
        nbformat.v4.new_code_cell("second", outputs=[said]),
        nbformat.v4.new_code_cell("last"),
    ]
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def test_cells_stand_where_they_stood_with_what_a_reader_can_see(ran):
    made = assemble(["# Title", 1, "between", "the cells", 3], ran, "about")
    nbformat.validate(made)
    assert [cell.source for cell in made.cells] == ["# Title", "about", "first", "between\n\nthe cells", "left out", "second", "last"]
    assert [len(cell.get("outputs", [])) for cell in made.cells] == [0, 0, 1, 0, 0, 1, 0]
    assert made.cells[2].metadata["jupyter"]["source_hidden"]
    assert "jupyter" not in made.cells[5].metadata


@pytest.mark.parametrize("repository", ["", "someone/book"])
def test_a_page_begins_with_how_to_run_it_and_ends_with_the_works_that_it_cites(ran, repository, monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", repository)
    monkeypatch.setenv("GITHUB_SHA", "1f2e")
    monkeypatch.delenv("GITHUB_SERVER_URL", raising=False)
    cite = nodes.reference("", "Baird", refuri="bibliography.html#b", internal=True)
    section = nodes.section("", nodes.title("", "Title"), paragraph(cite), nodes.math_block("x", "x", ids=["eq"]), ids=["title"])
    page, bibliography = (new_document("a page", get_default_settings()) for _ in range(2))
    page += section
    for name in "ab":
        bibliography += nodes.citation("", nodes.label("", name), paragraph(f"Work {name}."), ids=[name])
    environment = SimpleNamespace(
        get_and_resolve_doctree=lambda name, _builder: bibliography if name == "appendices/bibliography" else page,
        all_docs={"page", "appendices/bibliography"},
        toc_fignumbers={"page": {"displaymath": {"eq": (3, 1)}}},
        toc_secnumbers={"page": {"": (3,)}},
    )
    app = SimpleNamespace(env=environment, builder=None, config={"project": "Book"})
    entries = references(app)
    assert entries == {"a": "Work a.", "b": "Work b."}
    assert references(SimpleNamespace(env=SimpleNamespace(all_docs={"page"}))) == {}
    made = convert(app, "page", ran, {}, entries)
    assert joined([made.cells[0].source]) == "# 3. Title\n\nBaird\n\n$$\nx \\tag{3.1}\n$$\n\n## References\n\n- Work b."
    assert ("a clone" in made.cells[1].source) == (not repository)
    installs = [cell.source for cell in made.cells if cell.id == "install"]
    assert len(installs) == bool(repository)
    for source in installs:
        assert made.cells[2].source == source
        code = TransformerManager().transform_cell(source)
        needed = Requirement(re.search(r"--quiet .?\"(.*?)\\?\"", code)[1])
        assert needed.url == "git+https://github.com/someone/book@1f2e"
        monkeypatch.setattr("builtins.get_ipython", lambda: pytest.fail("it installs where the package is"), raising=False)
        exec(compile(code, "install", "exec"), {})


def test_what_is_installed_is_the_package_with_extras_that_it_has(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = Requirement(requirement({"GITHUB_REPOSITORY": "someone/book"}))
    assert needed.name == project["name"]
    assert {"book"} < needed.extras <= set(project["optional-dependencies"])


def test_it_is_an_extension():
    connected = []
    assert setup(SimpleNamespace(connect=lambda event, _do: connected.append(event)))["parallel_read_safe"]
    assert connected == ["build-finished"]


# --- those of the book -----------------------------------------------------------------------------------------------

LEFT_OVER = {
    "a role": r"\{[\w:+-]+\}`",
    "a directive": r"^\s*(:::|```\{)",
    "a target": r"^\([\w:.-]+\)=\s*$",
    "a number that is missing": r"\b(Fig\.|Figure|Theorem|Proposition|Lemma|Exercise) ?\**[ .,)]*$|\*\*Figure \.\*\*",
}


@pytest.fixture
def alone(chapter, html):
    return nbformat.read(html / "_sources" / chapter.name, as_version=nbformat.NO_CONVERT)


@pytest.mark.parametrize("kind", LEFT_OVER)
def test_a_notebook_that_stands_alone_has_nothing_that_only_sphinx_understands(alone, kind):
    for cell in alone.cells:
        if cell.cell_type == "markdown":
            assert not re.search(LEFT_OVER[kind], cell.source, re.MULTILINE), cell.source


def test_a_notebook_that_stands_alone_has_the_chapter_s_code_outputs_figures_and_statements(alone, chapter):
    code = [cell for cell in alone.cells if cell.cell_type == "code" and cell.id != "install"]
    assert [cell.source for cell in code] == [cell.source for cell in chapter.code]
    for cell, done in zip(code, (cell for cell in chapter.executed.cells if cell.cell_type == "code"), strict=True):
        assert [out for out in done.outputs if "papermill" not in str(list(out.get("data", {})))] == cell.outputs
    text = "\n".join(cell.source for cell in alone.cells if cell.cell_type == "markdown")
    figures = [cell for cell in chapter.code if "figure" in cell.metadata.get("mystnb", {})]
    assert len(re.findall(r"^\*\*Figure \d+\.\d+\.\*\* \S", text, re.MULTILINE)) == len(figures)
    written = "\n".join(cell.source for cell in chapter.prose)
    for kind in ("theorem", "proposition", "lemma", "definition"):
        assert len(re.findall(rf"\*\*{kind.title()} \d+\.\d+\*\*", text)) == len(re.findall(rf"^:+\{{prf:{kind}\}}", written, re.MULTILINE))
    assert len(re.findall(r"\*\*Exercise \d+\.\d+\*\*", text)) == len(re.findall(r"^:+\{exercise\}", written, re.MULTILINE))
    assert "## References" in text
