from itertools import product

import numpy as np
import pytest
from deadly_triad import cures
from deadly_triad.examples import baird, random_mdp, random_policy, w_to_2w
from deadly_triad.linear_td import LinearTD, expected_update, linear_td, projection, sampled_td
from deadly_triad.mdp import importance_ratios, policy_transitions, stationary_distribution
from deadly_triad.stability import analyse_stability
from hypothesis import given
from hypothesis import strategies as st

from .strategies import generators, mdps_with_policy, systems

# --- Emphatic weighting ----------------------------------------------------------------------------------------------


@given(systems(), generators)
def test_the_followon_is_the_sum_of_discounted_visits(system, rng):
    interest = rng.uniform(0, 2, len(system.weighting))
    f = cures.followon(system.transitions, system.weighting, system.discount, interest)
    visits, total = system.weighting * interest, np.zeros(len(f))
    for _ in range(4000):
        total += visits
        visits = system.discount * system.transitions.T @ visits
    np.testing.assert_allclose(f, total, rtol=1e-9, atol=1e-12)
    assert f.sum() == pytest.approx(system.weighting @ interest / (1 - system.discount))


def test_on_policy_data_are_left_as_they_are_and_interest_is_one_by_default():
    system = w_to_2w(0.9, 1.0).off_policy
    np.testing.assert_allclose(cures.emphatic_td(system).weighting, system.weighting)
    off = baird().off_policy
    default, ones = cures.emphatic_td(off), cures.emphatic_td(off, np.ones(7))
    np.testing.assert_array_equal(default.weighting, ones.weighting)
    assert np.abs(default.weighting - off.weighting).max() > 0.1
    assert cures.emphatic_td(off, np.array([5.0, 1, 1, 1, 1, 1, 1])).weighting[0] > default.weighting[0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.full((2, 2), 0.4), np.ones(2), 0.5), "transitions must sum to 1"),
        ((np.eye(2), np.ones(3), 0.5), r"weighting must have shape \(2,\)"),
        ((np.eye(2), np.array([1.0, -1]), 0.5), "weighting must hold non-negative weights, got -1"),
        ((np.eye(2), np.array([1.0, np.nan]), 0.5), "weighting must be finite"),
        ((np.eye(2), np.ones(2), 1.0), "discount must lie in"),
        ((np.eye(2), np.ones(2), 0.5, np.ones(3)), r"interest must have shape \(2,\)"),
        ((np.eye(2), np.ones(2), 0.5, np.array([1.0, -2])), "interest must hold non-negative weights, got -2"),
    ],
)
def test_a_bad_followon_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        cures.followon(*arguments)


def test_no_interest_anywhere_in_the_data_is_refused():
    with pytest.raises(ValueError, match="interest must be positive in some state"):
        cures.emphatic_td(baird().off_policy, np.zeros(7))


def trace_by_paths(mdp, target, behaviour, n_steps):
    """Mean and mean square of the trace by going through all paths."""
    ratios, d = importance_ratios(target, behaviour), stationary_distribution(policy_transitions(mdp, behaviour))
    first, second, paths = [], [], [(d[s], s, 1.0) for s in range(mdp.n_states)]
    for _ in range(n_steps + 1):
        first.append(sum(p * F for p, _, F in paths))
        second.append(sum(p * F**2 for p, _, F in paths))
        paths = [
            (p * behaviour[s, a] * mdp.transitions[s, a, to], to, 1 + mdp.discount * ratios[s, a] * F)
            for p, s, F in paths
            for a in range(mdp.n_actions)
            for to in range(mdp.n_states)
        ]
    return np.array(first), np.array(second)


