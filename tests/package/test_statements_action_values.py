"""The labelled statements on action values, in the manner of `test_statements.py`."""

import numpy as np
import pytest
from deadly_triad.examples import DASHED, SOLID, baird, chain, random_mdp, random_policy
from deadly_triad.linear_q import LinearQ, expected_q_iteration, expected_sarsa
from deadly_triad.linear_td import td_fixed_point
from deadly_triad.mdp import MDP, optimality_operator, pair_transitions, policy_transitions, stationary_distribution
from deadly_triad.stability import analyse_stability
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from .strategies import generators, mdps_with_policy


def is_definite(G):
    return bool(np.linalg.eigvalsh(G + G.T)[0] > 0)


def in_data(mdp, behaviour):
    return (stationary_distribution(policy_transitions(mdp, behaviour))[:, None] * behaviour).ravel()


# --- Expected Sarsa --------------------------------------------------------------------------------------------------


def outcomes(mdp, features, theta, mu, next_action, next_value):
    """All (s, a, s', a') with probability and update."""
    n_actions = mdp.n_actions
    for s, a, t, c in np.ndindex(mdp.n_states, n_actions, mdp.n_states, n_actions):
        probability = mu[s * n_actions + a] * mdp.transitions[s, a, t] * next_action[t, c]
        phi = features[s * n_actions + a]
        yield probability, (mdp.rewards[s, a] + mdp.discount * next_value[t, c] - phi @ theta) * phi


def moments(*arguments):
    drawn = list(outcomes(*arguments))
    mean = sum(p * u for p, u in drawn)
    return mean, sum(p * np.outer(u, u) for p, u in drawn) - np.outer(mean, mean)


@pytest.mark.states("prop-three-updates")
@given(mdps_with_policy(), generators)
def test_three_updates_have_one_mean_and_expected_sarsa_the_least_covariance(drawn, rng):
    mdp, target = drawn
    behaviour, n = random_policy(rng, mdp), mdp.n_states * mdp.n_actions
    assume(np.min(behaviour) > 1e-3)
    features, theta, mu = rng.standard_normal((n, 2)), rng.standard_normal(2), rng.dirichlet(np.ones(n))
    q = (features @ theta).reshape(target.shape)
    average = np.repeat((target * q).sum(axis=1, keepdims=True), mdp.n_actions, axis=1)
    system = expected_sarsa(mdp, features, target=target, weighting=mu)
    expected = system.b - system.A @ theta
    mean, least = moments(mdp, features, theta, mu, behaviour, average)
    np.testing.assert_allclose(mean, expected, atol=1e-9)
    phi = features.reshape(mdp.n_states, mdp.n_actions, 2)
    for next_action, value in ((target, q), (behaviour, target / behaviour * q)):
        mean, covariance = moments(mdp, features, theta, mu, next_action, value)
        np.testing.assert_allclose(mean, expected, atol=1e-9 * max(1, np.abs(value).max()))
        extra = (next_action * value**2).sum(axis=1) - average[:, 0] ** 2
        added = np.einsum("sa,sat,sak,sal,t->kl", mu.reshape(target.shape), mdp.transitions, phi, phi, extra)
        scale = max(1, np.abs(value).max() ** 2)
        np.testing.assert_allclose(covariance - least, mdp.discount**2 * added, atol=1e-9 * scale)
        assert np.linalg.eigvalsh(covariance - least)[0] >= -1e-9 * scale


@pytest.mark.states("prop-three-updates")
def test_the_behaviours_own_next_action_without_a_ratio_has_another_mean():
    mdp, rng = chain(5, 0.9), np.random.default_rng(0)
    target, behaviour = np.tile([0.2, 0.8], (5, 1)), np.tile([0.6, 0.4], (5, 1))
    features, theta, mu = rng.standard_normal((10, 3)), rng.standard_normal(3), np.full(10, 0.1)
    system = expected_sarsa(mdp, features, target=target, weighting=mu)
    mean, _ = moments(mdp, features, theta, mu, behaviour, (features @ theta).reshape(5, 2))
    assert np.abs(mean - system.b + system.A @ theta).max() > 0.01


