r"""PreQN: Q-learning preconditioned by the kernel of its own minibatch.

Plain Q-learning moves the values of a minibatch, to first order, by $\alpha K (T Q - Q)$, with the neural tangent kernel $K$ of the
batch. Preconditioned Q-networks (Achiam, Knight & Abbeel 2019, sec. 5) solve

$$K \zeta = T Q - Q, \qquad \theta' = \theta + \alpha J^\top \zeta ,$$

so that to first order the values of the minibatch move by $\alpha (T Q - Q)$, as in a table. What the first order misses is left to a line
search: the step is shortened until the values have moved in the right direction,

$$\cos(Q_{\theta'} - Q_\theta, \; T Q - Q) \ge \eta .$$

$K$ is ill-conditioned, and singular when a sample occurs twice. So what is solved is $(K + \epsilon \bar K I) \zeta = \delta$ with the mean
diagonal $\bar K$, by a Cholesky factor, with steps of iterative refinement that take most of the shift out again.

>>> K, delta = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, 0.0])
>>> [round(float(z), 4) for z in solve_kernel(K, delta).solution]
[0.6667, -0.3333]
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Bool, Float, Int, PyTree

from deadly_triad.networks import Network, dense
from deadly_triad.ntk import Factors, kernel_factors, pull_back


class Settings(NamedTuple):
    r"""What PreQN is told.

    Attributes:
        step_size: $\alpha$, the first step that is tried; 1 would move the minibatch all the way to its targets.
        alignment: $\eta$, the least cosine that is accepted, below 1.
        decay: by which factor the step is shortened when it is rejected, in (0, 1).
        max_backtracks: how often; after that nothing is changed.
        shift: $\epsilon$, relative to the mean diagonal of $K$.
        refinements: steps of iterative refinement.
    """

    step_size: float = 0.1
    alignment: float = 0.97
    decay: float = 0.5
    max_backtracks: int = 10
    shift: float = 1e-4
    refinements: int = 2


class Solution(NamedTuple):
    r"""A solution of $K \zeta = \delta$, as good as the conditioning allows.

    Attributes:
        solution: $\zeta$, shape (n,); zero where the factorisation failed.
        residual: $\|K \zeta - \delta\| / \|\delta\|$; 1 where it failed, 0 for $\delta = 0$.
        failed: whether the shifted matrix was not positive definite in floating point.
    """

    solution: Float[Array, " n"]
    residual: Float[Array, ""]
    failed: Bool[Array, ""]


class Report(NamedTuple):
    """What one update did.

    Attributes:
        alignment: the cosine of the accepted step; of the last one tried, if none was accepted.
        backtracks: how often the step was shortened.
        accepted: whether the parameters were changed.
        step_size: of the accepted step; 0 if there is none.
        residual: of the linear system (see `Solution`).
        td_error: root mean square of $T Q - Q$ on the minibatch before the update.
        largest_value: the largest |Q| on the minibatch before the update.
    """

    alignment: Float[Array, ""]
    backtracks: Int[Array, ""]
    accepted: Bool[Array, ""]
    step_size: Float[Array, ""]
    residual: Float[Array, ""]
    td_error: Float[Array, ""]
    largest_value: Float[Array, ""]


def check_settings(settings: Settings) -> None:
    """Refuse settings outside their ranges; for use before `jax.jit`.

    Raises:
        ValueError: it names the setting.
    """
    if not 0 < settings.step_size < float("inf"):
        raise ValueError(f"step_size must be positive and finite, got {settings.step_size}")
    if not -1 <= settings.alignment < 1:
        raise ValueError(f"alignment must lie in [-1, 1), got {settings.alignment}")
    if not 0 < settings.decay < 1:
        raise ValueError(f"decay must lie in (0, 1), got {settings.decay}")
    if settings.max_backtracks < 0 or settings.refinements < 0:
        raise ValueError(f"max_backtracks and refinements must be at least 0, got {settings.max_backtracks} and {settings.refinements}")
    if not 0 <= settings.shift < float("inf"):
        raise ValueError(f"shift must be at least 0 and finite, got {settings.shift}")


def solve_kernel(kernel: Float[Array, "n n"], delta: Float[Array, " n"], *, shift: float = 1e-4, refinements: int = 2) -> Solution:
    r"""Solve $K \zeta = \delta$ for a symmetric positive semidefinite $K$ that may be singular.

    Each refinement adds the solution of the shifted system for what is left, $\zeta \leftarrow \zeta + (K + s I)^{-1} (\delta - K \zeta)$:
    in the direction of an eigenvalue $\lambda$ the error falls by $s / (\lambda + s)$ each time, so what $K$ hardly sees stays small.

    Args:
        kernel: $K$.
        delta: $\delta$.
        shift: $s$ in units of the mean diagonal of $K$.
        refinements: how many.
    """
    shifted = kernel + shift * jnp.mean(jnp.diagonal(kernel)) * jnp.eye(len(delta), dtype=kernel.dtype)
    factor = cho_factor(shifted, lower=True)
    solution = cho_solve(factor, delta)
    for _ in range(refinements):
        solution = solution + cho_solve(factor, delta - kernel @ solution)
    failed = ~jnp.all(jnp.isfinite(solution))
    solution = jnp.where(failed, 0.0, solution)
    size = jnp.linalg.norm(delta)
    residual = jnp.where(size > 0, jnp.linalg.norm(kernel @ solution - delta) / jnp.where(size > 0, size, 1.0), 0.0)
    return Solution(solution, residual, failed)


def alignment(moved: Float[Array, " n"], delta: Float[Array, " n"]) -> Float[Array, ""]:
    """Cosine of the angle between how the values moved and where they should have gone; minus infinity if it is not defined.

    It is undefined when a value is not finite, or when nothing moved or should have moved. A line search must count that as failure,
    and a comparison with NaN would not.
    """
    scale_moved, scale_delta = jnp.max(jnp.abs(moved)), jnp.max(jnp.abs(delta))
    defined = jnp.isfinite(scale_moved) & jnp.isfinite(scale_delta) & (scale_moved > 0) & (scale_delta > 0)
    # Scaled first, so that squares neither overflow nor vanish.
    a = jnp.where(defined, moved / jnp.where(defined, scale_moved, 1.0), 0.0)
    b = jnp.where(defined, delta / jnp.where(defined, scale_delta, 1.0), 0.0)
    cosine = a @ b / jnp.where(defined, jnp.linalg.norm(a) * jnp.linalg.norm(b), 1.0)
    return jnp.where(defined, cosine, -jnp.inf)


def line_search(
    values_at: Callable[[PyTree], Float[Array, " n"]],
    parameters: PyTree,
    direction: PyTree,
    values: Float[Array, " n"],
    delta: Float[Array, " n"],
    settings: Settings,
) -> tuple[PyTree, Float[Array, ""], Int[Array, ""], Bool[Array, ""], Float[Array, ""]]:
    r"""Shorten the step from `parameters` along `direction` until the values move in the direction of `delta`.

    Args:
        values_at: $Q$ on the minibatch as a function of the parameters.
        parameters: $\theta$.
        direction: of the step; the first one that is tried is `settings.step_size` times it.
        values: $Q_\theta$ on the minibatch.
        delta: $T Q - Q$ on the minibatch.
        settings: of these `step_size`, `alignment`, `decay` and `max_backtracks` are used.

    Returns:
        The parameters (unchanged if no step was accepted), the last cosine, the number of backtracks, whether a step was accepted, and
        its size.
    """

    def propose(backtracks: Int[Array, ""]) -> tuple[PyTree, Array, Array]:
        step = jnp.asarray(settings.step_size, values.dtype) * settings.decay**backtracks
        proposal = jax.tree.map(lambda p, d: p + step * d, parameters, direction)
        return proposal, alignment(values_at(proposal) - values, delta), step

    def rejected(state: tuple[Any, ...]) -> Bool[Array, ""]:
        _, cosine, backtracks, _ = state
        return ~(cosine >= settings.alignment) & (backtracks < settings.max_backtracks)

    def shorten(state: tuple[Any, ...]) -> tuple[Any, ...]:
        backtracks = state[2] + 1
        proposal, cosine, step = propose(backtracks)
        return proposal, cosine, backtracks, step

    start = jnp.array(0)
    proposal, cosine, step = propose(start)
    proposal, cosine, backtracks, step = jax.lax.while_loop(rejected, shorten, (proposal, cosine, start, step))
    accepted = cosine >= settings.alignment
    kept = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), proposal, parameters)
    return kept, cosine, backtracks, accepted, jnp.where(accepted, step, 0.0)


@partial(jax.jit, static_argnames=("network", "settings"))
def preqn_update(
    network: Network, parameters: PyTree, inputs: PyTree, targets: Float[Array, " n"], settings: Settings
) -> tuple[PyTree, Report]:
    r"""One update of PreQN on a minibatch.

    Args:
        network: the function $Q_\theta$ (see `networks`); pass the same object each time, it is compiled once for each.
        parameters: $\theta$.
        inputs: n samples: arrays with one row a sample.
        targets: $T Q$ at the samples, such as $r + \gamma \max_{a'} Q_\theta(s', a')$ or $r + \gamma Q_\theta(s', \mu(s'))$.
        settings: see there; call `check_settings` once before.

    Returns:
        New parameters and a report. If the targets, the values or the linear system are not finite, or no step is aligned, the parameters
        come back unchanged and the report says so.
    """
    factors = kernel_factors(network, parameters, inputs)
    delta = targets - factors.Q
    found = solve_kernel(factors.kernel(), delta, shift=settings.shift, refinements=settings.refinements)
    return _search(network, parameters, inputs, factors, delta, found, settings)


@partial(jax.jit, static_argnames=("network", "settings"))
def plain_update(
    network: Network, parameters: PyTree, inputs: PyTree, targets: Float[Array, " n"], settings: Settings
) -> tuple[PyTree, Report]:
    r"""Q-learning without the preconditioner, with the same line search: $\theta' = \theta + \alpha J^\top (T Q - Q)$.

    With `alignment` -1 every finite step is accepted, and it is plain semi-gradient Q-learning. Arguments and result are those of
    `preqn_update`.
    """
    factors = kernel_factors(network, parameters, inputs)
    delta = targets - factors.Q
    return _search(network, parameters, inputs, factors, delta, Solution(delta, jnp.array(0.0), jnp.array(False)), settings)


def _search(
    network: Network, parameters: PyTree, inputs: PyTree, factors: Factors, delta: Float[Array, " n"], found: Solution, settings: Settings
) -> tuple[PyTree, Report]:
    direction = pull_back(factors, parameters, found.solution)
    kept, cosine, backtracks, accepted, step = line_search(
        lambda p: network(p, inputs, dense), parameters, direction, factors.Q, delta, settings
    )
    td_error, largest = jnp.sqrt(jnp.mean(delta**2)), jnp.max(jnp.abs(factors.Q))
    return kept, Report(cosine, backtracks, accepted, step, found.residual, td_error, largest)
