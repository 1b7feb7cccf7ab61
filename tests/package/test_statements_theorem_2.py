"""The labelled statements of the chapter on Theorem 2, one test at least for each, with a hypothesis dropped to see it fail."""

import itertools
from functools import partial

import numpy as np
import pytest
from deadly_triad.certificates import joint_spectral_bounds, quadratic_certificate
from deadly_triad.examples import chain, random_mdp
from deadly_triad.fixed_point import EUCLIDEAN, SUP, Norm, iterate
from deadly_triad.kernel_updates import (
    Coupling,
    kernel_modulus,
    kernel_update,
    policy_matrices,
    problem_modulus,
    theorem_2,
    worst_case_modulus,
    worst_problem,
)
from deadly_triad.mdp import MDP, optimal_action_values, optimality_operator, policy_operator
from deadly_triad.stability import spectral_radius
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .strategies import generators, mdps, mdps_with_policy

SHARES = st.floats(0.01, 0.99)
DISCOUNTS = st.floats(0, 0.99)


def near_diagonal(rng, n, discount, fraction):
    """Symmetric K and positive weights with `others` at most `fraction` of what (17) allows, and at one pair equal to it."""
    rho, leak = rng.uniform(0.2, 1, n), rng.uniform(-1, 1, (n, n))
    leak = (leak + leak.T) * (1 - np.eye(n))
    own = rng.uniform(0.5, 2, n)
    ratios = (np.abs(leak) @ rho) / (own * rho)
    kernel = np.diag(own)
    if n > 1:
        kernel = kernel + leak * fraction * (1 - discount) / (1 + discount) / ratios.max()
    return Coupling(kernel, rho)


def any_coupling(rng, n):
    features = rng.standard_normal((n, n))
    return Coupling(features @ features.T, rng.dirichlet(np.ones(n)))


def update_of(mdp, coupling, step_size):
    return partial(kernel_update, partial(optimality_operator, mdp), coupling=coupling, step_size=step_size)


# --- Theorem 2 -------------------------------------------------------------------------------------------------------


@pytest.mark.states("thm-kernel-contraction")
@given(mdps_with_policy(), generators, st.floats(0.01, 3))
def test_the_modulus_bounds_the_update_in_every_problem(drawn, rng, share):
    mdp, policy = drawn
    coupling = any_coupling(rng, mdp.rewards.size)
    step_size = share / coupling.own.max()
    bound = kernel_modulus(coupling, mdp.discount, step_size)
    Q, R = rng.standard_normal((2, *mdp.rewards.shape))
    for T in (partial(policy_operator, mdp, policy), partial(optimality_operator, mdp)):
        update = partial(kernel_update, T, coupling=coupling, step_size=step_size)
        assert SUP(update(Q) - update(R)) <= bound * SUP(Q - R) * (1 + 1e-12) + 1e-12


@pytest.mark.states("thm-kernel-contraction")
@given(mdps(max_states=4), generators, SHARES, st.floats(0.01, 1))
def test_with_both_conditions_the_update_contracts_to_the_exact_values(mdp, rng, fraction, share):
    coupling = near_diagonal(rng, mdp.rewards.size, mdp.discount, fraction)
    step_size = share / coupling.own.max()
    seen = theorem_2(coupling, mdp.discount, step_size)
    assert seen.applies
    assert seen.modulus == pytest.approx(1 - step_size * seen.margins.min(), abs=1e-13)
    assert seen.modulus < 1
    best, Q = optimal_action_values(mdp), rng.standard_normal(mdp.rewards.shape)
    update = update_of(mdp, coupling, step_size)
    np.testing.assert_allclose(update(best), best, atol=1e-9 * (1 + np.abs(best).max()))
    assert SUP(update(Q) - best) <= seen.modulus * SUP(Q - best) + 1e-9 * (1 + np.abs(best).max())
    # The only fixed point: K D is strictly diagonally dominant, so T Q - Q must vanish.
    assert np.linalg.matrix_rank(coupling.matrix) == len(coupling.rho)


