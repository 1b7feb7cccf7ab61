"""The built pages in a browser without a network: what a reader sees, at a desk and on a phone, by day and by night."""

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page

DESK, PHONE = 1280, 390
TEXT = ":is(article.bd-article, .bd-article-container:not(:has(article)))"  # the search page has no article


@contextmanager
def opened(browser: Browser, path: Path) -> Iterator[Page]:
    """A built page; `page.faults` holds what its console and its requests complain of, `page.loaded` all files that it is made of."""
    context = browser.new_context(viewport={"width": DESK, "height": 900}, color_scheme="light", offline=True)
    page = context.new_page()
    page.faults, page.loaded = [], set()
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on(
        "request", lambda request: page.faults.append(request.url) if urlsplit(request.url).scheme not in {"file", "data", "blob"} else None
    )
    page.on("requestfinished", lambda request: page.loaded.add(request.url.split("?")[0]))
    page.on("requestfailed", lambda request: page.faults.append(f"{request.url}: {request.failure}"))
    page.goto(path.as_uri())
    page.evaluate("document.fonts.ready")
    page.add_style_tag(content="* { transition: none !important; }")  # a colour that is still fading in has the contrast of neither mode
    yield page
    context.close()


@pytest.fixture(scope="module")
def page(browser: Browser, built: Path) -> Iterator[Page]:
    """A page that is loaded once for most of its tests."""
    with opened(browser, built) as page:
        yield page


@cache
def anchors(path: Path) -> set[str]:
    """Everything in a page that an address can point to."""
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    return {
        str(tag.get("id") or tag.get("name")) for tag in soup.find_all(lambda tag: tag.get("id") or (tag.name == "a" and tag.get("name")))
    }


def test_every_page_of_the_contents_is_built(toc, html):
    assert not [page for page in toc if not (html / f"{page}.html").is_file()]
    assert f"url={toc[0]}.html" in (html / "index.html").read_text(encoding="utf-8")


def test_nothing_else_is_built(toc, html):
    """Not the README, not a file of the environment: only what the table of contents names and what Sphinx makes of it."""
    built = {path.relative_to(html).with_suffix("").as_posix() for path in html.rglob("*.html") if "_static" not in path.parts}
    assert built - set(toc) <= {"index", "genindex", "search", "prf-prf"}


def test_nothing_comes_from_outside(page):
    assert page.faults == []


def test_a_page_weighs_little(page, built):
    """With style, scripts, fonts and pictures, as a server would send it."""
    files = [Path(unquote(urlsplit(address).path)) for address in page.loaded if address.startswith("file:")]
    assert built in files
    assert not [path.name for path in files if re.search("mathjax|fontawesome", path.name, re.IGNORECASE)]
    assert not [path.name for path in files if path.name == "searchindex.js" and built.name != "search.html"]
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) < 500_000


def test_the_text_has_its_own_face(page):
    if not page.locator("article").count():
        pytest.skip("a search has no text")
    faces = page.evaluate("async () => { await document.fonts.ready; return [...document.fonts].map(f => [f.family, f.status]) }")
    assert ["Literata", "loaded"] in faces
    assert page.locator(TEXT).evaluate("text => getComputedStyle(text).fontFamily").startswith("Literata")


def test_mathematics_is_set(built):
    """In the page as it is sent: no script has to run first."""
    text = BeautifulSoup(built.read_text(encoding="utf-8"), "html.parser").select_one(TEXT)
    formulas = text.select(".math")
    assert not [formula.get_text() for formula in formulas if len(formula.select(".katex > .katex-html")) != 1]
    assert not text.select(".katex-error, merror")
    if built.parent.name == "chapters":
        assert formulas
    for element in text.select("pre, code, script, style, .katex"):
        element.decompose()
    assert not re.findall(r"\\\(|\\\[|\$\$|\$[^$\n]+\$|\\begin\{\w+\}|\\frac|\\alpha", text.get_text())


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_what_goes_on_shows_it_and_is_in_reach_of_the_keyboard(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    hidden = """() => [...document.querySelectorAll(".formula, .bd-article pre, .cell_output > .output")]
        .filter(box => box.checkVisibility() && box.scrollWidth > box.clientWidth + 1)
        .filter(box => box.tabIndex !== 0 || getComputedStyle(box).maskImage === "none").map(box => box.outerHTML.slice(0, 120))"""
    page.wait_for_function(f"({hidden})().length === 0")


def test_the_search_shows_a_formula_once(browser, html):
    with opened(browser, html / "search.html") as page:
        source = (html / "intro.html").read_text(encoding="utf-8")
        text = page.evaluate("html => Search.htmlToText(html, null)", source)
    assert text.count("(TQ−Q)") == len(re.findall(r"\(T Q - Q\)", source))
    assert "\\alpha" not in text


def test_bars_say_what_they_hide(page):
    assert all("code" not in said.lower() for said in page.locator("details.below-input > summary").all_inner_texts())


STILL_WIDE = {"reproducibility", "10_beyond_theorem_2", "13_trained_cures"}
"""Pages with a table that goes on beyond the column of a desk, and scrolls: may be taken out, nothing may come in."""


def test_tables_fit_a_desk(page, built):
    """At 1280 pixels no column of a computed table is out of sight."""
    page.set_viewport_size({"width": DESK, "height": 900})
    cut = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.querySelector('thead').innerText)"
    assert page.locator(".cell_output > .output.text_html:has(table):visible").evaluate_all(cut) == [] or built.stem in STILL_WIDE


def test_nothing_dangles(page):
    text = page.locator(TEXT)
    assert not re.findall(r"\?\?|\[\?\]|\{\w[\w:]*\}`|:::", text.inner_text())
    assert text.locator(".problematic, .system-message, a.reference:text-is('undefined'), a.reference:text-is('None')").count() == 0
    assert text.locator("a.reference:empty, span.pasted-text:empty").count() == 0


