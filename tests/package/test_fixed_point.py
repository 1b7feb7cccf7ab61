"""`fixed_point`: norms, iteration, Banach's bounds."""

import itertools

import numpy as np
import pytest
from deadly_triad.fixed_point import (
    EUCLIDEAN,
    SUP,
    Norm,
    a_posteriori_bound,
    a_priori_bound,
    check_finite,
    check_square,
    iterate,
    modulus_lower_bound,
    weighted_sup_norm,
)
from hypothesis import given
from hypothesis import strategies as st

from .strategies import ORDERS, generators, matrices, norms

L = np.array([[2.0, 1.0], [0.0, -1.0]])


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (Norm(1), 3 + 4),
        (EUCLIDEAN, 5),
        (SUP, 4),
        (Norm(1, L), 2 + 4),
        (Norm(2, L), np.sqrt([3, -4] @ (L.T @ L) @ [3, -4])),
        (Norm(np.inf, L), 4),
        (weighted_sup_norm(np.array([0.5, 8.0])), 3 / 0.5),
    ],
)
def test_each_norm_of_the_family_has_its_textbook_value(norm, expected):
    assert norm(np.array([3.0, -4.0])) == pytest.approx(expected, rel=1e-15)
    assert norm(np.array([[3.0], [-4.0]])) == norm(np.array([3.0, -4.0]))


@given(data=st.data(), matrix=matrices(), rng=generators)
def test_no_vector_is_stretched_by_more_than_the_induced_norm(data, matrix, rng):
    norm = data.draw(norms(len(matrix)))
    for x in rng.standard_normal((20, len(matrix))):
        assert norm(matrix @ x) <= norm.of_matrix(matrix) * norm(x) * (1 + 1e-12)


@given(data=st.data(), matrix=matrices())
def test_the_induced_norm_is_attained_at_an_extreme_point_of_the_unit_ball(data, matrix):
    norm, n = data.draw(norms(len(matrix))), len(matrix)
    scale = np.eye(n) if norm.scale is None else norm.scale
    if norm.order == 2:  # a top eigenvector of M' H M in the geometry of H = L' L
        inverse = np.linalg.inv(scale)
        extreme = [np.linalg.eigh(inverse.T @ matrix.T @ scale.T @ scale @ matrix @ inverse)[1][:, -1]]
    else:
        extreme = np.eye(n) if norm.order == 1 else np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    stretched = max(norm(matrix @ np.linalg.solve(scale, x)) for x in extreme)
    assert norm.of_matrix(matrix) == pytest.approx(stretched, rel=1e-12)


def test_the_modulus_belongs_to_the_map_and_the_norm():
    matrix = np.array([[0.5, 1.0], [0.0, 0.5]])
    assert SUP.of_matrix(matrix) == 1.5
    assert weighted_sup_norm(np.array([4.0, 1.0])).of_matrix(matrix) == 0.5 + 1 / 4


@pytest.mark.parametrize("order", [0, 3, -np.inf, np.nan])
def test_a_norm_of_another_order_is_refused(order):
    with pytest.raises(ValueError, match="order must be 1, 2 or inf"):
        Norm(order)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (np.ones(2), "scale must be a square matrix"),
        (np.ones((2, 3)), "scale must be a square matrix"),
        (np.ones((0, 0)), "scale must be a square matrix"),
        (np.diag([1, np.nan]), "scale must be finite"),
        (np.ones((2, 2)), "scale must be invertible"),
    ],
)
def test_a_scale_that_makes_no_norm_is_refused(scale, message):
    with pytest.raises(ValueError, match=message):
        Norm(2, scale)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.inf, np.nan])
def test_a_weight_that_is_not_positive_and_finite_is_refused(weight):
    with pytest.raises(ValueError, match="weights must be positive and finite"):
        weighted_sup_norm(np.array([1.0, weight]))


# --- iteration ---------------------------------------------------------------------------------------------------------------------------


def test_halving_the_distance_to_2_converges_when_the_step_reaches_the_tolerance():
    trace = iterate(lambda x: 0.5 * x + 1, np.zeros((1, 1)), tolerance=2.0**-10)
    t = np.arange(12)
    assert trace.outcome == "converged"
    assert trace.n_steps == 11
    np.testing.assert_array_equal(trace.points[:, 0, 0], 2 - 2 * 0.5**t)  # dyadic, hence exact in floating point
    np.testing.assert_array_equal(trace.step_norms, 0.5 ** t[:-1])
    np.testing.assert_array_equal(trace.limit, trace.points[-1])


def test_steps_and_points_are_measured_in_the_given_norm():
    start = np.ones(4)
    assert iterate(lambda x: 0.5 * x, start, norm=Norm(1), max_steps=1).step_norms == 4 * 0.5
    assert iterate(lambda x: 2 * x, start, norm=SUP, ceiling=4, max_steps=2).outcome == "stopped"
    assert iterate(lambda x: 2 * x, start, norm=Norm(1), ceiling=4, max_steps=2).outcome == "diverged"


