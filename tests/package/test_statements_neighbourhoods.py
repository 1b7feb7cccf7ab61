"""The labelled statements on how far from on-policy one may go, and with which features, in the manner of `test_statements.py`."""

import numpy as np
import pytest
from deadly_triad.examples import baird, random_mdp, random_policy
from deadly_triad.linear_td import LinearTD, linear_td, projection
from deadly_triad.mdp import policy_transitions, stationary_distribution
from deadly_triad.stability import analyse_stability
from hypothesis import given
from hypothesis import strategies as st

from .strategies import generators, rotation

DISCOUNTS = st.floats(0.05, 0.99)


def least_eigenvalue(P, d, discount):
    G = d[:, None] * (np.eye(len(P)) - discount * P)
    return np.linalg.eigvalsh((G + G.T) / 2)[0]


def one_feature(P, d, feature, discount):
    return LinearTD(feature[:, None], d / d.sum(), P, np.zeros(len(P)), discount).A[0, 0]


SWAP = np.array([[0.0, 1.0], [1.0, 0.0]])


@pytest.mark.states("thm-neighbourhood")
@given(generators, st.integers(1, 7), DISCOUNTS, st.floats(0.0, 0.999), st.floats(1e-3, 1e3))
def test_weightings_within_the_neighbourhood_have_a_definite_key_matrix(rng, n, discount, share, scale):
    # A mixture with a cycle through all states makes the chain irreducible.
    P = 0.9 * rng.dirichlet(np.full(n, 0.2), size=n) + 0.1 * np.roll(np.eye(n), 1, axis=1)
    d_pi = stationary_distribution(P)
    epsilon = share * np.sqrt(1 - discount**2)
    d = d_pi * (1 + epsilon * rng.choice([-1, 1], n))
    assert least_eigenvalue(P, scale * d, discount) > 0


@pytest.mark.states("thm-neighbourhood")
@given(DISCOUNTS, st.floats(-0.01, 0.01).filter(lambda x: abs(x) > 1e-6))
def test_on_the_swap_the_bound_is_sharp_from_both_sides(discount, beyond):
    epsilon = np.sqrt(1 - discount**2) + beyond
    if 0 < epsilon < 1:
        assert (least_eigenvalue(SWAP, np.array([1 + epsilon, 1 - epsilon]) / 2, discount) > 0) == (beyond < 0)


@pytest.mark.states("prop-no-neighbourhood")
@given(DISCOUNTS, st.floats(0.1, 0.99), st.floats(1e-9, 0.5))
def test_without_a_positive_stationary_distribution_weightings_near_it_diverge(discount, share, eta):
    beta = share * discount**2 / 4
    P, d = np.eye(3)[[1, 2, 2]], np.array([eta, beta * eta, 1 - eta - beta * eta])
    feature = np.array([1, discount / (2 * beta), 0])
    A = one_feature(P, d, feature, discount)
    assert pytest.approx(eta * (1 - discount**2 / (4 * beta)), rel=1e-9) == A
    assert A < 0
    # The hypothesis on beta is needed: above the bound the same feature is stable.
    above = 1.01 * discount**2 / 4
    assert one_feature(P, np.array([eta, above * eta, 1]), np.array([1, discount / (2 * above), 0]), discount) > 0


@pytest.mark.states("thm-near-policy")
@given(generators, st.integers(1, 5), DISCOUNTS, st.floats(0.0, 0.999))
def test_near_the_target_policy_the_projected_operator_contracts(rng, n, discount, share):
    mdp = random_mdp(rng, n, 3, discount=discount)
    target, other = random_policy(rng, mdp), random_policy(rng, mdp)
    tau = share * (1 - discount**2)
    behaviour = (1 - tau) * target + tau * other
    d_b = stationary_distribution(policy_transitions(mdp, behaviour))
    rho_max = (target / behaviour).max()
    assert discount**2 * rho_max < 1
    system = linear_td(mdp, rng.standard_normal((n, int(rng.integers(1, n + 1)))), target=target, weighting=d_b)
    root = np.sqrt(d_b)
    step = projection(system) @ (discount * system.transitions)
    assert np.linalg.norm(root[:, None] * step / root, 2) <= discount * np.sqrt(rho_max) + 1e-9
    assert least_eigenvalue(system.transitions, d_b, discount) > 0
    assert analyse_stability(system.A, null_tolerance=1e-14).verdict == "stable"


def reset_corridor(p, discount, n):
    ahead = np.eye(n, k=1)
    ahead[-1, -1] = 1
    back = np.zeros((n, n))
    back[:, 0] = 1
    d_b = stationary_distribution(p * ahead + (1 - p) * back)
    y = np.sin(np.arange(1, n) * np.pi / n)
    return one_feature(ahead, d_b, np.append(y / np.sqrt(d_b[:-1]), 0), discount) / (y @ y), ahead, d_b


@pytest.mark.states("thm-near-policy")
@given(st.floats(0.5, 0.95), st.integers(3, 40))
def test_beyond_its_bound_the_reset_corridor_diverges(discount, n):
    p = 0.9 * discount**2
    A, ahead, d_b = reset_corridor(p, discount, n)
    expected = 1 - np.cos(np.pi / n) / np.sqrt(0.9)
    assert pytest.approx(expected, abs=1e-9) == A
    assert (A < 0) == (n > np.pi / np.arccos(np.sqrt(0.9)))
    # Within the bound the same corridor is definite for every feature.
    _, _, inside = reset_corridor(1.01 * discount**2 if discount < 0.99 else 0.995, discount, n)
    assert least_eigenvalue(ahead, inside, discount) > 0
    assert d_b.min() > 0


