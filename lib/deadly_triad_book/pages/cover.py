r"""A Sphinx extension: the book from outside. Its cover, and what other sites show of a page that is linked there.

The picture is one problem with two step sizes, drawn from the formula: an error along an eigenvector is multiplied by
$1 - \alpha \lambda$ at every step. Below the largest stable step it spirals in, above it out of the disc.
"""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from docutils import nodes  # type: ignore[import-untyped]
from jaxtyping import Complex
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from deadly_triad_book.pages.identity import description
from deadly_triad_book.style import BLUE, VERMILLION

if TYPE_CHECKING:
    from sphinx.application import Sphinx

EIGENVALUE = 0.045 + 0.5j
"""Of the problem that is drawn; any with a positive real part would do."""
STEPS = (0.55, 1.5)
"""Two step sizes, in units of the largest stable one."""
N_STEPS = 150
START, END = 0.5, 3.9
"""How large the error is at first, and how large it may get, in radii of the disc."""
IMAGE = "_static/cover.png"
ALT = "Two runs begin at one point of a disc. One spirals into its middle, the other out of it and away."


def runs() -> list[tuple[float, Complex[np.ndarray, " n"]]]:
    """For each step size, in units of the largest stable one, the error after each step, as long as it is in the picture."""
    largest = 2 * EIGENVALUE.real / abs(EIGENVALUE) ** 2
    found = []
    for share in STEPS:
        errors = START * (1 - share * largest * EIGENVALUE) ** np.arange(N_STEPS)
        found.append((share, errors[np.abs(errors) <= END]))
    return found


def svg() -> str:
    """The cover as a picture in a page, in the page's colours."""
    lines = []
    for share, errors in runs():
        points = [f"{z.real:.3f} {-z.imag:.3f}" for z in errors]
        dots = "".join(f"M{point}h0" for point in points)
        lines.append(
            f'<g class="{"bursts" if share > 1 else "settles"}"><path d="M{"L".join(points)}"/><path class="dots" d="{dots}"/></g>'
        )
    picture = f'<svg class="cover" xmlns="http://www.w3.org/2000/svg" viewBox="-3.5 -1.25 7 2.5" role="img" aria-label="{ALT}">'
    return f'{picture}<circle r="1"/>{"".join(lines)}</svg>'


def draw(path: Path, title: str) -> None:
    """The cover as an image of 1200 by 630 pixels with the title on it, which is what other sites ask for."""
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    angles = np.linspace(0, 2 * np.pi, 200)
    axes.fill(np.cos(angles), np.sin(angles), facecolor=BLUE, alpha=0.1)
    axes.plot(np.cos(angles), np.sin(angles), color=BLUE, linewidth=2)
    for share, errors in runs():
        axes.plot(errors.real, errors.imag, ".-", color=VERMILLION if share > 1 else BLUE, linewidth=2, markersize=10)
    axes.set(xlim=(-1.5, 3.7), ylim=(-1.365, 1.365), aspect="equal")
    axes.axis("off")
    halo = [withStroke(linewidth=16, foreground="white")]
    figure.text(0.97, 0.5, "\n".join(title.split()), ha="right", va="center", fontsize=54, linespacing=1.4, path_effects=halo)
    FigureCanvasAgg(figure).print_png(path)  # type: ignore[no-untyped-call]


def _insert(app: "Sphinx", document: nodes.document, page: str) -> None:
    title = next(document.findall(nodes.title), None)
    if page == app.config.root_doc and title is not None:
        title.parent.insert(title.parent.index(title) + 1, nodes.raw("", svg(), format="html"))


def _tell(app: "Sphinx", page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """What a link to a page shows on another site (the Open Graph protocol); addresses only where the book knows its own."""
    if doctree is None:
        return
    told = {"og:type": "article", "og:site_name": app.config.project, "og:title": app.env.titles[page].astext()}
    told["og:description"] = description(page, doctree)
    base = app.config.html_baseurl
    if base:
        told |= {"og:url": f"{base}{page}.html", "og:image": f"{base}{IMAGE}", "og:image:alt": ALT, "twitter:card": "summary_large_image"}
    tags = "".join(f'\n<meta property="{name}" content="{escape(text)}" />' for name, text in told.items() if text)
    context["metatags"] = context.get("metatags", "") + tags


def _draw(app: "Sphinx", failure: Exception | None) -> None:
    if failure is None and app.builder.format == "html":
        draw(Path(app.outdir) / IMAGE, app.config.project)


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", _insert)
    app.connect("html-page-context", _tell)
    app.connect("build-finished", _draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
