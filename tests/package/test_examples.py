"""`examples`: the classics, closed forms against numbers."""

import numpy as np
import pytest
from deadly_triad.examples import DASHED, SOLID, baird, baird_boundary, chain, random_mdp, random_policy, w_to_2w, w_to_2w_boundary
from deadly_triad.linear_td import expected_iteration, td_fixed_point
from deadly_triad.mdp import optimal_action_values, policy_transitions, stationary_distribution
from deadly_triad.stability import analyse_stability
from hypothesis import assume, given
from hypothesis import strategies as st

from .strategies import generators, mdps

DISCOUNTS = st.floats(0, 0.999)
PROBABILITIES = st.floats(0.01, 1)
STANDARD_ERRORS = 5


# --- Baird's counterexample --------------------------------------------------------------------------------------------------------------


def test_the_classic_counterexample_is_that_of_figure_11_1_of_sutton_and_barto():
    classic = baird()
    np.testing.assert_array_equal(
        classic.features,
        [
            [2, 0, 0, 0, 0, 0, 0, 1],
            [0, 2, 0, 0, 0, 0, 0, 1],
            [0, 0, 2, 0, 0, 0, 0, 1],
            [0, 0, 0, 2, 0, 0, 0, 1],
            [0, 0, 0, 0, 2, 0, 0, 1],
            [0, 0, 0, 0, 0, 2, 0, 1],
            [0, 0, 0, 0, 0, 0, 1, 2],
        ],
    )
    np.testing.assert_array_equal(classic.start, [1, 1, 1, 1, 1, 1, 10, 1])
    np.testing.assert_array_equal(classic.mdp.transitions[:, SOLID], np.tile([0, 0, 0, 0, 0, 0, 1], (7, 1)))
    np.testing.assert_array_equal(classic.mdp.transitions[:, DASHED], np.tile(np.array([1, 1, 1, 1, 1, 1, 0]) / 6, (7, 1)))
    np.testing.assert_array_equal(classic.mdp.rewards, np.zeros((7, 2)))
    np.testing.assert_array_equal(classic.target[:, SOLID], np.ones(7))
    np.testing.assert_allclose(classic.behaviour[:, DASHED], 6 / 7, rtol=1e-15)
    assert classic.mdp.discount == 0.99


def test_the_columns_of_the_classic_key_matrix_sum_to_six_times_1_7_and_once_to_1_7_less_the_discount():
    np.testing.assert_allclose(baird().off_policy.key_matrix.sum(axis=0), [1 / 7] * 6 + [1 / 7 - 0.99], atol=1e-15)


@given(DISCOUNTS, PROBABILITIES, st.integers(1, 8))
def test_the_behaviour_visits_the_lower_state_with_the_solid_probability_and_the_target_stays_there(discount, p, m):
    example = baird(discount, p, m)
    np.testing.assert_allclose(example.behaviour_distribution, [(1 - p) / m] * m + [p], atol=1e-15)
    np.testing.assert_array_equal(example.target_distribution, [0] * m + [1])
    np.testing.assert_array_equal(example.off_policy.weighting, example.behaviour_distribution)
    np.testing.assert_array_equal(example.on_policy.weighting, example.target_distribution)
    assert np.linalg.matrix_rank(example.features) == m + 1  # every value function can be represented, the true one (zero) too
    np.testing.assert_array_equal(td_fixed_point(example.off_policy), np.zeros(m + 2))


@given(DISCOUNTS, PROBABILITIES, st.integers(1, 8), st.complex_numbers(min_magnitude=0.1, max_magnitude=10))
def test_the_characteristic_polynomial_of_bairds_a_is_the_closed_form(discount, p, m, z):
    A = baird(discount, p, m).off_policy.A
    u = (1 - p) / m
    trace = (4 + m) * u - 2 * m * discount * u + 5 * p * (1 - discount)
    determinant = u * p * (1 - discount) * (20 + m)
    closed_form = z * (z - 4 * u) ** (m - 1) * (z**2 - trace * z + determinant)
    size = (abs(z) + np.linalg.norm(A, 2)) ** (m + 2)  # bounds every term of the polynomial
    assert abs(np.linalg.det(z * np.eye(m + 2) - A) - closed_form) < 1e-13 * size


@given(DISCOUNTS, PROBABILITIES)
def test_on_policy_bairds_features_are_safe(discount, p):
    stability = analyse_stability(baird(discount, p).on_policy.A)
    assert (stability.verdict, stability.n_null) == ("semistable", 7)  # only the lower state is visited
    np.testing.assert_array_equal(baird(discount, 1.0).off_policy.A, baird(discount, p).on_policy.A)
    assert stability.eigenvalues[-1].real == pytest.approx(5 * (1 - discount), rel=1e-12)


