"""A Sphinx extension: on a phone the letters of a figure can be read.

A figure is as wide as the text. Where that makes its smallest letters too small on a phone, the figure keeps a least width there, and
scrolls in a box of its own, as a wide table does.
"""

import re
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from docutils import nodes  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PHONE: Final = 358
"""Pixels that the text of a page has on a phone of 390."""
TOO_SMALL, READABLE = 7, 9
"""Letters of so many pixels a figure may not have, and has if it would."""
STEP: Final = 50
"""Least widths are multiples of it; `_static/book.css` has a rule for each."""


def least_width(svg: str) -> int:
    """Pixels that a figure of Matplotlib must be wide for its smallest letters; 0 if it may be as narrow as a phone.

    >>> figure = '<svg width="{}pt"><g transform="scale(0.12 -0.12)"/><g transform="scale({} -{})"/></svg>'
    >>> least_width(figure.format(480, 0.1, 0.1)), least_width(figure.format(600, 0.1, 0.1))
    (0, 550)
    """
    width = re.search(r'<svg[^>]*\bwidth="([\d.]+)pt"', svg)
    letters = [100 * float(scale) for scale in re.findall(r"scale\((0\.\d+) -0\.\d+\)", svg)]
    if width is None or not letters:
        return 0
    pixels_of_a_letter = min(letters) / float(width[1])  # for each pixel of the figure's width
    return 0 if pixels_of_a_letter * PHONE >= TOO_SMALL else STEP * ceil(READABLE / pixels_of_a_letter / STEP)


def _keep_readable(app: "Sphinx", document: nodes.document, _page: str) -> None:
    for image in [image for figure in document.findall(nodes.figure) for image in figure.children if isinstance(image, nodes.image)]:
        path = Path(app.srcdir) / image["uri"]
        if path.suffix == ".svg" and path.is_file() and (width := least_width(path.read_text(encoding="utf-8"))):
            image["classes"].append(f"least-{width}")
            box = nodes.container(classes=["wide-picture"])
            image.parent.replace(image, box)
            box += image


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", _keep_readable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