def test_the_moments_of_the_trace_are_those_of_all_paths():
    rng = np.random.default_rng(0)
    mdp = random_mdp(rng, 2, 2)
    target, behaviour = random_policy(rng, mdp), random_policy(rng, mdp)
    found, expected = cures.followon_moments(mdp, target, behaviour, 5), trace_by_paths(mdp, target, behaviour, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_trace_of_a_run_has_these_moments():
    example = w_to_2w(0.7, 0.8)
    _, traces = cures.sampled_emphatic_td(
        example.mdp,
        example.features,
        target=example.target,
        behaviour=example.behaviour,
        start=example.start,
        step_size=1e-3,
        n_steps=30,
        n_runs=20_000,
        rng=np.random.default_rng(0),
    )
    mean, square = cures.followon_moments(example.mdp, example.target, example.behaviour, 29)
    error = traces[:, -1].std() / np.sqrt(len(traces))
    assert abs(traces[:, -1].mean() - mean[-1]) < 4 * error
    assert np.mean(traces[:, -1] ** 2) == pytest.approx(square[-1], rel=0.1)


def test_moments_that_leave_floating_point_are_refused_with_the_number_of_steps():
    example = baird()
    with pytest.raises(ValueError, match="n_steps must be at most 368 here"):
        cures.followon_moments(example.mdp, example.target, example.behaviour, 1000)
    cures.followon_moments(example.mdp, example.target, example.behaviour, 368)


def run(example, sampler, **changes):
    settings = {"step_size": 0.01, "n_steps": 60, "n_runs": 5, "keep_every": 20} | changes
    return sampler(
        example.mdp,
        example.features,
        target=example.target,
        behaviour=example.behaviour,
        start=example.start,
        rng=np.random.default_rng(3),
        **settings,
    )


def test_without_discount_it_is_plain_td_on_the_same_draws_and_with_one_it_is_not():
    plain, (emphatic, traces) = run(baird(0.0), sampled_td), run(baird(0.0), cures.sampled_emphatic_td)
    np.testing.assert_allclose(plain.parameters, emphatic.parameters)
    assert np.all(traces == 1)
    np.testing.assert_array_equal(emphatic.steps, [0, 20, 40, 60])
    assert np.abs(run(baird(), sampled_td).parameters - run(baird(), cures.sampled_emphatic_td)[0].parameters).max() > 0.1


def test_one_step_at_a_time_by_hand():
    example = w_to_2w(0.9, 0.5)
    found, traces = run(example, cures.sampled_emphatic_td, n_runs=1, keep_every=1)
    theta, phi = found.parameters[0, :, 0], np.array([1.0, 2.0])
    changed = np.flatnonzero(np.diff(theta))
    for t in range(59):
        # The trace says which action was taken: it restarts after dashed, whose ratio is 0.
        solid = traces[0, t + 1] != 1
        assert traces[0, t + 1] == pytest.approx(1 + 0.9 * 2 * traces[0, t] if solid else 1)
        if solid:
            steps = [0.01 * traces[0, t] * 2 * (0.9 * 2 - x) * theta[t] * x for x in phi]
            assert min(abs(theta[t + 1] - theta[t] - step) for step in steps) < 1e-12
    assert len(changed) > 10


def test_runs_that_escape_are_held():
    found, _ = run(baird(), cures.sampled_emphatic_td, step_size=50.0, n_steps=2000, n_runs=3, keep_every=500)
    assert np.all(found.escaped)
    assert np.all(np.isfinite(found.parameters))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"n_steps": 0}, "n_steps must be at least 1"),
        ({"n_runs": 0}, "n_runs must be at least 1"),
        ({"keep_every": 0}, "keep_every must be at least 1"),
        ({"start": np.ones(3)}, r"start must have shape \(8,\)"),
        ({"features": np.ones((3, 2))}, r"features must have shape \(S, k\)"),
        ({"target": np.ones((7, 2))}, "target must sum to 1"),
        ({"behaviour": np.tile([1.0, 0.0], (7, 1))}, "behaviour must take every action that target takes"),
    ],
)
def test_bad_arguments_of_a_run_are_refused(changes, message):
    example = baird()
    arguments = {
        "features": example.features,
        "target": example.target,
        "behaviour": example.behaviour,
        "start": example.start,
        "step_size": 0.1,
        "n_steps": 2,
        "n_runs": 1,
    } | changes
    with pytest.raises(ValueError, match=message):
        cures.sampled_emphatic_td(example.mdp, rng=np.random.default_rng(0), **arguments)