def test_headings_step_down_one_at_a_time(page):
    visible = "headings => headings.filter(heading => heading.checkVisibility()).map(heading => +heading.tagName[1])"
    levels = page.locator(TEXT).locator("h1, h2, h3, h4, h5, h6").evaluate_all(visible)
    assert levels[:1] == [1]
    assert 1 not in levels[1:]
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels))


def test_pictures_have_words(page):
    pictures = page.locator(TEXT).locator("img, svg:not(button *, [aria-hidden=true], [aria-hidden=true] *)")
    wordless = pictures.evaluate_all(
        """pictures => pictures.filter(picture => !["alt", "aria-label", "aria-labelledby"].some(name => picture.getAttribute(name)))
            .map(picture => picture.outerHTML.slice(0, 120))"""
    )
    assert wordless == []


def test_links_inside_the_site_lead_somewhere(page, built, html):
    broken = []
    for address in page.evaluate("[...document.querySelectorAll('a[href]')].map(link => link.href)"):
        parts = urlsplit(address)
        if parts.scheme != "file":
            continue
        path = Path(unquote(parts.path))
        anchor = unquote(parts.fragment)
        inside = path.is_relative_to(html) and path.is_file()
        if not inside or (anchor and path.suffix == ".html" and anchor not in anchors(path)):
            broken.append(address)
    assert broken == [], built.name


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_page_does_not_scroll_sideways(page, width):
    """Nor is anything cut off at the edge: what is too wide has a box of its own to scroll in."""
    page.set_viewport_size({"width": width, "height": 900})
    wide = page.evaluate(
        """() => [...document.querySelectorAll(".bd-article *")].filter(element => element.checkVisibility())
            .filter(element => !element.closest(".katex-mathml, .katex svg *") && element.getBoundingClientRect().right > innerWidth + 1)
            .filter(element => {
                for (let box = element.parentElement; box; box = box.parentElement) {
                    const scrolls = ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
                    if (scrolls && box.getBoundingClientRect().right <= innerWidth + 1) return false;
                }
                return true;
            })
            .map(element => element.outerHTML.slice(0, 120))"""
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_boxes_are_quiet_and_told_apart(page):
    """No tint, no shadow, no sign; a statement has another rule than an exercise, and what is folded says so by a button."""
    boxes = (
        page.locator(TEXT)
        .locator(".admonition")
        .evaluate_all(
            """boxes => boxes.map(box => {
            const style = getComputedStyle(box), title = box.querySelector(":scope > .admonition-title");
            const sign = title ? getComputedStyle(title, "::after").content : "none";
            return [box.className, style.borderLeftStyle, style.backgroundColor, style.boxShadow, sign];
        })"""
        )
    )
    assert not [box for box in boxes if box[2:] != ["rgba(0, 0, 0, 0)", "none", "none"]]
    rules = {
        kind: {rule for name, rule, *_ in boxes if kind in name.split()} for kind in ("theorem", "proposition", "exercise", "solution")
    }
    assert not (rules["theorem"] | rules["proposition"]) & (rules["exercise"] | rules["solution"])
    assert rules["solution"] <= {"none"}
    folded = page.locator(TEXT).locator(".solution > .admonition-title")
    assert all(text.strip() == "Solution" for text in folded.all_inner_texts())
    assert folded.locator("button[aria-expanded]").count() == folded.count()


def choose(page: Page, scheme: str) -> None:
    """Ask for a colour scheme as the reader's system does, and wait until the theme has followed."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_reader(page, scheme):
    choose(page, scheme)
    colours = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('main h1')).color]")
    ground, ink = (sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3 for colour in colours)
    assert (ground > 200 and ink < 100) if scheme == "light" else (ground < 60 and ink > 150)
    filters = page.evaluate("[...document.querySelectorAll('div.cell_output img')].map(image => getComputedStyle(image).filter)")
    assert all(("invert" in value) == (scheme == "dark") for value in filters), "a figure keeps its dark ink on a dark page, or the reverse"


# A moment after a change of width the theme puts every box that now scrolls within the keyboard's reach.
REACHABLE = """() => [...document.querySelectorAll("pre, .cell_output > .output, .pst-scrollable-table-container")]
    .every(box => box.scrollWidth <= box.clientWidth || box.tabIndex === 0)"""


def test_page_is_accessible(browser, built):
    contrast = "color-contrast"  # all that changes with the colours, and the slowest rule by far
    runs = [("light", DESK, {}), ("dark", DESK, {"runOnly": [contrast]}), ("light", PHONE, {"rules": {contrast: {"enabled": False}}})]
    faults = []
    with opened(browser, built) as page:
        # Thousands of elements are alike to axe: what a formula consists of, and every code token but the first of its colour in a cell.
        page.evaluate(
            """() => {
                document.querySelectorAll(".katex").forEach(formula => formula.replaceChildren());
                document.querySelectorAll("pre").forEach(code => {
                    const seen = new Set();
                    code.querySelectorAll("span").forEach(
                        token => seen.has(token.className) ? token.replaceWith(...token.childNodes) : seen.add(token.className));
                });
            }"""
        )
        for scheme, width, rules in runs:
            page.set_viewport_size({"width": width, "height": 900})
            choose(page, scheme)
            page.wait_for_function(REACHABLE)
            # Without preload axe does not fetch the style sheets once more, which a page from a file may not.
            found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False} | rules).response["violations"]
            faults += [
                f"{scheme}, {width} px: {violation['id']} ({violation['help']}): {node['html'][:160]}"
                for violation in found
                for node in violation["nodes"]
            ]
    assert not faults, "\n".join(faults)
