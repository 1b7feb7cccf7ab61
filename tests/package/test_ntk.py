"""`ntk`: the kernel against the naive Jacobian for random stacks of layers, what may stand around the hook, and every refusal."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.networks import (
    ACTIVATIONS,
    INITIALISATIONS,
    Dense,
    action_value_network,
    dense,
    init_dense,
    init_mlp,
    value_network,
)
from deadly_triad.ntk import check_network, condition_number, count_samples, gram, kernel_factors, pull_back
from hypothesis import given, settings
from hypothesis import strategies as st

KEY = jax.random.key(0)


def jacobian(network, parameters, inputs):
    """The gradients of every value in every parameter, by reverse mode through the whole network, once for each value."""
    return jax.jacrev(lambda p: network(p, inputs, dense))(parameters)


def as_matrix(columns):
    """One row a sample, one column a parameter."""
    n = len(jax.tree.leaves(columns)[0])
    return np.concatenate([np.asarray(leaf).reshape(n, -1) for leaf in jax.tree.leaves(columns)], axis=1)


def naive_jacobian(network, parameters, inputs):
    return as_matrix(jax.jit(partial(jacobian, network))(parameters, jax.tree.map(jnp.asarray, inputs)))


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


# --- Random stacks ---------------------------------------------------------------------------------------------------


def normalised(h):
    return (h - h.mean(axis=1, keepdims=True)) / jnp.sqrt(h.var(axis=1, keepdims=True) + 0.1)


def make_dense(key, width, init):
    return init_dense(key, width, 5, init), 5


def make_square(key, width, init, bias=True):
    return init_dense(key, width, width, init, bias=bias), width


def make_gate(key, width, init):
    one, two = jax.random.split(key)
    return {"value": init_dense(one, width, 4, init), "gate": init_dense(two, width, 4, init)}, 4


def make_scale(_key, width, _init):
    return {"scale": jnp.linspace(0.5, 1.5, width), "shift": jnp.linspace(-0.2, 0.3, width)}, width


def make_nothing(_key, width, _init):
    return (), width


# Each kind of piece: how to make its parameters, and what it computes from them, the hidden units and an activation.
PIECES = {
    "dense": (make_dense, lambda p, h, act, hook: act(hook(p, h))),
    "without bias": (partial(make_square, bias=False), lambda p, h, act, hook: act(hook(p, h))),
    "residual": (make_square, lambda p, h, act, hook: h + act(hook(p, h))),
    "gate": (make_gate, lambda p, h, act, hook: act(hook(p["value"], h)) * jax.nn.sigmoid(hook(p["gate"], h))),
    "normalised": (make_nothing, lambda _p, h, _act, _hook: normalised(h)),
    "learned scale": (make_scale, lambda p, h, _act, _hook: normalised(h) * p["scale"] + p["shift"]),
    "called three times": (make_square, lambda p, h, act, hook: hook(p, act(hook(p, act(hook(p, h)))))),
    "never called": (make_square, lambda _p, h, _act, _hook: h),
}
HEADS = ("one output", "one output an action", "dueling")


def build(names, activate, initialisation, head, n, seed):
    """A network of random pieces under a head, its parameters, and a batch of states and actions."""
    keys = jax.random.split(jax.random.key(seed), len(names) + 4)
    width, pieces = 3, []
    for name, key in zip(names, keys, strict=False):
        piece, width = PIECES[name][0](key, width, initialisation)
        pieces.append(piece)
    n_outputs = 1 if head == "one output" else 3
    heads = {"advantage": init_dense(keys[-4], width, n_outputs, initialisation), "value": init_dense(keys[-3], width, 1, initialisation)}
    batch = (jax.random.normal(keys[-2], (n, 3)), jax.random.randint(keys[-1], (n,), 0, 3))

    def network(parameters, inputs, hook):
        h, actions = inputs
        for name, piece in zip(names, parameters["pieces"], strict=True):
            h = PIECES[name][1](piece, h, activate, hook)
        outputs = hook(parameters["heads"]["advantage"], h)
        if head == "one output":
            return outputs[:, 0]
        if head == "dueling":
            outputs = hook(parameters["heads"]["value"], h) + outputs - outputs.mean(axis=1, keepdims=True)
        return jnp.take_along_axis(outputs, actions[:, None], axis=1)[:, 0]

    return network, {"pieces": pieces, "heads": heads}, batch


# Descriptions only: JAX draws and compiles in the test itself, because hypothesis wants all chance in a strategy for itself.
stacks = st.tuples(
    st.lists(st.sampled_from(sorted(PIECES)), min_size=1, max_size=4),
    st.sampled_from([ACTIVATIONS[name] for name in sorted(ACTIVATIONS)]),
    st.sampled_from(INITIALISATIONS),
    st.sampled_from(HEADS),
    st.sampled_from([1, 2, 5]),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=12)  # each is a network to compile
@given(stacks)
def test_kernel_update_and_diagonal_are_those_of_the_jacobian_for_every_stack(stack):
    network, parameters, inputs = build(*stack)

    # Compiled as one, which is quicker than piece by piece, and not optimised, which is quicker still.
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def everything(parameters, inputs, zeta):
        factors = kernel_factors(network, parameters, inputs)
        first = jax.tree.map(lambda leaf: leaf[:1] if leaf.ndim else leaf, factors)
        outcome = factors.Q, factors.kernel(), factors.diagonal(), first.cross_kernel(factors), pull_back(factors, parameters, zeta)
        return outcome, network(parameters, inputs, dense), jacobian(network, parameters, inputs)

    zeta = jnp.linspace(-1, 2, len(inputs[0]))
    (values, K, diagonal, first_row, update), expected_values, columns = everything(parameters, inputs, zeta)
    J = as_matrix(columns)
    size = np.abs(J @ J.T).max()
    np.testing.assert_allclose(values, expected_values, rtol=1e-12)
    np.testing.assert_allclose(K, J @ J.T, rtol=1e-12, atol=1e-12 * size)
    np.testing.assert_allclose(first_row, J[:1] @ J.T, rtol=1e-12, atol=1e-12 * size)
    np.testing.assert_allclose(diagonal, np.sum(J * J, axis=1), rtol=1e-12)
    assert jax.tree.structure(update) == jax.tree.structure(parameters)
    np.testing.assert_allclose(flatten(update), zeta @ J, rtol=1e-12, atol=1e-12 * np.abs(J).max())


@pytest.mark.parametrize("name", sorted(PIECES))
def test_no_piece_is_taken_for_one_that_mixes_samples(name):
    network, parameters, inputs = build(["dense", name], jnp.tanh, "he", "dueling", 5, 0)
    check_network(network, parameters, inputs)


def test_each_rule_is_needed():
    """Leave the pairs of calls, the missing bias or the free parameters out of account, and the kernel is another."""
    x = jax.random.normal(KEY, (4, 3))
    layer = init_dense(KEY, 3, 3)

    def twice(p, x, hook):
        return hook(p, jnp.tanh(hook(p, x))).sum(axis=1)

    factors = kernel_factors(twice, layer, x)
    (found,) = factors.layers
    assert len(found.inputs) == 2
    split = [found._replace(inputs=(A,), gradients=(G,)) for A, G in zip(found.inputs, found.gradients, strict=True)]
    assert np.abs(factors._replace(layers=tuple(split)).kernel() - factors.kernel()).max() > 0.1

    bare = init_mlp(KEY, [3, 4, 1], bias=False)
    factors = kernel_factors(value_network("tanh"), bare, x)
    biased = factors._replace(layers=tuple(found._replace(bias=jnp.ones(())) for found in factors.layers))
    assert np.abs(biased.kernel() - factors.kernel()).max() > 0.1

    scaled = {"layer": layer, "scale": jnp.ones(3)}
    factors = kernel_factors(lambda p, x, hook: (hook(p["layer"], x) * p["scale"]).sum(axis=1), scaled, x)
    assert np.abs(factors._replace(others=()).kernel() - factors.kernel()).max() > 0.1


def test_a_network_without_dense_layers_has_a_kernel_too():
    curve = {"theta": jnp.asarray(0.7), "phi": jnp.asarray([0.1, 0.2])}

    def network(p, x, _hook):
        return jnp.sin(p["theta"] * x[:, 0]) + x @ p["phi"]

    x = jax.random.normal(KEY, (4, 2))
    J = naive_jacobian(network, curve, x)
    factors = kernel_factors(network, curve, x)
    np.testing.assert_allclose(factors.kernel(), J @ J.T, atol=1e-13)
    update = pull_back(factors, curve, jnp.arange(4.0))
    assert update["theta"].shape == ()
    np.testing.assert_allclose(flatten(update), np.arange(4.0) @ J, atol=1e-13)


def test_a_linear_network_has_the_kernel_of_its_features():
    features = np.random.default_rng(0).standard_normal((5, 3))
    layer = init_dense(KEY, 3, 1, bias=False)
    K = kernel_factors(lambda p, x, hook: hook(p, x)[:, 0], layer, jnp.asarray(features)).kernel()
    np.testing.assert_allclose(K, features @ features.T, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_float32_is_kept_and_right_to_its_precision(name):
    states = np.random.default_rng(0).standard_normal((32, 3))
    actions = jnp.arange(32) % 2
    single = init_mlp(KEY, [3, 16, 16, 2], dtype=jnp.float32)
    double = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), single)
    network = action_value_network(name)
    # The float64 states are brought to float32, the integer actions are left alone.
    K = kernel_factors(network, single, (states, actions)).kernel()
    exact = kernel_factors(network, double, (states, actions)).kernel()
    assert K.dtype == jnp.float32
    assert 1e-9 < np.abs(K - exact).max() / np.abs(exact).max() < 1e-5


def test_it_compiles_and_agrees_with_itself():
    layers, x = init_mlp(KEY, [2, 8, 1]), jax.random.normal(KEY, (6, 2))
    network = value_network("tanh")

    @jax.jit
    def compiled(layers, x):
        factors = kernel_factors(network, layers, x)
        return factors.kernel(), pull_back(factors, layers, factors.Q), factors

    K, update, factors = compiled(layers, x)
    expected = kernel_factors(network, layers, x)
    np.testing.assert_allclose(K, expected.kernel(), rtol=1e-13)
    np.testing.assert_allclose(factors.kernel(), K, rtol=1e-13)
    np.testing.assert_allclose(flatten(update), flatten(pull_back(expected, layers, expected.Q)), rtol=1e-12, atol=1e-14)


def test_forming_the_kernel_never_holds_a_jacobian():
    """By XLA's own account of memory: the Jacobian of this batch takes 17 MB in float32, the kernel's temporaries a fraction."""
    layers, x = init_mlp(KEY, [4, 256, 256, 1], dtype=jnp.float32), jnp.ones((64, 4), jnp.float32)
    network = value_network("relu")

    def naive(layers, x):
        per_sample = jax.vmap(jax.grad(lambda p, row: network(p, row[None], dense)[0]), (None, 0))(layers, x)
        J = jnp.concatenate([leaf.reshape(64, -1) for leaf in jax.tree.leaves(per_sample)], axis=1)
        return J @ J.T

    def temporaries(f):
        return jax.jit(f).lower(layers, x).compile().memory_analysis().temp_size_in_bytes

    jacobian = 64 * sum(leaf.size for leaf in jax.tree.leaves(layers)) * 4
    assert temporaries(naive) >= jacobian
    assert temporaries(lambda layers, x: kernel_factors(network, layers, x).kernel()) < jacobian / 20


# --- Conditioning ----------------------------------------------------------------------------------------------------


def test_the_condition_number_is_the_ratio_of_eigenvalues_and_infinite_for_a_repeated_sample():
    assert condition_number(np.diag([2.0, 8.0])) == pytest.approx(4, rel=1e-14)
    assert condition_number(np.array([[2.0, 1.0], [1.0, 2.0]])) == pytest.approx(3, rel=1e-14)
    layers, x = init_mlp(KEY, [2, 8, 1]), jnp.asarray([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    factors = kernel_factors(value_network("tanh"), layers, x)
    assert condition_number(factors.kernel()) == np.inf
    assert condition_number(kernel_factors(value_network("tanh"), layers, x[:2]).kernel()) < 1e3
    assert condition_number(np.diag([2, 8])) == 4  # of integers too
    # Indefinite: not a kernel of anything, and not invertible for a reader who trusts the sign.
    assert condition_number(np.diag([1.0, -1.0])) == np.inf


# --- Refusals --------------------------------------------------------------------------------------------------------

LAYERS = init_mlp(KEY, [2, 4, 1])
X = jax.random.normal(KEY, (8, 2))
TANH = value_network("tanh")


def on_batch(mix, p=LAYERS, x=X):
    """A tanh network whose hidden units, or values, go through `mix`, a function of the whole batch."""
    return kernel_factors(lambda p, x, hook: mix(hook(p[1], mix(jnp.tanh(hook(p[0], x)))))[:, 0], p, x)


def batch_normalised(h):
    return (h - h.mean(axis=0)) / jnp.sqrt(h.var(axis=0) + 1e-5)


def in_pairs(h):
    return h + h.reshape(4, 2, -1)[:, ::-1].reshape(h.shape)


def in_the_backward_pass_only(h):
    return h + (h[0] - jax.lax.stop_gradient(h[0]))


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (batch_normalised, "network must not mix samples, but the value"),
        (lambda h: h + jnp.roll(h, 1, axis=0), "network must not mix samples, but the value"),
        (in_pairs, "network must not mix samples, but a sample alone cannot be evaluated"),
        (lambda h: jnp.cumsum(h, axis=0), "network must not mix samples, but the value"),
        (in_the_backward_pass_only, "network must not mix samples, but the gradient"),
    ],
)
def test_a_network_that_mixes_samples_is_refused(mix, message):
    with pytest.raises(ValueError, match=message):
        on_batch(mix)
    assert on_batch(lambda h: h).Q.shape == (8,)


def test_batch_normalisation_would_be_silently_wrong():
    """What the refusal is for: compiled, where numbers cannot be looked at, the kernel is another than the Jacobian's."""

    def network(p, x, hook):
        return hook(p[1], batch_normalised(jnp.tanh(hook(p[0], x))))[:, 0]

    K = jax.jit(lambda p: kernel_factors(network, p, X).kernel())(LAYERS)
    J = naive_jacobian(network, LAYERS, X)
    assert np.abs(K - J @ J.T).max() > 1e-2 * np.abs(J @ J.T).max()
    with pytest.raises(ValueError, match="network must not mix samples"):
        check_network(network, LAYERS, X)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_rounding_in_float32_is_not_taken_for_mixing(seed, name):
    layers = init_mlp(jax.random.key(seed), [17, 64, 64, 64, 1], "he", dtype=jnp.float32)
    check_network(value_network(name), layers, jax.random.normal(KEY, (64, 17), jnp.float32) * 10)


