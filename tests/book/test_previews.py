"""Previews of what references refer to: there, right, and out of the way."""

import json
import re
from collections.abc import Iterator

import pytest
from bs4 import BeautifulSoup
from deadly_triad_book.pages import previews
from playwright.sync_api import Browser, Page

PAGE = (
    '<div class="proof theorem admonition" id="thm-a"><p>All <a class="reference" href="#x">is</a> <span id="y">well</span>.</p>'
    "<div>In</div></div>"
    '<p>Between</p><div class="math notranslate" id="equation-b">x<a class="headerlink" href="#equation-b">#</a></div>'
    '<div class="proof admonition" id="proof">Proof.</div><div class="math">no name</div>'
)


def test_a_part_is_whole_and_has_neither_links_nor_ids():
    assert previews.parts(PAGE) == {
        "thm-a": '<div class="proof theorem admonition"><p>All is <span>well</span>.</p><div>In</div></div>',
        "equation-b": '<div class="math notranslate">x</div>',
    }


def test_every_statement_equation_and_work_has_one(html):
    for path in sorted({*(html / previews.OUTPUT).rglob("*.js")} - {html / previews.OUTPUT / "symbols.js"}):
        name, _, parts = path.read_text(encoding="utf-8").removeprefix("previews(").removesuffix(");\n").partition(", ")
        page = html / f"{json.loads(name)}.html"
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        places = soup.select("article :is(.proof.admonition, .exercise, .math, .citation)[id]")
        assert set(json.loads(parts)) == {place["id"] for place in places} - {"proof"}, page


@pytest.fixture(scope="module")
def example(html):
    """A page that refers to statements and works of its own and of other pages."""
    return html / "chapters" / next(path.name for path in (html / "chapters").glob("*_q_learning_ntk.html"))


@pytest.fixture
def page(browser: Browser, example) -> Iterator[Page]:
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(example.as_uri())
    yield page
    context.close()


def reference(page: Page, kind: str):
    """The first reference to a statement here, to one elsewhere, or to a work, and the id that it leads to."""
    pattern = {"here": r"^#thm-", "elsewhere": r"^\d\w+\.html#(thm|prop)-", "equation": "^#equation-", "work": r"bibliography\.html#"}[kind]
    links = page.locator("article a.reference.internal")
    targets = links.evaluate_all("links => links.map(link => link.checkVisibility() ? link.getAttribute('href') : '')")
    index, target = next((i, target) for i, target in enumerate(targets) if re.search(pattern, target))
    link = links.nth(index)
    link.scroll_into_view_if_needed()
    return link, target


def text(html: str) -> str:
    soup = BeautifulSoup(html, "html.parser")
    for sign in soup.select(".headerlink"):
        sign.decompose()
    return re.sub(r"\s", "", soup.get_text())


@pytest.mark.parametrize("kind", ["here", "elsewhere", "equation", "work"])
def test_it_shows_what_stands_there(page, example, kind):
    link, target = reference(page, kind)
    link.hover()
    preview = page.locator("#preview")
    preview.wait_for(state="visible")
    where, _, anchor = target.partition("#")
    source = (example.parent / where).resolve() if where else example
    there = BeautifulSoup(source.read_text(encoding="utf-8"), "html.parser").find(id=anchor)
    assert text(preview.inner_html()) == text(str(there))
    assert preview.locator("a, button, [id], [tabindex]").count() == 0
    assert link.get_attribute("aria-describedby") == "preview"
    box = preview.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280


def test_it_stays_while_the_pointer_is_on_it_and_goes_when_it_leaves(page):
    link, _ = reference(page, "here")
    link.hover()
    preview = page.locator("#preview")
    preview.wait_for(state="visible")
    box = preview.bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 10, steps=3)
    page.wait_for_timeout(700)
    assert preview.is_visible()
    page.mouse.move(5, 450)
    preview.wait_for(state="hidden")
    assert link.get_attribute("aria-describedby") is None


def test_the_keyboard_reaches_it_and_escape_dismisses_it(page):
    link, _ = reference(page, "elsewhere")
    link.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    preview = page.locator("#preview")
    preview.wait_for(state="visible")
    page.keyboard.press("Escape")
    preview.wait_for(state="hidden")
    assert link.evaluate("link => link === document.activeElement")


def test_a_link_to_a_section_has_none(page):
    links = page.locator("article a.reference.internal[href*='#sec-']")
    links.first.hover()
    page.wait_for_timeout(700)
    assert page.locator("#preview").is_hidden()


FORMULA = '<span class="katex-html">{}</span>'


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        ('<span class="mord"><span class="mord mathnormal">D</span><span class="msupsub">ρ\u200b</span></span>', "D||ρ"),
        ('<span class="mord mathcal">S</span><span class="mpunct">,</span>', "S|mathcal|"),
        ('<span class="strut"></span><span class="mord mathnormal">b</span><span class="mopen">(</span>', "b||"),
        ('<span class="mopen">∥</span><span class="mord mathnormal">x</span>', None),
        ('<span class="strut"></span>', None),
    ],
)
def test_a_formula_explains_the_letter_that_it_begins_with(formula, name):
    assert previews.symbol(BeautifulSoup(FORMULA.format(formula), "html.parser")) == name


def test_the_rows_of_the_notation_are_there_by_their_symbols(html):
    name, _, rows = (html / previews.OUTPUT / "symbols.js").read_text(encoding="utf-8").removesuffix(");\n").partition(", ")
    rows, notation = json.loads(rows), (html / f"{previews.NOTATION}.html").read_text(encoding="utf-8")
    assert name == 'previews("symbols"'
    assert len(rows) == len(BeautifulSoup(notation, "html.parser").select("article tbody tr"))
    symbols = [symbol for row in rows for symbol in row["symbols"]]
    assert {"γ||", "S|mathcal|", "S||", "θ||−", "K||θ", "D||ρ", "b||", "Q||∗"} <= set(symbols)
    assert len([row for row in rows if not row["symbols"]]) <= 1  # norms, which begin with a bar


def letter(page: Page, sign: str, hangs: str = ""):
    """A letter of a formula that can be seen and is no link, with what hangs on it."""
    found = page.evaluate_handle(
        """([sign, hangs]) => {
            const decoration = (next) => (next?.matches(".msupsub") ? next.textContent.replaceAll("\\u200b", "") : "");
            return [...document.querySelectorAll("article p .katex-html .mord")].find((letter) =>
                letter.textContent === sign && !letter.childElementCount && decoration(letter.nextElementSibling) === hangs &&
                letter.checkVisibility({ visibilityProperty: true }) && !letter.closest("a"));
        }""",
        [sign, hangs],
    )
    element = found.as_element()
    element.scroll_into_view_if_needed()
    return element


@pytest.mark.parametrize(
    ("sign", "hangs", "says", "not_says"), [("γ", "", "discount", "step size"), ("Q", "θ", "values of a network", "exact values")]
)
def test_a_letter_of_a_formula_says_what_it_means(page, sign, hangs, says, not_says):
    letter(page, sign, hangs).hover()
    preview = page.locator("#preview")
    preview.wait_for(state="visible")
    assert says in preview.inner_text()
    assert not_says not in preview.inner_text()
    page.mouse.move(5, 450)
    preview.wait_for(state="hidden")


def test_a_letter_that_the_notation_does_not_explain_shows_nothing(page):
    element = letter(page, "γ")
    element.evaluate("letter => { letter.textContent = 'ж'; }")
    element.hover()
    page.wait_for_timeout(700)
    assert page.locator("#preview").is_hidden()