@pytest.mark.states("thm-kernel-contraction")
@given(generators, st.integers(1, 6), DISCOUNTS, st.floats(0.5, 1.5), SHARES)
def test_below_one_means_the_second_condition_and_a_step_below_its_bound(rng, n, discount, fraction, share):
    assume(abs(fraction - 1) > 1e-3)
    coupling = near_diagonal(rng, n, discount, fraction)
    bound = 2 / ((1 + discount) * np.max(coupling.own + coupling.others))
    holds = n == 1 or fraction < 1
    assert (not theorem_2(coupling, discount, 1.0).breaks_17.size) == holds
    assert (kernel_modulus(coupling, discount, share * bound) < 1) == holds
    assert kernel_modulus(coupling, discount, bound / share) > 1
    if holds:
        assert bound > 1 / coupling.own.max()


@pytest.mark.states("thm-kernel-contraction")
def test_without_the_second_condition_no_step_is_small_enough_and_without_data_the_fixed_point_is_not_unique():
    leaky = Coupling(np.array([[1.0, 0.1], [0.1, 1.0]]), np.full(2, 0.5))
    assert all(kernel_modulus(leaky, 0.9, step_size) > 1 for step_size in np.logspace(-6, 1, 50))
    # Equality in (17), as the sources have it, admits a pair without data, which keeps whatever it starts with.
    mdp, missing = chain(2, 0.9), Coupling(np.eye(4), np.array([0.0, 1.0, 1.0, 1.0]))
    assert np.all(missing.others <= (1 - 0.9) / (1 + 0.9) * missing.own)
    run = iterate(update_of(mdp, missing, 0.5), np.full((2, 2), 50.0), tolerance=1e-12)
    assert run.limit[0, 0] == 50
    assert SUP(run.limit - optimal_action_values(mdp)) > 30


@pytest.mark.states("prop-kernel-steps")
@given(generators, st.integers(1, 6), DISCOUNTS, SHARES, st.floats(0.01, 4))
def test_the_modulus_is_two_straight_lines_in_the_step(rng, n, discount, fraction, share):
    coupling = near_diagonal(rng, n, discount, fraction)
    margin = np.min((1 - discount) * coupling.own - (1 + discount) * coupling.others)
    reach = (1 + discount) * np.max(coupling.own + coupling.others)
    step_size = share / coupling.own.max()
    lines = max(1 - step_size * margin, step_size * reach - 1)
    assert kernel_modulus(coupling, discount, step_size) == pytest.approx(lines, abs=1e-12)
    best = kernel_modulus(coupling, discount, 2 / (margin + reach))
    assert best == pytest.approx((reach - margin) / (reach + margin), abs=1e-12)
    assert best <= kernel_modulus(coupling, discount, step_size) + 1e-12


@pytest.mark.states("prop-kernel-steps")
def test_once_a_policy_is_lost_a_smaller_step_only_delays_it():
    # One state, two actions, the gradient of the second twice as long; its policy is w -> 2w.
    kernel, g = np.array([[1.0, 1.9], [1.9, 4.0]]), 0.95
    mdp = MDP(np.ones((1, 2, 1)), np.zeros((1, 2)), g)
    for step_size in np.logspace(-5, 0, 20):
        assert spectral_radius(policy_matrices(mdp, Coupling(kernel, np.full(2, 0.5)), step_size)[1]) > 1


@pytest.mark.states("prop-near-diagonal")
@given(generators, st.integers(2, 7), st.floats(0.01, 0.99), SHARES)
def test_the_second_condition_asks_for_a_kernel_that_is_all_but_diagonal(rng, n, discount, fraction):
    coupling = near_diagonal(rng, n, discount, fraction)
    scaled = coupling.matrix / coupling.own[:, None]
    assert np.linalg.cond(scaled, np.inf) < 1 / discount
    equal = Coupling(coupling.kernel, np.full(n, 1 / n))
    row_ratio = (np.abs(equal.kernel).sum(axis=1) - np.diag(equal.kernel)) / n / np.diag(equal.kernel)
    broken = set(np.flatnonzero(row_ratio >= (1 - discount) / (1 + discount) / n).tolist())
    assert broken == set(theorem_2(equal, discount, 1.0).breaks_17.tolist())


