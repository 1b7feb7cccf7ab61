"""The labelled statements on the iteration in parameters and in values, in the manner of `test_statements.py`."""

import numpy as np
import pytest
import scipy.linalg
from deadly_triad.examples import baird, w_to_2w
from deadly_triad.kernel_updates import Coupling, kernel_update
from deadly_triad.linear_q import LinearQ, expected_q_iteration
from deadly_triad.linear_td import LinearTD, expected_iteration
from deadly_triad.mdp import optimality_operator
from deadly_triad.stability import analyse_stability
from hypothesis import assume, given
from hypothesis import strategies as st

from .strategies import generators, mdps_with_policy, rotation, systems

STEPS = st.floats(0.01, 1.0)


@pytest.mark.states("thm-same-iteration")
@given(systems(), generators, STEPS)
def test_td_in_parameters_and_in_values_are_one_iteration(system, rng, step_size):
    Phi = system.features
    start = rng.standard_normal(Phi.shape[1])
    run = expected_iteration(system, start, step_size=step_size, n_steps=5)
    coupling, values = Coupling(Phi @ Phi.T, system.weighting), Phi @ start
    for theta in run.points[1:]:
        values = kernel_update(lambda v: system.rewards + system.discount * system.transitions @ v, values, coupling, step_size)
        scale = 1 + np.abs(values).max()
        np.testing.assert_allclose(Phi @ theta, values, atol=1e-9 * scale)
        np.testing.assert_allclose(start + np.linalg.pinv(Phi) @ (values - Phi @ start), theta, atol=1e-6 * scale)


@pytest.mark.states("thm-same-iteration")
@given(mdps_with_policy(), generators, st.integers(1, 4), STEPS)
def test_so_are_q_learning_and_u3_with_the_maximum(drawn, rng, k, step_size):
    mdp, n = drawn[0], drawn[0].rewards.size
    problem = LinearQ(mdp, rng.standard_normal((n, k)), rng.dirichlet(np.ones(n)))
    start = rng.standard_normal(k)
    run = expected_q_iteration(problem, start, step_size=step_size, n_steps=5)
    q, coupling = problem.values(start), Coupling(problem.features @ problem.features.T, problem.weighting)
    for theta in run.points[1:]:
        q = kernel_update(lambda values: optimality_operator(mdp, values), q, coupling, step_size)
        np.testing.assert_allclose(problem.values(theta), q, atol=1e-9 * (1 + np.abs(q).max()))


@pytest.mark.states("thm-same-iteration")
def test_rotated_features_give_the_same_values_and_another_kernel_gives_others():
    rng = np.random.default_rng(0)
    system = baird().off_policy
    R = rotation(rng, 8)
    rotated = LinearTD(system.features @ R, system.weighting, system.transitions, system.rewards, system.discount)
    scaled = LinearTD(system.features * 1.1, system.weighting, system.transitions, system.rewards, system.discount)
    start = rng.standard_normal(8)

    def values(case, theta):
        return case.features @ expected_iteration(case, theta, step_size=0.1, n_steps=20).points[-1]

    np.testing.assert_allclose(values(rotated, R.T @ start), values(system, start), atol=1e-9)
    assert np.abs(values(scaled, start / 1.1) - values(system, start)).max() > 1e-3


@pytest.mark.states("thm-two-spectra")
@given(systems(), generators)
def test_the_two_characteristic_polynomials_differ_by_a_power_and_eigenvectors_map_to_each_other(system, rng):
    Phi, G = system.features, system.key_matrix
    (n, k), A, N = Phi.shape, system.A, Phi @ Phi.T @ G
    for x in rng.standard_normal(3) + 1j * rng.standard_normal(3):
        left, right = x**n * np.linalg.det(x * np.eye(k) - A), x**k * np.linalg.det(x * np.eye(n) - N)
        assert left == pytest.approx(right, rel=1e-6, abs=1e-9)
    eigenvalues, vectors = np.linalg.eig(A)
    scale = np.abs(N).max()
    for x, z in zip(eigenvalues, vectors.T, strict=True):
        np.testing.assert_allclose(N @ Phi @ z, x * Phi @ z, atol=1e-8 * scale * (1 + np.abs(Phi).max()))
        if abs(x) > 1e-3 * scale:
            w = Phi @ z
            back = Phi.T @ G @ w / x
            np.testing.assert_allclose(Phi @ back, w, atol=1e-6 * np.abs(w).max())
    verdict = analyse_stability(A, null_tolerance=1e-13).verdict
    assume(np.abs(eigenvalues.real).min() > 1e-6)
    found = analyse_stability(N, null_tolerance=1e-11)
    if n == k:
        assert (found.verdict == "stable") == (verdict == "stable")
    else:
        assert (found.verdict == "semistable" and found.n_null == n - k) == (verdict == "stable")


@pytest.mark.states("thm-two-spectra")
def test_a_singular_a_with_independent_columns_can_drift_in_values():
    # A = 0 although the feature is not: the values' matrix is nilpotent and not zero.
    Phi, G = np.array([[1.0], [2.0]]), np.array([[2 / 3, -0.6], [0.0, 2 / 15]])
    G[1, 1] = -(Phi[0, 0] * (G[0] @ Phi[:, 0])) / (Phi[1, 0] * Phi[1, 0])
    assert abs((Phi.T @ G @ Phi).item()) < 1e-15
    assert np.abs(Phi @ Phi.T @ G).max() > 0.1
    assert analyse_stability(Phi @ Phi.T @ G).verdict == "unstable"


