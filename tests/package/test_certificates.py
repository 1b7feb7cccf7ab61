"""`certificates`: norms in which a set of matrices contracts, and bounds on their joint spectral radius."""

import subprocess
import sys

import numpy as np
import pytest
from deadly_triad.certificates import joint_spectral_bounds, quadratic_certificate, weighted_sup_certificate
from deadly_triad.fixed_point import EUCLIDEAN, SUP, Norm
from deadly_triad.stability import spectral_radius
from hypothesis import given, settings
from hypothesis import strategies as st

from .strategies import generators, matrices

TURNS = np.array([[[0.0, 1.0], [-0.8, 0.0]], [[0.0, 0.8], [-1.0, 0.0]]])  # powers tend to 0, the product has the eigenvalue -1


def stacks(rng, m, n):
    return rng.standard_normal((m, n, n))


@given(matrices())
def test_for_one_matrix_the_best_weighted_sup_norm_gives_the_spectral_radius_of_its_absolute_values(matrix):
    certificate = weighted_sup_certificate(matrix[None])
    assert certificate.modulus == pytest.approx(spectral_radius(np.abs(matrix)), rel=1e-6)
    assert certificate.norm.of_matrix(matrix) == certificate.modulus


@given(generators, st.integers(2, 6))
def test_a_periodic_matrix_has_its_best_norm_too(rng, n):
    # A cycle with factors: its powers return to multiples of the identity, and plain power iteration goes round for ever.
    factors = np.exp(rng.normal(size=n))
    cycle = np.roll(np.diag(factors), 1, axis=1)
    assert weighted_sup_certificate(cycle[None]).modulus == pytest.approx(np.prod(factors) ** (1 / n), rel=1e-6)
    assert weighted_sup_certificate(np.array([[[0.0, 2.0], [0.5, 0.0]]])).modulus == pytest.approx(1, rel=1e-9)


@given(generators, st.integers(1, 4), st.integers(1, 5))
def test_no_other_weights_are_better(rng, m, n):
    stack = stacks(rng, m, n)
    certificate = weighted_sup_certificate(stack)
    for _ in range(20):
        weights = np.exp(rng.normal(scale=rng.choice([0.01, 1.0]), size=n)) / np.diag(certificate.norm.scale)
        assert max((np.abs(M) @ weights / weights).max() for M in stack) >= certificate.modulus * (1 - 1e-7)
    assert certificate.modulus <= max(SUP.of_matrix(M) for M in stack) * (1 + 1e-12)


def test_where_the_best_weights_vanish_the_certificate_comes_close_to_the_infimum():
    # Triangular: the infimum 0.5 is not attained, because the off-diagonal entry wants weights in the ratio 1 to infinity.
    certificate = weighted_sup_certificate(np.array([[[0.5, 1.0], [0.0, 0.5]]]), max_steps=20_000)
    assert 0.5 < certificate.modulus < 0.52


@given(generators, st.integers(2, 5), st.floats(1e-3, 1.0))
def test_the_power_iteration_does_not_mind_small_steps(rng, n, step_size):
    matrix = np.eye(n) - step_size * (np.eye(n) + 0.3 * rng.standard_normal((n, n)) / n)
    certificate = weighted_sup_certificate(matrix[None], max_steps=300)
    assert (1 - certificate.modulus) / step_size == pytest.approx((1 - spectral_radius(np.abs(matrix))) / step_size, abs=1e-6)


@settings(max_examples=25)
@given(matrices(max_size=4), st.floats(0.3, 0.98))
def test_for_one_matrix_a_quadratic_norm_is_found_exactly_if_the_spectral_radius_is_below_one(matrix, radius):
    matrix = matrix / spectral_radius(matrix)
    certificate = quadratic_certificate(radius * matrix[None])
    assert certificate is not None
    assert spectral_radius(radius * matrix) <= certificate.modulus * (1 + 1e-12)  # for one row the two are equal, up to rounding
    assert certificate.modulus < 1
    # The matrix may be far from normal; the norm is what is looked at, and not the solver's word.
    assert certificate.norm.of_matrix(radius * matrix) == certificate.modulus
    assert quadratic_certificate(matrix[None] / radius) is None