# --- Around the hook -------------------------------------------------------------------------------------------------

DEEP = init_mlp(KEY, [2, 4, 4, 1])


def with_first(first):
    """A network whose first layer is called by `first`, a function of that layer, the inputs and the hook."""
    return lambda p, x, hook: hook(p[2], jnp.tanh(hook(p[1], first(p[0], x, hook))))[:, 0]


def matched(layer, x, hook):
    match layer:
        case (_, _):
            return hook(layer, x)
        case _:
            return hook(layer, x) + 1


# Each is a network of its own right; its kernel is to be that of its Jacobian.
TRANSPARENT = {
    "jit, closing over the layer": with_first(lambda layer, x, hook: jax.jit(lambda h: jnp.tanh(hook(layer, h)))(x)),
    "jit, of the layer": with_first(lambda layer, x, hook: jax.jit(lambda q, h: jnp.tanh(hook(q, h)))(layer, x)),
    "jit, of the whole network": jax.jit(with_first(lambda layer, x, hook: hook(layer, x)), static_argnums=2),
    "scan": lambda p, x, hook: hook(p[2], jax.lax.scan(lambda h, _: (jnp.tanh(hook(p[1], h)), None), hook(p[0], x), None, length=3)[0])[
        :, 0
    ],
    "a condition that is known": with_first(
        lambda layer, x, hook: jax.lax.cond(True, lambda h: hook(layer, h), lambda h: jnp.zeros((len(h), 4)), x)
    ),
    "a tree of layers mapped to itself": with_first(lambda layer, x, hook: hook(jax.tree.map(lambda leaf: leaf, layer), x)),
    "is it a layer?": with_first(lambda layer, x, hook: hook(layer, x) if isinstance(layer, Dense) else x),
    "is it a tuple?": with_first(lambda layer, x, hook: hook(layer, x) if isinstance(layer, tuple) else x),
    "the number of leaves": lambda p, x, hook: len(jax.tree.leaves(p)) * hook(p[2], hook(p[1], hook(p[0], x)))[:, 0],
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_what_may_stand_around_the_hook_leaves_the_kernel_right(name):
    J = naive_jacobian(TRANSPARENT[name], DEEP, X)
    compiled = jax.jit(lambda p: kernel_factors(TRANSPARENT[name], p, X).kernel())(DEEP)
    np.testing.assert_allclose(compiled, J @ J.T, rtol=1e-12, atol=1e-12)
    check_network(TRANSPARENT[name], DEEP, X)


NESTED = {
    "checkpoint": lambda layer, x, hook: jax.checkpoint(lambda h: hook(layer, h))(x),
    "vmap over samples": lambda layer, x, hook: jax.vmap(lambda row: hook(layer, row[None])[0])(x),
    "vmap over copies of the batch": lambda layer, x, hook: jax.vmap(lambda h: hook(layer, h))(x[None])[0],
    "grad": lambda layer, x, hook: hook(layer, x) + jax.grad(lambda h: hook(layer, h).sum())(x)[:, :1],
    "cond": lambda layer, x, hook: jax.lax.cond(x[0, 0] > 0, lambda h: hook(layer, h), lambda h: jnp.zeros((len(h), 4)), x),
    "while_loop": lambda layer, x, hook: hook(layer, jax.lax.while_loop(lambda h: h[0, 0] > 1e9, lambda h: hook(layer, h)[:, :2], x)),
}


@pytest.mark.parametrize("name", NESTED)
def test_the_hook_inside_another_transformation_is_refused_in_one_sentence(name):
    network = with_first(NESTED[name])
    for call in (kernel_factors, jax.jit(kernel_factors, static_argnums=0)):
        with pytest.raises(ValueError, match=r"dense must be called in plain code, jax.jit or jax.lax.scan: in jax.checkpoint"):
            call(network, DEEP, X)


PAST_THE_HOOK = {
    "unpacking": lambda layer, x, hook: hook(layer, x) + (list(layer)[1] is None),
    "a name": lambda layer, x, hook: hook(layer, x) + (layer.bias is None),
    "a place": lambda layer, x, hook: hook(layer, x) + (layer[1] is None),
    "its length": lambda layer, x, hook: hook(layer, x) * len(layer),
    "its parts in turn": lambda layer, x, hook: hook(layer, x) * sum(1 for _ in layer),
    "its truth": lambda layer, x, hook: hook(layer, x) if layer else x,
    "a pattern": matched,
    "another bias": lambda layer, x, hook: hook(layer._replace(bias=None), x),
    "a function of JAX": lambda layer, x, hook: hook(layer, x) + jnp.sum(layer),
    "a function of NumPy": lambda layer, x, hook: hook(layer, x) + np.asarray(layer),
    "a product": lambda layer, x, _: x @ layer,
    "the product of a weight": lambda layer, x, _: x @ layer.weight,
    "arithmetic": lambda layer, x, hook: hook(layer, x) + 0 * layer,
    "gradients stopped": lambda layer, x, hook: hook(jax.lax.stop_gradient(layer), x),
    "leaves changed": lambda layer, x, hook: hook(jax.tree.map(jnp.abs, layer), x),
    "leaves exchanged": lambda layer, x, hook: hook(jax.tree.map(lambda _: jnp.ones(()), layer), x),
    "a sum of squares": lambda layer, x, hook: hook(layer, x) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(layer)),
}