@given(DISCOUNTS, st.integers(1, 12), st.floats(1e-4, 0.999))
def test_bairds_counterexample_is_stable_exactly_above_its_boundary(discount, m, distance):
    boundary = baird_boundary(discount, m)
    assert 0 <= boundary < 1
    above, below = boundary + distance * (1 - boundary), boundary * (1 - distance)
    stability = analyse_stability(baird(discount, above, m).off_policy.A)
    assert (stability.verdict, stability.n_null) == ("semistable", 1)  # one parameter more than states does not move
    if below > 0:
        assert analyse_stability(baird(discount, below, m).off_policy.A).verdict == "unstable"


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@given(DISCOUNTS, PROBABILITIES)
def test_with_at_most_four_upper_states_the_counterexample_is_none(m, discount, p):
    assert baird_boundary(discount, m) == 0
    assert analyse_stability(baird(discount, p, m).off_policy.A).verdict == "semistable"


def test_with_five_upper_states_it_is_one_again_and_for_six_the_boundary_is_the_fraction_of_the_book():
    assert baird_boundary(0.999, 5) > 0
    assert baird_boundary(0.9, 5) == 0  # (10 * 0.9 - 9) is 0 up to rounding
    for discount in (0.84, 0.9, 0.99):
        assert baird_boundary(discount) == pytest.approx((6 * discount - 5) / (10 - 9 * discount), rel=1e-12)
    assert baird_boundary(5 / 6 - 1e-9) == 0


def test_the_classic_run_diverges_at_every_step_size_and_the_same_run_at_a_small_discount_settles_on_the_true_values():
    for step_size in (0.01, 0.1, 1):
        off = baird()
        values = off.features @ expected_iteration(off.off_policy, off.start, step_size=step_size, n_steps=int(100 / step_size)).points[-1]
        assert np.abs(values).max() > 10 * np.abs(off.features @ off.start).max()
    mild = baird(discount=0.5)
    step_size = analyse_stability(mild.off_policy.A).largest_stable_step / 2
    trace = expected_iteration(mild.off_policy, mild.start, step_size=step_size, n_steps=5000)
    np.testing.assert_allclose(mild.features @ trace.points[-1], np.zeros(7), atol=1e-10)
    assert np.abs(trace.points[-1]).max() > 0.1  # zero values, not zero parameters: the redundant direction keeps its start


# --- w -> 2w -----------------------------------------------------------------------------------------------------------------------------


@given(DISCOUNTS, PROBABILITIES)
def test_a_of_w_to_2w_is_the_closed_form_and_its_sign_changes_at_the_boundary(discount, p):
    A = w_to_2w(discount, p).off_policy.A.item()
    assert abs(A - ((1 - p) * (1 - 2 * discount) + 4 * p * (1 - discount))) < 1e-14
    boundary = w_to_2w_boundary(discount)
    assert 0 <= boundary < 1
    assume(abs(p - boundary) > 1e-12)
    assert (A > 0) == (p > boundary)


def test_w_to_2w_starts_at_w_1_with_the_features_1_and_2():
    example = w_to_2w()
    np.testing.assert_array_equal(example.features, [[1], [2]])
    np.testing.assert_array_equal(example.start, [1])
    np.testing.assert_allclose(example.behaviour_distribution, [0.5, 0.5], rtol=1e-15)
    assert (w_to_2w_boundary(0.5), w_to_2w_boundary(0.25)) == (0, 0)
    assert w_to_2w_boundary(0.75) == pytest.approx(0.5 / 1.5, rel=1e-15)


# --- chain and random MDPs ---------------------------------------------------------------------------------------------------------------


@given(st.integers(2, 8), st.floats(0.01, 0.99))
def test_on_the_chain_the_best_is_always_to_the_right(n, discount):
    v = discount ** np.arange(n)[::-1] / (1 - discount)
    left = discount * v[np.maximum(np.arange(n) - 1, 0)]
    np.testing.assert_allclose(optimal_action_values(chain(n, discount)), np.stack([left, v], axis=1), rtol=1e-11)


@given(generators, st.integers(1, 6), st.integers(1, 3), st.data())
def test_a_random_mdp_has_the_sizes_and_the_branching_asked_for(rng, n_states, n_actions, data):
    branching = data.draw(st.integers(1, n_states))
    mdp = random_mdp(rng, n_states, n_actions, branching=branching)
    assert mdp.transitions.shape == (n_states, n_actions, n_states)
    np.testing.assert_array_equal(np.count_nonzero(mdp.transitions, axis=-1), branching)
    assert np.all(random_mdp(rng, n_states, n_actions).transitions > 0)


