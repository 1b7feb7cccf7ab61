r"""Small networks as pure functions of their parameters, with the dense layers in sight.

A *network* is an ordinary function

    network(parameters, inputs, dense) -> values

of a pytree of parameters and a batch of inputs. Each affine map in it goes through the hook `dense`, which as a rule is the function of
that name here: `dense(layer, a)` is $a W + b$, for the rows of $a$ one by one. Whoever calls the network may pass another hook, and so
learn what entered each layer or disturb what left it. That is all `ntk` needs to form the kernel without a Jacobian. Between the calls
anything goes that treats the samples one by one: residual stacks, gates, normalisation, a head for each action or a dueling head. The
calls themselves stand in plain code, in `jax.jit` or in `jax.lax.scan`; `ntk` refuses them inside other transformations of JAX.

>>> layers = init_mlp(jax.random.key(0), [2, 8, 1], "he")
>>> def residual(layers, x, dense):
...     hidden = dense(layers[0], x)
...     return dense(layers[1], hidden + jnp.tanh(hidden))[:, 0]
>>> residual(layers, jnp.ones((3, 2)), dense).shape
(3,)

**Precision.** JAX computes in float32 unless `jax.config.update("jax_enable_x64", True)` was called, and that switch is one for the whole
process. So nothing in this package touches it. Parameters are made in JAX's default precision or in the `dtype` that is asked for, and
every function follows the precision of the parameters it is given. A chapter, an experiment or a set of tests that wants float64 says
so at its top.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key

Activation = Callable[[Array], Array]

# Coefficients of sin(r) - r in r^3, r^5, … and of cos(r) - 1 in r^2, r^4, … on [-pi/2, pi/2], fitted for the least largest error
# (5e-9 and 3e-10); pi in three parts of few digits each, so that subtracting a multiple of it loses nothing.
_SIN = (-1.6666657061e-01, 8.3330163510e-03, -1.9806546956e-04, 2.5999030468e-06)
_COS = (-4.9999999540e-01, 4.1666640571e-02, -1.3888402086e-03, 2.4761808100e-05, -2.6075661033e-07)
_PI = (3.140625, 9.67502593994140625e-04, 1.509957990978376432e-07)


def _sin_cos(x: Array) -> tuple[Array, Array]:
    k = jnp.round(x / np.pi)
    r = ((x - k * _PI[0]) - k * _PI[1]) - k * _PI[2]
    r = jnp.clip(r, -1.6, 1.6)  # for arguments so large that float32 has no phase any more
    square, sign = r * r, 1 - 2 * jnp.mod(k, 2)
    sine, cosine = jnp.zeros_like(r), jnp.zeros_like(r)
    for c in reversed(_SIN):
        sine = sine * square + c
    for c in reversed(_COS):
        cosine = cosine * square + c
    return sign * (r + r * square * sine), sign * (1 + square * cosine)


@jax.custom_jvp
def fast_sin(x: Array) -> Array:
    """The sine: in float32 by a polynomial, to 1e-6 for arguments up to 100, in float64 the exact one.

    On a CPU the sine and cosine of XLA cost more than the matrix products of a small network, and ten times as much again for large
    arguments.
    """
    return _sin_cos(x)[0] if x.dtype == jnp.float32 else jnp.sin(x)


@fast_sin.defjvp
def _fast_sin_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (t,) = primals, tangents
    sine, cosine = _sin_cos(x) if x.dtype == jnp.float32 else (jnp.sin(x), jnp.cos(x))
    return sine, cosine * t


ACTIVATIONS: Final[dict[str, Activation]] = {
    "relu": jax.nn.relu,  # its derivative at 0 is 0
    "tanh": jnp.tanh,
    "sin": fast_sin,
}
"""The activations of the book, by name."""


class Dense(NamedTuple):
    """The parameters of one affine map: `weight` of shape (d_in, d_out), `bias` of shape (d_out,) or None for a layer without."""

    weight: Float[Array, "d_in d_out"]
    bias: Float[Array, " d_out"] | None


Hook = Callable[[Dense, Array], Array]
"""What a network calls for each affine map: from a layer and a batch, shape (n, d_in), to shape (n, d_out)."""

Network = Callable[[Any, Any, Hook], Array]
"""A function of parameters (a pytree), inputs (an array, or a pytree of arrays, with one row a sample) and a hook; values of shape (n,)."""


def dense(layer: Dense, a: Float[Array, "n d_in"]) -> Float[Array, "n d_out"]:
    """The affine map itself, $a W + b$: the hook of a network that is only to be evaluated."""
    z = a @ layer.weight
    return z if layer.bias is None else z + layer.bias


def _uniform(key: Key[Array, ""], shape: tuple[int, ...], dtype: DTypeLike, bound: float) -> Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def _normal(key: Key[Array, ""], shape: tuple[int, ...], dtype: DTypeLike, deviation: float) -> Array:
    return deviation * jax.random.normal(key, shape, dtype)


# Each: how to draw, and the scale of weights and of biases as functions of fan-in and fan-out.
_INITIALISATIONS: Final[dict[str, tuple[Callable[..., Array], Callable[[int, int], float], Callable[[int, int], float]]]] = {
    # torch.nn.Linear: uniform on ±1/sqrt(fan_in), weights and biases alike.
    "pytorch": (_uniform, lambda i, _: i**-0.5, lambda i, _: i**-0.5),
    # He et al. 2015, for relu; LeCun et al. 1998; Glorot & Bengio 2010. Biases zero. The normal ones are not truncated.
    "he": (_normal, lambda i, _: (2 / i) ** 0.5, lambda _, __: 0.0),
    "lecun": (_normal, lambda i, _: i**-0.5, lambda _, __: 0.0),
    "glorot": (_uniform, lambda i, o: (6 / (i + o)) ** 0.5, lambda _, __: 0.0),
}

INITIALISATIONS: Final = tuple(_INITIALISATIONS)
"""The names of the initialisations."""


def init_dense(
    key: Key[Array, ""], n_inputs: int, n_outputs: int, initialisation: str = "pytorch", *, bias: bool = True, dtype: DTypeLike = float
) -> Dense:
    r"""Draw one layer.

    Args:
        key: source of all randomness, a typed JAX key (`jax.random.key`).
        n_inputs: fan-in.
        n_outputs: fan-out.
        initialisation: "pytorch" (uniform between plus and minus 1 / sqrt(fan-in), weights and biases), "he" (normal of variance
            2 / fan-in), "lecun" (normal of variance 1 / fan-in) or "glorot" (uniform of variance 2 / (fan-in + fan-out)); biases are 0 in
            the last three.
        bias: whether the layer has one.
        dtype: of the parameters; `float` is JAX's default precision.

    Raises:
        ValueError: if a size is not positive, the initialisation is unknown, or float64 is asked for and not switched on.
    """
    if n_inputs < 1 or n_outputs < 1:
        raise ValueError(f"n_inputs and n_outputs must be at least 1, got {n_inputs} and {n_outputs}")
    if initialisation not in INITIALISATIONS:
        raise ValueError(f"initialisation must be one of {', '.join(INITIALISATIONS)}, got {initialisation!r}")
    # `float` is float64 to NumPy and the default precision to JAX: only who says float64 means it.
    if dtype is not float and jnp.dtype(dtype) == jnp.float64 and jnp.result_type(float) != jnp.float64:
        raise ValueError('dtype float64 must be switched on first: jax.config.update("jax_enable_x64", True)')
    draw, weight_scale, bias_scale = _INITIALISATIONS[initialisation]
    weight_key, bias_key = jax.random.split(key)
    weight = draw(weight_key, (n_inputs, n_outputs), dtype, weight_scale(n_inputs, n_outputs))
    return Dense(weight, draw(bias_key, (n_outputs,), dtype, bias_scale(n_inputs, n_outputs)) if bias else None)


def init_mlp(
    key: Key[Array, ""], sizes: Sequence[int], initialisation: str = "pytorch", *, bias: bool = True, dtype: DTypeLike = float
) -> list[Dense]:
    """Draw the layers of a multi-layer perceptron, one key a layer.

    Args:
        key: source of all randomness.
        sizes: of the input, the hidden layers and the output, at least two numbers.
        initialisation: of each layer (see `init_dense`).
        bias: whether the layers have one.
        dtype: of the parameters.

    Raises:
        ValueError: if there are fewer than two sizes, or as `init_dense` says.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes must hold at least an input and an output size, got {list(sizes)}")
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [init_dense(k, i, o, initialisation, bias=bias, dtype=dtype) for k, i, o in pairs]


