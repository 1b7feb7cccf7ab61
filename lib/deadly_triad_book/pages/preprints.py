"""A Sphinx extension: a number of the arXiv in a text, `arXiv:1903.08894`, leads to the paper."""

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx

NUMBER = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def _link(_app: "Sphinx", doctree: nodes.document, _page: str) -> None:
    for text in list(doctree.findall(nodes.Text)):
        pieces = NUMBER.split(text.astext())
        if len(pieces) > 1 and not isinstance(text.parent, nodes.reference | nodes.literal | nodes.literal_block | nodes.raw):
            linked: list[nodes.Node] = [nodes.Text(pieces[0])]
            for number, after in zip(pieces[1::2], pieces[2::2], strict=True):
                linked += [nodes.reference("", f"arXiv:{number}", refuri=f"https://arxiv.org/abs/{number}"), nodes.Text(after)]
            text.parent.replace(text, linked)


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
