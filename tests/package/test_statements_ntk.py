"""The labelled statements of the chapter on the kernel, one test at least for each, with a hypothesis dropped to see it fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.networks import dense, init_dense, init_mlp, value_network
from deadly_triad.ntk import kernel_factors, pull_back
from deadly_triad.stability import analyse_stability
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from .strategies import generators

KEY = jax.random.key(0)
PLACES = jnp.linspace(-1, 1, 6)[:, None]
RHO = jnp.arange(1.0, 7.0) / 21
CHAIN = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(6), size=6))


def T(Q):
    """A Bellman operator of sorts; no statement needs more of it than that it is a map."""
    return 1 + 0.9 * jnp.maximum(CHAIN @ Q, CHAIN[::-1] @ Q)


def one_update(network, parameters, alpha):
    """Values before, after, as the kernel predicts them, and the length of the step."""
    factors = kernel_factors(network, parameters, PLACES)
    zeta = RHO * (T(factors.Q) - factors.Q)
    u = pull_back(factors, parameters, zeta)
    after = network(jax.tree.map(lambda w, d: w + alpha * d, parameters, u), PLACES, dense)
    return factors.Q, after, factors.Q + alpha * factors.kernel() @ zeta, alpha * jnp.linalg.norm(ravel_pytree(u)[0]), u


# --- One update ------------------------------------------------------------------------------------------------------


@pytest.mark.states("thm-kernel-update")
@pytest.mark.parametrize("name", ["tanh", "sin"])
def test_the_remainder_is_bounded_by_the_hessian_and_tends_to_its_limit(name):
    network, layers = value_network(name), init_mlp(KEY, [1, 5, 5, 1])
    vector, restore = ravel_pytree(layers)
    hessian = jax.jit(jax.hessian(lambda v: network(restore(v), PLACES, dense)))
    alpha = 0.3
    _, after, predicted, length, u = one_update(network, layers, alpha)
    direction = ravel_pytree(u)[0]
    # The largest norm on the way, at the ends of forty pieces; the norm varies by less than 5 per cent within one.
    on_the_way = [np.linalg.norm(hessian(vector + s * alpha * direction), 2, axis=(1, 2)) for s in np.linspace(0, 1, 41)]
    assert np.all(np.abs(after - predicted) <= 0.5 * np.max(on_the_way, axis=0) * length**2 * 1.05)
    assert np.abs(after - predicted).max() > 1e-4
    limit = 0.5 * np.einsum("p,ipq,q->i", direction, hessian(vector), direction)
    for small, tolerance in ((1e-2, 0.1), (1e-3, 0.01)):
        _, after, predicted, _, _ = one_update(network, layers, small)
        np.testing.assert_allclose((after - predicted) / small**2, limit, atol=tolerance * np.abs(limit).max())


@pytest.mark.states("thm-kernel-update")
@settings(max_examples=5)
@given(st.floats(0.1, 100))
def test_there_is_no_remainder_if_the_values_are_linear_in_the_parameters(alpha):
    def cubic(layer, x, hook):
        return hook(layer, jnp.concatenate([x, x**2, x**3], axis=1))[:, 0]

    before, after, predicted, _, _ = one_update(cubic, init_dense(KEY, 3, 1), alpha)
    np.testing.assert_allclose(after, predicted, rtol=1e-11, atol=1e-11 * float(jnp.abs(after - before).max()))


@pytest.mark.states("thm-kernel-update")
def test_at_a_kink_the_remainder_is_of_first_order():
    """A relu that is just off and switches on: the kernel sees nothing of it, at any step size."""

    def kink(theta, x, _hook):
        return jax.nn.relu(theta[0]) * x[:, 0] + theta[0] ** 3 + theta[1] * x[:, 0]

    def ratio(theta, alpha):
        _, after, predicted, length, _ = one_update(kink, theta, alpha)
        return float(jnp.abs(after - predicted).max() / length)

    below, away = jnp.array([-1e-9, 0.3]), jnp.array([-1.0, 0.3])
    # Away from the kink the remainder over the step falls with the step; at the kink it does not, as soon as the kink is crossed.
    assert ratio(away, 1e-4) < 0.2 * ratio(away, 1e-3)

    def crossing(alpha):
        u = jnp.array([1.0, 0.0])
        values = kink(below + alpha * u, PLACES, dense) - kink(below, PLACES, dense)
        return float(jnp.abs(values - alpha * kernel_factors(kink, below, PLACES).others[0] @ u).max() / alpha)

    assert crossing(1e-6) == pytest.approx(1, rel=0.01)
    assert crossing(1e-3) == pytest.approx(1, rel=0.01)


# --- U3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.states("lem-u3")
def test_the_update_is_u3_up_to_second_order_and_not_to_third():
    network, layers = value_network("tanh"), init_mlp(KEY, [1, 5, 1])

    def gap(alpha):
        _, after, predicted, _, _ = one_update(network, layers, alpha)
        return float(jnp.linalg.norm(after - predicted))

    assert np.log2(gap(2e-3) / gap(1e-3)) == pytest.approx(2, abs=0.01)
    # Taken literally, "Q = U3 Q" of the slides would make the update no update.
    before, _, predicted, _, _ = one_update(network, layers, 1e-3)
    assert np.linalg.norm(predicted - before) > 100 * gap(1e-3)


@pytest.mark.states("lem-u3")
@given(generators, st.integers(1, 6), st.integers(1, 6))
def test_nothing_moves_in_parameters_if_and_only_if_nothing_moves_in_values(rng, n, p):
    J = rng.standard_normal((n, p))
    zeta = rng.standard_normal(n)
    # The part of zeta in the null space of J^T moves nothing, the rest moves both.
    blind = zeta - J @ np.linalg.lstsq(J, zeta, rcond=None)[0]
    assert np.linalg.norm(J @ J.T @ blind) < 1e-10
    assert np.linalg.norm(J.T @ blind) < 1e-10
    seen = zeta - blind
    if np.linalg.norm(seen) > 1e-3:
        assert np.linalg.norm(J @ (J.T @ seen)) > 1e-12


@pytest.mark.states("lem-u3")
def test_with_a_singular_kernel_the_update_may_stop_where_the_operator_does_not():
    """One parameter for two pairs: the errors 1 and -1 cancel."""

    def both(theta, x, _hook):
        return theta * jnp.ones_like(x[:, 0])

    factors = kernel_factors(both, jnp.asarray(2.0), jnp.zeros((2, 1)))
    errors = jnp.array([1.0, -1.0])
    assert float(pull_back(factors, jnp.asarray(2.0), 0.5 * errors)) == 0
    assert np.linalg.matrix_rank(factors.kernel()) == 1
    # With a parameter for each pair it does not stop there.
    table = kernel_factors(lambda p, x, hook: hook(p, x)[:, 0], init_dense(KEY, 2, 1, bias=False), jnp.eye(2))
    np.testing.assert_allclose(table.kernel(), np.eye(2), atol=1e-15)


# --- Layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.states("prop-layers")
def test_the_sum_over_layers_is_the_kernel_with_and_without_biases():
    """By hand, for two layers: A is what enters, G what the value's gradient is there. `test_ntk` has stacks of every other kind."""
    for bias in (True, False):
        layers = init_mlp(KEY, [1, 7, 1], bias=bias)
        x, (first, last) = np.asarray(PLACES), layers
        h = np.tanh(x @ first.weight + (first.bias if bias else 0))
        g = (1 - h**2) * np.asarray(last.weight)[:, 0]
        expected = (x @ x.T + bias) * (g @ g.T) + (h @ h.T + bias)
        np.testing.assert_allclose(kernel_factors(value_network("tanh"), layers, PLACES).kernel(), expected, rtol=1e-13)