@pytest.mark.states("thm-pair-key")
@given(generators, st.integers(1, 4), st.floats(0.05, 0.99), st.floats(0.0, 0.999))
def test_the_column_sums_of_pairs_are_read_off_the_policies(rng, n, discount, share):
    mdp = random_mdp(rng, n, 3, discount=discount)
    target, other = random_policy(rng, mdp), random_policy(rng, mdp)
    tau = share * (1 - discount**2)
    behaviour = (1 - tau) * target + tau * other
    mu = in_data(mdp, behaviour)
    G = mu[:, None] * (np.eye(len(mu)) - discount * pair_transitions(mdp, target))
    expected = mu.reshape(n, 3) - discount * mu.reshape(n, 3).sum(axis=1, keepdims=True) * target
    np.testing.assert_allclose(G.sum(axis=0), expected.ravel(), atol=1e-12)
    rho_max = (target / behaviour).max()
    for bound, sums in ((1 / discount, G.sum(axis=0)), ((2 - discount) / discount, G.sum(axis=0) + G.sum(axis=1))):
        if abs(rho_max - bound) > 1e-6:
            assert bool(np.all(sums > 0)) == (rho_max < bound)
    assert discount**2 * rho_max < 1
    assert is_definite(G)


@pytest.mark.states("thm-pair-key")
def test_with_weights_of_no_policy_the_column_sums_are_others_and_beyond_the_bound_definiteness_can_fail():
    mdp = random_mdp(np.random.default_rng(0), 4, 2, discount=0.9)
    target = np.full((4, 2), 0.5)
    mu = np.random.default_rng(1).dirichlet(np.ones(8))
    G = mu[:, None] * (np.eye(8) - 0.9 * pair_transitions(mdp, target))
    by_policies = mu.reshape(4, 2) - 0.9 * mu.reshape(4, 2).sum(axis=1, keepdims=True) * target
    assert np.abs(G.sum(axis=0) - by_policies.ravel()).max() > 0.01
    walker, left = np.tile([0.2, 0.8], (5, 1)), np.tile([0.6, 0.4], (5, 1))
    corridor = chain(5, 0.9)
    weights = in_data(corridor, left)
    assert not is_definite(weights[:, None] * (np.eye(10) - 0.9 * pair_transitions(corridor, walker)))


# --- Linear Q-learning -----------------------------------------------------------------------------------------------


@pytest.mark.states("thm-linear-q")
@given(generators, st.integers(1, 4), st.integers(2, 3), st.floats(0.05, 0.98), st.floats(0.05, 0.98))
def test_below_the_bound_the_parameters_contract_and_so_does_the_projected_operator(rng, n, m, share, step_share):
    behaviour = 0.8 * rng.dirichlet(np.ones(m), size=n) + 0.2 / m
    c = share
    mdp = random_mdp(rng, n, m, discount=float(c * np.sqrt(behaviour.min())))
    mu = in_data(mdp, behaviour)
    problem = LinearQ(mdp, rng.standard_normal((n * m, int(rng.integers(1, n * m + 1)))), mu)
    covariance = problem.features.T @ (mu[:, None] * problem.features)
    alpha = step_share * 2 * (1 - c) / ((1 + c) ** 2 * np.linalg.eigvalsh(covariance)[-1])
    theta, other = rng.standard_normal((2, problem.features.shape[1]))
    after, after_other = (x + alpha * problem.field(x) for x in (theta, other))
    assert np.linalg.norm(after - after_other) < np.linalg.norm(theta - other)
    q, r = problem.values(theta), problem.values(other)
    difference = (optimality_operator(mdp, q) - optimality_operator(mdp, r)).ravel()
    assert np.sqrt(mu @ difference**2) <= c * np.sqrt(mu @ (q - r).ravel() ** 2) + 1e-12


