"""The labelled statements on cures, in the manner of `test_statements.py`."""

from dataclasses import replace

import numpy as np
import pytest
from deadly_triad import cures
from deadly_triad.examples import baird, random_mdp, random_policy, w_to_2w
from deadly_triad.kernel_updates import Coupling, kernel_update
from deadly_triad.linear_q import LinearQ
from deadly_triad.linear_td import LinearTD, linear_td, projection, td_fixed_point
from deadly_triad.mdp import importance_ratios, optimal_action_values, optimality_operator, policy_transitions, stationary_distribution
from deadly_triad.stability import analyse_stability, spectral_radius
from hypothesis import assume, given
from hypothesis import strategies as st

from .strategies import generators, mdps_with_policy, systems


def key_matrix(weights, system):
    return weights[:, None] * (np.eye(len(weights)) - system.discount * system.transitions)


def is_definite(G):
    return np.linalg.eigvalsh(G + G.T)[0] > 0


def weighted(x, weights):
    return np.sqrt(weights @ x**2)


# --- Emphatic weighting ----------------------------------------------------------------------------------------------


@pytest.mark.states("thm-emphatic")
@given(systems(), generators)
def test_emphasis_has_the_stated_column_sums_is_definite_contracts_and_bounds_the_error(system, rng):
    interest = rng.uniform(0.1, 2, len(system.weighting))
    f = cures.followon(system.transitions, system.weighting, system.discount, interest)
    G = key_matrix(f, system)
    np.testing.assert_allclose(G.sum(axis=0), system.weighting * interest, rtol=1e-8)
    assert is_definite(G)
    kappa = np.min(system.weighting * interest / f)
    c = np.sqrt(system.discount * (1 - kappa))
    x = rng.standard_normal(len(f))
    assert weighted(system.discount * system.transitions @ x, f) <= c * weighted(x, f) * (1 + 1e-9) + 1e-9
    emphatic = cures.emphatic_td(system, interest)
    assert np.linalg.eigvals(emphatic.A).real.min() > 0
    if np.linalg.cond(emphatic.A) < 1e8:
        truth = emphatic.true_values
        error = weighted(emphatic.features @ td_fixed_point(emphatic) - truth, f)
        best = weighted(projection(emphatic) @ truth - truth, f)
        assert error <= best / np.sqrt(1 - system.discount * (1 - kappa)) * (1 + 1e-6) + 1e-6 * weighted(truth, f)


@pytest.mark.states("thm-emphatic")
def test_the_data_alone_or_the_followon_of_another_policy_do_not_do():
    system = baird().off_policy
    assert is_definite(key_matrix(cures.followon(system.transitions, system.weighting, 0.99), system))
    assert not is_definite(key_matrix(system.weighting, system))
    behaviour = policy_transitions(baird().mdp, baird().behaviour)
    assert not is_definite(key_matrix(cures.followon(behaviour, system.weighting, 0.99), system))
    # Without interest in the upper states they have no weight at all.
    blind = cures.followon(system.transitions, system.weighting, 0.99, np.eye(7)[6])
    assert not is_definite(key_matrix(blind, system))


@pytest.mark.states("prop-followon-moments")
@given(mdps_with_policy(), generators)
def test_the_mean_of_the_trace_is_geometric_and_its_square_is_bounded_exactly_below_the_threshold(drawn, rng):
    mdp, target = drawn
    behaviour = random_policy(rng, mdp)
    assume(behaviour.min() > 1e-3)
    squares = cures.squared_ratio_matrix(mdp, target, behaviour)
    assume(len(mdp.transitions) == 1 or stationary_is_unique(mdp, behaviour))
    growth = mdp.discount**2 * spectral_radius(squares)
    rho_max = importance_ratios(target, behaviour).max()
    assert np.all(squares <= rho_max * policy_transitions(mdp, target) + 1e-12)
    assert growth <= mdp.discount**2 * rho_max * (1 + 1e-9)
    assume(abs(growth - 1) > 0.05)
    mean, square = cures.followon_moments(mdp, target, behaviour, 400 if growth < 2 else int(200 / np.log(growth)))
    expected = (1 - mdp.discount ** np.arange(1, len(mean) + 1)) / (1 - mdp.discount)
    np.testing.assert_allclose(mean, expected, rtol=1e-9)
    half = len(square) // 2
    if growth < 1:
        assert square[-1] / square[-2] < 1.01
    else:
        assert (square[-1] / square[half]) ** (1 / (len(square) - 1 - half)) == pytest.approx(growth, rel=0.03)