@pytest.mark.parametrize("way", PAST_THE_HOOK)
def test_a_layer_that_is_read_past_the_hook_is_refused_in_one_sentence(way):
    for call in (kernel_factors, jax.jit(kernel_factors, static_argnums=0)):
        with pytest.raises(ValueError, match="a dense layer must be used through the hook only"):
            call(with_first(PAST_THE_HOOK[way]), DEEP, X)


def test_a_network_with_other_values_when_its_layers_are_hidden_is_refused_where_numbers_are_seen():
    network = with_first(lambda layer, x, hook: hook(layer, x) * (2 if type(layer) is Dense else 1))
    for call in (kernel_factors, check_network):
        for batch in (X, X[:1]):
            with pytest.raises(ValueError, match="but its values are others when the layers are hidden"):
                call(network, DEEP, batch)
    # Compiled, the two cannot be told apart, as the module says; so there is something to check.
    assert float(jnp.abs(jax.jit(lambda p: kernel_factors(network, p, X).Q)(DEEP) - network(DEEP, X, dense)).max()) > 1e-3


def test_batch_normalisation_under_a_last_layer_of_zeros_is_refused():
    """All values are 0 alone and together, and this one kernel is the Jacobian's; after one update neither would hold."""
    zeros = [*LAYERS[:-1], jax.tree.map(jnp.zeros_like, LAYERS[-1])]
    with pytest.raises(ValueError, match="network must not mix samples, but the input of a layer of a sample alone"):
        on_batch(batch_normalised, zeros)
    assert on_batch(lambda h: h, zeros).Q.shape == (8,)


