"""The labelled statements on PreQN, in the manner of `test_statements.py`."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad import cures
from deadly_triad.examples import baird, w_to_2w
from deadly_triad.networks import dense, init_mlp, value_network
from deadly_triad.ntk import kernel_factors
from deadly_triad.preqn import Settings, init, solve_kernel, step
from deadly_triad.stability import analyse_stability
from hypothesis import given
from hypothesis import strategies as st

from .strategies import generators, systems

PLAIN = Settings(alignment=-1.0, shift=1e-9, refinements=3)
update = jax.jit(step, static_argnames="network")


@pytest.mark.states("prop-preqn-step")
@pytest.mark.parametrize("name", ["tanh", "sin"])
def test_on_the_batch_it_is_u1_and_off_it_kernel_interpolation_up_to_second_order(name):
    keys = jax.random.split(jax.random.key(3), 4)
    network, layers = value_network(name), init_mlp(keys[0], [2, 64, 64, 1], "lecun")
    batch, elsewhere = 2 * jax.random.normal(keys[1], (7, 2)), 2 * jax.random.normal(keys[2], (5, 2))
    here, there = kernel_factors(network, layers, batch), kernel_factors(network, layers, elsewhere)
    delta = jax.random.normal(keys[3], (7,))
    across = np.asarray(there.cross_kernel(here) @ jnp.linalg.solve(here.kernel(), delta))

    def excess(step_size):
        after = update(network, init(layers), batch, here.Q + delta, PLAIN._replace(step_size=step_size))[0].parameters
        on = network(after, batch, dense) - here.Q - step_size * delta
        off = network(after, elsewhere, dense) - there.Q - step_size * across
        return float(jnp.abs(on).max()), float(jnp.abs(off).max())

    for coarse, fine in zip(excess(0.02), excess(0.01), strict=True):
        assert coarse / fine == pytest.approx(4, rel=0.2)
    # Elsewhere nothing is U1: the change is neither zero nor bounded by that on the batch.
    assert np.abs(across).max() > 0.1


@pytest.mark.states("prop-preqn-step")
@given(generators, st.integers(1, 5))
def test_the_step_is_the_shortest_that_moves_the_batch_so(rng, n):
    J, delta = rng.standard_normal((n, 9)), rng.standard_normal(n)
    step = J.T @ np.linalg.solve(J @ J.T, delta)
    null = rng.standard_normal(9)
    null -= J.T @ np.linalg.solve(J @ J.T, J @ null)
    np.testing.assert_allclose(J @ (step + null), delta, atol=1e-7)
    assert np.linalg.norm(step + null) >= np.linalg.norm(step)
    np.testing.assert_allclose(step, np.linalg.pinv(J) @ delta, atol=1e-7)


def linear_radius(example):
    """Largest real part of an eigenvalue of the projected, discounted chain, on the span of the features."""
    Phi, system = example.features, example.off_policy
    projected = Phi @ np.linalg.pinv(Phi) @ (system.discount * system.transitions)
    return np.linalg.eigvals(projected).real.max()


@pytest.mark.states("prop-preqn-linear")
@pytest.mark.parametrize(("make", "discount"), [(baird, 0.9), (baird, 0.99), (w_to_2w, 0.82), (w_to_2w, 0.84)])
def test_linear_preqn_settles_exactly_when_the_projected_chain_allows(make, discount):
    example = make(discount)
    features, P = jnp.asarray(example.features), jnp.asarray(example.off_policy.transitions)

    def network(theta, x, _):
        return x @ theta

    theta = jnp.asarray(example.start)
    before = features @ theta
    for _ in range(3):
        q = features @ theta
        theta = update(network, init(theta), features, discount * P @ q, PLAIN._replace(step_size=0.2))[0].parameters
        Pi = np.asarray(features @ jnp.linalg.pinv(features))
        np.testing.assert_allclose(features @ theta, q + 0.2 * Pi @ (discount * P @ q - q), atol=1e-6)
    settles = linear_radius(example) < 1
    assert settles == (make is baird or discount < 5 / 6)
    if make is w_to_2w:
        assert bool(jnp.abs(features @ theta).max() < jnp.abs(before).max()) == settles
        assert linear_radius(example) == pytest.approx(6 * discount / 5)


# --- Minibatches -----------------------------------------------------------------------------------------------------


def subsets(n_states, size):
    """All minibatches of so many different states."""
    return np.array([np.isin(np.arange(n_states), chosen) for chosen in combinations(range(n_states), size)])


def values_view(system, sets, chances):
    """K N (I - gamma P) from its definition, entry by entry."""
    K, n = system.features @ system.features.T, len(system.features)
    N = np.zeros((n, n))
    for B, p in zip(sets, chances, strict=True):
        N[np.ix_(B, B)] += p * np.linalg.pinv(K[np.ix_(B, B)], rcond=1e-10)
    return K, N, K @ N @ (np.eye(n) - system.discount * system.transitions)


@pytest.mark.states("prop-preqn-minibatch")
@given(systems(), generators)
def test_a_minibatch_puts_its_expected_inverse_kernel_in_the_place_of_the_weighting(system, rng):
    n = len(system.features)
    sets = rng.random((4, n)) < 0.5
    sets[:, 0] |= ~sets.any(axis=1)
    chances = rng.dirichlet(np.ones(4))
    K, N, in_values = values_view(system, sets, chances)
    M = cures.preqn_matrix(system, sets, chances)
    np.testing.assert_allclose(system.features @ M, in_values @ system.features, atol=1e-6 * (1 + np.abs(in_values).max()))
    shares = np.linalg.eigvals(K @ N).real
    assert shares.min() > -1e-7
    assert shares.max() < 1 + 1e-7
    # One state at a time: TD with weights divided by the diagonal. All states: the unweighted projection, whatever the weighting.
    own = np.diag(K)
    if own.min() > 1e-6:
        alone = cures.preqn_matrix(system, np.eye(n, dtype=bool), system.weighting)
        normalised = (
            system.features.T * (system.weighting / own) @ (system.features - system.discount * system.transitions @ system.features)
        )
        np.testing.assert_allclose(alone, normalised, atol=1e-8 * (1 + np.abs(normalised).max()))
    whole = system.features @ cures.preqn_matrix(system, np.ones((1, n), bool))
    projected = system.features @ np.linalg.pinv(system.features)
    errors = system.features - system.discount * system.transitions @ system.features
    np.testing.assert_allclose(whole, projected @ errors, atol=1e-6 * (1 + np.abs(errors).max()))


@pytest.mark.states("prop-preqn-minibatch")
@given(generators, st.floats(0.01, 2.0))
def test_with_targets_that_stand_still_no_minibatch_leads_away_and_a_longer_step_does(rng, alpha):
    Phi, solution, theta = rng.standard_normal((5, 7)), rng.standard_normal(7), rng.standard_normal(7)
    B = rng.permutation(5)[: rng.integers(1, 6)]

    def after(step):
        return theta + step * np.linalg.pinv(Phi[B]) @ (Phi[B] @ solution - Phi[B] @ theta)

    assert np.linalg.norm(after(alpha) - solution) <= np.linalg.norm(theta - solution) * (1 + 1e-12)
    assert np.linalg.norm(after(2.1) - solution) > np.linalg.norm(theta - solution)


def least_discount(n):
    """Where minibatches of n of the seven states begin to diverge, by the formula of the proposition."""
    return (1 + 5 * (7 - n) / (3 * (4 + n)) + 13 * (n - 1) / (3 * (19 + n))) / (1 + 2 * (7 - n) / (4 + n))


@pytest.mark.states("prop-preqn-baird")
@pytest.mark.parametrize("n", range(1, 8))
def test_all_minibatches_of_the_star_counted_out_settle_exactly_below_the_formula(n):
    edge = least_discount(n)
    assert edge == pytest.approx({1: 15 / 17, 2: 109 / 112}.get(n, max(edge, 1.09)))
    sets = subsets(7, n)
    for discount in (0.1, 0.8, 0.87, 0.89, 0.96, 0.98, 0.999):
        verdict = analyse_stability(cures.preqn_matrix(baird(discount).off_policy, sets)).verdict
        assert verdict == ("semistable" if discount < edge else "unstable"), discount  # the features have one null direction


@pytest.mark.states("prop-preqn-baird")
@pytest.mark.parametrize("batch", [2, 3])
def test_random_minibatches_of_the_star_do_as_the_expectation_says(batch):
    """The package's own update on drawn minibatches: the mean of one update over many draws, and where many updates lead."""
    example = baird(0.99)
    features, P = jnp.asarray(example.features), jnp.asarray(example.off_policy.transitions)
    settings = PLAIN._replace(step_size=0.5)

    def network(theta, x, _):
        return x @ theta

    def one(theta, key):
        chosen = jax.random.permutation(key, 7)[:batch]
        targets = 0.99 * P @ (features @ theta)
        return step(network, init(theta), features[chosen], targets[chosen], settings)[0].parameters

    @jax.jit
    @jax.vmap
    def run(key):
        keys = jax.random.split(key, 1000)
        start = jnp.asarray(example.start)
        return one(start, keys[0]), jax.lax.scan(lambda theta, k: (one(theta, k), None), start, keys)[0]

    first, last = (np.asarray(theta) for theta in run(jax.random.split(jax.random.key(batch), 400)))
    M = cures.preqn_matrix(example.off_policy, subsets(7, batch))
    spread = first.std(axis=0) / np.sqrt(len(first))
    assert np.all(np.abs(first.mean(axis=0) - (example.start - 0.5 * M @ example.start)) < 4.5 * spread + 1e-6)
    before, after = (np.sqrt(np.mean((theta @ example.features.T) ** 2)) for theta in (example.start, last))
    assert after < 1e-2 * before if batch == 3 else after > before


