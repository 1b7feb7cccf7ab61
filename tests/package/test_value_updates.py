"""`value_updates`: U1 and U2 on a table, their modulus, the largest step for every policy, the problem that missing data leave."""

from functools import partial

import numpy as np
import pytest
from deadly_triad.examples import chain
from deadly_triad.linear_td import LinearTD, expected_update
from deadly_triad.mdp import MDP, optimal_action_values, optimality_operator, pair_transitions, policy_operator
from deadly_triad.value_updates import (
    frozen_problem,
    full_update,
    largest_step_for_every_policy,
    update_matrix,
    weighted_modulus,
    weighted_update,
)
from hypothesis import given
from hypothesis import strategies as st

from .strategies import generators, mdps, mdps_with_policy, systems


@given(mdps(), generators, st.floats(0.01, 3))
def test_each_entry_moves_towards_its_target_by_its_share(mdp, rng, step_size):
    T, Q = partial(optimality_operator, mdp), rng.standard_normal(mdp.rewards.shape)
    rho = rng.uniform(0, 1, Q.shape)
    moved, target = weighted_update(T, Q, rho, step_size), T(Q)
    for pair in np.ndindex(Q.shape):
        share = step_size * rho[pair]
        assert moved[pair] == pytest.approx((1 - share) * Q[pair] + share * target[pair], abs=1e-12)
    np.testing.assert_array_equal(full_update(T, Q, step_size), weighted_update(T, Q, np.ones_like(Q), step_size))


@given(mdps_with_policy(), generators)
def test_the_transitions_between_pairs_are_the_linear_part_of_the_policy_operator(drawn, rng):
    mdp, policy = drawn
    Q = rng.standard_normal(mdp.rewards.shape)
    ahead = mdp.rewards.ravel() + mdp.discount * pair_transitions(mdp, policy) @ Q.ravel()
    np.testing.assert_allclose(ahead, policy_operator(mdp, policy, Q).ravel(), atol=1e-12)


@given(systems(), st.floats(0.01, 3))
def test_the_update_matrix_is_that_of_expected_td_with_a_table(system, step_size):
    table = LinearTD(np.eye(len(system.weighting)), system.weighting, system.transitions, system.rewards, system.discount)
    matrix = update_matrix(system.transitions, system.weighting, system.discount, step_size)
    np.testing.assert_allclose(matrix, expected_update(table, step_size), atol=1e-14)


def test_the_modulus_and_the_largest_step_worked_out_by_hand():
    rho = np.array([[0.5, 0.25], [0.125, 0.125]])
    assert weighted_modulus(rho, 0.5, 2.0) == 1 - 2 * 0.5 * 0.125
    assert weighted_modulus(rho, 0.5, 3.0) == 3 * 1.5 * 0.5 - 1
    # Equal weights: (1 + 1/2) / 4. Without a discount only the largest counts.
    assert largest_step_for_every_policy(np.full(4, 0.25), 0.5) == pytest.approx(2 / (1.5 * 0.25), rel=1e-15)
    assert largest_step_for_every_policy(rho, 0.0) == pytest.approx(4, rel=1e-15)


def test_a_frozen_pair_is_an_exit_that_pays_its_value_whatever_the_other_entries_say():
    mdp, frozen = chain(2, 0.5), np.array([[True, False], [False, False]])
    problem = frozen_problem(mdp, frozen, np.array([[3.0, 7.0], [7.0, 7.0]]))
    # Right of it the reward is worth 1 / (1 - 1/2) = 2: state 0 leaves with 3, state 1 stays.
    np.testing.assert_allclose(optimal_action_values(problem), [[3, 1], [1.5, 2], [0, 0]], rtol=1e-15)
    nothing = optimal_action_values(frozen_problem(mdp, ~frozen & frozen, np.zeros((2, 2))))[:-1]
    np.testing.assert_allclose(nothing, optimal_action_values(mdp), rtol=1e-15)


ONE, TWO = np.ones((1, 1)), np.full(2, 0.5)
ALONE = MDP(np.ones((1, 1, 1)), ONE, 0.5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: full_update(np.negative, ONE, 0.0), "step_size must be positive"),
        (lambda: weighted_update(np.negative, ONE, ONE, -1.0), "step_size must be positive"),
        (lambda: weighted_update(np.negative, ONE, -ONE, 1.0), "rho must hold non-negative weights"),
        (lambda: weighted_update(np.negative, ONE, np.ones((1, 2)), 1.0), r"rho must have the shape \(1, 1\) of values, got \(1, 2\)"),
        (lambda: update_matrix(np.full((2, 2), 0.4), TWO, 0.5, 1.0), "transitions must sum to 1"),
        (lambda: update_matrix(np.full((2, 2), 0.5), np.ones(3), 0.5, 1.0), r"rho must have shape \(2,\), got \(3,\)"),
        (lambda: update_matrix(np.full((2, 2), 0.5), TWO, 1.0, 1.0), "discount must lie in"),
        (lambda: update_matrix(np.full((2, 2), 0.5), TWO, 0.5, np.inf), "step_size must be positive"),
        (lambda: weighted_modulus(np.array([np.nan]), 0.5, 1.0), "rho must be finite"),
        (lambda: weighted_modulus(np.zeros(0), 0.5, 1.0), "at least one"),
        (lambda: weighted_modulus(TWO, -0.1, 1.0), "discount must lie in"),
        (lambda: weighted_modulus(TWO, 0.5, 0.0), "step_size must be positive"),
        (lambda: largest_step_for_every_policy(np.ones(1), 0.5), "rho must hold at least two weights"),
        (lambda: largest_step_for_every_policy(TWO, 1.0), "discount must lie in"),
        (lambda: frozen_problem(ALONE, np.ones((1, 2), dtype=bool), ONE), r"frozen must have shape \(S, A\) = \(1, 1\), got \(1, 2\)"),
        (lambda: frozen_problem(ALONE, ONE > 0, np.ones((2, 1))), r"values must have shape \(S, A\) = \(1, 1\), got \(2, 1\)"),
        (lambda: frozen_problem(ALONE, ONE > 0, ONE * np.nan), "values must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
