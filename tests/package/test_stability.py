"""`stability`: the verdict on x -> x - step_size (M x - c)."""

import numpy as np
import pytest
import scipy.linalg
from deadly_triad.fixed_point import EUCLIDEAN, iterate
from deadly_triad.stability import analyse_stability, check_step_size, contraction_norm, spectral_radius
from hypothesis import assume, given
from hypothesis import strategies as st

from .strategies import generators, matrices, rotation

STEPS = np.logspace(-6, 3, 40)
ROTATION = np.array([[0.0, 1.0], [-1.0, 0.0]])
JORDAN = np.diag([1.0, 1.0], k=1)  # one block of size 3, eigenvalue 0


def update(matrix, step_size):
    return np.eye(len(matrix)) - step_size * matrix


# --- stable ------------------------------------------------------------------------------------------------------------------------------


@given(matrix=matrices(), margin=st.floats(0.01, 10))
def test_with_all_eigenvalues_to_the_right_of_0_exactly_the_steps_below_the_largest_stable_step_contract(matrix, margin):
    matrix = matrix + (margin - np.linalg.eigvals(matrix).real.min()) * np.eye(len(matrix))
    stability = analyse_stability(matrix)
    assert (stability.verdict, stability.n_null) == ("stable", 0)
    for fraction in (1e-3, 0.5, 1 - 1e-6):
        assert spectral_radius(update(matrix, fraction * stability.largest_stable_step)) < 1
    for fraction in (1 + 1e-6, 2, 1e3):
        assert spectral_radius(update(matrix, fraction * stability.largest_stable_step)) > 1


@given(matrix=matrices(), margin=st.floats(0.01, 10))
def test_with_an_eigenvalue_to_the_left_of_0_no_step_contracts(matrix, margin):
    matrix = matrix - (margin + np.linalg.eigvals(matrix).real.min()) * np.eye(len(matrix))
    stability = analyse_stability(matrix)
    assert (stability.verdict, stability.largest_stable_step) == ("unstable", 0)
    assert all(spectral_radius(update(matrix, step)) > 1 for step in STEPS)


@pytest.mark.parametrize(("real", "imaginary"), [(1, 0), (3, 4), (0.01, 1)])
@given(rng=generators)
def test_the_largest_stable_step_of_a_damped_rotation_is_2_re_over_modulus_squared(real, imaginary, rng):
    basis = rotation(rng, 3)
    matrix = basis @ scipy.linalg.block_diag(real * np.eye(2) + imaginary * ROTATION, real) @ basis.T
    stability = analyse_stability(matrix)
    assert stability.largest_stable_step == pytest.approx(2 * real / (real**2 + imaginary**2), rel=1e-10)
    np.testing.assert_allclose(stability.eigenvalues.real, real, rtol=1e-12)
    np.testing.assert_allclose(np.sort(stability.eigenvalues.imag), [-imaginary, 0, imaginary], atol=1e-12)


@given(matrix=matrices(), exponent=st.integers(-12, 12))
def test_a_rescaled_matrix_gets_the_same_verdict_and_the_inverse_step(matrix, exponent):
    plain, rescaled = analyse_stability(matrix), analyse_stability(2.0**exponent * matrix)
    assert (plain.verdict, plain.n_null) == (rescaled.verdict, rescaled.n_null)
    assert rescaled.largest_stable_step == pytest.approx(plain.largest_stable_step / 2.0**exponent, rel=1e-12)


@given(matrix=matrices())
def test_the_eigenvalues_are_sorted_and_have_the_trace_and_determinant_of_the_matrix(matrix):
    eigenvalues = analyse_stability(matrix).eigenvalues
    assert np.all(np.diff(eigenvalues.real) >= 0)
    assert abs(eigenvalues.sum() - np.trace(matrix)) < 1e-12
    assert abs(eigenvalues.prod() - np.linalg.det(matrix)) < 1e-12 * np.linalg.norm(matrix, 2) ** len(matrix)


# --- null directions ---------------------------------------------------------------------------------------------------------------------