@pytest.mark.states("prop-preqn-linear")
def test_on_its_edge_the_pair_stands_still():
    assert abs(cures.preqn_matrix(w_to_2w(5 / 6).off_policy, np.ones((1, 2)))[0, 0]) < 1e-12


@pytest.mark.states("prop-armijo")
@given(generators, st.floats(0.0, 0.9), st.floats(0.01, 0.99))
def test_aligned_and_not_too_long_moves_decrease_the_objective(rng, c, place):
    delta, m = rng.standard_normal(4), rng.standard_normal(4)
    eta = c + place * (1 - c)
    # A move with cosine exactly eta, of the largest length allowed.
    m -= m @ delta / (delta @ delta) * delta
    unit = eta * delta / np.linalg.norm(delta) + np.sqrt(1 - eta**2) * m / np.linalg.norm(m)
    move = 2 * (eta - c) * np.linalg.norm(delta) * unit
    fall = 0.5 * (delta @ delta) - 0.5 * np.sum((delta - move) ** 2)
    assert fall == pytest.approx(c * np.linalg.norm(move) * np.linalg.norm(delta), abs=1e-9)
    longer = 1.1 * move
    assert 0.5 * (delta @ delta) - 0.5 * np.sum((delta - longer) ** 2) < c * np.linalg.norm(longer) * np.linalg.norm(delta) + 1e-12


