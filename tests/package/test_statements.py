"""The labelled statements of the chapters, one test at least for each, with a hypothesis dropped to see the statement fail.

A test names the statement that it checks in its mark `states`; a label of a chapter without such a test fails `tests/book`.
"""

from fractions import Fraction

import numpy as np
import pytest
from deadly_triad.examples import baird, baird_boundary, chain, random_policy, w_to_2w, w_to_2w_boundary
from deadly_triad.fixed_point import SUP, a_posteriori_bound, a_priori_bound, iterate, modulus_lower_bound
from deadly_triad.linear_td import LinearTD, expected_iteration, expected_update, linear_td, projection, td_fixed_point
from deadly_triad.mdp import policy_transitions, recurrent_classes, stationary_distribution
from deadly_triad.stability import analyse_stability, contraction_norm, spectral_radius
from hypothesis import assume, given
from hypothesis import strategies as st

from .strategies import generators, matrices, mdps_with_policy, systems

DISCOUNTS = st.floats(0, 0.999)
INNER = st.floats(0.01, 0.99)


def is_definite(G):
    return bool(np.linalg.eigvalsh(G + G.T)[0] > 0)


def with_features(system, features):
    return LinearTD(features, system.weighting, system.transitions, system.rewards, system.discount)


# --- Contraction maps ------------------------------------------------------------------------------------------------


@pytest.mark.states("thm-banach")
@given(generators, st.floats(0.05, 0.95), st.floats(-10, 10))
def test_a_contraction_reaches_one_fixed_point_from_everywhere_within_the_bounds(rng, modulus, start):
    # f(x) = c + modulus * tanh(x) is a contraction of the line that is not linear.
    shift = rng.normal()
    trace = iterate(lambda x: shift + modulus * np.tanh(x), np.array([start]), tolerance=1e-15, max_steps=2000)
    other = iterate(lambda x: shift + modulus * np.tanh(x), np.array([-start + 1]), tolerance=1e-15, max_steps=2000)
    limit = trace.points[-1]
    assert limit == pytest.approx(other.points[-1], abs=1e-12)
    assert limit == pytest.approx(shift + modulus * np.tanh(limit), abs=1e-13)
    rounding = 1e-13
    for n in range(1, trace.n_steps):
        error = SUP(trace.points[n] - limit)
        assert error <= a_priori_bound(modulus, trace.step_norms[0], n) + rounding
        assert error <= a_posteriori_bound(modulus, trace.step_norms[n - 1]) + rounding


@pytest.mark.states("thm-banach")
def test_banachs_theorem_fails_on_the_rationals_which_are_not_complete():
    x = Fraction(1)
    for _ in range(7):
        previous, x = x, x / 2 + 1 / x
        assert x != previous
        assert x * x != 2
    # Heron's rule has modulus 1/2 on [1, 2], so the iterates are a Cauchy sequence; its limit is not in the space.
    assert abs(x - previous) < Fraction(1, 10**20)


@pytest.mark.states("thm-banach")
@pytest.mark.parametrize(
    "f",
    [lambda x: x + 1, lambda x: np.sqrt(1 + x**2)],
    ids=["modulus 1", "strictly but not uniformly below 1"],
)
def test_banachs_theorem_fails_without_a_modulus_below_one(f):
    pairs = np.linspace(-50, 50, 41)[:, None]
    assert modulus_lower_bound(f, pairs) > 0.999
    trace = iterate(f, np.array([0.0]), max_steps=2000)
    assert trace.outcome == "stopped"
    assert np.all(np.diff(trace.points[:, 0]) > 0)  # still on its way


@pytest.mark.states("thm-some-norm")
@given(matrices(), st.floats(0.05, 0.95), st.floats(0.01, 0.99))
def test_below_spectral_radius_one_there_is_a_norm_for_each_modulus_above_it(matrix, radius, place):
    assume(spectral_radius(matrix) > 1e-3)
    matrix = matrix * radius / spectral_radius(matrix)
    modulus = radius + place * (1 - radius)
    norm = contraction_norm(matrix, modulus)
    assert norm.of_matrix(matrix) <= modulus * (1 + 1e-9)
    # No norm has a smaller modulus than the spectral radius.
    assert norm.of_matrix(matrix) >= radius * (1 - 1e-9)


