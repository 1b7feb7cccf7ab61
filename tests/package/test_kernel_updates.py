"""`kernel_updates`: U3, the report on Theorem 2, moduli over all MDPs and in one, the matrices of the policies."""

import itertools
from functools import partial

import numpy as np
import pytest
from deadly_triad.examples import random_mdp
from deadly_triad.fixed_point import SUP
from deadly_triad.kernel_updates import (
    Coupling,
    Rows,
    Theorem2,
    kernel_modulus,
    kernel_update,
    policy_matrices,
    problem_modulus,
    theorem_2,
    worst_case_modulus,
    worst_problem,
)
from deadly_triad.mdp import MDP, deterministic_policy, optimality_operator, pair_transitions, policy_operator
from deadly_triad.value_updates import weighted_modulus, weighted_update
from hypothesis import given
from hypothesis import strategies as st

from .strategies import generators, mdps, mdps_with_policy


def random_coupling(rng, n, kind="any"):
    """Positive definite K; with signs at random, all positive, or negative off the diagonal."""
    features = rng.standard_normal((n, n))
    kernel = features @ features.T
    if kind == "positive":
        kernel = np.abs(kernel)
    elif kind == "negative":
        kernel = np.where(np.eye(n) > 0, np.abs(kernel) + 1, -np.abs(kernel))
    return Coupling(kernel, rng.dirichlet(np.ones(n)))


KINDS = st.sampled_from(["any", "positive", "negative"])


# --- the update ------------------------------------------------------------------------------------------------------------------------


@given(mdps(), generators, st.floats(0.01, 2))
def test_the_update_moves_each_entry_by_what_every_pair_gives_it(mdp, rng, step_size):
    T, Q = partial(optimality_operator, mdp), rng.standard_normal(mdp.rewards.shape)
    coupling = random_coupling(rng, Q.size)
    moved, errors = kernel_update(T, Q, coupling, step_size), (T(Q) - Q).ravel()
    for i, pair in enumerate(np.ndindex(Q.shape)):
        gift = sum(coupling.kernel[i, j] * coupling.rho[j] * errors[j] for j in range(Q.size))
        assert moved[pair] == pytest.approx(Q[pair] + step_size * gift, abs=1e-10)


@given(mdps(), generators, st.floats(0.01, 3))
def test_without_generalisation_it_is_u2(mdp, rng, step_size):
    T, Q = partial(optimality_operator, mdp), rng.standard_normal(mdp.rewards.shape)
    rho = rng.dirichlet(np.ones(Q.size))
    alone = Coupling(np.eye(Q.size), rho)
    np.testing.assert_allclose(kernel_update(T, Q, alone, step_size), weighted_update(T, Q, rho.reshape(Q.shape), step_size), atol=1e-12)
    assert kernel_modulus(alone, mdp.discount, step_size) == pytest.approx(weighted_modulus(rho, mdp.discount, step_size), rel=1e-14)


@given(mdps_with_policy(), generators, st.floats(0.01, 2))
def test_the_policies_matrices_are_the_linear_parts_of_the_update(drawn, rng, step_size):
    mdp, _ = drawn
    coupling = random_coupling(rng, mdp.rewards.size)
    matrices = policy_matrices(mdp, coupling, step_size)
    assert len(matrices) == mdp.n_actions**mdp.n_states
    for matrix, actions in zip(matrices, itertools.product(range(mdp.n_actions), repeat=mdp.n_states), strict=True):
        g = deterministic_policy(np.array(actions), mdp.n_actions)
        update = partial(kernel_update, partial(policy_operator, mdp, g), coupling=coupling, step_size=step_size)
        Q, R = rng.standard_normal((2, *mdp.rewards.shape))
        np.testing.assert_allclose((update(Q) - update(R)).ravel(), matrix @ (Q - R).ravel(), atol=1e-9)
        direct = np.eye(Q.size) - step_size * coupling.matrix @ (np.eye(Q.size) - mdp.discount * pair_transitions(mdp, g))
        np.testing.assert_allclose(matrix, direct, atol=1e-11)


# --- the moduli ------------------------------------------------------------------------------------------------------------------------


