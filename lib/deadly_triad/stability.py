r"""The one verdict: given $M$, when does $x \mapsto x - \alpha (M x - c)$ settle?

Expected linear TD asks it with $M = A$ and deep Q-learning, frozen at one step, with $M = K D (I - \gamma P)$. The error of the
iteration is multiplied by $I - \alpha M$, whose eigenvalues are $1 - \alpha \lambda$, and

$$|1 - \alpha \lambda| < 1 \iff 0 < \alpha < 2 \operatorname{Re} \lambda / |\lambda|^2 .$$

So a positive step that settles the iteration exists exactly when every eigenvalue has a positive real part. Null directions of $M$
($\lambda = 0$) do not move at all; an iteration that has them, and is otherwise stable, settles at a point that depends on its start.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
from jaxtyping import Complex
from numpy.typing import ArrayLike

from deadly_triad._checks import Numbers, check_number, check_square, check_step_size
from deadly_triad.fixed_point import Norm

Verdict = Literal["stable", "semistable", "unstable"]


@dataclass(frozen=True, eq=False)
class Stability:
    r"""When $x \mapsto x - \alpha (M x - c)$ settles.

    Attributes:
        eigenvalues: of $M$, sorted by real part, shape (n,).
        n_null: how many of them are zero.
        verdict: "stable" when all have a positive real part; "semistable" when the others are zero and $M$ has a full set of
            eigenvectors for them; else "unstable".
        largest_stable_step: every step size strictly below it settles the iteration, and neither it nor any above does; 0 when no step
            does, infinity when $M = 0$. With null directions that holds for $c$ in the range of $M$; any other $c$ makes them drift.
    """

    eigenvalues: Complex[np.ndarray, " n"]
    n_null: int
    verdict: Verdict
    largest_stable_step: float

    def error_factor(self, step_size: float) -> float:
        r"""Largest $|1 - \alpha \lambda|$ over the non-zero eigenvalues: the asymptotic factor of the error per step.

        It is 0 when $M = 0$, because then there is no error that could move.

        Raises:
            ValueError: if `step_size` is not positive.
        """
        step_size = check_step_size(step_size)
        moving = self.eigenvalues[np.argsort(np.abs(self.eigenvalues))[self.n_null :]]
        return float(np.max(np.abs(1 - step_size * moving), initial=0.0))


def analyse_stability(matrix: Numbers[ArrayLike, "n n"], *, null_tolerance: float = 1e-10) -> Stability:
    r"""Read off the spectrum of $M$ when $x \mapsto x - \alpha (M x - c)$ settles.

    Args:
        matrix: $M$, real, shape (n, n), not necessarily symmetric.
        null_tolerance: eigenvalues up to `null_tolerance` times $\|M\|_2$ count as zero, and so do real parts; in [0, 1). In floating
            point zero and tiny cannot be told apart, and a defective eigenvalue of multiplicity $m$ is only known to $\epsilon^{1/m}$.

    Raises:
        ValueError: if `matrix` is not finite and square, has an eigenvalue beyond the range of floating point, or `null_tolerance` is not
            in [0, 1).

    A rotation, however slow, is not settled by any step; damping it settles it:

    >>> analyse_stability(np.array([[0.0, 1.0], [-1.0, 0.0]])).verdict
    'unstable'
    >>> round(analyse_stability(np.array([[1.0, 1.0], [-1.0, 1.0]])).largest_stable_step, 12)
    1.0
    """
    matrix = check_square("matrix", matrix)
    null_tolerance = check_number("null_tolerance", null_tolerance, "lie in [0, 1)", lambda number: 0 <= number < 1)
    # A power of two near the largest entry: dividing by it costs no digit, and then no square leaves the range of floating point.
    size = 2.0 ** (int(np.frexp(np.abs(matrix).max())[1]) - 1)
    scaled = matrix / size
    relative = np.linalg.eigvals(scaled).astype(complex)
    relative = relative[np.lexsort((relative.imag, relative.real))]
    with np.errstate(over="ignore", invalid="ignore"):
        eigenvalues = relative * size
    if not np.all(np.isfinite(eigenvalues)):
        raise ValueError(f"matrix must have eigenvalues within the range of floating point, got entries up to {size:.6g}")
    tolerance = null_tolerance * float(np.linalg.norm(scaled, 2))
    null = np.abs(relative) <= tolerance
    n_null, moving = int(null.sum()), relative[~null]
    # A zero eigenvalue without its eigenvector (a Jordan block) drifts linearly under the iteration.
    defective = n_null and len(matrix) - int(np.linalg.matrix_rank(scaled, tol=tolerance)) < n_null
    if defective or np.any(moving.real <= tolerance):
        return Stability(eigenvalues, n_null, "unstable", 0.0)
    step = float(np.min(2 * moving.real / np.abs(moving) ** 2, initial=np.inf))
    return Stability(eigenvalues, n_null, "semistable" if n_null else "stable", step / size)


def spectral_radius(matrix: Numbers[ArrayLike, "n n"]) -> float:
    r"""The largest modulus of an eigenvalue, $\rho(M)$.

    Raises:
        ValueError: if `matrix` is not finite and square.
    """
    return float(np.max(np.abs(np.linalg.eigvals(check_square("matrix", matrix)))))


def contraction_norm(matrix: Numbers[ArrayLike, "n n"], modulus: float | None = None) -> Norm:
    r"""A quadratic norm in which $x \mapsto M x$ contracts with the given modulus; it exists when $\rho(M) < \beta$.

    It is $\|x\|_H^2 = x^\top H x$ with $H = \sum_k \beta^{-2k} (M^k)^\top M^k$, the solution of Stein's equation
    $H = I + \beta^{-2} M^\top H M$, so that $\|M x\|_H^2 = \beta^2 (\|x\|_H^2 - \|x\|^2) < \beta^2 \|x\|_H^2$
    (Horn & Johnson 2013, lemma 5.6.10 gives a norm for each $\beta > \rho$; this is a Lyapunov construction of one).

    Args:
        matrix: $M$, shape (n, n).
        modulus: $\beta$; by default halfway between the spectral radius and 1.

    Raises:
        ValueError: if the spectral radius is not below `modulus`, `modulus` is not below 1, or the norm is so stretched that float64
            cannot represent it.
    """
    matrix = check_square("matrix", matrix)
    radius = spectral_radius(matrix)
    between = f"lie strictly between the spectral radius {radius:.6g} and 1"
    modulus = check_number("modulus", (radius + 1) / 2 if modulus is None else modulus, between, lambda number: radius < number < 1)
    scaled = matrix.T / modulus
    with warnings.catch_warnings():
        warnings.simplefilter("error", scipy.linalg.LinAlgWarning)
        try:
            h = scipy.linalg.solve_discrete_lyapunov(scaled, np.eye(len(matrix)))
            return Norm(2, scipy.linalg.cholesky((h + h.T) / 2))
        except (scipy.linalg.LinAlgWarning, np.linalg.LinAlgError) as reason:
            raise ValueError("matrix must be less far from normal: its norm cannot be told from a degenerate one in float64") from reason