@pytest.mark.states("prop-layers")
def test_a_layer_that_is_used_twice_has_cross_terms_that_the_sum_over_uses_lacks():
    layer = init_dense(KEY, 1, 1)

    def twice(p, x, hook):
        return hook(p, jnp.tanh(hook(p, x)))[:, 0]

    J = jax.jacrev(lambda p: twice(p, PLACES, dense))(layer)
    J = np.concatenate([np.reshape(J.weight, (6, 1)), np.reshape(J.bias, (6, 1))], axis=1)
    (found,) = kernel_factors(twice, layer, PLACES).layers
    uses = sum((A @ A.T + 1) * (G @ G.T) for A, G in zip(found.inputs, found.gradients, strict=True))
    assert np.abs(uses - J @ J.T).max() > 0.1


# --- The spiral ------------------------------------------------------------------------------------------------------

ANGLES = 2 * np.pi * np.arange(3) / 3
AHEAD = (np.eye(3) + np.roll(np.eye(3), -1, axis=1)) / 2


def on_spiral(theta, spin):
    """The values and their derivative."""
    return np.exp(spin * theta) * np.cos(theta - ANGLES), np.exp(spin * theta) * (spin * np.cos(theta - ANGLES) - np.sin(theta - ANGLES))


def rate(spin, gamma, direction=1):
    return (direction * np.sqrt(3) * gamma - (4 - gamma) * spin) / 8


