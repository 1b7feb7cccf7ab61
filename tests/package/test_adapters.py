"""`adapters`: kernels of modules of Flax and Equinox against the Jacobian of the module itself, and the way back."""

import sys
import warnings
from functools import partial

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad import ntk
from deadly_triad.adapters import from_equinox, from_function, from_linen, from_nnx
from deadly_triad.adapters.jax import _ROWS, call_module
from deadly_triad.diagnosis import row_sums
from deadly_triad.networks import Dense, dense
from deadly_triad.ntk import kernel_factors, pull_back
from deadly_triad.preqn import Settings, init, step
from flax import nnx

KEY = jax.random.key(0)
N = 6
X = jax.random.normal(KEY, (N, 3))
ACTION = jax.random.normal(jax.random.key(1), (N, 2))
SELECTED = jnp.arange(N) % 4
LONG = jax.random.normal(jax.random.key(2), (N, 5, 3))
TOLERANCE = 1e-10


@pytest.fixture(autouse=True)
def forget():
    """Each test hears all warnings anew."""
    ntk._told.clear()


compiled_quickly = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
traced = []


def counted(x):
    """The activation of some modules here: it counts how often the module is traced."""
    traced.append(x)
    return jnp.tanh(x)


# --- Modules, each as its user would write it ------------------------------------------------------------------------


class LinenPlain(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.LayerNorm()(nn.tanh(nn.Dense(8)(x)))
        return nn.Dense(1)(h + nn.Dense(8, use_bias=False)(h))


class LinenTwice(nn.Module):
    def setup(self):
        self.one, self.same, self.head = nn.Dense(8), nn.Dense(8), nn.Dense(1)

    def __call__(self, x):
        return self.head(self.same(nn.tanh(self.same(nn.tanh(self.one(x))))))[:, 0]


class LinenPast(nn.Module):
    """The kernel of a layer is read past the layer."""

    def setup(self):
        self.layer, self.head = nn.Dense(3), nn.Dense(1)

    def __call__(self, x):
        h = nn.tanh(self.layer(x))
        return self.head(h @ self.layer.variables["params"]["kernel"])


class LinenTime(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(8)(x)).mean(axis=1))


