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

Outcome = Literal["converged", "diverged", "stopped"]


@dataclass(frozen=True, eq=False)
class Norm:
    r"""The norm $\|x\| = \|L x\|_p$, with $L$ the identity when `scale` is None.

    This family holds the four norms of the book: the p-norms, the weighted sup norm ($L$ diagonal, $p = \infty$) and the quadratic
    norm $\sqrt{x^\top H x}$ ($H = L^\top L$, $p = 2$).

    Attributes:
        order: $p$, one of 1, 2 and `np.inf`.
        scale: $L$, an invertible matrix of shape (n, n), or None.
    """

    order: float
    scale: Float[np.ndarray, "n n"] | None = None

    def __post_init__(self) -> None:
        if self.order not in (1, 2, np.inf):
            raise ValueError(f"order must be 1, 2 or inf, got {self.order}")
        if self.scale is not None:
            check_square("scale", self.scale)
            if np.linalg.matrix_rank(self.scale) < len(self.scale):
                raise ValueError("scale must be invertible, got a singular matrix")

    def __call__(self, x: Float[np.ndarray, "..."]) -> float:
        """The norm of `x`, an array of any shape read as one vector of its n entries."""
        flat = x.ravel()
        return float(np.linalg.norm(flat if self.scale is None else self.scale @ flat, self.order))

    def of_matrix(self, matrix: Float[np.ndarray, "n n"]) -> float:
        r"""The induced norm $\max_{x \ne 0} \|M x\| / \|x\|$: the exact modulus of the linear map $x \mapsto M x$.

        With $\|x\| = \|L x\|_p$ it is $\|L M L^{-1}\|_p$ (Horn & Johnson 2013, thm 5.6.7).
        """
        if self.scale is not None:
            matrix = np.linalg.solve(self.scale.T, (self.scale @ matrix).T).T
        return float(np.linalg.norm(matrix, self.order))


SUP = Norm(np.inf)
EUCLIDEAN = Norm(2)


def weighted_sup_norm(weights: Float[np.ndarray, " n"]) -> Norm:
    r"""The norm $\max_i |x_i| / w_i$ for positive weights $w$ of shape (n,).

    Raises:
        ValueError: if a weight is not positive and finite.
    """
    if not (np.all(np.isfinite(weights)) and np.all(weights > 0)):
        raise ValueError(f"weights must be positive and finite, got {weights}")
    return Norm(np.inf, np.diag(1 / weights))


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
    f: Callable[[np.ndarray], np.ndarray],
    start: Float[np.ndarray, "*shape"],
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
        ValueError: if `start` is not finite, `tolerance` is negative, `max_steps` is not positive, or `f` changes the shape.
    """
    check_finite("start", start)
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    if not max_steps >= 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    points, steps = [np.asarray(start, dtype=float)], []
    outcome: Outcome = "stopped"
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(max_steps):
            # Copies, because f may work in place or return the same buffer each time.
            point = np.array(f(points[-1].copy()), dtype=float)
            if point.shape != start.shape:
                raise ValueError(f"f must keep the shape {start.shape}, got {point.shape}")
            if not np.all(np.isfinite(point)):
                outcome = "diverged"
                break
            steps.append(norm(point - points[-1]))
            points.append(point)
            if not norm(point) <= ceiling:
                outcome = "diverged"
                break
            if steps[-1] <= tolerance:
                outcome = "converged"
                break
    return Trace(np.stack(points), np.array(steps), outcome)


def modulus_lower_bound(f: Callable[[np.ndarray], np.ndarray], points: Float[np.ndarray, "m n"], norm: Norm = SUP) -> float:
    r"""The largest $\|f(x) - f(y)\| / \|x - y\|$ over all pairs of distinct `points`.

    Every pair proves that the modulus is at least its ratio; no finite number of pairs proves that it is not larger. For a linear
    map `Norm.of_matrix` is exact.

    Raises:
        ValueError: if there are no two distinct points.
    """
    check_finite("points", points)
    images = [f(x) for x in points]
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
        ValueError: if `modulus` is not in [0, 1), or `first_step` or `n_steps` is negative.

    >>> a_priori_bound(0.5, 1.0, 3)
    0.25
    """
    _check_bound(modulus, first_step, "first_step")
    if n_steps < 0:
        raise ValueError(f"n_steps must be at least 0, got {n_steps}")
    return float(modulus**n_steps * first_step / (1 - modulus))


def a_posteriori_bound(modulus: float, last_step: float) -> float:
    r"""Banach's bound $\|x_n - x^*\| \le \beta \|x_n - x_{n-1}\| / (1 - \beta)$, known after the $n$-th step.

    Args:
        modulus: $\beta$, in [0, 1).
        last_step: $\|x_n - x_{n-1}\|$.

    Raises:
        ValueError: if `modulus` is not in [0, 1) or `last_step` is negative.

    >>> a_posteriori_bound(0.5, 0.25)
    0.25
    """
    _check_bound(modulus, last_step, "last_step")
    return float(modulus * last_step / (1 - modulus))


def _check_bound(modulus: float, step: float, name: str) -> None:
    if not 0 <= modulus < 1:
        raise ValueError(f"modulus must lie in [0, 1), got {modulus}")
    if not step >= 0:
        raise ValueError(f"{name} must be at least 0, got {step}")


def check_finite(name: str, array: Float[np.ndarray, "..."]) -> None:
    """Refuse an array with a NaN or an infinity, by name."""
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got NaN or infinity among its entries")


def check_square(name: str, matrix: Float[np.ndarray, "..."]) -> None:
    """Refuse anything but a finite, non-empty square matrix, by name."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    check_finite(name, matrix)
