"""`mdp`: policies, Bellman operators, exact values, stationary distributions."""

import itertools

import numpy as np
import pytest
from deadly_triad.examples import random_mdp, random_policy
from deadly_triad.fixed_point import EUCLIDEAN, SUP, iterate, modulus_lower_bound
from deadly_triad.mdp import (
    MDP,
    action_values,
    check_discount,
    check_distribution,
    check_stochastic,
    deterministic_policy,
    importance_ratios,
    optimal_action_values,
    optimality_operator,
    pair_transitions,
    policy_operator,
    policy_rewards,
    policy_transitions,
    recurrent_classes,
    state_values,
    stationary_distribution,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .strategies import generators, mdps, mdps_with_policy

# Two states, two actions: stay or change places; only staying in state 1 pays.
STAY_OR_CHANGE = MDP(np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]), np.array([[0.0, 0.0], [1.0, 0.0]]), 0.5)


def pairs(mdp):
    return itertools.product(range(mdp.n_states), range(mdp.n_actions))


def all_deterministic_policies(mdp):
    for actions in itertools.product(range(mdp.n_actions), repeat=mdp.n_states):
        yield deterministic_policy(np.array(actions), mdp.n_actions)


# --- policies ----------------------------------------------------------------------------------------------------------------------------


@given(mdps_with_policy())
def test_the_chain_of_a_policy_averages_transitions_and_rewards_over_its_actions(drawn):
    mdp, policy = drawn
    for s in range(mdp.n_states):
        row = sum(policy[s, a] * mdp.transitions[s, a] for a in range(mdp.n_actions))
        reward = sum(policy[s, a] * mdp.rewards[s, a] for a in range(mdp.n_actions))
        np.testing.assert_allclose(policy_transitions(mdp, policy)[s], row, atol=1e-14)
        assert policy_rewards(mdp, policy)[s] == pytest.approx(reward, abs=1e-14)


@given(mdps_with_policy(), generators)
def test_importance_ratios_turn_the_mean_under_the_behaviour_into_the_mean_under_the_target(drawn, rng):
    mdp, target = drawn
    behaviour, f = random_policy(rng, mdp), rng.standard_normal((mdp.n_states, mdp.n_actions))
    weighted = np.sum(behaviour * importance_ratios(target, behaviour) * f, axis=1)
    np.testing.assert_allclose(weighted, np.sum(target * f, axis=1), atol=1e-13)


def test_the_importance_ratio_is_0_where_neither_policy_acts_and_refused_where_only_the_target_does():
    always_first, even = np.array([[1.0, 0.0], [1.0, 0.0]]), np.full((2, 2), 0.5)
    np.testing.assert_array_equal(importance_ratios(always_first, always_first), [[1, 0], [1, 0]])
    np.testing.assert_array_equal(importance_ratios(always_first, even), [[2, 0], [2, 0]])
    with pytest.raises(ValueError, match="behaviour must take every action that target takes; in state 1 it never takes action 1"):
        importance_ratios(np.array([[0.5, 0.5], [1 - 1e-12, 1e-12]]), np.array([[0.5, 0.5], [1.0, 0.0]]))


@given(mdps())
def test_a_deterministic_policy_collects_the_rewards_of_its_actions(mdp):
    actions = np.arange(mdp.n_states) % mdp.n_actions
    policy = deterministic_policy(actions, mdp.n_actions)
    assert policy.shape == (mdp.n_states, mdp.n_actions)
    np.testing.assert_array_equal(policy_rewards(mdp, policy), [mdp.rewards[s, a] for s, a in enumerate(actions)])


# --- Bellman operators -------------------------------------------------------------------------------------------------------------------


@given(mdps_with_policy(), generators)
def test_the_bellman_operators_are_their_sums(drawn, rng):
    mdp, policy = drawn
    q = rng.standard_normal((mdp.n_states, mdp.n_actions))
    mean, best = policy_operator(mdp, policy, q), optimality_operator(mdp, q)
    for s, a in pairs(mdp):
        ahead = [(mdp.transitions[s, a, t], policy[t], q[t]) for t in range(mdp.n_states)]
        assert mean[s, a] == pytest.approx(
            mdp.rewards[s, a] + mdp.discount * sum(p * sum(x * y for x, y in zip(pi, v, strict=True)) for p, pi, v in ahead), abs=1e-13
        )
        assert best[s, a] == pytest.approx(mdp.rewards[s, a] + mdp.discount * sum(p * max(v) for p, _, v in ahead), abs=1e-13)


