"""`linear_td`: expected and sampled TD(0) with linear features."""

import itertools

import numpy as np
import pytest
from deadly_triad.examples import random_mdp, random_policy, w_to_2w
from deadly_triad.linear_td import (
    ESCAPED,
    LinearTD,
    expected_iteration,
    expected_update,
    linear_td,
    projection,
    sample_transitions,
    sampled_td,
    sampled_td_mean,
    td_fixed_point,
)
from deadly_triad.mdp import MDP, importance_ratios, policy_transitions, state_values, stationary_distribution
from deadly_triad.stability import analyse_stability
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .strategies import generators, mdps_with_policy, systems

STANDARD_ERRORS = 5
"""How far a sample mean may lie from its expectation: by chance one component in a million does, and the seeds are fixed."""


def sampling_problem(seed, n_states=3, n_features=2):
    """What the sampling functions ask for, random but for the policies, which differ in each state."""
    rng = np.random.default_rng(seed)
    return {
        "mdp": random_mdp(rng, n_states, 2, discount=0.8),
        "features": rng.standard_normal((n_states, n_features)),
        "target": np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.2]])[:n_states],
        "behaviour": np.array([[0.2, 0.8], [0.8, 0.2], [0.3, 0.7]])[:n_states],
        "start": rng.standard_normal(n_features),
    }


def one_state(n_actions, rewards):
    return MDP(np.ones((1, n_actions, 1)), np.array([rewards]), 0.0)


# --- the expected system -----------------------------------------------------------------------------------------------------------------


@given(mdps_with_policy(), generators)
def test_a_and_b_are_the_expectations_over_state_action_and_next_state_of_the_importance_weighted_update(drawn, rng):
    mdp, target = drawn
    behaviour, features, weighting = random_policy(rng, mdp), rng.standard_normal((mdp.n_states, 2)), rng.dirichlet(np.ones(mdp.n_states))
    system = linear_td(mdp, features, target=target, weighting=weighting)
    A, b = np.zeros((2, 2)), np.zeros(2)
    for s, a, t in itertools.product(range(mdp.n_states), range(mdp.n_actions), range(mdp.n_states)):
        probability = weighting[s] * behaviour[s, a] * mdp.transitions[s, a, t]
        importance_ratio = target[s, a] / behaviour[s, a]
        A += probability * importance_ratio * np.outer(features[s], features[s] - mdp.discount * features[t])
        b += probability * importance_ratio * features[s] * mdp.rewards[s, a]
    np.testing.assert_allclose(system.A, A, atol=1e-13)
    np.testing.assert_allclose(system.b, b, atol=1e-13)
    np.testing.assert_allclose(system.true_values, state_values(mdp, target), atol=1e-11 / (1 - mdp.discount))


@given(systems(), st.complex_numbers(min_magnitude=0.5, max_magnitude=2))
def test_a_has_the_nonzero_eigenvalues_of_the_kernel_times_the_key_matrix(system, z):
    n, k = system.features.shape
    values = np.linalg.det(z * np.eye(n) - system.features @ system.features.T @ system.key_matrix)
    parameters = np.linalg.det(z * np.eye(k) - system.A)
    size = (abs(z) + np.linalg.norm(system.features, 2) ** 2) ** n
    assert abs(values - z ** (n - k) * parameters) < 1e-12 * size


@given(systems())
def test_one_feature_per_state_makes_td_stable_under_every_positive_weighting_and_its_fixed_point_the_true_values(system):
    n = len(system.rewards)
    tabular = LinearTD(np.eye(n), system.weighting, system.transitions, system.rewards, system.discount)
    np.testing.assert_array_equal(tabular.A, system.key_matrix)
    assert analyse_stability(tabular.A).verdict == "stable"
    np.testing.assert_allclose(td_fixed_point(tabular), system.true_values, atol=1e-10 * (1 + np.abs(system.true_values).max()))


def on_policy_margin(system):
    """Least eigenvalue of the symmetric part of A - (1 - discount) Phi' D Phi."""
    covariance = system.features.T @ (system.weighting[:, None] * system.features)
    return np.linalg.eigvalsh((system.A + system.A.T) / 2 - (1 - system.discount) * covariance)[0]


