"""The figures' style: the same file every time, and legible without colour."""

import io
import re

import matplotlib as mpl
import pytest
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


# Of every text of a figure that is no tick and stands in no legend, where a line goes through its letters. What Matplotlib draws of a line
# is M and L; outside the axes it is cut off; and a hair at a letter's edge is no fault.
STILL_CROSSED = {"15_control": ["TD3"], "16_diagnose_your_own": ["slope", "growth of errors"]}
CROSSED = """() => [...document.querySelectorAll('g[id^="text_"]')]
  .filter(text => !text.closest('g[id^="xtick"], g[id^="ytick"], g[id^="legend"]'))
  .filter(text => {
    const box = text.getBoundingClientRect(), dx = 1 + 0.03 * box.width, dy = 0.22 * box.height;
    const inLetters = p => p.x > box.left + dx && p.x < box.right - dx && p.y > box.top + dy && p.y < box.bottom - dy;
    return [...document.querySelectorAll('g[id^="line2d_"] > path[clip-path]')].some(line => {
      if (line.closest('g[id^="legend"]')) return false;
      const axes = document.querySelector(line.getAttribute("clip-path").slice(4, -1)).firstElementChild, place = line.getScreenCTM();
      const [left, top, width, height] = ["x", "y", "width", "height"].map(name => Number(axes.getAttribute(name)));
      const within = p => p.x >= left && p.x <= left + width && p.y >= top && p.y <= top + height;
      let last = null, inside = 0;
      for (const [, command, x, y] of line.getAttribute("d").matchAll(/([ML])\\s*(\\S+)\\s+(\\S+)/g)) {
        const point = [Number(x), Number(y)], steps = command === "L" ? Math.ceil(Math.hypot(point[0] - last[0], point[1] - last[1])) : 0;
        for (let k = 1; k <= steps; k++) {
          const p = new DOMPoint(last[0] + (point[0] - last[0]) * k / steps, last[1] + (point[1] - last[1]) * k / steps);
          if (within(p) && inLetters(p.matrixTransform(place))) inside++;
        }
        last = point;
      }
      return inside > 2;
    });
  }).map(text => text.innerHTML.match(/<!--(.*?)-->/s)?.[1].trim() ?? text.id)"""


def crossed(browser, svg):
    """The texts of a figure that a line runs through."""
    page = browser.new_page()
    page.set_content(svg[svg.index("<svg") :])
    found = page.evaluate(CROSSED)
    page.close()
    return found


@pytest.mark.parametrize(("place", "found"), [((0.46, 0.48), ["label"]), ((0.5, 0.7), []), ((0.1, 0.7), [])])
def test_a_line_through_a_label_is_seen(browser, place, found):
    file = io.StringIO()
    with mpl.rc_context():
        use_book_style()
        axes = (figure := Figure()).subplots()
        axes.plot([0, 1], [0, 1])
        axes.text(*place, "label")
        axes.set(title="title", ylim=(0, 0.9))  # the line would go on through the title
        figure.savefig(file, format="svg")
    assert crossed(browser, file.getvalue()) == found


def test_no_line_runs_through_a_label(browser, source):
    """As the last build drew the figures."""
    outputs = [output["data"] for cell in source.executed.cells for output in cell.get("outputs", []) if "data" in output]
    pictures = [data["image/svg+xml"] for data in outputs if "image/svg+xml" in data]
    found = [word for picture in pictures for word in crossed(browser, picture)]
    assert [word for word in found if word not in STILL_CROSSED.get(source.path.stem, ())] == []