def stationary_is_unique(mdp, behaviour):
    try:
        return stationary_distribution(policy_transitions(mdp, behaviour)).min() > 1e-6
    except ValueError:
        return False


@pytest.mark.states("prop-followon-moments")
@given(st.floats(0.05, 0.99), st.floats(0.02, 0.99), st.sampled_from([baird, w_to_2w]))
def test_on_the_classics_the_trace_has_a_variance_only_where_no_features_need_a_cure(discount, p, classic):
    example = classic(discount, p)
    squares = cures.squared_ratio_matrix(example.mdp, example.target, example.behaviour)
    assert spectral_radius(squares) == pytest.approx(1 / p)
    if p > discount**2 * (1 + 1e-9):
        assert is_definite(example.off_policy.key_matrix)
    # Not the other way round: there are definite key matrices without a variance.
    between = classic(discount, discount**2 * (1 + 1 / (2 - discount) ** 2) / 2)
    assert is_definite(between.off_policy.key_matrix)


# --- Gradient TD -----------------------------------------------------------------------------------------------------


@pytest.mark.states("thm-gradient-td")
@given(systems(), st.floats(0.05, 20))
def test_gtd2_is_stable_for_every_ratio_and_tdc_above_its_bound(system, ratio):
    A, C = system.A, cures.covariance(system)
    assume(np.linalg.cond(A) < 1e3)
    assume(np.linalg.cond(C) < 1e3)
    k = len(A)
    assert np.linalg.eigvals(cures.gtd2_matrix(system, ratio)).real.min() > 0
    bound = cures.tdc_ratio(system)
    above = 1.001 * bound + 1e-3
    assert np.linalg.eigvals(cures.tdc_matrix(system, above)).real.min() > 0
    for M, drift in ((cures.gtd2_matrix(system, ratio), 0), (cures.tdc_matrix(system, ratio), 1)):
        fixed = np.linalg.solve(M, np.append(drift * system.b, ratio * system.b))
        np.testing.assert_allclose(fixed, np.append(np.linalg.solve(A, system.b), np.zeros(k)), atol=1e-6 * (1 + np.abs(fixed).max()))
    limit = np.sort(np.linalg.eigvalsh(cures.gradient_td_limit(system)))
    for matrix in (cures.gtd2_matrix, cures.tdc_matrix):
        slow = np.sort(np.linalg.eigvals(matrix(system, 1e7)).real)[:k]
        np.testing.assert_allclose(slow, limit, rtol=1e-2, atol=1e-5 * limit[-1])


@pytest.mark.states("thm-gradient-td")
@given(st.floats(0.55, 0.99), st.floats(0.02, 0.9))
def test_with_one_feature_the_bound_of_tdc_is_exact_and_the_ratios_bound_it(discount, p):
    system = w_to_2w(discount, p).off_policy
    bound = -system.A[0, 0] / cures.covariance(system)[0, 0]
    assume(bound > 1e-3)
    assert cures.tdc_ratio(system) == pytest.approx(bound)
    assert bound <= discount / np.sqrt(p) - 1 + 1e-9
    assert analyse_stability(cures.tdc_matrix(system, 1.001 * bound)).verdict == "stable"
    assert analyse_stability(cures.tdc_matrix(system, 0.999 * bound)).verdict == "unstable"
    assert analyse_stability(cures.gtd2_matrix(system, 0.999 * bound)).verdict == "stable"


@pytest.mark.states("thm-gradient-td")
def test_without_an_invertible_a_gtd2_does_not_forget_its_start():
    # w -> 2w on its boundary: A = 0.
    system = w_to_2w(0.99, 0.98 / 1.02).off_policy
    assert abs(system.A[0, 0]) < 1e-12
    assert np.abs(np.linalg.eigvals(cures.gtd2_matrix(system, 1.0))).min() < 1e-9


# --- Target networks -------------------------------------------------------------------------------------------------


