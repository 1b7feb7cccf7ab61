r"""The kernel of a module of PyTorch, from forward hooks and one backward pass.

The formula is that of `ntk`. A forward hook sees what enters and leaves each `nn.Linear`, and whether a layer may be taken is read off
autograd's own graph: its output must come straight from the affine map, and the graph must use its weight as often as the layer is called,
no more. So nothing that happens to a weight elsewhere (tying, functional use, a parametrisation) is missed.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from deadly_triad.adapters.routing import Call, call_module, require
from deadly_triad.networks import Dense
from deadly_triad.ntk import tell_columns

Tensor = Any  # torch.Tensor, where torch is installed


class _Layer(NamedTuple):
    """A layer that is taken: the names of those of its arrays that are trained, and what entered and left each call."""

    weight: str | None
    bias: str | None
    inputs: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class TorchFactors:
    """The values of a batch of n samples and, in factors, their gradients in all parameters that require one.

    Attributes:
        Q: the values, a tensor of shape (n,).
        layers: the dense layers.
        columns: gradients in the other parameters, by name, each of shape (n, *shape of the parameter).
    """

    Q: Tensor
    layers: tuple[_Layer, ...]
    columns: dict[str, Tensor]

    def kernel(self) -> Float[np.ndarray, "n n"]:
        """$K$ on the batch, shape (n, n)."""
        return self.cross_kernel(self)

    def cross_kernel(self, other: "TorchFactors") -> Float[np.ndarray, "n m"]:
        """The kernel between this batch and another one of the same module, shape (n, m).

        Raises:
            ValueError: if the other batch comes from a module of another make.
        """
        if _make(self) != _make(other):
            raise ValueError("other must come from the same module: its layers are called differently or have other sizes")
        K = sum(
            ((A @ B.T if left.weight else 0) + (left.bias is not None)) * (G @ H.T)
            for left, right in zip(self.layers, other.layers, strict=True)
            for A, G in zip(left.inputs, left.gradients, strict=True)
            for B, H in zip(right.inputs, right.gradients, strict=True)
        ) + sum(g.flatten(1) @ other.columns[name].flatten(1).T for name, g in self.columns.items())
        return K.cpu().numpy()

    def diagonal(self) -> Float[np.ndarray, " n"]:
        """The diagonal of $K$, without the rest, shape (n,)."""
        diagonal = sum(
            (((A * B).sum(1) if layer.weight else 0) + (layer.bias is not None)) * (G * H).sum(1)
            for layer in self.layers
            for A, G in zip(layer.inputs, layer.gradients, strict=True)
            for B, H in zip(layer.inputs, layer.gradients, strict=True)
        ) + sum(g.flatten(1).square().sum(1) for g in self.columns.values())
        return diagonal.cpu().numpy()

    def pull_back(self, zeta: Any) -> dict[str, Tensor]:
        r"""$J^\top \zeta$: a tensor for each parameter that requires a gradient, by the names of `module.named_parameters()`.

        Args:
            zeta: one number a sample, a tensor or an array.

        Raises:
            ValueError: if `zeta` has another length.
        """
        torch = require("torch", "torch")
        zeta = torch.as_tensor(np.array(zeta), dtype=self.Q.dtype, device=self.Q.device)
        if zeta.shape != self.Q.shape:
            raise ValueError(f"zeta must have shape {tuple(self.Q.shape)}, got {tuple(zeta.shape)}")
        update = {name: torch.tensordot(zeta, g, 1) for name, g in self.columns.items()}
        for layer in self.layers:
            if layer.weight:
                update[layer.weight] = sum((zeta[:, None] * G).T @ A for A, G in zip(layer.inputs, layer.gradients, strict=True))
            if layer.bias:
                update[layer.bias] = sum(zeta @ G for G in layer.gradients)
        return update


def torch_factors(module: Any, inputs: Any, *, call: Call = call_module, action_values: bool = False) -> TorchFactors:
    """Values and layerwise gradients of a batch of a module of PyTorch. The module stays as it is, in its mode and gradients too.

    >>> import torch
    >>> from deadly_triad.adapters import torch_factors
    >>> from deadly_triad.kernel_updates import Coupling, theorem_2
    >>> critic = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    >>> factors = torch_factors(critic, torch.eye(3))
    >>> theorem_2(Coupling(factors.kernel(), np.full(3, 1 / 3)), 0.99, 0.1).applies
    False

    Args:
        module: in the precision float32 or float64, in the mode in which it is meant.
        inputs: a batch, as tensors or arrays: one, or a tuple for several arguments, with one row a sample. Real ones are brought to
            the device and precision of the module.
        call: how to call the module.
        action_values: whether the module has an output an action; the inputs are then a pair of its arguments and actions, shape (n,).

    Raises:
        ImportError: if PyTorch is missing.
        ValueError: if no parameter requires a gradient, one is of another type, the module mixes the samples of a batch (batch
            normalisation in training mode) or draws random numbers (dropout), cannot be called with `inputs`, or does not return one
            finite value a sample.
    """
    torch = require("torch", "torch")
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    _check_module(torch, module, trained)
    with torch.inference_mode(False), torch.enable_grad():  # the caller may have switched either
        return _factors(torch, module, trained, _follow(torch, inputs, next(iter(trained.values()))), call, action_values)


def _factors(torch: Any, module: Any, trained: dict[str, Tensor], inputs: Any, call: Call, action_values: bool) -> TorchFactors:
    with _recorded(torch, module) as calls:
        Q = _values(torch, module, inputs, call, action_values)
    if Q.grad_fn is None or Q.dtype != next(iter(trained.values())).dtype:
        raise ValueError(f"module must return values with a gradient, in the precision of its parameters, got {Q.dtype}")
    names = {id(p): name for name, p in trained.items()}
    taken = _taken(Q, calls, names)
    left = [z for recorded in taken.values() for _, z in recorded]
    others = {name: p for name, p in trained.items() if all(p is not own for layer in taken for own in (layer.weight, layer.bias))}
    weights = torch.linspace(0.5, 1.5, len(Q), dtype=Q.dtype, device=Q.device)
    try:
        gradients = torch.autograd.grad(Q.sum(), left, retain_graph=True) if left else ()
        weighted = torch.autograd.grad(Q @ weights, left, retain_graph=True) if left else ()
        columns = _columns(torch, Q, others)
    except RuntimeError as reason:
        raise ValueError(f"module must be differentiable in its parameters: {reason}") from reason
    _check_numbers(torch, Q, [*gradients, *columns.values()])
    for G, H in zip(gradients, weighted, strict=True):
        _check_equal(torch, "gradient", H, weights[:, None] * G)
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        if len(Q[rows]):
            alone = _values(torch, module, jax.tree.map(lambda leaf, rows=rows: leaf[rows], inputs), call, action_values)
            _check_equal(torch, "value", alone, Q[rows])
    each = iter(gradients)
    layers = tuple(
        _Layer(names.get(id(layer.weight)), names.get(id(layer.bias)), *zip(*((a.detach(), next(each)) for a, _ in recorded), strict=True))
        for layer, recorded in taken.items()
    )
    tell_columns({str(at): Dense(layer.weight, None) for at, layer in enumerate(taken)} | others, always=True)
    return TorchFactors(Q.detach(), layers, columns)


@contextmanager
def _recorded(torch: Any, module: Any) -> Iterator[list[tuple[Any, Tensor, Tensor]]]:
    """What enters and leaves the linear layers, call by call, while the context lasts."""
    calls: list[tuple[Any, Tensor, Tensor]] = []

    def record(layer: Any, args: tuple[Tensor, ...], z: Tensor) -> Tensor | None:
        if len(args) != 1 or args[0].dim() != 2:
            return None
        calls.append((layer, args[0], z))
        return z.clone()  # what follows may write into it, and its gradient is wanted as it left the layer

    # Before the user's own hooks, which may change what leaves the layer.
    layers = [layer for layer in module.modules() if type(layer) is torch.nn.Linear and "forward" not in vars(layer)]
    handles = [layer.register_forward_hook(record, prepend=True) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _taken(Q: Tensor, calls: list[tuple[Any, Tensor, Tensor]], names: dict[int, str]) -> dict[Any, list[tuple[Tensor, Tensor]]]:
    """The layers whose every use the calls account for, each with what entered and left it."""
    nodes, uses = _graph(Q)
    grouped: dict[Any, list[tuple[Tensor, Tensor]]] = {}
    for layer, a, z in calls:
        if z.grad_fn in nodes:
            grouped.setdefault(layer, []).append((a, z))

    def accounts(layer: Any, recorded: list[tuple[Tensor, Tensor]]) -> bool:
        arrays = {id(p) for p in (layer.weight, layer.bias) if id(p) in names}
        straight = all(_affine(z.grad_fn) == arrays and len(a) == len(Q) and a.dtype == z.dtype == Q.dtype for a, z in recorded)
        return straight and all(uses[at] == len(recorded) for at in arrays)

    return {layer: recorded for layer, recorded in grouped.items() if accounts(layer, recorded)}


def _graph(Q: Tensor) -> tuple[set[Any], Counter[int]]:
    """All nodes of autograd's graph under the values, and how many of its edges lead to each parameter, by `id`."""
    nodes, waiting, uses = {Q.grad_fn}, [Q.grad_fn], Counter[int]()
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if hasattr(node, "variable"):
                uses[id(node.variable)] += 1
            elif node is not None and node not in nodes:
                nodes.add(node)
                waiting.append(node)
    return nodes, uses


