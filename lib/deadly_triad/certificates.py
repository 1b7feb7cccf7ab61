r"""Is there a norm in which every matrix of a set contracts?

A map whose differences are $M (x - y)$ with some $M$ in the convex hull of $M_1, …, M_m$ contracts in a norm whenever all $M_k$ do. The
least modulus that any norm can give is the *joint spectral radius*, the limit of the largest $\|M_{k_1} \cdots M_{k_t}\|^{1/t}$ (Rota &
Strang 1960; Jungers 2009). Longer products bound it ever more closely, at a cost that explodes. From above, by a norm that can be checked:

- the best weighted sup norm, from the Perron vector of $v \mapsto \max_k |M_k| v$;
- a common quadratic norm, from a linear matrix inequality.

From below, by the spectral radius of any product. Two matrices whose powers tend to 0, and whose product has the eigenvalue -1:

>>> from deadly_triad.fixed_point import EUCLIDEAN
>>> pair = np.array([[[0.0, 1.0], [-0.8, 0.0]], [[0.0, 0.8], [-1.0, 0.0]]])
>>> low, high = joint_spectral_bounds(pair, EUCLIDEAN, 4)
>>> round(low, 6), round(high, 6)
(1.0, 1.0)
>>> [round(float(max(abs(np.linalg.eigvals(M)))), 3) for M in pair]
[0.894, 0.894]
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse
from jaxtyping import Float
from numpy.typing import ArrayLike

from deadly_triad._checks import Numbers, as_floats, check_count, check_finite, check_is
from deadly_triad.fixed_point import Norm, weighted_sup_norm

MOST_PRODUCTS = 100_000
NARROWEST = 1e-8
"""The smallest weight of a weighted sup norm, relative to the largest."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """A norm and the modulus that all matrices of a set have in it; below 1 it proves that every product of them tends to 0.

    Attributes:
        norm: the norm.
        modulus: the largest of the matrices' induced norms, computed from `norm` itself and not taken from a solver.
    """

    norm: Norm
    modulus: float


def weighted_sup_certificate(matrices: Numbers[ArrayLike, "m n n"], *, max_steps: int = 2000) -> Certificate:
    r"""The weighted sup norm $\max_i |x_i| / w_i$ in which the matrices have the least modulus.

    In such a norm the modulus is $\max_i F(w)_i / w_i$ with $F(w) = \max_k |M_k| w$, entry by entry. F is monotone and homogeneous, so the
    least value is its (non-linear) Perron root, and for one matrix the spectral radius of $|M|$ (Horn & Johnson 2013, cor. 8.1.31). It is
    approached by power iteration on F, of which the diagonal that all matrices share is taken away first and half the size of the rest
    added: neither changes the eigenvector. If the best weights tend to 0 somewhere, the modulus is the infimum only up to `NARROWEST`.

    Args:
        matrices: shape (m, n, n).
        max_steps: of the power iteration.

    Raises:
        ValueError: if `matrices` is not a finite, non-empty stack of square matrices, or `max_steps` is not positive.
    """
    matrices, max_steps = _check_stack(matrices), check_count("max_steps", max_steps)
    sizes = np.abs(matrices)
    shared = np.min(np.diagonal(sizes, axis1=1, axis2=2))

    def rest(weights: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return np.max(sizes @ weights, axis=0) - shared * weights

    weights = np.ones(sizes.shape[1])
    best, best_weights, push = np.inf, weights, np.max(rest(weights)) / 2
    for _ in range(max_steps):
        image = rest(weights)
        ratios = image / weights
        if ratios.max() < best:
            best, best_weights = float(ratios.max()), weights
        if ratios.max() - ratios.min() <= 1e-13 * ratios.max():
            break
        weights = image + push * weights
        weights = np.maximum(weights / weights.max(), NARROWEST)
    return _certify(weighted_sup_norm(best_weights), matrices)


def quadratic_certificate(matrices: Numbers[ArrayLike, "m n n"]) -> Certificate | None:
    r"""A quadratic norm $\sqrt{x^\top H x}$ in which every matrix contracts, or None if the solver finds none.

    It maximises t subject to $H - M_k^\top H M_k \succeq t I$ and $\operatorname{tr} H = n$: there is such a norm exactly if the
    maximum is positive (Boyd et al. 1994, sec. 5.1). For one matrix that is a spectral radius below 1. The modulus is not the least
    that a quadratic norm can have.

    Args:
        matrices: shape (m, n, n).

    Raises:
        ValueError: if `matrices` is not a finite, non-empty stack of square matrices.
        ImportError: if Clarabel is missing, the extra `certificates`.
    """
    matrices = _check_stack(matrices)
    found = _solve_lyapunov(matrices)
    if found is None:
        return None
    H, t = found
    if not t > 0:
        return None
    try:
        certificate = _certify(Norm(2, scipy.linalg.cholesky(H)), matrices)
    except (np.linalg.LinAlgError, ValueError):
        return None
    return certificate if certificate.modulus < 1 else None


def _solve_lyapunov(matrices: Float[np.ndarray, "m n n"]) -> tuple[Float[np.ndarray, "n n"], float] | None:
    r"""H and the largest t of the linear matrix inequalities of `quadratic_certificate`, or None where the solver gives up.

    Clarabel minimises $q^\top x$ subject to $b - A x$ in a product of cones. Here $x$ is the upper triangle of H,
    column by column and with the entries off the diagonal times $\sqrt 2$, so that its length is that of H, and t.
    """
    try:
        import clarabel  # only who asks for it should need it
    except ImportError as reason:
        raise ImportError('quadratic_certificate needs Clarabel: pip install "deadly-triad[certificates]"') from reason

    n = matrices.shape[1]
    columns, rows = np.tril_indices(n)
    triangle = np.zeros((len(rows), n, n))
    places = np.arange(len(rows))
    triangle[places, rows, columns] = triangle[places, columns, rows] = np.where(rows == columns, 1.0, np.sqrt(0.5))
    identity = triangle.trace(axis1=1, axis2=2)
    # Steps are small: without this scale the whole inequality would drown in the solver's tolerance.
    scale = max(1e-12, max(float(np.linalg.norm(M - np.eye(n), 2)) for M in matrices))
    drops = [np.einsum("aij,bij->ab", triangle, triangle - M.T @ triangle @ M) / scale for M in matrices]
    A = np.block(
        [
            [identity, np.zeros(1)],  # the trace is n
            [-np.eye(len(rows)), np.zeros((len(rows), 1))],  # H is positive semidefinite
            *([-drop, identity[:, None]] for drop in drops),
        ]
    )
    b, q = np.zeros(len(A)), np.zeros(len(rows) + 1)
    b[0], q[-1] = n, -1
    cones = [clarabel.ZeroConeT(1), *[clarabel.PSDTriangleConeT(n)] * (len(matrices) + 1)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    solution = clarabel.DefaultSolver(scipy.sparse.csc_matrix((len(q), len(q))), q, scipy.sparse.csc_matrix(A), b, cones, settings).solve()
    # A solution that may be inaccurate is good enough: whatever it is, the norm is checked afterwards.
    if solution.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved):
        return None
    x = np.array(solution.x)
    return np.tensordot(x[:-1], triangle, 1), float(x[-1])


def joint_spectral_bounds(matrices: Numbers[ArrayLike, "m n n"], norm: Norm, length: int) -> tuple[float, float]:
    r"""Bounds on the joint spectral radius from all products of up to `length` factors.

    $$\max_{t, k} \varrho(M_{k_1} \cdots M_{k_t})^{1/t} \;\le\; \hat\varrho \;\le\; \min_t \max_k \|M_{k_1} \cdots M_{k_t}\|^{1/t}.$$

    Args:
        matrices: shape (m, n, n).
        norm: any norm; a good one makes the upper bound good.
        length: longest product, at most `MOST_PRODUCTS`; there are m^length of them.

    Returns:
        The lower and the upper bound.

    Raises:
        ValueError: if `matrices` is not a finite, non-empty stack of square matrices, `norm` has another size, `length` is not positive or
            too large, or there are more than `MOST_PRODUCTS` products.
    """
    matrices, length = _check_stack(matrices), check_count("length", length, most=MOST_PRODUCTS)
    check_is("norm", norm, Norm)
    norm.check_size("matrices", matrices.shape[1])
    if len(matrices) ** length > MOST_PRODUCTS:
        raise ValueError(f"length must make at most {MOST_PRODUCTS} products of {len(matrices)} matrices, got {length}")
    # Norms in their own coordinates, once: then all products have the plain norm of that order.
    scaled = matrices if norm.scale is None else norm.scale @ matrices @ np.linalg.inv(norm.scale)
    low, high, products = 0.0, np.inf, np.eye(matrices.shape[1])[None]
    for t in range(1, length + 1):
        products = (products[:, None] @ scaled[None]).reshape(-1, *scaled.shape[1:])
        low = max(low, float(np.abs(np.linalg.eigvals(products)).max() ** (1 / t)))
        high = min(high, float(np.linalg.norm(products, norm.order, axis=(1, 2)).max() ** (1 / t)))
    return low, high


def _certify(norm: Norm, matrices: Float[np.ndarray, "m n n"]) -> Certificate:
    return Certificate(norm, max(norm.of_matrix(M) for M in matrices))


def _check_stack(matrices: Numbers[ArrayLike, "..."]) -> Float[np.ndarray, "m n n"]:
    matrices = as_floats("matrices", matrices)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or 0 in matrices.shape:
        raise ValueError(f"matrices must have shape (m, n, n), got {matrices.shape}")
    return check_finite("matrices", matrices)