def test_a_point_above_the_ceiling_ends_the_run_and_is_kept():
    trace = iterate(lambda x: 2 * x, np.ones(1), ceiling=2.0**10)
    assert trace.outcome == "diverged"
    np.testing.assert_array_equal(trace.points[:, 0], 2.0 ** np.arange(12))
    # A fixed point beyond the ceiling has diverged, although its step is 0.
    assert iterate(lambda x: x, np.full(1, 2.0**11), ceiling=2.0**10).outcome == "diverged"


@pytest.mark.parametrize(
    ("f", "start", "kept"),
    [
        (lambda x: x * x, 10.0, 10.0**2 ** np.arange(9)),  # 10^256 is finite, 10^512 is not
        (lambda x: -3 * x, 0.5e308, np.array([0.5e308, -1.5e308])),  # whose difference, -2e308, is not
        (lambda x: x - np.sqrt(-x), 1.0, np.array([1.0])),  # NaN at once
    ],
)
def test_a_point_that_is_not_finite_ends_the_run_and_is_not_kept(f, start, kept):
    trace = iterate(f, np.array([start]), ceiling=np.inf)
    assert trace.outcome == "diverged"
    np.testing.assert_allclose(trace.points[:, 0], kept, rtol=1e-14)


def test_a_point_whose_norm_overflows_has_diverged_even_if_it_is_fixed():
    # The products with the scale are infinite and alternate in sign: their sum is a NaN where they are summed by lanes, and then not above
    # the ceiling.
    n = 16
    alternating = (np.ones((n, n)) + np.eye(n)) * (-1.0) ** np.arange(n)
    trace = iterate(lambda x: np.full_like(x, 1e200), np.ones(n), norm=Norm(2, 1e200 * alternating))
    assert (trace.outcome, trace.n_steps) == ("diverged", 1)


def test_a_run_that_does_not_settle_stops_after_the_allowed_steps_and_has_no_limit():
    trace = iterate(lambda x: -x, np.ones(1), max_steps=7)
    assert (trace.outcome, trace.n_steps) == ("stopped", 7)
    np.testing.assert_array_equal(trace.points[:, 0], (-1.0) ** np.arange(8))
    with pytest.raises(ValueError, match="the iteration stopped after 7 steps and has no limit"):
        _ = trace.limit


def test_with_tolerance_0_only_an_exact_fixed_point_converges():
    assert iterate(lambda x: x + np.where(x < 5, 1, 0), np.zeros(1), tolerance=0).n_steps == 6
    assert iterate(lambda x: x + 1e-9, np.zeros(1), tolerance=0, max_steps=9).outcome == "stopped"


def test_a_map_that_works_in_place_or_reuses_its_result_is_iterated_like_any_other():
    buffer = np.empty(1)

    def halve_in_place(x):
        x *= 0.5
        return x

    for f in (halve_in_place, lambda x: np.multiply(x, 0.5, out=buffer)):
        np.testing.assert_array_equal(iterate(f, np.ones(1), max_steps=5).points[:, 0], 0.5 ** np.arange(6))


@given(data=st.data(), matrix=matrices(), rng=generators)
def test_a_trace_is_an_orbit_and_its_outcome_is_what_the_orbit_did(data, matrix, rng):
    offset, start = rng.standard_normal((2, len(matrix)))
    norm, ceiling, tolerance, max_steps = data.draw(norms(len(matrix))), 1e3, 1e-3, 100

    def f(x):
        return matrix @ x + offset

    trace = iterate(f, start, norm=norm, tolerance=tolerance, max_steps=max_steps, ceiling=ceiling)
    np.testing.assert_array_equal(trace.points[0], start)
    np.testing.assert_array_equal(trace.points[1:], [f(x) for x in trace.points[:-1]])
    np.testing.assert_array_equal(trace.step_norms, [norm(x) for x in np.diff(trace.points, axis=0)])
    beyond, settled = [norm(x) > ceiling for x in trace.points[1:]], trace.step_norms <= tolerance
    assert not any(beyond[:-1])
    assert not any(settled[:-1])
    assert trace.outcome == ("diverged" if beyond[-1] else "converged" if settled[-1] else "stopped")
    assert trace.n_steps == max_steps or trace.outcome != "stopped"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": np.array([np.nan])}, "start must be finite"),
        ({"tolerance": -1.0}, "tolerance must be at least 0"),
        ({"tolerance": np.nan}, "tolerance must be at least 0"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"f": lambda x: np.append(x, x)}, r"f must keep the shape \(1,\), got \(2,\)"),
    ],
)
def test_an_iteration_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        iterate(**({"f": np.cos, "start": np.ones(1)} | change))


# --- Banach's bounds ---------------------------------------------------------------------------------------------------------------------