def test_a_pair_that_is_stable_one_by_one_and_not_together_has_no_common_norm():
    assert all(quadratic_certificate(M[None]) is not None for M in TURNS)
    assert quadratic_certificate(TURNS) is None
    assert weighted_sup_certificate(TURNS).modulus == pytest.approx(1)
    shrunk = quadratic_certificate(0.99 * TURNS)
    assert shrunk is not None
    assert shrunk.modulus < 1


def test_a_quadratic_norm_is_found_for_small_steps_too():
    G = np.array([[1.0, 2.0], [-2.0, 1.0]])
    for step_size in (1e-2, 1e-3):
        certificate = quadratic_certificate((np.eye(2) - step_size * G)[None])
        assert certificate is not None
        assert 1 - certificate.modulus == pytest.approx(step_size, rel=0.1)


@settings(max_examples=25)
@given(generators, st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_the_bounds_enclose_the_radius_of_every_longer_product_and_come_closer(rng, m, n, length):
    stack, norm = stacks(rng, m, n), Norm(2, np.eye(n) + 0.1 * rng.standard_normal((n, n)))
    low, high = joint_spectral_bounds(stack, norm, length)
    assert low <= high * (1 + 1e-12)
    longer = joint_spectral_bounds(stack, norm, length + 1)
    assert low <= longer[0] * (1 + 1e-12)
    assert longer[1] <= high * (1 + 1e-12)
    product = np.eye(n)
    for k in (picks := rng.integers(m, size=7)):
        product = product @ stack[k]
    assert spectral_radius(product) ** (1 / len(picks)) <= high * (1 + 1e-9)


def test_the_lower_bound_needs_products():
    assert joint_spectral_bounds(TURNS, EUCLIDEAN, 1)[0] == pytest.approx(np.sqrt(0.8))
    assert joint_spectral_bounds(TURNS, EUCLIDEAN, 2) == pytest.approx((1, 1))


def test_for_symmetric_matrices_the_two_bounds_meet_at_once():
    rng = np.random.default_rng(0)
    stack = stacks(rng, 3, 4)
    stack = stack + stack.transpose(0, 2, 1)
    low, high = joint_spectral_bounds(stack, EUCLIDEAN, 1)
    assert low == pytest.approx(high, rel=1e-12)


def test_the_package_waits_with_the_solver_until_it_is_asked_for():
    code = "import sys, deadly_triad.certificates; sys.exit('clarabel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("call", [weighted_sup_certificate, quadratic_certificate, lambda stack: joint_spectral_bounds(stack, SUP, 1)])
@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (np.ones((2, 2)), r"matrices must have shape \(m, n, n\), got \(2, 2\)"),
        (np.ones((1, 2, 3)), r"matrices must have shape \(m, n, n\)"),
        (np.ones((0, 2, 2)), r"matrices must have shape \(m, n, n\)"),
        (np.full((1, 2, 2), np.nan), "matrices must be finite"),
    ],
)
def test_what_is_no_stack_of_square_matrices_is_refused(call, stack, message):
    with pytest.raises(ValueError, match=message):
        call(stack)


def test_too_short_and_too_many_products_are_refused():
    for length, message in (
        (0, "length must be at least 1, got 0"),
        (17, "length must make at most 100000 products of 2 matrices, got 17"),
    ):
        with pytest.raises(ValueError, match=message):
            joint_spectral_bounds(TURNS, SUP, length)


def test_a_solver_that_gives_up_is_no_certificate(monkeypatch):
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.max_iter, settings.verbose = 1, False
    monkeypatch.setattr(clarabel, "DefaultSettings", lambda: settings)
    assert quadratic_certificate(0.5 * np.eye(2)[None]) is None


@pytest.mark.parametrize("H", [-np.eye(2), np.full((2, 2), np.nan)])
def test_what_a_solver_calls_a_norm_and_is_none_is_no_certificate(monkeypatch, H):
    monkeypatch.setattr("deadly_triad.certificates._solve_lyapunov", lambda _matrices: (H, 0.1))
    assert quadratic_certificate(np.zeros((1, 2, 2))) is None


def test_without_the_solver_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "clarabel", None)
    with pytest.raises(ImportError, match=r'pip install "deadly-triad\[certificates\]"'):
        quadratic_certificate(0.5 * np.eye(2)[None])