def _affine(node: Any) -> set[int]:
    """The parameters, by `id`, that enter a node straight as weight or bias of an affine map; none if the node is no such map."""
    if node.name() not in ("AddmmBackward0", "MmBackward0"):
        return set()
    entering = [parent for parent, _ in node.next_functions if parent is not None]
    entering = [parent.next_functions[0][0] if parent.name() == "TBackward0" else parent for parent in entering]
    return {id(parent.variable) for parent in entering if hasattr(parent, "variable")}


def _columns(torch: Any, Q: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """The Jacobian of the values in some parameters, one backward pass for all samples or, where PyTorch cannot batch it, one for each."""
    if not parameters:
        return {}
    options = {"retain_graph": True, "allow_unused": True}
    held, basis = list(parameters.values()), torch.eye(len(Q), dtype=Q.dtype, device=Q.device)
    try:
        found = torch.autograd.grad(Q, held, basis, is_grads_batched=True, **options)
    except RuntimeError:
        rows = [torch.autograd.grad(q, held, **options) for q in Q]
        found = [None if of_one[0] is None else torch.stack(of_one) for of_one in zip(*rows, strict=True)]
    # None stands for a parameter that no value depends on.
    filled = [p.new_zeros((len(Q), *p.shape)) if g is None else g for p, g in zip(held, found, strict=True)]
    return dict(zip(parameters, filled, strict=True))


def _values(torch: Any, module: Any, inputs: Any, call: Call, action_values: bool) -> Tensor:
    """One value a sample: outputs of shape (n,) or (n, 1), or of an output an action the selected one."""
    n = len(jax.tree.leaves(inputs)[0])
    arguments, actions = inputs if action_values else (inputs, None)
    try:
        outputs = call(module, arguments)
    except (IndexError, RuntimeError, TypeError) as reason:
        raise ValueError(f"inputs must be what the module takes: {reason}") from reason
    if not isinstance(outputs, torch.Tensor):
        raise ValueError(f"module must return one tensor of values, got {type(outputs).__name__}: pick one with the argument call")
    if actions is not None:
        if outputs.dim() != 2 or len(outputs) != n:
            raise ValueError(f"module must return one output an action, shape ({n}, n_actions), got {tuple(outputs.shape)}")
        if actions.numel() != n or actions.is_floating_point() or not 0 <= int(actions.min()) <= int(actions.max()) < outputs.shape[1]:
            raise ValueError(f"actions must be integers from 0 to {outputs.shape[1] - 1}, one a sample, shape ({n},)")
        return outputs.gather(1, actions.long().reshape(n, 1))[:, 0]
    if outputs.shape not in ((n,), (n, 1)):
        raise ValueError(f"module must return one value a sample, shape ({n},) or ({n}, 1), got {tuple(outputs.shape)}")
    return outputs.reshape(n)


def _make(factors: TorchFactors) -> list[Any]:
    """What two batches of one module have in common."""
    shapes = [[(A.shape[1], G.shape[1]) for A, G in zip(layer.inputs, layer.gradients, strict=True)] for layer in factors.layers]
    names = [(layer.weight, layer.bias) for layer in factors.layers]
    return [shapes, names, [(name, g.shape[1:]) for name, g in factors.columns.items()]]


# --- Refusals --------------------------------------------------------------------------------------------------------


def _check_module(torch: Any, module: Any, trained: dict[str, Tensor]) -> None:
    if not trained:
        raise ValueError("module must have a parameter that requires a gradient, got none")
    for name, p in trained.items():
        if isinstance(p, torch.nn.parameter.UninitializedParameter):
            raise ValueError(f"module must have been called before: its parameter {name} is not initialised")
    precisions = {str(p.dtype) for p in trained.values()}
    if precisions not in ({"torch.float32"}, {"torch.float64"}):
        raise ValueError(f"module must have its parameters in float32 or float64, all alike, got {', '.join(sorted(precisions))}")
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
            raise ValueError(f"module must not mix samples, and its batch normalisation {name} does, in training mode: call module.eval()")
        if isinstance(part, torch.nn.modules.dropout._DropoutNd) and part.training and part.p > 0:
            raise ValueError(f"module must not draw random numbers, and its dropout {name} does, in training mode: call module.eval()")


def _follow(torch: Any, inputs: Any, like: Tensor) -> Any:
    """Copies of the inputs where the module is, the real ones in its precision."""

    def follow(leaf: Any) -> Tensor:
        try:
            tensor = torch.as_tensor(leaf, device=like.device).detach()
        except (TypeError, ValueError, RuntimeError) as reason:
            raise ValueError(f"inputs must be tensors or arrays: {reason}") from reason
        if tensor.is_complex():
            raise ValueError(f"inputs must be real, got {tensor.dtype}")
        return tensor.to(like.dtype if tensor.is_floating_point() else tensor.dtype, copy=True)

    followed = jax.tree.map(follow, inputs)
    shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(followed)]
    if not shapes or not all(shape and shape[0] == shapes[0][0] > 0 for shape in shapes):
        raise ValueError(f"inputs must be arrays with one row a sample, at least one, got shapes {shapes}")
    return followed


def _check_numbers(torch: Any, Q: Tensor, gradients: list[Tensor]) -> None:
    if not all(bool(torch.isfinite(t).all()) for t in (Q, *gradients)):
        raise ValueError("values and gradients of the module must be finite, got NaN or infinity among them")


def _check_equal(torch: Any, what: str, here: Tensor, there: Tensor) -> None:
    """Without mixing, weights on the values weigh the rows of the gradients, and half the batch has the values of the whole."""
    if not bool((here - there).abs().max() <= torch.finfo(there.dtype).eps ** 0.5 * there.abs().max()):  # NaN is not
        raise ValueError(
            f"module must not mix samples or draw random numbers, but the {what} of a sample changes with the rest of the batch"
        )
