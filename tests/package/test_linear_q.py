import numpy as np
import pytest
from deadly_triad.examples import random_mdp
from deadly_triad.linear_q import LinearQ, expected_q_iteration, expected_sarsa, sampled_q_learning
from deadly_triad.linear_td import td_fixed_point
from deadly_triad.mdp import action_values, optimal_action_values, optimality_operator
from hypothesis import given
from hypothesis import strategies as st

from .strategies import generators, mdps_with_policy


def problem_of(rng, mdp, n_features=None):
    n = mdp.n_states * mdp.n_actions
    features = np.eye(n) if n_features is None else rng.standard_normal((n, n_features))
    return LinearQ(mdp, features, rng.dirichlet(np.full(n, 3.0)))


def sums(problem, theta):
    """The field as a sum over pairs, next states and next actions."""
    mdp, n_actions = problem.mdp, problem.mdp.n_actions
    total = np.zeros(len(theta))
    for i, weight in enumerate(problem.weighting):
        s, a = divmod(i, n_actions)
        best = [max(problem.features[t * n_actions + c] @ theta for c in range(n_actions)) for t in range(mdp.n_states)]
        error = mdp.rewards[s, a] + mdp.discount * mdp.transitions[s, a] @ best - problem.features[i] @ theta
        total += weight * error * problem.features[i]
    return total


@given(mdps_with_policy(), generators)
def test_expected_sarsa_with_a_table_finds_the_values_of_its_policy(drawn, rng):
    mdp, policy = drawn
    n = mdp.n_states * mdp.n_actions
    system = expected_sarsa(mdp, np.eye(n), target=policy, weighting=rng.dirichlet(np.full(n, 3.0)))
    np.testing.assert_allclose(td_fixed_point(system), action_values(mdp, policy).ravel(), atol=1e-7)


@given(mdps_with_policy(), generators, st.integers(1, 3))
def test_the_field_is_the_sum_over_samples_and_that_of_the_greedy_system(drawn, rng, k):
    problem = problem_of(rng, drawn[0], k)
    theta = rng.standard_normal(k)
    system = problem.greedy_system(theta)
    np.testing.assert_allclose(problem.field(theta), sums(problem, theta), atol=1e-12)
    np.testing.assert_allclose(problem.field(theta), system.b - system.A @ theta, atol=1e-12)


@given(mdps_with_policy(), generators)
def test_with_a_table_it_is_the_weighted_update_and_finds_the_optimal_values(drawn, rng):
    problem = problem_of(rng, drawn[0])
    mdp, best = problem.mdp, optimal_action_values(drawn[0])
    np.testing.assert_allclose(problem.field(best.ravel()), 0, atol=1e-9)
    run = expected_q_iteration(problem, best.ravel() + 1, step_size=1.0, n_steps=1)
    expected = best + 1 + problem.weighting.reshape(best.shape) * (optimality_operator(mdp, best + 1) - best - 1)
    np.testing.assert_allclose(run.points[1], expected.ravel(), atol=1e-9)


def test_sampled_runs_average_to_the_expected_step_and_depend_on_the_seed():
    rng = np.random.default_rng(5)
    problem = problem_of(rng, random_mdp(rng, 3, 2), 2)
    start = np.array([1.0, -2.0])
    settings = {"start": start, "step_size": 0.1, "n_steps": 1, "n_runs": 40_000}
    runs = sampled_q_learning(problem, rng=np.random.default_rng(0), **settings).parameters[:, -1]
    error = runs.std(axis=0) / np.sqrt(len(runs))
    assert np.all(np.abs(runs.mean(axis=0) - start - 0.1 * problem.field(start)) < 4 * error)
    again = sampled_q_learning(problem, rng=np.random.default_rng(0), **settings).parameters[:, -1]
    other = sampled_q_learning(problem, rng=np.random.default_rng(1), **settings).parameters[:, -1]
    np.testing.assert_array_equal(runs, again)
    assert np.any(runs != other)


def test_a_sampled_run_that_escapes_is_held_and_said():
    mdp = random_mdp(np.random.default_rng(0), 1, 1, discount=0.9)
    problem = LinearQ(mdp, np.array([[1.0]]), np.array([1.0]))
    runs = sampled_q_learning(problem, start=np.ones(1), step_size=1e3, n_steps=200, n_runs=2, rng=np.random.default_rng(0), keep_every=100)
    assert runs.escaped.all()
    assert np.all(np.isfinite(runs.parameters))
    np.testing.assert_array_equal(runs.steps, [0, 100, 200])
    np.testing.assert_array_equal(runs.parameters[:, 1], runs.parameters[:, 2])


def valid():
    return problem_of(np.random.default_rng(0), random_mdp(np.random.default_rng(0), 2, 2), 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.ones((3, 2))}, r"features must have shape \(n, k\) with n = 4, got \(3, 2\)"),
        ({"features": np.full((4, 2), np.nan)}, "features must"),
        ({"weighting": np.ones(3) / 3}, r"weighting must have shape \(4,\), got \(3,\)"),
        ({"weighting": np.ones(4)}, "weighting must"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_problem_refuses_what_does_not_fit(changes, message):
    good = {"mdp": valid().mdp, "features": valid().features, "weighting": valid().weighting}
    with pytest.raises(ValueError, match=message):
        LinearQ(**(good | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": np.ones(2)}, r"start must have shape \(3,\), got \(2,\)"),
        ({"start": np.full(3, np.inf)}, "start must"),
        ({"step_size": 0.0}, "step_size must"),
        ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
        ({"n_runs": 0}, "n_runs must be at least 1, got 0"),
        ({"keep_every": 0}, "keep_every must be at least 1, got 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_runs_refuse_what_does_not_fit(changes, message):
    good = {"start": np.ones(3), "step_size": 0.1, "n_steps": 2, "n_runs": 1, "rng": np.random.default_rng(0), "keep_every": 1}
    with pytest.raises(ValueError, match=message):
        sampled_q_learning(valid(), **(good | changes))
    if set(changes) & {"start", "step_size", "n_steps"}:
        expected = {name: (good | changes)[name] for name in ("start", "step_size", "n_steps")}
        with pytest.raises(ValueError, match=message):
            expected_q_iteration(valid(), **expected)


@pytest.mark.usefixtures("unchecked")
def test_parameters_that_do_not_fit_are_refused_by_name():
    for method in (valid().values, valid().field, valid().greedy_system):
        with pytest.raises(ValueError, match=r"theta must have shape \(3,\), got \(4,\)"):
            method(np.ones(4))
        with pytest.raises(ValueError, match="theta must"):
            method(np.full(3, np.nan))
