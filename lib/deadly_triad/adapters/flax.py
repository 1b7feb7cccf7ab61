"""Networks of Flax, in both of its interfaces, with their `Dense` and `Linear` layers in sight."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any

import jax
from jaxtyping import Array

from deadly_triad.adapters.routing import Adapted, Call, Route, adapt, call_module, freeze, require, thaw


def from_linen(module: Any, variables: Any, inputs: Any, *, call: Call = call_module, action_values: bool = False) -> Adapted:
    """Adapt a module of Flax Linen.

    >>> import flax.linen as nn, jax, jax.numpy as jnp
    >>> from deadly_triad.adapters import from_linen
    >>> from deadly_triad.ntk import kernel_factors
    >>> critic, states = nn.Sequential([nn.Dense(64), nn.tanh, nn.Dense(1)]), jnp.eye(3)
    >>> adapted = from_linen(critic, critic.init(jax.random.key(0), states), states)
    >>> kernel_factors(adapted.network, adapted.parameters, states).kernel().shape
    (3, 3)

    Args:
        module: unbound, as it was initialised.
        variables: what `module.init` returned; its collection "params" are the parameters, the others stay as they are.
        inputs: a batch of any size, of which only shapes are used: an array, or a tuple for several arguments.
        call: how to call the module, for arguments such as `train=False`; the same function each time, it is part of what is compiled.
        action_values: whether the module has an output an action; the inputs are then a pair of its arguments and actions, shape (n,).

    Raises:
        ImportError: if Flax is missing.
        ValueError: if `variables` has no parameters, or the module is none of those `adapt` takes.
    """
    require("flax.linen", "flax")
    if not (hasattr(variables, "keys") and "params" in variables):
        raise ValueError('variables must be what module.init returned, with the collection "params"')
    others = {name: collection for name, collection in variables.items() if name != "params"}
    parameters = variables["params"]
    evaluate = _Linen(module, jax.tree.structure(parameters), freeze(others), call)
    return adapt(evaluate, parameters, inputs, lambda new: {**variables, "params": new}, action_values=action_values)


@dataclass(frozen=True)
class _Linen:
    module: Any
    structure: Any
    others: tuple[Any, ...]
    call: Call

    def __hash__(self) -> int:
        # A module may hold a list, as `nn.Sequential` does: it can be compared, but not hashed.
        return hash((repr(self.module), self.structure, self.others, self.call))

    def __call__(self, leaves: list[Array], arguments: Any, route: Route) -> Any:
        nn = require("flax.linen", "flax")

        def intercept(following: Any, args: Any, kwargs: Any, context: Any) -> Any:
            layer, routed = context.module, None
            if type(layer) is nn.Dense and context.method_name == "__call__" and args:
                held = layer.variables["params"]
                routed = route(held["kernel"], held.get("bias"), args[0]) if _is_plain(layer, held["kernel"]) else None
            return following(*args, **kwargs) if routed is None else routed

        variables = {"params": jax.tree.unflatten(self.structure, leaves), **thaw(self.others)}
        with nn.intercept_methods(intercept):
            return self.module.apply(variables, arguments, method=self.call)


def _is_plain(layer: Any, kernel: Array) -> bool:
    """Whether the layer computes a W + b in the precision of its parameters, with none of the parts that a user may exchange exchanged."""
    made = signature(type(layer).__init__).parameters
    parts = ("promote_dtype", "dot_general", "dot_general_cls", "preferred_element_type")
    return layer.dtype in (None, kernel.dtype) and all(getattr(layer, part) is made[part].default for part in parts if part in made)


def from_nnx(module: Any, inputs: Any, *, call: Call = call_module, action_values: bool = False) -> Adapted:
    """Adapt a module of Flax NNX. Its `nnx.Param` are the parameters, all other state stays as it is.

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> from deadly_triad.adapters import from_nnx
    >>> from deadly_triad.ntk import kernel_factors
    >>> critic, states = nnx.Linear(3, 1, rngs=nnx.Rngs(0)), jnp.eye(3)
    >>> adapted = from_nnx(critic, states)
    >>> kernel_factors(adapted.network, adapted.parameters, states).kernel()
    Array([[2., 1., 1.],
           [1., 2., 1.],
           [1., 1., 2.]], dtype=float32)

    `adapted.restore` makes a new module; to change the old one: `nnx.update(critic, nnx.state(adapted.restore(parameters)))`.

    Args:
        module: the module.
        inputs: as in `from_linen`, like the other arguments.
        call: how to call the module.
        action_values: whether the module has an output an action.

    Raises:
        ImportError: if Flax is missing.
        ValueError: if the module is none of those `adapt` takes.
    """
    nnx = require("flax.nnx", "flax")
    graph, parameters, others = nnx.split(module, nnx.Param, ...)
    evaluate = _NNX(graph, jax.tree.structure(parameters), freeze(others), call)
    return adapt(evaluate, parameters, inputs, lambda new: nnx.merge(graph, new, others), action_values=action_values)


@dataclass(frozen=True)
class _NNX:
    graph: Any
    structure: Any
    others: tuple[Any, ...]
    call: Call

    def __call__(self, leaves: list[Array], arguments: Any, route: Route) -> Any:
        nnx = require("flax.nnx", "flax")
        module = nnx.merge(self.graph, jax.tree.unflatten(self.structure, leaves), thaw(self.others))
        for _, layer in nnx.iter_modules(module):  # the module is new, and nobody else has it
            if type(layer) is nnx.Linear:
                layer.__class__ = _routed_linear()
        with _offered_to(route):
            return self.call(module, arguments)


_route: ContextVar[Route] = ContextVar("_route")


@contextmanager
def _offered_to(route: Route) -> Iterator[None]:
    token = _route.set(route)
    try:
        yield
    finally:
        _route.reset(token)


@cache
def _routed_linear() -> Any:
    """The class `nnx.Linear` with its calls offered to the route; there is nowhere else to intercept them."""
    nnx = require("flax.nnx", "flax")

    def call(layer: Any, inputs: Array, *args: Any, **kwargs: Any) -> Any:
        kernel, bias = layer.kernel[...], None if layer.bias is None else layer.bias[...]
        routed = _route.get()(kernel, bias, inputs) if not (args or kwargs) and _is_plain(layer, kernel) else None
        return nnx.Linear.__call__(layer, inputs, *args, **kwargs) if routed is None else routed

    return type("Linear", (nnx.Linear,), {"__call__": call})