@given(systems(), generators)
def test_under_its_own_stationary_distribution_a_is_positive_definite_and_off_policy_it_need_not_be(system, rng):
    transitions = rng.dirichlet(np.ones(len(system.rewards)), len(system.rewards))
    on_policy = LinearTD(system.features, stationary_distribution(transitions), transitions, system.rewards, system.discount)
    assert on_policy_margin(on_policy) > -1e-12
    assert on_policy_margin(w_to_2w(discount=0.9, solid_probability=0.1).off_policy) < -0.1


# --- fixed point and expected iteration --------------------------------------------------------------------------------------------------


@given(systems())
def test_the_td_fixed_point_is_fixed_by_the_projected_bellman_operator(system):
    assume(np.linalg.cond(system.A) < 1e6)
    theta = td_fixed_point(system)
    values = system.features @ theta
    backed_up = system.rewards + system.discount * system.transitions @ values
    np.testing.assert_allclose(projection(system) @ backed_up, values, atol=1e-8 * (1 + np.abs(values).max()))


@given(systems())
def test_of_many_td_fixed_points_the_shortest_is_returned(system):
    assume(np.linalg.cond(system.A) < 1e6)
    twice = np.hstack([system.features, system.features])
    theta = td_fixed_point(LinearTD(twice, system.weighting, system.transitions, system.rewards, system.discount))
    single = td_fixed_point(system)
    np.testing.assert_allclose(theta, np.tile(single / 2, 2), atol=1e-8 * (1 + np.abs(single).max()))


def upper_state_of_w_to_2w(discount, reward):
    """Only the state of value w is updated, and it leads to the one of value 2w: A = 1 - 2 discount, b = reward."""
    transitions = np.array([[0.0, 1.0], [0.0, 1.0]])
    return LinearTD(np.array([[1.0], [2.0]]), np.array([1.0, 0.0]), transitions, np.array([reward, 0.0]), discount)


def test_a_system_without_a_td_fixed_point_is_refused():
    assert td_fixed_point(upper_state_of_w_to_2w(0.25, 3.0)) == pytest.approx(3 / (1 - 2 * 0.25), rel=1e-14)
    assert td_fixed_point(upper_state_of_w_to_2w(0.5, 0.0)) == 0
    with pytest.raises(ValueError, match="system has no TD fixed point"):
        td_fixed_point(upper_state_of_w_to_2w(0.5, 3.0))


@given(systems(), generators, st.floats(0.01, 2), st.integers(1, 30))
def test_expected_td_follows_the_powers_of_the_update_matrix(system, rng, step_size, n_steps):
    assume(np.linalg.cond(system.A) < 1e4)
    start, limit = rng.standard_normal(system.features.shape[1]), td_fixed_point(system)
    update = np.eye(len(limit)) - step_size * system.A
    np.testing.assert_array_equal(expected_update(system, step_size), update)
    trace = expected_iteration(system, start, step_size=step_size, n_steps=n_steps)
    assert trace.n_steps == n_steps or (trace.outcome == "converged" and trace.n_steps < n_steps)
    largest = 0.0
    for t, theta in enumerate(trace.points):
        largest = max(largest, np.abs(theta).max(), np.abs(limit).max(), 1)
        np.testing.assert_allclose(theta, limit + np.linalg.matrix_power(update, t) @ (start - limit), atol=1e-10 * largest)


def test_expected_td_ends_early_at_its_fixed_point_or_at_the_ceiling_of_iterate():
    system = w_to_2w(discount=0.9, solid_probability=0.1).off_policy
    at_rest = expected_iteration(system, np.zeros(1), step_size=0.1, n_steps=9)
    assert (at_rest.outcome, at_rest.n_steps) == ("converged", 1)
    growth = 1 + 0.1 * (0.9 * (2 * 0.9 - 1) - 0.1 * 4 * (1 - 0.9))  # 1 - step_size A
    gone = expected_iteration(system, np.ones(1), step_size=0.1, n_steps=10_000)
    assert (gone.outcome, gone.n_steps) == ("diverged", int(np.ceil(np.log(1e100) / np.log(growth))))
    np.testing.assert_allclose(gone.points[:, 0], growth ** np.arange(gone.n_steps + 1), rtol=1e-10)


# --- projection --------------------------------------------------------------------------------------------------------------------------