@pytest.mark.states("prop-armijo")
@given(st.floats(1e-6, 0.1), st.floats(0.0, 0.49))
def test_neither_condition_implies_the_other(alpha, c):
    delta = np.array([1.0, 0.0])
    assert np.sum((delta - 3 * delta) ** 2) > delta @ delta  # cosine one, and the objective rises
    sideways = np.array([alpha, np.sqrt((2 - 2 * c) * alpha - alpha**2)])
    assert np.sum((delta - sideways) ** 2) == pytest.approx(1 - 2 * c * alpha)
    assert sideways[0] / np.linalg.norm(sideways) == pytest.approx(np.sqrt(alpha / (2 - 2 * c)))


@pytest.mark.states("prop-natural-gradient")
@given(generators, st.integers(1, 6), st.integers(1, 6), st.floats(1e-3, 10))
def test_the_damped_gauss_newton_step_is_the_shifted_kernel_step(rng, n, k, s):
    J, delta = rng.standard_normal((n, k)), rng.standard_normal(n)
    by_kernel = J.T @ np.linalg.solve(J @ J.T + s * np.eye(n), delta)
    by_fisher = np.linalg.solve(J.T @ J + s * np.eye(k), J.T @ delta)
    np.testing.assert_allclose(by_kernel, by_fisher, atol=1e-9)
    # With different shifts the two part.
    assert np.abs(by_kernel - np.linalg.solve(J.T @ J + 2 * s * np.eye(k), J.T @ delta)).max() > 1e-6 * np.abs(by_kernel).max()


@pytest.mark.states("prop-natural-gradient")
@given(generators, st.integers(2, 5), st.integers(0, 3), st.floats(1e-3, 1))
def test_refinements_are_iterated_tikhonov_and_no_longer_the_gauss_newton_step(rng, n, refinements, shift):
    J, delta = rng.standard_normal((n, 8)), rng.standard_normal(n)
    s = shift * np.trace(J @ J.T) / n
    found = solve_kernel(jnp.asarray(J @ J.T), jnp.asarray(delta), shift=shift, refinements=refinements).solution
    damped = np.linalg.inv(J.T @ J + s * np.eye(8))
    series = sum(s**i * np.linalg.matrix_power(damped, i + 1) @ J.T @ delta for i in range(refinements + 1))
    np.testing.assert_allclose(J.T @ np.asarray(found), series, atol=1e-6 * (1 + np.abs(series).max()))
    apart = np.abs(series - damped @ J.T @ delta).max() / np.abs(series).max()
    assert (apart > 1e-6) == (refinements > 0)
