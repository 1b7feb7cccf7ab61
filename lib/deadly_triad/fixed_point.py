r"""Fixed points of maps on $\mathbb{R}^n$: iteration, modulus, Banach's bounds.

A map $f$ with $\|f(x) - f(y)\| \le \beta \|x - y\|$ for all $x, y$ is $\beta$-Lipschitz; with $\beta < 1$ it is a *contraction* with
*modulus* $\beta$. On a complete space a contraction of the space into itself has exactly one fixed point $x^*$, every iteration
$x_{n+1} = f(x_n)$ reaches it, and the error is bounded before the run ($\beta^n \|x_1 - x_0\| / (1 - \beta)$) and after it
($\beta \|x_n - x_{n-1}\| / (1 - \beta)$) (Banach 1922). The modulus belongs to the pair of map *and* norm, so norms are values here.

The cosine contracts $[0, 1]$ with modulus $\sin 1$, and its fixed point is the Dottie number:

>>> import numpy as np
>>> trace = iterate(np.cos, np.array([1.0]), tolerance=1e-12)
>>> trace.outcome, round(float(trace.limit[0]), 10)
('converged', 0.7390851332)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from deadly_triad._checks import (
    Numbers,
    as_floats,
    check_count,
    check_entries,
    check_finite,
    check_image,
    check_is,
    check_number,
    check_square,
    keep,
)

Outcome = Literal["converged", "diverged", "stopped"]
Operator = Callable[[np.ndarray], np.ndarray]
"""A map of arrays to arrays of the same shape, such as a Bellman operator of one MDP."""


@dataclass(frozen=True, eq=False)
class Norm:
    r"""The norm $\|x\| = \|L x\|_p$, with $L$ the identity when `scale` is None.

    This family holds the four norms of the book: the p-norms, the weighted sup norm ($L$ diagonal, $p = \infty$) and the quadratic
    norm $\sqrt{x^\top H x}$ ($H = L^\top L$, $p = 2$).

    Attributes:
        order: $p$, one of 1, 2 and `np.inf`.
        scale: $L$, an invertible matrix of shape (n, n), or None.

    Raises:
        ValueError: if `order` is another or `scale` is not invertible.
    """

    order: float
    scale: Numbers[np.ndarray, "n n"] | None = None

    def __post_init__(self) -> None:
        keep(self, order=check_number("order", self.order, "be 1, 2 or inf", lambda order: order in (1, 2, np.inf)))
        if self.scale is not None:
            scale = check_square("scale", self.scale)
            # Rows of very different sizes are no loss of rank.
            sizes = np.max(np.abs(scale), axis=1, keepdims=True)
            if not sizes.all() or np.linalg.matrix_rank(scale / sizes) < len(scale):
                raise ValueError("scale must be invertible, got a singular matrix")
            keep(self, scale=scale)

    def __call__(self, x: Numbers[ArrayLike, "..."]) -> float:
        """The norm of `x`, an array of any shape read as one vector of its n entries.

        Raises:
            ValueError: if `x` is not finite, or has another number of entries than `scale` has columns.
        """
        x = check_finite("x", x)
        self.check_size("x", x.size)
        return self._length(x)

    def of_matrix(self, matrix: Numbers[ArrayLike, "n n"]) -> float:
        r"""The induced norm $\max_{x \ne 0} \|M x\| / \|x\|$: the exact modulus of the linear map $x \mapsto M x$.

        With $\|x\| = \|L x\|_p$ it is $\|L M L^{-1}\|_p$ (Horn & Johnson 2013, thm 5.6.7).

        Raises:
            ValueError: if `matrix` is not finite and square, or has another size than `scale`.
        """
        matrix = check_square("matrix", matrix)
        self.check_size("matrix", len(matrix))
        if self.scale is not None:
            matrix = np.linalg.solve(self.scale.T, (self.scale @ matrix).T).T
        return float(np.linalg.norm(matrix, self.order))

    def check_size(self, name: str, size: int) -> None:
        """Refuse vectors of `size` entries if `scale` has another size."""
        if self.scale is not None and size != len(self.scale):
            raise ValueError(f"{name} must fit the scale of the norm, {len(self.scale)} x {len(self.scale)}, got size {size}")

    def _length(self, x: Float[np.ndarray, "..."]) -> float:
        flat = x.ravel()
        return float(np.linalg.norm(flat if self.scale is None else self.scale @ flat, self.order))


SUP = Norm(np.inf)
EUCLIDEAN = Norm(2)


def weighted_sup_norm(weights: Numbers[ArrayLike, " n"]) -> Norm:
    r"""The norm $\max_i |x_i| / w_i$ for positive weights $w$ of shape (n,).

    Raises:
        ValueError: if a weight or its inverse is not positive and finite.
    """
    weights = as_floats("weights", weights)
    if weights.ndim != 1 or weights.size == 0:
        raise ValueError(f"weights must have shape (n,), got {weights.shape}")
    with np.errstate(divide="ignore", over="ignore"):
        inverses = 1 / weights
    right = (weights > 0) & (weights < np.inf) & (inverses < np.inf)
    check_entries("weights", weights, "be positive and finite, and so must their inverses", right)
    return Norm(np.inf, np.diag(inverses))


@dataclass(frozen=True, eq=False)
class Trace:
    """What an iteration did.

    Attributes:
        points: $x_0, …, x_T$, shape (N, ...) with N = T + 1.
        step_norms: $‖x_{t+1} - x_t‖$ for t = 0, …, T - 1, shape (N - 1,).
        outcome: "converged" when the last step was at most the tolerance; "diverged" when a point left the ceiling or stopped being
            finite (such a point is not kept unless it is finite); "stopped" when the allowed steps were used up.
    """

    points: Float[np.ndarray, "N ..."]
    step_norms: Float[np.ndarray, " N-1"]
    outcome: Outcome

    @property
    def n_steps(self) -> int:
        """Number of steps taken, T."""
        return len(self.step_norms)

    @property
    def limit(self) -> Float[np.ndarray, "..."]:
        """The last point of an iteration that converged.

        Raises:
            ValueError: if it did not converge, because then there is no limit to speak of.
        """
        if self.outcome != "converged":
            raise ValueError(f"the iteration {self.outcome} after {self.n_steps} steps and has no limit")
        return self.points[-1]


def iterate(
    f: Operator,
    start: Numbers[ArrayLike, "*shape"],
    *,
    norm: Norm = SUP,
    tolerance: float = 1e-10,
    max_steps: int = 10_000,
    ceiling: float = 1e100,
) -> Trace:
    r"""Iterate $x_{t+1} = f(x_t)$ from `start` until it converges, diverges or has taken `max_steps` steps.

    Args:
        f: from arrays of the shape of `start` to arrays of that shape.
        start: $x_0$, any shape.
        norm: measures the steps and the points.
        tolerance: converged means $\|x_{t+1} - x_t\| \le$ `tolerance`. With a tolerance of 0 only an exact fixed point ends the run.
        max_steps: the iteration never takes more.
        ceiling: a point of larger norm counts as diverged.

    Raises:
        ValueError: if `start` is not finite or has another size than `norm`, `tolerance` or `ceiling` is negative, `max_steps` is not
            positive, or `f` changes the shape.
    """
    start = check_finite("start", start)
    check_is("norm", norm, Norm)
    norm.check_size("start", start.size)
    tolerance, ceiling = _at_least_0("tolerance", tolerance), _at_least_0("ceiling", ceiling)
    max_steps = check_count("max_steps", max_steps)
    points, steps = [start], []
    outcome: Outcome = "stopped"
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(max_steps):
            point = check_image("f", f, points[-1])
            if not np.all(np.isfinite(point)):
                outcome = "diverged"
                break
            steps.append(norm._length(point - points[-1]))
            points.append(point)
            if not norm._length(point) <= ceiling:
                outcome = "diverged"
                break
            if steps[-1] <= tolerance:
                outcome = "converged"
                break
    return Trace(np.stack(points), np.array(steps), outcome)


def modulus_lower_bound(f: Operator, points: Numbers[ArrayLike, "m n"], norm: Norm = SUP) -> float:
    r"""The largest $\|f(x) - f(y)\| / \|x - y\|$ over all pairs of distinct `points`.

    Every pair proves that the modulus is at least its ratio; no finite number of pairs proves that it is not larger. For a linear
    map `Norm.of_matrix` is exact.

    Raises:
        ValueError: if there are no two distinct points, they are not finite or do not fit `norm`, or `f` changes their shape.
    """
    points = check_finite("points", points)
    check_is("norm", norm, Norm)
    if points.ndim != 2:
        raise ValueError(f"points must have shape (m, n), got {points.shape}")
    norm.check_size("points", points.shape[1])
    images = [check_finite("f(…)", check_image("f", f, x)) for x in points]
    ratios = [
        norm(images[i] - images[j]) / norm(points[i] - points[j])
        for i in range(len(points))
        for j in range(i)
        if norm(points[i] - points[j]) > 0
    ]
    if not ratios:
        raise ValueError("points must hold at least two distinct points")
    return max(ratios)


def a_priori_bound(modulus: float, first_step: float, n_steps: int) -> float:
    r"""Banach's bound $\|x_n - x^*\| \le \beta^n \|x_1 - x_0\| / (1 - \beta)$, known after one step.

    Args:
        modulus: $\beta$, in [0, 1).
        first_step: $\|x_1 - x_0\|$.
        n_steps: $n$.

    Raises:
        ValueError: if `modulus` is not in [0, 1), `first_step` or `n_steps` is negative, or `first_step` is not finite.

    >>> a_priori_bound(0.5, 1.0, 3)
    0.25
    """
    n_steps = check_count("n_steps", n_steps, least=0, most=2**63 - 1)
    return _modulus(modulus) ** n_steps * _step_norm("first_step", first_step) / (1 - _modulus(modulus))


def a_posteriori_bound(modulus: float, last_step: float) -> float:
    r"""Banach's bound $\|x_n - x^*\| \le \beta \|x_n - x_{n-1}\| / (1 - \beta)$, known after the $n$-th step.

    Args:
        modulus: $\beta$, in [0, 1).
        last_step: $\|x_n - x_{n-1}\|$.

    Raises:
        ValueError: if `modulus` is not in [0, 1) or `last_step` is negative or not finite.

    >>> a_posteriori_bound(0.5, 0.25)
    0.25
    """
    return _modulus(modulus) * _step_norm("last_step", last_step) / (1 - _modulus(modulus))


def _modulus(modulus: float) -> float:
    return check_number("modulus", modulus, "lie in [0, 1)", lambda number: 0 <= number < 1)


def _at_least_0(name: str, value: float) -> float:
    return check_number(name, value, "be at least 0", lambda number: number >= 0)


def _step_norm(name: str, value: float) -> float:
    return check_number(name, value, "be at least 0 and finite", lambda number: 0 <= number < np.inf)