@given(systems())
def test_the_projection_keeps_the_span_of_the_features_and_is_orthogonal_in_the_weighted_inner_product(system):
    assume(np.linalg.cond(system.features) < 1e4)
    onto, weights = projection(system), np.diag(system.weighting)
    np.testing.assert_allclose(onto @ onto, onto, atol=1e-10)
    np.testing.assert_allclose(onto @ system.features, system.features, atol=1e-10)
    np.testing.assert_allclose(weights @ onto, (weights @ onto).T, atol=1e-10)
    assert np.trace(onto) == pytest.approx(system.features.shape[1], abs=1e-10)
    twice = np.hstack([system.features, 2 * system.features])
    redundant = LinearTD(twice, system.weighting, system.transitions, system.rewards, system.discount)
    np.testing.assert_allclose(projection(redundant), onto, atol=1e-10)


def test_a_state_of_weight_0_is_extrapolated_and_without_enough_coverage_there_is_no_projection():
    def system(features, weighting):
        return LinearTD(np.array(features), np.array(weighting), np.eye(2), np.zeros(2), 0.5)

    np.testing.assert_allclose(projection(system([[1.0], [2.0]], [1.0, 0.0])), [[1, 0], [2, 0]], atol=1e-15)
    np.testing.assert_allclose(projection(system([[0.0], [1.0]], [0.5, 0.5])), [[0, 0], [0, 1]], atol=1e-15)
    for features in ([[0.0], [1.0]], [[1.0, 0.0], [0.0, 1.0]]):
        with pytest.raises(ValueError, match="weighting must be positive on enough states"):
            projection(system(features, [1.0, 0.0]))


# --- sampling ----------------------------------------------------------------------------------------------------------------------------


def test_transitions_are_drawn_with_their_probabilities_and_impossible_ones_never():
    rng = np.random.default_rng(1)
    mdp = random_mdp(rng, 4, 3, branching=2)
    behaviour = np.array([[0.0, 0.3, 0.7], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.2, 0.8, 0.0]])
    weighting = np.array([0.0, 0.6, 0.4, 0.0])
    n_samples = 100_000
    sample = sample_transitions(mdp, behaviour, weighting, n_samples, rng)
    counts = np.zeros((4, 3, 4))
    np.add.at(counts, (sample.states, sample.actions, sample.next_states), 1)
    probabilities = weighting[:, None, None] * behaviour[:, :, None] * mdp.transitions
    assert counts.sum() == n_samples
    assert np.all(counts[probabilities == 0] == 0)
    assert np.all(np.abs(counts - n_samples * probabilities) <= STANDARD_ERRORS * np.sqrt(n_samples * probabilities * (1 - probabilities)))
    np.testing.assert_array_equal(sample.rewards, mdp.rewards[sample.states, sample.actions])


class Always(np.random.Generator):
    """A generator that returns the same number every time."""

    def __init__(self, number):
        super().__init__(np.random.PCG64())
        self.number = number

    def random(self, size):
        return np.full(size, self.number)


@pytest.mark.parametrize("number", [0.0, 1 - 2.0**-53])
@pytest.mark.parametrize("total", [1 - 9e-10, 1.0, 1 + 9e-10])
def test_the_extreme_random_numbers_draw_a_possible_transition_too(number, total):
    impossible_but_one = np.array([0.0, total, 0.0])
    mdp = MDP(np.tile(impossible_but_one, (3, 3, 1)), np.zeros((3, 3)), 0.5)
    sample = sample_transitions(mdp, np.tile(impossible_but_one, (3, 1)), impossible_but_one, 2, Always(number))
    for drawn in (sample.states, sample.actions, sample.next_states):
        np.testing.assert_array_equal(drawn, [1, 1])


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_sampled_increment_is_the_expected_one_and_without_importance_sampling_that_of_the_behaviour(seed):
    problem = sampling_problem(seed)
    mdp, features, theta = problem["mdp"], problem["features"], problem["start"]
    rng, weighting, n_samples = np.random.default_rng(seed), np.array([0.2, 0.3, 0.5]), 100_000
    sample = sample_transitions(mdp, problem["behaviour"], weighting, n_samples, rng)
    td_errors = sample.rewards + (mdp.discount * features[sample.next_states] - features[sample.states]) @ theta
    plain = td_errors[:, None] * features[sample.states]
    corrected = importance_ratios(problem["target"], problem["behaviour"])[sample.states, sample.actions, None] * plain

    def deviation(increments, policy):
        system = linear_td(mdp, features, target=policy, weighting=weighting)
        return np.abs(increments.mean(axis=0) - (system.b - system.A @ theta)).max() / increments.std(axis=0).max() * np.sqrt(n_samples)

    assert deviation(corrected, problem["target"]) < STANDARD_ERRORS
    assert deviation(plain, problem["behaviour"]) < STANDARD_ERRORS
    assert deviation(plain, problem["target"]) > 2 * STANDARD_ERRORS


