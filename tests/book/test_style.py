"""The figures' style: the same file every time, and legible without colour."""

import io
import re

import matplotlib as mpl
from deadly_triad_book.style import CYCLE, use_book_style
from matplotlib.figure import Figure


def draw() -> str:
    file = io.StringIO()
    with mpl.rc_context():
        use_book_style()
        figure = Figure()
        axes = figure.subplots()
        for height in range(len(CYCLE)):
            axes.plot([0, 1], [0, height], label=f"$x_{height}$")
        axes.legend()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def test_same_figure_same_file():
    assert draw() == draw()


def test_figure_needs_no_font_and_no_ground():
    svg = draw()
    assert "<text" not in svg
    assert not re.findall(r"fill: ?#ffffff", svg)


def test_curves_differ_without_colour():
    assert len({dash for _, dash in CYCLE}) == len({colour for colour, _ in CYCLE}) == len(CYCLE)
    svg = draw()
    assert len(set(re.findall(r"stroke-dasharray: ([\d., ]+)", svg))) == len(CYCLE) - 1
    assert all(colour.lower() in svg for colour, _ in CYCLE if colour != "#000000")


def test_figures_of_the_book_are_in_style(source):
    """In the notebooks too: nothing but SVG, without the date that would make every build another one."""
    outputs = [output["data"] for cell in source.executed.cells for output in cell.get("outputs", []) if "data" in output]
    pictures = [(mime, data) for output in outputs for mime, data in output.items() if "image/" in mime]
    assert {mime.removeprefix("application/papermill.record/") for mime, _ in pictures} <= {"image/svg+xml"}
    assert not [data for _, data in pictures if "<dc:date>" in data]
