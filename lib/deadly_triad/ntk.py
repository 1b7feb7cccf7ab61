r"""The neural tangent kernel of a network on a batch, without the Jacobian.

An update of the value at one input moves the value at another by their kernel, the inner product of their gradients,

$$k_\theta(x, y) = \nabla_\theta Q_\theta(x)^\top \nabla_\theta Q_\theta(y), \qquad K = J J^\top ,$$

with the Jacobian $J$ of the $n$ values of a batch in the parameters (Jacot, Gabriel & Hongler 2018; for Q-learning: Achiam, Knight & Abbeel
2019). $J$ has one column a parameter, and it is never formed. In a dense layer $z = a W + b$ sample $i$ has the gradients
$a_i g_i^\top$ in $W$ and $g_i$ in $b$, where $g_i = \partial Q_i / \partial z_i$. So with the layer inputs $A_l$ and gradients $G_l$ of
all samples, one row each,

$$K = \sum_l (A_l A_l^\top + 1) \circ (G_l G_l^\top), \quad J^\top \zeta = (A_l^\top \operatorname{diag}(\zeta) G_l, G_l^\top \zeta)_l ,$$

with the entrywise product (the 1 is the bias). Since no sample's value depends on another sample, ONE backward pass of $\sum_i Q_i$ gives
every $G_l$: as the gradient in a zero that is added to the output of each layer.

What does not fit this picture is either put right or refused:

- a layer that is called several times: its gradient is a sum over the calls, $K$ has a term for each pair of calls;
- a layer without bias: no 1;
- a parameter outside the dense layers (a learned scale, say): its columns of $J$ are formed, and only they; if most are of this kind,
  a warning says so once, with the price;
- the hook inside `jax.jit` or `jax.lax.scan`: the network is traced with these switched off, a scan turn by turn;
- the hook inside another transformation (`jax.checkpoint`, `vmap`, `grad`, a `cond` or `while_loop` that depends on numbers): refused;
- a weight that the network reads past the hook: refused, for its gradient would be missing;
- a network that mixes the samples of a batch (batch normalisation): refused, for its values have no gradient of their own.

Two inputs at a distance, and how far one moves when the other is raised by 1:

>>> from deadly_triad.networks import init_mlp, value_network
>>> layers = init_mlp(jax.random.key(0), [1, 64, 1])
>>> K = kernel_factors(value_network("tanh"), layers, jnp.array([[0.0], [1.0]])).kernel()
>>> bool(0 < K[0, 1] / K[0, 0] < 1)
True

Values follow the precision of the parameters (see `networks`), float32 or float64. `kernel_factors`, and what is done with its result,
may be put under `jax.jit`. What depends on shapes is then refused when it compiles. What depends on numbers is not looked at: NaN and
infinity, mixed samples, and a network whose values are others when its layers are hidden. So call `check_network` once before. Outside
`jax.jit` these checks cost about as much as the factors of the 32 samples they look at.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PyTree

from deadly_triad._checks import check_square
from deadly_triad.networks import Dense, Network, dense

P = TypeVar("P")

# Which transformation of JAX is at work: by its present name, and by that before JAX 0.10.
_trace_state: Any = getattr(jax.extend.core, "get_opaque_trace_state", None) or getattr(jax.core, "get_opaque_trace_state", None)


class LayerFactors(NamedTuple):
    """What one dense layer contributes to the kernel. One array for each time that the network calls the layer, as a rule one.

    Attributes:
        inputs: $A$, each of shape (n, d_in).
        gradients: $G$, each of shape (n, d_out).
        bias: 1 if the layer has a bias, else 0; a scalar.
    """

    inputs: tuple[Float[Array, "n d_in"], ...]
    gradients: tuple[Float[Array, "n d_out"], ...]
    bias: Float[Array, ""]


class Factors(NamedTuple):
    """The values of a batch of n samples and, in factors, their gradients in all parameters.

    Attributes:
        Q: the values, shape (n,).
        layers: one for each dense layer, in the order of the parameters.
        others: gradients in the parameters outside dense layers, each of shape (n, size).
    """

    Q: Float[Array, " n"]
    layers: tuple[LayerFactors, ...]
    others: tuple[Float[Array, "n size"], ...]

    def kernel(self) -> Float[Array, "n n"]:
        """$K$ on the batch, shape (n, n)."""
        return _kernel(self)

    def cross_kernel(self, other: "Factors") -> Float[Array, "n m"]:
        """The kernel between this batch and another one of the same network, shape (n, m).

        Raises:
            ValueError: if the other batch comes from a network of another make.
        """
        check_make(self, other)
        return _cross_kernel(self, other)

    def diagonal(self) -> Float[Array, " n"]:
        """The diagonal of $K$, without the rest, shape (n,)."""
        return _diagonal(self)


SMALL: Final = 1000
"""So many parameters outside dense layers cost nothing worth a warning."""


def gram(here: Factors, there: Factors | None = None) -> Float[np.ndarray, "n m"]:
    r"""The kernel between two batches of one network in NumPy and float64, whatever the precision of the factors; of one batch by default.

    Products of float32 matrices are off by rounding that differs from entry to entry, and the small eigenvalues of such a kernel are noise
    of either sign. This one is the Gram matrix $J J^\top$ of the factors as they are, and positive semidefinite to 1e-16.

    Raises:
        ValueError: if the other batch comes from a network of another make.
    """
    there = here if there is None else there
    check_make(here, there)
    here, there = map(in_float64, (here, there))
    return add_products(here, there, np.zeros((len(here.Q), len(there.Q))))


def in_float64(factors: Factors) -> Factors:
    """The factors in NumPy and float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), factors)


