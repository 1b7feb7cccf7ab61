"""The labelled statements of the chapter on Bellman operators, one test at least for each, with a hypothesis dropped to see it fail."""

import itertools
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from deadly_triad.examples import chain, random_mdp, random_policy
from deadly_triad.fixed_point import EUCLIDEAN, SUP, iterate
from deadly_triad.mdp import (
    MDP,
    action_values,
    deterministic_policy,
    optimal_action_values,
    optimality_operator,
    pair_transitions,
    policy_operator,
)
from deadly_triad.stability import spectral_radius
from deadly_triad.value_updates import (
    frozen_problem,
    full_update,
    largest_step_for_every_policy,
    update_matrix,
    weighted_modulus,
    weighted_update,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .strategies import generators, mdps, mdps_with_policy

SHARES = st.floats(0.01, 0.99)


def positive_weights(rng, shape):
    """Weights that sum to 1, the largest at most ten times the smallest."""
    rho = rng.uniform(0.1, 1, shape)
    return rho / rho.sum()


def stochastic(rng, n):
    """A stochastic matrix: dense, sparse or a function, by chance."""
    kind = rng.integers(3)
    return np.eye(n)[rng.integers(n, size=n)] if kind == 0 else rng.dirichlet(np.full(n, 0.05 if kind == 1 else 1.0), size=n)


def go_or_stay(discount):
    """Two states; action 0 goes to the other one and earns 1, action 1 stays and earns 0."""
    transitions = np.array([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    return MDP(transitions, np.array([[1.0, 0.0], [1.0, 0.0]]), discount)


def greedy(values):
    return deterministic_policy(values.argmax(axis=1), values.shape[1])


# --- The operators ---------------------------------------------------------------------------------------------------


@pytest.mark.states("lem-max")
@given(generators, st.integers(1, 6))
def test_a_difference_of_maxima_lies_between_two_differences(rng, n):
    x, y = rng.standard_normal((2, n))
    assert (x - y).min() - 1e-15 <= x.max() - y.max() <= (x - y).max() + 1e-15


@pytest.mark.states("lem-max")
def test_a_difference_of_boltzmann_averages_does_not():
    def average(x):
        return x @ np.exp(x) / np.exp(x).sum()

    x, y = np.array([2.41, 0.0]), np.array([2.39, 0.02])
    assert average(x) - average(y) > 1.1 * np.abs(x - y).max()


@pytest.mark.states("thm-bellman")
@given(mdps_with_policy(), generators)
def test_the_bellman_operators_contract_by_the_discount_shift_by_it_and_keep_order(drawn, rng):
    mdp, policy = drawn
    Q, R = rng.standard_normal((2, *mdp.rewards.shape))
    c = rng.normal()
    for T in (partial(policy_operator, mdp, policy), partial(optimality_operator, mdp)):
        assert SUP(T(Q) - T(R)) <= mdp.discount * SUP(Q - R) + 1e-13
        np.testing.assert_allclose(T(Q + c), T(Q) + mdp.discount * c, atol=1e-12)
        assert np.all(T(np.minimum(Q, R)) <= T(R) + 1e-13)


@pytest.mark.states("thm-bellman")
def test_in_the_euclidean_norm_they_may_expand_by_the_root_of_the_number_of_pairs():
    n = 16
    to_one = MDP(np.broadcast_to(np.eye(n)[0], (n, 1, n)).copy(), np.zeros((n, 1)), 0.9)
    Q = np.eye(n)[:, :1]
    assert EUCLIDEAN(optimality_operator(to_one, Q)) == pytest.approx(0.9 * 4, rel=1e-14)
    assert SUP(optimality_operator(to_one, Q)) == pytest.approx(0.9, rel=1e-14)


@pytest.mark.states("prop-optimal")
@given(mdps(), generators)
def test_the_fixed_point_is_the_value_of_its_greedy_policy_and_no_policy_has_more(mdp, rng):
    limit = iterate(partial(optimality_operator, mdp), np.zeros_like(mdp.rewards), tolerance=1e-12, max_steps=10_000).limit
    np.testing.assert_allclose(action_values(mdp, greedy(limit)), limit, atol=1e-9)
    assert np.all(action_values(mdp, random_policy(rng, mdp)) <= limit + 1e-9)


@pytest.mark.states("prop-optimal")
def test_a_table_that_is_no_fixed_point_may_promise_more_than_its_greedy_policy_earns():
    mdp = chain()
    lured = np.where(np.arange(10).reshape(5, 2) == 0, 20.0, optimal_action_values(mdp))
    assert action_values(mdp, greedy(lured))[0, 0] == pytest.approx(0, abs=1e-12)


# --- The modulus -----------------------------------------------------------------------------------------------------


@pytest.mark.states("thm-u2")
@given(mdps_with_policy(), generators, st.floats(0.01, 3))
def test_no_two_tables_are_moved_further_apart_than_by_the_modulus(drawn, rng, share):
    mdp, policy = drawn
    rho = rng.dirichlet(np.ones(mdp.rewards.size)).reshape(mdp.rewards.shape)
    step_size = share / rho.max()
    beta = weighted_modulus(rho, mdp.discount, step_size)
    low, high = 1 - step_size * (1 - mdp.discount) * rho.min(), step_size * (1 + mdp.discount) * rho.max() - 1
    assert beta == pytest.approx(max(low, high), rel=1e-12)
    Q, R = rng.standard_normal((2, *mdp.rewards.shape))
    for T in (partial(policy_operator, mdp, policy), partial(optimality_operator, mdp)):
        update = partial(weighted_update, T, rho=rho, step_size=step_size)
        assert SUP(update(Q) - update(R)) <= beta * SUP(Q - R) * (1 + 1e-12)


@pytest.mark.states("thm-u2")
@given(generators, st.integers(1, 4), st.integers(2, 3), st.floats(0, 0.99), st.floats(0.01, 3))
def test_for_the_maximum_every_problem_with_two_actions_attains_the_modulus(rng, n_states, n_actions, discount, share):
    mdp = random_mdp(rng, n_states, n_actions, discount=discount)
    rho = rng.dirichlet(np.ones(n_states * n_actions)).reshape(n_states, n_actions)
    step_size = share / rho.max()
    worst = np.argmax(np.abs(1 - step_size * rho) + step_size * discount * rho)
    s, a = np.unravel_index(worst, rho.shape)
    Q = np.zeros_like(rho)
    Q[:, 0] = 1
    Q[s], Q[s, (a + 1) % n_actions] = 0, 1  # greedy everywhere, and never at the worst pair
    x = np.ones_like(rho)
    x[s, a] = 1 if step_size * rho[s, a] <= 1 else -1
    update = partial(weighted_update, partial(optimality_operator, mdp), rho=rho, step_size=step_size)
    ratio = SUP(update(Q + 0.1 * x) - update(Q)) / 0.1
    assert ratio == pytest.approx(weighted_modulus(rho, discount, step_size), rel=1e-9)


@pytest.mark.states("thm-u2")
@given(mdps_with_policy(), generators, st.floats(0.01, 3))
def test_for_a_policy_the_modulus_is_the_closed_form_in_the_chances_to_stay(drawn, rng, share):
    mdp, policy = drawn
    n = mdp.rewards.size
    rho = rng.dirichlet(np.ones(n))
    step_size = share / rho.max()
    update = partial(weighted_update, partial(policy_operator, mdp, policy), rho=rho.reshape(mdp.rewards.shape), step_size=step_size)
    base = update(np.zeros_like(mdp.rewards))
    columns = [(update(e.reshape(base.shape)) - base).ravel() for e in np.eye(n)]  # the linear part, one unit table at a time
    modulus = np.abs(np.array(columns).T).sum(axis=1).max()
    stay = np.array([mdp.transitions[s, a, s] * policy[s, a] for s, a in np.ndindex(mdp.rewards.shape)])
    g = mdp.discount
    closed = np.max(np.abs(1 - step_size * rho * (1 - g * stay)) + step_size * g * rho * (1 - stay))
    assert modulus == pytest.approx(closed, abs=1e-11)
    np.testing.assert_allclose(np.array(columns).T, update_matrix(pair_transitions(mdp, policy), rho, g, step_size), atol=1e-11)


@pytest.mark.states("thm-u2")
@given(generators, st.integers(2, 8), st.floats(0, 0.99), SHARES)
def test_the_modulus_is_below_one_exactly_below_its_bound_and_least_at_the_best_step(rng, n, discount, share):
    rho = positive_weights(rng, n)
    bound = 2 / ((1 + discount) * rho.max())
    best = 2 / ((1 + discount) * rho.max() + (1 - discount) * rho.min())
    modulus = partial(weighted_modulus, rho, discount)
    assert modulus(share * bound) < 1 < modulus(bound / share)
    assert modulus(best) <= min(modulus(share * best), modulus(best / share))
    assert best > 1 / rho.max()
    assert modulus(share / rho.max()) == pytest.approx(1 - share * (1 - discount) * rho.min() / rho.max(), rel=1e-12)


@pytest.mark.states("thm-u2")
def test_with_one_action_the_maximum_may_be_better_and_with_a_weight_of_0_nothing_contracts():
    # One state that follows itself, one action: the step 1.5 has the modulus |1 - 1.5 (1 - 0.9)|, not 1.5 * 1.9 - 1.
    alone = MDP(np.ones((1, 1, 1)), np.zeros((1, 1)), 0.9)
    T, one = partial(optimality_operator, alone), np.ones((1, 1))
    assert SUP(full_update(T, one, 1.5) - full_update(T, 0 * one, 1.5)) == pytest.approx(0.85)
    assert weighted_modulus(one, 0.9, 1.5) == pytest.approx(1.85)
    for step_size in (0.1, 1.0, 1.9):
        assert weighted_modulus(np.array([0.0, 1.0]), 0.9, step_size) >= 1


# --- Rare and missing data -------------------------------------------------------------------------------------------


@pytest.mark.states("prop-rare")
@given(mdps(), generators, st.floats(0.05, 1))
def test_each_error_shrinks_at_least_by_the_modulus_and_from_one_side_at_most_by_its_weight(mdp, rng, share):
    rho = positive_weights(rng, mdp.rewards.shape)
    step_size = share / rho.max()
    best = optimal_action_values(mdp)
    update = partial(weighted_update, partial(optimality_operator, mdp), rho=rho, step_size=step_size)
    modulus = 1 - step_size * (1 - mdp.discount) * rho.min()
    for side in (1, -1):
        start = rng.uniform(0, 1, rho.shape)
        Q = best + side * start
        for t in range(1, 30):
            Q = update(Q)
            error = side * (Q - best)
            assert error.max() <= modulus**t * start.max() + 1e-11 * (1 + np.abs(best).max())
            assert np.all(error >= (1 - step_size * rho) ** t * start - 1e-11 * (1 + np.abs(best).max()))


@pytest.mark.states("prop-rare")
def test_from_both_sides_at_once_a_rare_error_may_vanish_sooner():
    # Pair 0 leads to pair 1, which stays. The error at pair 1 pulls that at pair 0 through zero.
    P, rho = np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0.1, 0.9])
    M, e = update_matrix(P, rho, 0.9, 1.0), np.array([1.0, -10.0])
    shares = []
    for t in range(1, 10):
        e = M @ e
        shares.append(abs(e[0]) / (1 - rho[0]) ** t)
    assert min(shares) < 0.3


@pytest.mark.states("prop-rare")
@given(generators, st.integers(1, 6), st.floats(0, 0.98), st.floats(0.05, 1))
def test_the_rate_lies_between_the_modulus_and_the_discounted_returns(rng, n, discount, share):
    P, rho = stochastic(rng, n), positive_weights(rng, n)
    step_size = share / rho.max()
    gap = 1 - spectral_radius(update_matrix(P, rho, discount, step_size))
    # E[gamma^tau_j] of the first return, by first-step analysis with the visits to j taken out.
    returns = []
    for j in range(n):
        others = np.delete(np.arange(n), j)
        hit = np.linalg.solve(np.eye(n - 1) - discount * P[np.ix_(others, others)], discount * P[others, j]) if n > 1 else np.zeros(0)
        returns.append(discount * P[j, j] + discount * P[j, others] @ hit)
    kappa = 1 - np.array(returns)
    assert np.all((1 - discount - 1e-12 <= kappa) & (kappa <= 1))
    assert step_size * (1 - discount) * rho.min() - 1e-7 <= gap <= step_size * np.min(kappa * rho) + 1e-7


@pytest.mark.states("prop-rare")
@given(generators, st.integers(2, 6), st.floats(0, 0.95))
def test_a_single_rare_pair_costs_its_discounted_return(rng, n, discount):
    P = rng.dirichlet(np.ones(n), size=n)
    share = 1e-6
    rho = np.append(np.full(n - 1, (1 - share) / (n - 1)), share)
    gap = 1 - spectral_radius(update_matrix(P, rho, discount, 1.0))
    kappa = 1 / np.linalg.inv(np.eye(n) - discount * P)[-1, -1]
    assert gap / share == pytest.approx(kappa, rel=1e-3)
    # The modulus would have it pay 1 - discount: only a pair that follows itself does.
    P[-1] = np.eye(n)[-1]
    assert (1 - spectral_radius(update_matrix(P, rho, discount, 1.0))) / share == pytest.approx(1 - discount, rel=1e-6)


@st.composite
def frozen_problems(draw):
    """An MDP, a policy, which pairs are frozen (not all, at least one) and a table to start with."""
    mdp, policy = draw(mdps_with_policy())
    rng = draw(generators)
    n = mdp.rewards.size
    assume(n > 1)
    frozen = np.zeros(n, dtype=bool)
    frozen[rng.permutation(n)[: rng.integers(1, n)]] = True
    start = 10 * rng.standard_normal(mdp.rewards.shape)
    return mdp, policy, frozen.reshape(mdp.rewards.shape), start


def spread(P, discount, frozen):
    """W of the theorem, by its series."""
    C, F = np.flatnonzero(~frozen.ravel()), np.flatnonzero(frozen.ravel())
    term, total = discount * P[np.ix_(C, F)], np.zeros((len(C), len(F)))
    for _ in range(4000):
        total += term
        term = discount * P[np.ix_(C, C)] @ term
        if term.max(initial=0) < 1e-17:
            break
    return total


def distances(edges, frozen):
    """Least number of steps from each covered pair to a frozen one, infinite where there is no way."""
    F = frozen.ravel()
    distance = np.where(F, 0.0, np.inf)
    for _ in range(len(F)):
        nearest = np.array([distance[row].min(initial=np.inf) for row in edges])
        distance = np.where(F, 0.0, 1 + nearest)
    return distance[~F]


@settings(max_examples=50)
@pytest.mark.states("thm-missing")
@given(frozen_problems(), generators, st.floats(0.1, 0.95))
def test_missing_data_freeze_their_values_and_lead_the_others_to_the_problem_with_exits(drawn, rng, share):
    mdp, policy, frozen, start = drawn
    rho = np.where(frozen, 0, rng.uniform(0.5, 1, frozen.shape))
    step_size = share * 2 / ((1 + mdp.discount) * rho.max())
    covered = rho[~frozen]
    modulus = np.max(np.abs(1 - step_size * covered) + step_size * mdp.discount * covered)
    exits = frozen_problem(mdp, frozen, start)
    assert modulus < 1
    with_exits = np.vstack([policy, policy[:1]])
    cases = (
        (partial(policy_operator, mdp, policy), action_values(exits, with_exits)[:-1]),
        (partial(optimality_operator, mdp), optimal_action_values(exits)[:-1]),
    )
    for T, limit in cases:
        Q = start
        for t in range(1, 80):
            Q = weighted_update(T, Q, rho, step_size)
            np.testing.assert_array_equal(Q[frozen], start[frozen])
            assert SUP(Q - limit) <= modulus**t * SUP(start - limit) + 1e-10
        np.testing.assert_allclose(T(limit)[~frozen], limit[~frozen], atol=1e-10)


@settings(max_examples=50)
@pytest.mark.states("thm-missing")
@given(frozen_problems())
def test_the_error_of_missing_data_spreads_by_first_hits_and_fades_with_the_distance(drawn):
    mdp, policy, frozen, start = drawn
    exits, flat = frozen_problem(mdp, frozen, start), frozen.ravel()

    evaluated = action_values(exits, np.vstack([policy, policy[:1]]))[:-1]
    error = (evaluated - action_values(mdp, policy)).ravel()
    P = pair_transitions(mdp, policy)
    np.testing.assert_allclose(error[~flat], spread(P, mdp.discount, frozen) @ error[flat], atol=1e-9)
    worst = np.abs(error[flat]).max()
    assert np.all(np.abs(error[~flat]) <= mdp.discount ** distances(P > 0, frozen) * worst + 1e-9)

    limit, best = optimal_action_values(exits)[:-1], optimal_action_values(mdp)
    error = (limit - best).ravel()
    below, above = (spread(pair_transitions(mdp, greedy(Q)), mdp.discount, frozen) @ error[flat] for Q in (best, limit))
    assert np.all(below <= error[~flat] + 1e-9)
    assert np.all(error[~flat] <= above + 1e-9)
    worst = np.abs(error[flat]).max()
    anywhere = pair_transitions(mdp, np.full(frozen.shape, 1 / frozen.shape[1])) > 0
    assert np.all(np.abs(error[~flat]) <= mdp.discount ** distances(anywhere, frozen) * worst + 1e-9)


@pytest.mark.states("thm-missing")
def test_the_bound_is_met_in_the_limit_the_two_policies_cannot_be_exchanged_and_the_least_data_undo_it_all():
    mdp, frozen = chain(), np.arange(10).reshape(5, 2) == 0
    best = optimal_action_values(mdp)
    optimist = optimal_action_values(frozen_problem(mdp, frozen, np.full((5, 2), 1e9)))[:-1]
    ratio = ((optimist - best) / (1e9 - best[0, 0])).ravel()[1:]
    distance = np.array([2, 1, 3, 2, 4, 3, 5, 4, 5])
    np.testing.assert_allclose(ratio, 0.9**distance, rtol=1e-7)
    # With the optimal policy in the place of the mistaken one the upper bound would be 0.
    assert spread(pair_transitions(mdp, greedy(best)), 0.9, frozen).max() == 0
    assert ratio.min() > 0.5
    rho = np.where(frozen, 1e-3, 0.1)
    run = iterate(partial(weighted_update, partial(optimality_operator, mdp), rho=rho, step_size=10.0), optimist / 1e8, max_steps=10_000)
    np.testing.assert_allclose(run.limit, best, atol=1e-6)


@pytest.mark.states("prop-pessimism")
@given(generators, st.integers(1, 5), st.integers(2, 3), st.floats(0, 0.98), SHARES)
def test_too_low_values_off_the_optimal_path_change_nothing_else(rng, n_states, n_actions, discount, share):
    mdp = random_mdp(rng, n_states, n_actions, discount=discount)
    best = optimal_action_values(mdp)
    frozen = (rng.random(best.shape) < share) & (greedy(best) == 0)
    low = best - rng.exponential(3, best.shape)
    limit = optimal_action_values(frozen_problem(mdp, frozen, low))[:-1]
    np.testing.assert_allclose(limit[~frozen], best[~frozen], atol=1e-9)
    np.testing.assert_allclose(action_values(mdp, greedy(limit)), best, atol=1e-9)


@pytest.mark.states("prop-pessimism")
def test_too_low_on_the_path_or_too_high_off_it_does_harm():
    mdp = chain()
    best = optimal_action_values(mdp)
    for pair, value in (((2, 1), 0.0), ((0, 0), 20.0)):
        frozen = np.zeros((5, 2), dtype=bool)
        frozen[pair] = True
        limit = optimal_action_values(frozen_problem(mdp, frozen, np.full((5, 2), value)))[:-1]
        assert SUP((limit - best) * ~frozen) > 5
        assert action_values(mdp, greedy(limit))[0].max() < 1e-9 < best[0].max()


# --- Too large a step ------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@pytest.mark.states("thm-every-policy")
@given(generators, st.integers(2, 5), st.floats(0, 0.97), st.floats(0.05, 0.999))
def test_below_the_bound_every_policy_is_evaluated_and_from_it_on_the_cycle_is_not(rng, n, discount, share):
    rho = rng.dirichlet(np.full(n, rng.choice([0.5, 2.0]))) * 0.8 + 0.2 / n
    bound = largest_step_for_every_policy(rho, discount)
    second, first = np.argsort(rho)[-2:]
    root = np.sqrt(((rho[first] - rho[second]) / 2) ** 2 + discount**2 * rho[first] * rho[second])
    assert bound == pytest.approx(2 / ((rho[first] + rho[second]) / 2 + root), rel=1e-12)
    assert 2 / ((1 + discount) * rho[first]) <= bound * (1 + 1e-12) <= 2 / rho[first] * (1 + 1e-11)
    P = stochastic(rng, n)
    assert spectral_radius(update_matrix(P, rho, discount, share * bound)) < 1
    P[first], P[second] = np.eye(n)[second], np.eye(n)[first]
    assert spectral_radius(update_matrix(P, rho, discount, share * bound)) < 1
    assert spectral_radius(update_matrix(P, rho, discount, 1.001 * bound)) > 1


@pytest.mark.states("thm-every-policy")
def test_the_cycle_of_the_two_most_visited_pairs_is_the_worst_and_without_coverage_no_step_will_do():
    rho, n = np.array([0.4, 0.35, 0.2, 0.05]), 4
    bound = largest_step_for_every_policy(rho, 0.9)
    for successors in itertools.product(range(n), repeat=n):
        P = np.eye(n)[list(successors)]
        assert spectral_radius(update_matrix(P, rho, 0.9, 0.9999 * bound)) < 1
        fails = spectral_radius(update_matrix(P, rho, 0.9, 1.0001 * bound)) > 1
        assert fails is (successors[0] == 1 and successors[1] == 0)
    blind = np.array([0.4, 0.6, 0.0])
    assert spectral_radius(update_matrix(np.eye(3)[[1, 0, 0]], blind, 0.9, 1e-3)) == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="rho must hold at least two weights, all positive"):
        largest_step_for_every_policy(blind, 0.9)