def test_a_few_samples_stand_for_the_batch_and_all_of_them_are_asked_by_the_check():
    """One sample out of 100 takes its value from its neighbour."""
    many = jnp.linspace(-1, 1, 200).reshape(100, 2)

    def network(p, x, hook):
        values = TANH(p, x, hook)
        return values.at[1].set(values[0]) if len(x) > 1 else values

    kernel_factors(network, LAYERS, many)
    with pytest.raises(ValueError, match="network must not mix samples, but the value"):
        check_network(network, LAYERS, many)


def test_the_gram_matrix_of_single_precision_has_no_negative_eigenvalue():
    layers, x = init_mlp(KEY, [1, 16, 16, 1], dtype=jnp.float32), jnp.linspace(-1, 1, 64, dtype=jnp.float32)[:, None]
    factors = kernel_factors(TANH, layers, x)
    some = jax.tree.map(lambda leaf: leaf[:5] if leaf.ndim else leaf, factors)
    K = gram(factors)
    assert K.dtype == np.float64
    eigenvalues, rounded = np.linalg.eigvalsh(K), np.linalg.eigvalsh(np.asarray(factors.kernel(), float))
    assert eigenvalues[0] > -1e-14 * eigenvalues[-1]
    assert rounded[0] < -1e-9 * rounded[-1]
    np.testing.assert_allclose(K, factors.kernel(), rtol=1e-5)
    np.testing.assert_allclose(gram(some, factors), K[:5], rtol=1e-5)
    double = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), layers)
    J = naive_jacobian(TANH, double, x.astype(jnp.float64))
    np.testing.assert_allclose(gram(kernel_factors(TANH, double, x)), J @ J.T, rtol=1e-13)
    with pytest.raises(ValueError, match="other must come from the same network"):
        gram(factors, factors._replace(others=(jnp.ones((64, 3)),)))


