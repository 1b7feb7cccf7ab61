r"""Where recorded episodes end, and whether what the record says of it can be true.

A transition after which nothing follows (an *end*) has the reward alone as its target. One after which somebody stopped looking (a *cut*: a
time limit, as a rule) bootstraps from what was seen last. Taking the one for the other changes the fixed point of the update, and no figure
of the network shows it. The record does, as long as its rows are in the order in which they were made: an episode goes on where the next
row begins with what this row saw last. A time limit cuts all episodes at one length, and an end comes when it comes.

Three episodes that end, each at its time, and three that a time limit of 50 steps cuts off. The first one is not counted, for the record
may begin in its middle:

>>> def record(lengths):
...     seen = [i + 100.0 * k for k, length in enumerate(lengths) for i in range(length)]
...     return np.array(seen)[:, None], np.array(seen)[:, None] + 1, np.isin(np.arange(len(seen)), np.cumsum(lengths) - 1)
>>> print(read_episodes(*record([9, 7, 20, 12])))
3 episodes over: 3 ends after 7 to 20 steps
>>> print(read_episodes(*record([9, 50, 50, 50])))
3 episodes over: 3 ends after 50 steps
     3 ends come after exactly 50 steps: they look like cuts by a time limit, and a cut must be bootstrapped through
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from deadly_triad._checks import Numbers, check_finite

SEVERAL = 3
"""So many episodes of one kind, or lengths, are no accident."""


@dataclass(frozen=True, eq=False)
class Episodes:
    """What a record says of its episodes; `print` it.

    Attributes:
        ordered: whether the rows follow each other; if not, nothing else can be told.
        ends: lengths of the episodes that are marked as ended, in order.
        cuts: lengths of those that are marked as cut.
        unmarked: lengths of those that are over without a mark, and so are bootstrapped through like a cut.
        going_on: rows with a mark from which the next row goes on, by number.
        marked_end: which of those are marked as ends.
    """

    ordered: bool
    ends: Int[np.ndarray, " a"]
    cuts: Int[np.ndarray, " b"]
    unmarked: Int[np.ndarray, " c"]
    going_on: Int[np.ndarray, " d"]
    marked_end: Bool[np.ndarray, " d"]

    @property
    def faults(self) -> list[str]:
        """What looks wrong, a sentence each; none is a proof."""
        if not self.ordered:
            return []
        found = []
        longest = int(self.ends.max(initial=0))
        if (at_limit := int(np.sum(self.ends == longest))) >= SEVERAL:
            found.append(
                f"{at_limit} ends come after exactly {longest} steps: they look like cuts by a time limit, "
                "and a cut must be bootstrapped through"
            )
        bootstrapped = np.concatenate([self.cuts, self.unmarked])
        if len(np.unique(bootstrapped)) >= SEVERAL:
            found.append(
                f"{len(bootstrapped)} cuts come after {_span(bootstrapped)} steps: a time limit cuts at one length, so they look like "
                "ends, after which nothing may be bootstrapped"
            )
        for what, rows in (("ends", self.going_on[self.marked_end]), ("cuts", self.going_on[~self.marked_end])):
            if len(rows):
                found.append(
                    f"{len(rows)} rows are marked as {what} and the next row goes on from them: either they are none, or their next "
                    "observation is the first one of another episode"
                )
        return found

    def __str__(self) -> str:
        if not self.ordered:
            return "the rows are not in order, so ends and cuts cannot be checked"
        kinds = {"ends": self.ends, "cuts": self.cuts, "without a mark": self.unmarked}
        parts = [f"{len(lengths)} {kind} after {_span(lengths)} steps" for kind, lengths in kinds.items() if len(lengths)]
        total = sum(len(lengths) for lengths in kinds.values())
        return "\n".join([f"{total} episodes over" + (": " + ", ".join(parts) if parts else ""), *(f"     {f}" for f in self.faults)])


def read_episodes(
    observations: Numbers[np.ndarray, "n d"],
    next_observations: Numbers[np.ndarray, "n d"],
    ends: Bool[np.ndarray, " n"],
    cuts: Bool[np.ndarray, " n"] | None = None,
) -> Episodes:
    """Find the episodes of a record and compare them with its marks.

    The first one is not counted, for the record may begin in its middle; nor is what is not over in the last row.

    Args:
        observations: what was seen before each action, in the order in which it was seen.
        next_observations: what was seen after it. NaN after an end is fine.
        ends: which transitions are marked as ends.
        cuts: which are marked as cut off; a row that has both marks is a cut.

    Raises:
        ValueError: if the shapes do not fit or an observation is not finite.
    """
    before = check_finite("observations", observations)
    n = len(np.atleast_1d(before))
    after, ends = np.asarray(next_observations, float), np.asarray(ends)
    cuts = np.zeros(n, bool) if cuts is None else np.asarray(cuts)
    if after.shape != before.shape:
        raise ValueError(f"next_observations must have the shape of observations, {before.shape}, got {after.shape}")
    for name, marks in (("ends", ends), ("cuts", cuts)):
        if marks.shape != (n,) or marks.dtype != bool:
            raise ValueError(f"{name} must be {n} booleans, one a transition, got shape {marks.shape} of {marks.dtype}")
    same = np.isclose(after.reshape(n, -1)[:-1], before.reshape(n, -1)[1:], rtol=1e-5, atol=1e-7).all(axis=1)
    over = np.append(~same, False) | (np.append(np.zeros(n - 1, bool), True) & (ends | cuts))
    rows = np.flatnonzero(over)
    lengths = np.diff(rows)  # from the second episode on
    cut, end = cuts[rows[1:]], (ends & ~cuts)[rows[1:]]
    going_on = np.flatnonzero(np.append(same, False) & (ends | cuts))
    ordered = n > 1 and bool(same.mean() >= 0.5)
    return Episodes(ordered, lengths[end], lengths[cut], lengths[~cut & ~end], going_on, (ends & ~cuts)[going_on])


def _span(lengths: Int[np.ndarray, " k"]) -> str:
    low, high = int(lengths.min()), int(lengths.max())
    return f"{low}" if low == high else f"{low} to {high}"