# --- Target networks -------------------------------------------------------------------------------------------------


@given(systems(), generators, st.integers(1, 12), st.floats(0.05, 1.0))
def test_a_cycle_is_its_inner_steps(system, rng, n, share):
    C = cures.covariance(system)
    np.testing.assert_allclose(C, sum(d * np.outer(x, x) for d, x in zip(system.weighting, system.features, strict=True)), atol=1e-12)
    alpha = share / np.linalg.eigvalsh(C)[-1]
    start, fixed = rng.standard_normal((2, len(C)))
    # Homogeneous: the error of a cycle that starts at an error.
    theta, target = start, start
    for _ in range(n):
        theta = theta + alpha * ((C - system.A) @ target - C @ theta)
    np.testing.assert_allclose(cures.frozen_target_update(system, alpha, n) @ start, theta, atol=1e-9 * (1 + np.abs(theta).max()))
    # With n = 1 it is TD.
    np.testing.assert_allclose(cures.frozen_target_update(system, alpha, 1), expected_update(system, alpha), atol=1e-12)
    # The pair of parameters that a following target makes.
    tau = float(rng.uniform(0.01, 1))
    after = start + alpha * ((C - system.A) @ fixed - C @ start)
    pair = cures.averaged_target_update(system, alpha, tau) @ np.append(start, fixed)
    np.testing.assert_allclose(pair, np.append(after, fixed + tau * (after - fixed)), atol=1e-9 * (1 + np.abs(after).max()))


@given(systems())
def test_infinitely_many_inner_steps_are_the_projection(system):
    # Every weight positive and features generic: C is invertible.
    iteration = cures.projected_iteration(system)
    expected = projection(system) @ (system.discount * system.transitions) @ system.features
    scale = np.linalg.cond(cures.covariance(system))
    np.testing.assert_allclose(system.features @ iteration, expected, atol=1e-9 * scale * (1 + np.abs(expected).max()))


def test_many_inner_steps_come_close_to_infinitely_many_also_with_a_null_direction():
    system = baird().off_policy
    np.testing.assert_allclose(cures.frozen_target_update(system, 0.3, 5000), cures.projected_iteration(system), atol=1e-9)
    assert np.abs(cures.frozen_target_update(system, 0.3, 5) - cures.projected_iteration(system)).max() > 0.01


@pytest.mark.usefixtures("unchecked")
def test_bad_targets_are_refused():
    system = baird().off_policy
    with pytest.raises(ValueError, match="step_size must be positive"):
        cures.frozen_target_update(system, 0.0, 3)
    with pytest.raises(ValueError, match="n_inner must be at least 1"):
        cures.inner_steps_matrix(system, 0.1, 0)
    with pytest.raises(ValueError, match="step_size must be below 2 / lambda_max"):
        cures.inner_steps_matrix(system, 10.0, 100_000)
    for rate in (0.0, 1.1):
        with pytest.raises(ValueError, match="rate must lie in"):
            cures.averaged_target_update(system, 0.1, rate)
    blind = LinearTD(np.eye(2), np.array([1.0, 0.0]), np.array([[0.0, 1], [0, 1]]), np.zeros(2), 0.9)
    for function in (cures.projected_iteration, cures.tdc_ratio, cures.gradient_td_limit):
        with pytest.raises(ValueError, match="weighting must cover enough states"):
            function(blind)


# --- Gradient TD -----------------------------------------------------------------------------------------------------