def test_a_random_mdp_has_the_moments_of_its_distribution():
    n_states, branching, n_actions = 5, 3, 10_000
    mdp = random_mdp(np.random.default_rng(0), n_states, n_actions, branching=branching)
    n = n_states * n_actions
    # A successor is one of `branching` out of `n_states`; given that, its probability p is uniform-Dirichlet: E p = 1 / b and
    # E p^2 = 2 / (b (b + 1)).
    for power, moment in ((0, 1.0), (1, 1 / branching), (2, 2 / (branching * (branching + 1)))):
        samples = np.where(mdp.transitions > 0, mdp.transitions**power, 0).reshape(n, n_states)
        error = samples.std(axis=0) / np.sqrt(n)
        assert np.all(np.abs(samples.mean(axis=0) - branching / n_states * moment) < STANDARD_ERRORS * error)
    rewards = mdp.rewards
    assert abs(rewards.mean()) < STANDARD_ERRORS / np.sqrt(n)
    assert abs(rewards.var() - 1) < STANDARD_ERRORS * np.sqrt(2 / n)
    assert abs(np.mean(rewards**4) - 3) < STANDARD_ERRORS * np.sqrt(96 / n)  # Var z^4 = 105 - 9


def test_a_random_policy_has_the_moments_of_the_uniform_distribution_over_policies():
    rng, n_states, n_draws = np.random.default_rng(0), 100, 1000
    mdp = random_mdp(rng, n_states, 3)
    rows = np.concatenate([random_policy(rng, mdp) for _ in range(n_draws)])
    assert rows.shape == (n_states * n_draws, 3)
    for power, moment in ((1, 1 / 3), (2, 2 / (3 * 4))):
        error = (rows**power).std(axis=0) / np.sqrt(len(rows))
        assert np.all(np.abs((rows**power).mean(axis=0) - moment) < STANDARD_ERRORS * error)


@given(mdps(), st.integers(0, 2**32 - 1))
def test_a_seed_fixes_the_policy_and_the_mdp_and_another_seed_gives_others(mdp, seed):
    def draw(seed):
        rng = np.random.default_rng(seed)
        return random_mdp(rng, 4, 2), random_policy(rng, mdp)

    (one, policy), (same, same_policy), (other, _) = draw(seed), draw(seed), draw(seed + 1)
    np.testing.assert_array_equal(one.transitions, same.transitions)
    np.testing.assert_array_equal(one.rewards, same.rewards)
    np.testing.assert_array_equal(policy, same_policy)
    assert not np.any(one.rewards == other.rewards)
    # All actions are taken and all states reached, so the chain is irreducible when its branching is full.
    assert np.all(stationary_distribution(policy_transitions(one, np.full((4, 2), 0.5))) > 0)


# --- refusals ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solid_probability", [0.0, -0.1, 1.1, np.nan])
def test_a_solid_probability_outside_its_range_is_refused(solid_probability):
    for example in (baird, w_to_2w):
        with pytest.raises(ValueError, match=r"solid_probability must lie in \(0, 1\]"):
            example(solid_probability=solid_probability)


@pytest.mark.parametrize("example", [baird, w_to_2w, baird_boundary, w_to_2w_boundary, lambda discount: chain(2, discount)])
def test_a_discount_of_1_is_refused(example):
    with pytest.raises(ValueError, match=r"discount must lie in \[0, 1\), got 1"):
        example(discount=1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: baird(n_upper=0), "n_upper must be at least 1, got 0"),
        (lambda: baird_boundary(0.9, 0), "n_upper must be at least 1, got 0"),
        (lambda: chain(1), "n_states must be at least 2, got 1"),
        (lambda: random_mdp(np.random.default_rng(0), 0), "n_states must be at least 1, got 0"),
        (lambda: random_mdp(np.random.default_rng(0), 1, 0), "n_actions must be at least 1, got 0"),
        (lambda: random_mdp(np.random.default_rng(0), 2, branching=0), "branching must be at least 1, got 0"),
        (lambda: random_mdp(np.random.default_rng(0), 2, branching=3), "branching must be at most 2, got 3"),
        (lambda: random_mdp(np.random.default_rng(0), 2, discount=1.0), "discount must lie in"),
    ],
)
def test_sizes_outside_their_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
