"""The extension that typesets formulas while the book is built, alone and inside small Sphinx builds."""

import re
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup
from deadly_triad_book.pages.formulas import NODE, FormulaError, typeset
from sphinxcontrib import katex


def test_node_is_that_of_the_environment():
    assert NODE.is_relative_to(sys.prefix)
    assert subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout.startswith("v")


def test_style_and_fonts_are_of_the_katex_that_typesets(root):
    styles = (root / "_static" / "katex" / "katex.min.css").read_text(encoding="utf-8")
    assert re.findall(r'\.katex-version:+after\{content:"([\d.]+)"\}', styles) == [katex.katex_version]
    fonts = {path.relative_to(root / "_static" / "katex").as_posix() for path in root.glob("_static/katex/fonts/*")}
    assert set(re.findall(r"url\(([^)]+)\)", styles)) == fonts


def test_a_formula_can_be_seen_read_aloud_and_copied():
    soup = BeautifulSoup(typeset(r"Q' = Q + \alpha \, K D (T Q - Q)", display=True), "html.parser")
    assert soup.select_one(".katex-display > .katex > .katex-html[aria-hidden=true]")
    assert "α" in soup.select_one("math").get_text()
    assert soup.select_one("annotation").get_text() == r"Q' = Q + \alpha \, K D (T Q - Q)"


@pytest.mark.parametrize("tex", [r"\frac{1", r"\nosuchcommand", "é", r"\begin{pmatrix} a"])
def test_what_latex_would_refuse_is_refused(tex):
    with pytest.raises(FormulaError):
        typeset(tex, display=True)


def build(folder, text):
    """A book of one page in which formulas are typeset; what Sphinx said, and the page."""
    (folder / "index.rst").write_text(text, encoding="utf-8")
    settings = ["-D", "extensions=deadly_triad_book.pages.formulas", "-D", "html_theme=basic"]
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-C", *settings, folder, folder / "html"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return ran, BeautifulSoup((folder / "html" / "index.html").read_text(encoding="utf-8"), "html.parser")


def test_formulas_keep_their_names_numbers_and_references(tmp_path):
    display = ".. math::\n   :label: {}\n\n   x = {}\n\n"
    text = "Title\n=====\n\n" + display.format("first", 1) + display.format("second", r"\frac12") + "See :eq:`second`, not :math:`x^2`.\n"
    ran, page = build(tmp_path, text)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [formula["id"] for formula in page.select("div.math")] == ["equation-first", "equation-second"]
    assert [number.get_text()[:3] for number in page.select("div.math .eqno")] == ["(1)", "(2)"]
    reference = page.select_one("p a.reference")
    assert (reference["href"], reference.get_text()) == ("#equation-second", "(2)")
    assert len(page.select("p > span.math > .katex")) == 1
    assert "mathjax" not in str(page).lower()


def test_a_mark_behind_a_formula_does_not_begin_a_line(tmp_path):
    ran, page = build(tmp_path, "Title\n=====\n\nIf (so :math:`x` and :math:`y^2`), then :math:`z`: it *is* :math:`w` so.\n")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [box.get_text() for box in page.select("p .katex-html > .base:last-child > .marks:last-child")] == ["),", ":"]
    assert [str(text) for text in page.select_one("p").find_all(string=True, recursive=False)] == [
        "If (so ",
        " and ",
        " then ",
        " it ",
        " ",
        " so.",
    ]


def test_lines_that_are_broken_stay_broken(tmp_path):
    ran, page = build(tmp_path, "Title\n=====\n\n.. math::\n\n   x = 1 \\\\\n   y = 2\n")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(page.select("div.math mtr")) == 2


def test_a_mistake_in_a_formula_fails_the_build_and_names_its_line(tmp_path):
    ran, page = build(tmp_path, "Title\n=====\n\nFine: :math:`x`.\n\nNot so: :math:`\\frac{1`.\n")
    assert ran.returncode != 0
    assert "index.rst:6: WARNING: TeX that cannot be typeset" in ran.stderr
    assert page.select_one("span.math > code").get_text() == r"\frac{1"