@given(data=st.data(), matrix=matrices(), rng=generators, modulus=st.floats(0.01, 0.95))
def test_banachs_bounds_hold_and_the_later_one_is_never_the_larger(data, matrix, rng, modulus):
    norm = data.draw(norms(len(matrix)))
    matrix = matrix * (modulus / norm.of_matrix(matrix))
    offset, start = rng.standard_normal((2, len(matrix)))
    trace = iterate(lambda x: matrix @ x + offset, start, norm=norm, max_steps=50)
    limit = np.linalg.solve(np.eye(len(matrix)) - matrix, offset)
    rounding = 1e-13 * (1 + norm(limit)) / (1 - modulus)
    for n in range(1, trace.n_steps + 1):
        before, after = a_priori_bound(modulus, trace.step_norms[0], n), a_posteriori_bound(modulus, trace.step_norms[n - 1])
        assert norm(trace.points[n] - limit) <= after + rounding
        assert after <= before + rounding


@pytest.mark.parametrize("modulus", [0.0, 0.5, 0.9])
def test_banachs_bounds_are_exact_for_a_scaling_and_fail_with_a_modulus_that_is_too_small(modulus):
    points = modulus ** np.arange(20.0)
    steps = -np.diff(points)
    for n in range(1, 20):
        assert a_priori_bound(modulus, steps[0], n) == pytest.approx(points[n], rel=1e-14)
        assert a_posteriori_bound(modulus, steps[n - 1]) == pytest.approx(points[n], rel=1e-14)
        if modulus:
            assert a_priori_bound(0.9 * modulus, steps[0], n) < points[n]
            assert a_posteriori_bound(0.9 * modulus, steps[n - 1]) < points[n]


def test_a_map_that_shrinks_every_distance_but_has_no_modulus_below_1_need_not_converge():
    trace = iterate(lambda x: x + 1 / x, np.ones(1), max_steps=1000)
    assert trace.outcome == "stopped"
    # x_{t+1}^2 = x_t^2 + 2 + 1 / x_t^2: no limit, however small the steps.
    assert trace.points[-1, 0] ** 2 > 1 + 2 * 1000
    assert trace.step_norms[-1] < 1 / np.sqrt(2 * 1000)


@pytest.mark.parametrize("modulus", [-0.1, 1.0, np.nan])
def test_a_modulus_outside_0_to_1_bounds_nothing_and_is_refused(modulus):
    for call in (lambda: a_priori_bound(modulus, 1.0, 1), lambda: a_posteriori_bound(modulus, 1.0)):
        with pytest.raises(ValueError, match=r"modulus must lie in \[0, 1\)"):
            call()


@pytest.mark.parametrize("step", [-1.0, np.nan])
def test_negative_steps_are_refused(step):
    with pytest.raises(ValueError, match="first_step must be at least 0"):
        a_priori_bound(0.5, step, 1)
    with pytest.raises(ValueError, match="last_step must be at least 0"):
        a_posteriori_bound(0.5, step)
    with pytest.raises(ValueError, match="n_steps must be at least 0"):
        a_priori_bound(0.5, 1.0, -1)


# --- measured modulus --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@given(matrix=matrices(max_size=4), rng=generators)
def test_sampled_pairs_never_overstate_the_modulus_of_a_linear_map(order, matrix, rng):
    norm = Norm(order)
    # Integers, no two alike: points that nearly coincide would measure rounding.
    points = rng.permutation(np.arange(30.0))[: 6 * len(matrix)].reshape(6, len(matrix))
    measured = modulus_lower_bound(lambda x: matrix @ x, points, norm)
    assert measured == pytest.approx(max(norm(matrix @ (x - y)) / norm(x - y) for x, y in itertools.combinations(points, 2)), rel=1e-12)
    assert measured <= norm.of_matrix(matrix) * (1 + 1e-12)
    if order == 1:  # the unit vectors are maximisers, so with them the bound is attained
        with_maximisers = np.vstack([np.zeros(len(matrix)), np.eye(len(matrix))])
        assert modulus_lower_bound(lambda x: matrix @ x, with_maximisers, norm) == pytest.approx(norm.of_matrix(matrix), rel=1e-12)


def test_the_measured_modulus_of_the_cosine_is_that_of_the_steepest_pair_and_repeated_points_do_not_matter():
    n = 20
    grid = np.linspace(0, 1, n + 1)[:, None]
    # cos x - cos y = 2 sin((x + y) / 2) sin((y - x) / 2), steepest between the last two points.
    steepest = 2 * np.sin(1 - 1 / (2 * n)) * np.sin(1 / (2 * n)) * n
    assert modulus_lower_bound(np.cos, np.vstack([grid, grid])) == pytest.approx(steepest, rel=1e-12)


def test_points_without_two_distinct_ones_are_refused():
    for points in (np.ones((1, 2)), np.ones((3, 2))):
        with pytest.raises(ValueError, match="points must hold at least two distinct points"):
            modulus_lower_bound(np.cos, points)
    with pytest.raises(ValueError, match="points must be finite"):
        modulus_lower_bound(np.cos, np.array([[0.0], [np.inf]]))


# --- refusals --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [np.nan, np.inf, -np.inf])
def test_entries_that_are_not_finite_are_refused_by_name(entry):
    with pytest.raises(ValueError, match="some_array must be finite"):
        check_finite("some_array", np.array([[1.0, entry]]))
    with pytest.raises(ValueError, match="some_matrix must be finite"):
        check_square("some_matrix", np.array([[entry]]))
