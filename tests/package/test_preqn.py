"""`preqn`: the update against a dense Jacobian and least squares, the solver's limits, and a line search that rejects."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.networks import dense, init_mlp, value_network
from deadly_triad.preqn import (
    Settings,
    alignment,
    check_settings,
    init,
    line_search,
    semi_gradient_step,
    solve_kernel,
    step,
)
from hypothesis import given, settings
from hypothesis import strategies as st

EXACT = Settings(step_size=0.05, alignment=-1.0, shift=1e-6, refinements=4)
NETWORKS = {name: value_network(name) for name in ("relu", "tanh", "sin")}
compiled, compiled_plain = (jax.jit(update, static_argnames="network") for update in (step, semi_gradient_step))


def batch(seed, n=8, sizes=(3, 64, 64, 1)):
    keys = jax.random.split(jax.random.key(seed), 3)
    layers = init_mlp(keys[0], list(sizes), "lecun")
    return layers, 2 * jax.random.normal(keys[1], (n, sizes[0])), jax.random.normal(keys[2], (n,))


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@partial(jax.jit, static_argnums=0)
def jacobian(network, layers, inputs):
    return jax.jacrev(lambda p: network(p, inputs, dense))(layers)


def naive_update(network, layers, inputs, targets, step_size):
    """Dense Jacobian by reverse mode, least squares by singular values."""
    values = np.asarray(network(layers, inputs, dense))
    rows = jacobian(network, layers, inputs)
    J = np.concatenate([np.asarray(leaf).reshape(len(values), -1) for leaf in jax.tree.leaves(rows)], axis=1)
    zeta = np.linalg.lstsq(J @ J.T, np.asarray(targets) - values, rcond=None)[0]
    return flatten(layers) + step_size * J.T @ zeta


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(4))
def test_one_update_is_that_of_a_dense_jacobian_and_least_squares(name, seed):
    layers, inputs, targets = batch(seed)
    state, report = compiled(NETWORKS[name], init(layers), inputs, targets, EXACT)
    after = state.parameters
    assert (int(state.n_updates), int(state.n_accepted)) == (1, 1)
    expected = naive_update(NETWORKS[name], layers, inputs, targets, 0.05)
    np.testing.assert_allclose(flatten(after), expected, atol=1e-8)
    assert np.abs(expected - flatten(layers)).max() > 1e-4
    assert bool(report.accepted)
    assert not bool(report.failed)
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
        after, _ = compiled(network, init(layers), inputs, targets, EXACT._replace(step_size=step_size))
        return float(jnp.abs(network(after.parameters, inputs, dense) - values - step_size * (targets - values)).max())

    assert excess(0.02) / excess(0.01) == pytest.approx(4, rel=0.1)
    # Without the preconditioner the first order is another one.
    plain, _ = compiled_plain(network, init(layers), inputs, targets, EXACT._replace(step_size=0.001))
    assert float(jnp.abs(network(plain.parameters, inputs, dense) - values - 0.001 * (targets - values)).max()) > 100 * excess(0.001)


@pytest.mark.parametrize("seed", range(3))
def test_the_plain_update_is_the_semi_gradient_step(seed):
    layers, inputs, targets = batch(seed)
    network = NETWORKS["relu"]

    def loss(p):
        return -0.5 * jnp.sum((targets - network(p, inputs, dense)) ** 2)

    after, report = compiled_plain(network, init(layers), inputs, targets, EXACT)
    np.testing.assert_allclose(flatten(after.parameters), flatten(layers) + 0.05 * flatten(jax.grad(loss)(layers)), atol=1e-10)
    assert (int(report.backtracks), float(report.residual), bool(report.failed)) == (0, 0, False)


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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_right_side_that_is_not_finite_fails_and_says_so(bad):
    found = solve_kernel(jnp.eye(2), jnp.array([1.0, bad]))
    assert (bool(found.failed), float(found.residual)) == (True, 1.0)
    np.testing.assert_array_equal(found.solution, 0)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_the_residual_survives_numbers_whose_squares_do_not(size):
    found = solve_kernel(jnp.ones((2, 2), jnp.float32), jnp.array([size, -size], jnp.float32))
    assert (bool(found.failed), float(found.residual)) == (False, pytest.approx(1.0, rel=1e-4))
    found = solve_kernel(jnp.eye(2, dtype=jnp.float32), jnp.array([size, -size], jnp.float32))
    assert (bool(found.failed), float(found.residual)) == (False, pytest.approx(0.0, abs=1e-6))


def test_float32_batches_of_one_dimensional_inputs_do_not_fail():
    # The hard case: 128 points of an interval, a kernel of numerically low rank.
    inputs = jnp.linspace(-1, 1, 128, dtype=jnp.float32)[:, None]
    for name, network in list(NETWORKS.items())[::2]:
        layers = init_mlp(jax.random.key(0), [1, 64, 64, 1], dtype=jnp.float32)
        targets = jnp.sin(3 * inputs[:, 0])
        after, report = compiled(network, init(layers), inputs, targets, Settings(step_size=0.1, alignment=0.9))
        assert np.all(np.isfinite(flatten(after.parameters))), name
        assert {leaf.dtype for leaf in jax.tree.leaves(after.parameters)} == {jnp.dtype(jnp.float32)}, name
        assert float(report.residual) < 0.2, name


# --- The line search -------------------------------------------------------------------------------------------------

DELTA = jnp.array([1.0, 2.0])
SEARCH = Settings(step_size=1.0, alignment=0.9, decay=0.5, max_backtracks=6)


def search(values_at, direction, settings=SEARCH):
    start = jnp.zeros(2)
    return line_search(values_at, start, direction, values_at(start), DELTA, settings)


def test_the_solver_alone_has_the_defaults_of_the_settings_and_these_are_the_books():
    assert Settings() == (0.1, 0.97, 0.5, 10, 1e-4, 2)
    parameters = inspect.signature(solve_kernel).parameters
    assert all(parameters[name].default == getattr(Settings(), name) for name in ("shift", "refinements"))


def test_a_good_first_step_is_taken_whole():
    after, cosine, backtracks, accepted, size = search(lambda p: p, DELTA)
    np.testing.assert_array_equal(after, DELTA)
    assert (float(cosine), int(backtracks), bool(accepted), float(size)) == (pytest.approx(1.0), 0, True, 1.0)


def test_a_step_that_overshoots_is_shortened_until_it_is_aligned():
    # Along the path the values bend away: (t, 2t - 8 t^2). The cosine passes 0.9 between t = 1/4 and t = 1/16.
    def bend(p):
        return jnp.array([p[0], p[1] - 2 * p[1] ** 2])

    def cosine(t):
        moved = np.array([t, 2 * t - 8 * t * t])
        return moved @ DELTA / np.linalg.norm(moved) / np.linalg.norm(DELTA)

    expected = next(k for k in range(7) if cosine(0.5**k) >= 0.9)
    assert 0 < expected < 6
    after, found, backtracks, accepted, size = search(bend, DELTA)
    assert (int(backtracks), bool(accepted), float(size)) == (expected, True, 0.5**expected)
    assert float(found) == pytest.approx(cosine(0.5**expected))
    np.testing.assert_allclose(after, 0.5**expected * DELTA)


def test_a_step_in_the_wrong_direction_is_rejected_and_nothing_changes():
    after, cosine, backtracks, accepted, size = search(lambda p: p, -DELTA)
    np.testing.assert_array_equal(after, 0)
    assert (float(cosine), int(backtracks), bool(accepted), float(size)) == (pytest.approx(-1.0), 6, False, 0.0)


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


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_targets_that_are_not_finite_leave_the_parameters_alone(bad):
    layers, inputs, targets = batch(0)
    for update in (compiled, compiled_plain):
        after, report = update(NETWORKS["tanh"], init(layers), inputs, targets.at[0].set(bad), EXACT)
        assert not bool(report.accepted)
        assert (int(after.n_updates), int(after.n_accepted), float(report.step_size)) == (1, 0, 0)
        np.testing.assert_array_equal(flatten(after.parameters), flatten(layers))
        if update is compiled:
            assert (bool(report.failed), float(report.residual)) == (True, 1.0)


def test_the_last_step_that_is_allowed_may_be_taken_however_far_it_is():
    """Values move aright only below 2^-7; ten halvings are more than enough, seven exactly, six too few."""
    for allowed, expected in ((10, 7), (7, 7), (6, None)):
        found = search(lambda p: jnp.where(jnp.abs(p).max() > 2**-6, -p, p), DELTA, SEARCH._replace(max_backtracks=allowed))
        if expected is None:
            assert (bool(found.accepted), int(found.backtracks), float(found.step_size)) == (False, 6, 0.0)
            np.testing.assert_array_equal(found.parameters, 0)
        else:
            assert (bool(found.accepted), int(found.backtracks), float(found.step_size)) == (True, expected, 2.0**-expected)
            np.testing.assert_array_equal(found.parameters, 2.0**-expected * DELTA)


def test_without_backtracks_the_first_step_decides():
    alone = SEARCH._replace(max_backtracks=0)
    for direction, accepted in ((DELTA, True), (-DELTA, False)):
        found = search(lambda p: p, direction, alone)
        assert (bool(found.accepted), int(found.backtracks), float(found.step_size)) == (accepted, 0, float(accepted))
        np.testing.assert_array_equal(found.parameters, accepted * DELTA)


def test_the_loosest_threshold_lets_every_finite_step_pass():
    """Straight against delta the cosine is -1, and in float32 its rounding would carry it below, in one draw out of four or so."""
    deltas, start = jax.random.normal(jax.random.key(0), (100, 16), jnp.float32), jnp.zeros(16, jnp.float32)

    @jax.jit
    @jax.vmap
    def against(delta):
        moved = -delta / jnp.max(jnp.abs(delta))
        rounded = moved @ -moved / (jnp.linalg.norm(moved) * jnp.linalg.norm(moved))
        return rounded, line_search(lambda p: p, start, -delta, start, delta, SEARCH._replace(alignment=-1.0))

    rounded, found = against(deltas)
    assert np.any(rounded < -1)
    assert np.all(found.accepted)
    assert np.all((found.alignment >= -1) & (found.alignment < -0.999999))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(8, 1), (1,), (), (7,)])
def test_targets_of_another_shape_are_refused_by_name(shape):
    layers, inputs, _ = batch(0)
    for update in (compiled, compiled_plain):
        with pytest.raises(ValueError, match=r"targets must have shape \(8,\), one number a sample, got \("):
            update(NETWORKS["tanh"], init(layers), inputs, jnp.ones(shape), EXACT)


def test_the_cosine_survives_numbers_whose_squares_do_not():
    for size in (1e-200, 1.0, 1e200):
        assert float(alignment(size * DELTA, DELTA)) == pytest.approx(1.0)
    assert float(alignment(0 * DELTA, DELTA)) == -np.inf
    assert float(alignment(DELTA, 0 * DELTA)) == -np.inf


# --- In bulk, and settings -------------------------------------------------------------------------------------------


def test_seeds_in_one_go_are_the_seeds_one_by_one():
    problems = [batch(seed) for seed in range(3)]
    layers, inputs, targets = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
    update = jax.jit(jax.vmap(partial(step, NETWORKS["sin"]), in_axes=(0, 0, 0, None)))
    together, reports = update(jax.vmap(init)(layers), inputs, targets, EXACT)
    for i, (layers, inputs, targets) in enumerate(problems):
        alone, report = compiled(NETWORKS["sin"], init(layers), inputs, targets, EXACT)
        here = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        np.testing.assert_allclose(flatten(here.parameters), flatten(alone.parameters), atol=1e-10)
        assert int(reports.backtracks[i]) == int(report.backtracks)
        assert int(here.n_accepted) == int(alone.n_accepted)


def test_settings_in_one_go_are_the_settings_one_by_one_and_compile_nothing_new():
    layers, inputs, targets = batch(1)
    several = [
        Settings(),
        Settings(step_size=2.0, alignment=0.9, decay=0.25, max_backtracks=3),
        Settings(step_size=4.0, alignment=0.999, shift=1e-2, max_backtracks=1, refinements=0),
        Settings(shift=1e-1, refinements=5),
    ]
    stacked = Settings(*(jnp.array(column) for column in zip(*several, strict=True)))
    check_settings(stacked)
    network, count = NETWORKS["sin"], compiled._cache_size()
    together, reports = jax.jit(jax.vmap(partial(step, network), in_axes=(None, None, None, 0)))(init(layers), inputs, targets, stacked)
    sizes = set()
    for i, one in enumerate(several):
        alone, report = compiled(network, init(layers), inputs, targets, one)
        for here, there in zip(jax.tree.leaves((together, reports)), jax.tree.leaves((alone, report)), strict=True):
            np.testing.assert_allclose(here[i], there, atol=1e-9)
        sizes.add(float(report.step_size))
    assert len(sizes) >= 3
    assert compiled._cache_size() <= count + 1


def test_a_stall_shows_in_the_state():
    layers, inputs, targets = batch(0)
    state = init(layers)
    for _ in range(3):
        state, _ = compiled(NETWORKS["relu"], state, inputs, targets, EXACT)
    for _ in range(2):  # nothing that is finite aligns so well
        state, _ = compiled(NETWORKS["relu"], state, inputs, targets, EXACT._replace(step_size=3.0, alignment=0.9999999, max_backtracks=0))
    assert (int(state.n_updates), int(state.n_accepted)) == (5, 3)


def test_uncompiled_it_is_the_same_and_looks_at_numbers():
    layers, inputs, targets = batch(2)
    state, report = step(NETWORKS["tanh"], init(layers), inputs, targets, EXACT)
    again, compiled_report = compiled(NETWORKS["tanh"], init(layers), inputs, targets, EXACT)
    np.testing.assert_allclose(flatten((state, report)), flatten((again, compiled_report)), atol=1e-10)
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, layers)
    with pytest.raises(ValueError, match="parameters must be finite"):
        step(NETWORKS["tanh"], init(broken), inputs, targets, EXACT)
    state, report = compiled(NETWORKS["tanh"], init(broken), inputs, targets, EXACT)
    assert not bool(report.accepted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_size": 0.0}, "step_size must be positive and finite, got 0.0"),
        ({"step_size": float("inf")}, "step_size must"),
        ({"alignment": 1.0}, r"alignment must lie in \[-1, 1\), got 1.0"),
        ({"alignment": float("nan")}, "alignment must"),
        ({"decay": 1.0}, r"decay must lie in \(0, 1\), got 1.0"),
        ({"decay": 0.0}, "decay must"),
        ({"step_size": float("nan")}, "step_size must"),
        ({"step_size": np.array([0.1, -0.1])}, r"step_size must be positive and finite, got \[ 0.1 -0.1\]"),
        ({"step_size": "large"}, "step_size must be a number, got large"),
        ({"decay": float("nan")}, "decay must"),
        ({"max_backtracks": -1}, "max_backtracks must be a whole number of at least 0, got -1"),
        ({"max_backtracks": float("nan")}, "max_backtracks must be a whole number of at least 0, got nan"),
        ({"max_backtracks": 2.0}, "max_backtracks must be a whole number"),
        ({"max_backtracks": True}, "max_backtracks must be a number, got True"),
        ({"refinements": -1}, "refinements must be a whole number of at least 0, got -1"),
        ({"refinements": 1.5}, "refinements must be a whole number of at least 0, got 1.5"),
        ({"shift": float("inf")}, "shift must"),
        ({"shift": -1e-3}, "shift must be at least 0 and finite, got -0.001"),
        ({"shift": float("nan")}, "shift must"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(changes, message):
    check_settings(Settings())
    check_settings(Settings(alignment=-1, max_backtracks=0, refinements=0, shift=0))
    with pytest.raises(ValueError, match=message):
        check_settings(Settings()._replace(**changes))