def test_sampled_steps_on_a_cycle_of_two_states_are_those_worked_out_by_hand_and_their_mean_is_not_the_expected_iteration():
    mdp = MDP(np.eye(2)[[1, 0]][:, None, :], np.array([[1.0], [3.0]]), 0.5)
    problem = {"mdp": mdp, "features": np.diag([1.0, 2.0]), "target": np.ones((2, 1)), "behaviour": np.ones((2, 1)), "start": np.zeros(2)}
    runs = sampled_td(**problem, step_size=0.5, n_steps=3, n_runs=50, rng=np.random.default_rng(0))
    from_0, from_1 = [[0, 0], [0.5, 0], [0.5, 3.25], [2.375, 3.25]], [[0, 0], [0, 3], [2, 3], [2, 1]]
    np.testing.assert_array_equal(np.unique(runs.parameters, axis=0), [from_1, from_0])
    mean = sampled_td_mean(**problem, step_size=0.5, n_steps=3)
    np.testing.assert_array_equal(mean, np.add(from_0, from_1) / 2)
    # Both runs update each state in turn; the expected iteration updates half of each state at each step. They part after one step.
    system = linear_td(mdp, problem["features"], target=problem["target"], weighting=np.full(2, 0.5))
    expected = expected_iteration(system, np.zeros(2), step_size=0.5, n_steps=2).points
    np.testing.assert_array_equal(expected, [[0, 0], [0.25, 1.5], [0.8125, 1.5625]])
    np.testing.assert_array_equal(mean[:2], expected[:2])


@pytest.mark.parametrize(("importance_sampling", "expected"), [(True, [0, 0.1 * 2 * 7]), (False, [0.1 * 5, 0.1 * 7])])
def test_the_importance_ratio_drops_the_actions_the_target_never_takes_and_can_be_switched_off(importance_sampling, expected):
    runs = sampled_td(
        one_state(2, [5.0, 7.0]),
        np.ones((1, 1)),
        target=np.array([[0.0, 1.0]]),
        behaviour=np.array([[0.5, 0.5]]),
        start=np.zeros(1),
        step_size=0.1,
        n_steps=1,
        n_runs=50,
        rng=np.random.default_rng(0),
        importance_sampling=importance_sampling,
    )
    np.testing.assert_allclose(np.unique(runs.parameters[:, 1]), expected, rtol=1e-15)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), step_size=st.floats(0.01, 1), n_steps=st.integers(1, 3))
def test_the_exact_mean_of_sampled_td_is_the_sum_over_all_trajectories(seed, step_size, n_steps):
    problem = sampling_problem(seed, n_states=2)
    mdp, features, behaviour = problem["mdp"], problem["features"], problem["behaviour"]
    ratios = problem["target"] / behaviour
    mean = np.zeros((n_steps + 1, 2))
    for path in itertools.product(range(2), repeat=2 * n_steps + 1):  # s0, a0, s1, a1, …, sT
        probability, theta = stationary_distribution(policy_transitions(mdp, behaviour))[path[0]], [problem["start"]]
        for s, a, t in zip(path[:-1:2], path[1::2], path[2::2], strict=True):
            probability *= behaviour[s, a] * mdp.transitions[s, a, t]
            td_error = mdp.rewards[s, a] + mdp.discount * features[t] @ theta[-1] - features[s] @ theta[-1]
            theta.append(theta[-1] + step_size * ratios[s, a] * td_error * features[s])
        mean += probability * np.array(theta)
    exact = sampled_td_mean(**problem, step_size=step_size, n_steps=n_steps)
    np.testing.assert_allclose(exact, mean, rtol=1e-11, atol=1e-11 * np.abs(mean).max())


