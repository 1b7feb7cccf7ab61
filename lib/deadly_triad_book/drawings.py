"""Pictures that are drawn rather than plotted."""

from collections.abc import Sequence

from deadly_triad_book import book_extra

with book_extra():
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.patches import Circle, FancyArrowPatch

RADIUS = 0.42


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
