r"""Linear TD(0), expected and sampled: the parameter view.

With values $v_\theta = \Phi \theta$, states drawn from a weighting $d$ and transitions from the target policy, one expected step is

$$\theta' = \theta + \alpha (b - A \theta), \qquad A = \Phi^\top D (I - \gamma P_\pi) \Phi, \qquad b = \Phi^\top D r_\pi,$$

with $D = \operatorname{diag}(d)$ (Sutton & Barto 2018, sec. 9.4 and 11.1; Sutton, Mahmood & White 2016, sec. 3). The matrix
$D (I - \gamma P_\pi)$ is called the key matrix.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from deadly_triad._checks import (
    Numbers,
    as_floats,
    check_count,
    check_discount,
    check_distribution,
    check_features,
    check_function,
    check_image,
    check_is,
    check_shape,
    check_step_size,
    check_stochastic,
    keep,
)
from deadly_triad.fixed_point import Trace, iterate
from deadly_triad.mdp import MDP, check_policy, importance_ratios, policy_rewards, policy_transitions, stationary_distribution

ESCAPED = 1e100
"""A sampled run whose parameters pass this size has diverged and is held where it is."""


@dataclass(frozen=True, eq=False)
class LinearTD:
    r"""Expected linear TD(0) on a Markov chain with rewards.

    Attributes:
        features: $\Phi$, shape (n, k); row s is $\phi(s)$.
        weighting: $d$, the distribution of the states that are updated, shape (n,).
        transitions: $P_\pi$, shape (n, n).
        rewards: $r_\pi$, shape (n,).
        discount: $\gamma$, in [0, 1).

    Raises:
        ValueError: if a shape does not fit, `weighting` or a row of `transitions` is no distribution, or the discount is not in [0, 1).
    """

    features: Numbers[np.ndarray, "n k"]
    weighting: Numbers[np.ndarray, " n"]
    transitions: Numbers[np.ndarray, "n n"]
    rewards: Numbers[np.ndarray, " n"]
    discount: float

    def __post_init__(self) -> None:
        transitions = check_stochastic("transitions", self.transitions)
        n = len(transitions)
        keep(
            self,
            features=check_features(self.features, n),
            weighting=check_distribution("weighting", check_shape("weighting", self.weighting, (n,))),
            transitions=transitions,
            rewards=check_shape("rewards", self.rewards, (n,)),
            discount=check_discount(self.discount),
        )

    @property
    def key_matrix(self) -> Float[np.ndarray, "n n"]:
        r"""$D (I - \gamma P_\pi)$, shape (n, n)."""
        return self.weighting[:, None] * (np.eye(len(self.weighting)) - self.discount * self.transitions)

    @property
    def A(self) -> Float[np.ndarray, "k k"]:
        r"""$\Phi^\top D (I - \gamma P_\pi) \Phi$, shape (k, k)."""
        return self.features.T @ self.key_matrix @ self.features

    @property
    def b(self) -> Float[np.ndarray, " k"]:
        r"""$\Phi^\top D r_\pi$, shape (k,)."""
        return self.features.T @ (self.weighting * self.rewards)

    @property
    def true_values(self) -> Float[np.ndarray, " n"]:
        r"""$v_\pi = (I - \gamma P_\pi)^{-1} r_\pi$, what the features try to represent, shape (n,)."""
        return np.linalg.solve(np.eye(len(self.rewards)) - self.discount * self.transitions, self.rewards)


def linear_td(
    mdp: MDP,
    features: Numbers[ArrayLike, "S k"],
    *,
    target: Numbers[ArrayLike, "S A"],
    weighting: Numbers[ArrayLike, " S"],
) -> LinearTD:
    """Expected TD(0) for the values of `target` when states are drawn from `weighting` and importance sampling corrects the actions.

    Args:
        mdp: the decision process.
        features: one row a state, shape (S, k).
        target: the policy to evaluate, shape (S, A).
        weighting: distribution of the updated states, shape (S,); for on-policy TD the stationary distribution of `target`, for
            off-policy TD that of the behaviour policy.

    Raises:
        ValueError: if an argument does not fit the MDP; the message names it.
    """
    target = check_policy("target", mdp, target)
    features, weighting = check_features(features, mdp.n_states, "S"), check_shape("weighting", weighting, (mdp.n_states,))
    return LinearTD(features, weighting, policy_transitions(mdp, target), policy_rewards(mdp, target), mdp.discount)


def td_fixed_point(system: LinearTD) -> Float[np.ndarray, " k"]:
    r"""$\theta_{TD}$ with $A \theta_{TD} = b$, the one of least norm if there are several, shape (k,).

    Raises:
        ValueError: if no parameter solves $A \theta = b$.
    """
    check_is("system", system, LinearTD)
    A, b = system.A, system.b
    theta = np.linalg.lstsq(A, b, rcond=1e-12)[0]
    if np.max(np.abs(A @ theta - b)) > 1e-8 * (np.abs(b).max() + np.abs(A).max() * np.abs(theta).max()):
        raise ValueError("system has no TD fixed point: A is singular and b does not lie in its range")
    return theta


def expected_update(system: LinearTD, step_size: float) -> Float[np.ndarray, "k k"]:
    r"""Matrix $I - \alpha A$ that carries the parameter error one expected TD(0) step on.

    The error $\epsilon_t = \theta_t - \theta_{TD}$ obeys $\epsilon_{t+1} = (I - \alpha A)\,\epsilon_t$ (Sutton & Barto 2018, sec. 9.4).

    Raises:
        ValueError: if `step_size` is not positive and finite.
    """
    check_is("system", system, LinearTD)
    A = system.A
    return np.eye(len(A)) - check_step_size(step_size) * A


def expected_iteration(system: LinearTD, start: Numbers[ArrayLike, " k"], *, step_size: float, n_steps: int) -> Trace:
    r"""The parameters $\theta_0, …, \theta_T$ of expected TD(0), $\theta_{t+1} = \theta_t + \alpha (b - A \theta_t)$.

    It is semi-gradient dynamic programming: each step sweeps all states at once. The trace ends early only at an exact fixed point or
    when a parameter passes the ceiling of `iterate`.

    Raises:
        ValueError: if `start` does not have shape (k,), or `step_size` or `n_steps` is not positive.
    """
    update, drift = expected_update(system, step_size), check_step_size(step_size) * system.b
    start, n_steps = check_shape("start", start, drift.shape), check_count("n_steps", n_steps)
    return iterate(lambda theta: update @ theta + drift, start, tolerance=0.0, max_steps=n_steps)


def projection(system: LinearTD) -> Float[np.ndarray, "n n"]:
    r"""$\Pi = \Phi (\Phi^\top D \Phi)^{+} \Phi^\top D$: onto the span of the features, orthogonal in the weighted inner product.

    Raises:
        ValueError: if two different value functions of the span agree on all states with positive weight: then no projection is
            singled out. Coverage (every weight positive) excludes that.
    """
    check_is("system", system, LinearTD)
    root = np.sqrt(system.weighting)[:, None]
    if np.linalg.matrix_rank(root * system.features) < np.linalg.matrix_rank(system.features):
        raise ValueError("weighting must be positive on enough states to tell the value functions of the span apart")
    return system.features @ np.linalg.pinv(root * system.features) * root.T


@dataclass(frozen=True, eq=False)
class Transitions:
    """Sampled transitions, each array of shape (N,): state, action, expected reward of the pair, next state."""

    states: Int[np.ndarray, " N"]
    actions: Int[np.ndarray, " N"]
    rewards: Float[np.ndarray, " N"]
    next_states: Int[np.ndarray, " N"]


def sample_transitions(
    mdp: MDP,
    behaviour: Numbers[ArrayLike, "S A"],
    weighting: Numbers[ArrayLike, " S"],
    n_samples: int,
    rng: np.random.Generator,
) -> Transitions:
    """Independent transitions: states from `weighting`, actions from `behaviour`, next states from the MDP.

    Raises:
        ValueError: if an argument does not fit the MDP or `n_samples` is not positive.
    """
    behaviour = check_policy("behaviour", mdp, behaviour)
    weighting = check_distribution("weighting", check_shape("weighting", weighting, (mdp.n_states,)))
    n_samples = check_count("n_samples", n_samples)
    check_is("rng", rng, np.random.Generator)
    states = _draw_rows(np.broadcast_to(weighting, (n_samples, mdp.n_states)), rng)
    return _step(mdp, behaviour, states, rng)


@dataclass(frozen=True, eq=False)
class SampledTD:
    """Parameters of several independent runs of a sampled algorithm.

    Attributes:
        steps: the step numbers that were kept, shape (T,).
        parameters: the parameters after those steps, shape (R, T, k).
        escaped: which runs passed `ESCAPED`; they are held at the last parameters before it, shape (R,).
    """

    steps: Int[np.ndarray, " T"]
    parameters: Float[np.ndarray, "R T k"]
    escaped: Bool[np.ndarray, " R"]


def sampled_td(
    mdp: MDP,
    features: Numbers[ArrayLike, "S k"],
    *,
    target: Numbers[ArrayLike, "S A"],
    behaviour: Numbers[ArrayLike, "S A"],
    start: Numbers[ArrayLike, " k"],
    step_size: float,
    n_steps: int,
    n_runs: int,
    rng: np.random.Generator,
    importance_sampling: bool = True,
    keep_every: int = 1,
) -> SampledTD:
    r"""Off-policy TD(0) along trajectories of the behaviour policy, many independent runs at once.

    Each run starts in a state from the stationary distribution of `behaviour` and makes, at each step, the update
    $\theta \mathrel{+}= \alpha \rho (r + \gamma \theta^\top \phi' - \theta^\top \phi) \phi$ with
    $\rho = \pi(a | s) / b(a | s)$ (Sutton & Barto 2018, eq. 11.2), or with $\rho = 1$ if `importance_sampling` is off.

    Args:
        mdp: the decision process.
        features: $\Phi$, shape (S, k).
        target: $\pi$, shape (S, A).
        behaviour: $b$, shape (S, A).
        start: $\theta_0$, shape (k,).
        step_size: $\alpha$.
        n_steps: transitions per run.
        n_runs: number of runs, R.
        rng: source of all randomness.
        importance_sampling: whether the ratio corrects the update.
        keep_every: keep the parameters of every so many steps (and of step 0).

    Raises:
        ValueError: if an argument does not fit the MDP or is not positive, if `behaviour` does not cover `target`, or if `behaviour`
            has no unique stationary distribution.
    """
    features, target, behaviour, start = check_sampling(mdp, features, target, behaviour, start)
    step_size = check_step_size(step_size)
    check_is("importance_sampling", importance_sampling, bool | np.bool)
    ratios = importance_ratios(target, behaviour) if importance_sampling else np.ones_like(target)

    def increments(samples: Transitions, theta: Float[np.ndarray, "R k"]) -> Float[np.ndarray, "R k"]:
        return (step_size * ratios[samples.states, samples.actions])[:, None] * _semi_gradients(mdp, features, samples, theta)

    samples = trajectories(mdp, behaviour, n_runs, rng)
    return run_samples(samples, increments, start, n_steps=n_steps, n_runs=n_runs, keep_every=keep_every)


def trajectories(mdp: MDP, behaviour: Numbers[ArrayLike, "S A"], n_runs: int, rng: np.random.Generator) -> Iterator[Transitions]:
    """Endless trajectories of the behaviour policy, `n_runs` side by side, from its stationary distribution: one transition of each a time.

    Raises:
        ValueError: if `n_runs` is not positive, or `behaviour` does not fit the MDP or has no unique stationary distribution.
    """
    behaviour = check_policy("behaviour", mdp, behaviour)
    shape = (check_count("n_runs", n_runs), mdp.n_states)
    weighting = _stationary(mdp, behaviour)
    check_is("rng", rng, np.random.Generator)

    def steps() -> Iterator[Transitions]:
        states = _draw_rows(np.broadcast_to(weighting, shape), rng)
        while True:
            samples = _step(mdp, behaviour, states, rng)
            yield samples
            states = samples.next_states

    return steps()


def _semi_gradients(
    mdp: MDP, features: Float[np.ndarray, "S k"], samples: Transitions, theta: Float[np.ndarray, "R k"]
) -> Float[np.ndarray, "R k"]:
    r"""$(r + \gamma \theta^\top \phi' - \theta^\top \phi) \phi$ of one transition a run, shape (R, k); it runs each step: no checks."""
    phi, phi_next = features[samples.states], features[samples.next_states]
    td_errors = samples.rewards + np.sum(theta * (mdp.discount * phi_next - phi), axis=1)
    return td_errors[:, None] * phi


def run_samples(
    samples: Iterable[Transitions],
    increments: Callable[[Transitions, np.ndarray], np.ndarray],
    start: Numbers[ArrayLike, " k"],
    *,
    n_steps: int,
    n_runs: int,
    keep_every: int,
) -> SampledTD:
    """Several independent runs of an algorithm that makes one update a transition.

    Args:
        samples: one transition a run and step.
        increments: from the transitions and the parameters of all runs, shape (R, k), to what is added to the parameters.
        start: parameters of every run, shape (k,).
        n_steps: updates a run.
        n_runs: number of runs, R.
        keep_every: keep the parameters of every so many steps (and of step 0).

    Raises:
        ValueError: if a number is not positive, `start` is not a finite vector, `samples` end before `n_steps`, or `increments` returns
            something else than an array of shape (R, k).
    """
    check_is("samples", samples, Iterable)
    check_function("increments", increments)
    n_steps, n_runs, keep_every = check_count("n_steps", n_steps), check_count("n_runs", n_runs), check_count("keep_every", keep_every)
    start = as_floats("start", start)
    theta = np.tile(check_shape("start", start, (start.size,)), (n_runs, 1))
    escaped = np.zeros(n_runs, dtype=bool)
    steps = np.arange(0, n_steps + 1, keep_every)
    kept = np.empty((n_runs, len(steps), len(start)))
    kept[:, 0] = theta
    rest = iter(samples)
    for t in range(1, n_steps + 1):
        sample = next(rest, None)
        if sample is None:
            raise ValueError(f"samples must hold n_steps = {n_steps} transitions a run, got {t - 1}")
        with np.errstate(over="ignore", invalid="ignore"):
            proposal = theta + check_image("increments", partial(increments, sample), theta)
            escaped |= ~(np.abs(proposal).max(axis=1) <= ESCAPED)
        theta = np.where(escaped[:, None], theta, proposal)
        if t % keep_every == 0:
            kept[:, t // keep_every] = theta
    return SampledTD(steps, kept, escaped)


def sampled_td_mean(
    mdp: MDP,
    features: Numbers[ArrayLike, "S k"],
    *,
    target: Numbers[ArrayLike, "S A"],
    behaviour: Numbers[ArrayLike, "S A"],
    start: Numbers[ArrayLike, " k"],
    step_size: float,
    n_steps: int,
) -> Float[np.ndarray, "{n_steps+1} k"]:
    r"""Exact mean of the parameters over all runs of `sampled_td` with importance sampling, after 0, …, T steps.

    Along a trajectory the next state to be updated depends on the parameters, because the last TD error contains it; so the mean is
    not the expected iteration. But $m_t(s) = E[\theta_t 1\{S_t = s\}]$ obeys a linear recursion,

    $$m_{t+1}(s') = \sum_{s, a} b(a | s) P(s' | s, a) \big[ m_t(s)
    + \alpha \rho \phi(s) (d(s) r(s, a) + (\gamma \phi(s') - \phi(s))^\top m_t(s)) \big]$$

    with the stationary distribution $d$ of the behaviour policy, and the mean is its sum over the states.

    Args:
        mdp: the decision process.
        features: $\Phi$, shape (S, k).
        target: $\pi$, shape (S, A).
        behaviour: $b$, shape (S, A).
        start: $\theta_0$, shape (k,).
        step_size: $\alpha$.
        n_steps: T.

    Raises:
        ValueError: as `sampled_td`, and if the mean leaves the range of floating point.
    """
    features, target, behaviour, start = check_sampling(mdp, features, target, behaviour, start)
    step_size, n_steps = check_step_size(step_size), check_count("n_steps", n_steps)
    ratios = importance_ratios(target, behaviour)
    weighting = _stationary(mdp, behaviour)
    path = behaviour[:, :, None] * mdp.transitions
    difference = mdp.discount * features[None, :, :] - features[:, None, :]
    carried = weighting[:, None] * start
    means = [carried.sum(axis=0)]
    for t in range(n_steps):
        with np.errstate(over="ignore", invalid="ignore"):
            td_error = (weighting[:, None] * mdp.rewards)[:, :, None] + np.einsum("stk,sk->st", difference, carried)[:, None, :]
            gain = np.einsum("sat,sa,sat->st", path, ratios, td_error)
            carried = path.sum(axis=1).T @ carried + step_size * gain.T @ features
        means.append(carried.sum(axis=0))
        if not np.all(np.isfinite(means[-1])):
            raise ValueError(f"n_steps must be at most {t} here: the mean leaves the range of floating point after that")
    return np.stack(means)


def _step(mdp: MDP, behaviour: Float[np.ndarray, "S A"], states: Int[np.ndarray, " N"], rng: np.random.Generator) -> Transitions:
    actions = _draw_rows(behaviour[states], rng)
    next_states = _draw_rows(mdp.transitions[states, actions], rng)
    return Transitions(states, actions, mdp.rewards[states, actions], next_states)


def _draw_rows(probabilities: Float[np.ndarray, "N m"], rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """One index a row, drawn with the probabilities in that row, shape (N,); it runs each step: no checks."""
    # Inverse transform, row by row; scaling by the last entry keeps rounding from drawing index m.
    cumulative = np.cumsum(probabilities, axis=1)
    uniform = rng.random(len(probabilities)) * cumulative[:, -1]
    return np.sum(cumulative <= uniform[:, None], axis=1)


def check_sampling(
    mdp: MDP,
    features: Numbers[ArrayLike, "..."],
    target: Numbers[ArrayLike, "..."],
    behaviour: Numbers[ArrayLike, "..."],
    start: Numbers[ArrayLike, "..."],
) -> tuple[Float[np.ndarray, "S k"], Float[np.ndarray, "S A"], Float[np.ndarray, "S A"], Float[np.ndarray, " k"]]:
    """The four arrays of a sampled algorithm as float64; those that do not fit the MDP or each other are refused, by name."""
    target, behaviour = check_policy("target", mdp, target), check_policy("behaviour", mdp, behaviour)
    features = check_features(features, mdp.n_states, "S")
    return features, target, behaviour, check_shape("start", start, (features.shape[1],))


def _stationary(mdp: MDP, behaviour: Float[np.ndarray, "S A"]) -> Float[np.ndarray, " S"]:
    try:
        return stationary_distribution(policy_transitions(mdp, behaviour))
    except ValueError as reason:
        raise ValueError(f"behaviour must have a unique stationary distribution: {reason}") from reason