def reset_q(M, m, discount):
    n = M + 1
    transitions = np.zeros((n, m, n))
    transitions[:, 1:, 0] = 1
    transitions[np.arange(n), 0, np.minimum(np.arange(n) + 1, n - 1)] = 1
    d = stationary_distribution(transitions.mean(axis=1))
    features = np.zeros((n, m, 1))
    features[:-1, 0, 0] = np.sin(np.arange(1, n) * np.pi / n) / np.sqrt(d[:-1])
    return LinearQ(MDP(transitions, np.ones((n, m)), discount), features.reshape(-1, 1), np.repeat(d, m) / m)


@pytest.mark.states("thm-linear-q")
@pytest.mark.parametrize(("m", "discount"), [(2, 0.72), (2, 0.8), (3, 0.6), (4, 0.55)])
def test_above_one_over_the_root_of_the_actions_some_problem_diverges_from_every_start(m, discount):
    M = int(np.ceil(np.pi / np.arccos(1 / (discount * np.sqrt(m)))))
    problem = reset_q(M, m, discount)
    assert problem.greedy_system(np.ones(1)).A[0, 0] < 0
    for start in (-10.0, 0.0, 10.0):
        # The field is positive for all parameters, and grows with them on the right.
        assert problem.field(np.array([start]))[0] > 0
    path = expected_q_iteration(problem, np.array([-10.0]), step_size=0.1, n_steps=500).points[:, 0]
    assert np.all(np.diff(path) > 0)
    assert np.all(np.diff(path[path > 0], 2) >= 0)  # faster and faster
    inside = reset_q(M, m, 0.99 / np.sqrt(m))
    assert inside.greedy_system(np.ones(1)).A[0, 0] > 0


@pytest.mark.states("prop-one-feature-q")
@given(generators, st.integers(1, 3), st.floats(0.1, 0.99))
def test_one_feature_has_the_four_fates_of_the_proposition(rng, n, discount):
    # Behaviour from the data, features of both signs, successors deterministic: all four signs of the two numbers occur.
    mdp = random_mdp(rng, n, 2, discount=discount, branching=1)
    problem = LinearQ(mdp, rng.standard_normal((2 * n, 1)), rng.dirichlet(np.full(2 * n, 0.5)))
    beta = problem.field(np.zeros(1))[0]
    if beta < 0:
        problem = LinearQ(mdp, -problem.features, problem.weighting)
    up, down = (problem.greedy_system(np.array([sign])).A[0, 0] for sign in (1.0, -1.0))
    beta = abs(beta)
    assume(min(beta, abs(up), abs(down)) > 0.1 * max(beta, abs(up), abs(down)))
    step = 0.9 / max(abs(up), abs(down))

    def end(start):
        return expected_q_iteration(problem, np.array([start]), step_size=step, n_steps=400).points[-1, 0]

    far = 10 * beta / min(abs(up), abs(down))
    low, high = end(-far), end(far)
    assert high == pytest.approx(beta / up, rel=1e-6) if up > 0 else high > far
    if down < 0:
        assert low < -far
        assert end(beta / down + 0.01 * far) > beta / down
    else:
        assert low == pytest.approx(beta / up, rel=1e-6) if up > 0 else low > 0


@pytest.mark.states("prop-one-feature-q")
def test_beyond_its_step_bound_it_cycles_between_the_greedy_actions():
    mdp = MDP(np.ones((1, 2, 1)), np.array([[-1.0, -1.0]]), 0.75)
    problem = LinearQ(mdp, np.array([[1.0], [2.0]]), np.array([0.6, 0.4]))
    x, y = expected_q_iteration(problem, np.array([-1.0]), step_size=1.8, n_steps=2000).points[-2:, 0]
    assert min(x, y) == pytest.approx(1.8 * -1.4 * 1.82 / (1 + 1.07 * 0.82), rel=1e-9)
    assert min(x, y) < 0 < max(x, y)


def turning(rewards=((-1.7, -1.7), (-0.7, 0.3))):
    transitions = np.zeros((2, 2, 2))
    transitions[..., 1] = 1
    features = np.array([[1.0, 0], [1, 0], [1, 1], [1, 2]])
    return LinearQ(MDP(transitions, np.array(rewards), 0.9), features, np.array([2, 2, 2, 1]) / 7)


