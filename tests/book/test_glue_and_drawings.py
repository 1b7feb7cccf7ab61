"""What the chapters use besides the style: numbers on their way into the prose, and drawings."""

import re
import subprocess
import sys

import matplotlib.pyplot as plt
import myst_nb
import numpy as np
import pytest
from deadly_triad_book.drawings import Arrow, draw_corridor, draw_states, draw_upper_and_lower, draw_vector
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


@pytest.mark.parametrize("module", ["numbers", "provenance", "pages.repository"])
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


def parts(axes):
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    return circles, [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]


def test_states_and_arrows_are_drawn_once_each_and_dashes_follow_the_second_action():
    _, axes = plt.subplots()
    draw_states(axes, {"a": (0, 0), "b": (3, 0)}, [Arrow("a", "b", "go", bend=0.3), Arrow("b", "b", "stay", dashed=True, bend=-1)])
    circles, arrows = parts(axes)
    assert len(circles) == 2
    assert [arrow.get_linestyle() for arrow in arrows] == ["-", "--"]
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert places["go"][1] > 0 > places["stay"][1]  # a bend to the left is up on the way right; a loop with a negative bend hangs below
    plt.close(axes.figure)


def test_an_arrow_to_nowhere_is_refused():
    _, axes = plt.subplots()
    with pytest.raises(ValueError, match="arrows must join states of places"):
        draw_states(axes, {"a": (0, 0)}, [Arrow("a", "b")])
    plt.close(axes.figure)


@pytest.mark.parametrize(("exit_pays", "n_circles"), [("", 5), ("f", 6)])
def test_a_corridor_has_two_arrows_a_state(exit_pays, n_circles):
    _, axes = plt.subplots()
    draw_corridor(axes, exit_pays=exit_pays)
    circles, arrows = parts(axes)
    assert (len(circles), len(arrows)) == (n_circles, 10)
    assert sum(arrow.get_linestyle() == "--" for arrow in arrows) == 5
    plt.close(axes.figure)


def test_a_vector_carries_its_label_beside_its_end():
    _, axes = plt.subplots()
    draw_vector(axes, (0, 0), (1, 2), "x", offset=(0.5, 0))
    assert [(text.get_text(), text.get_position()) for text in axes.texts] == [("x", (1.5, 2))]
    plt.close(axes.figure)