@given(mdps_with_policy(), generators)
def test_both_operators_are_monotone_and_contract_the_sup_norm_by_the_discount_and_by_no_less(drawn, rng):
    mdp, policy = drawn
    q = rng.standard_normal((3, mdp.n_states, mdp.n_actions))
    for operator in (lambda v: policy_operator(mdp, policy, v), lambda v: optimality_operator(mdp, v)):
        for lower, upper in itertools.combinations(q, 2):
            assert SUP(operator(lower) - operator(upper)) <= mdp.discount * SUP(lower - upper) + 1e-13
            assert np.all(operator(np.minimum(lower, upper)) <= operator(upper) + 1e-13)
        # A constant is a direction in which the whole modulus shows.
        np.testing.assert_allclose(operator(q[0] + 1), operator(q[0]) + mdp.discount, atol=1e-13)


def test_in_the_euclidean_norm_a_bellman_operator_need_not_contract():
    n, discount = 4, 0.9
    mdp = MDP(np.broadcast_to(np.eye(n)[0], (n, 1, n)).copy(), np.zeros((n, 1)), discount)  # everything leads to state 0
    points = np.array([np.zeros(n), np.eye(n)[0]])

    def operator(values):
        return optimality_operator(mdp, values[:, None])[:, 0]

    assert modulus_lower_bound(operator, points, EUCLIDEAN) == pytest.approx(discount * np.sqrt(n), rel=1e-14)
    assert modulus_lower_bound(operator, points, SUP) == pytest.approx(discount, rel=1e-14)


@given(mdps(max_states=3), generators)
def test_the_optimality_operator_is_the_maximum_of_the_policy_operators(mdp, rng):
    q = rng.standard_normal((mdp.n_states, mdp.n_actions))
    best = np.max([policy_operator(mdp, policy, q) for policy in all_deterministic_policies(mdp)], axis=0)
    np.testing.assert_allclose(optimality_operator(mdp, q), best, atol=1e-13)


# --- values ------------------------------------------------------------------------------------------------------------------------------


@given(mdps_with_policy())
def test_the_values_of_a_policy_solve_the_linear_system_over_pairs_and_are_fixed_by_its_operator(drawn):
    mdp, policy = drawn
    n = mdp.n_states * mdp.n_actions
    onward = np.array([[mdp.transitions[s, a, t] * policy[t, c] for t, c in pairs(mdp)] for s, a in pairs(mdp)])
    np.testing.assert_array_equal(pair_transitions(mdp, policy), onward)
    q = np.linalg.solve(np.eye(n) - mdp.discount * onward, mdp.rewards.ravel()).reshape(mdp.rewards.shape)
    scale = max(1, np.abs(q).max())
    np.testing.assert_allclose(action_values(mdp, policy), q, atol=1e-12 * scale)
    np.testing.assert_allclose(policy_operator(mdp, policy, q), q, atol=1e-12 * scale)
    np.testing.assert_allclose(state_values(mdp, policy), np.sum(policy * q, axis=1), atol=1e-12 * scale)


def test_values_worked_out_by_hand():
    stay, change = deterministic_policy(np.array([0, 0]), 2), deterministic_policy(np.array([1, 1]), 2)
    np.testing.assert_allclose(state_values(STAY_OR_CHANGE, stay), [0, 1 + 1 / 2 + 1 / 4 / (1 - 1 / 2)], rtol=1e-15)
    np.testing.assert_allclose(action_values(STAY_OR_CHANGE, change), [[0, 0], [1, 0]], atol=1e-15)
    np.testing.assert_allclose(optimal_action_values(STAY_OR_CHANGE), [[0.5, 1], [2, 0.5]], rtol=1e-15)


@given(mdps(max_states=3))
def test_the_optimal_values_are_the_best_over_all_deterministic_policies_and_fixed_by_the_optimality_operator(mdp):
    best = np.max([action_values(mdp, policy) for policy in all_deterministic_policies(mdp)], axis=0)
    scale = max(1, np.abs(best).max())
    np.testing.assert_allclose(optimal_action_values(mdp), best, atol=1e-12 * scale)
    np.testing.assert_allclose(optimality_operator(mdp, best), best, atol=1e-12 * scale)


@pytest.mark.parametrize("seed", [468, 578, 725, 996, 1192])
def test_policy_iteration_ends_when_all_policies_tie(seed):
    # Without a memory of the best values so far, rounding sends it round in a circle on these seeds.
    transitions = random_mdp(np.random.default_rng(seed), 20, 4).transitions
    values = optimal_action_values(MDP(transitions, np.ones((20, 4)), 0.9))
    np.testing.assert_allclose(values, 1 / (1 - 0.9), rtol=1e-13)


@settings(max_examples=25)
@given(mdps())
def test_value_iteration_reaches_the_values_that_policy_iteration_finds(mdp):
    trace = iterate(lambda q: optimality_operator(mdp, q), np.zeros_like(mdp.rewards), tolerance=1e-12)
    # Banach: the distance is at most the last step over 1 - discount, and 1 - discount is at least 1/100.
    np.testing.assert_allclose(trace.limit, optimal_action_values(mdp), atol=1e-10)


