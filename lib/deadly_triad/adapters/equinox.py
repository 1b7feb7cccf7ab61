"""Networks of Equinox, with their `Linear` layers in sight."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array

from deadly_triad.adapters.routing import Adapted, Call, Route, adapt, call_module, freeze, require, thaw


def from_equinox(module: Any, inputs: Any, *, call: Call = call_module, action_values: bool = False) -> Adapted:
    """Adapt a module of Equinox, which takes one sample. Its real arrays are the parameters, all else stays as it is.

    >>> import equinox as eqx, jax, jax.numpy as jnp
    >>> from deadly_triad.adapters import from_equinox
    >>> from deadly_triad.ntk import kernel_factors
    >>> critic, states = eqx.nn.MLP(3, "scalar", 64, 2, key=jax.random.key(0)), jnp.eye(3)
    >>> adapted = from_equinox(critic, states)
    >>> kernel_factors(adapted.network, adapted.parameters, states).kernel().shape
    (3, 3)

    Args:
        module: the module.
        inputs: a batch of any size, of which only shapes are used: an array, or a tuple for several arguments, with one row a sample.
        call: how to call the module with one sample; the same function each time, it is part of what is compiled.
        action_values: whether the module has an output an action; the inputs are then a pair of its arguments and actions, shape (n,).

    Raises:
        ImportError: if Equinox is missing.
        ValueError: if the module is none of those `adapt` takes.
    """
    eqx = require("equinox", "equinox")
    parameters, others = eqx.partition(module, eqx.is_inexact_array)
    evaluate = _Equinox(jax.tree.structure(parameters), freeze(others), call)
    return adapt(evaluate, parameters, inputs, lambda new: eqx.combine(new, others), action_values=action_values)


@dataclass(frozen=True)
class _Equinox:
    structure: Any
    others: tuple[Any, ...]
    call: Call

    def __call__(self, leaves: list[Array], arguments: Any, route: Route) -> Any:
        eqx = require("equinox", "equinox")
        module = eqx.combine(jax.tree.unflatten(self.structure, leaves), thaw(self.others))

        def is_linear(node: Any) -> bool:
            return type(node) is eqx.nn.Linear

        routed = jax.tree.map(lambda node: _Offered(node, route) if is_linear(node) else node, module, is_leaf=is_linear)
        return jax.vmap(lambda sample: self.call(routed, sample))(arguments)


@jax.tree_util.register_pytree_node_class
class _Offered:
    """A layer that is called sample by sample and offers the whole batch to the route.

    A pytree, as the layer is: a transformation within the network then sees the layer's arrays, and these are no parameters any more.
    """

    def __init__(self, layer: Any, route: Route) -> None:
        self.layer, self.route = layer, route

    def tree_flatten(self) -> tuple[tuple[Any], Route]:
        return (self.layer,), self.route

    @classmethod
    def tree_unflatten(cls, route: Route, children: tuple[Any]) -> "_Offered":
        return cls(*children, route)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def __call__(self, x: Array, **_kwargs: Any) -> Array:
        arrays, structure = jax.tree.flatten(self.layer)

        def call(arrays: list[Array], x: Array) -> Array:
            return jax.tree.unflatten(structure, arrays)(x)

        alone = custom_vmap(call)

        # The arrays are arguments, for within `jax.jit` they are others by the time the rule is asked.
        @alone.def_vmap
        def together(_size: int, batched: Any, arrays: list[Array], rows: Array) -> tuple[Array, bool]:
            layer, of_each = jax.tree.unflatten(structure, arrays), any(batched[0])
            a = rows[:, None] if layer.in_features == "scalar" else rows
            routed = self.route(layer.weight, layer.bias, a, transposed=True) if batched[1] and not of_each else None
            if routed is None:
                return jax.vmap(call, jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched)))(arrays, rows), True
            return (routed[:, 0] if layer.out_features == "scalar" else routed), True

        return alone(arrays, jnp.asarray(x))
