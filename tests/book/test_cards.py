"""The card at the head of every chapter: complete, true to its chapter, and nothing that the chapter says again."""

import re

import pytest
import yaml
from bs4 import BeautifulSoup
from deadly_triad_book.pages.cards import DISPLAYED, PACE, cards, minutes, name, words
from docutils import nodes


def paragraph(text, **attributes):
    return nodes.paragraph("", text, **attributes)


def test_what_is_folded_and_what_is_code_is_not_counted():
    section = nodes.section("", nodes.title("", "A title"), paragraph("one two three"), nodes.math_block("", "a = b"))
    section += nodes.paragraph("", "", nodes.Text("with "), nodes.math("a b c", "a b c"), nodes.Text(" in it"))
    assert words(section) == 2 + 3 + DISPLAYED + 4
    figure = nodes.figure("", nodes.caption("", "two words"))
    section += [
        nodes.container("", nodes.literal_block("x = 1", "x = 1"), figure, nb_element="cell_code"),
        nodes.admonition("", paragraph("a solution of five words"), classes=["dropdown"]),
        nodes.literal_block("code is", "code is"),
        nodes.raw("", "<p>not read</p>", format="html"),
    ]
    section += nodes.Element("", paragraph("the proof in full"))
    section[-1].tagname = "dropdown_main"  # as sphinx-design calls what is folded
    assert words(section) == 2 + 3 + DISPLAYED + 4 + 2
    assert [words(formula("a b c", "a b c")) for formula in (nodes.math, nodes.math_block)] == [1, DISPLAYED]


@pytest.mark.parametrize(("count", "expected"), [(10, 5), (PACE * 12, 10), (PACE * 13, 15), (PACE * 40, 40)])
def test_minutes_are_to_five(count, expected):
    assert minutes(paragraph("word " * count)) == expected


def test_every_chapter_has_a_card_and_no_card_is_left_over(toc):
    assert list(cards()) == [name(page) for page in toc if page.startswith("chapters/")]


@pytest.mark.parametrize("key", cards())
def test_a_card_is_complete(key):
    card = cards()[key]
    assert set(card) == {"question", "answer", "know", "picture", "course"}
    assert re.fullmatch(r"[A-Z][^?.]{10,110}\?", card["question"])
    assert re.fullmatch(r"[A-Z].{40,260}\.", card["answer"])
    # What was computed is not typed.
    assert not re.findall(r"\d", re.sub("Theorem 2", "", card["question"] + card["answer"]))


def test_one_knows_what_stands_before_and_the_first_course_needs_nothing_else():
    order = list(cards())
    for key, card in cards().items():
        assert all(order.index(known) < order.index(key) for known in card["know"]), key
        assert not card["course"] or all(cards()[known]["course"] for known in card["know"]), key


def test_the_introduction_says_how_minutes_are_counted_and_where_the_first_course_goes(root):
    assert f"{PACE} words to each" in (root / "intro.md").read_text(encoding="utf-8")
    parts = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    chapters = [[name(chapter["file"]) for chapter in part["chapters"] if chapter["file"].startswith("chapters/")] for part in parts]
    assert all(any(cards()[chapter]["course"] for chapter in part) for part in chapters if part)


@pytest.fixture(scope="module")
def soups(toc, html):
    chapters = [page for page in toc if page.startswith("chapters/")]
    return {name(page): BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser") for page in chapters}


@pytest.mark.parametrize("key", cards())
def test_the_page_has_it_once_below_its_equation(soups, html, key):
    (shown,) = soups[key].select("article h1 + .strip + .chapter-card")
    figure = shown.select_one(".picture a[href]")["href"].removeprefix("#")
    assert figure == cards()[key]["picture"]
    small, large = shown.select_one(".picture img"), soups[key].find(id=figure).select_one("img")
    assert small["src"] == large["src"]
    assert (html / "chapters" / small["src"]).resolve().is_file()
    links = [name(link["href"].removesuffix(".html")) for link in shown.select(".about a")]
    assert [re.sub(r"^\d+_", "", link) for link in links] == cards()[key]["know"]
    assert ("first course" in shown.get_text()) == cards()[key]["course"]
    assert soups[key].get_text().count(cards()[key]["question"]) == 1, "the chapter asks the same in the same words"


@pytest.mark.parametrize("key", cards())
def test_the_minutes_are_those_of_the_page(soups, key):
    """Counted a second time, on the page as it was built."""
    text = BeautifulSoup(str(soups[key].select_one("article")), "html.parser")
    said = int(re.search(r"about (\d+) minutes", text.select_one(".chapter-card").get_text())[1])
    for element in text.select(".strip, .chapter-card, .ex-said, .ex-panels, .solution, .dropdown, details, pre, .headerlink, .eqno"):
        element.decompose()
    for caption in text.select(".cell_output figcaption"):
        caption.find_parent(class_="cell").insert_after(caption.extract())
    for element in text.select(".cell, .caption-number"):
        element.decompose()
    for formula in text.select(".math"):
        formula.replace_with(" x " * (DISPLAYED if formula.name == "div" else 1))
    assert abs(len(text.get_text(" ").split()) / PACE - said) < 4
