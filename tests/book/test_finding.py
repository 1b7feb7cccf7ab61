"""The list of theorems and the index: everything that has a name is found there, and leads to its place."""

import re
from types import SimpleNamespace

import pytest
import yaml
from bs4 import BeautifulSoup
from deadly_triad_book.pages import statements
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document


def made(*parts):
    title = nodes.title("", "", *(nodes.Text(part) if isinstance(part, str) else part for part in parts))
    return nodes.admonition("", title, ids=["thm-one"], realtype="theorem", countertype="theorem")


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ((" (Banach's theorem)",), "Banach's theorem"),
        ((" (After Baird (1995))",), "After Baird (1995)"),
        ((" (The modulus of ", nodes.math("", "U_2"), ")"), "The modulus of U_2"),
        ((" (A spiral, on policy (after ", statements.addnodes.pending_xref("", nodes.inline("", "key")), "))"), "A spiral, on policy"),
        (("Theorem",), ""),
        ((), ""),
    ],
)
def test_a_statement_is_listed_without_the_brackets_of_its_name(parts, name):
    assert "".join(node.astext() for node in statements.title(made(*parts))) == name


def test_the_index_shows_no_tex(html):
    assert statements.plain([nodes.Text("Where "), nodes.math("", r"w \to U_2"), nodes.Text(" diverges")]) == "Where w → U₂ diverges"
    index = BeautifulSoup((html / "genindex.html").read_text(encoding="utf-8"), "html.parser")
    assert not [link.get_text() for link in index.select("table.genindextable a") if re.search(r"[\\{}^_$]|->", link.get_text())]


def test_a_statement_without_a_title_has_no_name():
    assert statements.title(nodes.admonition("", ids=["a"], realtype="lemma")) == []


def indexed(document, place, monkeypatch):
    """The entries that a page gets, and what was warned of."""
    warned = []
    monkeypatch.setattr(statements, "terms", lambda _path: {"page": [("a term", place)]})
    monkeypatch.setattr(statements.log, "warning", lambda text, *parts, **_: warned.append(text % parts))
    document.settings.env = SimpleNamespace(srcdir=".", docname="page")
    statements.Indexed(document).apply()
    return [node["entries"][0][1:3] for node in document.findall(statements.addnodes.index)], warned


def test_names_and_terms_become_entries_and_a_term_that_is_not_there_is_told_of(monkeypatch):
    document = new_document("page", get_default_settings())
    cited = made(" (Two (after ", statements.addnodes.pending_xref("", nodes.inline("", "baird1995")), "))")
    document += nodes.section("", nodes.title("", "Title"), made(" (One)"), cited, ids=["title"])
    entries, warned = indexed(document, "title", monkeypatch)
    assert entries == [("a term", "title"), ("One", "thm-one"), ("Two", "thm-one")]
    assert warned == []
    _, warned = indexed(document, "nowhere", monkeypatch)
    assert warned == ["appendices/terms.yml sends 'a term' to '#nowhere', which is not on this page"]


def test_a_book_may_have_no_terms(tmp_path):
    assert statements.terms(tmp_path / "terms.yml") == {}


def test_the_list_has_every_statement_and_its_links_lead_there(chapters, html):
    page = BeautifulSoup((html / "appendices" / "statements.html").read_text(encoding="utf-8"), "html.parser")
    links = [
        link for link in page.select("article li a.reference") if re.match(r"(Definition|Lemma|Proposition|Theorem) \d+\.\d+$", link.text)
    ]
    written = [
        (chapter.path.stem, label)
        for chapter in chapters
        for cell in chapter.prose
        for label in re.findall(r"^:+\{prf:(?:definition|lemma|proposition|theorem)\}.*\n:label: (\S+)$", cell.source, re.MULTILINE)
    ]
    assert [link["href"] for link in links] == [f"../chapters/{stem}.html#{label}" for stem, label in written]


def test_the_index_has_every_term(root, html):
    page = BeautifulSoup((html / "genindex.html").read_text(encoding="utf-8"), "html.parser")
    said = page.get_text(" ")
    places = {link["href"] for link in page.select("table.indextable a")}
    for term, place in yaml.safe_load((root / statements.TERMS).read_text(encoding="utf-8")).items():
        assert all(word.strip() in said for word in term.split(";")), term
        name, _, anchor = place.partition("#")
        assert f"{name}.html#{anchor}" in places, term


def test_parts_are_numbered_and_the_chapters_speak_of_those_that_there_are(root, pages, html):
    captions = [part["caption"] for part in yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["parts"]]
    numbers = [match[1] for caption in captions if (match := re.match(r"Part ([IVX]+)\. \S", caption))]
    assert numbers == ["I", "II", "III", "IV", "V"]
    assert captions[len(numbers) :] == ["Appendices"]
    spoken = {number for page in pages for cell in page.prose for number in re.findall(r"\bParts? ([IVX]+)\b", cell.source)}
    assert spoken
    assert spoken <= set(numbers)
    shown = BeautifulSoup((html / "intro.html").read_text(encoding="utf-8"), "html.parser").select("nav.bd-docs-nav p.caption")
    assert [caption.get_text().strip() for caption in shown] == captions


def test_it_is_an_extension():
    done = []
    app = SimpleNamespace(
        **{name: lambda *what: done.append(what) for name in ("add_directive", "add_node", "add_transform", "connect")},
    )
    assert statements.setup(app)["parallel_read_safe"]
    assert len(done) == 4