@pytest.mark.states("prop-near-diagonal")
@given(generators, st.integers(2, 6))
def test_fewer_parameters_than_pairs_break_it_at_every_discount(rng, n):
    features = rng.standard_normal((n, n - 1))
    coupling = Coupling(features @ features.T, rng.dirichlet(np.ones(n)))
    assert all(theorem_2(coupling, discount, 1.0).breaks_17.size for discount in (0.0, 0.5, 0.99))
    # With as many parameters as pairs it can hold.
    assert not theorem_2(Coupling(np.eye(n), coupling.rho), 0.99, 1.0).breaks_17.size


# --- Exactness -------------------------------------------------------------------------------------------------------


@pytest.mark.states("lem-policy-differences")
@given(mdps(max_states=4), generators, st.floats(0.05, 2))
def test_a_difference_is_that_of_one_policy_and_so_an_average_of_deterministic_ones(mdp, rng, share):
    coupling = any_coupling(rng, mdp.rewards.size)
    step_size = share / coupling.own.max()
    Q, R = rng.standard_normal((2, *mdp.rewards.shape))
    x, gap = Q - R, Q.max(axis=1) - R.max(axis=1)
    # The policy of the proof: between the smallest and the largest difference of each state.
    low, high = x.argmin(axis=1), x.argmax(axis=1)
    states = np.arange(mdp.n_states)
    spread = x[states, high] - x[states, low]
    up = np.divide(gap - x[states, low], spread, out=np.zeros_like(gap), where=spread > 0)
    policy = np.zeros_like(x)
    np.add.at(policy, (states, high), up)
    np.add.at(policy, (states, low), 1 - up)
    update = update_of(mdp, coupling, step_size)
    moved = (update(Q) - update(R)).ravel()
    weights = [
        np.prod(policy[states, list(actions)]) for actions in itertools.product(range(mdp.n_actions), repeat=mdp.n_states)
    ]  # of each deterministic policy, if every state draws for itself
    average = np.einsum("m,mij->ij", np.array(weights), policy_matrices(mdp, coupling, step_size))
    np.testing.assert_allclose(average @ x.ravel(), moved, atol=1e-9)
    assert np.sum(weights) == pytest.approx(1, abs=1e-12)
    assert min(weights) >= -1e-15


@pytest.mark.states("lem-policy-differences")
def test_it_need_not_be_that_of_a_deterministic_policy():
    mdp, coupling = MDP(np.ones((1, 2, 1)), np.zeros((1, 2)), 0.9), Coupling(np.eye(2), np.ones(2))
    update = update_of(mdp, coupling, 0.5)
    Q, R = np.array([[1.0, 0.0]]), np.array([[0.0, 0.5]])  # the maxima differ by 1/2, the entries by 1 and -1/2
    moved = (update(Q) - update(R)).ravel()
    singles = [M @ (Q - R).ravel() for M in policy_matrices(mdp, coupling, 0.5)]
    assert min(np.abs(moved - single).max() for single in singles) > 0.2


@pytest.mark.states("thm-joint-norm")
@given(mdps(max_states=3), generators, st.sampled_from([1, 2, np.inf]), st.floats(0.05, 2))
def test_in_any_norm_the_modulus_for_the_maximum_is_that_of_the_worst_policy(mdp, rng, order, share):
    n = mdp.rewards.size
    coupling, norm = any_coupling(rng, n), Norm(order, np.eye(n) + 0.2 * rng.standard_normal((n, n)) / n)
    step_size = share / coupling.own.max()
    matrices = policy_matrices(mdp, coupling, step_size)
    moduli = [norm.of_matrix(M) for M in matrices]
    update = update_of(mdp, coupling, step_size)
    for _ in range(20):
        Q, R = rng.standard_normal((2, *mdp.rewards.shape))
        assert norm(update(Q) - update(R)) <= max(moduli) * norm(Q - R) * (1 + 1e-9) + 1e-12
    # Attained: near a table that is greedy for the worst policy, along the direction that its matrix stretches most.
    actions = list(np.ndindex(*[mdp.n_actions] * mdp.n_states))[int(np.argmax(moduli))]
    Q = 3 * np.eye(mdp.n_actions)[list(actions)]
    M = norm.scale @ matrices[int(np.argmax(moduli))] @ np.linalg.inv(norm.scale)
    if order == 2:
        x = np.linalg.svd(M)[2][0]
    elif order == 1:
        x = np.eye(n)[np.abs(M).sum(axis=0).argmax()]
    else:
        x = np.where(M[np.abs(M).sum(axis=1).argmax()] >= 0, 1.0, -1.0)
    x = np.linalg.solve(norm.scale, x)
    x = (x / np.abs(x).max()).reshape(Q.shape)
    assert norm(update(Q + x) - update(Q)) / norm(x) == pytest.approx(max(moduli), rel=1e-7, abs=1e-12)