@pytest.mark.states("thm-frozen-target")
@given(mdps_with_policy(), generators, st.integers(1, 8), st.integers(1, 5), st.floats(0.05, 1.9))
def test_a_cycle_is_one_step_with_another_kernel_for_the_maximum_too(drawn, rng, n, k, share):
    mdp = drawn[0]
    size = mdp.rewards.size
    problem = LinearQ(mdp, rng.standard_normal((size, k)), rng.dirichlet(np.ones(size)))
    Phi, D = problem.features, np.diag(problem.weighting)
    C = Phi.T @ D @ Phi
    alpha = share / np.linalg.eigvalsh(C)[-1]
    theta = rng.standard_normal(k)
    q = problem.values(theta)
    inner = theta
    for _ in range(n):
        inner = inner + alpha * Phi.T @ D @ (optimality_operator(mdp, q).ravel() - Phi @ inner)
    S = alpha * sum(np.linalg.matrix_power(np.eye(k) - alpha * C, j) for j in range(n))
    scale = 1 + np.abs(inner).max()
    np.testing.assert_allclose(theta + S @ problem.field(theta), inner, atol=1e-8 * scale)
    assert np.linalg.eigvalsh(S)[0] > 0
    coupling = Coupling(Phi @ ((S + S.T) / 2) @ Phi.T, problem.weighting)
    by_kernel = kernel_update(lambda x: optimality_operator(mdp, x), q, coupling, 1.0)
    np.testing.assert_allclose(problem.values(inner), by_kernel, atol=1e-8 * scale)
    power = np.linalg.matrix_power(np.eye(size) - alpha * Phi @ Phi.T @ D, n)
    mixed = power @ q.ravel() + (np.eye(size) - power) @ optimality_operator(mdp, q).ravel()
    np.testing.assert_allclose(problem.values(inner).ravel(), mixed, atol=1e-8 * scale)


@pytest.mark.states("thm-frozen-target")
@given(systems(), st.integers(1, 300), st.floats(0.05, 1.9))
def test_no_number_of_inner_steps_mends_a_determinant_of_the_wrong_sign(system, n, share):
    alpha = share / np.linalg.eigvalsh(cures.covariance(system))[-1]
    A = system.A
    cycle = cures.frozen_target_update(system, alpha, n)
    if np.linalg.det(A) <= 0 or np.linalg.eigvalsh(A + A.T)[-1] <= 0:
        assert spectral_radius(cycle) >= 1 - 1e-9


@pytest.mark.states("thm-frozen-target")
def test_many_steps_settle_or_not_with_the_projected_iteration():
    pair = w_to_2w().off_policy
    assert spectral_radius(cures.projected_iteration(pair)) == pytest.approx(1.188)
    assert all(spectral_radius(cures.frozen_target_update(pair, 0.1, n)) > 1 for n in (1, 3, 10, 100, 3000))
    # A positive determinant is not enough either: this one is stable with one inner step and unstable with many.
    mirror = LinearTD(np.array([[1.0], [-2.0]]), np.array([0.95, 0.05]), pair.transitions, np.zeros(2), 0.9)
    assert spectral_radius(cures.projected_iteration(mirror)) > 1
    assert spectral_radius(cures.frozen_target_update(mirror, 0.1, 1)) < 1 < spectral_radius(cures.frozen_target_update(mirror, 0.1, 100))
    rng = np.random.default_rng(0)
    mdp = random_mdp(rng, 4, 2)
    easy = linear_td(mdp, rng.standard_normal((4, 4)), target=random_policy(rng, mdp), weighting=np.full(4, 0.25))
    alpha = 1 / np.linalg.eigvalsh(cures.covariance(easy))[-1]
    assert spectral_radius(cures.frozen_target_update(easy, alpha, 200_000)) == pytest.approx(0.9, abs=1e-3)


@pytest.mark.states("thm-frozen-target")
@given(mdps_with_policy(), generators)
def test_with_a_definite_kernel_long_cycles_contract_to_the_optimal_values(drawn, rng):
    mdp = drawn[0]
    size = mdp.rewards.size
    factor = rng.standard_normal((size, size))
    K, rho = factor @ factor.T / size + np.eye(size), rng.uniform(0.2, 1, size)
    alpha = 1 / np.linalg.eigvalsh(np.sqrt(rho)[:, None] * K * np.sqrt(rho))[-1]
    M = np.eye(size) - alpha * K * rho
    ratio, n = (1 - mdp.discount) / (1 + mdp.discount), 1
    while np.linalg.norm(M, np.inf) >= ratio:
        M, n = M @ M, 2 * n
    modulus = mdp.discount + (1 + mdp.discount) * np.linalg.norm(M, np.inf)
    assert modulus < 1

    def cycle(q):
        return (M @ q.ravel() + (np.eye(size) - M) @ optimality_operator(mdp, q).ravel()).reshape(q.shape)

    first, second = rng.standard_normal((2, *mdp.rewards.shape))
    assert np.abs(cycle(first) - cycle(second)).max() <= modulus * np.abs(first - second).max() + 1e-12
    best = optimal_action_values(mdp)
    np.testing.assert_allclose(cycle(best), best, atol=1e-9 * (1 + np.abs(best).max()))