def kernel_factors(network: Network, parameters: PyTree, inputs: PyTree) -> Factors:
    """Values and layerwise gradients of a batch: one evaluation and one backward pass.

    Args:
        network: the function (see `networks`).
        parameters: its parameters, a pytree of `Dense` layers and arrays.
        inputs: an array or a pytree of arrays, with one row a sample each; the real ones are brought to the precision of the parameters.

    Raises:
        ValueError: if the network is none of those the module describes, or a value, a gradient or an argument is not finite. What
            depends on numbers (NaN, mixed samples) is not looked at under `jax.jit`.
    """
    inputs = _follow(parameters, inputs)
    tell_columns(parameters)
    factors = _factors(network, parameters, inputs)
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((factors, parameters, inputs))):
        _check_numbers(network, parameters, inputs, factors, 32)
    return factors


def check_network(network: Network, parameters: PyTree, inputs: PyTree) -> None:
    """Refuse a network whose kernel this module cannot form, by its numbers on a small batch: for use before `jax.jit`.

    Every sample is evaluated alone and compared with itself in the batch; `kernel_factors` so compares at most 32, evenly spread.

    Raises:
        ValueError: as `kernel_factors`.
    """
    inputs = _follow(parameters, inputs)
    factors = _factors(network, parameters, inputs)
    _check_numbers(network, parameters, inputs, factors, len(factors.Q))


def pull_back(factors: Factors, parameters: P, zeta: Float[Array, " n"]) -> P:
    r"""$J^\top \zeta$, in the shape of the parameters: one matrix product a layer.

    With $\zeta = D_\rho (T Q - Q)$ it is the direction of the expected update of Q-learning.

    Args:
        factors: of the batch.
        parameters: those that the factors were computed at; only their shapes are used.
        zeta: one number a sample.

    Raises:
        ValueError: if the factors do not belong to such parameters, or `zeta` has another length.
    """
    nodes, structure = jax.tree.flatten(parameters, is_leaf=_is_dense)
    n = len(factors.Q)
    if zeta.shape != (n,):
        raise ValueError(f"zeta must have shape ({n},), got {zeta.shape}")
    if len(factors.layers) + len(factors.others) != len(nodes):
        raise ValueError("parameters must be those of the factors, and have another number of layers")
    layers, others = iter(factors.layers), iter(factors.others)
    return jax.tree.unflatten(
        structure,
        [
            _layer_update(next(layers), node, zeta) if isinstance(node, Dense) else (zeta @ next(others)).reshape(jnp.shape(node))
            for node in nodes
        ],
    )