@pytest.mark.states("prop-near")
@given(generators, st.integers(1, 4), st.integers(2, 3), st.floats(0, 0.95), st.floats(0.1, 3))
def test_near_its_fixed_point_the_maximum_is_its_greedy_policy(rng, n_states, n_actions, discount, share):
    mdp = random_mdp(rng, n_states, n_actions, discount=discount)
    rho = positive_weights(rng, mdp.rewards.shape)
    step_size = share / rho.max()
    best = optimal_action_values(mdp)
    gap = np.diff(np.sort(best, axis=1)[:, -2:]).min()
    assume(gap > 1e-3)
    taken = greedy(best)
    M = update_matrix(pair_transitions(mdp, taken), rho.ravel(), discount, step_size)
    x = rng.uniform(-0.49, 0.49, best.shape) * gap
    moved = weighted_update(partial(optimality_operator, mdp), best + x, rho, step_size) - best
    np.testing.assert_allclose(moved.ravel(), M @ x.ravel(), atol=1e-11 * (1 + np.abs(best).max()) * (1 + share))
    # The spectrum: one number for each pair that is not taken, and the block of the others.
    on = np.flatnonzero(taken)
    expected = np.concatenate([1 - step_size * rho[taken == 0], np.linalg.eigvals(M[np.ix_(on, on)])])
    for power in range(1, len(M) + 1):
        assert np.trace(np.linalg.matrix_power(M, power)) == pytest.approx(np.sum(expected**power).real, abs=1e-9 * 4**power * len(M))