@given(rng=generators, n_null=st.integers(1, 3), n_moving=st.integers(1, 3), step_size=st.floats(0.1, 1.9))
def test_a_projection_is_semistable_and_the_iteration_keeps_the_null_part_of_its_start(rng, n_null, n_moving, step_size):
    n = n_null + n_moving
    basis = rotation(rng, n) + 0.1 * rng.standard_normal((n, n))  # not orthogonal, so the projection is oblique
    assume(np.linalg.cond(basis) < 100)
    matrix = basis @ np.diag([0.0] * n_null + [1.0] * n_moving) @ np.linalg.inv(basis)
    stability = analyse_stability(matrix)
    assert (stability.verdict, stability.n_null) == ("semistable", n_null)
    assert stability.largest_stable_step == pytest.approx(2, rel=1e-10)
    assert stability.error_factor(step_size) == pytest.approx(abs(1 - step_size), abs=1e-10)
    start = rng.standard_normal(n)
    trace = iterate(lambda x: update(matrix, step_size) @ x, start, tolerance=1e-13)
    np.testing.assert_allclose(trace.limit, start - matrix @ start, atol=1e-11)


@given(rng=generators)
def test_a_zero_eigenvalue_that_lacks_an_eigenvector_is_unstable_in_every_basis(rng):
    start = np.array([0.0, 0.0, 1.0])
    # The iteration drifts: (I - M)^t x = x - t M x + t (t - 1) / 2 M^2 x.
    np.testing.assert_array_equal(
        iterate(lambda x: update(JORDAN, 1.0) @ x, start, max_steps=10).points[:, 0], [t * (t - 1) / 2 for t in range(11)]
    )
    for block in (JORDAN, JORDAN[:2, :2]):
        stability = analyse_stability(block)
        assert (stability.verdict, stability.n_null, stability.largest_stable_step) == ("unstable", len(block), 0)
        # In another basis rounding splits the zero eigenvalue into a ring of radius eps^(1/m), part of which lies on the left or at 0.
        matrix = scipy.linalg.block_diag(block, np.eye(2))
        basis = rotation(rng, len(matrix))
        assert analyse_stability(basis @ matrix @ basis.T).verdict == "unstable"


def test_the_zero_matrix_moves_nothing_at_any_step():
    stability = analyse_stability(np.zeros((3, 3)))
    assert (stability.verdict, stability.n_null, stability.largest_stable_step) == ("semistable", 3, np.inf)
    assert stability.error_factor(5.0) == 0


@pytest.mark.parametrize("speed", [1e-6, 1, 1e6])
def test_eigenvalues_on_the_imaginary_axis_are_unstable_and_a_little_damping_mends_that(speed):
    for matrix in (speed * ROTATION, scipy.linalg.block_diag(speed * ROTATION, speed)):
        stability = analyse_stability(matrix)
        assert (stability.verdict, stability.n_null, stability.largest_stable_step) == ("unstable", 0, 0)
    for step in STEPS:
        assert spectral_radius(update(ROTATION, step)) == pytest.approx(np.sqrt(1 + step**2), rel=1e-12)
    assert analyse_stability(speed * (ROTATION + 1e-6 * np.eye(2))).verdict == "stable"


def test_the_null_tolerance_is_relative_to_the_largest_singular_value():
    for size in (1e-20, 1, 1e20):
        matrix = size * np.diag([1e-11, 1.0])
        assert (analyse_stability(matrix).verdict, analyse_stability(matrix).n_null) == ("semistable", 1)
        assert analyse_stability(matrix, null_tolerance=1e-12).verdict == "stable"


# --- speed -------------------------------------------------------------------------------------------------------------------------------


@given(rng=generators, step_size=st.floats(0.01, 1.5))
def test_the_error_factor_is_the_spectral_radius_off_the_null_space(rng, step_size):
    moving = rng.standard_normal((3, 3))  # on both sides of 0: the factor is defined, and above 1, for an unstable matrix too
    assume(abs(np.linalg.eigvals(moving)).min() > 1e-3)
    basis = rotation(rng, 5)
    matrix = basis @ scipy.linalg.block_diag(np.zeros((2, 2)), moving) @ basis.T
    stability = analyse_stability(matrix)
    assert stability.n_null == 2
    assert stability.error_factor(step_size) == pytest.approx(spectral_radius(update(moving, step_size)), rel=1e-10)