@given(generators, st.integers(1, 7), KINDS, st.floats(0, 0.99), st.floats(0.01, 3))
def test_the_modulus_is_the_double_sum_of_the_module_entry_by_entry(rng, n, kind, discount, share):
    coupling = random_coupling(rng, n, kind)
    a = share / coupling.own.max()
    K, rho = coupling.kernel, coupling.rho
    rows = [sum(abs((i == j) - a * K[i, j] * rho[j]) + a * discount * abs(K[i, j]) * rho[j] for j in range(n)) for i in range(n)]
    assert kernel_modulus(coupling, discount, a) == pytest.approx(max(rows), rel=1e-12)


@given(generators, st.sampled_from([(2, 1), (3, 1), (2, 2), (4, 1)]), KINDS, st.sampled_from([0.0, 0.5, 0.9]), st.floats(0.05, 2.5))
def test_the_worst_case_is_that_of_all_deterministic_mdps_and_the_problem_found_attains_it(rng, sizes, kind, discount, share):
    n_states, n_actions = sizes
    n = n_states * n_actions
    coupling = random_coupling(rng, n, kind)
    step_size = share / coupling.own.max()
    reach = step_size * coupling.matrix
    # By exhaustion: where each pair leads, and which action each state takes. An average of these is no worse.
    worst = 0.0
    for successors in itertools.product(range(n_states), repeat=n):
        for actions in itertools.product(range(n_actions), repeat=n_states):
            P = np.zeros((n, n))
            P[np.arange(n), [s * n_actions + actions[s] for s in successors]] = 1
            worst = max(worst, SUP.of_matrix(np.eye(n) - reach @ (np.eye(n) - discount * P)))
    assert worst_case_modulus(coupling, discount, step_size) == pytest.approx(worst, rel=1e-12)

    found = worst_problem(coupling, discount, step_size, n_states)
    update = partial(kernel_update, partial(optimality_operator, found.mdp), coupling=coupling, step_size=step_size)
    assert SUP(found.first - found.second) == 1
    assert SUP(update(found.first) - update(found.second)) == pytest.approx(worst, rel=1e-12)


@given(mdps(max_states=4), generators, KINDS, st.floats(0.05, 2.5))
def test_the_modulus_in_one_problem_is_that_of_its_worst_policy(mdp, rng, kind, share):
    coupling = random_coupling(rng, mdp.rewards.size, kind)
    step_size = share / coupling.own.max()
    worst = max(SUP.of_matrix(matrix) for matrix in policy_matrices(mdp, coupling, step_size))
    assert problem_modulus(mdp, coupling, step_size) == pytest.approx(worst, rel=1e-11)
    if mdp.n_states > 1:
        assert worst <= worst_case_modulus(coupling, mdp.discount, step_size) * (1 + 1e-12)
    assert worst <= kernel_modulus(coupling, mdp.discount, step_size) * (1 + 1e-12)


# --- the report ------------------------------------------------------------------------------------------------------------------------


def report(kernel, rho, discount=0.5, step_size=1.0, names=None):
    return theorem_2(Coupling(np.array(kernel), np.array(rho)), discount, step_size, names)


def test_the_report_names_the_pairs_that_break_each_condition_the_worst_first():
    # Row by row: (1 + 1/2) * others against (1 - 1/2) * own, with weights 1.
    kernel = [[4.0, 0.1, 0.0, 0.0], [0.1, 0.5, 0.3, 0.0], [0.0, 0.3, 0.5, 0.4], [0.0, 0.0, 0.4, 3.0]]
    seen = report(kernel, np.ones(4), names=["north", "east", "south", "west"])
    assert seen.breaks_16.tolist() == [0, 3]  # 4 and 3 against 1
    assert seen.breaks_17.tolist() == [2, 1]  # 1.05 and 0.6 against 0.25
    np.testing.assert_allclose(seen.margins, [2 - 0.15, 0.25 - 0.6, 0.25 - 1.05, 1.5 - 0.6], rtol=1e-14)
    assert not seen.applies
    assert (seen.largest_step, seen.best_step) == (0, 0)
    text = str(seen)
    assert "(16) step_size * K_ii rho_i <= 1: broken at 2 of 4 pairs\n     north: 4 against 1, 4 times\n     west: 3" in text
    assert "broken at 2 of 4 pairs\n     south: 1.05 against 0.25, 4.2 times\n     east: 0.6 against 0.25, 2.4 times\nbeta(K) = " in text
    assert text.endswith("no step size brings it below 1")