def star_modulus(discount, step_size, n):
    system = baird(discount).off_policy
    return analyse_stability(cures.inner_steps_matrix(system, step_size, n) @ system.A).error_factor(1.0)


def star_threshold(discount, step_size):
    """By bisection for the root, without the package."""
    slow, fast = -np.log(1 - 2 * step_size / 7), -np.log(1 - 13 * step_size / 7)
    r = fast / slow
    x = np.linspace(1, 4, 400_001)[1:]
    values = 11 * x ** (r + 1) - 15 * discount * x**r + 4 * discount * x - 11 * (1 - discount)
    assert np.count_nonzero(np.diff(np.sign(values))) == 1  # the one root beyond 1
    assert values[0] < 0
    return np.log(x[np.argmax(values > 0)]) / slow


@pytest.mark.states("prop-baird-target")
@given(st.floats(15 / 17, 0.999), st.floats(0.02, 0.53), st.integers(-3, 3))
def test_inner_steps_mend_the_star_exactly_above_the_root(discount, step_size, offset):
    threshold = star_threshold(discount, step_size)
    n = max(1, round(threshold) + offset)
    assume(abs(n - threshold) > 0.02)
    assert (star_modulus(discount, step_size, n) < 1) == (n > threshold)


@pytest.mark.states("prop-baird-target")
def test_the_total_inner_step_has_a_limit_and_so_has_the_modulus():
    for discount in (0.9, 0.99):
        totals = [step * star_threshold(discount, step) for step in (0.01, 0.001)]
        x = np.linspace(1, 3, 2_000_001)[1:]
        values = 11 * x**7.5 - 15 * discount * x**6.5 + 4 * discount * x - 11 * (1 - discount)
        limit = 3.5 * np.log(x[np.argmax(values > 0)])
        assert abs(totals[1] - limit) < abs(totals[0] - limit) < 0.02
        assert star_modulus(discount, 0.3, 3000) == pytest.approx(discount, abs=1e-9)
    # With another pair of counts of upper states and weights the thresholds are others: the equation is that of the classic star.
    other = baird(0.99, 1 / 7, 12).off_policy
    cycle = cures.inner_steps_matrix(other, 0.01, 77) @ other.A
    assert star_modulus(0.99, 0.01, 77) < 1 < analyse_stability(cycle).error_factor(1.0)


@pytest.mark.states("prop-averaged-target")
@given(systems(), st.floats(0.1, 1.9), st.floats(0.01, 1.0))
def test_a_slow_target_asks_for_the_whitened_matrix_and_a_bad_determinant_has_no_cure(system, share, tau):
    A, C = system.A, cures.covariance(system)
    assume(np.linalg.cond(C) < 1e3)
    k, alpha = len(A), share / np.linalg.eigvalsh(C)[-1]
    J = cures.averaged_target_update(system, alpha, tau)
    assert np.linalg.det(np.eye(2 * k) - J) == pytest.approx((alpha * tau) ** k * np.linalg.det(A), rel=1e-6, abs=1e-12)
    if np.linalg.det(A) < 0:
        assert spectral_radius(J) > 1 - 1e-9
    white = np.linalg.eigvals(np.linalg.solve(C, A))
    assume(np.abs(white.real).min() > 1e-3)
    slow = spectral_radius(cures.averaged_target_update(system, alpha, 1e-7))
    assert (slow < 1) == (white.real.min() > 0)


@pytest.mark.states("prop-averaged-target")
def test_following_faster_than_some_rate_does_not_mend_the_star():
    system = baird().off_policy

    def factor(tau):
        J = cures.averaged_target_update(system, 0.1, tau)
        return analyse_stability(np.eye(16) - J).error_factor(1.0)

    assert factor(0.16) < 1 < factor(0.18)


# --- Normalised features ---------------------------------------------------------------------------------------------


def arc(weights, discount):
    Phi = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6]])
    return LinearTD(Phi, np.append(weights, [0.0, 0.0]), np.eye(4)[[2, 3, 1, 0]], np.zeros(4), discount)