def sampled_gradient_td(mdp, features, weighting, target, theta, w, ratio):
    """Mean change of both parameters, for GTD2 and TDC, as sums over all transitions, from the algorithms as they are written."""
    gtd2, tdc = np.zeros((2, len(theta))), np.zeros((2, len(theta)))
    for s in range(mdp.n_states):
        for a in range(mdp.n_actions):
            for to in range(mdp.n_states):
                chance = weighting[s] * target[s, a] * mdp.transitions[s, a, to]  # behaviour times ratio
                phi, ahead = features[s], features[to]
                error = mdp.rewards[s, a] + mdp.discount * theta @ ahead - theta @ phi
                learn = ratio * (error - phi @ w) * phi
                gtd2 += chance * np.array([(phi - mdp.discount * ahead) * (phi @ w), learn])
                tdc += chance * np.array([error * phi - mdp.discount * ahead * (phi @ w), learn])
    return gtd2.ravel(), tdc.ravel()


@given(mdps_with_policy(), generators, st.floats(0.1, 5))
def test_the_joint_matrices_are_the_means_of_the_algorithms(drawn, rng, ratio):
    mdp, target = drawn
    weighting, features = rng.dirichlet(np.ones(mdp.n_states)), rng.standard_normal((mdp.n_states, 2))
    theta, w = rng.standard_normal((2, 2))
    system = linear_td(mdp, features, target=target, weighting=weighting)
    gtd2, tdc = sampled_gradient_td(mdp, features, weighting, target, theta, w, ratio)
    x = np.append(theta, w)
    np.testing.assert_allclose(np.append(0 * theta, ratio * system.b) - cures.gtd2_matrix(system, ratio) @ x, gtd2, atol=1e-9)
    np.testing.assert_allclose(np.append(system.b, ratio * system.b) - cures.tdc_matrix(system, ratio) @ x, tdc, atol=1e-9)


@given(systems(), generators)
def test_the_limit_is_the_gradient_of_the_projected_error(system, rng):
    C, theta, direction = cures.covariance(system), *rng.standard_normal((2, system.features.shape[1]))

    def error(x):
        residual = system.b - system.A @ x
        return residual @ np.linalg.solve(C, residual) / 2

    slope = (error(theta + 1e-4 * direction) - error(theta - 1e-4 * direction)) / 2e-4
    limit = cures.gradient_td_limit(system)
    gradient = limit @ theta - system.A.T @ np.linalg.solve(C, system.b)
    scale = np.linalg.cond(C) * (1 + np.abs(error(theta)))
    assert gradient @ direction == pytest.approx(slope, abs=1e-7 * scale)


def test_null_directions_do_not_count_for_the_ratio():
    example = baird()
    closed_form = 0.99 * (1 + np.sqrt(7)) / 2 - 1
    assert cures.tdc_ratio(example.off_policy) == pytest.approx(closed_form, rel=1e-9)
    assert cures.tdc_ratio(w_to_2w(0.99, 0.99).off_policy) == 0
    assert analyse_stability(cures.gradient_td_limit(example.off_policy)).verdict == "semistable"


def test_bad_ratios_are_refused():
    for ratio in (0.0, -1.0, np.inf):
        for matrix in (cures.gtd2_matrix, cures.tdc_matrix):
            with pytest.raises(ValueError, match="ratio must be positive and finite"):
                matrix(baird().off_policy, ratio)


def test_the_sets_that_independent_draws_hold_have_the_chances_of_a_count():
    weighting = np.array([0.5, 0.0, 0.3, 0.2])
    sets, chances = cures.drawn_sets(weighting, 3)
    counted = {}
    for states in product(range(4), repeat=3):
        key = tuple(bool(x) for x in np.isin(range(4), states))
        counted[key] = counted.get(key, 0.0) + np.prod(weighting[list(states)])
    found = {tuple(row.tolist()): chance for row, chance in zip(sets, chances, strict=True)}
    assert set(found) == {key for key, chance in counted.items() if chance > 0}
    assert all(found[key] == pytest.approx(counted[key]) for key in found)


@pytest.mark.parametrize("weighting", [np.ones(17), np.zeros(3)])
def test_too_many_states_or_none_are_refused(weighting):
    with pytest.raises(ValueError, match="weighting must be a vector with 1 to 16 positive entries"):
        cures.drawn_sets(weighting, 2)
