"""The book on paper: one file in which everything leads where it led on the pages."""

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from deadly_triad_book.printing import anchor, inwards, print_pages, whole
from pypdf import PdfReader

NAMES = ["intro.html", "chapters/01_maps.html"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<a href="#thm">', '<a href="#chapters-01_maps--thm">'),
        ('<a href="../intro.html#one">', '<a href="#intro--one">'),
        ('<a href="../intro.html">', '<a href="#intro">'),
        ('<a href="../genindex.html">', "<a >"),
        ('<a href="https://example.org/#a">', '<a href="https://example.org/#a">'),
        ('<img src="../_images/a.svg">', '<img src="_images/a.svg">'),
        ('<g id="x" clip-path="url(#y)">', '<g id="chapters-01_maps--x" clip-path="url(#chapters-01_maps--y)">'),
        ('<svg aria-labelledby="t d">', '<svg aria-labelledby="chapters-01_maps--t chapters-01_maps--d">'),
        ('<p data-id="x" data-href="y">', '<p data-id="x" data-href="y">'),
    ],
)
def test_links_turn_inwards_and_ids_are_told_apart(before, after):
    assert inwards(before, NAMES[1], NAMES) == after


def test_a_page_without_an_article_is_told_of(tmp_path):
    (tmp_path / "a.html").write_text("<p>", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"a\.html has no article"):
        whole(tmp_path, ["a.html"], "Book")


@pytest.fixture(scope="module")
def addresses(toc):
    return [f"{page}.html" for page in toc]


def links_of(html, names) -> set[str]:
    return set(re.findall(r'[ \n]href="#([^"]*)"', whole(html, names, "Book")))


def test_every_link_in_the_whole_leads_somewhere(addresses, html):
    text = whole(html, addresses, "Book")
    ids = set(re.findall(r'[ \n]id="([^"]+)"', text))
    links = set(re.findall(r'[ \n]href="#([^"]*)"', text))
    assert len(links) > 300
    assert links <= ids
    assert {anchor(name) for name in addresses} <= ids
    outside = set(re.findall(r'<a [^>]*?href="([^#"][^"]*)"', text))
    assert not [link for link in outside if not re.match("https?:", link)]
    files = set(re.findall(r'[ \n](?:src|href)="([^#":]+\.(?:css|svg|png))"', text))
    assert len(files) > 50
    assert not [name for name in files if not (html / name).is_file()]


def test_it_is_printed_with_bookmarks_numbers_and_links(addresses, html, tmp_path):
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    chapter = next(name for name in addresses if "bairds_counterexample" in name)
    some = [addresses[0], chapter, "appendices/bibliography.html"]
    with ThreadPoolExecutor(1) as elsewhere:  # Playwright is in use in this thread
        elsewhere.submit(print_pages, html, some, tmp_path / "book.pdf", browser).result()
    assert not (html / "whole.html").exists()
    made = PdfReader(tmp_path / "book.pdf")
    assert 12 <= len(made.pages) <= 40
    assert made.metadata.title == "When Q-Learning Diverges"
    # Bookmarks: one a page at the top, in their words, and each leads to where they stand.
    tops = [mark for mark in made.outline if not isinstance(mark, list)]
    assert [mark.title for mark in tops] == ["When Q-Learning Diverges", "4. Baird’s counterexample", "Bibliography"]
    starts = [made.get_destination_page_number(mark) for mark in tops]
    assert starts[0] == 0 < starts[1] < starts[2]
    assert all(mark.title[:7] in made.pages[start].extract_text() for mark, start in zip(tops, starts, strict=True))
    assert any(mark.title == "4.6. The other classic: w→2w" for marks in made.outline if isinstance(marks, list) for mark in marks)
    # Every page has its number.
    for number, page in enumerate(made.pages, start=1):
        assert page.extract_text().strip().endswith(str(number)) or page.extract_text().strip().startswith(str(number))
    # Links: inside to places that there are, outside to the web, and to no file.
    links = [link.get_object() for page in made.pages for link in page.get("/Annots", [])]
    outside = {link["/A"]["/URI"] for link in links if "/A" in link and "/URI" in link["/A"]}
    inside = {str(link["/Dest"]).lstrip("/") for link in links if "/Dest" in link}
    assert all(address.startswith("http") for address in outside)
    assert {place for place in inside if place.startswith("appendices-bibliography--")}
    assert inside <= {name.lstrip("/") for name in made.named_destinations}
    assert inside <= links_of(html, some)