@pytest.mark.states("prop-unit-rows")
@given(generators, st.integers(2, 5), st.floats(0, 0.99), st.floats(0.01, 0.99))
def test_unit_rows_make_single_transitions_and_single_features_safe(rng, n, discount, share):
    Phi = rng.standard_normal((n, 3))
    Phi /= np.linalg.norm(Phi, axis=1, keepdims=True)
    K = Phi @ Phi.T
    factors = 1 - share * 2 / (1 + discount) * (1 - discount * K)
    assert np.all(np.abs(factors) < 1)
    P, d = rng.dirichlet(np.ones(n), size=n), rng.dirichlet(np.ones(n))
    single = LinearTD(np.sign(Phi[:, :1]), d, P, np.zeros(n), discount)
    assert single.A[0, 0] > 0
    # Without unit length one transition is enough.
    assert 1 - share * (1 - 0.99 * 2) > 1


@pytest.mark.states("prop-unit-rows")
@given(st.floats(0.05, 0.95), st.floats(0.1, 0.99), st.integers(1, 50))
def test_two_unit_features_diverge_on_the_arc_under_every_weighting_above_five_sevenths(w, discount, n):
    system = arc(np.array([w, 1 - w]), discount)
    np.testing.assert_allclose(np.linalg.norm(system.features, axis=1), 1)
    closed_form = w * (1 - w) * (1 - 1.4 * discount) * (1 + discount / 5)
    assert np.linalg.det(system.A) == pytest.approx(closed_form, abs=1e-12)
    assume(abs(discount - 5 / 7) > 1e-3)
    assert (analyse_stability(system.A).verdict == "unstable") == (discount > 5 / 7)
    if discount > 5 / 7:
        assert spectral_radius(cures.frozen_target_update(system, 0.5, n)) > 1


@pytest.mark.states("prop-unit-rows")
def test_on_its_edge_one_direction_of_the_arc_stands_still():
    assert analyse_stability(arc(np.array([0.5, 0.5]), 5 / 7).A).verdict == "semistable"


@pytest.mark.states("prop-unit-decay")
@given(generators, st.integers(1, 6), st.integers(1, 4), st.floats(0, 0.99))
def test_short_features_bound_how_negative_the_matrix_is_for_all_data(rng, n, k, discount):
    Phi = rng.standard_normal((n, k))
    Phi /= np.linalg.norm(Phi, axis=1, keepdims=True) / rng.uniform(0.1, 1, (n, 1))
    P, d = rng.dirichlet(np.full(n, 0.2), size=n), rng.dirichlet(np.full(n, 0.2))
    A = LinearTD(Phi, d, P, np.zeros(n), discount).A
    assert np.linalg.eigvalsh(A + A.T)[0] / 2 >= -(discount**2) / 4 - 1e-12
    assert analyse_stability(A + (discount**2 / 4 + 1e-6) * np.eye(k)).verdict == "stable"


@pytest.mark.states("prop-unit-decay")
@given(st.floats(0.1, 0.99), st.floats(1.1, 3))
def test_the_bound_is_attained_by_unit_features_and_longer_ones_need_more(discount, length):
    Phi = np.array([[discount / 2, np.sqrt(1 - discount**2 / 4)], [1.0, 0.0]])
    sharp = LinearTD(Phi, np.array([1.0, 0.0]), np.eye(2)[[1, 1]], np.zeros(2), discount)
    assert np.linalg.eigvalsh(sharp.A + sharp.A.T)[0] / 2 == pytest.approx(-(discount**2) / 4, abs=1e-12)
    longer = replace(sharp, features=length * Phi)
    assert np.linalg.eigvalsh(longer.A + longer.A.T)[0] / 2 < -(discount**2) / 4 * 1.2
    # And no decay is enough for all lengths.
    pair = w_to_2w(0.99).off_policy
    assert replace(pair, features=100 * pair.features).A[0, 0] + discount**2 / 4 < 0