@pytest.mark.states("thm-joint-norm")
@settings(max_examples=8)
@given(generators)
def test_a_common_norm_leads_every_start_to_the_exact_values_whatever_the_rewards(rng):
    mdp = random_mdp(rng, 3, 2, discount=0.5)
    coupling = any_coupling(rng, 6)
    step_size = 0.5 / spectral_radius(coupling.matrix)
    certificate = quadratic_certificate(policy_matrices(mdp, coupling, step_size))
    assume(certificate is not None and certificate.modulus < 0.9999)
    update, best = update_of(mdp, coupling, step_size), optimal_action_values(mdp)
    for start in (best + 100 * rng.standard_normal(best.shape), np.zeros_like(best)):
        Q, error = start, certificate.norm(start - best)
        for t in range(1, 60):
            Q = update(Q)
            assert certificate.norm(Q - best) <= certificate.modulus**t * error + 1e-7 * (1 + error)


@pytest.mark.states("thm-joint-norm")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("optimal", [0, 1])
def test_an_unstable_policy_repels_where_rewards_make_it_optimal(optimal, seed):
    # One state, two actions; the gradient of the second is twice as long, and its policy is w -> 2w.
    rng, g, step_size = np.random.default_rng(seed), 0.95, 0.5
    coupling = Coupling(np.array([[1.0, 1.8], [1.8, 4.0]]), np.full(2, 0.5))
    Q_star = np.eye(2)[[optimal]] + rng.uniform(-0.2, 0.2, (1, 2))
    mdp = MDP(np.ones((1, 2, 1)), Q_star - g * Q_star.max(), g)
    np.testing.assert_allclose(optimal_action_values(mdp), Q_star, atol=1e-9)
    radius = spectral_radius(policy_matrices(mdp, coupling, step_size)[optimal])
    update, Q, farthest = update_of(mdp, coupling, step_size), Q_star + 1e-3 * rng.standard_normal((1, 2)), 0.0
    for _ in range(4000):
        Q = update(Q)
        farthest = max(farthest, SUP(Q - Q_star))
    if optimal == 0:
        assert radius < 1
        assert farthest < 0.1
        assert SUP(Q - Q_star) < 1e-4
    else:
        assert radius > 1
        assert farthest > 0.1


THREE = Coupling(np.array([[40.0, 0.0, 25.0], [0.0, 1.0, 2.0], [25.0, 2.0, 25.0]]), np.array([0.01, 0.7, 0.29]))


@pytest.mark.states("thm-joint-norm")
def test_three_actions_can_be_stable_one_by_one_and_have_no_common_norm():
    mdp = MDP(np.ones((1, 3, 1)), np.zeros((1, 3)), 0.9)
    matrices = policy_matrices(mdp, THREE, 0.15)
    assert max(spectral_radius(M) for M in matrices) < 0.9995
    assert spectral_radius(np.linalg.matrix_power(matrices[2], 64) @ np.linalg.matrix_power(matrices[0], 4)) > 5
    assert quadratic_certificate(matrices) is None