def td(theta, spin, gamma, P, D=None):
    V, tangent = on_spiral(theta, spin)
    return tangent @ (np.eye(3) / 3 if D is None else D) @ (gamma * P @ V - V)


discounts = st.floats(0.05, 0.99)


@pytest.mark.states("prop-spiral")
@given(st.floats(-3, 3), st.floats(0, 1), discounts)
def test_the_parameter_moves_as_the_closed_form_says(theta, spin, gamma):
    for P, direction in ((AHEAD, 1), (AHEAD.T, -1)):
        expected = rate(spin, gamma, direction) * np.exp(2 * spin * theta)
        assert td(theta, spin, gamma, P) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(np.full(3, 1 / 3) @ AHEAD, 1 / 3)  # on policy: the weighting is stationary


@pytest.mark.states("prop-spiral")
@settings(max_examples=20)
@given(st.floats(-1, 1), discounts, st.floats(0.1, 0.9), st.sampled_from([0.01, 0.1, 1.0, 10.0]))
def test_below_the_threshold_values_grow_at_every_step_size_and_above_it_or_backwards_they_shrink(theta, gamma, share, alpha):
    threshold = np.sqrt(3) * gamma / (4 - gamma)

    def length_after(spin, P):
        at = theta
        for _ in range(4000):
            at += alpha * td(at, spin, gamma, P)
            if spin * at > 30:
                break
        return spin * (at - theta)  # logarithm of the growth

    first = alpha * td(theta, share * threshold, gamma, AHEAD)
    assert length_after(share * threshold, AHEAD) >= min(30 - share * threshold * theta, 3999 * share * threshold * first)
    assert first > 0
    assert length_after(threshold / share, AHEAD) < 0
    assert length_after(share * threshold, AHEAD.T) < 0


@pytest.mark.states("prop-spiral")
def test_the_fall_goes_all_the_way_and_without_bootstrapping_there_is_only_the_fall():
    theta, sizes = 0.0, []
    for _ in range(20_000):
        theta += td(theta, 0.8, 0.9, AHEAD)
        sizes.append(np.exp(0.8 * theta))
    # In continuous time the size falls like the inverse root of time: ten times longer, a root of ten smaller.
    assert sizes[-1] < 0.02
    assert sizes[1999] / sizes[-1] == pytest.approx(np.sqrt(10), rel=0.01)
    assert rate(0.1, 0.9) > 0 > rate(0.1, 0.0)


@pytest.mark.states("prop-spiral")
@given(st.floats(-2, 2), st.floats(0, 1), discounts, generators)
def test_each_kernel_held_fixed_converges_below_its_step_and_not_above(theta, spin, gamma, rng):
    K = np.outer(*[on_spiral(theta, spin)[1]] * 2)
    M = K @ (np.eye(3) - gamma * AHEAD) / 3
    bound = 16 / ((1 + spin**2) * (4 - gamma) * np.exp(2 * spin * theta))
    verdict = analyse_stability(M)
    assert verdict.verdict == "semistable"
    assert verdict.largest_stable_step == pytest.approx(bound, rel=1e-9)
    V = rng.standard_normal(3)
    for _ in range(200):
        V = V - 0.5 * bound * M @ V
    np.testing.assert_allclose(M @ V, 0, atol=1e-9)


@pytest.mark.states("prop-spiral")
def test_the_values_stand_at_right_angles_to_the_kernel_where_linear_values_lie_in_its_range():
    V, tangent = on_spiral(0.7, 0.0)
    assert abs(V @ tangent) < 1e-15
    Phi = np.random.default_rng(0).standard_normal((3, 2))
    K, values = Phi @ Phi.T, Phi @ np.array([1.0, -2.0])
    np.testing.assert_allclose(K @ np.linalg.pinv(K) @ values, values, atol=1e-12)
