"""`episodes`: records with marks that are right, and each way of getting them wrong."""

import numpy as np
import pytest
from deadly_triad.episodes import read_episodes


def record(lengths, dimension=2):
    """Observations before and after each step of episodes of these lengths, and where each episode is over."""
    rng = np.random.default_rng(0)
    walks = [np.cumsum(rng.standard_normal((length + 1, dimension)), axis=0) for length in lengths]
    over = np.zeros(sum(lengths), bool)
    over[np.cumsum(lengths) - 1] = True
    return np.concatenate([w[:-1] for w in walks]), np.concatenate([w[1:] for w in walks]), over


FALLS = (3, 7, 20, 12, 31)
LIMITED = (3, 50, 50, 50)


def test_right_marks_are_found_right():
    before, after, over = record((5, 7, 50, 12, 50))
    ends = over & ~np.isin(np.arange(len(over)), [61, 123])
    found = read_episodes(before, after, ends, over & ~ends)
    assert found.ordered
    assert (found.ends.tolist(), found.cuts.tolist(), found.unmarked.tolist()) == ([7, 12], [50, 50], [])
    assert found.faults == []
    assert str(found) == "4 episodes over: 2 ends after 7 to 12 steps, 2 cuts after 50 steps"


def test_cuts_that_are_counted_as_ends_are_seen():
    before, after, over = record(LIMITED)
    assert "3 ends come after exactly 50 steps" in read_episodes(before, after, over).faults[0]
    # Also among real ends, as long as they are the longest.
    before, after, over = record((3, 50, 12, 50, 7, 50))
    assert "3 ends come after exactly 50 steps" in read_episodes(before, after, over).faults[0]
    # What is marked as a cut too is one.
    assert read_episodes(before, after, over, over).ends.size == 0
    before, after, over = record(FALLS)
    assert read_episodes(before, after, over).faults == []


def test_ends_that_are_counted_as_cuts_are_seen():
    before, after, over = record(FALLS)
    nothing = np.zeros_like(over)
    for ends, cuts in ((nothing, over), (nothing, nothing), (nothing, None)):
        found = read_episodes(before, after, ends, cuts)
        assert "they look like ends, after which nothing may be bootstrapped" in found.faults[0]
    before, after, over = record(LIMITED)
    assert read_episodes(before, after, np.zeros_like(over), over).faults == []
    assert read_episodes(before, after, np.zeros_like(over)).faults == []


@pytest.mark.parametrize("kind", ["ends", "cuts"])
def test_a_mark_inside_an_episode_is_seen(kind):
    before, after, over = record((30,))
    marked = np.arange(30) == 12
    marks = {"ends": np.zeros_like(over), "cuts": np.zeros_like(over)} | {kind: marked}
    found = read_episodes(before, after, **marks)
    assert found.going_on.tolist() == [12]
    (fault,) = found.faults
    assert fault.startswith(f"1 rows are marked as {kind} and the next row goes on from them")


def test_the_last_row_counts_where_it_has_a_mark():
    before, after, over = record((4, 6))
    assert read_episodes(before, after, over).ends.tolist() == [6]
    over[-1] = False
    found = read_episodes(before, after, over)
    assert found.ends.size == 0
    assert str(found) == "0 episodes over"


def test_what_stands_after_an_end_is_not_looked_at():
    before, after, over = record(FALLS)
    after[over] = np.nan
    assert read_episodes(before, after, over).ends.tolist() == [7, 20, 12, 31]


def test_rows_out_of_order_say_nothing():
    before, after, over = record(LIMITED)
    mixed = np.random.default_rng(0).permutation(len(over))
    found = read_episodes(before[mixed], after[mixed], over[mixed])
    assert not found.ordered
    assert found.faults == []
    assert str(found) == "the rows are not in order, so ends and cuts cannot be checked"
    assert not read_episodes(before[:1], after[:1], over[:1]).ordered


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.full((4, 2), np.nan)}, "observations must be finite"),
        ({"next_observations": np.zeros((3, 2))}, r"next_observations must have the shape of observations, \(4, 2\), got \(3, 2\)"),
        ({"ends": np.zeros(4)}, r"ends must be 4 booleans, one a transition, got shape \(4,\) of float64"),
        ({"cuts": np.zeros(3, bool)}, r"cuts must be 4 booleans, one a transition, got shape \(3,\) of bool"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused(changes, message):
    told = {"observations": np.zeros((4, 2)), "next_observations": np.zeros((4, 2)), "ends": np.zeros(4, bool)} | changes
    with pytest.raises(ValueError, match=message):
        read_episodes(**told)