@pytest.mark.states("prop-near")
def test_locally_stable_is_not_globally_stable_and_a_tie_has_no_matrix():
    mdp = chain()
    T, best = partial(optimality_operator, mdp), optimal_action_values(mdp)
    M = update_matrix(pair_transitions(mdp, greedy(best)), np.ones(10), 0.9, 1.5)
    assert spectral_radius(M) == pytest.approx(0.85)
    assert iterate(partial(full_update, T, step_size=1.5), best + 0.01).outcome == "converged"
    assert iterate(partial(full_update, T, step_size=1.5), np.zeros((5, 2))).outcome == "diverged"
    tie = MDP(np.ones((1, 2, 1)), np.zeros((1, 2)), 0.5)
    up, down = (optimality_operator(tie, np.array([[x, 0.0]])) for x in (1e-3, -1e-3))
    assert not np.allclose(up, -down, atol=1e-6)


def test_above_radius_one_the_fixed_point_is_left():
    mdp, best = go_or_stay(0.9), np.array([[10.0, 9.0], [10.0, 9.0]])
    update = partial(full_update, partial(optimality_operator, mdp), step_size=1.1)
    Q = best + 1e-9 * np.array([[1.0, 0.0], [-1.0, 0.0]])
    for _ in range(1000):
        Q = update(Q)
    assert SUP(Q - best) > 0.5