class LinenWithin(nn.Module):
    """A layer within `jax.vmap` and one within `nn.remat`."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(4)
        layer(x[:, 0])
        h = jax.vmap(layer, 1, 1)(x).sum(axis=1)
        return nn.Dense(1)(nn.remat(nn.Dense)(8)(nn.tanh(h)))


class LinenConv(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Conv(4, (3,))(x)).reshape(len(x), -1))


class LinenHalf(nn.Module):
    """A layer that computes in another precision than that of its parameters, and one with a product of its own."""

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(8, dtype=jnp.float32)(x).astype(float)
        h = nn.Dense(8, dot_general=lambda *args, **kwargs: 2 * jax.lax.dot_general(*args, **kwargs))(nn.tanh(h))
        return nn.Dense(1)(nn.tanh(h))


class LinenCritic(nn.Module):
    @nn.compact
    def __call__(self, state, action, *, scale=1.0):
        return nn.Dense(1)(scale * nn.tanh(nn.Dense(8)(jnp.concatenate([state, action], axis=1))))[:, 0]


class LinenAttention(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.MultiHeadDotProductAttention(num_heads=1)(x).mean(axis=1))


class LinenZoo(nn.Module):
    """All of these at once, which compiles once: their kernels add up."""

    @nn.compact
    def __call__(self, x, long, whole, action):
        short = [LinenPlain()(x), LinenTwice()(x), LinenPast()(x), nn.Dense(1)(whole), LinenCritic()(x, action)]
        return sum(z.reshape(-1) for z in [*short, *(kind()(long) for kind in (LinenTime, LinenWithin, LinenConv, LinenAttention))])


def linen(module, inputs, *, action_values=False):
    arguments = inputs[0] if action_values else inputs
    variables = compiled_quickly(lambda: call_module(partial(module.init, KEY), arguments))()
    variables = jax.tree.map(lambda leaf: leaf.astype(float), variables)

    def values(variables):
        return call_module(partial(module.apply, variables), arguments)

    return from_linen(module, variables, inputs, action_values=action_values), variables, values


def function(module, inputs):
    """A module of Linen that is called in a way of its own."""
    variables = jax.tree.map(lambda leaf: leaf.astype(float), module.init(KEY, *inputs))

    def values(variables, inputs=inputs):
        return module.apply(variables, *inputs, scale=0.5)

    return from_function(values, variables, inputs), variables, values


class NNXNet(nnx.Module):
    def __init__(self, rngs, n_outputs=1):
        linear = partial(nnx.Linear, param_dtype=float, rngs=rngs)
        self.first, self.rest = linear(3, 8), nnx.List([linear(8, 8, use_bias=False), linear(8, n_outputs)])
        self.norm, self.drop = nnx.LayerNorm(8, param_dtype=float, rngs=rngs), nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.count = nnx.BatchStat(jnp.full(8, 2.0))

    def __call__(self, x):
        h = self.drop(self.norm(counted(self.first(x))))
        return self.rest[1](h + nnx.tanh(self.rest[0](nnx.tanh(self.rest[0](h)))) / self.count[...])


class NNXPast(nnx.Module):
    def __init__(self, rngs):
        self.layer, self.head = (nnx.Linear(3, n, param_dtype=float, rngs=rngs) for n in (3, 1))

    def __call__(self, x):
        return self.head(nnx.tanh(self.layer(x)) @ self.layer.kernel[...])


class NNXTied(nnx.Module):
    def __init__(self, rngs):
        self.one, self.two, self.head = (nnx.Linear(3, n, param_dtype=float, rngs=rngs) for n in (3, 3, 1))
        self.two.kernel = self.one.kernel

    def __call__(self, x):
        return self.head(nnx.tanh(self.two(nnx.tanh(self.one(x)))))


class NNXTime(nnx.Module):
    def __init__(self, rngs):
        self.layer, self.head = nnx.Linear(3, 4, param_dtype=float, rngs=rngs), nnx.Linear(4, 1, param_dtype=float, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.tanh(self.layer(x)).sum(axis=1))


class NNXZoo(nnx.Module):
    def __init__(self, rngs):
        self.net, self.past, self.tied, self.time = (kind(rngs) for kind in (NNXNet, NNXPast, NNXTied, NNXTime))

    def __call__(self, x, long):
        return self.net(x) + self.past(x) + self.tied(x) + self.time(long)


def of_nnx(module, inputs, *, action_values=False):
    arguments = inputs[0] if action_values else inputs
    graph, parameters, others = nnx.split(module, nnx.Param, ...)

    def values(parameters):
        return call_module(nnx.merge(graph, parameters, others), arguments)

    return from_nnx(module, inputs, action_values=action_values), parameters, values


class EquinoxPlain(eqx.Module):
    first: eqx.nn.Linear
    same: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, key, n_outputs="scalar"):
        keys = jax.random.split(key, 3)
        self.first, self.same = eqx.nn.Linear(3, 8, key=keys[0]), eqx.nn.Linear(8, 8, use_bias=False, key=keys[1])
        self.norm, self.head = eqx.nn.LayerNorm(8), eqx.nn.Linear(8, n_outputs, key=keys[2])

    def __call__(self, x):
        h = self.norm(counted(self.first(x)))
        return self.head(h + jnp.tanh(self.same(jnp.tanh(self.same(h)))))


class EquinoxCritic(eqx.Module):
    net: eqx.nn.MLP

    def __call__(self, state, action):
        return self.net(jnp.concatenate([state, action]))


class EquinoxPast(eqx.Module):
    layer: eqx.nn.Linear
    head: eqx.nn.Linear

    def __call__(self, x):
        return self.head(self.layer.weight @ jnp.tanh(self.layer(x)))


class EquinoxTime(eqx.Module):
    layer: eqx.nn.Linear
    head: eqx.nn.Linear

    def __call__(self, x):
        return self.head(jnp.tanh(jax.vmap(self.layer)(x)).sum(axis=0))


class EquinoxWithin(EquinoxPast):
    def __call__(self, x):
        return self.head(jnp.tanh(eqx.filter_jit(self.layer)(x)))


class EquinoxZoo(eqx.Module):
    plain: eqx.Module
    critic: eqx.Module
    scalar: eqx.Module
    past: eqx.Module
    time: eqx.Module
    within: eqx.Module

    def __init__(self, key):
        self.plain, self.critic = EquinoxPlain(key), EquinoxCritic(eqx.nn.MLP(5, "scalar", 4, 1, key=key))
        self.scalar = eqx.nn.Linear("scalar", "scalar", key=key)
        self.past, self.time, self.within = (pair(kind, "scalar") for kind in (EquinoxPast, EquinoxTime, EquinoxWithin))

    def __call__(self, x, long, action):
        short = self.plain(x) + self.critic(x, action) + self.scalar(x[0])
        return short + self.past(x) + self.time(long) + self.within(x)


def pair(make, n_outputs):
    return make(eqx.nn.Linear(3, 3, key=KEY), eqx.nn.Linear(3, n_outputs, key=jax.random.key(1)))


def equinox(module, inputs, *, action_values=False):
    arguments = inputs[0] if action_values else inputs
    parameters, others = eqx.partition(module, eqx.is_inexact_array)

    def values(parameters):
        return jax.vmap(lambda sample: call_module(eqx.combine(parameters, others), sample))(arguments)

    return from_equinox(module, inputs, action_values=action_values), parameters, values


# Each: how to adapt, the module, its inputs, options, the layers that are taken, and the arrays that a warning names.
WHOLE = jnp.arange(3 * N).reshape(N, 3)
HEADS = {"action_values": True}
CASES = {
    "linen": (
        linen,
        LinenZoo,
        (X, LONG, WHOLE, ACTION),
        {},
        {
            *(f"LinenPlain_0/Dense_{i}" for i in range(3)),
            *(f"LinenTwice_0/{name}" for name in ("one", "same", "head")),
            "LinenPast_0/head",
            "Dense_0",
            *(f"LinenCritic_0/Dense_{i}" for i in range(2)),
            "LinenTime_0/Dense_0",
            "LinenWithin_0/Dense_1",
            "LinenConv_0/Dense_0",
            "LinenAttention_0/Dense_0",
        },
        ("LinenConv_0/Conv_0/kernel", "LinenWithin_0/CheckpointDense_0/kernel", "LinenTime_0/Dense_1/kernel"),
    ),
    "linen, other products": (linen, LinenHalf, X, {}, {"Dense_1", "Dense_2"}, ("Dense_0/kernel",)),
    "linen, heads": (linen, lambda: nn.Sequential([nn.tanh, nn.Dense(4)]), (X, SELECTED), HEADS, {"layers_1"}, ()),
    "function": (function, LinenCritic, (X, ACTION), {}, {"params/Dense_0", "params/Dense_1"}, ()),
    "nnx": (
        of_nnx,
        lambda: NNXZoo(nnx.Rngs(0)),
        (X, LONG),
        {},
        {"net/first", "net/rest/0", "net/rest/1", "past/head", "tied/head", "time/head"},
        ("tied/one/kernel", "past/layer/kernel", "time/layer/kernel"),
    ),
    "nnx, heads": (
        of_nnx,
        lambda: nnx.Linear(3, 4, param_dtype=float, rngs=nnx.Rngs(0)),
        (X, SELECTED[:, None]),
        HEADS,
        {""},
        (),
    ),
    "equinox": (
        equinox,
        lambda: eqx.filter_jit(EquinoxZoo)(KEY),
        (X, LONG, ACTION),
        {},
        {
            *(f"plain/{name}" for name in ("first", "same", "head")),
            *(f"critic/net/layers/{i}" for i in range(2)),
            "scalar",
            "past/head",
            "time/head",
            "within/layer",
            "within/head",
        },
        ("past/layer/weight", "time/layer/weight"),
    ),
    "equinox, heads": (equinox, lambda: eqx.nn.Linear(3, 4, key=KEY), (X, SELECTED), HEADS, {""}, ()),
}


def one_value(outputs, inputs, options):
    if options.get("action_values"):
        return outputs[jnp.arange(N), inputs[1].ravel()]
    return outputs.reshape(N)


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_of_a_module_is_that_of_its_jacobian(case):
    adapt, make, inputs, options, layers, named = CASES[case]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        adapted, parameters, values = adapt(make(), inputs, **options)
    zeta = jnp.linspace(-1, 1, N)

    @compiled_quickly  # as one, which is quicker than piece by piece
    def everything(packed, parameters):
        factors = kernel_factors(adapted.network, packed, inputs)
        columns = jax.jacrev(lambda p: one_value(values(p), inputs, options))(parameters)
        return (
            factors.Q,
            adapted.network(packed, inputs, dense),
            one_value(values(parameters), inputs, options),
            factors.kernel(),
            pull_back(factors, packed, zeta),
            columns,
        )

    Q, values_alone, own_values, K, update, columns = everything(adapted.parameters, parameters)
    tolerance = 1e-5 if case == "linen, other products" else TOLERANCE  # it computes in float32
    for found in (Q, values_alone):
        np.testing.assert_allclose(found, own_values, rtol=tolerance, atol=tolerance)
    columns = [np.asarray(leaf).reshape(N, -1) for leaf in jax.tree.leaves(columns)]
    J = np.concatenate(columns, axis=1)
    np.testing.assert_allclose(K, J @ J.T, rtol=tolerance, atol=tolerance * np.max(J @ J.T))
    # The way back: J^T zeta in the module's own form.
    update = adapted.restore(update)
    if adapt is of_nnx:
        update = nnx.state(update, nnx.Param)
    moved = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(update, eqx.is_inexact_array))])
    np.testing.assert_allclose(moved, zeta @ J, rtol=tolerance, atol=tolerance * np.max(np.abs(zeta @ J)))
    # Which layers are taken, and what is said of the others.
    taken = {name.rpartition("/")[0] for name, node in adapted.parameters.items() if isinstance(node, Dense)}
    assert taken == layers
    assert len(heard) == bool(named)
    for name in named:
        assert name in str(heard[0].message)


ADAPTERS = {
    "linen": (lambda m, x: from_linen(m, m.init(KEY, x), x), lambda: nn.Sequential([counted, nn.Dense(1)])),
    "nnx": (from_nnx, lambda: nnx.Sequential(counted, nnx.Linear(3, 1, rngs=nnx.Rngs(0)), nnx.Dropout(0.0, rngs=nnx.Rngs(0)))),
    "equinox": (from_equinox, lambda: eqx.nn.Sequential([eqx.nn.Lambda(counted), eqx.nn.Linear(3, 1, key=KEY)])),
}


@pytest.mark.parametrize("library", ADAPTERS)
def test_a_module_made_and_adapted_anew_or_under_jit_is_compiled_once(library):
    adapt, make = ADAPTERS[library]
    compiled, traces = jax.jit(lambda network, parameters: kernel_factors(network, parameters, X).kernel(), static_argnums=0), []
    for n in (N, 3):  # another number of samples changes nothing
        adapted = adapt(make(), X[:n])
        traced.clear()
        K = compiled(adapted.network, adapted.parameters)
        traces.append(len(traced))
    assert traces[0] > traces[1] == 0

    @jax.jit
    def kernel(parameters):
        module = adapted.restore(parameters)
        again = from_linen(make(), module, X) if library == "linen" else adapt(module, X)
        assert again.network is adapted.network
        return kernel_factors(again.network, again.parameters, X).kernel()

    if library != "nnx":  # its state besides the parameters would be traced
        np.testing.assert_allclose(kernel(adapted.parameters), K, rtol=1e-5)


def test_what_takes_a_network_takes_an_adapted_one():
    adapted = from_equinox(eqx.nn.Linear(3, 1, key=KEY), X)
    _, report = step(adapted.network, init(adapted.parameters), X, jnp.ones(N), Settings())
    assert report.accepted
    K = kernel_factors(adapted.network, adapted.parameters, X).kernel()
    np.testing.assert_allclose(row_sums(adapted.network, adapted.parameters, X, block_size=4).own, np.diag(K), rtol=1e-5)


def test_state_besides_the_parameters_counts_and_stays():
    """Batch statistics in evaluation mode: constants of the network, and another network when they change."""

    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.BatchNorm(use_running_average=True)(x))

    variables = Normalised().init(KEY, X)
    moved = {**variables, "batch_stats": jax.tree.map(lambda leaf: leaf + 1, variables["batch_stats"])}
    first, second = (from_linen(Normalised(), v, X) for v in (variables, moved))
    assert first.network is not second.network
    for adapted, v in ((first, variables), (second, moved)):
        np.testing.assert_allclose(kernel_factors(adapted.network, adapted.parameters, X).Q, Normalised().apply(v, X)[:, 0], rtol=1e-6)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, adapted.restore(adapted.parameters), v))
    with pytest.raises(ValueError, match=r"outside of jax\.jit"):
        jax.jit(lambda v: from_linen(Normalised(), v, X).parameters)(variables)


def test_a_use_of_a_layer_that_was_not_seen_is_refused():
    """A weight that is used otherwise for some numbers of samples only makes no wrong kernel."""
    theta = {"w": jnp.ones((3, 1)), "b": jnp.ones(1)}

    def sly(other, theta, x):
        z = x @ theta["w"] + theta["b"]
        return z if len(x) == _ROWS else other(z, theta["w"], theta["b"], x)

    for other in (
        lambda z, w, _b, _x: z + w.sum(),
        lambda z, w, _b, x: z + x @ w,
        lambda z, _w, b, _x: z + b,
        lambda _z, w, _b, x: (w.T @ x.T).T,
    ):
        adapted = from_function(partial(sly, other), theta, X)
        with pytest.raises(ValueError, match="alike for any number of samples"):
            adapted.network(adapted.parameters, X, dense)


# Functions of a weight w (3, 3), a bias b (3,) and inputs x (7, 3) that are no layer throughout, and which of w and b takes columns.
SUSPECT = {
    "read past": (lambda w, b, x: jnp.tanh(x @ w + b) @ w, "wb"),
    "transposed": (lambda w, b, x: jnp.tanh(x @ w + b) @ w.T, "wb"),
    "bias twice": (lambda w, b, x: x @ w + 2 * b, "b"),
    "with and without bias": (lambda w, b, x: jnp.tanh(x @ w + b) + x @ w, "wb"),
    "bias read past": (lambda w, b, x: jnp.tanh(x @ w + b) * b, "wb"),
    "two biases": (lambda w, b, x: (x @ w + b) + b, "wb"),
    "output used before the bias": (lambda w, b, x: (z := x @ w) * jnp.tanh(z + b), "wb"),
    "stopped": (lambda w, b, x: x @ jax.lax.stop_gradient(w) + b, "wb"),
    "its square": (lambda w, b, x: x @ (w @ w) + b, "wb"),
    "along samples": (lambda w, b, x: jax.vmap(lambda row: jnp.outer(row, row) @ w @ b)(x) * b, "wb"),
    "another's bias": (lambda w, b, x: (x @ w.sum(0)[:, None]) + b.sum() + x @ w, "wb"),
    "a scalar for all": (lambda w, b, x: x @ w + b[:1], "b"),
    "differentiated": (lambda w, b, x: jax.vmap(jax.grad(lambda row: jnp.tanh(row @ w + b).sum()))(x), "wb"),
    "in a scan": (lambda w, b, x: jax.lax.scan(lambda h, _: (jnp.tanh(h @ w + b), None), x, None, 3)[0], ""),
    "in a checkpoint": (lambda w, b, x: jax.checkpoint(lambda x: jnp.tanh(x @ w + b))(x), "wb"),
    "turned": (lambda w, b, x: (w @ x.T + b[:, None]).T, ""),
    "turned twice": (lambda w, b, x: (x @ w).T.T + b, ""),
    "by columns": (lambda w, b, x: jnp.tanh(x @ w + b[None]) @ jnp.eye(3), ""),
}


def test_a_parameter_that_is_no_layer_throughout_takes_columns():
    keys = jax.random.split(KEY, len(SUSPECT))
    theta = {case: [0.5 * jax.random.normal(key, (3, 3)), jax.random.normal(key, (3,))] for case, key in zip(SUSPECT, keys, strict=True)}

    def values(theta, x):  # all at once, which compiles once: the kernels add up
        outputs = [layer(*theta[case], x) for case, (layer, _) in SUSPECT.items()]
        return sum(z.sum(axis=1) if z.ndim == 2 else z for z in outputs)

    with pytest.warns(UserWarning, match="are in no dense layer"):
        adapted = from_function(values, theta, X)
    free = {name for name, node in adapted.parameters.items() if not isinstance(node, Dense)}
    assert free == {f"{case}/{'wb'.index(letter)}" for case, (_, letters) in SUSPECT.items() for letter in letters}

    @compiled_quickly
    def both(packed, theta):
        return kernel_factors(adapted.network, packed, X).kernel(), jax.jacrev(values)(theta, X)

    K, columns = both(adapted.parameters, theta)
    J = np.concatenate([np.asarray(leaf).reshape(N, -1) for leaf in jax.tree.leaves(columns)], axis=1)
    np.testing.assert_allclose(K, J @ J.T, rtol=TOLERANCE)


def test_what_is_no_layer_takes_its_jacobian_and_says_so_once():
    def values(theta, x):
        return jnp.tanh(x @ (2 * theta["W"])).sum(axis=1)

    theta = {"W": jax.random.normal(KEY, (3, 2)), "unused": jnp.ones(1)}
    with pytest.warns(UserWarning, match=r"7 parameters are in no dense layer \(W\)"):
        adapted = from_function(values, theta, X)
    from_function(values, theta, X)  # a second warning would be an error here
    assert jax.tree.all(jax.tree.map(jnp.array_equal, adapted.restore(adapted.parameters), theta))


def test_a_network_that_is_not_adapted_is_told_the_price_once():
    layer = nn.Dense(400)
    variables = layer.init(KEY, X)

    def network(variables, x, _hook):
        return layer.apply(variables, x).sum(axis=1)

    with pytest.warns(UserWarning, match=r"1,600 parameters .*params/kernel.*n x 1,600 numbers .* about n x 803\."):
        kernel_factors(network, variables, X)
    kernel_factors(network, variables, X)


def test_learned_scales_and_small_networks_are_not_worth_a_word():
    def network(parameters, x, hook):
        return hook(parameters["layer"], x * parameters["scale"])[:, 0]

    parameters = {"layer": Dense(jnp.ones((400, 1)), None), "scale": jnp.ones(400)}
    kernel_factors(network, parameters, jnp.ones((2, 400)))
    kernel_factors(lambda theta, x, _hook: x @ theta, jnp.ones(3), X)


REFUSALS = {
    "no params": (lambda: from_linen(nn.Dense(1), {"kernel": X}, X), "variables must be what module.init returned"),
    "a tuple": (lambda: from_function(lambda theta, x: (x @ theta, x @ theta), jnp.ones(3), X), "one value a sample, .* got tuple"),
    "a shape": (lambda: from_function(lambda _, x: x, jnp.ones(3), X), r"one value a sample, shape \(7,\) or \(7, 1\), got \(7, 3\)"),
    "no heads": (lambda: from_function(lambda t, x: x @ t, jnp.ones(3), (X, SELECTED), action_values=True), "one output an action"),
    "no pair": (lambda: from_function(lambda t, x: x * t, jnp.ones(3), X, action_values=True), "inputs must be a pair"),
    "real actions": (lambda: from_function(lambda t, x: x * t, jnp.ones(3), (X, X[:, 0]), action_values=True), "actions must be integers"),
    "no inputs": (lambda: from_function(lambda t, x: x @ t, jnp.ones(3), ()), "inputs must be arrays with one row a sample"),
    "integers": (lambda: from_function(lambda t, x: x @ t, jnp.ones(3, int), X), "parameters must be real arrays"),
    "complex": (lambda: from_function(lambda t, x: x @ t, jnp.ones(3, complex), X), "parameters must be real arrays"),
    "no parameters": (lambda: from_function(lambda _, x: x[:, 0], {}, X), "at least one"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_modules_are_refused_by_name(case):
    adapt, message = REFUSALS[case]
    with pytest.raises(ValueError, match=message):
        adapt()


def test_a_module_that_mixes_samples_is_refused():
    class Mixing(nnx.Module):
        def __init__(self):
            self.norm, self.head = nnx.BatchNorm(3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.head(self.norm(x))

    adapted = from_nnx(Mixing(), X)
    with pytest.raises(ValueError, match="network must not mix samples"):
        kernel_factors(adapted.network, adapted.parameters, X)


@pytest.mark.parametrize(
    ("adapt", "missing", "extra"),
    [
        (lambda: from_linen(None, {}, X), "flax.linen", "flax"),
        (lambda: from_nnx(None, X), "flax.nnx", "flax"),
        (lambda: from_equinox(None, X), "equinox", "equinox"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, adapt, missing, extra):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf'pip install "deadly-triad\[{extra}\]"'):
        adapt()