def activation(name: str) -> Activation:
    """The activation of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def mlp(layers: Sequence[Dense], inputs: Float[Array, "n d_in"], hook: Hook, activate: Activation) -> Float[Array, "n d_out"]:
    """A multi-layer perceptron: `activate` after every layer but the last.

    Raises:
        ValueError: if there is no layer.
    """
    if not layers:
        raise ValueError("layers must hold at least one layer")
    a = inputs
    for layer in layers[:-1]:
        a = activate(hook(layer, a))
    return hook(layers[-1], a)


@cache
def value_network(name: str) -> Network:
    """The network with one output, which is the value of the input row: an MLP with the named activation.

    One name gives one object, so that what is compiled for it is compiled once (and so for `action_value_network`).

    Raises:
        ValueError: if the activation is unknown; and the network, when called, if its last layer has several outputs.
    """
    activate = activation(name)

    def values(layers: Sequence[Dense], inputs: Float[Array, "n d"], hook: Hook) -> Float[Array, " n"]:
        outputs = mlp(layers, inputs, hook, activate)
        if outputs.shape[1] != 1:
            raise ValueError(f"the last layer must have 1 output, got {outputs.shape[1]}")
        return outputs[:, 0]

    return values


@cache
def action_value_network(name: str) -> Network:
    """The network of DQN: one output an action, of which the value is the one that the input's action selects.

    Its inputs are a pair of arrays: states, shape (n, d), and actions, integers of shape (n,).

    Raises:
        ValueError: if the activation is unknown.
    """
    activate = activation(name)

    def values(layers: Sequence[Dense], inputs: tuple[Float[Array, "n d"], Int[Array, " n"]], hook: Hook) -> Float[Array, " n"]:
        states, actions = inputs
        return jnp.take_along_axis(mlp(layers, states, hook, activate), actions[:, None], axis=1)[:, 0]

    return values