@pytest.mark.parametrize("elsewhere", [0, 1e20])
def test_small_values_are_improved_to_the_end_however_large_the_values_elsewhere(elsewhere):
    # A corridor where staying pays 0.01 and only its end pays 1, so each sweep of policy iteration mends one more state; and an island.
    n, discount = 6, 0.9
    transitions = np.zeros((n + 1, 2, n + 1))
    transitions[range(n), 0, range(n)] = 1
    transitions[range(n), 1, [*range(1, n), n - 1]] = 1
    transitions[n, :, n] = 1
    rewards = np.tile([0.01, 0.0], (n + 1, 1))
    rewards[n - 1], rewards[n] = 1, elsewhere
    values = optimal_action_values(MDP(transitions, rewards, discount)).max(axis=1)
    np.testing.assert_allclose(values[:n], discount ** np.arange(n)[::-1] / (1 - discount), rtol=1e-13)


# --- Markov chains -----------------------------------------------------------------------------------------------------------------------


@given(rng=generators, n=st.integers(1, 7), density=st.floats(0.1, 0.6))
def test_the_recurrent_classes_are_the_sets_that_can_be_entered_and_not_left(rng, n, density):
    edges = (rng.random((n, n)) < density) | np.eye(n, dtype=bool)[rng.permutation(n)]  # a permutation: no row is empty
    reach = np.linalg.matrix_power((edges | np.eye(n, dtype=bool)).astype(int), n) > 0
    expected = {frozenset(np.flatnonzero(reach[s])) for s in range(n) if all(reach[t, s] for t in np.flatnonzero(reach[s]))}
    classes = recurrent_classes(edges / edges.sum(axis=1, keepdims=True))
    assert {frozenset(c) for c in classes} == expected
    assert len(classes) == len(expected)


@given(mdps_with_policy(), st.integers(0, 3), generators)
def test_the_stationary_distribution_is_kept_by_the_chain_and_0_on_transient_states(drawn, n_transient, rng):
    chain = policy_transitions(*drawn)
    assume(len(recurrent_classes(chain)) == 1)
    n = len(chain) + n_transient
    transitions = np.zeros((n, n))
    transitions[n_transient:, n_transient:] = chain
    transitions[:n_transient] = rng.dirichlet(np.ones(n), n_transient)
    d = stationary_distribution(transitions)
    assert np.all(d >= 0)
    assert d.sum() == pytest.approx(1, abs=1e-14)
    assert np.all(d[:n_transient] == 0)
    np.testing.assert_allclose(d @ transitions, d, atol=1e-14)
    # d P = d and d 1 = 1 together are d (I - P + 1 1^T) = 1^T; that solve loses the digits of the condition number, d itself none.
    np.testing.assert_allclose(d, np.linalg.solve((np.eye(n) - transitions + 1).T, np.ones(n)), atol=1e-10)


def test_periodic_chains_have_a_stationary_distribution_and_chains_that_fall_apart_have_none():
    np.testing.assert_array_equal(stationary_distribution(np.eye(3)[[1, 2, 0]]), [1 / 3] * 3)
    np.testing.assert_array_equal(stationary_distribution(np.eye(1)), [1])
    with pytest.raises(ValueError, match=r"transitions must have one recurrent class .* got 2: \[\[0, 2\], \[3\]\]"):
        stationary_distribution(np.array([[0.0, 0, 1, 0], [0.5, 0, 0, 0.5], [1, 0, 0, 0], [0, 0, 0, 1]]))


def test_the_smallest_probabilities_are_found_to_full_relative_precision_where_a_linear_solve_loses_them():
    # A birth-death chain, up with probability u and down with 1 - u, has d(s) proportional to (u / (1 - u))^s: here down to 1e-50.
    n, up = 26, 0.01
    chain = np.diag(np.full(n - 1, up), 1) + np.diag(np.full(n - 1, 1 - up), -1)
    chain[0, 0], chain[-1, -1] = 1 - up, up
    expected = (up / (1 - up)) ** np.arange(n)
    expected /= expected.sum()
    np.testing.assert_allclose(stationary_distribution(chain), expected, rtol=1e-13)
    solved = np.linalg.lstsq(np.vstack([chain.T - np.eye(n), np.ones(n)]), np.append(np.zeros(n), 1), rcond=None)[0]
    assert np.abs(solved / expected - 1).max() > 1


