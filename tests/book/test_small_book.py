"""All extensions of the pages together in one small build: a book of three pages."""

import subprocess
import sys

import pytest
from bs4 import BeautifulSoup

PAGES = {
    "index.rst": """Book
====

What it is about, by :cite:t:`one`.

.. toctree::

   chapters/one
   appendices/statements
   appendices/bibliography
""",
    "chapters/one.rst": """One
===

A first paragraph, which tells what it is about.

.. prf:theorem:: The name of it
   :label: thm-one

   It holds.

.. prf:lemma::
   :label: lem-two

   It helps.

.. raw:: html

   <table class="dataframe"><tr><th></th><th>a</th></tr></table>

.. raw:: html

   <table class="dataframe"><thead>
     <tr style="text-align: right;"><th></th><th>a</th><th>b</th></tr>
     <tr><th>rows</th><th></th><th></th></tr>
   </thead></table>
""",
    "appendices/statements.rst": "Theorems\n========\n\n.. statements::\n",
    "appendices/bibliography.rst": "Bibliography\n============\n\n.. bibliography::\n",
    "references.bib": """@misc{one,
  author = {One, A.},
  title = {First},
  year = {2019},
  eprint = {1903.08894},
  doi = {10.1000/1},
  url = {https://www.example.org/long/address.pdf},
}
""",
    "appendices/terms.yml": "a term; beneath it: chapters/one#one\nat home: chapters/one#one\n",
}
OURS = ("formulas", "icons", "identity", "previews", "references", "repository", "search", "standalone", "statements", "tables", "weight")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of the built pages."""
    folder = tmp_path_factory.mktemp("small")
    for name, text in PAGES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    extensions = [
        "myst_nb",
        "sphinx_proof",
        "sphinxcontrib.bibtex",
        "sphinx_book_theme",
        *(f"deadly_triad_book.pages.{name}" for name in OURS),
    ]
    settings = {
        "extensions": extensions,
        "html_theme": "sphinx_book_theme",
        "numfig": True,
        "project": "Book",
        "bibtex_bibfiles": ["references.bib"],
    }
    (folder / "conf.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", folder, folder / "html"]
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


def test_a_work_is_linked_by_its_doi_its_number_and_its_address(small):
    links = read(small / "appendices" / "bibliography.html").select("article .citation a[href^=http]")
    assert {link.text: link["href"] for link in links} == {
        "www.example.org": "https://www.example.org/long/address.pdf",
        "arXiv:1903.08894": "https://arxiv.org/abs/1903.08894",
        "doi:10.1000/1": "https://doi.org/10.1000/1",
    }


def test_works_are_items_of_a_list(small):
    (items,) = read(small / "appendices" / "bibliography.html").select("article [role=list]")
    assert [item["role"] for item in items.find_all("div", recursive=False)] == ["listitem"]
    # A parser is lenient: the text itself must open as much as it closes.
    text = (small / "appendices" / "bibliography.html").read_text(encoding="utf-8")
    assert text.count("<div") == text.count("</div>")


def test_the_corner_of_a_table_is_no_heading(small):
    row = read(small / "chapters" / "one.html").select_one("table.dataframe tr")
    assert [cell.name for cell in row.find_all(["td", "th"])] == ["td", "th"]


def test_the_name_of_the_rows_of_a_table_stands_in_its_corner(small):
    (row,) = read(small / "chapters" / "one.html").select("table.dataframe thead tr")
    assert [(cell.name, cell.text) for cell in row.find_all(["td", "th"])] == [("th", "rows"), ("th", "a"), ("th", "b")]


def test_the_mark_is_in_a_landmark(small):
    assert read(small / "index.html").select_one("section[aria-label] .navbar-brand")


def test_the_search_is_asked_in_our_way(small):
    assert "Scorer.score" in (small / "_static" / "language_data.js").read_text(encoding="utf-8")


def test_of_the_icons_only_those_are_kept_that_are_shown(small):
    assert not list(small.rglob("fontawesome.js"))
    fonts = list(small.rglob("fa-*.ttf"))
    assert fonts
    assert max(font.stat().st_size for font in fonts) < 20_000


def test_only_the_search_loads_the_index_of_the_search(small):
    assert [path.name for path in sorted(small.rglob("*.html")) if "searchindex.js" in path.read_text(encoding="utf-8")] == ["search.html"]