@pytest.mark.states("thm-some-norm")
def test_with_spectral_radius_one_there_is_no_such_norm():
    rotation = np.array([[0.0, -1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="modulus"):
        contraction_norm(rotation, 0.999)
    # A contraction in some norm would bring this iteration to its fixed point 0.
    assert iterate(lambda x: rotation @ x, np.array([1.0, 0.0]), max_steps=1000).outcome == "stopped"


@pytest.mark.states("thm-sequence")
@given(generators, st.floats(0.5, 0.99))
def test_a_sequence_of_contractions_with_one_fixed_point_obeys_the_product_bound(rng, modulus):
    moduli = rng.uniform(0, modulus, 40)
    centre, x = rng.normal(size=3), rng.normal(size=3)
    start, product = SUP(x - centre), 1.0
    for beta in moduli:
        permuted = rng.permutation(3)
        x = centre + beta * np.sin(x - centre)[permuted]  # sine has Lipschitz constant 1 and keeps 0
        product *= beta
        assert SUP(x - centre) <= product * start * (1 + 1e-9) + 1e-15
    assert SUP(x - centre) <= modulus**40 * start * (1 + 1e-9) + 1e-15


@pytest.mark.states("thm-sequence")
def test_moduli_below_one_are_not_enough_nor_is_a_product_to_zero_without_a_common_fixed_point():
    n = 3000
    k = np.arange(n)
    assert np.prod(1 - 1 / (k + 2) ** 2) == pytest.approx((n + 2) / (2 * (n + 1)), rel=1e-11)  # stays above 1/2
    assert np.prod(1 - 1 / (k + 2)) == pytest.approx(1 / (n + 1), rel=1e-11)  # the sum of 1/(k + 2) is infinite
    x = 0.0
    for step in range(201):
        x, previous = (x / 2 if step % 2 == 0 else x / 2 + 1), x
    assert (x, previous) == pytest.approx((2 / 3, 4 / 3), abs=1e-12)


# --- Linear off-policy TD --------------------------------------------------------------------------------------------


@pytest.mark.states("prop-expected-td")
@given(mdps_with_policy(), generators)
def test_the_mean_of_the_off_policy_update_is_the_matrix_form(drawn, rng):
    mdp, target = drawn
    behaviour, weighting = random_policy(rng, mdp), rng.dirichlet(np.ones(mdp.n_states))
    features = rng.standard_normal((mdp.n_states, 2))
    theta = rng.standard_normal(2)

    def mean_update(ratio):
        mean = np.zeros(2)
        for s, a, t in np.ndindex(mdp.transitions.shape):
            td_error = mdp.rewards[s, a] + mdp.discount * features[t] @ theta - features[s] @ theta
            mean += weighting[s] * behaviour[s, a] * mdp.transitions[s, a, t] * ratio[s, a] * td_error * features[s]
        return mean

    P, rewards = policy_transitions(mdp, target), np.sum(target * mdp.rewards, axis=1)
    D = np.diag(weighting)
    matrix_form = features.T @ D @ rewards - features.T @ D @ (np.eye(mdp.n_states) - mdp.discount * P) @ features @ theta
    np.testing.assert_allclose(mean_update(target / behaviour), matrix_form, atol=1e-11)


@pytest.mark.states("prop-expected-td")
def test_without_the_importance_ratio_the_mean_is_that_of_the_behaviour_policy():
    mdp = chain()
    target, behaviour = np.tile([0.2, 0.8], (5, 1)), np.tile([0.6, 0.4], (5, 1))
    d = stationary_distribution(policy_transitions(mdp, behaviour))
    uncorrected = sum(
        d[s] * behaviour[s, a] * mdp.transitions[s, a, t] * (mdp.discount * (t + 1) - (s + 1)) * (s + 1)
        for s, a, t in np.ndindex(mdp.transitions.shape)
    )  # the feature is the number of the state, from 1, the parameter 1; rewards only shift both
    feature = np.arange(1.0, 6.0)[:, None]
    assert -uncorrected == pytest.approx(linear_td(mdp, feature, target=behaviour, weighting=d).A.item(), rel=1e-12)
    assert abs(-uncorrected - linear_td(mdp, feature, target=target, weighting=d).A.item()) > 0.1


@pytest.mark.states("thm-largest-step")
@given(matrices(), st.floats(1e-3, 0.9))
def test_a_step_settles_exactly_below_the_largest_stable_step(matrix, share):
    eigenvalues = np.linalg.eigvals(matrix)
    assume(np.abs(eigenvalues.real).min() > 1e-3)
    identity = np.eye(len(matrix))
    if np.all(eigenvalues.real > 0):
        largest = np.min(2 * eigenvalues.real / np.abs(eigenvalues) ** 2)
        assert analyse_stability(matrix).largest_stable_step == pytest.approx(largest, rel=1e-9)
        assert spectral_radius(identity - share * largest * matrix) < 1
        assert spectral_radius(identity - (1 + share) * largest * matrix) > 1
    else:
        for step in np.geomspace(1e-6, 1e3, 10):
            assert spectral_radius(identity - step * matrix) > 1


@pytest.mark.states("thm-largest-step")
def test_no_negative_eigenvalue_is_needed_for_divergence_nor_do_positive_ones_prevent_it():
    cycle = LinearTD(
        np.array([[3.0, -2.0], [1.0, 0.0], [2.0, 0.0]]), np.array([0.1, 0.2, 0.7]), np.roll(np.eye(3), 1, axis=1), np.zeros(3), 0.9
    )
    eigenvalues = np.linalg.eigvals(cycle.A)
    assert np.all(eigenvalues.imag != 0)  # none is real, so none is negative
    assert analyse_stability(cycle.A).verdict == "unstable"
    settled = w_to_2w(0.1).off_policy
    too_large = 1.01 * 2 / settled.A.item()
    assert settled.A.item() > 0
    assert expected_iteration(settled, np.ones(1), step_size=too_large, n_steps=30_000).outcome == "diverged"


@pytest.mark.states("prop-null-directions")
@given(systems(), generators)
def test_null_directions_never_move_and_the_spectrum_in_values_is_the_same(system, rng):
    wide = with_features(system, np.hstack([system.features, system.features @ rng.standard_normal((system.features.shape[1], 2))]))
    null = np.linalg.svd(wide.features)[2][np.linalg.matrix_rank(wide.features) :].T
    scale = np.abs(wide.A).max() + np.abs(wide.b).max()
    for zero in (wide.A @ null, null.T @ wide.A, null.T @ wide.b):
        assert np.abs(zero).max() < 1e-11 * scale
    in_values = wide.features @ wide.features.T @ wide.key_matrix
    # Equal non-zero eigenvalues with multiplicity: the characteristic polynomials differ by a power of z only.
    z, n, k = 1.7 * (1 + np.abs(in_values).sum()), len(in_values), wide.features.shape[1]
    left = np.linalg.slogdet(z * np.eye(k) - wide.A)[1] - k * np.log(z)
    right = np.linalg.slogdet(z * np.eye(n) - in_values)[1] - n * np.log(z)
    assert left == pytest.approx(right, abs=1e-11)


@pytest.mark.states("thm-key-matrix")
@given(systems())
def test_positive_row_and_column_sums_prove_definiteness_and_that_proves_stability(system):
    G = system.key_matrix
    if np.all(G.sum(axis=0) + G.sum(axis=1) > 1e-12):
        assert is_definite(G)
    if is_definite(G):
        assert np.linalg.eigvals(system.A).real.min() > -1e-12 * np.abs(system.A).max()
    # On-policy the column sums are those of the theorem.
    assume(len(recurrent_classes(system.transitions)) == 1)
    own = LinearTD(system.features, stationary_distribution(system.transitions), system.transitions, system.rewards, system.discount)
    np.testing.assert_allclose(own.key_matrix.sum(axis=0), (1 - own.discount) * own.weighting, atol=1e-12)
    if own.weighting.min() > 1e-6:
        assert is_definite(own.key_matrix)


@pytest.mark.states("thm-key-matrix")
def test_a_negative_column_sum_allows_an_indefinite_key_matrix_and_divergence():
    system = baird().off_policy
    assert system.key_matrix.sum(axis=0).min() < 0
    assert not is_definite(system.key_matrix)
    assert analyse_stability(system.A).verdict == "unstable"


@pytest.mark.states("thm-every-feature")
@given(systems(), generators)
def test_the_key_matrix_is_definite_exactly_when_no_feature_is_unstable(system, rng):
    G = system.key_matrix
    values, vectors = np.linalg.eigh(G + G.T)
    assume(abs(values[0]) > 1e-9)
    worst = with_features(system, vectors[:, :1])  # the single feature of least x' G x
    if values[0] > 0:
        assert worst.A.item() > 0
        features = rng.standard_normal((len(G), rng.integers(1, len(G) + 1)))
        assert np.linalg.eigvals(features.T @ G @ features).real.min() > 0
    else:
        assert analyse_stability(worst.A).verdict == "unstable"


@pytest.mark.states("prop-nested-regions")
@given(st.floats(0.02, 0.98), st.floats(0.001, 0.5))
def test_the_four_thresholds_on_two_states_are_where_the_four_conditions_change_and_nested(discount, distance):
    thresholds = [
        discount,
        discount / (2 - discount),
        (discount / (2 - discount)) ** 2,
        (2 * discount - 1) / (3 - 2 * discount),
    ]
    assert np.all(np.diff(thresholds) < 0)
    for which, threshold in enumerate(thresholds):
        for p, above in ((threshold + distance * (1 - threshold), True), (threshold * (1 - distance), False)):
            if not 0 < p < 1:
                continue
            system = w_to_2w(discount, p).off_policy
            G = system.key_matrix
            holds = [
                np.all(G.sum(axis=0) > 0),
                np.all(G.sum(axis=0) + G.sum(axis=1) > 0),
                is_definite(G),
                analyse_stability(system.A).verdict == "stable",
            ]
            assert bool(holds[which]) is above


@pytest.mark.states("prop-projected-bellman")
@given(systems())
def test_the_td_fixed_point_is_the_fixed_point_of_the_projected_operator_and_no_other_point_is(system):
    eigenvalues = np.linalg.eigvals(system.A)
    assume(np.abs(eigenvalues).min() > 1e-3)
    theta = td_fixed_point(system)
    Pi = projection(system)

    def residual(theta):
        values = system.features @ theta
        return np.abs(Pi @ (system.rewards + system.discount * system.transitions @ values) - values).max()

    assert residual(theta) < 1e-7 * (1 + np.abs(system.features @ theta).max())
    assert residual(theta + 1) > 1e-6


@pytest.mark.states("thm-on-policy")
@given(systems())
def test_on_policy_the_projected_operator_contracts_and_the_fixed_point_is_near_the_best_fit(system):
    assume(len(recurrent_classes(system.transitions)) == 1)
    d = stationary_distribution(system.transitions)
    assume(d.min() > 1e-3)
    own = LinearTD(system.features, d, system.transitions, system.rewards, system.discount)
    root = np.sqrt(d)

    def modulus(matrix):
        return np.linalg.norm(root[:, None] * matrix / root[None, :], 2)

    assert modulus(own.transitions) <= 1 + 1e-10
    Pi, true = projection(own), own.true_values
    assert modulus(Pi @ (own.discount * own.transitions)) <= own.discount + 1e-9
    distance = np.linalg.norm(root * (own.features @ td_fixed_point(own) - true))
    best = np.linalg.norm(root * (Pi @ true - true))
    assert distance <= best / np.sqrt(1 - own.discount**2) * (1 + 1e-7) + 1e-7 * np.abs(true).max()


@pytest.mark.states("thm-on-policy")
def test_off_policy_the_projected_operator_may_expand_and_the_fixed_point_be_far_from_the_best_fit():
    near_the_pole = w_to_2w(0.9, 2 / 3 + 1e-4).off_policy
    paid = LinearTD(near_the_pole.features, near_the_pole.weighting, near_the_pole.transitions, np.array([0.0, 1.0]), 0.9)
    root = np.sqrt(paid.weighting)
    Pi = projection(paid)
    assert np.linalg.norm(root[:, None] * (Pi @ (0.9 * paid.transitions)) / root[None, :], 2) > 1
    distance = np.linalg.norm(root * (paid.features @ td_fixed_point(paid) - paid.true_values))
    best = np.linalg.norm(root * (Pi @ paid.true_values - paid.true_values))
    assert distance > 1000 * best / np.sqrt(1 - 0.9**2)


@pytest.mark.states("prop-tabular")
@given(systems(), st.floats(0.01, 1))
def test_a_table_contracts_in_the_sup_norm_with_the_stated_modulus(system, share):
    table = with_features(system, np.eye(len(system.weighting)))
    step = share / table.weighting.max()
    modulus = np.linalg.norm(expected_update(table, step), np.inf)
    assert modulus == pytest.approx(1 - step * (1 - table.discount) * table.weighting.min(), rel=1e-12)
    assert np.linalg.eigvals(table.A).real.min() > 0


@pytest.mark.states("prop-tabular")
def test_a_table_without_coverage_keeps_its_start_and_one_with_too_large_a_step_diverges():
    to_the_lower = baird().off_policy.transitions
    blind = LinearTD(np.eye(7), np.array([0.5, 0.5, 0, 0, 0, 0, 0]), to_the_lower, np.zeros(7), 0.99)
    end = expected_iteration(blind, np.arange(1.0, 8.0), step_size=1.0, n_steps=2000).points[-1]
    np.testing.assert_array_equal(end[2:], np.arange(3.0, 8.0))
    np.testing.assert_allclose(end[:2], 0.99 * 7, atol=1e-9)
    covered = LinearTD(np.eye(7), np.full(7, 1 / 7), to_the_lower, np.zeros(7), 0.99)
    assert expected_iteration(covered, np.ones(7), step_size=15.0, n_steps=4000).outcome == "diverged"


# --- Baird's counterexample ------------------------------------------------------------------------------------------


@pytest.mark.states("thm-baird-boundary")
@given(DISCOUNTS, INNER, st.integers(1, 12))
def test_the_spectrum_of_the_counterexample_is_the_closed_form(discount, p, m):
    eigenvalues = np.linalg.eigvals(baird(discount, p, m).off_policy.A)
    u = (1 - p) / m
    t = (m + 4 - 2 * m * discount) * u + 5 * p * (1 - discount)
    q = (m + 20) * u * p * (1 - discount)
    expected = np.concatenate([np.full(m - 1, 4 * u), np.roots([1, -t, q]), [0]])
    # Power sums fix a set of eigenvalues with multiplicity, and are far better conditioned than matching them one by one.
    for power in range(1, m + 3):
        size = np.sum(np.abs(expected) ** power)
        assert abs(np.sum(eigenvalues**power) - np.sum(expected**power)) < 1e-10 * size


@pytest.mark.states("thm-baird-boundary")
@given(DISCOUNTS, st.integers(1, 12), st.floats(1e-4, 0.99))
def test_it_settles_exactly_above_the_boundary(discount, m, distance):
    boundary = baird_boundary(discount, m)
    above = analyse_stability(baird(discount, boundary + distance * (1 - boundary), m).off_policy.A)
    assert above.largest_stable_step > 0
    if boundary * (1 - distance) > 0:
        assert analyse_stability(baird(discount, boundary * (1 - distance), m).off_policy.A).largest_stable_step == 0


@pytest.mark.states("thm-baird-boundary")
def test_the_classic_one_diverges_from_discount_15_17_on():
    assert baird_boundary(15 / 17) == pytest.approx(1 / 7, rel=1e-12)
    assert analyse_stability(baird(15 / 17 - 1e-6).off_policy.A).verdict == "semistable"
    assert analyse_stability(baird(15 / 17 + 1e-6).off_policy.A).verdict == "unstable"
    # On the boundary two eigenvalues are imaginary, and no step settles.
    on_it = analyse_stability(baird(15 / 17).off_policy.A)
    assert on_it.verdict == "unstable"
    assert on_it.error_factor(1e-2) > 1


@pytest.mark.states("prop-baird-key")
@given(st.floats(0.05, 0.99), st.integers(1, 10), st.floats(1e-3, 0.99))
def test_the_key_matrix_of_the_counterexample_has_the_two_stated_thresholds(discount, m, distance):
    for threshold, holds in (
        (discount, lambda G: bool(np.all(G.sum(axis=0) > 0))),
        ((discount / (2 - discount)) ** 2, is_definite),
    ):
        assert holds(baird(discount, threshold + distance * (1 - threshold), m).off_policy.key_matrix)
        assert not holds(baird(discount, threshold * (1 - distance), m).off_policy.key_matrix)


@pytest.mark.states("thm-w-to-2w")
@given(DISCOUNTS, INNER)
def test_w_to_2w_settles_exactly_above_its_boundary_and_below_its_largest_step(discount, p):
    system = w_to_2w(discount, p).off_policy
    A = (1 - p) * (1 - 2 * discount) + 4 * p * (1 - discount)
    assume(abs(A) > 1e-6)
    assert system.A.item() == pytest.approx(A, abs=1e-14)
    assert (A > 0) is (p > w_to_2w_boundary(discount))
    if A > 0:
        assert abs(expected_update(system, 1.99 / A).item()) < 1 < abs(expected_update(system, 2.01 / A).item())
    else:
        assert abs(expected_update(system, 1e-3).item()) > 1