@pytest.mark.states("prop-one-transition")
@given(generators, st.floats(0, 0.99), STEPS)
def test_one_transition_changes_its_own_error_by_the_stated_factor(rng, discount, step_size):
    features, theta, reward = rng.standard_normal((2, 3)), rng.standard_normal(3), rng.standard_normal()
    K = features @ features.T

    def error(x):
        return reward + discount * features[1] @ x - features[0] @ x

    factor = 1 - step_size * (K[0, 0] - discount * K[1, 0])
    after = theta + step_size * error(theta) * features[0]
    assert error(after) == pytest.approx(factor * error(theta), abs=1e-9)
    if K[0, 0] < discount * K[1, 0]:
        assert factor > 1
    # One transition of w -> 2w grows, one of Baird's does not.
    for example, grows in ((w_to_2w(), True), (baird(), False)):
        kernel = example.features @ example.features.T
        assert bool(kernel[0, 0] < 0.99 * kernel[-1, 0]) == grows


def with_shared(c, discount, p, m):
    example = baird(discount, p, m)
    features = example.features.copy()
    features[:, -1] *= np.sqrt(c)
    return features @ features.T @ example.off_policy.key_matrix


@pytest.mark.states("prop-shared-parameter")
@given(st.floats(0.05, 0.995), st.floats(0.02, 0.98), st.integers(1, 9), st.floats(0.01, 20))
def test_slowing_the_shared_parameter_settles_exactly_under_the_stated_condition(discount, p, m, c):
    u = (1 - p) / m
    distance = 4 * u + p * (1 - discount) - c * (m * u * (2 * discount - 1) - 4 * p * (1 - discount))
    assume(abs(distance) > 1e-6)
    unstable = analyse_stability(with_shared(c, discount, p, m), null_tolerance=1e-12).verdict == "unstable"
    assert unstable == (distance < 0)


@pytest.mark.states("prop-shared-parameter")
@pytest.mark.parametrize("discount", [0.7, 0.9, 0.99])
def test_the_classic_bound_is_where_it_says_and_there_is_none_up_to_five_eighths(discount):
    bound = (5 - discount) / (16 * discount - 10)
    assert analyse_stability(with_shared(0.999 * bound, discount, 1 / 7, 6)).verdict != "unstable"
    assert analyse_stability(with_shared(1.001 * bound, discount, 1 / 7, 6)).verdict == "unstable"
    assert analyse_stability(with_shared(1e4, 0.62, 1 / 7, 6)).verdict != "unstable"


@pytest.mark.states("prop-change-of-kernel")
@given(systems(), generators)
def test_full_rank_features_have_a_cure_and_features_with_a_bad_sign_have_none(system, rng):
    Phi, n = system.features, len(system.weighting)
    wide = rng.standard_normal((n, n + 2))
    inverse = np.linalg.pinv(wide)
    S = inverse @ inverse.T + np.eye(n + 2) - inverse @ wide
    assert np.linalg.eigvalsh(S)[0] > 0
    np.testing.assert_allclose(wide @ S @ wide.T, np.eye(n), atol=1e-6 * np.linalg.norm(inverse) ** 2)
    spd = scipy.linalg.expm(0.3 * (lambda M: M + M.T)(rng.standard_normal((Phi.shape[1],) * 2)))
    assume(np.linalg.cond(spd) < 1e6)
    A = system.A
    if np.linalg.det(A) < 0 or np.linalg.eigvalsh(A + A.T)[-1] <= 0:
        assert np.linalg.eigvals(spd @ A).real.min() <= 1e-9


@pytest.mark.states("prop-change-of-kernel")
@given(generators, st.floats(-3, 3))
def test_negative_matrices_stay_unstable_under_every_step_matrix(rng, log_scale):
    M = rng.standard_normal((3, 3))
    A = -M @ M.T + (lambda X: X - X.T)(rng.standard_normal((3, 3)))
    S = np.exp(log_scale) * (lambda X: X @ X.T + 0.01 * np.eye(3))(rng.standard_normal((3, 3)))
    assert np.linalg.eigvals(S @ A).real.max() <= 1e-9 * np.abs(S @ A).max()
    # w -> 2w with p = 1/2 is such a matrix of size one; Baird's is not, and a change of kernel mends it.
    assert w_to_2w().off_policy.A[0, 0] < 0
    assert analyse_stability(with_shared(0.5, 0.99, 1 / 7, 6)).verdict != "unstable"


@pytest.mark.states("thm-every-kernel")
@given(systems(), generators, st.integers(1, 6))
def test_a_definite_key_matrix_is_safe_for_every_kernel_and_an_indefinite_one_is_not(system, rng, rank):
    G, n = system.key_matrix, len(system.weighting)
    values, vectors = np.linalg.eigh((G + G.T) / 2)
    factor = rng.standard_normal((n, rank))
    spectrum = np.linalg.eigvals(factor @ factor.T @ G)
    scale = np.abs(spectrum).max()
    if values[0] > 1e-6:
        assert spectrum.real.min() > -1e-9 * scale
        assert np.sum(np.abs(spectrum) > 1e-11 * scale) <= min(n, rank)
        assert analyse_stability(factor @ factor.T @ G, null_tolerance=1e-12).verdict != "unstable"
    elif values[0] < -1e-6:
        worst = vectors[:, :1]
        assert np.linalg.eigvals(worst @ worst.T @ G).real.min() < 0


@pytest.mark.states("thm-every-kernel")
@given(generators, st.floats(0.0, 0.99), st.integers(1, 3))
def test_without_data_in_a_state_every_kernel_may_be_safe_though_the_key_matrix_is_not_definite(rng, discount, rank):
    G = np.diag([1.0, 0.0]) @ (np.eye(2) - discount * np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert np.linalg.eigvalsh(G + G.T)[0] == pytest.approx(0)
    factor = rng.standard_normal((2, rank))
    assert analyse_stability(factor @ factor.T @ G).verdict == "semistable"