@pytest.mark.states("thm-aggregation")
@given(generators, st.integers(2, 8), st.floats(0, 0.99))
def test_signed_aggregation_is_stable_under_every_covering_weighting(rng, n, discount):
    k = int(rng.integers(1, n + 1))
    groups = np.concatenate([np.arange(k), rng.integers(0, k + 1, n - k)])  # group k: rows of zeros
    directions = np.vstack([rotation(rng, k) * rng.uniform(0.2, 5, k)[:, None], np.zeros(k)])
    features = rng.choice([-1.0, 1.0], n)[:, None] * directions[groups]
    # Deterministic successors are the worst ones.
    mdp = random_mdp(rng, n, 1, discount=discount, branching=int(rng.integers(1, 3)))
    system = LinearTD(features, rng.dirichlet(np.full(n, 0.3)) * 0.9 + 0.1 / n, mdp.transitions[:, 0], mdp.rewards[:, 0], discount)
    assert analyse_stability(system.A).verdict == "stable"


@pytest.mark.states("thm-aggregation")
def test_averaging_features_and_unequal_lengths_need_not_be_stable():
    # Rows that are neither equal, opposite nor orthogonal: unstable from weight 4/13 down.
    P = np.array([[1.0, 0.0], [1.0, 0.0]])
    for eta, verdict in ((0.3, "unstable"), (0.32, "stable")):
        system = LinearTD(np.array([[1, 0], [2 / 3, 1 / 3]]), np.array([eta, 1 - eta]), P, np.zeros(2), 0.9)
        assert analyse_stability(system.A).verdict == verdict
    # Opposite rows of unequal length beside a balanced group.
    features = np.array([[1, 0], [-0.3, 0], [0, 1], [0, -1]])
    unbalanced = LinearTD(features, np.array([0.01, 0.79, 0.01, 0.19]), np.eye(4)[[0, 2, 2, 0]], np.zeros(4), 0.9)
    assert analyse_stability(unbalanced.A).verdict == "unstable"


@pytest.mark.states("thm-one-feature")
@given(generators, st.integers(1, 6), DISCOUNTS)
def test_one_feature_is_stable_for_every_weighting_unless_it_outgrows_the_discount(rng, n, discount):
    P, feature = rng.dirichlet(np.full(n, 0.3), size=n), rng.standard_normal(n)
    c = feature * (feature - discount * P @ feature)
    for d in rng.dirichlet(np.full(n, 0.3), size=5):
        assert one_feature(P, d, feature, discount) == pytest.approx(d @ c, abs=1e-12)
    assert c[np.abs(feature).argmax()] > 0
    focus = np.full(n, 1e-9)
    focus[c.argmin()] = 1
    assert (one_feature(P, focus, feature, discount) > 0) == (c.min() >= 0) or abs(c.min()) < 1e-6


@pytest.mark.states("prop-diagonal")
def test_a_kernel_row_with_a_larger_entry_off_the_diagonal_diverges_for_some_chain():
    rng = np.random.default_rng(0)
    for _ in range(200):
        features = rng.standard_normal((3, 2))
        K = features @ features.T
        s, t = np.unravel_index(np.argmax(K - np.diag(K)[:, None]), K.shape)
        if K[s, t] <= 1.02 * K[s, s]:
            continue
        d, P = np.full(3, 1e-9), np.eye(3)
        d[s], P[s] = 1, np.eye(3)[t]
        system = LinearTD(features, d / d.sum(), P, np.zeros(3), 0.99)
        # The other states, which hardly count, lead to themselves: the rest of the spectrum is positive and tiny.
        eigenvalues = analyse_stability(system.A, null_tolerance=0).eigenvalues
        assert eigenvalues.real.min() == pytest.approx(K[s, s] - 0.99 * K[s, t], abs=1e-6)
        assert eigenvalues.real.min() < 0


@pytest.mark.states("prop-diagonal")
def test_the_diagonal_condition_is_not_sufficient():
    example = baird()
    K = example.features @ example.features.T
    assert np.all(np.diag(K)[:, None] >= K)
    assert analyse_stability(example.off_policy.A).verdict == "unstable"


@pytest.mark.states("prop-reachable")
@given(st.floats(0.5001, 0.999), st.floats(1e-6, 0.9999))
def test_between_one_half_and_five_sixths_no_behaviour_policy_diverges_but_a_weighting_does(discount, q):
    P_pi, feature = np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([1.0, 2.0])
    d_b = stationary_distribution(np.array([[0.0, 1.0], [q, 1 - q]]))
    A = one_feature(P_pi, d_b, feature, discount)
    assert (1 + q) * A == pytest.approx(q * (1 - 2 * discount) + 4 * (1 - discount), abs=1e-9)
    if discount <= 5 / 6:
        assert A > 0
    weight = np.array([1, 1e-6 * (2 * discount - 1)])
    assert one_feature(P_pi, weight, feature, discount) < 0


@pytest.mark.states("prop-reachable")
@given(st.floats(5 / 6 + 1e-3, 0.999))
def test_above_five_sixths_some_behaviour_policy_diverges(discount):
    P_b = np.array([[0.0, 1.0], [1 - 1e-4, 1e-4]])
    P_pi = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert one_feature(P_pi, stationary_distribution(P_b), np.array([1.0, 2.0]), discount) < 0