@pytest.mark.states("prop-limit-cycle")
def test_the_problem_has_one_fixed_point_which_repels_and_is_the_optimal_value():
    problem = turning()
    values = problem.values(np.ones(2))
    np.testing.assert_allclose(optimality_operator(problem.mdp, values), values, atol=1e-12)
    first, second = problem.greedy_system(np.array([0.0, -1.0])), problem.greedy_system(np.array([0.0, 1.0]))
    np.testing.assert_allclose(70 * first.A, [[7, -23], [4, 24]], atol=1e-12)
    np.testing.assert_allclose(70 * second.A, [[7, -86], [4, -12]], atol=1e-12)
    np.testing.assert_allclose(td_fixed_point(first), [-8, 1], atol=1e-9)
    np.testing.assert_allclose(td_fixed_point(second), [1, 1], atol=1e-9)
    assert analyse_stability(first.A).verdict == "stable"
    assert np.all(np.linalg.eigvals(second.A).real < 0)


@pytest.mark.states("prop-limit-cycle")
def test_without_rewards_a_turn_shrinks_by_the_closed_form():
    problem = turning(((0.0, 0.0), (0.0, 0.0)))

    def crossing(_, theta):
        return theta[1]

    crossing.direction = 1
    run = solve_ivp(lambda _, x: problem.field(x), (0, 100), [-1.0, -1e-12], events=crossing, rtol=1e-11, atol=1e-16)
    sizes = [abs(point[0]) for point in run.y_events[0][:3] if abs(point[0]) > 0]
    factor = np.exp(-np.pi * (31 / np.sqrt(79) - 5 / np.sqrt(1015)))
    assert factor < 1e-4
    assert sizes[1] / sizes[0] == pytest.approx(factor, rel=1e-3)