def test_the_report_is_what_a_notebook_shows_and_stays_short():
    class Printer:
        def text(self, text):
            self.kept = text

    n, printer = 50, Printer()
    seen = report(np.ones((n, n)), np.full(n, 1 / n))
    seen._repr_pretty_(printer, False)
    assert printer.kept == str(seen)
    assert "and 47 more" in str(seen)
    assert len(str(seen).splitlines()) == 8


@given(generators, st.integers(1, 6), st.floats(0, 0.95), st.floats(0.01, 0.99))
def test_the_steps_of_the_report_are_where_the_modulus_is_one_and_least(rng, n, discount, share):
    small = random_coupling(rng, n)
    off = 0.9 * (1 - discount) / (1 + discount)
    kernel = np.diag(np.diag(small.kernel)) / small.rho  # then shrink what is off the diagonal until (17) holds
    leak = rng.uniform(-1, 1, (n, n))
    kernel = kernel + off * (leak + leak.T) / 2 * np.diag(kernel).min() * small.rho.min() / n * (1 - np.eye(n))
    coupling = Coupling(kernel, small.rho)
    seen = theorem_2(coupling, discount, 1.0)
    assert not seen.breaks_17.size
    modulus = partial(kernel_modulus, coupling, discount)
    assert modulus(share * seen.largest_step) < 1 < modulus(seen.largest_step / share)
    assert modulus(seen.largest_step) == pytest.approx(1, abs=1e-12)
    assert modulus(seen.best_step) <= min(modulus(share * seen.best_step), modulus(seen.best_step / share)) + 1e-12
    assert seen.largest_step > 1 / coupling.own.max()
    assert f"below {seen.largest_step:.6g}" in str(seen)


def test_equal_sides_of_the_strict_condition_break_it_and_equal_sides_of_the_other_do_not():
    c = 0.1 / 1.9
    seen = report([[1.0, c], [c, 1.0]], np.ones(2), discount=0.9)
    assert (seen.breaks_16.size, seen.breaks_17.size, seen.applies) == (0, 2, False)
    assert seen.modulus == pytest.approx(1, abs=1e-15)
    assert report([[1.0, c * (1 - 1e-9)], [c * (1 - 1e-9), 1.0]], np.ones(2), discount=0.9).applies


def test_row_ratios_are_the_leak_of_the_other_pairs_on_average():
    kernel = np.array([[2.0, -1.0, 0.5], [-1.0, 4.0, 0.0], [0.5, 0.0, 1.0]])
    expected = [1.5 / 2 / 3, 1 / 4 / 3, 0.5 / 3]
    for weight in (1.0, 1 / 3):
        np.testing.assert_allclose(Coupling(kernel, np.full(3, weight)).rows.ratios, expected, rtol=1e-14)


def test_a_pair_without_data_or_without_a_gradient_breaks_the_strict_condition():
    assert report(np.eye(2), [1.0, 0.0]).breaks_17.tolist() == [1]
    assert report([[1.0, 0.0], [0.0, 0.0]], [0.5, 0.5]).breaks_17.tolist() == [1]
    # It moves pair 0, and nothing of its own holds it: worse than any finite ratio.
    assert report([[1.0, 0.9], [0.9, 1.0]], [0.5, 0.0]).breaks_17.tolist() == [1]
    assert "0.675 against 0" in str(report([[1.0, 0.9], [0.9, 1.0]], [0.5, 0.0]))


def test_single_precision_of_a_network_passes_and_a_large_kernel_is_read_in_blocks():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((150, 40)).astype(np.float32)
    kernel = features @ features.T
    kernel[3, 100] *= 1 + 1e-6
    coupling = Coupling(kernel, rng.dirichlet(np.ones(150)))
    direct = (np.abs(kernel.astype(float)) @ coupling.rho) - coupling.own
    np.testing.assert_allclose(coupling.others, direct, rtol=1e-5)
    for i, j in ((3, 140), (140, 3), (149, 148)):
        wrong = kernel.copy()
        wrong[i, j] += 1
        with pytest.raises(ValueError, match="kernel must be symmetric, got entries K_ij and K_ji that differ by 1"):
            Coupling(wrong, coupling.rho)
        wrong[i, j] = np.nan
        with pytest.raises(ValueError, match="kernel must be finite"):
            Coupling(wrong, coupling.rho)