@pytest.mark.states("prop-two-forces")
@given(systems(), st.floats(0.05, 1.0), st.integers(1, 50))
def test_where_the_optimisation_is_the_stronger_force_every_cycle_contracts(system, share, n):
    # A smaller discount makes the moving target weak enough.
    C = cures.covariance(system)
    cross = system.features.T @ (system.weighting[:, None] * (system.transitions @ system.features))
    least = np.linalg.eigvalsh(C)[0]
    assume(least > 1e-6)
    weak = replace(system, discount=min(0.99, 0.9 * least / np.linalg.norm(cross, 2)))
    assert np.linalg.norm(C - weak.A, 2) < least
    cycle = cures.frozen_target_update(weak, share / np.linalg.eigvalsh(C)[-1], n)
    assert np.linalg.norm(cycle, 2) < 1


@pytest.mark.states("prop-two-forces")
def test_where_the_target_is_the_stronger_force_a_cycle_may_expand():
    pair = w_to_2w().off_policy
    assert np.linalg.norm(cures.covariance(pair) - pair.A, 2) > np.linalg.eigvalsh(cures.covariance(pair))[0]
    assert np.linalg.norm(cures.frozen_target_update(pair, 0.1, 5), 2) > 1
    # On-policy data do not see to it, and settle all the same.
    rng = np.random.default_rng(0)
    P, Phi = rng.dirichlet(np.ones(4), size=4), rng.standard_normal((4, 3))
    on_policy = LinearTD(Phi, stationary_distribution(P), P, np.zeros(4), 0.9)
    assert np.linalg.norm(cures.covariance(on_policy) - on_policy.A, 2) > np.linalg.eigvalsh(cures.covariance(on_policy))[0]
    assert analyse_stability(on_policy.A).verdict == "stable"


@pytest.mark.states("prop-averager")
@given(mdps_with_policy(), generators, st.floats(0.05, 1.0))
def test_averaging_features_with_data_on_the_anchors_contract_for_the_maximum_too(drawn, rng, share):
    mdp = drawn[0]
    size = mdp.rewards.size
    k = int(rng.integers(1, size + 1))
    Phi = rng.dirichlet(np.ones(k), size=size) * rng.uniform(0, 1, (size, 1))
    Phi[:k] = np.eye(k)
    d = np.append(rng.dirichlet(np.ones(k)), np.zeros(size - k))
    problem, alpha = LinearQ(mdp, Phi, d), share / d.max()
    first, second = rng.standard_normal((2, k))
    distance = np.abs(first - second).max()
    after = np.abs(first + alpha * problem.field(first) - second - alpha * problem.field(second)).max()
    assert after <= (1 - alpha * (1 - mdp.discount) * d[:k].min()) * distance + 1e-12
    fitted = [optimality_operator(mdp, problem.values(theta)).ravel()[:k] for theta in (first, second)]
    assert np.abs(fitted[0] - fitted[1]).max() <= mdp.discount * distance + 1e-12


@pytest.mark.states("prop-averager")
def test_with_data_elsewhere_averaging_features_diverge():
    soft, first = np.array([[1, 0], [2 / 3, 1 / 3]]), np.array([[1.0, 0], [1, 0]])
    system = LinearTD(soft, np.array([3, 10]) / 13, first, np.zeros(2), 0.9)
    assert analyse_stability(system.A).verdict == "unstable"
    assert analyse_stability(replace(system, weighting=np.array([5, 8]) / 13).A).verdict == "stable"
    # Rows that sum to more than one, with data on the anchors: the arc.
    assert analyse_stability(arc(np.array([0.5, 0.5]), 0.9).A).verdict == "unstable"


# --- Longer returns --------------------------------------------------------------------------------------------------


@pytest.mark.states("prop-n-step")
@given(systems(), st.integers(1, 6))
def test_an_n_step_return_is_td_on_the_chain_that_takes_n_steps_at_a_time(system, n):
    longer, gamma_P = cures.n_step_td(system, n), system.discount * system.transitions
    kernel_step = system.features.T @ (system.weighting[:, None] * (np.eye(len(gamma_P)) - np.linalg.matrix_power(gamma_P, n)))
    np.testing.assert_allclose(longer.A, kernel_step @ system.features, atol=1e-9)
    v = target = np.linspace(-1, 1, len(gamma_P))
    for _ in range(n):  # the return, one step after the other from its end
        target = system.rewards + gamma_P @ target
    np.testing.assert_allclose(longer.rewards + longer.discount * longer.transitions @ v, target, atol=1e-8)
    np.testing.assert_allclose(longer.true_values, system.true_values, rtol=1e-6, atol=1e-6)


