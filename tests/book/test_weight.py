"""The extension that leaves out of the pages what no page uses, and what it may not leave out."""

import re

import tinycss2
from deadly_triad_book.pages.weight import lighten, names_in, prune

STYLES = """
/* a comment */
.quiet, .loud > p, #here:hover { color: red }
.loud { color: blue }
a:not(.loud), p:is(.loud, .quiet), p:is(.loud, .noisy), p:not(:is(.loud)) { margin: 0 }
.is-open.loud, .is-open { top: 0 }
.w-1\\/2 { width: 50% }
[data-theme=dark] table { border: 0 }
@media print { .loud { display: none } }
@media (width < 30rem) { .loud, .quiet { display: none } .noisy { left: 0 } }
@font-face { font-family: Loud; src: url("loud.woff2") }
"""
PAGE = '<p class="quiet" id="here">…</p><script>box.className = "is-" + state;</script>'


def pruned(styles: str) -> str:
    rules = tinycss2.parse_stylesheet(styles, skip_comments=True, skip_whitespace=True)
    return re.sub(r"\s+", " ", "".join(prune(rules, names_in(PAGE))))


def test_a_rule_stays_if_what_it_needs_can_be_on_a_page():
    assert pruned(STYLES).replace(" ", "") == (
        ".quiet,#here:hover{color:red}"
        "a:not(.loud),p:is(.loud,.quiet),p:not(:is(.loud)){margin:0}"
        ".is-open{top:0}"
        ".w-1\\/2{width:50%}"
        "[data-theme=dark]table{border:0}"
        "@media(width<30rem){.quiet{display:none}}"
        '@font-face{font-family:Loud;src:url("loud.woff2")}'
    )


def test_what_is_left_of_a_built_book_parses_and_says_nothing_of_what_is_nowhere(html):
    pages = "".join(path.read_text(encoding="utf-8") for path in html.rglob("*.html"))
    sheet = (html / "_static" / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    rules = tinycss2.parse_stylesheet(sheet)
    assert not [rule for rule in rules if rule.type == "error"]
    assert "btn-outline-warning" not in pages
    assert "btn-outline-warning" not in sheet
    assert ".bd-article" in sheet


def test_a_picture_keeps_its_places_to_a_hundredth_and_all_else_as_it_is():
    picture = (
        '<svg width="469.19952pt"> <metadata>\n by a program </metadata><!-- 0.2 -->'
        '<path id="d" d="M 59.340313 -0.0012 \nL 461.9 1e-05" transform="scale(0.015625)" style="stroke-width: 0.125"/>'
        '<use x="77.643004" y="-174.996707" href="#x1.2345"/><g transform="translate(68.101129 191.113895) rotate(-12.345)"/></svg>'
    )
    assert lighten(picture) == (
        '<svg width="469.19952pt"><path id="d" d="M 59.34 0 \nL 461.9 1e-05" transform="scale(0.015625)" style="stroke-width: 0.125"/>'
        '<use x="77.64" y="-175" href="#x1.2345"/><g transform="translate(68.1 191.11) rotate(-12.345)"/></svg>'
    )
