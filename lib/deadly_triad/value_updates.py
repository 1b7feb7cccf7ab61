r"""Updates of a table of action values: the value view.

Each entry of the table moves towards its Bellman target. On every pair alike, or on each as often as the data hold it,

$$U_1 Q = Q + \alpha (T Q - Q), \qquad U_2 Q = Q + \alpha D_\rho (T Q - Q),$$

with a Bellman operator $T$ and the weights $\rho$ of the pairs (Achiam, Knight & Abbeel 2019). $U_1$ is $U_2$ with all weights 1; nothing
here asks that weights sum to 1. Pairs are flattened state-major where a matrix needs them in a row.

The worst modulus of $U_2$ in the sup norm falls with the step until the pair with the largest weight overshoots too far:

>>> rho = np.array([0.7, 0.3])
>>> [round(weighted_modulus(rho, 0.5, step_size), 3) for step_size in (1.0, 1.6, 2.0)]
[0.85, 0.76, 1.1]
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from deadly_triad._checks import (
    Numbers,
    check_discount,
    check_entries,
    check_finite,
    check_image,
    check_is,
    check_shape,
    check_step_size,
    check_stochastic,
    check_weights,
    shorten,
)
from deadly_triad.fixed_point import Operator
from deadly_triad.mdp import MDP


def full_update(operator: Operator, values: Numbers[ArrayLike, "*shape"], step_size: float) -> Float[np.ndarray, "*shape"]:
    r"""$U_1 Q = Q + \alpha (T Q - Q)$.

    Raises:
        ValueError: if `values` or what `operator` makes of it is not finite, the shape changes, or `step_size` is not positive and finite.
    """
    values = check_finite("values", values)
    image = check_finite("operator(…)", check_image("operator", operator, values))
    return values + check_step_size(step_size) * (image - values)


def weighted_update(
    operator: Operator, values: Numbers[ArrayLike, "*shape"], rho: Numbers[ArrayLike, "*shape"], step_size: float
) -> Float[np.ndarray, "*shape"]:
    r"""$U_2 Q = Q + \alpha D_\rho (T Q - Q)$.

    Args:
        operator: $T$.
        values: $Q$, any shape.
        rho: $\rho$, one weight an entry, in the shape of `values`.
        step_size: $\alpha$.

    Raises:
        ValueError: as `full_update`, and if a weight is negative or not finite or `rho` has another shape.
    """
    values = check_finite("values", values)
    rho = check_weights("rho", rho)
    if rho.shape != values.shape:
        raise ValueError(f"rho must have the shape {values.shape} of values, got {rho.shape}")
    image = check_finite("operator(…)", check_image("operator", operator, values))
    return values + check_step_size(step_size) * rho * (image - values)


def update_matrix(
    transitions: Numbers[ArrayLike, "n n"], rho: Numbers[ArrayLike, " n"], discount: float, step_size: float
) -> Float[np.ndarray, "n n"]:
    r"""$I - \alpha D_\rho (I - \gamma P)$: what one step of $U_2$ for a policy does to the error of the table.

    Args:
        transitions: $P$, from pair to pair (or from state to state).
        rho: $\rho$, one weight a pair.
        discount: $\gamma$, in [0, 1).
        step_size: $\alpha$.

    Raises:
        ValueError: if `transitions` is not a stochastic matrix, or another argument does not fit or is outside its range.
    """
    transitions = check_stochastic("transitions", transitions)
    n = len(transitions)
    rho = check_weights("rho", rho, (n,))
    return np.eye(n) - check_step_size(step_size) * rho[:, None] * (np.eye(n) - check_discount(discount) * transitions)


def weighted_modulus(rho: Numbers[ArrayLike, "*shape"], discount: float, step_size: float) -> float:
    r"""Modulus of $U_2$ in the sup norm, $\max_i (|1 - \alpha \rho_i| + \alpha \gamma \rho_i)$.

    It is the least that holds for every MDP, and the exact one for $T^*$ in each MDP with two actions or more; $U_2$ is a contraction
    when it is below 1. The book proves it in its chapter on Bellman operators.

    Raises:
        ValueError: if a weight is negative or not finite, or an argument is outside its range.
    """
    rho, discount, step_size = check_weights("rho", rho), check_discount(discount), check_step_size(step_size)
    return float(np.max(np.abs(1 - step_size * rho) + step_size * discount * rho))


def largest_step_for_every_policy(rho: Numbers[ArrayLike, "*shape"], discount: float) -> float:
    r"""The step below which $U_2$ evaluates every policy of every MDP, and at which it fails on one.

    It is $2 / \lambda$, where $\lambda$ is the larger root of $(\lambda - \rho_1)(\lambda - \rho_2) = \gamma^2 \rho_1 \rho_2$ and
    $\rho_1 \ge \rho_2$ are the two largest weights: the worst chain leads from each of these two pairs to the other.

    Raises:
        ValueError: if there are fewer than two weights, one is not positive and finite, or `discount` is not in [0, 1).
    """
    rho, discount = check_weights("rho", rho), check_discount(discount)
    if rho.size < 2 or np.any(rho == 0):
        raise ValueError(f"rho must hold at least two weights, all positive, got {shorten(rho)}")
    second, first = np.sort(rho, axis=None)[-2:]
    root = np.hypot((first - second) / 2, discount * np.sqrt(first * second))
    return float(2 / ((first + second) / 2 + root))


def frozen_problem(mdp: MDP, frozen: Numbers[ArrayLike, "S A"], values: Numbers[ArrayLike, "S A"]) -> MDP:
    r"""The MDP that $U_2$ solves when some pairs are not in the data: a frozen pair ends the episode and pays the value it is frozen at.

    With the last state, where episodes end, taken off, its exact values are the limit of $U_2$ from any start that holds `values` at the
    frozen pairs. Values at the other pairs are not looked at.

    Args:
        mdp: the problem that the data come from.
        frozen: which pairs have weight 0: true there and false elsewhere.
        values: what the table starts with.

    Returns:
        An MDP of S + 1 states.

    Raises:
        ValueError: if a shape does not fit, `frozen` holds anything but true and false, or `values` is not finite.
    """
    check_is("mdp", mdp, MDP)
    n_states, n_actions = shape = mdp.rewards.shape
    values, held = check_shape("values", values, shape, "(S, A) = "), check_shape("frozen", frozen, shape, "(S, A) = ")
    check_entries("frozen", held, "hold true and false alone", (held == 0) | (held == 1))
    transitions = np.zeros((n_states + 1, n_actions, n_states + 1))
    transitions[:-1, :, :-1] = np.where(held[:, :, None], 0.0, mdp.transitions)
    transitions[:-1, :, -1] = held
    transitions[-1, :, -1] = 1
    rewards = np.zeros((n_states + 1, n_actions))
    rewards[:-1] = np.where(held, values, mdp.rewards)
    return MDP(transitions, rewards, mdp.discount)
