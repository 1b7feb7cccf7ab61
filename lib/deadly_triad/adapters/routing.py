"""Which parameters of somebody else's network are dense layers, and how its calls of them go through the hook.

A library has an *evaluation*: it computes the outputs from a flat list of parameters and, before it calls a dense layer, offers the
call to a *route*, which takes it or declines. The network is traced once to see which layers can be taken: those whose weight and bias
come from nowhere but the parameters, are read nowhere else, and are called with one row a sample, outside of any transformation within the
network. Every other parameter is left to the columns of the Jacobian, which is always right and never cheap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from math import prod
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from deadly_triad.networks import Dense, Hook, Network, dense
from deadly_triad.ntk import tell_columns

Route = Callable[..., Array | None]
"""From a weight, a bias or None and a batch to what the layer makes of it, or None: compute it yourself. `transposed`: `a @ weight.T`."""

Evaluation = Callable[[list[Array], Any, Route], Any]
"""A hashable function of parameters, arguments and a route to outputs; those for equal modules are equal."""

Call = Callable[[Any, Any], Any]
"""How to call a module: from the module and the arguments to its outputs."""

_trace_level = getattr(jax.extend.core, "get_opaque_trace_state", None) or jax.core.get_opaque_trace_state  # it moved after jax 0.7
_ROWS = 7  # of the batch the network is traced with; no common width, so that a layer along another axis is seen


class Adapted(NamedTuple):
    """Somebody else's network in this package's form.

    Attributes:
        network: what `kernel_factors`, `row_sums` and `preqn_update` take; the same one for equal modules, so it is compiled once.
        parameters: a dictionary by the names of the module, of `Dense` layers and, for what is none, arrays.
        restore: from such parameters to the module's own form.
    """

    network: Network
    parameters: dict[str, Any]
    restore: Callable[[PyTree], Any]


class _Layer(NamedTuple):
    """A layer that is taken: where its arrays stand among the parameters."""

    weight: int
    bias: int | None
    transposed: bool


@dataclass(frozen=True)
class Constant:
    """An array that a compiled network may hold, since it is hashed by its content."""

    shape: tuple[int, ...]
    dtype: Any
    content: bytes


def freeze(tree: PyTree) -> tuple[Any, ...]:
    """What a module holds besides its parameters, hashable: its structure and leaves, with arrays as constants.

    Raises:
        ValueError: if an array among them is traced.
    """
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(map(_freeze_leaf, leaves))


def _freeze_leaf(leaf: Any) -> Any:
    if isinstance(leaf, jax.core.Tracer):
        raise ValueError("module must hold concrete arrays besides its parameters: adapt it outside of jax.jit")
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_impl(leaf), _freeze_leaf(jax.random.key_data(leaf))
    if isinstance(leaf, jax.Array | np.ndarray):
        return Constant(leaf.shape, leaf.dtype, np.asarray(leaf).tobytes())
    return leaf


def thaw(frozen: tuple[Any, ...]) -> PyTree:
    """The inverse of `freeze`."""
    structure, leaves = frozen
    return jax.tree.unflatten(structure, list(map(_thaw_leaf, leaves)))


def _thaw_leaf(leaf: Any) -> Any:
    if isinstance(leaf, Constant):
        return jnp.asarray(np.frombuffer(leaf.content, leaf.dtype).reshape(leaf.shape))
    if isinstance(leaf, tuple):
        return jax.random.wrap_key_data(_thaw_leaf(leaf[1]), impl=leaf[0])
    return leaf


def call_module(module: Any, arguments: Any) -> Any:
    """Several arguments if they come as a tuple or a list, else one."""
    return module(*arguments) if isinstance(arguments, tuple | list) else module(arguments)


def require(module: str, extra: str) -> Any:
    """Import what an adapter needs.

    Raises:
        ImportError: if it is not there; the message names the extra that brings it.
    """
    try:
        return import_module(module)
    except ImportError as reason:
        raise ImportError(f'this adapter needs {module.partition(".")[0]}: pip install "deadly-triad[{extra}]"') from reason


@dataclass(frozen=True, eq=False)
class _Routed:
    """A network whose calls of dense layers go through the hook, as `networks` asks for."""

    evaluate: Evaluation
    action_values: bool
    names: tuple[str, ...]
    shapes: tuple[Any, ...]
    layers: tuple[_Layer, ...]

    def name(self, layer: _Layer) -> str:
        return self.names[layer.weight].rpartition("/")[0]

    def pack(self, leaves: Sequence[Array]) -> dict[str, Any]:
        packed: dict[str, Any] = {}
        for layer in self.layers:
            weight = leaves[layer.weight]
            packed[self.name(layer)] = Dense(weight.T if layer.transposed else weight, None if layer.bias is None else leaves[layer.bias])
        taken = {at for layer in self.layers for at in (layer.weight, layer.bias)}
        return packed | {name: leaf for at, (name, leaf) in enumerate(zip(self.names, leaves, strict=True)) if at not in taken}

    def unpack(self, parameters: dict[str, Any]) -> list[Array]:
        leaves = [parameters.get(name) for name in self.names]
        for layer in self.layers:
            weight, bias = parameters[self.name(layer)]
            leaves[layer.weight] = weight.T if layer.transposed else weight
            if layer.bias is not None:
                leaves[layer.bias] = bias
        return leaves  # type: ignore[return-value]

    def __call__(self, parameters: Any, inputs: Any, hook: Hook) -> Array:
        # What a layer holds is out of the module's sight: were it read past the hook after all, NaN would come out.
        leaves = [parameters[name] if name in parameters else jnp.full(s.shape, jnp.nan, s.dtype) for name, s in self._named()]
        layers = {id(leaves[layer.weight]): (layer, parameters[self.name(layer)]) for layer in self.layers}

        def route(weight: Any, _bias: Any, a: Array, *, transposed: bool = False) -> Array | None:  # noqa: ARG001
            if id(weight) not in layers:
                return None
            layer, held = layers[id(weight)]
            return hook(held, jnp.asarray(a, self.shapes[layer.weight].dtype))

        return _evaluate(self.evaluate, leaves, _follow(inputs, jnp.result_type(*self.shapes)), route, self.action_values)

    def _named(self) -> list[tuple[str, Any]]:
        return list(zip(self.names, self.shapes, strict=True))


def adapt(evaluate: Evaluation, parameters: PyTree, inputs: Any, restore: Callable[[Any], Any], *, action_values: bool) -> Adapted:
    """Bring a network into this package's form.

    Args:
        evaluate: see `Evaluation`.
        parameters: of the module, a pytree of arrays.
        inputs: a batch of any size; only its shapes are used.
        restore: from a pytree like `parameters` to the module's own form.
        action_values: whether the module has an output an action, and the inputs are a pair of arguments and actions.

    Raises:
        ValueError: if the module is not hashable, a parameter is not real or the outputs are not one value a sample.
    """
    named, structure = jax.tree_util.tree_flatten_with_path(parameters)
    leaves = [jnp.asarray(leaf) for _, leaf in named]
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise ValueError(f"parameters must be real arrays, at least one, got {sorted({str(leaf.dtype) for leaf in leaves})}")
    try:
        hash(evaluate)
    except TypeError as reason:
        raise ValueError(f"module must be hashable, with every field that is not an array: {reason}") from reason
    names = tuple(jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value") for path, _ in named)
    shapes = tuple(jax.eval_shape(lambda: leaves))
    example = _follow(inputs, jnp.result_type(*leaves))
    _n_rows(example)
    rows, batch = jax.tree.flatten(
        jax.eval_shape(lambda: jax.tree.map(lambda leaf: jnp.zeros((_ROWS, *leaf.shape[1:]), leaf.dtype), example))
    )
    network = _route(evaluate, action_values, names, shapes, batch, tuple(rows))
    packed = network.pack(leaves)
    tell_columns(packed, always=True)
    return Adapted(network, packed, lambda new: restore(jax.tree.unflatten(structure, network.unpack(new))))


@lru_cache(maxsize=256)
def _route(evaluate: Evaluation, action_values: bool, names: tuple[str, ...], shapes: Any, batch: Any, rows: Any) -> _Routed:
    """Trace the network with a copy of the parameters for the layers: who calls a layer in the ordinary way does not touch the original."""
    found: dict[_Layer, None] = {}

    def traced(leaves: list[Array], copies: list[Array], rows: list[Array]) -> Array:
        where, outside = {id(leaf): at for at, leaf in enumerate(leaves)}, _trace_level(convention="flax")

        def route(weight: Any, bias: Any, a: Array, *, transposed: bool = False) -> Array | None:
            w, b = where.get(id(weight)), None if bias is None else where.get(id(bias), -1)
            if w is None or b == -1 or _trace_level(convention="flax") != outside:
                return None
            kernel = copies[w].T if transposed else copies[w]
            if (
                kernel.ndim != 2
                or a.shape != (_ROWS, kernel.shape[0])
                or (jnp.issubdtype(a.dtype, jnp.inexact) and a.dtype != kernel.dtype)
            ):
                return None
            found[_Layer(w, b, transposed)] = None
            return dense(Dense(kernel, None if b is None else copies[b]), jnp.asarray(a, kernel.dtype))

        return _evaluate(evaluate, leaves, jax.tree.unflatten(batch, rows), route, action_values)

    jaxpr = jax.make_jaxpr(traced)(list(shapes), list(shapes), list(rows)).jaxpr
    read = {id(v) for v in (*(v for eqn in jaxpr.eqns for v in eqn.invars), *jaxpr.outvars)}
    owners = [at for layer in found for at in (layer.weight, layer.bias) if at is not None]
    apart = [at for at, v in enumerate(jaxpr.invars[: len(names)]) if id(v) not in read and owners.count(at) == 1]
    layers = tuple(layer for layer in found if layer.weight in apart and (layer.bias is None or layer.bias in apart))
    return _Routed(evaluate, action_values, names, shapes, layers)


def _evaluate(evaluate: Evaluation, leaves: list[Array], inputs: Any, route: Route, action_values: bool) -> Array:
    """One value a sample: outputs of shape (n,) or (n, 1), or of an output an action the selected one."""
    n = _n_rows(inputs)
    if action_values and not (isinstance(inputs, tuple | list) and len(inputs) == 2):
        raise ValueError(f"inputs must be a pair of the module's arguments and actions, got {type(inputs).__name__}")
    arguments, actions = inputs if action_values else (inputs, None)
    outputs = evaluate(leaves, arguments, route)
    if not isinstance(outputs, jax.Array):
        raise ValueError(f"module must return one array of values, got {type(outputs).__name__}: pick one with the argument call")
    if actions is not None:
        if outputs.ndim != 2 or len(outputs) != n:
            raise ValueError(f"module must return one output an action, shape ({n}, n_actions), got {outputs.shape}")
        if prod(actions.shape) != n or not jnp.issubdtype(actions.dtype, jnp.integer):
            raise ValueError(f"actions must be integers, one a sample, shape ({n},), got {actions.dtype} of shape {actions.shape}")
        return jnp.take_along_axis(outputs, actions.reshape(n, 1), axis=1)[:, 0]
    if outputs.shape not in ((n,), (n, 1)):
        raise ValueError(f"module must return one value a sample, shape ({n},) or ({n}, 1), got {outputs.shape}")
    return outputs.reshape(n)


def _n_rows(inputs: Any) -> int:
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(inputs)]
    if not shapes or not all(shape and shape[0] == shapes[0][0] > 0 for shape in shapes):
        raise ValueError(f"inputs must be arrays with one row a sample, at least one, got shapes {shapes}")
    return shapes[0][0]


def _follow(inputs: Any, dtype: Any) -> Any:
    """The real ones among the inputs in the precision of the parameters."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else None), inputs)
