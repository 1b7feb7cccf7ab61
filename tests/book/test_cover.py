"""The cover, and what other sites show of a page: drawn from the formula, and nothing that is not known is claimed."""

import re
import struct

import numpy as np
from bs4 import BeautifulSoup
from deadly_triad.stability import analyse_stability
from deadly_triad_book.pages import cover


def test_the_runs_are_those_of_a_matrix_with_this_eigenvalue():
    """By another route: a real matrix, stepped, and the verdict of the package on its steps."""
    real, imag = cover.EIGENVALUE.real, cover.EIGENVALUE.imag
    matrix = np.array([[real, -imag], [imag, real]])
    largest = analyse_stability(matrix).largest_stable_step
    assert [share > 1 for share in cover.STEPS] == [False, True]
    for share, errors in cover.runs():
        error = np.array([cover.START, 0.0])
        for value in errors:
            np.testing.assert_allclose([value.real, value.imag], error, atol=1e-9)
            error = error - share * largest * matrix @ error
        assert (abs(errors[-1]) > abs(errors[0])) == (share > 1)
        assert (np.abs(errors) > 1).any() == (share > 1), "the disc is burst by the run above the largest stable step, and by it alone"


def test_the_picture_has_every_step():
    picture = BeautifulSoup(cover.svg(), "html.parser").svg
    assert picture["aria-label"] == cover.ALT
    for kind, (share, errors) in zip(("settles", "bursts"), cover.runs(), strict=True):
        line = picture.select_one(f".{kind} > path")["d"]
        points = np.array([point.split() for point in line.removeprefix("M").split("L")], float)
        np.testing.assert_allclose(points[:, 0] - 1j * points[:, 1], errors, atol=1e-3, err_msg=str(share))  # pictures have y downwards
        assert len(errors) == cover.N_STEPS or abs(errors[-1]) <= cover.END < abs(errors[-1]) ** 2 / abs(errors[-2])


def test_the_image_is_of_the_size_that_is_asked_for(tmp_path):
    cover.draw(tmp_path / "cover.png", "A Title Of Words")
    head = (tmp_path / "cover.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:24]) == (1200, 630)


def test_the_first_page_has_the_cover_and_no_other(toc, html):
    covered = [page for page in toc if 'class="cover"' in (html / f"{page}.html").read_text(encoding="utf-8")]
    assert covered == toc[:1]
    assert (html / cover.IMAGE).is_file()


def test_a_page_tells_other_sites_what_it_is(toc, html):
    """Addresses are whole or missing: a build that does not know where the book is shown makes none up."""
    for page in toc:
        soup = BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
        told = {tag["property"]: tag["content"] for tag in soup.select("meta[property]")}
        heading = soup.select_one("article h1")
        for element in heading.select(".section-number, .headerlink, .katex-html, annotation"):
            element.decompose()
        assert told["og:title"] == heading.get_text().strip()
        assert told["og:site_name"] == "When Q-Learning Diverges"
        description = soup.select_one("meta[name=description]")
        assert told.get("og:description") == (description["content"] if description else None)
        assert ("og:image" in told) == ("og:url" in told)
        assert all(re.match(r"https://\S+/", told[key]) for key in ("og:image", "og:url") if key in told)