@pytest.mark.states("prop-limit-cycle")
def test_solutions_from_inside_and_outside_settle_on_a_switching_orbit_and_another_weighting_converges():
    problem = turning()

    def orbit(start):
        run = solve_ivp(lambda _, x: problem.field(x), (0, 500), start, rtol=1e-9, atol=1e-9, t_eval=np.linspace(430, 500, 2000))
        return run.y[1].min(), run.y[1].max()

    inside, outside = orbit([1.01, 1.0]), orbit([50.0, -80.0])
    np.testing.assert_allclose(inside, outside, atol=0.02)
    assert inside[0] < -0.5
    assert inside[1] > 2
    # With more data on the best pair the same fixed point attracts.
    other = LinearQ(problem.mdp, problem.features, np.array([1, 1, 1, 4]) / 7)
    run = solve_ivp(lambda _, x: other.field(x), (0, 500), [3.0, -1.0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(run.y[:, -1], [1, 1], atol=1e-4)


def extrapolating():
    transitions = np.zeros((4, 2, 4))
    transitions[..., 3] = 1
    features = np.vstack([np.repeat(2 * np.eye(3), 2, axis=0), [[0, -3, 5], [-4, 0, 3]]])
    return LinearQ(MDP(transitions, np.zeros((4, 2)), 0.9), features, np.array([2, 2, 8, 8, 15, 15, 0, 0]) / 50)


@pytest.mark.states("prop-switching")
def test_both_greedy_policies_are_stable_with_the_stated_spectra_and_a_mixture_is_not():
    problem = extrapolating()
    first, second = (problem.greedy_system(np.array(theta, float)).A for theta in ([0, 0, 1], [-1, 0, 0]))
    np.testing.assert_allclose(25 * first, [[8, 54 / 5, -18], [0, 376 / 5, -72], [0, 81, -75]], atol=1e-9)
    np.testing.assert_allclose(25 * second, [[112 / 5, 0, -54 / 5], [288 / 5, 32, -216 / 5], [108, 0, -21]], atol=1e-9)
    for A, real, pair in ((first, 8, (1 + 1j * np.sqrt(19199)) / 10), (second, 32, (7 + 1j * np.sqrt(69551)) / 10)):
        expected = np.array([real, pair, np.conj(pair)])
        np.testing.assert_allclose(np.sort_complex(25 * np.linalg.eigvals(A)), np.sort_complex(expected), atol=1e-9)
        assert analyse_stability(A).verdict == "stable"
    assert analyse_stability(0.3 * first + 0.7 * second).verdict == "unstable"


@pytest.mark.states("prop-switching")
def test_switching_between_them_grows_by_the_same_factor_each_turn_and_a_smaller_discount_mends_it():
    def growth(discount):
        problem = extrapolating()
        problem = LinearQ(MDP(problem.mdp.transitions, problem.mdp.rewards, discount), problem.features, problem.weighting)
        wall = problem.features[6] - problem.features[7]

        def crossing(_, theta):
            return wall @ theta

        crossing.direction = 1
        run = solve_ivp(lambda _, x: problem.field(x), (0, 120), [1.0, 0.3, -0.2], events=crossing, rtol=1e-8, atol=1e-300)
        sizes = np.linalg.norm(run.y_events[0], axis=1)
        return sizes[-1] / sizes[-2], sizes[-2] / sizes[-3]

    last, before = growth(0.9)
    assert last == pytest.approx(before, rel=1e-4)
    assert last == pytest.approx(1.3822, abs=1e-3)
    assert growth(0.85)[0] < 1


def baird_q(discount, p=1 / 7, m=6):
    example = baird(discount, p, m)
    features = np.zeros((m + 1, 2, 2 * m + 3))
    features[:, SOLID, : m + 2] = example.features
    features[:, DASHED, m + 2 :] = np.eye(m + 1)
    return LinearQ(example.mdp, features.reshape(2 * m + 2, -1), in_data(example.mdp, example.behaviour))


CRITICAL = (203 + 4 * np.sqrt(390)) / 289


@pytest.mark.states("thm-baird-q")
@given(st.floats(1e-4, 0.02), st.floats(0.01, 1.0))
def test_above_the_critical_discount_a_ray_is_invariant_and_grows(above, step_size):
    discount = CRITICAL + above
    problem, u, p = baird_q(discount), 1 / 7, 1 / 7
    N = np.array([[10 * u, -10 * u * discount + 2 * p * (1 - discount)], [12 * u, -12 * u * discount + 5 * p * (1 - discount)]])
    eigenvalues, vectors = np.linalg.eig(N)
    assert np.all(eigenvalues.imag == 0)
    worst = eigenvalues.real.argmin()
    (a, c), rate = vectors[:, worst].real * np.sign(vectors[1, worst].real), p * abs(eigenvalues[worst].real)
    visits = (1 - p) / 7
    dashed = visits / (visits + rate) * discount * a
    solid, *_ = np.linalg.lstsq(baird(discount).features, np.array([a] * 6 + [c]), rcond=None)
    ray = np.append(solid, np.full(7, dashed))
    after = ray + step_size * problem.field(ray)
    np.testing.assert_allclose(problem.features @ after, (1 + step_size * rate) * problem.features @ ray, rtol=1e-9)
    values = problem.values(ray)
    assert np.all(values[:, SOLID] > values[:, DASHED])


@pytest.mark.states("thm-baird-q")
def test_below_it_the_eigenvalues_turn_and_the_starts_tried_converge_though_td_diverges():
    discount = CRITICAL - 0.005
    t, q = (15 - 17 * discount) / 7, 26 * (1 - discount) / 49
    assert t < 0 < 4 * q - t * t
    assert analyse_stability(baird(discount).off_policy.A).verdict == "unstable"
    start = np.append([1, 1, 1, 1, 1, 1, 10, 1], np.ones(7)).astype(float)
    for scale in (1.0, -1.0):
        run = expected_q_iteration(baird_q(discount), scale * start, step_size=3.0, n_steps=5000)
        assert np.abs(run.points[-1] @ baird_q(discount).features.T).max() < 1e-3
    above = expected_q_iteration(baird_q(CRITICAL + 0.005), start, step_size=3.0, n_steps=5000)
    assert np.abs(above.points[-1]).max() > 1e6