@pytest.mark.states("thm-worst-mdp")
@given(generators, st.sampled_from([(2, 1), (2, 2), (3, 2), (5, 1)]), DISCOUNTS, st.floats(0.05, 3))
def test_a_row_attains_its_sum_exactly_under_the_signs_of_the_theorem(rng, sizes, discount, share):
    n_states, n_actions = sizes
    n = n_states * n_actions
    signs = rng.choice([-1.0, 0.0, 1.0], (n, n), p=rng.dirichlet(np.ones(3)))
    kernel = rng.uniform(0.1, 1, (n, n)) * signs
    kernel = np.triu(kernel, 1) + np.triu(kernel, 1).T + np.diag(rng.uniform(0.2, 2, n))
    coupling = Coupling(kernel, rng.uniform(0.1, 1, n))
    step_size = share / coupling.own.max()
    kept = np.eye(n) - step_size * coupling.matrix
    rows = np.abs(kept).sum(axis=1) + discount * step_size * np.abs(coupling.matrix).sum(axis=1)
    negative = np.any(kernel < 0, axis=1)
    attains = np.where(negative, kept.min(axis=1) <= 0, kept.max(axis=1) >= 0)
    exact = worst_case_modulus(coupling, discount, step_size)
    assert exact >= rows[attains].max(initial=0) - 1e-12
    if attains[rows.argmax()]:
        assert exact == pytest.approx(kernel_modulus(coupling, discount, step_size), rel=1e-13)
    elif discount > 0.01 and np.sum(rows > rows.max() - 1e-9) == 1:
        assert exact < kernel_modulus(coupling, discount, step_size)
    found = worst_problem(coupling, discount, step_size, n_states)
    update = update_of(found.mdp, coupling, step_size)
    assert SUP(update(found.first) - update(found.second)) == pytest.approx(exact * SUP(found.first - found.second), rel=1e-12)


@pytest.mark.states("thm-worst-mdp")
@given(generators, st.integers(2, 6), DISCOUNTS, SHARES)
def test_where_all_is_positive_a_single_policy_attains_it_in_a_problem_where_all_roads_lead_to_one_pair(rng, n, discount, share):
    coupling = Coupling(np.abs(any_coupling(rng, n).kernel), rng.dirichlet(np.ones(n)))
    step_size = share / coupling.own.max()
    kept = np.abs(np.eye(n) - step_size * coupling.matrix)
    i = int(np.argmax(kept.sum(axis=1) + discount * step_size * coupling.matrix.sum(axis=1)))
    P = np.eye(n)[[i] * n]
    M = np.eye(n) - step_size * coupling.matrix @ (np.eye(n) - discount * P)
    assert SUP.of_matrix(M) == pytest.approx(kernel_modulus(coupling, discount, step_size), rel=1e-12)


@pytest.mark.states("thm-worst-mdp")
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), SHARES)
def test_two_pairs_that_repel_each_other_contract_far_beyond_the_second_condition(c, discount, share):
    step_size = share * (1 - discount * c / (1 + discount * c))  # so small that the first minimum of the theorem is the first entry
    coupling = Coupling(np.array([[1.0, -c], [-c, 1.0]]), np.ones(2))
    assert worst_case_modulus(coupling, discount, step_size) == pytest.approx(1 - step_size * (1 - discount) * (1 - c), abs=1e-12)
    attracts = Coupling(np.array([[1.0, c], [c, 1.0]]), np.ones(2))
    expected = 1 - step_size * (1 - discount - (1 + discount) * c)
    assert worst_case_modulus(attracts, discount, step_size) == pytest.approx(expected, abs=1e-12)


@pytest.mark.states("prop-one-problem")
@given(mdps(max_states=4), generators, st.floats(0.05, 3))
def test_the_modulus_in_one_problem_needs_no_list_of_policies(mdp, rng, share):
    coupling = any_coupling(rng, mdp.rewards.size)
    step_size = share / coupling.own.max()
    worst = max(np.abs(M).sum(axis=1).max() for M in policy_matrices(mdp, coupling, step_size))
    assert problem_modulus(mdp, coupling, step_size) == pytest.approx(worst, rel=1e-11)


@pytest.mark.states("prop-one-problem")
def test_unlike_without_generalisation_it_can_be_less_than_the_worst_case():
    # In the corridor no pair leads everywhere: the worst problem is another one.
    distance = np.abs(np.arange(5)[:, None] - np.arange(5)[None])
    kernel = np.kron(0.5**distance, np.array([[1.0, 0.5], [0.5, 1.0]]))
    coupling = Coupling(kernel, np.full(10, 0.1))
    assert problem_modulus(chain(5, 0.9), coupling, 1.0) < worst_case_modulus(coupling, 0.9, 1.0) - 0.05


# --- The boundary case -----------------------------------------------------------------------------------------------


