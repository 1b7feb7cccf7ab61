"""Pictures that are drawn rather than plotted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deadly_triad_book import book_extra

with book_extra():
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.patches import Circle, FancyArrowPatch

RADIUS = 0.42
Point = tuple[float, float]


@dataclass(frozen=True)
class Arrow:
    """An arrow from one named state to another, or back to the same one.

    Attributes:
        start: name of the state it leaves.
        end: name of the state it enters.
        label: what is written beside it.
        dashed: drawn dashed and in the second colour, else solid and in the first.
        bend: how far it bends to its left, as a share of its length; of a loop only the sign counts, negative for below the state.
    """

    start: str
    end: str
    label: str = ""
    dashed: bool = False
    bend: float = 0.0


def draw_states(ax: Axes, places: Mapping[str, Point], arrows: Sequence[Arrow], *, font_size: float = 11) -> None:
    """Draw states as circles with their names in them, and arrows between them.

    Raises:
        ValueError: if an arrow names a state that has no place.
    """
    for arrow in arrows:
        if not {arrow.start, arrow.end} <= places.keys():
            raise ValueError(f"arrows must join states of places, {list(places)}, got {arrow}")
        _draw_arrow(ax, places[arrow.start], places[arrow.end], arrow, font_size)
    for name, place in places.items():
        ax.add_patch(Circle(place, RADIUS, facecolor="white", edgecolor="black", linewidth=1.2, zorder=3))
        ax.text(*place, name, ha="center", va="center", fontsize=font_size, color="black", zorder=4)
    low, high = np.min(list(places.values()), axis=0), np.max(list(places.values()), axis=0)
    ax.set(xlim=(low[0] - 1.2, high[0] + 1.2), ylim=(low[1] - 1.3, high[1] + 1.3), aspect="equal")
    ax.axis("off")


def draw_corridor(ax: Axes, *, n_states: int = 5, exit_pays: str = "") -> None:
    """Draw the corridor: right is solid, left is dashed, and pushing against the right wall earns 1.

    If `exit_pays` is given, pushing against the left wall leads out of the corridor and is paid that.
    """
    states = [str(state) for state in range(n_states)]
    places = {state: (2.0 * i, 0.0) for i, state in enumerate(states)}
    arrows = [Arrow(states[-1], states[-1], "+1", bend=1)]
    for left, right in pairwise(states):
        arrows += [Arrow(left, right, bend=0.3), Arrow(right, left, dashed=True, bend=0.3)]
    if exit_pays:
        places["exit"] = (-2.2, 0.0)
        arrows.append(Arrow("0", "exit", exit_pays, dashed=True, bend=0.3))
    else:
        arrows.append(Arrow("0", "0", "0", dashed=True, bend=1))
    draw_states(ax, places, arrows)


def _draw_arrow(ax: Axes, start: Point, end: Point, arrow: Arrow, font_size: float) -> None:
    colour, style = ("C1", "--") if arrow.dashed else ("C0", "-")
    begin, finish = np.array(start), np.array(end)
    if arrow.start == arrow.end:
        side = -1.0 if arrow.bend < 0 else 1.0
        begin, finish = begin + np.array([-0.22, 0.4 * side]), finish + np.array([0.22, 0.4 * side])
        rad, middle = -1.7 * side, np.array([start[0], start[1] + 1.05 * side])
    else:
        along = (finish - begin) / np.linalg.norm(finish - begin)
        across = np.array([-along[1], along[0]])
        middle = (begin + finish) / 2 + across * (arrow.bend * np.linalg.norm(finish - begin) / 2 + (0.2 if arrow.bend >= 0 else -0.2))
        lift = across * np.sign(arrow.bend) * 0.15
        begin, finish = begin + along * (RADIUS - 0.02) + lift, finish - along * (RADIUS + 0.06) + lift
        rad = -arrow.bend
    ax.add_patch(
        FancyArrowPatch(
            tuple(begin),
            tuple(finish),
            arrowstyle="-|>",
            mutation_scale=12,
            linestyle=style,
            color=colour,
            shrinkA=0,
            shrinkB=0,
            connectionstyle=f"arc3,rad={rad}",
        )
    )
    if arrow.label:
        ax.text(middle[0], middle[1], arrow.label, ha="center", va="center", fontsize=font_size - 1, color=colour)


def draw_vector(
    ax: Axes, start: Point, end: Point, label: str, *, colour: str = "C0", style: str = "-", offset: Point = (0.0, 0.0)
) -> None:
    """Draw an arrow from `start` to `end` with `label` at its end, moved by `offset`."""
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, linewidth=1.8, color=colour, linestyle=style, shrinkA=0, shrinkB=0)
    )
    ax.text(end[0] + offset[0], end[1] + offset[1], label, ha="center", va="center", color=colour)


def draw_upper_and_lower(upper_labels: Sequence[str], lower_label: str) -> Axes:
    """Draw a row of upper states above one lower state, with the solid and the dashed action.

    Solid arrows lead from every state to the lower one; dashed arrows, drawn from the lower state only, to every upper one.
    """
    _, ax = plt.subplots(figsize=(7.2, 3.2))
    width = 1.25
    upper = [(width * (i - (len(upper_labels) - 1) / 2), 2.2) for i in range(len(upper_labels))]
    lower = (0.0, 0.0)

    def arrow(start: tuple[float, float], end: tuple[float, float], style: str, bend: float) -> None:
        colour = "C0" if style == "-" else "C1"
        ax.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=12,
                linestyle=style,
                color=colour,
                shrinkA=24,
                shrinkB=26,
                connectionstyle=f"arc3,rad={bend}",
            )
        )

    for place in upper:
        arrow(place, lower, "-", 0.12)
        arrow(lower, place, "--", 0.12)
    ax.add_patch(
        FancyArrowPatch((0.25, -0.30), (-0.25, -0.30), arrowstyle="-|>", mutation_scale=12, color="C0", connectionstyle="arc3,rad=-1.9")
    )
    for place, label in zip([*upper, lower], [*upper_labels, lower_label], strict=True):
        ax.add_patch(Circle(place, RADIUS, facecolor="white", edgecolor="black", linewidth=1.2, zorder=3))
        ax.text(*place, label, ha="center", va="center", fontsize=8, color="black", zorder=4)
    ax.set(xlim=(upper[0][0] - 0.6, upper[-1][0] + 0.6), ylim=(-1.1, 2.75), aspect="equal")
    ax.axis("off")
    return ax