@pytest.mark.states("prop-cycle")
@given(st.fractions(Fraction(1, 100), Fraction(99, 100)), st.fractions(Fraction(1, 100), Fraction(99, 100)))
def test_go_or_stay_has_a_cycle_of_period_two_exactly_from_the_end_of_the_contraction_on(g, place):
    def table(a):
        u, c = a - 1, 1 / ((1 - g) * (2 - a))
        return [[c * (1 - u * (1 - g)), c * g * (g - u * (1 - g))], [c * (1 - g + g * g - u * (1 - g * g)), c * g]]

    def update(Q, a):  # in exact arithmetic
        V = [max(row) for row in Q]
        return [[(1 - a) * Q[s][0] + a * (1 + g * V[1 - s]), (1 - a) * Q[s][1] + a * g * V[s]] for s in (0, 1)]

    end = 2 / (1 + g)
    a = end + place * (2 - end)
    Q = table(a)
    assert Q[0][0] > Q[0][1]
    assert Q[1][1] > Q[1][0]
    assert update(Q, a) == Q[::-1]
    assert update(Q[::-1], a) == Q
    below = 1 + place * (end - 1)  # a step that still contracts can have no such cycle
    if below < end:
        Q = table(below)
        assert update(Q, below) != Q[::-1]


@pytest.mark.states("prop-cycle")
@pytest.mark.parametrize("step_size", [1.06, 1.1, 1.5, 1.9])
def test_the_package_runs_into_that_cycle_where_it_loses_the_policy(step_size):
    mdp, g, u = go_or_stay(0.9), 0.9, step_size - 1
    c = 1 / ((1 - g) * (2 - step_size))
    cycle = c * np.array([[1 - u * (1 - g), g * (g - u * (1 - g))], [1 - g + g * g - u * (1 - g * g), g]])
    start = np.array([[0.0, 0.0], [5.0, 2.0]])
    points = iterate(partial(full_update, partial(optimality_operator, mdp), step_size=step_size), start, max_steps=4000).points[-2:]
    ordered = points if points[0][0, 0] > points[1][0, 0] else points[::-1]
    np.testing.assert_allclose(ordered, [cycle, cycle[::-1]], rtol=1e-9)
    go = deterministic_policy(np.array([0, 0]), 2)
    M = update_matrix(pair_transitions(mdp, go), np.ones(4), g, step_size)
    assert spectral_radius(M) == pytest.approx(step_size * 1.9 - 1)
    assert spectral_radius(M) > 1