@pytest.mark.parametrize("importance_sampling", [True, False])
def test_the_mean_over_runs_is_the_exact_mean_and_without_importance_sampling_that_of_the_behaviour(importance_sampling):
    problem, step_size, n_steps, n_runs = sampling_problem(0), 0.2, 15, 20_000
    runs = sampled_td(
        **problem,
        step_size=step_size,
        n_steps=n_steps,
        n_runs=n_runs,
        rng=np.random.default_rng(0),
        importance_sampling=importance_sampling,
    )
    estimated = problem["target"] if importance_sampling else problem["behaviour"]
    exact = sampled_td_mean(**(problem | {"target": estimated}), step_size=step_size, n_steps=n_steps)
    error = runs.parameters.std(axis=0) / np.sqrt(n_runs)
    assert np.all(np.abs(runs.parameters.mean(axis=0) - exact)[1:] <= STANDARD_ERRORS * error[1:])


def test_a_seed_fixes_the_runs_and_the_runs_differ_from_each_other_and_from_those_of_another_seed():
    def run(seed, **change):
        return sampled_td(**sampling_problem(0), step_size=0.1, n_steps=7, n_runs=3, rng=np.random.default_rng(seed), **change)

    plain = run(0)
    np.testing.assert_array_equal(plain.steps, range(8))
    np.testing.assert_array_equal(plain.parameters, run(0).parameters)
    np.testing.assert_array_equal(plain.parameters[:, 0], np.tile(sampling_problem(0)["start"], (3, 1)))
    final = np.concatenate([plain.parameters[:, -1], run(1).parameters[:, -1]])
    assert len(np.unique(final, axis=0)) == len(final)
    thinned = run(0, keep_every=3)
    np.testing.assert_array_equal(thinned.steps, [0, 3, 6])
    np.testing.assert_array_equal(thinned.parameters, plain.parameters[:, [0, 3, 6]])


# One state, discount 0, reward 0, and the target's action taken half the time: each such step multiplies the parameter by -9, others by 1.
RUNAWAY = {
    "mdp": one_state(2, [0.0, 0.0]),
    "features": np.ones((1, 1)),
    "target": np.array([[0.0, 1.0]]),
    "behaviour": np.array([[0.5, 0.5]]),
    "start": np.ones(1),
    "step_size": 5.0,
}


def test_a_run_that_escapes_is_held_at_its_last_parameters_and_the_others_go_on():
    last = 104  # 9^104 < 10^100 < 9^105
    runs = sampled_td(**RUNAWAY, n_steps=2 * last, n_runs=100, rng=np.random.default_rng(0))
    size = np.abs(runs.parameters[..., 0])
    assert 0 < runs.escaped.sum() < 100
    assert size.max() <= ESCAPED
    np.testing.assert_allclose(size[runs.escaped, -1], 9.0**last, rtol=1e-12)
    assert np.all(size[~runs.escaped, -1] > size[~runs.escaped, -20])
    assert not sampled_td(**RUNAWAY, n_steps=last, n_runs=100, rng=np.random.default_rng(0)).escaped.any()


def test_a_step_that_overflows_escapes_without_a_warning_or_a_nan():
    problem = RUNAWAY | {"features": np.array([[1.0, 0.0]]), "start": np.array([1e99, 1.0]), "step_size": 1e300}  # inf in one, inf * 0
    runs = sampled_td(**problem, n_steps=20, n_runs=5, rng=np.random.default_rng(0))
    assert runs.escaped.all()
    np.testing.assert_array_equal(runs.parameters, np.broadcast_to([1e99, 1.0], (5, 21, 2)))


def test_the_exact_mean_is_refused_beyond_the_range_of_numbers():
    doubling = RUNAWAY | {"behaviour": RUNAWAY["target"], "step_size": 3.0}  # multiplies the parameter by -2
    last = np.finfo(float).maxexp - 1
    assert sampled_td_mean(**doubling, n_steps=last)[-1] == (-2.0) ** last
    with pytest.raises(ValueError, match=f"n_steps must be at most {last} here"):
        sampled_td_mean(**doubling, n_steps=last + 1)


# --- refusals ----------------------------------------------------------------------------------------------------------------------------