@pytest.mark.states("prop-n-step")
@given(systems(), generators)
def test_returns_that_are_long_enough_are_safe_for_all_features_and_bound_the_error(system, rng):
    d = rng.uniform(0.05, 1, len(system.weighting))
    system = replace(system, weighting=d / d.sum(), discount=min(system.discount, 0.97))
    least = system.weighting.min()
    n = 1 if system.discount == 0 else 1 + int(np.log(least) / 2 / np.log(system.discount))
    c = system.discount**n / np.sqrt(least)
    assume(c < 1 - 1e-6)
    longer = cures.n_step_td(system, n)
    x = rng.standard_normal(len(d))
    assert weighted(longer.discount * longer.transitions @ x, system.weighting) <= c * weighted(x, system.weighting) + 1e-12
    assert is_definite(key_matrix(longer.weighting, longer))
    if np.linalg.cond(longer.A) < 1e8:
        truth = system.true_values
        best = weighted(projection(longer) @ truth - truth, system.weighting)
        error = weighted(longer.features @ td_fixed_point(longer) - truth, system.weighting)
        assert error <= best / np.sqrt(1 - c**2) * (1 + 1e-6) + 1e-6 * weighted(truth, system.weighting)


@pytest.mark.states("prop-n-step")
def test_a_longer_return_may_harm_short_ones_are_not_enough_and_on_policy_all_are_safe():
    stepping_over = LinearTD(np.array([[1.0], [0.0], [3.0]]), np.array([0.9, 0.05, 0.05]), np.eye(3)[[1, 2, 2]], np.zeros(3), 0.9)
    verdicts = [analyse_stability(cures.n_step_td(stepping_over, n).A).verdict for n in range(1, 20)]
    assert verdicts[0] == "stable"
    assert verdicts[1] == "unstable"
    assert verdicts[-1] == "stable"
    # Where c is 1 or more, some data and features diverge.
    pair = w_to_2w(0.99).off_policy
    assert np.sqrt(0.5) < 0.99**18
    assert [analyse_stability(cures.n_step_td(pair, n).A).verdict for n in (1, 18, 19)] == ["unstable", "unstable", "stable"]
    # Without data in the second state no n is enough for all features.
    for n in (1, 5, 40):
        chain = LinearTD(np.array([[1.0], [1e4]]), np.array([1.0, 0.0]), np.eye(2)[[1, 1]], np.zeros(2), 0.9)
        assert analyse_stability(cures.n_step_td(chain, n).A).verdict == "unstable"


@pytest.mark.states("prop-n-step")
@given(generators, st.integers(2, 6), st.integers(1, 8))
def test_on_policy_data_stay_safe_with_every_n(rng, size, n):
    P = rng.dirichlet(np.full(size, 0.5), size=size)
    d = stationary_distribution(P)
    assume(d.min() > 1e-6)
    system = LinearTD(np.eye(size), d, P, np.zeros(size), 0.99)
    assert is_definite(key_matrix(d, cures.n_step_td(system, n)))


@pytest.mark.states("prop-n-step")
@given(systems(), st.floats(0, 0.95))
def test_a_mixture_of_returns_is_td_on_one_more_chain(system, trace):
    n, gamma_P = len(system.weighting), system.discount * system.transitions
    mixed = sum(
        (1 - trace) * trace ** (k - 1) * (np.eye(n) - np.linalg.matrix_power(gamma_P, k)) for k in range(1, 800)
    )  # what is left weighs 1e-17
    factor = np.linalg.solve(np.eye(n) - trace * gamma_P, np.eye(n) - gamma_P)
    np.testing.assert_allclose(mixed, factor, atol=1e-9)
    smaller = system.discount * (1 - trace) / (1 - system.discount * trace)
    if smaller > 1e-3:
        chain = (np.eye(n) - factor) / smaller
        np.testing.assert_allclose(chain.sum(axis=1), 1, rtol=1e-8)
        assert chain.min() >= -1e-9
    if smaller < np.sqrt(system.weighting.min()) * (1 - 1e-6):
        assert is_definite(system.weighting[:, None] * factor)


@pytest.mark.states("prop-n-step")
def test_a_short_trace_leaves_data_that_are_not_safe():
    pair = w_to_2w(0.99, 0.1).off_policy
    step = np.eye(2) - 0.99 * pair.transitions
    found = [pair.weighting[:, None] * np.linalg.solve(np.eye(2) - trace * 0.99 * pair.transitions, step) for trace in (0.3, 0.999)]
    assert [is_definite(key) for key in found] == [False, True]