@pytest.mark.states("prop-cycle")
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_that_cycle_attracts_with_the_eigenvalues_of_the_statement_and_no_longer_from_step_two_on(g, place):
    def turned(step_size):
        """The update where the first state goes and the second stays, then the exchange of the states."""
        P = pair_transitions(go_or_stay(g), deterministic_policy(np.array([0, 1]), 2))
        return update_matrix(P, np.ones(4), g, step_size)[[2, 3, 0, 1]]

    end = 2 / (1 + g)
    u = end + place * (2 - end) - 1
    claimed = np.sort([u, u, -u, g - u * (1 - g)])
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(turned(1 + u)).real), claimed, atol=1e-6)  # u is a double eigenvalue
    assert spectral_radius(turned(1 + u)) < 1
    assert spectral_radius(turned(2.1)) > 1


@pytest.mark.states("prop-cycle")
@pytest.mark.parametrize("step_size", [1.1, 1.5, 1.9])
def test_from_states_that_are_alike_policy_and_maximum_converge_and_from_random_ones_only_to_the_cycle(step_size):
    mdp, rng = go_or_stay(0.9), np.random.default_rng(0)
    maximum, policy = partial(optimality_operator, mdp), partial(policy_operator, mdp, deterministic_policy(np.array([0, 0]), 2))
    for operator in (maximum, policy):
        run = iterate(partial(full_update, operator, step_size=step_size), np.tile(rng.standard_normal(2), (2, 1)), max_steps=4000)
        np.testing.assert_allclose(run.limit, [[10, 9], [10, 9]], atol=1e-6)
    for one in 10 * rng.standard_normal((20, 2, 2)):
        # The update written out: with the checks of shapes at each of its calls this loop would take minutes.
        for _ in range(4000):
            other, one = one, one + step_size * (mdp.rewards + mdp.discount * mdp.transitions @ one.max(axis=1) - one)
        np.testing.assert_allclose(one, other[::-1], rtol=1e-9)
        assert np.abs(one - other).max() > 0.1
