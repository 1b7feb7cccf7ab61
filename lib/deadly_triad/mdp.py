r"""Finite Markov decision processes: policies, Bellman operators, exact values, stationary distributions.

Arrays follow one convention: transitions `P[s, a, s']`, expected rewards `r[s, a]`, policies `pi[s, a]`, action values `Q[s, a]`. The
Bellman operators on action values are (Puterman 1994, ch. 6)

$$(T^\pi Q)(s, a) = r(s, a) + \gamma \sum_{s'} P(s' | s, a) \sum_{a'} \pi(a' | s') Q(s', a'),$$
$$(T^* Q)(s, a) = r(s, a) + \gamma \sum_{s'} P(s' | s, a) \max_{a'} Q(s', a').$$

Waiting earns nothing and going earns 1, so with discount 1/2 the best return is 1 + 1/2 + 1/4 + … = 2:

>>> mdp = MDP(transitions=np.ones((1, 2, 1)), rewards=np.array([[0.0, 1.0]]), discount=0.5)
>>> optimal_action_values(mdp)
array([[1., 2.]])
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from deadly_triad._checks import (
    Numbers,
    as_floats,
    check_count,
    check_discount,
    check_distribution,
    check_indices,
    check_is,
    check_shape,
    check_stochastic,
    keep,
    shorten,
)


@dataclass(frozen=True, eq=False)
class MDP:
    r"""A finite, discounted Markov decision process, checked when it is made.

    Attributes:
        transitions: $P(s' | s, a)$, shape (S, A, S); each row sums to 1.
        rewards: expected reward $r(s, a)$, shape (S, A).
        discount: $\gamma$, in [0, 1).

    Raises:
        ValueError: if a shape, a row or the discount is not as said here; the message names it.
    """

    transitions: Numbers[np.ndarray, "S A S"]
    rewards: Numbers[np.ndarray, "S A"]
    discount: float

    def __post_init__(self) -> None:
        transitions = as_floats("transitions", self.transitions)
        shape = transitions.shape
        if len(shape) != 3 or shape[0] != shape[2] or 0 in shape:
            raise ValueError(f"transitions must have shape (S, A, S), got {shape}")
        keep(
            self,
            transitions=check_distribution("transitions", transitions),
            rewards=check_shape("rewards", self.rewards, shape[:2], "(S, A) = "),
            discount=check_discount(self.discount),
        )

    @property
    def n_states(self) -> int:
        """Number of states, S."""
        return self.transitions.shape[0]

    @property
    def n_actions(self) -> int:
        """Number of actions, A."""
        return self.transitions.shape[1]


def policy_transitions(mdp: MDP, policy: Numbers[ArrayLike, "S A"]) -> Float[np.ndarray, "S S"]:
    r"""$P_\pi(s' | s) = \sum_a \pi(a | s) P(s' | s, a)$, shape (S, S).

    Raises:
        ValueError: if `policy` is not a policy of `mdp`.
    """
    policy = check_policy("policy", mdp, policy)
    return np.einsum("sa,sat->st", policy, mdp.transitions)


def policy_rewards(mdp: MDP, policy: Numbers[ArrayLike, "S A"]) -> Float[np.ndarray, " S"]:
    r"""$r_\pi(s) = \sum_a \pi(a | s) r(s, a)$, shape (S,).

    Raises:
        ValueError: if `policy` is not a policy of `mdp`.
    """
    policy = check_policy("policy", mdp, policy)
    return np.sum(policy * mdp.rewards, axis=1)


def pair_transitions(mdp: MDP, policy: Numbers[ArrayLike, "S A"]) -> Float[np.ndarray, "n n"]:
    r"""$P^\pi$ from state-action pair to state-action pair, $P(s' | s, a) \pi(a' | s')$, shape (n, n) with n = S A, state-major.

    Raises:
        ValueError: if `policy` is not a policy of `mdp`.
    """
    policy = check_policy("policy", mdp, policy)
    n_pairs = mdp.n_states * mdp.n_actions
    return (mdp.transitions[..., None] * policy).reshape(n_pairs, n_pairs)


def importance_ratios(target: Numbers[ArrayLike, "S A"], behaviour: Numbers[ArrayLike, "S A"]) -> Float[np.ndarray, "S A"]:
    r"""$\pi(a | s) / b(a | s)$, and 0 where neither policy takes the action, shape (S, A).

    Raises:
        ValueError: if `behaviour` never takes an action that `target` takes (no coverage; no ratio corrects for that), if the shapes
            differ, or if a row is no distribution.
    """
    target, behaviour = check_distribution("target", target), check_distribution("behaviour", behaviour)
    if target.ndim != 2:
        raise ValueError(f"target must have shape (S, A), got {target.shape}")
    if target.shape != behaviour.shape:
        raise ValueError(f"behaviour must have the shape {target.shape} of target, got {behaviour.shape}")
    missing = np.argwhere((target > 0) & (behaviour == 0))
    if len(missing):
        state, action = missing[0]
        raise ValueError(f"behaviour must take every action that target takes; in state {state} it never takes action {action}")
    return np.divide(target, behaviour, out=np.zeros_like(target), where=behaviour > 0)


def policy_operator(mdp: MDP, policy: Numbers[ArrayLike, "S A"], values: Numbers[ArrayLike, "S A"]) -> Float[np.ndarray, "S A"]:
    r"""$T^\pi Q$ (module equation), shape (S, A).

    Raises:
        ValueError: if `policy` is not a policy of `mdp` or `values` has another shape.
    """
    policy, values = check_policy("policy", mdp, policy), _check_action_values(mdp, values)
    return mdp.rewards + mdp.discount * mdp.transitions @ np.sum(policy * values, axis=1)


def optimality_operator(mdp: MDP, values: Numbers[ArrayLike, "S A"]) -> Float[np.ndarray, "S A"]:
    r"""$T^* Q$ (module equation), shape (S, A).

    Raises:
        ValueError: if `values` does not have shape (S, A) or is not finite.
    """
    values = _check_action_values(mdp, values)
    return mdp.rewards + mdp.discount * mdp.transitions @ values.max(axis=1)


def state_values(mdp: MDP, policy: Numbers[ArrayLike, "S A"]) -> Float[np.ndarray, " S"]:
    r"""$v_\pi = (I - \gamma P_\pi)^{-1} r_\pi$, shape (S,).

    Raises:
        ValueError: if `policy` is not a policy of `mdp`.
    """
    transitions, rewards = policy_transitions(mdp, policy), policy_rewards(mdp, policy)
    return np.linalg.solve(np.eye(mdp.n_states) - mdp.discount * transitions, rewards)


def action_values(mdp: MDP, policy: Numbers[ArrayLike, "S A"]) -> Float[np.ndarray, "S A"]:
    r"""$Q^\pi(s, a) = r(s, a) + \gamma \sum_{s'} P(s' | s, a) v_\pi(s')$, shape (S, A).

    Raises:
        ValueError: if `policy` is not a policy of `mdp`.
    """
    values = state_values(mdp, policy)
    return mdp.rewards + mdp.discount * mdp.transitions @ values


def deterministic_policy(actions: Numbers[ArrayLike, " S"], n_actions: int) -> Float[np.ndarray, "S A"]:
    """The policy that takes `actions[s]` in state s, as an array of shape (S, A).

    Raises:
        ValueError: if an action is not one of 0, …, n_actions - 1, or `n_actions` is not positive.
        TypeError: if `actions` are not whole numbers; a mask is refused.
    """
    n_actions = check_count("n_actions", n_actions)
    return np.eye(n_actions)[check_indices("actions", actions, n_actions)]


def optimal_action_values(mdp: MDP) -> Float[np.ndarray, "S A"]:
    r"""$Q^*$ by policy iteration, exact up to the rounding of a linear solve, shape (S, A).

    Each sweep evaluates the greedy policy exactly and improves it; it ends when the values stop growing, which they do because the
    policies are finitely many and each is strictly better than the last (Puterman 1994, thm 6.4.2).
    """
    check_is("mdp", mdp, MDP)
    actions, best = mdp.rewards.argmax(axis=1), np.full(mdp.n_states, -np.inf)
    while True:
        values = action_values(mdp, deterministic_policy(actions, mdp.n_actions))
        current = np.take_along_axis(values, actions[:, None], axis=1)[:, 0]
        # State by state: in a sum over states, large values would swallow the growth of small ones.
        if not np.any(current > best):
            return values
        best = np.maximum(best, current)
        actions = np.where(values.max(axis=1) > current, values.argmax(axis=1), actions)


def recurrent_classes(transitions: Numbers[ArrayLike, "S S"]) -> list[Int[np.ndarray, " members"]]:
    """The closed communicating classes of a Markov chain, as arrays of state indices.

    A chain is irreducible when it has one such class and the class holds every state.

    Raises:
        ValueError: if `transitions` is not a stochastic matrix.
    """
    transitions = check_stochastic("transitions", transitions)
    edges = transitions > 0
    n_classes, label = connected_components(csr_array(edges.astype(float)), directed=True, connection="strong")
    leaves = edges & (label[:, None] != label[None, :])
    closed = set(range(n_classes)) - set(label[leaves.any(axis=1)].tolist())
    return [np.flatnonzero(label == c) for c in sorted(closed)]


def stationary_distribution(transitions: Numbers[ArrayLike, "S S"]) -> Float[np.ndarray, " S"]:
    r"""The distribution $d$ with $d^\top P = d^\top$, shape (S,); zero on transient states.

    It is unique exactly when the chain has one recurrent class. On that class it is found by the elimination of Grassmann, Taksar &
    Heyman (1985), which subtracts nothing and so keeps full relative precision in the smallest entries.

    Raises:
        ValueError: if `transitions` is not a stochastic matrix, or has several recurrent classes.

    >>> stationary_distribution(np.array([[0.5, 0.5], [1.0, 0.0]])).round(12)
    array([0.66666667, 0.33333333])
    """
    transitions = check_stochastic("transitions", transitions)
    classes = recurrent_classes(transitions)
    if len(classes) > 1:
        raise ValueError(
            f"transitions must have one recurrent class for a unique stationary distribution, got {len(classes)}: "
            f"{shorten([c.tolist() for c in classes])}"
        )
    (members,) = classes
    p = transitions[np.ix_(members, members)].copy()
    for last in range(len(p) - 1, 0, -1):
        p[:last, last] /= p[last, :last].sum()
        p[:last, :last] += np.outer(p[:last, last], p[last, :last])
    weights = np.ones(len(p))
    for state in range(1, len(p)):
        weights[state] = weights[:state] @ p[:state, state]
    distribution = np.zeros(len(transitions))
    distribution[members] = weights / weights.sum()
    return distribution


def check_policy(name: str, mdp: MDP, policy: Numbers[ArrayLike, "..."]) -> Float[np.ndarray, "S A"]:
    """`policy` as float64; anything but a policy of `mdp` is refused, by name."""
    check_is("mdp", mdp, MDP)
    return check_distribution(name, check_shape(name, policy, (mdp.n_states, mdp.n_actions), "(S, A) = "))


def _check_action_values(mdp: MDP, values: Numbers[ArrayLike, "..."]) -> Float[np.ndarray, "S A"]:
    check_is("mdp", mdp, MDP)
    return check_shape("values", values, (mdp.n_states, mdp.n_actions), "(S, A) = ")
