r"""The kernel of a module of PyTorch, from forward hooks and two backward passes.

The formula is that of `ntk`. A forward hook sees what enters each `nn.Linear`, one backward pass of the sum of the values gives what left
it. A weight is taken if its layer's calls account for all that it does: with uneven $w$, the gradient of $w^\top Q$ in the weight, which a
second pass gives, must be the one from the factors. So nothing that happens to a weight elsewhere (tying, functional use, a
parametrisation, mixing of samples) is missed: such a weight takes its columns of the Jacobian.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from deadly_triad.adapters.jax import call_module, one_value, require
from deadly_triad.networks import Dense
from deadly_triad.ntk import Factors, LayerFactors, add_products, add_squares, check_make, count_samples, tell_columns

Tensor = Any  # torch.Tensor, where torch is installed
_OPTIONS: dict[str, Any] = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}  # of autograd
Calls = dict[Any, list[tuple[Tensor, Tensor]]]  # for each linear layer, what entered and left it


@dataclass(frozen=True, eq=False)
class TorchFactors:
    """The values of a batch of n samples and, in factors, their gradients in all parameters that require one.

    Attributes:
        factors: as of `ntk`, with tensors; a layer of which only the bias is taken has inputs of no width.
        names: of weight and bias of each layer, None for what is not taken or not there; then of the other parameters.
        shapes: of the parameters that require a gradient, by name.
    """

    factors: Factors
    names: tuple[list[tuple[str | None, str | None]], list[str]]
    shapes: dict[str, tuple[int, ...]]

    @property
    def Q(self) -> Tensor:
        """The values, a tensor of shape (n,)."""
        return self.factors.Q

    def kernel(self) -> Float[np.ndarray, "n n"]:
        """$K$ on the batch, shape (n, n)."""
        return self.cross_kernel(self)

    def cross_kernel(self, other: "TorchFactors") -> Float[np.ndarray, "n m"]:
        """The kernel between this batch and another one of the same module, shape (n, m).

        Raises:
            ValueError: if the other batch comes from a module of another make, or one that takes other layers on it.
        """
        check_make(self.factors, other.factors)
        return add_products(self.factors, other.factors, 0.0).cpu().numpy()

    def diagonal(self) -> Float[np.ndarray, " n"]:
        """The diagonal of $K$, without the rest, shape (n,)."""
        return add_squares(self.factors).cpu().numpy()

    def pull_back(self, zeta: Any) -> dict[str, Tensor]:
        r"""$J^\top \zeta$: a tensor for each parameter that requires a gradient, by the names of `module.named_parameters()`.

        Args:
            zeta: one number a sample, a tensor or an array.

        Raises:
            ValueError: if `zeta` has another length.
        """
        zeta = require("torch", "torch").as_tensor(np.array(zeta), dtype=self.Q.dtype, device=self.Q.device)
        if zeta.shape != self.Q.shape:
            raise ValueError(f"zeta must have shape {tuple(self.Q.shape)}, got {tuple(zeta.shape)}")
        update: dict[Any, Tensor] = {name: zeta @ g for name, g in zip(self.names[1], self.factors.others, strict=True)}
        for (weight, bias), layer in zip(self.names[0], self.factors.layers, strict=True):
            update[weight] = sum((zeta[:, None] * G).T @ A for A, G in zip(layer.inputs, layer.gradients, strict=True))
            update[bias] = sum(zeta @ G for G in layer.gradients)
        return {name: update[name].reshape(shape) for name, shape in self.shapes.items()}


@dataclass(frozen=True)
class TorchNetwork:
    """A module of PyTorch as `diagnose` takes it, without parameters: it has its own (see `diagnosis.Differentiable`).

    Attributes:
        module: see `torch_factors`.
        action_values: see `torch_factors`.
    """

    module: Any
    action_values: bool = False

    def factors(self, pairs: Any, scales: dict[str, Any] | None = None) -> Factors:
        """Values and gradients in NumPy; with scales, which are by the names of parameters, gradients times their roots."""
        found = torch_factors(self.module, pairs, action_values=self.action_values)
        if scales is None:
            return jax.tree.map(_in_numpy, found.factors)
        if scales.keys() != found.shapes.keys():
            raise ValueError(f"scales must have the names of the parameters, {', '.join(found.shapes)}, got {', '.join(scales)}")
        torch, roots = require("torch", "torch"), []
        for name, shape in found.shapes.items():
            scale = _in_numpy(scales[name])
            if scale.shape != shape or not np.all(np.isfinite(scale) & (scale > 0)):
                raise ValueError(f"scales must be positive and finite, and shaped as the parameters, but that of {name} is not")
            roots.append(np.sqrt(scale.ravel()))
        trained = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        with torch.inference_mode(False), torch.enable_grad():
            Q = _values(torch, self.module, pairs, next(iter(trained.values())), self.action_values)
            columns = _columns(torch, Q, list(trained.values()))
        return Factors(_in_numpy(Q), (), tuple(_in_numpy(g) * root for g, root in zip(columns, roots, strict=True)))

    def values(self, pairs: Any) -> np.ndarray:
        """Of the pairs, shape (n,)."""
        torch = require("torch", "torch")
        with torch.no_grad():
            return _in_numpy(_values(torch, self.module, pairs, next(self.module.parameters()), self.action_values))

    def stepped(self, pairs: Any, zeta: Float[np.ndarray, " n"], scales: dict[str, Any] | None = None) -> np.ndarray:
        """Their values after a step of a copy of the module, shape (n,)."""
        torch, moved = require("torch", "torch"), copy.deepcopy(self.module)
        trained = {name: p for name, p in moved.named_parameters() if p.requires_grad}
        with torch.inference_mode(False), torch.enable_grad():
            Q = _values(torch, moved, pairs, next(iter(trained.values())), self.action_values)
            step = torch.autograd.grad(Q @ torch.as_tensor(zeta, dtype=Q.dtype, device=Q.device), list(trained.values()), **_OPTIONS)
        with torch.no_grad():
            for (name, p), change in zip(trained.items(), step, strict=True):
                p += change if scales is None else change * torch.as_tensor(_in_numpy(scales[name]), dtype=p.dtype, device=p.device)
        return TorchNetwork(moved, self.action_values).values(pairs)

    def slopes(self, pairs: Any) -> np.ndarray:
        """Gradients of the values in the pairs, then one array, of its shape."""
        torch, like = require("torch", "torch"), next(self.module.parameters())
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.as_tensor(_in_numpy(pairs), device=like.device).to(like.dtype, copy=True).requires_grad_()
            (found,) = torch.autograd.grad(call_module(self.module, x).sum(), x)
        return _in_numpy(found)


def from_torch(module: Any, *, action_values: bool = False) -> TorchNetwork:
    """A module of PyTorch for `diagnose`, which leaves it as it is.

    >>> import deadly_triad as dt
    >>> import torch
    >>> critic = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.LayerNorm(64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    >>> report = dt.diagnose(dt.adapters.from_torch(critic), None, np.eye(3), np.eye(3), discount=0.99, step_size=0.1)
    >>> report.theorem_2.applies
    False

    Args:
        module: see `torch_factors`, which names the errors, too.
        action_values: see there.
    """
    return TorchNetwork(module, action_values)


def _in_numpy(leaf: Any) -> Any:
    return leaf.detach().cpu().numpy() if hasattr(leaf, "detach") else np.asarray(leaf)


def torch_factors(module: Any, inputs: Any, *, action_values: bool = False) -> TorchFactors:
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
        action_values: whether the module has an output an action; the inputs are then a pair of its arguments and actions, shape (n,).

    Raises:
        ImportError: if PyTorch is missing.
        ValueError: if no parameter requires a gradient, one is of another type, the module mixes the samples of a batch (batch
            normalisation in training mode) or draws random numbers (dropout), cannot be called with `inputs`, or does not return one
            finite value a sample.
    """
    torch = require("torch", "torch")
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    types = {p.dtype for p in trained.values()}
    if types not in ({torch.float32}, {torch.float64}):
        raise ValueError(f"module must have parameters that require a gradient, all in float32 or all in float64, got {types or 'none'}")
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.training:  # each call would change it
            raise ValueError(f"module must not mix samples, and its batch normalisation {name} does, in training mode: call module.eval()")
    like = next(iter(trained.values()))
    with torch.inference_mode(False), torch.enable_grad():  # the caller may have switched either
        with _recorded(torch, module) as calls:
            Q = _values(torch, module, inputs, like, action_values)
        try:
            found = _factors(torch, Q, calls, trained)
        except RuntimeError as reason:
            raise ValueError(f"module must be differentiable in its parameters: {reason}") from reason
        numbers = [Q, *found.factors.others, *(G for layer in found.factors.layers for G in layer.gradients)]
        if not all(bool(torch.isfinite(t).all()) for t in numbers):
            raise ValueError("values and gradients of the module must be finite, got NaN or infinity among them")
        for rows in (slice(0, None, 2), slice(1, None, 2)):
            part = jax.tree.map(lambda leaf, rows=rows: leaf[rows], inputs)
            if len(Q[rows]) and not _alike(_values(torch, module, part, like, action_values), Q[rows], Q[rows].norm()):
                raise ValueError(
                    "module must not mix samples or draw random numbers, but the value of a sample changes with the rest of the batch: "
                    "call module.eval()"
                )
    taken = {weight: Dense(trained[weight], None) for weight, _ in found.names[0] if weight}
    tell_columns(taken | {name: trained[name] for name in found.names[1]}, always=True)
    return found


def _factors(torch: Any, Q: Tensor, calls: Calls, trained: dict[str, Tensor]) -> TorchFactors:
    names = {id(p): name for name, p in trained.items()}
    left = [z for recorded in calls.values() for _, z in recorded]
    G = iter(torch.autograd.grad(Q.sum(), left, **_OPTIONS) if left else ())
    w = torch.linspace(0.5, 1.5, len(Q), dtype=Q.dtype, device=Q.device) ** 2
    totals = dict(zip(trained, torch.autograd.grad(Q @ w, list(trained.values()), **_OPTIONS), strict=True))

    def accounted(p: Any, entered: list[Tensor], gradients: tuple[Tensor, ...]) -> str | None:
        """The name of a parameter if its total gradient is that of the calls."""
        name = names.get(id(p))
        if name is None:
            return None
        found = sum((w[:, None] * g).T @ a for a, g in zip(entered, gradients, strict=True))
        size = sum(a.norm() * (w[:, None] * g).norm() for a, g in zip(entered, gradients, strict=True))
        return name if _alike(found.reshape(totals[name].shape), totals[name], size) else None

    layers, taken = [], []
    for layer, recorded in calls.items():
        entered, gradients = [a.detach() for a, _ in recorded], tuple(next(G) for _ in recorded)
        weight = accounted(layer.weight, entered, gradients)
        bias = accounted(layer.bias, [a.new_ones(len(a), 1) for a in entered], gradients)
        inputs = tuple(a if weight else a[:, :0] for a in entered)
        layers.append(LayerFactors(inputs, gradients, float(bias is not None)))  # type: ignore[arg-type]
        taken.append((weight, bias))
    others = {name: p for name, p in trained.items() if all(name not in pair for pair in taken)}
    factors = Factors(Q.detach(), tuple(layers), _columns(torch, Q, list(others.values())))
    return TorchFactors(factors, (taken, list(others)), {name: tuple(p.shape) for name, p in trained.items()})


@contextmanager
def _recorded(torch: Any, module: Any) -> Iterator[Calls]:
    """What enters and leaves the linear layers, call by call, while the context lasts."""
    calls: Calls = {}

    def record(layer: Any, args: tuple[Tensor, ...], z: Tensor) -> Tensor | None:
        if len(args) != 1 or args[0].dim() != 2 or z.dim() != 2 or not z.requires_grad:
            return None
        calls.setdefault(layer, []).append((args[0], z))
        return z.clone()  # what follows may write into it, and its gradient is wanted as it left the layer

    # Before the user's own hooks, which may change what leaves the layer.
    handles = [layer.register_forward_hook(record, prepend=True) for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _columns(torch: Any, Q: Tensor, held: list[Tensor]) -> tuple[Tensor, ...]:
    """The Jacobian of the values in some parameters, one backward pass for all samples or, where PyTorch cannot batch it, one for each."""
    if not held:
        return ()
    try:
        found = torch.autograd.grad(Q, held, torch.eye(len(Q), dtype=Q.dtype, device=Q.device), is_grads_batched=True, **_OPTIONS)
    except RuntimeError:
        found = map(torch.stack, zip(*(torch.autograd.grad(q, held, **_OPTIONS) for q in Q), strict=True))
    return tuple(g.flatten(1) for g in found)


def _alike(here: Tensor, there: Tensor, size: Tensor) -> bool:
    """Equal to three quarters of the digits of numbers of that size; NaN is not."""
    return bool((here - there).norm() <= np.finfo(str(there.dtype)[6:]).eps ** 0.75 * size)


def _values(torch: Any, module: Any, inputs: Any, like: Tensor, action_values: bool) -> Tensor:
    def follow(leaf: Any) -> Tensor:
        """A copy where the module is, in its precision if it is real: the module may write into it."""
        tensor = torch.as_tensor(leaf if torch.is_tensor(leaf) else np.array(leaf), device=like.device).detach()
        return tensor.to(like.dtype if tensor.is_floating_point() else tensor.dtype, copy=True)

    def select(outputs: Tensor, actions: Tensor) -> Tensor:
        if not 0 <= int(actions.min()) <= int(actions.max()) < outputs.shape[1]:
            raise ValueError(f"actions must be integers from 0 to {outputs.shape[1] - 1}")
        return outputs.gather(1, actions.long())

    try:
        n = count_samples(inputs)
        arguments, actions = jax.tree.map(follow, inputs) if action_values else (jax.tree.map(follow, inputs), None)
        outputs = call_module(module, arguments)
    except (IndexError, RuntimeError, TypeError) as reason:
        raise ValueError(f"inputs must be what the module takes: {reason}") from reason
    return one_value(outputs, n, actions, select)