@pytest.mark.parametrize("rare", [1e-6, 1e-15, 1e-100])
def test_nearly_separate_blocks_are_weighed_correctly(rare):
    # Between the pairs {0, 1} and {2, 3} the chain passes with probability `rare` one way and twice that the other: weights 2/3 and 1/3.
    chain = np.array([[0.5, 0.5, 0, 0], [0.5, 0.5 - rare, rare, 0], [0, 2 * rare, 0.5 - 2 * rare, 0.5], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(stationary_distribution(chain), [1 / 3, 1 / 3, 1 / 6, 1 / 6], rtol=1e-14)


# --- refusals ----------------------------------------------------------------------------------------------------------------------------

MDP_ARGUMENTS = {"transitions": np.full((2, 1, 2), 0.5), "rewards": np.zeros((2, 1)), "discount": 0.9}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transitions": np.full((2, 2), 0.5)}, r"transitions must have shape \(S, A, S\), got \(2, 2\)"),
        ({"transitions": np.full((2, 1, 3), 1 / 3)}, r"transitions must have shape \(S, A, S\), got \(2, 1, 3\)"),
        ({"transitions": np.ones((2, 0, 2))}, r"transitions must have shape \(S, A, S\), got \(2, 0, 2\)"),
        ({"transitions": np.array([[[0.5, 0.5]], [[0.3, 0.6]]])}, r"transitions must sum to 1 .* got 0\.9 at index \(1, 0\)"),
        ({"transitions": np.array([[[0.5, 0.5]], [[1.5, -0.5]]])}, r"transitions must hold probabilities, got -0\.5"),
        ({"transitions": np.array([[[0.5, 0.5]], [[np.nan, 0.5]]])}, "transitions must be finite"),
        ({"rewards": np.zeros((2, 2))}, r"rewards must have shape \(S, A\) = \(2, 1\), got \(2, 2\)"),
        ({"rewards": np.array([[0.0], [np.inf]])}, "rewards must be finite"),
        ({"discount": 1.0}, r"discount must lie in \[0, 1\), got 1"),
    ],
)
def test_an_mdp_that_is_none_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MDP(**(MDP_ARGUMENTS | change))


@pytest.mark.parametrize("discount", [-0.1, 1.0, np.nan])
def test_a_discount_outside_0_to_1_is_refused(discount):
    with pytest.raises(ValueError, match=r"discount must lie in \[0, 1\)"):
        check_discount(discount)
    check_discount(0.0)


@pytest.mark.parametrize("wrong", [np.ones((3, 2)), np.ones((2, 3))])
def test_policies_and_action_values_of_another_shape_are_refused(wrong):
    mdp, values = STAY_OR_CHANGE, np.zeros((2, 2))
    for call in (policy_transitions, pair_transitions, policy_rewards, state_values, action_values):
        with pytest.raises(ValueError, match=r"policy must have shape \(S, A\) = \(2, 2\)"):
            call(mdp, wrong)
    with pytest.raises(ValueError, match=r"values must have shape \(S, A\) = \(2, 2\)"):
        optimality_operator(mdp, wrong)
    with pytest.raises(ValueError, match="values must be finite"):
        policy_operator(mdp, np.full((2, 2), 0.5), values + np.inf)
    with pytest.raises(ValueError, match="policy must sum to 1"):
        policy_operator(mdp, values + 0.4, values)


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_do_not_fit_each_other_are_refused_without_the_shape_checks_too():
    with pytest.raises(ValueError, match="values must have shape"):
        policy_operator(STAY_OR_CHANGE, np.full((2, 2), 0.5), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="policy must have shape"):
        policy_operator(STAY_OR_CHANGE, np.ones((2, 1)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="behaviour must have the shape"):
        importance_ratios(np.ones((2, 1)), np.ones((3, 1)))
    for call in (recurrent_classes, stationary_distribution):
        for shape in ((2,), (2, 3), (0, 0)):
            with pytest.raises(ValueError, match="transitions must be a square matrix"):
                call(np.ones(shape))


@pytest.mark.parametrize("action", [-1, 2])
def test_an_action_that_does_not_exist_is_refused(action):
    with pytest.raises(ValueError, match=r"actions must lie in 0, …, 1"):
        deterministic_policy(np.array([0, action]), 2)


def test_sums_are_compared_with_1_up_to_rounding_and_no_further():
    check_distribution("d", np.array([0.5, 0.5 + 5e-10]))
    with pytest.raises(ValueError, match=r"d must sum to 1 along the last axis, got 1\.000000002$"):
        check_distribution("d", np.array([0.5, 0.5 + 2e-9]))
    with pytest.raises(ValueError, match=r"chain must sum to 1 along the last axis, got 0\.5 at index \(0,\)"):
        check_stochastic("chain", np.diag([0.5, 1.0]))


@pytest.mark.parametrize("which", ["target", "behaviour"])
@pytest.mark.parametrize("row", [[np.nan, 1.0], [0.5, 0.6]])
def test_importance_ratios_of_what_is_no_policy_are_refused_by_name(which, row):
    policies = {"target": np.array([[0.5, 0.5]]), "behaviour": np.array([[0.5, 0.5]])} | {which: np.array([row])}
    with pytest.raises(ValueError, match=which):
        importance_ratios(**policies)