def test_the_error_of_a_run_shrinks_by_the_error_factor_at_each_step():
    basis = rotation(np.random.default_rng(0), 3)
    matrix, step_size = basis @ np.diag([0.3, 1.0, 2.0]) @ basis.T, 0.5  # factors 0.85, 0.5 and 0
    errors = [EUCLIDEAN(x) for x in iterate(lambda x: update(matrix, step_size) @ x, basis.sum(axis=1), max_steps=60, tolerance=0).points]
    assert analyse_stability(matrix).error_factor(step_size) == pytest.approx(0.85, rel=1e-12)
    # The second factor has died out after 50 steps: (0.5 / 0.85)^100 < 1e-23 in the square of the norm.
    np.testing.assert_allclose(np.divide(errors[51:], errors[50:-1]), 0.85, rtol=1e-12)


@pytest.mark.parametrize("step_size", [0.0, -1.0, np.inf, np.nan])
def test_a_step_size_that_is_not_positive_and_finite_is_refused(step_size):
    for call in (check_step_size, analyse_stability(np.eye(1)).error_factor):
        with pytest.raises(ValueError, match="step_size must be positive and finite"):
            call(step_size)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("call", [analyse_stability, spectral_radius, contraction_norm])
@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)), "matrix must be a square matrix"),
        (np.ones((0, 0)), "matrix must be a square matrix"),
        (np.array([[np.nan]]), "matrix must be finite"),
    ],
)
def test_a_matrix_that_is_not_finite_and_square_is_refused(call, matrix, message):
    with pytest.raises(ValueError, match=message):
        call(matrix)


# --- norms in which a matrix contracts ---------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 6), radius=st.floats(0.5, 2))
def test_the_spectral_radius_of_the_companion_matrix_of_x_to_the_n_minus_r_to_the_n_is_r(n, radius):
    matrix = scipy.linalg.companion([1.0] + [0.0] * (n - 1) + [-(radius**n)])
    assert spectral_radius(matrix) == pytest.approx(radius, rel=1e-10)


@given(matrix=matrices(max_size=12), radius=st.floats(0, 0.95), place=st.none() | st.floats(0.1, 0.9))
def test_the_contraction_norm_contracts_with_the_given_modulus(matrix, radius, place):
    matrix = matrix * (radius / spectral_radius(matrix))
    modulus = None if place is None else radius + place * (1 - radius)
    norm = contraction_norm(matrix, modulus)
    modulus = (spectral_radius(matrix) + 1) / 2 if modulus is None else modulus
    assert norm.of_matrix(matrix) < modulus
    # Stein's equation, read as ||M x||_H^2 = modulus^2 (||x||_H^2 - ||x||_2^2), pins H down completely.
    h = norm.scale.T @ norm.scale
    np.testing.assert_allclose(matrix.T @ h @ matrix, modulus**2 * (h - np.eye(len(h))), atol=1e-9 * np.abs(h).max())


def test_the_contraction_norm_finds_a_contraction_where_the_euclidean_norm_sees_none():
    matrix = np.array([[0.5, 2.0], [0.0, 0.5]])
    assert EUCLIDEAN.of_matrix(matrix) > 2
    assert contraction_norm(matrix, 0.6).of_matrix(matrix) < 0.6


@pytest.mark.parametrize(
    ("radius", "modulus"), [(0.5, 0.5), (0.5, 0.4), (0.5, 1.0), (0.5, 1.5), (0.5, np.nan), (1.0, None), (1.5, None), (1.5, 1.7)]
)
def test_no_contraction_norm_is_made_for_a_modulus_outside_the_spectral_radius_and_1(radius, modulus):
    with pytest.raises(ValueError, match="modulus must lie strictly between the spectral radius"):
        contraction_norm(radius * np.eye(2), modulus)


def test_a_matrix_too_far_from_normal_is_refused_instead_of_a_norm_that_means_nothing():
    with pytest.raises(ValueError, match="matrix must be less far from normal"):
        contraction_norm(np.array([[0.5, 1e8], [0.0, 0.5]]))