# --- What does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: kernel_factors(lambda _, x, hook: hook(Dense(jnp.ones((2, 1)), None), x)[:, 0], LAYERS, X),
            "dense must be called with a layer of the parameters",
        ),
        (lambda: kernel_factors(lambda p, x, hook: hook(p[0], x[0])[:, 0], LAYERS, X), r"here of shape \(8, 2\), got \(2,\)"),
        (lambda: kernel_factors(lambda p, x, hook: hook(p[0], x[:3])[:, 0], LAYERS, X), r"here of shape \(8, 2\), got \(3, 2\)"),
        (lambda: kernel_factors(lambda p, x, hook: hook(p[1], x)[:, 0], LAYERS, X), r"here of shape \(8, 4\), got \(8, 2\)"),
        (lambda: kernel_factors(lambda p, x, hook: hook(p[0], x), LAYERS, X), r"one value a sample, shape \(8,\), got \(8, 4\)"),
        (lambda: kernel_factors(lambda p, x, hook: hook(p[0], x).sum(), LAYERS, X), r"one value a sample, shape \(8,\), got \(\)"),
        (lambda: kernel_factors(TANH, LAYERS, X.at[3, 1].set(jnp.nan)), "inputs must be finite"),
        (lambda: kernel_factors(TANH, jax.tree.map(lambda w: w / 0, LAYERS), X), "parameters must be finite"),
        (lambda: kernel_factors(lambda p, x, hook: 1e308 * TANH(p, x, hook) * 1e308, LAYERS, X), "values and gradients of the network"),
        (lambda: kernel_factors(TANH, [], X), "parameters must hold at least one array"),
        (lambda: kernel_factors(TANH, (LAYERS, jnp.arange(3)), X), "parameters must hold real numbers only"),
        (lambda: kernel_factors(TANH, jax.tree.map(jnp.bfloat16, LAYERS), X), "parameters must be float32 or float64, got bfloat16"),
        (lambda: kernel_factors(TANH, jax.tree.map(jnp.float16, LAYERS), X), "parameters must be float32 or float64, got float16"),
        (lambda: count_samples(jnp.ones(())), r"one row a sample, at least one, got shapes \[\(\)\]"),
        (lambda: kernel_factors(TANH, LAYERS, ()), "inputs must be arrays with one row a sample"),
        (lambda: kernel_factors(TANH, LAYERS, (X, X[:3])), r"inputs must be arrays .* got shapes \[\(8, 2\), \(3, 2\)\]"),
        (lambda: kernel_factors(TANH, LAYERS, X[:0]), "at least one"),
        (lambda: kernel_factors(TANH, LAYERS, jnp.float64(1)), "one row a sample"),
        (
            lambda: kernel_factors(TANH, LAYERS, X).cross_kernel(kernel_factors(TANH, init_mlp(KEY, [2, 5, 1]), X)),
            "other must come from the same network",
        ),
        (lambda: pull_back(kernel_factors(TANH, LAYERS, X), LAYERS, jnp.ones(3)), r"zeta must have shape \(8,\), got \(3,\)"),
        (lambda: pull_back(kernel_factors(TANH, LAYERS, X), LAYERS[:1], jnp.ones(8)), "have another number of layers"),
        (
            lambda: pull_back(kernel_factors(TANH, LAYERS, X), init_mlp(KEY, [2, 5, 1]), jnp.ones(8)),
            r"a layer has shape \(2, 5\), not \(2, 4\)",
        ),
        (lambda: condition_number(np.ones((2, 3))), "kernel must be a square matrix"),
        (lambda: condition_number(np.array([[1.0, 2.0], [3.0, 4.0]])), "kernel must be symmetric"),
        (lambda: condition_number(np.full((2, 2), np.nan)), "kernel must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("n", [256, 257])
def test_a_kernel_formed_by_halves_is_the_whole_one(n):
    layers = init_mlp(jax.random.key(0), [3, 8, 8, 1])
    factors = kernel_factors(value_network("tanh"), layers, jax.random.normal(jax.random.key(1), (n, 3)))
    np.testing.assert_allclose(factors.kernel(), factors.cross_kernel(factors), atol=1e-12)
