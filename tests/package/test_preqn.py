"""`preqn`: the update against a dense Jacobian and least squares, the solver's limits, and a line search that rejects."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.networks import dense, init_mlp, value_network
from deadly_triad.preqn import Settings, alignment, check_settings, line_search, plain_update, preqn_update, solve_kernel
from hypothesis import given, settings
from hypothesis import strategies as st

EXACT = Settings(step_size=0.05, alignment=-1.0, shift=1e-6, refinements=4)
NETWORKS = {name: value_network(name) for name in ("relu", "tanh", "sin")}


def batch(seed, n=8, sizes=(3, 64, 64, 1)):
    keys = jax.random.split(jax.random.key(seed), 3)
    layers = init_mlp(keys[0], list(sizes), "lecun")
    return layers, 2 * jax.random.normal(keys[1], (n, sizes[0])), jax.random.normal(keys[2], (n,))


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def naive_update(network, layers, inputs, targets, step_size):
    """Dense Jacobian by reverse mode, least squares by singular values."""
    values = np.asarray(network(layers, inputs, dense))
    rows = jax.jacrev(lambda p: network(p, inputs, dense))(layers)
    J = np.concatenate([np.asarray(leaf).reshape(len(values), -1) for leaf in jax.tree.leaves(rows)], axis=1)
    zeta = np.linalg.lstsq(J @ J.T, np.asarray(targets) - values, rcond=None)[0]
    return flatten(layers) + step_size * J.T @ zeta


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(4))
def test_one_update_is_that_of_a_dense_jacobian_and_least_squares(name, seed):
    layers, inputs, targets = batch(seed)
    after, report = preqn_update(NETWORKS[name], layers, inputs, targets, EXACT)
    expected = naive_update(NETWORKS[name], layers, inputs, targets, 0.05)
    np.testing.assert_allclose(flatten(after), expected, atol=1e-8)
    assert np.abs(expected - flatten(layers)).max() > 1e-4
    assert bool(report.accepted)
    assert float(report.residual) < 1e-8
    values = np.asarray(NETWORKS[name](layers, inputs, dense))
    assert float(report.td_error) == pytest.approx(np.sqrt(np.mean((np.asarray(targets) - values) ** 2)))
    assert float(report.largest_value) == pytest.approx(np.abs(values).max())
    moved = np.asarray(NETWORKS[name](after, inputs, dense)) - values
    delta = np.asarray(targets) - values
    assert float(report.alignment) == pytest.approx(moved @ delta / np.linalg.norm(moved) / np.linalg.norm(delta))


@pytest.mark.parametrize("seed", range(3))
def test_the_values_of_the_batch_move_as_in_a_table_up_to_second_order(seed):
    layers, inputs, targets = batch(seed)
    network = NETWORKS["tanh"]
    values = network(layers, inputs, dense)

    def excess(step_size):
        after, _ = preqn_update(network, layers, inputs, targets, EXACT._replace(step_size=step_size))
        return float(jnp.abs(network(after, inputs, dense) - values - step_size * (targets - values)).max())

    assert excess(0.02) / excess(0.01) == pytest.approx(4, rel=0.1)
    # Without the preconditioner the first order is another one.
    plain, _ = plain_update(network, layers, inputs, targets, EXACT._replace(step_size=0.001))
    assert float(jnp.abs(network(plain, inputs, dense) - values - 0.001 * (targets - values)).max()) > 100 * excess(0.001)


@pytest.mark.parametrize("seed", range(3))
def test_the_plain_update_is_the_semi_gradient_step(seed):
    layers, inputs, targets = batch(seed)
    network = NETWORKS["relu"]

    def loss(p):
        return -0.5 * jnp.sum((targets - network(p, inputs, dense)) ** 2)

    after, report = plain_update(network, layers, inputs, targets, EXACT)
    np.testing.assert_allclose(flatten(after), flatten(layers) + 0.05 * flatten(jax.grad(loss)(layers)), atol=1e-10)
    assert int(report.backtracks) == 0


# --- The solver ------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.floats(-6, -1), st.integers(0, 4))
def test_the_solver_leaves_in_each_direction_what_its_docstring_says(seed, log_shift, refinements):
    rng = np.random.default_rng(seed)
    eigenvalues, Q = np.exp(rng.uniform(-6, 2, 5)), np.linalg.qr(rng.standard_normal((5, 5)))[0]
    K, delta = Q * eigenvalues @ Q.T, rng.standard_normal(5)
    found = solve_kernel(jnp.asarray((K + K.T) / 2), jnp.asarray(delta), shift=10**log_shift, refinements=refinements)
    s = 10**log_shift * np.trace(K) / 5
    left = (s / (eigenvalues + s)) ** (refinements + 1)
    expected = Q @ ((1 - left) / eigenvalues * (Q.T @ delta))
    np.testing.assert_allclose(found.solution, expected, atol=1e-7 * (1 + np.abs(expected).max()))
    residual = np.linalg.norm(left * (Q.T @ delta)) / np.linalg.norm(delta)
    assert float(found.residual) == pytest.approx(residual, abs=1e-8)
    assert not bool(found.failed)


def test_a_sample_that_occurs_twice_is_solved_as_well_as_it_can_be():
    K, same, torn = jnp.ones((2, 2)), jnp.array([1.0, 1.0]), jnp.array([1.0, -1.0])
    found = solve_kernel(K, same)
    np.testing.assert_allclose(found.solution, [0.5, 0.5], atol=1e-9)
    assert float(found.residual) < 1e-9
    # Two targets for one value: nothing solves it, the residual says so, the solution stays of the order of delta / shift.
    found = solve_kernel(K, torn)
    assert float(found.residual) == pytest.approx(1.0)
    assert np.all(np.isfinite(found.solution))


def test_a_matrix_without_a_factor_fails_and_says_so():
    found = solve_kernel(jnp.array([[1.0, 3.0], [3.0, 1.0]]), jnp.array([1.0, 0.0]))
    assert bool(found.failed)
    np.testing.assert_array_equal(found.solution, 0)
    assert float(found.residual) == 1
    assert float(solve_kernel(jnp.eye(2), jnp.zeros(2)).residual) == 0


def test_float32_batches_of_one_dimensional_inputs_do_not_fail():
    # The hard case: 128 points of an interval, a kernel of numerically low rank.
    inputs = jnp.linspace(-1, 1, 128, dtype=jnp.float32)[:, None]
    for name, network in NETWORKS.items():
        layers = init_mlp(jax.random.key(0), [1, 64, 64, 1], dtype=jnp.float32)
        targets = jnp.sin(3 * inputs[:, 0])
        after, report = preqn_update(network, layers, inputs, targets, Settings(step_size=0.1, alignment=0.9))
        assert np.all(np.isfinite(flatten(after))), name
        assert float(report.residual) < 0.2, name


# --- The line search -------------------------------------------------------------------------------------------------

DELTA = jnp.array([1.0, 2.0])
SEARCH = Settings(step_size=1.0, alignment=0.9, decay=0.5, max_backtracks=6)


def search(values_at, direction, settings=SEARCH):
    start = jnp.zeros(2)
    return line_search(values_at, start, direction, values_at(start), DELTA, settings)


def test_a_good_first_step_is_taken_whole():
    after, cosine, backtracks, accepted, step = search(lambda p: p, DELTA)
    np.testing.assert_array_equal(after, DELTA)
    assert (float(cosine), int(backtracks), bool(accepted), float(step)) == (pytest.approx(1.0), 0, True, 1.0)


def test_a_step_that_overshoots_is_shortened_until_it_is_aligned():
    # Along the path the values bend away: (t, 2t - 8 t^2). The cosine passes 0.9 between t = 1/4 and t = 1/16.
    def bend(p):
        return jnp.array([p[0], p[1] - 2 * p[1] ** 2])

    def cosine(t):
        moved = np.array([t, 2 * t - 8 * t * t])
        return moved @ DELTA / np.linalg.norm(moved) / np.linalg.norm(DELTA)

    expected = next(k for k in range(7) if cosine(0.5**k) >= 0.9)
    assert 0 < expected < 6
    after, found, backtracks, accepted, step = search(bend, DELTA)
    assert (int(backtracks), bool(accepted), float(step)) == (expected, True, 0.5**expected)
    assert float(found) == pytest.approx(cosine(0.5**expected))
    np.testing.assert_allclose(after, 0.5**expected * DELTA)


def test_a_step_in_the_wrong_direction_is_rejected_and_nothing_changes():
    after, cosine, backtracks, accepted, step = search(lambda p: p, -DELTA)
    np.testing.assert_array_equal(after, 0)
    assert (float(cosine), int(backtracks), bool(accepted), float(step)) == (pytest.approx(-1.0), 6, False, 0.0)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_values_that_are_not_finite_count_as_failure(bad):
    # Finite only for short steps; a comparison with NaN would have accepted the long ones.
    after, _, backtracks, accepted, _ = search(lambda p: jnp.where(jnp.abs(p) > 0.3, bad, p), DELTA)
    assert bool(accepted)
    assert int(backtracks) == 3
    assert np.all(np.isfinite(after))
    after, cosine, _, accepted, _ = search(lambda p: jnp.where(jnp.abs(p) > 0, bad, p), DELTA)
    assert not bool(accepted)
    assert float(cosine) == -np.inf
    np.testing.assert_array_equal(after, 0)
    # Not even the loosest threshold lets them pass.
    _, _, _, accepted, _ = search(lambda p: jnp.where(jnp.abs(p) > 0, bad, p), DELTA, SEARCH._replace(alignment=-1.0))
    assert not bool(accepted)


def test_targets_that_are_not_finite_leave_the_parameters_alone():
    layers, inputs, targets = batch(0)
    for update in (preqn_update, plain_update):
        after, report = update(NETWORKS["tanh"], layers, inputs, targets.at[0].set(jnp.nan), EXACT)
        assert not bool(report.accepted)
        np.testing.assert_array_equal(flatten(after), flatten(layers))


def test_the_cosine_survives_numbers_whose_squares_do_not():
    for size in (1e-200, 1.0, 1e200):
        assert float(alignment(size * DELTA, DELTA)) == pytest.approx(1.0)
    assert float(alignment(0 * DELTA, DELTA)) == -np.inf
    assert float(alignment(DELTA, 0 * DELTA)) == -np.inf


# --- In bulk, and settings -------------------------------------------------------------------------------------------


def test_seeds_in_one_go_are_the_seeds_one_by_one():
    problems = [batch(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
    together, reports = jax.vmap(partial(preqn_update, NETWORKS["sin"], settings=EXACT))(*stacked)
    for i, problem in enumerate(problems):
        alone, report = preqn_update(NETWORKS["sin"], *problem, EXACT)
        np.testing.assert_allclose(flatten(jax.tree.map(lambda leaf, i=i: leaf[i], together)), flatten(alone), atol=1e-10)
        assert int(reports.backtracks[i]) == int(report.backtracks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_size": 0.0}, "step_size must be positive and finite, got 0.0"),
        ({"step_size": float("inf")}, "step_size must"),
        ({"alignment": 1.0}, r"alignment must lie in \[-1, 1\), got 1.0"),
        ({"alignment": float("nan")}, "alignment must"),
        ({"decay": 1.0}, r"decay must lie in \(0, 1\), got 1.0"),
        ({"decay": 0.0}, "decay must"),
        ({"max_backtracks": -1}, "max_backtracks and refinements must be at least 0, got -1"),
        ({"refinements": -1}, "max_backtracks and refinements must"),
        ({"shift": -1e-3}, "shift must be at least 0 and finite, got -0.001"),
        ({"shift": float("nan")}, "shift must"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(changes, message):
    check_settings(Settings())
    with pytest.raises(ValueError, match=message):
        check_settings(Settings()._replace(**changes))
