"""The look of the book's figures: one call, `use_book_style()`, at the head of a chapter.

Figures are SVG with a transparent ground, and the same code draws the same file, byte for byte. The colours are Okabe and Ito's, which
readers with any of the usual colour-vision deficiencies can tell apart (Okabe & Ito 2008, *Color Universal Design*).
"""

from typing import Any, Final

from deadly_triad_book import book_extra

with book_extra():
    from cycler import cycler
    from IPython.core.getipython import get_ipython
    from matplotlib import style
    from matplotlib_inline.backend_inline import set_matplotlib_formats

BLUE: Final = "#0072B2"
VERMILLION: Final = "#D55E00"
GREEN: Final = "#009E73"
PURPLE: Final = "#CC79A7"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
BLACK: Final = "#000000"
GREY: Final = "#767676"
"""For what must recede: guides, grids, the region that is not spoken of. Not Okabe and Ito's."""

# Their yellow is left out: on white it cannot be seen. Each colour has its own dash, so that the curves also differ without colour.
CYCLE: Final = (
    (BLUE, "-"),
    (VERMILLION, "--"),
    (GREEN, "-."),
    (PURPLE, (0, (1, 1))),
    (ORANGE, (0, (5, 1, 1, 1, 1, 1))),
    (SKY, (0, (8, 2))),
    (BLACK, (0, (3, 3))),
)

STYLE: Final[dict[str, Any]] = {
    "axes.prop_cycle": cycler(color=[colour for colour, _ in CYCLE]) + cycler(linestyle=[dash for _, dash in CYCLE]),
    "axes.facecolor": "none",
    "axes.grid": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "figure.figsize": (6.4, 3.6),  # fills the text column; at phone width the letters are still 9 pixels high
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so a figure is the same on every machine
    "font.size": 12.0,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "savefig.facecolor": "none",
    "svg.fonttype": "path",  # letters are drawn as shapes: no font has to be there
    "svg.hashsalt": "deadly-triad",  # without a salt, the names inside an SVG are random
}


def use_book_style() -> None:
    """Draw every figure from here on in the book's style; inside a notebook, show it as SVG."""
    style.use(STYLE)
    if get_ipython() is not None:
        set_matplotlib_formats("svg", metadata={"Date": None})  # type: ignore[no-untyped-call]
