r"""Linear action values: Expected Sarsa for a fixed policy, Q-learning for the greedy one.

With values $Q_\theta = \Phi \theta$ of state-action pairs, flattened state-major, and pairs drawn from a weighting $\mu$, one expected
step of Expected Sarsa is linear TD on the chain of pairs. One expected step of Q-learning is

$$\theta' = \theta + \alpha f(\theta), \qquad f(\theta) = \Phi^\top D_\mu (T^* \Phi \theta - \Phi \theta) = b - A_g \theta,$$

where $A_g = \Phi^\top D_\mu (I - \gamma P^g) \Phi$ belongs to a policy $g$ that is greedy at $\theta$: a linear system that switches with
the greedy policy. The field $f$ is continuous, because the maximum is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from deadly_triad._checks import Numbers, check_count, check_distribution, check_features, check_is, check_shape, check_step_size, keep
from deadly_triad.fixed_point import Trace, iterate
from deadly_triad.linear_td import LinearTD, SampledTD, Transitions, _draw_rows, run_samples
from deadly_triad.mdp import MDP, check_policy, deterministic_policy, optimality_operator, pair_transitions


def expected_sarsa(
    mdp: MDP,
    features: Numbers[ArrayLike, "n k"],
    *,
    target: Numbers[ArrayLike, "S A"],
    weighting: Numbers[ArrayLike, " n"],
) -> LinearTD:
    r"""Expected TD(0) on pairs: $A = \Phi^\top D_\mu (I - \gamma P^\pi) \Phi$, $b = \Phi^\top D_\mu r$.

    No importance ratio is needed: the action of an updated pair is given, and the target averages over the next one (van Seijen et al.
    2009; Sutton & Barto 2018, sec. 6.6).

    Args:
        mdp: the decision process.
        features: $\Phi$, one row a pair, shape (n, k) with n = S A.
        target: $\pi$, the policy to evaluate, shape (S, A).
        weighting: $\mu$, the distribution of the updated pairs, shape (n,); nothing relates it to a policy.

    Raises:
        ValueError: if an argument does not fit the MDP; the message names it.
    """
    target = check_policy("target", mdp, target)
    features, weighting = check_features(features, target.size), check_shape("weighting", weighting, (target.size,))
    return LinearTD(features, weighting, pair_transitions(mdp, target), mdp.rewards.ravel(), mdp.discount)


@dataclass(frozen=True, eq=False)
class LinearQ:
    r"""Linear Q-learning on an MDP.

    Attributes:
        mdp: the decision process, n = S A pairs.
        features: $\Phi$, one row a pair, shape (n, k).
        weighting: $\mu$, the distribution of the updated pairs, shape (n,).

    Raises:
        ValueError: if a shape does not fit, `features` is not finite or `weighting` is no distribution.
    """

    mdp: MDP
    features: Numbers[np.ndarray, "n k"]
    weighting: Numbers[np.ndarray, " n"]

    def __post_init__(self) -> None:
        check_is("mdp", self.mdp, MDP)
        n = self.mdp.rewards.size
        weighting = check_distribution("weighting", check_shape("weighting", self.weighting, (n,)))
        keep(self, features=check_features(self.features, n), weighting=weighting)

    def values(self, theta: Numbers[ArrayLike, " k"]) -> Float[np.ndarray, "S A"]:
        r"""$\Phi \theta$ as a table, shape (S, A).

        Raises:
            ValueError: if `theta` does not have shape (k,) or is not finite.
        """
        theta = check_shape("theta", theta, (self.features.shape[1],))
        return (self.features @ theta).reshape(self.mdp.rewards.shape)

    def greedy_system(self, theta: Numbers[ArrayLike, " k"]) -> LinearTD:
        r"""Expected Sarsa for the policy greedy at `theta` (the first of equal actions): its $A$ is $A_g$.

        Raises:
            ValueError: if `theta` does not have shape (k,) or is not finite.
        """
        greedy = deterministic_policy(self.values(theta).argmax(axis=1), self.mdp.n_actions)
        return expected_sarsa(self.mdp, self.features, target=greedy, weighting=self.weighting)

    def field(self, theta: Numbers[ArrayLike, " k"]) -> Float[np.ndarray, " k"]:
        r"""$f(\theta) = \Phi^\top D_\mu (T^* \Phi \theta - \Phi \theta)$, shape (k,).

        Raises:
            ValueError: if `theta` does not have shape (k,) or is not finite.
        """
        values = self.values(theta)
        return self.features.T @ (self.weighting * (optimality_operator(self.mdp, values) - values).ravel())


def expected_q_iteration(problem: LinearQ, start: Numbers[ArrayLike, " k"], *, step_size: float, n_steps: int) -> Trace:
    r"""The parameters $\theta_{t+1} = \theta_t + \alpha f(\theta_t)$ of expected linear Q-learning.

    The trace ends early only at an exact fixed point or when a parameter passes the ceiling of `iterate`.

    Raises:
        ValueError: if `start` does not have shape (k,), or `step_size` or `n_steps` is not positive.
    """
    check_is("problem", problem, LinearQ)
    start = check_shape("start", start, (problem.features.shape[1],))
    step_size, n_steps = check_step_size(step_size), check_count("n_steps", n_steps)
    return iterate(lambda theta: theta + step_size * problem.field(theta), start, tolerance=0.0, max_steps=n_steps)


def sampled_q_learning(
    problem: LinearQ,
    *,
    start: Numbers[ArrayLike, " k"],
    step_size: float,
    n_steps: int,
    n_runs: int,
    rng: np.random.Generator,
    keep_every: int = 1,
) -> SampledTD:
    r"""Linear Q-learning on independent samples, many independent runs at once.

    Each step draws a pair $(s, a)$ from $\mu$ and $s'$ from the MDP, as from a large replay memory, and makes the update
    $\theta \mathrel{+}= \alpha (r + \gamma \max_{a'} Q_\theta(s', a') - Q_\theta(s, a)) \, \phi(s, a)$.

    Args:
        problem: MDP, features and weighting.
        start: $\theta_0$, shape (k,).
        step_size: $\alpha$.
        n_steps: updates a run.
        n_runs: number of runs, R.
        rng: source of all randomness.
        keep_every: keep the parameters of every so many steps (and of step 0).

    Raises:
        ValueError: if `start` does not have shape (k,), or a number is not positive.
    """
    check_is("problem", problem, LinearQ)
    check_is("rng", rng, np.random.Generator)
    start = check_shape("start", start, (problem.features.shape[1],))
    step_size, n_runs = check_step_size(step_size), check_count("n_runs", n_runs)
    mdp = problem.mdp
    table = problem.features.reshape(mdp.n_states, mdp.n_actions, -1)
    weights = np.broadcast_to(problem.weighting, (n_runs, len(problem.weighting)))

    def draws() -> Iterator[Transitions]:
        while True:
            states, actions = np.divmod(_draw_rows(weights, rng), mdp.n_actions)
            next_states = _draw_rows(mdp.transitions[states, actions], rng)
            yield Transitions(states, actions, mdp.rewards[states, actions], next_states)

    def increments(sample: Transitions, theta: Float[np.ndarray, "R k"]) -> Float[np.ndarray, "R k"]:
        best = np.einsum("rak,rk->ra", table[sample.next_states], theta).max(axis=1)
        phi = table[sample.states, sample.actions]
        td_errors = sample.rewards + mdp.discount * best - np.sum(phi * theta, axis=1)
        return step_size * td_errors[:, None] * phi

    return run_samples(draws(), increments, start, n_steps=n_steps, n_runs=n_runs, keep_every=keep_every)
