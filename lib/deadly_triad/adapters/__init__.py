"""Other people's networks: modules of Flax, Equinox and PyTorch, and any function, in the form that the kernel takes.

A dense layer that a module calls with one row a sample takes the layerwise kernel of `ntk`, several times if it is called several times.
What no layer rule covers takes its columns of the Jacobian: convolutions, attention, a layer along a time axis, a weight that is shared or
read past its layer. A warning says so once and names it; learned scales go this way too, but cost little and are not worth a word.

`from_linen`, `from_nnx`, `from_equinox` and `from_function` give a network, its parameters and the way back (see `Adapted`), for
`kernel_factors`, `row_sums`, `preqn_update` and all else that takes a network. A module may be adapted anew at each step: that compiles
nothing, for equal modules are equal networks. `torch_factors` gives the kernel of a module of PyTorch.

Each library is an optional extra, and needed only by who calls its adapter.
"""

from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, PyTree

from deadly_triad.adapters.equinox import from_equinox
from deadly_triad.adapters.flax import from_linen, from_nnx
from deadly_triad.adapters.routing import Adapted, Call, Route, adapt
from deadly_triad.adapters.torch import TorchFactors, torch_factors

__all__ = ["Adapted", "TorchFactors", "from_equinox", "from_function", "from_linen", "from_nnx", "torch_factors"]


def from_function(function: Call, parameters: PyTree, inputs: Any, *, action_values: bool = False) -> Adapted:
    """Adapt any function of parameters and inputs in JAX, by its whole Jacobian: n x (number of parameters) numbers.

    >>> import jax.numpy as jnp
    >>> from deadly_triad.adapters import from_function
    >>> from deadly_triad.ntk import kernel_factors
    >>> states = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> adapted = from_function(lambda theta, x: x @ theta, jnp.zeros(2), states)
    >>> kernel_factors(adapted.network, adapted.parameters, states).kernel()
    Array([[ 5., 11.],
           [11., 25.]], dtype=...)

    Args:
        function: from the parameters and a batch to the values; the same function each time, it is part of what is compiled.
        parameters: a pytree of real arrays.
        inputs: a batch of any size, of which only shapes are used.
        action_values: whether there is an output an action; the inputs are then a pair of what `function` takes and actions, shape (n,).

    Raises:
        ValueError: as `adapt`.
    """
    evaluate = _Function(function, jax.tree.structure(parameters))
    return adapt(evaluate, parameters, inputs, lambda new: new, action_values=action_values)


@dataclass(frozen=True)
class _Function:
    function: Call
    structure: Any

    def __call__(self, leaves: list[Array], arguments: Any, _route: Route) -> Any:
        return self.function(jax.tree.unflatten(self.structure, leaves), arguments)
