"""A Sphinx extension: a card at the head of every chapter: its question, the answer, a picture, what one should know, how long it takes.

The cards are in `cards.yml`. The minutes are counted from the text.
"""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]
from docutils import nodes  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CARDS = Path(__file__).with_suffix(".yml")
PACE = 75
"""Words a minute: a convention for a text with mathematics in it, and no measurement."""
DISPLAYED = 10
"""As how many words a displayed formula counts; one within a line counts as one."""


@cache
def cards() -> dict[str, dict[str, Any]]:
    """The cards by the names of the chapters' files, without number."""
    return dict(yaml.safe_load(CARDS.read_text(encoding="utf-8")))


def name(page: str) -> str:
    """The name of a chapter.

    >>> name("chapters/06_action_values")
    'action_values'
    """
    return re.sub(r"^chapters/\d+_", "", page)


def words(node: nodes.Node) -> int:
    """How many words a reader reads who unfolds nothing and passes the code over."""
    if isinstance(node, nodes.Text):
        return len(node.astext().split())
    if isinstance(node, nodes.math | nodes.math_block):
        return DISPLAYED if isinstance(node, nodes.math_block) else 1
    if isinstance(node, nodes.literal_block | nodes.raw | nodes.comment) or node.tagname == "dropdown_main":
        return 0
    if isinstance(node, nodes.Element):
        if node.get("nb_element") == "cell_code":
            return sum(words(caption) for caption in node.findall(nodes.caption))
        if "dropdown" in node["classes"]:
            return 0
    return sum(words(child) for child in node.children)


def minutes(node: nodes.Node) -> int:
    """How long that takes, to five minutes."""
    return max(5, 5 * round(words(node) / PACE / 5))


def sentence(text: str) -> list[nodes.Node]:
    """Text with formulas between dollar signs."""
    return [nodes.math(part, part) if i % 2 else nodes.Text(part) for i, part in enumerate(text.split("$")) if part]


def plain(text: str) -> str:
    """The same without dollar signs."""
    return text.replace("$", "")


def _card(app: "Sphinx", document: nodes.document, page: str, card: dict[str, Any]) -> nodes.container:
    pages = {name(other): other for other in app.env.all_docs}
    needed: list[nodes.Node] = []
    for known in card["know"]:
        other = pages[known]
        number = ".".join(map(str, app.env.toc_secnumbers.get(other, {}).get("", ())))
        title = f"{number}. {app.env.titles[other].astext()}"
        needed += [
            nodes.Text(", ") if needed else nodes.Text("Builds on "),
            nodes.reference("", title, refuri=app.builder.get_relative_uri(page, other), internal=True),
        ]
    needed = needed or [nodes.Text("Needs linear algebra")]
    mark = "first course" if card["course"] else "★ for a second reading"
    about = nodes.paragraph("", "", *needed, nodes.Text(f" · about {minutes(document)} minutes · {mark}"), classes=["about"])
    made = nodes.container("", classes=["chapter-card"])
    figure = next((figure for figure in document.findall(nodes.figure) if card["picture"] in figure["ids"]), None)
    image = figure and next(iter(figure.findall(nodes.image)), None)
    if image is not None:
        small = image.deepcopy()
        small["alt"] = "To the figure"
        made += nodes.container("", nodes.reference("", "", small, refid=card["picture"]), classes=["picture"])
    made += [
        nodes.paragraph("", "", *sentence(card["question"]), classes=["question"]),
        nodes.paragraph("", "", *sentence(card["answer"])),
        about,
    ]
    return made


def _insert(app: "Sphinx", document: nodes.document, page: str) -> None:
    card = cards().get(name(page))
    title = next(document.findall(nodes.title), None)
    if card and title is not None and page.startswith("chapters/"):
        title.parent.insert(title.parent.index(title) + 1, _card(app, document, page, card))


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", _insert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
