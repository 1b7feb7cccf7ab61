"""The book as one PDF: `python -m deadly_triad_book.printing` in the book's folder, after `make book`. Chromium prints it.

The articles of the built pages are joined to one page, with their ids told apart and the links between them turned inwards. So page
numbers, links and bookmarks are the browser's own work. (It spells some bookmarks twice, and leaves out formulas and the spaces at the
ends of lines; they get the words of the headings.) No script runs, and nothing is folded: figures that move stand still, as on any page
that is printed.
"""

import os
import re
import sys
from collections.abc import Iterable
from html import unescape
from pathlib import Path
from posixpath import join, normpath
from typing import Any

from deadly_triad_book.execution import pages
from deadly_triad_book.pages.previews import element

ARTICLE = re.compile(r'<article class="bd-article">.*?</article>', re.DOTALL)
SHEETS = re.compile(r'<link\b[^>]*? href="([^"?]+\.css)')
STYLE = """
@page { size: A4; margin: 20mm 20mm 22mm; }
body { font-size: 10.5pt; }
article.bd-article { padding: 0; max-width: none; }
article.bd-article + article.bd-article { break-before: page; }
"""
FOOTER = '<div style="width: 100%; text-align: center; font: 8pt sans-serif; color: #555"><span class="pageNumber"></span></div>'
SHELL = """<!DOCTYPE html>
<html lang="en" data-theme="light" data-content_root="./">
<head><meta charset="utf-8"><title>{title}</title>
{sheets}
<style>{style}</style>
</head>
<body>
{articles}
</body>
</html>
"""


def anchor(page: str, name: str = "") -> str:
    """The id that a place of a page has in the whole book.

    >>> anchor("chapters/01_contraction_maps.html", "thm-banach"), anchor("intro.html")
    ('chapters-01_contraction_maps--thm-banach', 'intro')
    """
    return "--".join(filter(None, [page.removesuffix(".html").replace("/", "-"), name]))


def inwards(html: str, page: str, inside: Iterable[str]) -> str:
    """A part of a page, with its ids told apart, links to the pages inside turned to these, and files found from the top folder.

    Args:
        html: the part.
        page: the address of the page from the top folder.
        inside: the addresses of all pages.
    """
    known = set(inside)
    folder = page.rpartition("/")[0]

    def link(match: re.Match[str]) -> str:
        name, address = match[1], match[2]
        if re.match(r"\w+:", address):
            return match[0]
        path, _, place = address.partition("#")
        target = normpath(join(folder, path)) if path else page
        if name == "href" and target in known:
            return f'href="#{anchor(target, place)}"'
        if name == "href" and target.endswith(".html"):
            return ""  # the index, which without numbers of pages is of no use on paper
        return f'{name}="{target}{"#" + place if place else ""}"'

    html = re.sub(r'(?<=[ \n])id="([^"]+)"', lambda match: f'id="{anchor(page, match[1])}"', html)
    html = re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{anchor(page, match[1])})", html)
    named = r'(?<=[ \n])(aria-labelledby|aria-describedby|for)="([^"]+)"'
    html = re.sub(named, lambda match: f'{match[1]}="{" ".join(anchor(page, name) for name in match[2].split())}"', html)
    return re.sub(r'(?<=[ \n])(href|src)="([^"]*)"', link, html)


def whole(html: Path, names: list[str], title: str) -> str:
    """The book as one page that lies in the folder of the built pages.

    Args:
        html: that folder.
        names: addresses of the pages in their order, from there.
        title: of the book.
    """
    texts = {name: (html / name).read_text(encoding="utf-8") for name in names}
    articles = []
    for name, text in texts.items():
        found = ARTICLE.search(text)
        assert found, f"{name} has no article"
        articles.append(inwards(found[0], name, names).replace("<article ", f'<article id="{anchor(name)}" ', 1))
    sheets = "\n".join(f'<link rel="stylesheet" href="{sheet}">' for sheet in SHEETS.findall(texts[names[0]]))
    return SHELL.format(title=title, sheets=sheets, style=STYLE, articles="\n".join(articles))


def headings(html: str) -> list[str]:
    """The words of a page's headings, in their order.

    >>> headings('<h2 id="a"><span class="section-number">1.2. </span>Two &amp; <i>more</i><a class="headerlink" href="#a">#</a></h2>')
    ['1.2. Two & more']
    """
    found = []
    for inner in re.findall(r"<h[1-6]\b[^>]*>(.*?)</h[1-6]>", html, re.DOTALL):
        inner = re.sub(r'<a class="headerlink".*?</a>|<annotation.*?</annotation>', "", inner, flags=re.DOTALL)
        while seen := re.search(r'<span[^>]*? class="katex-html"', inner):  # a formula stands there a second time, to be read aloud
            inner = inner.replace(element(inner, seen.start(), "span"), "")
        found.append(" ".join(unescape(re.sub(r"<[^>]*>", "", inner)).split()))
    return found


def name_bookmarks(made: Path, titles: list[str], title: str) -> None:
    """Give the bookmarks of a PDF these titles, in their order, and the file its own."""
    from pypdf import PdfWriter
    from pypdf.generic import NameObject, TextStringObject

    writer = PdfWriter(clone_from=made)
    marks = []

    def walk(mark: Any) -> None:
        while mark is not None:
            marks.append(mark := mark.get_object())
            if "/First" in mark:
                walk(mark["/First"])
            mark = mark.get("/Next")

    outlines: Any = writer.root_object["/Outlines"]
    walk(outlines["/First"])
    for mark, words in zip(marks, titles, strict=True):
        mark[NameObject("/Title")] = TextStringObject(words)
    writer.add_metadata({"/Title": title})
    writer.write(made)


def print_pages(html: Path, names: list[str], made: Path, browser: str) -> None:
    """Print pages with a browser.

    Args:
        html: the folder of the built pages.
        names: addresses of those that are printed, from there.
        made: the PDF.
        browser: where Chromium is.
    """
    from playwright.sync_api import sync_playwright

    source, title = html / "whole.html", "When Q-Learning Diverges"
    text = whole(html, names, title)
    source.write_text(text, encoding="utf-8")
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-background-networking"])
            page = chromium.new_page()
            page.set_default_timeout(0)
            page.goto(source.as_uri())
            page.pdf(
                path=made,
                outline=True,
                tagged=True,
                prefer_css_page_size=True,
                display_header_footer=True,
                header_template="<i></i>",
                footer_template=FOOTER,
            )
            chromium.close()
    finally:
        source.unlink()
    name_bookmarks(made, headings(text), title)


if __name__ == "__main__":
    root = Path.cwd()
    book = root / "_build" / "when-q-learning-diverges.pdf"
    names = [path.relative_to(root).with_suffix(".html").as_posix() for path in pages(root)]
    print_pages(root / "_build" / "html", names, book, os.environ["CHROMIUM"])
    sys.stdout.write(f"The book is printed: {book}\n")
