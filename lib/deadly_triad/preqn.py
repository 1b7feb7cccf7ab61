r"""PreQN: Q-learning preconditioned by the kernel of its own minibatch.

Plain Q-learning moves the values of a minibatch, to first order, by $\alpha K (T Q - Q)$, with the neural tangent kernel $K$ of the
batch. Preconditioned Q-networks (Achiam, Knight & Abbeel 2019, sec. 5) solve

$$K \zeta = T Q - Q, \qquad \theta' = \theta + \alpha J^\top \zeta ,$$

so that to first order the values of the minibatch move by $\alpha (T Q - Q)$, as in a table. What the first order misses is left to a line
search: the step is shortened until the values have moved in the right direction,

$$\cos(Q_{\theta'} - Q_\theta, \; T Q - Q) \ge \eta .$$

$K$ is ill-conditioned, and singular when a sample occurs twice. So what is solved is $(K + \epsilon \bar K I) \zeta = \delta$ with the mean
diagonal $\bar K$, by a Cholesky factor, with steps of iterative refinement that take most of the shift out again.

`init` makes a state and `step` takes one update; `semi_gradient_step` is its rival without the preconditioner. They are pure and not
compiled. Put them under `jax.jit` with the network as a static argument: the numbers of `Settings` are arguments like others, so that
another step size compiles nothing and `jax.vmap` goes over settings as over seeds.

>>> K, delta = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, 0.0])
>>> [round(float(z), 4) for z in solve_kernel(K, delta).solution]
[0.6667, -0.3333]
>>> from deadly_triad.networks import init_mlp, value_network
>>> state = init(init_mlp(jax.random.key(0), [1, 64, 1]))
>>> inputs, targets = jnp.array([[0.0], [1.0]]), jnp.array([1.0, -1.0])
>>> update = jax.jit(step, static_argnames="network")
>>> for _ in range(100):
...     state, report = update(value_network("tanh"), state, inputs, targets, Settings())
>>> int(state.n_accepted), bool(report.td_error < 1e-4)
(100, True)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Bool, Float, Int, PyTree

from deadly_triad.networks import Network, dense
from deadly_triad.ntk import Factors, kernel_factors, pull_back


class Settings(NamedTuple):
    r"""What PreQN is told. Each entry is a number, or an array of them for `jax.vmap`.

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
        failed: whether there is no finite solution: the shifted matrix was not positive definite in floating point, or $\delta$ not finite.
    """

    solution: Float[Array, " n"]
    residual: Float[Array, ""]
    failed: Bool[Array, ""]


class State(NamedTuple):
    r"""Where a learner stands. One whose updates are no longer accepted has stalled.

    Attributes:
        parameters: $\theta$.
        n_updates: how many updates it has made.
        n_accepted: how many of them changed the parameters.
    """

    parameters: PyTree
    n_updates: Int[Array, ""]
    n_accepted: Int[Array, ""]


class Search(NamedTuple):
    r"""What a line search found.

    Attributes:
        parameters: of the accepted step; those of the start, if none was accepted.
        alignment: the cosine of the accepted step; of the last one tried, if none was accepted.
        backtracks: how often the step was shortened.
        accepted: whether a step was accepted.
        step_size: of the accepted step; 0 if there is none.
    """

    parameters: PyTree
    alignment: Float[Array, ""]
    backtracks: Int[Array, ""]
    accepted: Bool[Array, ""]
    step_size: Float[Array, ""]


class Report(NamedTuple):
    """What one update did.

    Attributes:
        alignment: the cosine of the accepted step; of the last one tried, if none was accepted.
        backtracks: how often the step was shortened.
        accepted: whether the parameters were changed.
        step_size: of the accepted step; 0 if there is none.
        residual: of the linear system (see `Solution`); 0 for the update that solves none.
        failed: whether the linear system has no finite solution (see `Solution`).
        td_error: root mean square of $T Q - Q$ on the minibatch before the update.
        largest_value: the largest |Q| on the minibatch before the update.
    """

    alignment: Float[Array, ""]
    backtracks: Int[Array, ""]
    accepted: Bool[Array, ""]
    step_size: Float[Array, ""]
    residual: Float[Array, ""]
    failed: Bool[Array, ""]
    td_error: Float[Array, ""]
    largest_value: Float[Array, ""]


def check_settings(settings: Settings) -> None:
    """Refuse settings outside their ranges; for use before `jax.jit`, under which numbers cannot be looked at.

    Raises:
        ValueError: it names the setting.
    """
    numbers: Any = jax.tree.map(np.asarray, settings)
    for name, value in numbers._asdict().items():
        if value.dtype.kind not in "iuf":
            raise ValueError(f"{name} must be a number, got {value}")
    for name, what, fits in (
        ("step_size", "be positive and finite", (numbers.step_size > 0) & np.isfinite(numbers.step_size)),
        ("alignment", "lie in [-1, 1)", (numbers.alignment >= -1) & (numbers.alignment < 1)),
        ("decay", "lie in (0, 1)", (numbers.decay > 0) & (numbers.decay < 1)),
        ("max_backtracks", "be a whole number of at least 0", _is_count(numbers.max_backtracks)),
        ("shift", "be at least 0 and finite", (numbers.shift >= 0) & np.isfinite(numbers.shift)),
        ("refinements", "be a whole number of at least 0", _is_count(numbers.refinements)),
    ):
        if not np.all(fits):
            raise ValueError(f"{name} must {what}, got {getattr(settings, name)}")


def _is_count(value: np.ndarray) -> Any:
    return (value >= 0) & (value.dtype.kind != "f")


def solve_kernel(
    kernel: Float[Array, "n n"],
    delta: Float[Array, " n"],
    *,
    shift: float | Float[Array, ""] = 1e-4,
    refinements: int | Int[Array, ""] = 2,
) -> Solution:
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

    def refine(_: Int[Array, ""], solution: Float[Array, " n"]) -> Float[Array, " n"]:
        return solution + cho_solve(factor, delta - kernel @ solution)

    solution = jax.lax.fori_loop(0, refinements, refine, cho_solve(factor, delta))
    failed = ~jnp.all(jnp.isfinite(solution))
    solution = jnp.where(failed, 0.0, solution)
    scale = jnp.max(jnp.abs(delta))
    # Scaled first, so that squares neither overflow nor vanish.
    left, size = (jnp.linalg.norm(x / jnp.where(scale > 0, scale, 1.0)) for x in (kernel @ solution - delta, delta))
    residual = jnp.where(failed, 1.0, left / jnp.where(size > 0, size, 1.0))
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
    # Rounding may carry it past the ends, and -1 is a threshold that every finite step is to pass.
    return jnp.where(defined, jnp.clip(cosine, -1.0, 1.0), -jnp.inf)


def line_search(
    values_at: Callable[[PyTree], Float[Array, " n"]],
    parameters: PyTree,
    direction: PyTree,
    values: Float[Array, " n"],
    delta: Float[Array, " n"],
    settings: Settings,
) -> Search:
    r"""Shorten the step from `parameters` along `direction` until the values move in the direction of `delta`.

    Args:
        values_at: $Q$ on the minibatch as a function of the parameters.
        parameters: $\theta$.
        direction: of the step; the first one that is tried is `settings.step_size` times it.
        values: $Q_\theta$ on the minibatch.
        delta: $T Q - Q$ on the minibatch.
        settings: of these `step_size`, `alignment`, `decay` and `max_backtracks` are used.
    """
    first, decay, threshold = (jnp.asarray(x, values.dtype) for x in (settings.step_size, settings.decay, settings.alignment))

    def propose(backtracks: Int[Array, ""]) -> Search:
        step_size = first * decay**backtracks
        proposal = jax.tree.map(lambda p, d: p + step_size * d, parameters, direction)
        cosine = alignment(values_at(proposal) - values, delta)
        return Search(proposal, cosine, backtracks, cosine >= threshold, step_size)

    def rejected(tried: Search) -> Bool[Array, ""]:
        return ~tried.accepted & (tried.backtracks < settings.max_backtracks)

    last = jax.lax.while_loop(rejected, lambda tried: propose(tried.backtracks + 1), propose(jnp.array(0)))
    kept = jax.tree.map(lambda new, old: jnp.where(last.accepted, new, old), last.parameters, parameters)
    return last._replace(parameters=kept, step_size=jnp.where(last.accepted, last.step_size, 0.0))


def init(parameters: PyTree) -> State:
    """The state of a learner that has made no update."""
    return State(parameters, jnp.array(0), jnp.array(0))


def step(network: Network, state: State, inputs: PyTree, targets: Float[Array, " n"], settings: Settings) -> tuple[State, Report]:
    r"""One update of PreQN on a minibatch.

    Args:
        network: the function $Q_\theta$ (see `networks`); static under `jax.jit`, which compiles once for each object.
        state: where the learner stands.
        inputs: n samples: arrays with one row a sample.
        targets: $T Q$ at the samples, such as $r + \gamma \max_{a'} Q_\theta(s', a')$ or $r + \gamma Q_\theta(s', \mu(s'))$.
        settings: see there; call `check_settings` once before.

    Returns:
        The next state and a report. If the targets or the linear system are not finite, or no step is aligned, the parameters come back
        unchanged and the report says so.

    Raises:
        ValueError: if `targets` has another shape than (n,), or as `kernel_factors`: outside `jax.jit` also if a parameter or a value is
            not finite, which under it counts as an update that is not accepted.
    """
    factors, delta = _errors(network, state, inputs, targets)
    found = solve_kernel(factors.kernel(), delta, shift=settings.shift, refinements=settings.refinements)
    return _search(network, state, inputs, factors, delta, found, settings)


def semi_gradient_step(
    network: Network, state: State, inputs: PyTree, targets: Float[Array, " n"], settings: Settings
) -> tuple[State, Report]:
    r"""Q-learning without the preconditioner, with the same line search: $\theta' = \theta + \alpha J^\top (T Q - Q)$.

    With `alignment` -1 every finite step that moves a value is accepted, and it is plain semi-gradient Q-learning. Arguments, result and
    errors are those of `step`.
    """
    factors, delta = _errors(network, state, inputs, targets)
    unsolved = Solution(delta, jnp.zeros((), delta.dtype), jnp.array(False))
    return _search(network, state, inputs, factors, delta, unsolved, settings)


def _errors(network: Network, state: State, inputs: PyTree, targets: Float[Array, " n"]) -> tuple[Factors, Float[Array, " n"]]:
    """The factors of the minibatch, and $T Q - Q$ in their precision."""
    factors = kernel_factors(network, state.parameters, inputs)
    if jnp.shape(targets) != factors.Q.shape:
        raise ValueError(f"targets must have shape {factors.Q.shape}, one number a sample, got {jnp.shape(targets)}")
    return factors, jnp.asarray(targets, factors.Q.dtype) - factors.Q


def _search(
    network: Network, state: State, inputs: PyTree, factors: Factors, delta: Float[Array, " n"], found: Solution, settings: Settings
) -> tuple[State, Report]:
    direction = pull_back(factors, state.parameters, found.solution)
    kept, cosine, backtracks, accepted, step_size = line_search(
        lambda p: network(p, inputs, dense), state.parameters, direction, factors.Q, delta, settings
    )
    td_error, largest = jnp.sqrt(jnp.mean(delta**2)), jnp.max(jnp.abs(factors.Q))
    report = Report(cosine, backtracks, accepted, step_size, found.residual, found.failed, td_error, largest)
    return State(kept, state.n_updates + 1, state.n_accepted + accepted), report
