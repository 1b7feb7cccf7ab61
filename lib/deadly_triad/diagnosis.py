r"""From a network and a minibatch of transitions to the verdicts of the theory.

The batch has n pairs $x_i$ with weights $\rho_i$. Its target at pair i is $r_i + \gamma \sum_j B_{ij} Q(y_j)$, a mix of the values at m
*bootstrap pairs* $y_j$: one of them and weight 1 for $Q(s', \mu(s'))$ or for the greedy action, the probabilities of the actions for
Expected Sarsa, and a row of zeros where the episode ends. So the pairs that the update speaks of are the n of the batch together with
the m others, and only those of the batch carry weight. With the Jacobians $J$ and $J'$ of the values at the batch and at the bootstrap
pairs, the semi-gradient update $\theta' = \theta + \alpha J^\top D_\rho \delta$ moves, to first order, all n + m values by

$$\alpha \begin{pmatrix} K \\ K' \end{pmatrix} D_\rho \, \delta, \qquad K = J J^\top, \quad K' = J' J^\top .$$

That is $U_3$ with $D = \operatorname{diag}(\rho, 0)$ and a $P$ whose first n rows are $(0, B)$. With
$\delta = r + \gamma B Q(y) - Q(x)$ the temporal-difference errors obey an iteration of their own,

$$\delta' = (I - \alpha M) \, \delta, \qquad M = (K - \gamma B K') D_\rho, \quad \text{shape } (n, n) .$$

$M = (J - \gamma B J') \, J^\top D_\rho$ has the non-zero eigenvalues of $J^\top D_\rho (J - \gamma B J')$, which is the matrix A of linear
TD with the gradients as features, and those of $K_{\text{all}} D (I - \gamma P)$ on all n + m pairs. So `stability` is asked about $M$:
whether the errors of this batch die out if the kernel, and the choice of the bootstrap pairs, stay as they are.

A network with a single weight, at a pair whose successor has twice its value (w -> 2w):

>>> from deadly_triad.networks import Dense
>>> line = Dense(jnp.ones((1, 1)), None)
>>> places, following = jnp.array([[1.0], [2.0]]), jnp.array([[2.0], [2.0]])
>>> seen = diagnose(lambda p, x, hook: hook(p, x)[:, 0], line, places, following, discount=0.9, step_size=0.1, rho=np.array([1.0, 0.0]))
>>> seen.stability.verdict, round(float(seen.stability.eigenvalues.real[0]), 6)
('unstable', -0.8)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from deadly_triad._checks import check_discount, check_step_size
from deadly_triad.kernel_updates import Coupling, Rows, Theorem2, theorem_2
from deadly_triad.networks import Network
from deadly_triad.ntk import Factors, check_network, count_samples, gram, kernel_factors
from deadly_triad.stability import Stability, analyse_stability


@dataclass(frozen=True, eq=False)
class Diagnosis:
    r"""What the theory says of one network and one minibatch; `print` it.

    Attributes:
        coupling: $K$ and $\rho$ on the pairs of the batch.
        theorem_2: its conditions at the pairs of the batch. A bootstrap pair outside the batch has no weight and breaks (17) as soon as
            anything moves it, so where the conditions are broken here the theorem does not apply, and where they hold it applies to
            problems whose bootstrap pairs lie in the batch.
        stability: of the temporal-difference errors of the batch, with $M = (K - \gamma B K') D_\rho$. "semistable": some of them do not
            move, as when a pair occurs twice, and the others settle.
        matrix: $M$, shape (n, n).
        largest_step_with_fixed_targets: $2 / \lambda_{\max}(K D_\rho)$; longer steps overshoot even where nothing is bootstrapped, and
            infinity where nothing moves.
    """

    coupling: Coupling
    theorem_2: Theorem2
    stability: Stability
    matrix: Float[np.ndarray, "n n"]
    largest_step_with_fixed_targets: float

    @property
    def discount(self) -> float:
        r"""$\gamma$."""
        return self.theorem_2.discount

    @property
    def step_size(self) -> float:
        r"""$\alpha$."""
        return self.theorem_2.step_size

    @property
    def settles(self) -> bool:
        """Whether the errors that move die out at this step size."""
        return self.step_size < self.stability.largest_stable_step

    @property
    def factor(self) -> float:
        """By which the slowest error that moves shrinks in an update, in the long run; above 1 the fastest one grows by it."""
        return self.stability.error_factor(self.step_size)

    def __str__(self) -> str:
        seen, n = self.stability, len(self.matrix)
        real, largest = seen.eigenvalues.real, seen.largest_stable_step
        reach = f"below step size {largest:.6g}" if largest else "at no step size"
        return "\n".join(
            [
                f"Errors of {n} pairs, discount {self.discount:.6g}: {seen.verdict}, die out {reach}",
                f"     at step size {self.step_size:.6g}: {'die out' if self.settles else 'do not'}, factor {self.factor:.6g} an update",
                f"     real parts of eigenvalues: {real.min():.4g} to {real.max():.4g}; {seen.n_null} of {n} eigenvalues are zero",
                f"With fixed targets: settles below step size {self.largest_step_with_fixed_targets:.6g}",
                str(self.theorem_2),
            ]
        )

    def _repr_pretty_(self, printer: object, _cycle: bool) -> None:
        """Let a notebook show the report as text when it ends a cell."""
        printer.text(str(self))  # type: ignore[attr-defined]


def diagnose(
    network: Network,
    parameters: PyTree,
    inputs: PyTree,
    next_inputs: PyTree,
    *,
    discount: float,
    step_size: float,
    rho: Float[np.ndarray, " n"] | None = None,
    bootstrap: Float[np.ndarray, "n columns"] | None = None,
    ends: Bool[np.ndarray, " n"] | None = None,
    names: Sequence[str] | None = None,
) -> Diagnosis:
    r"""Diagnose a network on a minibatch: Theorem 2, the spectrum of the update, the verdict and the largest steps.

    The network is differentiated in the precision of its parameters, everything after that is float64. Of float32 gradients, eigenvalues
    below 1e-7 of the largest one are not to be trusted.

    Args:
        network: the function $Q_\theta$ (see `networks`).
        parameters: $\theta$.
        inputs: the n pairs of the batch.
        next_inputs: the m bootstrap pairs. What stands in those without weight is not looked at.
        discount: $\gamma$, in [0, 1).
        step_size: $\alpha$, of the update $\theta' = \theta + \alpha J^\top D_\rho \delta$.
        rho: $\rho$, the weights of the pairs, at least 0; 1/n each by default, the mean over the batch.
        bootstrap: $B$: either of shape (n, m), or of shape (n, k) with m = n k, when row i mixes the bootstrap pairs i k, …, i k + k - 1.
            Weights of at least 0 that sum to at most 1 in a row. By default m = n, and pair i bootstraps from pair i alone.
        ends: which transitions end the episode, and so bootstrap from nothing.
        names: what the report calls the pairs.

    Raises:
        ValueError: if an argument is not as said here, or as `kernel_factors`.
    """
    check_discount(discount)
    check_step_size(step_size)
    n, m = count_samples(inputs), count_samples(next_inputs)
    B = _bootstrap(bootstrap, n, m)
    if ends is not None:
        if np.shape(ends) != (n,) or np.asarray(ends).dtype != bool:
            raise ValueError(f"ends must be {n} booleans, one a transition, got shape {np.shape(ends)} of {np.asarray(ends).dtype}")
        B = np.where(np.asarray(ends)[:, None], 0.0, B)
    here = kernel_factors(network, parameters, inputs)
    coupling = Coupling(gram(here), np.full(n, 1 / n) if rho is None else np.asarray(rho, float))
    used = B.any(axis=0)
    across = np.zeros((m, n))
    if used.any():
        there = kernel_factors(network, parameters, jax.tree.map(lambda leaf: jnp.asarray(leaf)[used], next_inputs))
        across[used] = gram(there, here)
    matrix = error_matrix(coupling, across, B, discount)
    root = np.sqrt(coupling.rho)
    largest = float(np.linalg.eigvalsh(root[:, None] * coupling.kernel * root)[-1])
    return Diagnosis(
        coupling,
        theorem_2(coupling, discount, step_size, names),
        analyse_stability(matrix),
        matrix,
        2 / largest if largest > 0 else np.inf,
    )


def error_matrix(
    coupling: Coupling, across: Float[np.ndarray, "m n"], bootstrap: Float[np.ndarray, "n m"], discount: float
) -> Float[np.ndarray, "n n"]:
    r"""$M = (K - \gamma B K') D_\rho$ of the module's equation, shape (n, n).

    Args:
        coupling: $K$ and $\rho$ on the pairs of the batch.
        across: $K'$, between the bootstrap pairs and those of the batch, shape (m, n). Where the batch holds all pairs of an MDP it is $K$.
        bootstrap: $B$, shape (n, m); then it is $P$.
        discount: $\gamma$.

    Raises:
        ValueError: if the shapes do not fit, or `discount` is not in [0, 1).
    """
    check_discount(discount)
    n, m = len(coupling.rho), len(across)
    if across.shape != (m, n) or bootstrap.shape != (n, m):
        raise ValueError(f"across and bootstrap must have shapes (m, {n}) and ({n}, m), got {across.shape} and {bootstrap.shape}")
    return (coupling.kernel - discount * bootstrap @ across) * coupling.rho


def row_sums(
    network: Network,
    parameters: PyTree,
    inputs: PyTree,
    rho: Float[Array, " N"] | Float[np.ndarray, " N"] | None = None,
    *,
    block_size: int = 512,
) -> Rows:
    r"""The weighted row sums of the kernel of many samples, in blocks: never more than `block_size`² of its entries at a time.

    The layer inputs and gradients of all samples are kept, which is linear in N. By symmetry each block serves its rows and its columns.
    The sums are formed in the precision of the parameters.

    Args:
        network: the function (see `networks`).
        parameters: its parameters.
        inputs: N samples.
        rho: $\rho$, one weight a sample, not negative; all 1 by default.
        block_size: number of samples in a block.

    Raises:
        ValueError: if a weight is negative or not finite, `block_size` is not positive, or as `kernel_factors` for the first block; and if
            a value is not finite.
    """
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    N = count_samples(inputs)
    weights = np.ones(N) if rho is None else np.asarray(rho, float)
    if weights.shape != (N,):
        raise ValueError(f"rho must have shape ({N},), got {weights.shape}")
    if not np.all(np.isfinite(weights) & (weights >= 0)):
        raise ValueError("rho must hold non-negative, finite weights")
    B = min(block_size, N)
    check_network(network, parameters, jax.tree.map(lambda leaf: leaf[: min(B, 256)], inputs))
    # The last block is filled up with copies of the first sample, which weigh nothing.
    filled = jax.tree.map(lambda leaf: _fill(jnp.asarray(leaf), -N % B, B), inputs)
    diagonal, others = _block_sums(network, parameters, filled, np.pad(weights, (0, -N % B)).reshape(-1, B))
    own, others = np.asarray(diagonal, float).ravel()[:N] * weights, np.asarray(others, float).ravel()[:N]
    if not np.all(np.isfinite(own) & np.isfinite(others)):
        raise ValueError("the kernel must be finite, got NaN or infinity among its entries")
    return Rows(own, others)


def _bootstrap(weights: Float[np.ndarray, "n columns"] | None, n: int, m: int) -> Float[np.ndarray, "n m"]:
    """$B$ as a matrix, from any of its three forms."""
    if weights is None:
        if m != n:
            raise ValueError(f"next_inputs must hold {n} bootstrap pairs, one a transition, unless bootstrap mixes them, got {m}")
        return np.eye(n)
    B = np.asarray(weights, float)
    if B.shape != (n, m) and not (B.ndim == 2 and len(B) == n and B.size == m):
        raise ValueError(f"bootstrap must have shape ({n}, {m}), or ({n}, k) with {n} k = {m} bootstrap pairs, got {B.shape}")
    if not np.all(B >= 0) or np.any(B.sum(axis=1) > 1 + 1e-6):
        raise ValueError("bootstrap must hold weights of at least 0 that sum to at most 1 in every row")
    if B.shape == (n, m):
        return B
    matrix, k = np.zeros((n, m)), B.shape[1]
    for i in range(n):
        matrix[i, i * k : (i + 1) * k] = B[i]
    return matrix


def _fill(leaf: Array, padding: int, block_size: int) -> Array:
    return jnp.concatenate([leaf, jnp.repeat(leaf[:1], padding, axis=0)]).reshape(-1, block_size, *leaf.shape[1:])


@partial(jax.jit, static_argnums=0)
def _block_sums(network: Network, parameters: PyTree, blocks: PyTree, weights: Float[Array, "m B"]) -> tuple[Array, Array]:
    """Diagonal without weights and off-diagonal row sums with them, for inputs in m blocks of B samples; both of shape (m, B)."""
    factors = jax.lax.map(partial(kernel_factors, network, parameters), blocks)
    rho = jnp.asarray(weights, factors.Q.dtype)
    m, B = rho.shape
    rows, columns = np.triu_indices(m)
    off_diagonal_mask = 1 - jnp.eye(B, dtype=rho.dtype)

    def add(sums: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        i, j = pair
        here, there = (jax.tree.map(lambda leaf, at=at: leaf[at], factors) for at in (i, j))
        K = jnp.abs(here.cross_kernel(there)) * jnp.where(i == j, off_diagonal_mask, 1)
        sums = sums.at[i].add(K @ rho[j])
        return sums.at[j].add(jnp.where(i == j, 0, rho[i] @ K)), None

    sums, _ = jax.lax.scan(add, jnp.zeros_like(rho), (jnp.asarray(rows), jnp.asarray(columns)))
    return jax.lax.map(Factors.diagonal, factors), sums