def count_samples(inputs: PyTree) -> int:
    """The number of rows that all arrays of a batch have.

    Raises:
        ValueError: if one of them has no rows or another number.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(inputs)]
    if not shapes or not all(shape and shape[0] == shapes[0][0] > 0 for shape in shapes):
        raise ValueError(f"inputs must be arrays with one row a sample, at least one, got shapes {shapes}")
    return shapes[0][0]


def condition_number(kernel: Num[Array, "n n"] | Num[np.ndarray, "n n"]) -> float:
    """Largest over smallest eigenvalue of a kernel, infinity if the smallest is zero up to rounding in the kernel's own precision.

    Raises:
        ValueError: if `kernel` is not a finite, symmetric matrix.
    """
    K = np.asarray(kernel)
    K = K if np.issubdtype(K.dtype, np.inexact) else K.astype(float)
    check_square("kernel", K)
    rounding = float(np.finfo(K.dtype).eps) * len(K)
    if np.max(np.abs(K - K.T)) > rounding * np.max(np.abs(K)):
        raise ValueError("kernel must be symmetric")
    eigenvalues = np.linalg.eigvalsh(K.astype(float))
    return float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > rounding * eigenvalues[-1] else np.inf


# --- Kernels from factors --------------------------------------------------------------------------------------------

SMALLEST_SPLIT: Final = 256
"""Kernels of so many samples are formed by halves: the products of smaller blocks cost more than symmetry saves."""


@jax.jit
def _kernel(factors: Factors) -> Array:
    """The kernel on one batch: each off-diagonal block once, its transpose by symmetry."""
    n = len(factors.Q)
    if n < SMALLEST_SPLIT:
        return _cross_kernel(factors, factors)
    upper, lower = (jax.tree.map(lambda leaf, rows=rows: leaf[rows] if leaf.ndim else leaf, factors) for rows in _halves(n))
    corner = _cross_kernel(lower, upper)
    return jnp.block([[_kernel(upper), corner.T], [corner, _kernel(lower)]])


def _halves(n: int) -> tuple[slice, slice]:
    return slice(0, n // 2), slice(n // 2, n)


@jax.jit
def _cross_kernel(here: Factors, there: Factors) -> Array:
    return add_products(here, there, jnp.zeros((len(here.Q), len(there.Q)), here.Q.dtype))


def add_products(here: Factors, there: Factors, K: Any) -> Any:
    """The kernel, added to zeros `K` of JAX, NumPy or, with factors of its kind, PyTorch."""
    for left, right in zip(here.layers, there.layers, strict=True):
        for A, G in zip(left.inputs, left.gradients, strict=True):
            for B, H in zip(right.inputs, right.gradients, strict=True):
                K = K + (A @ B.T + left.bias) * (G @ H.T)
    for g, h in zip(here.others, there.others, strict=True):
        K = K + g @ h.T
    return K


def add_squares(factors: Factors) -> Any:
    """The diagonal of the kernel, in JAX, NumPy or PyTorch, whichever the factors are of."""
    total: Any = 0.0
    for layer in factors.layers:
        for A, G in zip(layer.inputs, layer.gradients, strict=True):
            for B, H in zip(layer.inputs, layer.gradients, strict=True):
                total = total + ((A * B).sum(axis=1) + layer.bias) * (G * H).sum(axis=1)
    for g in factors.others:
        total = total + (g * g).sum(axis=1)
    return total


_diagonal = jax.jit(add_squares)


# --- One batch -------------------------------------------------------------------------------------------------------


class _Secret:
    """What cannot be used: whatever is done with it ends in one sentence."""

    def _refuse(self, *_: object) -> NoReturn:
        raise ValueError("a dense layer must be used through the hook only: the kernel would miss what is read past it")

    # JAX and NumPy begin with the attributes `__jax_array__` and `__array__`.
    __getattr__ = __getitem__ = __len__ = __bool__ = __neg__ = __abs__ = _refuse
    __add__ = __sub__ = __mul__ = __truediv__ = __matmul__ = __pow__ = _refuse
    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rmatmul__ = __rpow__ = _refuse


class _Hidden(_Secret, Sequence[Any]):
    """What the network gets in place of a layer: it can be handed to the hook, and nothing else can be done with it.

    It passes for a `Dense` where a network asks what it has got, and has as many leaves. It is none: no part of it can be taken, by name,
    by place or by unpacking.
    """

    def __init__(self, position: int, n_leaves: int) -> None:
        self.position = position
        self.leaves = [_Secret() for _ in range(n_leaves)]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return Dense


def _show(layer: _Hidden, leaves: Iterable[object]) -> _Hidden:
    """The layer again, if all its leaves are what they were."""
    return layer if all(a is b for a, b in zip(leaves, layer.leaves, strict=True)) else layer._refuse()


jax.tree_util.register_pytree_node(_Hidden, lambda layer: (layer.leaves, layer), _show)


def _is_dense(node: Any) -> bool:
    return isinstance(node, Dense)


@partial(jax.jit, static_argnums=0)
def _factors(network: Network, parameters: PyTree, inputs: PyTree) -> Factors:
    n = count_samples(inputs)
    dtype = _precision(parameters)
    nodes, structure = jax.tree.flatten(parameters, is_leaf=_is_dense)
    layers = [node for node in nodes if isinstance(node, Dense)]
    free = [node for node in nodes if not isinstance(node, Dense)]

    def evaluate(free: list[Array], inputs: PyTree, affine: Callable[[int, Array], Array]) -> Array:
        """The network, with `affine` for the layer at a position among the layers."""
        rows, here = count_samples(inputs), _trace_state("nnx")

        def hook(layer: Dense, a: Array) -> Array:
            if _trace_state("nnx") != here:
                raise ValueError(
                    "dense must be called in plain code, jax.jit or jax.lax.scan: in jax.checkpoint, vmap, grad, or a cond or while_loop "
                    "that depends on numbers, the kernel cannot see what enters the layer"
                )
            if not issubclass(type(layer), _Hidden):  # `isinstance` would ask what it passes for
                raise ValueError("dense must be called with a layer of the parameters, as it is, got another one")
            position: int = layer.position  # type: ignore[attr-defined]
            d_in = layers[position].weight.shape[0]
            if a.shape != (rows, d_in):
                raise ValueError(f"dense must be called with one row a sample, here of shape {(rows, d_in)}, got {a.shape}")
            return affine(position, a)

        hidden = (_Hidden(position, len(jax.tree.leaves(layer))) for position, layer in enumerate(layers))
        rest = iter(free)
        filled = [next(hidden) if isinstance(node, Dense) else next(rest) for node in nodes]
        with jax.disable_jit():  # what enters a layer inside a nested trace could not be brought out of it
            values = network(jax.tree.unflatten(structure, filled), inputs, hook)
        if jnp.shape(values) != (rows,):
            raise ValueError(f"network must return one value a sample, shape {(rows,)}, got {jnp.shape(values)}")
        return values

    calls: list[int] = []

    def record(position: int, a: Array) -> Array:
        calls.append(position)
        return dense(layers[position], a)

    jax.eval_shape(partial(evaluate, affine=record), free, inputs)

    def disturbed(disturbances: list[Array]) -> tuple[Array, list[Array]]:
        entered: list[Array] = []

        def disturb(position: int, a: Array) -> Array:
            entered.append(a)
            return dense(layers[position], a) + disturbances[len(entered) - 1]

        return evaluate(free, inputs, disturb), entered

    zeros = [jnp.zeros((n, layers[position].weight.shape[1]), dtype) for position in calls]
    values, backward, entered = jax.vjp(disturbed, zeros, has_aux=True)
    (left,) = backward(jnp.ones_like(values))

    def alone(free: list[Array], sample: PyTree) -> Array:
        return evaluate(free, jax.tree.map(lambda leaf: leaf[None], sample), lambda position, a: dense(layers[position], a))[0]

    # Nothing to differentiate if every parameter sits in a dense layer, which is the rule.
    columns = jax.vmap(jax.grad(alone), (None, 0))(free, inputs) if free else []
    found = [
        LayerFactors(
            tuple(a for a, at in zip(entered, calls, strict=True) if at == position),
            tuple(g for g, at in zip(left, calls, strict=True) if at == position),
            jnp.asarray(0.0 if layer.bias is None else 1.0, dtype),
        )
        for position, layer in enumerate(layers)
    ]
    return Factors(values, tuple(found), tuple(column.reshape(n, -1) for column in columns))


def _layer_update(factors: LayerFactors, layer: Dense, zeta: Array) -> Dense:
    weight, bias = jnp.zeros_like(layer.weight), None if layer.bias is None else jnp.zeros_like(layer.bias)
    for A, G in zip(factors.inputs, factors.gradients, strict=True):
        scaled = zeta[:, None] * G
        if (A.shape[1], G.shape[1]) != weight.shape:
            raise ValueError(f"parameters must be those of the factors: a layer has shape {weight.shape}, not {(A.shape[1], G.shape[1])}")
        weight += A.T @ scaled
        bias = None if bias is None else bias + scaled.sum(axis=0)
    return Dense(weight, bias)


# --- What it costs ---------------------------------------------------------------------------------------------------

_told: set[tuple[Any, ...]] = set()


def tell_columns(parameters: PyTree, *, always: bool = False) -> None:
    """Warn, once for parameters of the same names and shapes, that columns of the Jacobian are formed for many, and what that costs.

    Args:
        parameters: a pytree of `Dense` layers and arrays; only its shapes are used.
        always: not only where the columns are the greater part of the cost, but for every array of several dimensions.
    """
    nodes = jax.tree_util.tree_leaves_with_path(parameters, is_leaf=_is_dense)
    free = {jax.tree_util.keystr(path, simple=True, separator="/"): np.shape(a) for path, a in nodes if not isinstance(a, Dense)}
    layered = sum(sum(np.shape(node.weight)) for _, node in nodes if isinstance(node, Dense))
    size = sum(map(math.prod, free.values()))
    matrices = [name for name in sorted(free, key=lambda name: -math.prod(free[name])) if len(free[name]) > 1]
    told = (*free.items(), layered)
    if told in _told or not (size > max(SMALL, 4 * layered) or (always and matrices)):
        return
    _told.add(told)
    # A layer keeps what enters and what leaves it.
    kept = sum(math.prod(shape[:-1]) + shape[-1] if len(shape) > 1 else math.prod(shape) for shape in free.values())
    names = ", ".join(matrices[:3]) + (", …" if len(matrices) > 3 else "")
    warnings.warn(
        f"{size:,} parameters are in no dense layer{f' ({names})' if names else ''}: for n samples n x {size:,} numbers of the Jacobian"
        f" are kept and multiplied, where dense layers of these shapes need about n x {kept:,}. Call the layers through the hook, or see"
        " deadly_triad.adapters for networks of Flax, Equinox and PyTorch.",
        stacklevel=3,
    )


# --- Refusals --------------------------------------------------------------------------------------------------------


def _precision(parameters: PyTree) -> np.dtype[Any]:
    leaves = jax.tree.leaves(parameters)
    if not leaves:
        raise ValueError("parameters must hold at least one array")
    if not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves):
        raise ValueError("parameters must hold real numbers only, got an array of another type")
    dtype = np.dtype(jnp.result_type(*leaves))
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"parameters must be float32 or float64, got {dtype}: a kernel needs more digits than that has")
    return dtype


def _follow(parameters: PyTree, inputs: PyTree) -> PyTree:
    """The inputs in the precision of the parameters; what is not real, such as an action, stays."""
    dtype = _precision(parameters)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else None), inputs)


def check_make(here: Factors, there: Factors) -> None:
    """Refuse two batches that one network cannot have made."""

    def make(factors: Factors) -> list[Any]:
        calls = [[(A.shape[1], G.shape[1]) for A, G in zip(layer.inputs, layer.gradients, strict=True)] for layer in factors.layers]
        return [calls, [g.shape[1] for g in factors.others]]

    if make(here) != make(there):
        raise ValueError("other must come from the same network: its layers are called differently or have other sizes")


def _check_numbers(network: Network, parameters: PyTree, inputs: PyTree, factors: Factors, most: int) -> None:
    n = len(factors.Q)
    rows = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))
    try:
        finite, seen, off = jax.device_get(_flaws(network, parameters, inputs, factors, rows))
    except (TypeError, ValueError) as reason:
        raise ValueError("network must not mix samples, but a sample alone cannot be evaluated") from reason
    for name, fine in zip(("parameters", "inputs", "values and gradients of the network"), finite, strict=True):
        if not fine:
            raise ValueError(f"{name} must be finite, got NaN or infinity among them")
    if not seen:
        raise ValueError("network must use dense layers through the hook only, but its values are others when the layers are hidden")
    # Rounding may switch a relu at its kink on or off, in a sample here and there: so the majority decides about all but values.
    for name, share, allowed in zip(("value", "gradient", "input of a layer"), off, (0.0, 0.5, 0.5), strict=True):
        if share > allowed:
            raise ValueError(f"network must not mix samples, but the {name} of a sample alone is another than in the batch")


@partial(jax.jit, static_argnums=0)
def _flaws(network: Network, parameters: PyTree, inputs: PyTree, factors: Factors, rows: Array) -> tuple[list[Array], Array, list[Array]]:
    """What is finite; whether the network has the same values with its layers in sight; and which share of the rows is off alone."""

    def finite(tree: PyTree) -> Array:
        return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))

    def single(sample: PyTree) -> tuple[Array, Factors]:
        row = jax.tree.map(lambda leaf: leaf[None], sample)
        found = _factors(network, parameters, row)
        return network(parameters, row, dense)[0], jax.tree.map(lambda leaf: leaf[0] if leaf.ndim else leaf, found)

    def share(alone: list[Array], together: list[Array]) -> Array:
        """The largest share of rows that differ, in units of the largest row, over pairs of arrays."""
        shares = [jnp.zeros(())]
        for here, there in zip(alone, together, strict=True):
            gaps = jnp.linalg.norm((here - there[rows]).reshape(len(rows), -1), axis=1)
            shares.append(jnp.mean(gaps > tolerance * jnp.max(jnp.linalg.norm(there.reshape(len(there), -1), axis=1))))
        return jnp.max(jnp.array(shares))

    tolerance = float(np.finfo(factors.Q.dtype).eps) ** 0.5
    in_sight, alone = jax.vmap(single)(jax.tree.map(lambda leaf: leaf[rows], inputs))
    return (
        [finite(parameters), finite(inputs), finite(factors)],
        jnp.all(jnp.abs(in_sight - alone.Q) <= tolerance * jnp.max(jnp.abs(factors.Q))),
        [
            share([alone.Q], [factors.Q]),
            share(_at_calls(alone, "gradients"), _at_calls(factors, "gradients")),
            share(_at_calls(alone, "inputs"), _at_calls(factors, "inputs")),
        ],
    )


def _at_calls(factors: Factors, part: str) -> list[Array]:
    return [array for layer in factors.layers for array in getattr(layer, part)]
