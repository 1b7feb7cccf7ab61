"""`networks`: initialisations by their moments, networks against loops written out, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.networks import (
    INITIALISATIONS,
    Dense,
    action_value_network,
    activation,
    dense,
    fast_sin,
    init_dense,
    init_mlp,
    mlp,
    value_network,
)

KEY = jax.random.key(0)
FAN_IN, FAN_OUT = 300, 500


def uniform_moments(bound):
    return bound**2 / 3, bound


# Variance and, for the bounded ones, largest size of a weight; then whether biases are drawn as weights are.
EXPECTED = {
    "pytorch": (*uniform_moments(FAN_IN**-0.5), True),
    "he": (2 / FAN_IN, np.inf, False),
    "lecun": (1 / FAN_IN, np.inf, False),
    "glorot": (*uniform_moments((6 / (FAN_IN + FAN_OUT)) ** 0.5), False),
}


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_weights_and_biases_have_the_moments_of_their_initialisation(name):
    layer = init_dense(KEY, FAN_IN, FAN_OUT, name)
    variance, bound, random_bias = EXPECTED[name]
    weights, biases = np.asarray(layer.weight), np.asarray(layer.bias)
    assert weights.shape == (FAN_IN, FAN_OUT)
    assert biases.shape == (FAN_OUT,)
    # Five standard errors. A uniform variable has a kurtosis of 1.8, a normal one of 3.
    error = 5 * np.sqrt((1.8 if np.isfinite(bound) else 3) - 1) / np.sqrt(weights.size)
    assert weights.var() == pytest.approx(variance, rel=error)
    assert abs(weights.mean()) < 5 * np.sqrt(variance / weights.size)
    kurtosis = np.mean(weights**4) / np.mean(weights**2) ** 2
    assert kurtosis == pytest.approx(1.8 if np.isfinite(bound) else 3, abs=0.1)
    assert np.abs(weights).max() <= bound
    assert biases.any() == random_bias
    if random_bias:
        assert biases.var() == pytest.approx(variance, rel=5 * np.sqrt(0.8 / FAN_OUT))


def test_layers_and_parts_of_a_layer_are_drawn_from_keys_of_their_own():
    first, second = init_mlp(KEY, [3, 3, 3])
    assert not np.any(np.isin(first.weight, second.weight))
    assert not np.any(np.isin(first.bias, first.weight))
    np.testing.assert_array_equal(init_mlp(KEY, [3, 3, 3])[1].weight, second.weight)
    assert not np.any(np.isin(init_mlp(jax.random.key(1), [3, 3, 3])[1].weight, second.weight))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_values_follow_the_precision_of_the_parameters(dtype):
    layers = init_mlp(KEY, [2, 4, 1], dtype=dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(layers)} == {jnp.dtype(dtype)}
    assert value_network("sin")(layers, jnp.ones((3, 2), dtype), dense).dtype == dtype
    assert init_dense(KEY, 1, 1).weight.dtype == jnp.float64  # JAX's default while these tests run


def test_networks_are_what_a_loop_over_samples_and_layers_computes():
    functions = {"relu": lambda z: max(z, 0.0), "tanh": np.tanh, "sin": np.sin}
    rng = np.random.default_rng(0)
    inputs, actions = rng.standard_normal((5, 2)), np.array([0, 2, 1, 2, 0])
    for name, f in functions.items():
        layers = init_mlp(KEY, [2, 4, 4, 3], "pytorch")
        expected = []
        for row in inputs:
            a = list(row)
            for depth, (W, b) in enumerate(layers):
                z = [sum(a[i] * float(W[i, j]) for i in range(len(a))) + float(b[j]) for j in range(W.shape[1])]
                a = z if depth == 2 else [f(x) for x in z]
            expected.append(a)
        batch = jnp.asarray(inputs)
        np.testing.assert_allclose(mlp(layers, batch, dense, activation(name)), expected, rtol=1e-13)
        chosen = action_value_network(name)(layers, (batch, jnp.asarray(actions)), dense)
        np.testing.assert_allclose(chosen, [expected[i][a] for i, a in enumerate(actions)], rtol=1e-13)
        one = [*layers[:-1], Dense(layers[-1].weight[:, :1], layers[-1].bias[:1])]
        np.testing.assert_allclose(value_network(name)(one, batch, dense), [row[0] for row in expected], rtol=1e-13)


@pytest.mark.parametrize("make", [value_network, action_value_network])
def test_a_network_that_is_made_twice_is_compiled_once(make):
    traced = []

    @partial(jax.jit, static_argnums=0)
    def values(network, layers, inputs):
        traced.append(network)
        return network(layers, inputs, dense)

    layers, states = init_mlp(KEY, [2, 4, 1]), jnp.ones((3, 2))
    inputs = states if make is value_network else (states, jnp.zeros(3, int))
    for name in ("tanh", "tanh", "relu", "tanh"):
        values(make(name), layers, inputs)
    assert len(traced) == 2
    assert values._cache_size() == 2


def test_a_layer_without_bias_is_linear():
    layer = init_dense(KEY, 3, 2, bias=False)
    assert layer.bias is None
    assert len(jax.tree.leaves(layer)) == 1
    assert not np.any(dense(layer, jnp.zeros((1, 3))))
    assert np.any(dense(init_dense(KEY, 3, 2), jnp.zeros((1, 3))))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init_dense(KEY, 0, 1), "n_inputs and n_outputs must be at least 1, got 0 and 1"),
        (lambda: init_dense(KEY, 1, 1, "xavier"), "initialisation must be one of pytorch, he, lecun, glorot, got 'xavier'"),
        (lambda: init_mlp(KEY, [3]), r"sizes must hold at least an input and an output size, got \[3\]"),
        (lambda: init_mlp(KEY, [3, 0, 1]), "n_inputs and n_outputs must be at least 1, got 3 and 0"),
        (lambda: activation("swish"), "activation must be one of relu, tanh, sin, got 'swish'"),
        (lambda: value_network("gelu"), "activation must be one of"),
        (lambda: action_value_network("gelu"), "activation must be one of"),
        (lambda: mlp([], jnp.ones((1, 1)), dense, jnp.tanh), "layers must hold at least one layer"),
        (lambda: value_network("relu")(init_mlp(KEY, [1, 2]), jnp.ones((1, 1)), dense), "the last layer must have 1 output, got 2"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_float64_is_refused_while_it_is_switched_off():
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match="dtype float64 must be switched on first"):
            init_dense(KEY, 1, 1, dtype=jnp.float64)
        assert init_dense(KEY, 1, 1).weight.dtype == jnp.float32


@pytest.mark.parametrize("largest", [1.0, 10.0, 100.0])
def test_the_fast_sine_and_its_derivative_are_those_of_numpy_to_float32(largest):
    x = np.random.default_rng(0).uniform(-largest, largest, 20_000).astype(np.float32)
    exact = x.astype(float)
    sine, cosine = fast_sin(jnp.asarray(x)), jax.vmap(jax.grad(fast_sin))(jnp.asarray(x))
    assert sine.dtype == cosine.dtype == jnp.float32
    np.testing.assert_allclose(sine, np.sin(exact), atol=3e-7)
    np.testing.assert_allclose(cosine, np.cos(exact), atol=3e-7)


def test_the_fast_sine_is_exact_in_float64_bounded_everywhere_and_passes_nan_on():
    x = jnp.linspace(-50, 50, 1001)
    assert x.dtype == jnp.float64
    np.testing.assert_allclose(fast_sin(x), np.sin(x), atol=1e-15)
    np.testing.assert_allclose(jax.vmap(jax.grad(fast_sin))(x), np.cos(x), atol=1e-15)
    huge = jnp.asarray([1e8, -1e30, 3e38], dtype=jnp.float32)
    assert np.all(np.abs(fast_sin(huge)) <= 1.001)
    assert np.isnan(fast_sin(jnp.asarray([np.nan], dtype=jnp.float32)))[0]
