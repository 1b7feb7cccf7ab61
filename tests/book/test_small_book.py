"""All extensions of the pages together in one small build: a book of three pages."""

import subprocess
import sys

import pytest
from bs4 import BeautifulSoup

PAGES = {
    "index.rst": "Book\n====\n\nWhat it is about, by arXiv:1903.08894.\n\n.. toctree::\n\n   chapters/one\n   appendices/statements\n",
    "chapters/one.rst": """One
===

A first paragraph, which tells what it is about.

.. prf:theorem:: The name of it
   :label: thm-one

   It holds (`as arXiv:1903.08894 says <https://example.org>`_).

.. prf:lemma::
   :label: lem-two

   It helps.
""",
    "appendices/statements.rst": "Theorems\n========\n\n.. statements::\n",
    "appendices/terms.yml": "a term; beneath it: chapters/one#one\nat home: chapters/one#one\n",
}
OURS = ("formulas", "icons", "identity", "preprints", "repository", "standalone", "statements")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of the built pages."""
    folder = tmp_path_factory.mktemp("small")
    for name, text in PAGES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    extensions = ["myst_nb", "sphinx_proof", "sphinx_book_theme", *(f"deadly_triad_book.pages.{name}" for name in OURS)]
    settings = [f"extensions={','.join(extensions)}", "html_theme=sphinx_book_theme", "numfig=1", "project=Book"]
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "-C",
        *(part for one in settings for part in ("-D", one)),
        folder,
        folder / "html",
    ]
    subprocess.run(command, check=True)
    return folder / "html"


def read(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def test_statements_are_listed_and_lead_to_their_place(small):
    items = read(small / "appendices" / "statements.html").select("article li")
    assert [" ".join(item.text.split()) for item in items] == ["Theorem 1. The name of it", "Lemma 1"]
    assert [item.a["href"] for item in items] == ["../chapters/one.html#thm-one", "../chapters/one.html#lem-two"]


def test_names_and_terms_are_in_the_index(small):
    places = {link.text: link["href"] for link in read(small / "genindex.html").select("table.indextable a")}
    assert places == {
        "at home": "chapters/one.html#one",
        "beneath it": "chapters/one.html#one",
        "The name of it": "chapters/one.html#thm-one",
    }
    # The main ones are those that a search shows first.
    assert [name.text for name in read(small / "genindex.html").select("table.indextable a strong")] == ["at home"]


def test_a_chapter_has_its_strip_and_every_page_its_description(small):
    chapter, first = read(small / "chapters" / "one.html"), read(small / "index.html")
    assert len(chapter.select("article .strip")) == 1
    assert not first.select("article .strip")
    assert chapter.find("meta", {"name": "description"})["content"] == "A first paragraph, which tells what it is about."


def test_a_preprint_is_linked(small):
    assert [link["href"] for link in read(small / "index.html").select('article a[href*="arxiv"]')] == ["https://arxiv.org/abs/1903.08894"]
    (linked,) = read(small / "chapters" / "one.html").select('article a[href="https://example.org"]')
    assert "arXiv:1903.08894" in linked.text
    assert not linked.select("a")


def test_of_the_icons_only_those_are_kept_that_are_shown(small):
    assert not list(small.rglob("fontawesome.js"))
    fonts = list(small.rglob("fa-*.ttf"))
    assert fonts
    assert max(font.stat().st_size for font in fonts) < 20_000