TWO = Coupling(np.eye(2), np.full(2, 0.5))
ALONE = MDP(np.ones((1, 1, 1)), np.zeros((1, 1)), 0.5)
LONG = random_mdp(np.random.default_rng(0), 13, 2)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Coupling(np.ones((2, 3)), np.ones(2)), r"kernel must be a square matrix, got shape \(2, 3\)"),
        (lambda: Coupling(np.zeros((0, 0)), np.ones(0)), "kernel must be a square matrix"),
        (lambda: Coupling(np.array([[1.0, 2.0], [0.0, 1.0]]), np.ones(2)), "kernel must be symmetric"),
        (lambda: Coupling(np.array([[1.0, np.inf], [np.inf, 1.0]]), np.ones(2)), "kernel must be finite"),
        (lambda: Coupling(np.diag([1.0, np.nan]), np.ones(2)), "kernel must be finite"),
        (lambda: Coupling(np.diag([1.0, -2.0]), np.ones(2)), "kernel must have a diagonal of at least 0, got -2 at pair 1"),
        (lambda: Coupling(np.eye(2), np.ones(3)), r"rho must have shape \(2,\), one weight a row of kernel, got \(3,\)"),
        (lambda: Coupling(np.eye(2), np.array([1.0, -0.5])), "rho must hold non-negative weights, got -0.5 at pair 1"),
        (lambda: Coupling(np.eye(2), np.array([1.0, np.nan])), "rho must be finite"),
        (lambda: kernel_update(np.negative, np.ones(3), TWO, 1.0), r"values must have 2 entries, .*, got shape \(3,\)"),
        (lambda: kernel_update(np.negative, np.ones(2), TWO, 0.0), "step_size must be positive"),
        (lambda: kernel_modulus(TWO, 1.0, 1.0), "discount must lie in"),
        (lambda: kernel_modulus(TWO, 0.5, np.nan), "step_size must be positive"),
        (lambda: theorem_2(TWO, 0.5, 1.0, ["a"]), "names must hold 2 names, one a pair, got 1"),
        (lambda: Theorem2(Rows(np.ones(1), np.ones(1)), -0.1, 1.0), "discount must lie in"),
        (lambda: Rows(np.ones((2, 2)), np.ones((2, 2))), r"own must hold one number a pair, got shape \(2, 2\)"),
        (lambda: Rows(np.ones(0), np.ones(0)), "own must hold at least one number"),
        (lambda: Rows(np.ones(2), np.ones(3)), r"others must have shape \(2,\), got \(3,\)"),
        (lambda: Rows(np.ones(2), np.array([1.0, np.nan])), "others must be finite"),
        (lambda: Rows(np.array([1.0, -2.0]), np.ones(2)), r"own must hold non-negative weights, got -2 at index \(1,\)"),
        (lambda: Rows(np.array([1.0, 0.0]), np.ones(2)).ratios, "own must be positive, got 0 at pair 1"),
        (lambda: worst_case_modulus(TWO, -1.0, 1.0), "discount must lie in"),
        (lambda: worst_case_modulus(TWO, 0.5, -1.0), "step_size must be positive"),
        (lambda: worst_problem(TWO, 0.5, 1.0, 1), "n_states must be at least 2, got 1"),
        (lambda: worst_problem(Coupling(np.eye(3), np.ones(3)), 0.5, 1.0, 2), "n_states must divide the number of pairs, 3, got 2"),
        (lambda: worst_problem(TWO, 2.0, 1.0, 2), "discount must lie in"),
        (lambda: worst_problem(TWO, 0.5, 0.0, 2), "step_size must be positive"),
        (lambda: problem_modulus(ALONE, TWO, 1.0), "coupling must have S A = 1 pairs, as mdp has, got 2"),
        (lambda: problem_modulus(ALONE, TWO, 0.0), "step_size must be positive"),
        (lambda: policy_matrices(ALONE, TWO, 1.0), "coupling must have S A = 1 pairs, as mdp has, got 2"),
        (lambda: policy_matrices(ALONE, TWO, 0.0), "step_size must be positive"),
        (lambda: policy_matrices(LONG, Coupling(np.eye(26), np.ones(26)), 1.0), r"at most 4096 deterministic policies, got 2\^13"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("step_size", "broken"), [(1.0, []), (1.0 + 1e-9, [1]), (1.2, [1]), (1.9, [1]), (2.1, [1, 0])])
def test_the_first_condition_is_broken_just_above_one(step_size, broken):
    assert theorem_2(Coupling(np.diag([1.0, 2.0]), np.full(2, 0.5)), 0.9, step_size).breaks_16.tolist() == broken
