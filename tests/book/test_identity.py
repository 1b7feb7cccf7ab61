"""The strip at the head of a chapter, the mark, and what a browser and a search engine call a page."""

import re

from bs4 import BeautifulSoup
from deadly_triad_book.pages.identity import FACTORS, LENGTH, LIT, description, logo, strip
from docutils import nodes


def test_the_strip_lights_what_it_is_told_and_says_it_in_words():
    shown = BeautifulSoup(strip(("K",)), "html.parser")
    assert shown.select_one(".equation").get_text() == "Q′ = Q + α K D (T Q − Q)"
    assert [factor.get_text() for factor in shown.select(".equation .lit")] == ["K"]
    assert FACTORS["K"] in shown.get_text()
    assert FACTORS["D"] not in shown.get_text()


def test_a_page_without_a_card_is_described_by_its_first_paragraph_cut_between_words():
    note = nodes.note("", nodes.paragraph("", "a remark"))
    for text in ("Short enough.", "word " * 31 + "12345", "word " * 31 + "123456", "longer " * 40):
        page = nodes.section("", nodes.title("", "A title"), note.deepcopy(), nodes.paragraph("", text))
        shown = description("appendices/none", page)
        if len(text.strip()) <= LENGTH:
            assert shown == text.strip()
        else:
            words, _, rest = shown.rpartition(" ")
            assert rest == "…"
            assert len(words) <= LENGTH
            assert set(words.split()) <= set(text.split())  # whole ones
    assert not description("appendices/none", nodes.section("", note))


def test_what_is_lit_is_there(toc):
    assert set(LIT) <= set(toc)
    assert all(set(lit) <= set(FACTORS) for lit in LIT.values())


def test_every_chapter_is_headed_by_the_strip(toc, html):
    for page in toc:
        shown = BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser").select("article h1 + .strip")
        assert len(shown) == (page in LIT or page.startswith("chapters/")), page
        if shown:
            lit = {re.sub("factor-", "", factor["class"][0]) for factor in shown[0].select(".lit")}
            assert lit == set(LIT.get(page, ()))


def test_the_mark_is_what_the_code_draws(root):
    assert (root / "_static" / "logo.svg").read_text(encoding="utf-8") == logo()


def test_pages_are_called_by_their_names_once(toc, html):
    for page in toc:
        soup = BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
        parts = [part.strip() for part in soup.title.get_text().split("—")]
        assert len(set(parts)) == len(parts), soup.title
        if page == "intro" or page.startswith("chapters/"):
            assert 40 <= len(soup.select_one("meta[name=description]")["content"]) <= 165