SYSTEM = {"features": np.ones((2, 1)), "weighting": np.full(2, 0.5), "transitions": np.eye(2), "rewards": np.zeros(2), "discount": 0.5}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transitions": np.ones((2, 3))}, "transitions must be a square matrix"),
        ({"transitions": np.ones((2, 2))}, "transitions must sum to 1"),
        ({"features": np.ones(2)}, r"features must have shape \(n, k\) with n = 2,"),
        ({"features": np.ones((3, 1))}, r"features must have shape \(n, k\) with n = 2,"),
        ({"features": np.ones((2, 0))}, r"features must have shape \(n, k\) with n = 2,"),
        ({"features": np.full((2, 1), np.nan)}, "features must be finite"),
        ({"weighting": np.full(3, 1 / 3)}, r"weighting must have shape \(2,\), got \(3,\)"),
        ({"weighting": np.ones(2)}, "weighting must sum to 1 along the last axis, got 2$"),
        ({"weighting": np.array([-1.0, 2.0])}, "weighting must hold probabilities"),
        ({"rewards": np.zeros((2, 1))}, r"rewards must have shape \(2,\), got \(2, 1\)"),
        ({"rewards": np.array([0.0, np.inf])}, "rewards must be finite"),
        ({"discount": 1.0}, "discount must lie in"),
    ],
)
def test_a_system_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LinearTD(**(SYSTEM | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": np.zeros(2)}, r"start must have shape \(1,\), got \(2,\)"),
        ({"start": np.array([np.nan])}, "start must be finite"),
        ({"step_size": 0.0}, "step_size must be positive and finite"),
        ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
    ],
)
def test_an_expected_iteration_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        expected_iteration(LinearTD(**SYSTEM), **({"start": np.zeros(1), "step_size": 0.1, "n_steps": 1} | change))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones((2, 1))}, r"features must have shape \(S, k\) with S = 1, got \(2, 1\)"),
        ({"features": np.ones(1)}, r"features must have shape \(S, k\) with S = 1, got \(1,\)"),
        ({"features": np.ones((1, 0)), "start": np.ones(0)}, r"features must have shape \(S, k\) with S = 1, got \(1, 0\)"),
        ({"features": np.array([[np.inf]])}, "features must be finite"),
        ({"target": np.ones((1, 1))}, "target must have shape"),
        ({"target": np.ones((1, 2))}, "target must sum to 1"),
        ({"behaviour": np.ones((2, 2)) / 2}, "behaviour must have shape"),
        ({"behaviour": np.array([[1.5, -0.5]])}, "behaviour must hold probabilities"),
        ({"behaviour": np.array([[1.0, 0.0]])}, "behaviour must take every action that target takes; in state 0 it never takes action 1"),
        ({"start": np.ones(2)}, r"start must have shape \(1,\), got \(2,\)"),
        ({"start": np.array([np.inf])}, "start must be finite"),
        ({"step_size": -1.0}, "step_size must be positive and finite"),
        ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused_and_so_is_its_mean(change, message):
    problem = RUNAWAY | {"n_steps": 1} | change
    with pytest.raises(ValueError, match=message):
        sampled_td(**problem, n_runs=1, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        sampled_td_mean(**problem)


@pytest.mark.parametrize("name", ["n_runs", "keep_every"])
def test_runs_and_kept_steps_are_counted_from_1(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        sampled_td(**(RUNAWAY | {"n_steps": 1, "n_runs": 1, "rng": np.random.default_rng(0), name: 0}))


def test_a_behaviour_without_a_unique_stationary_distribution_is_refused():
    apart = MDP(np.eye(2)[:, None, :], np.zeros((2, 1)), 0.5)
    problem = {"features": np.ones((2, 1)), "target": np.ones((2, 1)), "behaviour": np.ones((2, 1)), "start": np.zeros(1), "step_size": 0.1}
    with pytest.raises(ValueError, match="behaviour must have a unique stationary distribution"):
        sampled_td(apart, **problem, n_steps=1, n_runs=1, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="behaviour must have a unique stationary distribution"):
        sampled_td_mean(apart, **problem, n_steps=1)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"behaviour": np.ones((1, 2))}, "behaviour must sum to 1"),
        ({"weighting": np.ones(2) / 2}, r"weighting must have shape \(1,\), got \(2,\)"),
        ({"weighting": np.zeros(1)}, "weighting must sum to 1"),
        ({"n_samples": 0}, "n_samples must be at least 1, got 0"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused(change, message):
    arguments = {"behaviour": RUNAWAY["behaviour"], "weighting": np.ones(1), "n_samples": 1, "rng": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=message):
        sample_transitions(RUNAWAY["mdp"], **(arguments | change))
