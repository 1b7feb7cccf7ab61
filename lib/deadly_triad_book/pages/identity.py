"""A Sphinx extension: the face of the book. Every chapter is headed by its one equation, with the factor of the day lit.

Which factor that is stands here, in `LIT`, and nowhere else. The four colours are in `_static/explorables.css`, for the figures too.
"""

import math
from html import escape
from typing import TYPE_CHECKING, Any

from docutils import nodes  # type: ignore[import-untyped]

from deadly_triad_book.pages.cards import cards, name, plain

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FACTORS = {
    "update": "the step that is taken",
    "K": "how an update here moves the values there",
    "D": "where the data are",
    "T": "what the values are moved towards",
}
LENGTH = 160
"""Of a description, in characters: what search engines show of it."""
LETTERS = {"update": "α", "K": "K", "D": "D", "T": "T"}
LIT = {
    "intro": ("update", "K", "D", "T"),
    "chapters/01_contraction_maps": ("T",),
    "chapters/02_bellman_operators": ("D", "T"),
    "chapters/03_linear_off_policy_td": ("update", "D"),
    "chapters/04_bairds_counterexample": ("D",),
    "chapters/05_how_far_off_policy": ("K", "D"),
    "chapters/06_action_values": ("T",),
    "chapters/07_from_parameters_to_values": ("K",),
    "chapters/08_q_learning_ntk": ("K",),
    "chapters/09_theorem_2": ("K",),
    "chapters/10_beyond_theorem_2": ("update", "K"),
    "chapters/11_preqn": ("K",),
    "chapters/12_other_cures": ("update", "K", "D", "T"),
    "chapters/13_trained_cures": ("update", "K", "T"),
    "chapters/14_ntk_in_practice": ("K",),
    "chapters/15_control": ("K", "T"),
    "chapters/16_diagnose_your_own": ("update", "K", "D", "T"),
}
"""The factors of the equation that a page is about; a chapter that is not here has the equation with none of them lit."""


def strip(lit: tuple[str, ...]) -> str:
    """The equation as HTML, with what the lit factors are in words."""
    shown = {name: f'<span class="factor-{name}{" lit" if name in lit else ""}">{letter}</span>' for name, letter in LETTERS.items()}
    alpha, K, D, T = (shown[name] for name in FACTORS)
    equation = f'<i>Q</i><span class="prime">′</span> = <i>Q</i> + {alpha} {K} {D} ({T} <i>Q</i> − <i>Q</i>)'
    words = "".join(f'<span class="factor-{name}">{LETTERS[name]}: {FACTORS[name]}</span>' for name in FACTORS if name in lit)
    return f'<div class="strip" role="note" aria-label="The one idea of the book"><span class="equation">{equation}</span>{words}</div>'


def logo(turns: float = 2.6, points: int = 90) -> str:
    """The book's mark as SVG: a run that spirals out of the disc in which it would have settled."""
    path = []
    for i in range(points + 1):
        angle = 2 * math.pi * turns * i / points
        radius = 4 * math.exp(math.log(30 / 4) * i / points)
        path.append(f"{32 + radius * math.cos(angle - 0.9):.1f} {32 - radius * math.sin(angle - 0.9):.1f}")
    disc = '<circle cx="32" cy="32" r="19" fill="#0072b2" fill-opacity="0.15" stroke="#3a94cc" stroke-width="3"/>'
    run = f'<path d="M{"L".join(path)}" fill="none" stroke="#d55e00" stroke-width="4" stroke-linecap="round" stroke-linejoin="round"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{disc}{run}</svg>\n'


def description(page: str, doctree: nodes.document | None) -> str:
    """A page in a sentence or two: its card, or the paragraph that it begins with; nothing of a page without text."""
    card = cards().get(name(page))
    paragraphs = doctree.findall(nodes.paragraph) if doctree else ()
    first = next((paragraph for paragraph in paragraphs if isinstance(paragraph.parent, nodes.section)), None)
    text = plain(f"{card['question']} {card['answer']}") if card else first.astext() if first is not None else ""
    words = " ".join(text.split())
    return words if len(words) <= LENGTH else words[:LENGTH].rsplit(" ", 1)[0] + " …"


def _head_with_strip(_app: "Sphinx", doctree: nodes.document, page: str) -> None:
    if page in LIT or page.startswith("chapters/"):
        title = next(doctree.findall(nodes.title), None)
        if title is not None:
            title.parent.insert(title.parent.index(title) + 1, nodes.raw("", strip(LIT.get(page, ())), format="html"))


def _say_once(app: "Sphinx", page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Name the first page once, though it is named as the book is; describe a page by its card, or by the paragraph that it begins with."""
    if page == app.config.root_doc:
        context["docstitle"] = ""
    words = description(page, doctree)
    if words:
        context["metatags"] = context.get("metatags", "") + f'\n<meta name="description" content="{escape(words)}" />'


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", _head_with_strip)
    app.connect("html-page-context", _say_once)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