def two_couples(discount):
    """Four states in two couples, each leaking to its partner as much as equality in (17) allows; the couples lead to each other."""
    c = (1 - discount) / (1 + discount)
    P = np.zeros((4, 1, 4))
    P[:2, 0, 2] = P[2:, 0, 0] = 1
    return MDP(P, np.ones((4, 1)), discount), Coupling(np.kron(np.eye(2), np.array([[1.0, c], [c, 1.0]])), np.ones(4))


@pytest.mark.states("prop-equality")
@given(st.floats(0.01, 0.99))
def test_with_equality_in_both_conditions_the_update_may_swing_for_ever(discount):
    mdp, coupling = two_couples(discount)
    assert np.linalg.eigvalsh(coupling.kernel).min() > 0
    assert kernel_modulus(coupling, discount, 1.0) == pytest.approx(1, abs=1e-12)
    update, best = update_of(mdp, coupling, 1.0), optimal_action_values(mdp)
    error = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    np.testing.assert_allclose(update(best + error), best - error, atol=1e-9 * (1 + best.max()))
    np.testing.assert_allclose(update(best - error), best + error, atol=1e-9 * (1 + best.max()))


@pytest.mark.states("prop-equality")
@settings(max_examples=20)
@given(generators, st.floats(0.1, 0.9), st.floats(0.2, 0.95))
def test_with_equality_in_the_second_alone_it_settles_although_it_does_not_contract(rng, discount, share):
    mdp, coupling = two_couples(discount)
    start = optimal_action_values(mdp) + np.array([[1.0], [1.0], [-1.0], [-1.0]])
    assert iterate(update_of(mdp, coupling, share), start, tolerance=1e-9, max_steps=50_000).outcome == "converged"
    mdp = random_mdp(rng, 3, 2, discount=discount, branching=1)
    coupling = near_diagonal(rng, 6, discount, 1.0)
    step_size = share / coupling.own.max()
    assert kernel_modulus(coupling, discount, step_size) == pytest.approx(1, abs=1e-12)
    run = iterate(update_of(mdp, coupling, step_size), 10 * rng.standard_normal((3, 2)), tolerance=1e-9, max_steps=50_000)
    assert run.outcome == "converged"
    np.testing.assert_allclose(run.limit, optimal_action_values(mdp), atol=1e-5)


@pytest.mark.states("prop-equality")
def test_without_bootstrapping_equality_in_the_second_may_leave_an_error_for_ever():
    mdp = MDP(np.full((2, 1, 2), 0.5), np.zeros((2, 1)), 0.0)
    alike = Coupling(np.ones((2, 2)), np.full(2, 0.5))
    assert np.all(alike.others == alike.own)  # equality in (17) at discount 0
    error = np.array([[1.0], [-1.0]])
    np.testing.assert_array_equal(update_of(mdp, alike, 0.5)(error), error)


@pytest.mark.states("prop-equality")
def test_the_modulus_one_is_attained():
    c = 0.1 / 1.9
    coupling = Coupling(np.array([[1.0, c], [c, 1.0]]), np.ones(2))
    found = worst_problem(coupling, 0.9, 0.5, 2)
    update = update_of(found.mdp, coupling, 0.5)
    assert SUP(update(found.first) - update(found.second)) == pytest.approx(1, abs=1e-14)


# --- How far from the truth ------------------------------------------------------------------------------------------


@pytest.mark.states("prop-even-coupling")
@given(mdps(max_states=4), generators, SHARES, SHARES)
def test_an_even_coupling_contracts_in_every_problem_however_strong_it_is(mdp, rng, place, share):
    n = mdp.rewards.size
    assume(n > 1)
    c = -1 / (n - 1) + place * (1 + 1 / (n - 1))
    coupling = Coupling((1 - c) * np.eye(n) + c, np.ones(n))
    g, along, across = mdp.discount, 1 - c + n * c, 1 - c
    a = share * min(1 / across, 2 / ((1 - g) * along))
    modulus = max(abs(1 - a * (1 - g) * along), 1 - a * (1 - g) * across)
    assert modulus < 1
    # The norm of the proof: the spread, plus a little of the mean.
    slack = (1 - (1 - a * (1 - g) * across)) / 2
    weight = slack / (a * g * along + slack)

    def norm(x):
        return weight * abs(x.mean()) + np.ptp(x)

    update = update_of(mdp, coupling, a)
    bound = max(abs(1 - a * (1 - g) * along), 1 - slack)
    for _ in range(10):
        Q, R = rng.standard_normal((2, *mdp.rewards.shape))
        assert norm(update(Q) - update(R)) <= bound * norm(Q - R) + 1e-12
    assert max(spectral_radius(M) for M in policy_matrices(mdp, coupling, a)) <= modulus + 1e-7


