"""What the chapters use besides the style: numbers on their way into the prose, and drawings."""

import re
import subprocess
import sys

import matplotlib.pyplot as plt
import myst_nb
import numpy as np
import pytest
from deadly_triad_book.drawings import draw_upper_and_lower
from deadly_triad_book.numbers import glue
from matplotlib.patches import Circle, FancyArrowPatch


@pytest.mark.parametrize("value", [np.float64(0.25), 0.25, np.int64(3), "settles"])
def test_glue_keeps_a_plain_value_that_a_page_can_format_and_shows_nothing(value, monkeypatch):
    kept = []
    monkeypatch.setattr(myst_nb, "glue", lambda name, value, display: kept.append((name, value, display)))
    glue("a-name", value)
    assert kept == [("a-name", value, False)]
    assert type(kept[0][1]) in (float, int, str)  # the repr of a NumPy scalar names its type


@pytest.mark.parametrize("value", [np.nan, np.inf, np.float64(-np.inf)])
def test_a_number_that_means_nothing_is_refused_by_name(value):
    with pytest.raises(ValueError, match="value of a-name must be finite"):
        glue("a-name", value)


def run_without(missing, code):
    """What a fresh Python says to `code` where the modules `missing` cannot be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({missing!r}))"
    return subprocess.run([sys.executable, "-c", f"{block}\n{code}"], capture_output=True, text=True, check=False)


def test_a_chapter_runs_on_its_own_where_nothing_can_keep_its_numbers():
    said = run_without(["myst_nb", "sphinx"], "from deadly_triad_book.numbers import glue; glue('a-name', 0.5)")
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    wrong = run_without(["myst_nb"], "from deadly_triad_book.numbers import glue; glue('a-name', float('nan'))")
    assert "value of a-name must be finite" in wrong.stderr


@pytest.mark.parametrize("module", ["style", "drawings"])
def test_figures_without_matplotlib_say_what_to_install(module):
    said = run_without(["matplotlib", "cycler"], f"import deadly_triad_book.{module}")
    assert re.search(r"ModuleNotFoundError: [\w.]+ must be installed .* pip install 'deadly-triad\[book\]'", said.stderr)


@pytest.mark.parametrize("module", ["numbers", "provenance", "repository"])
def test_what_needs_nothing_beyond_the_package_asks_for_nothing(module):
    foreign = ["matplotlib", "cycler", "IPython", "myst_nb", "sphinx", "matplotlib_inline"]
    said = run_without(foreign, f"import deadly_triad_book.{module}")
    assert (said.returncode, said.stderr) == (0, "")


def test_a_module_that_glue_needs_itself_is_missed_aloud():
    said = run_without(["myst_nb.ext", "docutils"], "from deadly_triad_book.numbers import glue; glue('a-name', 0.5)")
    assert "ModuleNotFoundError" in said.stderr


@pytest.mark.parametrize("n_upper", [1, 6])
def test_the_drawing_has_a_circle_a_state_and_both_actions(n_upper):
    axes = draw_upper_and_lower([f"upper {i}" for i in range(n_upper)], "lower")
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert len(circles) == n_upper + 1
    assert [text.get_text() for text in axes.texts] == [*(f"upper {i}" for i in range(n_upper)), "lower"]
    solid = [arrow for arrow in arrows if arrow.get_linestyle() in ("-", "solid")]
    assert (len(solid), len(arrows) - len(solid)) == (n_upper + 1, n_upper)  # one solid arrow from each state, the lower one too
    plt.close(axes.figure)