@pytest.mark.states("prop-even-coupling")
def test_a_coupling_that_is_even_but_for_the_data_or_the_lengths_need_not():
    n, g = 5, 0.99
    lengths = np.array([3.0, 1, 1, 1, 1])
    uneven = Coupling(np.outer(lengths, lengths) * (0.05 * np.eye(n) + 0.95), np.ones(n))
    mdp = MDP(np.ones((1, n, 1)), np.zeros((1, n)), g)
    for step_size in (1e-1, 1e-3):
        assert spectral_radius(policy_matrices(mdp, uneven, step_size / 20)[0]) > 1


@pytest.mark.states("thm-two-actions")
@given(generators, DISCOUNTS)
def test_two_actions_in_one_state_have_a_common_energy_exactly_if_both_dampings_are_positive(rng, discount):
    features = rng.standard_normal((2, 2)) * np.exp(rng.normal(size=(2, 1)))
    coupling = Coupling(features @ features.T, rng.dirichlet(np.ones(2)))
    B = coupling.matrix
    dampings = np.trace(B) - discount * B.sum(axis=1)
    scale = np.abs(B).max()
    assume(np.abs(dampings).min() > 1e-3 * scale)
    assume(np.linalg.det(B) > 1e-4 * scale**2)
    generators_of_policies = [B - discount * np.outer(B.sum(axis=1), np.eye(2)[a]) for a in (0, 1)]
    if dampings.min() < 0:
        worst = generators_of_policies[int(dampings.argmin())]
        assert all(spectral_radius(np.eye(2) - step * worst) > 1 for step in np.logspace(-4, 1, 12) / scale)
        return
    # The energy of the proof: s'^2 + delta s^2 + 2 e s s', for s that B 1 does not move.
    s = np.array([-B[1].sum(), B[0].sum()])
    rate, delta = -s @ B, (1 - discount) * np.linalg.det(B)
    top = dampings.max()
    e = 0.5 * dampings.min() / (1 + top**2 / (2 * delta))
    e = min(e, 0.5 * np.sqrt(delta))
    H = delta * np.outer(s, s) + np.outer(rate, rate) + e * (np.outer(s, rate) + np.outer(rate, s))
    H /= np.abs(H).max()
    assume(abs(np.linalg.det(np.array([s, rate]))) > 1e-3 * (s @ s) * scale)  # else nearly an even coupling, whose proof is another
    assert np.linalg.eigvalsh(H).min() > 0
    for G in generators_of_policies:
        assert np.linalg.eigvalsh(H @ G + G.T @ H).min() > 0


@pytest.mark.states("thm-two-actions")
@pytest.mark.parametrize("c", [-0.9, -0.3, 0.0, 0.04, 0.5, 0.9])
@pytest.mark.parametrize("discount", [0.3, 0.7, 0.8, 0.9])
def test_the_regions_of_the_figure_are_what_the_package_finds_at_a_small_step(c, discount):
    coupling = Coupling(np.array([[1.0, 2 * c], [2 * c, 4.0]]), np.full(2, 0.5))
    mdp, step_size = MDP(np.ones((1, 2, 1)), np.zeros((1, 2)), discount), 1e-3
    matrices = policy_matrices(mdp, coupling, step_size)
    edge = (1 - discount) / (2 * (1 + discount))
    assert theorem_2(coupling, discount, step_size).applies == (abs(c) < edge)
    assert (problem_modulus(mdp, coupling, step_size) < 1) == (-1 / 2 < c < edge)
    assert (quadratic_certificate(matrices) is not None) == (discount * (4 + 2 * c) < 5)
    assert (joint_spectral_bounds(matrices, EUCLIDEAN, 1)[0] < 1) == (discount * (4 + 2 * c) < 5)
