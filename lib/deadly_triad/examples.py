r"""The classic examples, as data: Baird's counterexample, w -> 2w, a chain, and random MDPs.

Both classics are one picture. *Upper* states and one *lower* state; the action "dashed" leads to a uniformly drawn upper state, "solid" to
the lower one; all rewards are zero. The target policy always takes solid, the behaviour policy takes it with probability $p$, so the
behaviour's stationary distribution puts $p$ on the lower state and $(1 - p) / m$ on each of the $m$ upper ones.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from deadly_triad._checks import Numbers, check_count, check_discount, check_is, check_number, keep
from deadly_triad.linear_td import LinearTD, check_sampling, linear_td
from deadly_triad.mdp import MDP, policy_transitions, stationary_distribution

DASHED, SOLID = 0, 1


@dataclass(frozen=True, eq=False)
class Example:
    """An off-policy evaluation problem with features.

    Attributes:
        mdp: the decision process, S states.
        features: shape (S, k).
        target: policy to evaluate, shape (S, A).
        behaviour: policy that gathers the data, shape (S, A).
        start: customary initial parameters, shape (k,).

    Raises:
        ValueError: if an array does not fit the MDP or another one.
    """

    mdp: MDP
    features: Numbers[np.ndarray, "S k"]
    target: Numbers[np.ndarray, "S A"]
    behaviour: Numbers[np.ndarray, "S A"]
    start: Numbers[np.ndarray, " k"]

    def __post_init__(self) -> None:
        features, target, behaviour, start = check_sampling(self.mdp, self.features, self.target, self.behaviour, self.start)
        keep(self, features=features, target=target, behaviour=behaviour, start=start)

    @property
    def behaviour_distribution(self) -> Float[np.ndarray, " S"]:
        """Stationary distribution of the behaviour policy, shape (S,)."""
        return stationary_distribution(policy_transitions(self.mdp, self.behaviour))

    @property
    def target_distribution(self) -> Float[np.ndarray, " S"]:
        """Stationary distribution of the target policy, shape (S,)."""
        return stationary_distribution(policy_transitions(self.mdp, self.target))

    @property
    def off_policy(self) -> LinearTD:
        """Expected TD(0) with states weighted by the behaviour policy and importance sampling."""
        return linear_td(self.mdp, self.features, target=self.target, weighting=self.behaviour_distribution)

    @property
    def on_policy(self) -> LinearTD:
        """Expected TD(0) with states weighted by the target policy."""
        return linear_td(self.mdp, self.features, target=self.target, weighting=self.target_distribution)


def baird(discount: float = 0.99, solid_probability: float = 1 / 7, n_upper: int = 6) -> Example:
    r"""Baird's counterexample with $m$ upper states; the classic has m = 6 and p = 1/7 (Sutton & Barto 2018, fig. 11.1).

    Upper state i has the value $2 \theta_i + \theta_{m+2}$, the lower one $\theta_{m+1} + 2 \theta_{m+2}$: one parameter more than
    states, so every value function can be represented. The start is $(1, …, 1, 10, 1)$.

    Args:
        discount: $\gamma$, in [0, 1).
        solid_probability: $p$, how often the behaviour policy takes the solid action, in (0, 1].
        n_upper: $m$, at least 1.

    Raises:
        ValueError: if an argument is outside its range.
    """
    n_upper = check_count("n_upper", n_upper)
    features = np.zeros((n_upper + 1, n_upper + 2))
    features[:-1, :n_upper] = 2 * np.eye(n_upper)
    features[:-1, -1] = 1
    features[-1, -2:] = 1, 2
    start = np.ones(n_upper + 2)
    start[-2] = 10
    return _upper_and_lower(features, start, discount, solid_probability)


def w_to_2w(discount: float = 0.99, solid_probability: float = 0.5) -> Example:
    r"""One parameter w: the upper state has the value w, the lower one 2w (Tsitsiklis & Van Roy 1996; Sutton & Barto 2018, sec. 11.2).

    The book of Sutton & Barto repeats the update of the upper state alone, which is the limit $p \to 0$.

    Args:
        discount: $\gamma$, in [0, 1).
        solid_probability: $p$, how often the behaviour policy takes the solid action, in (0, 1].

    Raises:
        ValueError: if an argument is outside its range.
    """
    return _upper_and_lower(np.array([[1.0], [2.0]]), np.ones(1), discount, solid_probability)


def baird_boundary(discount: float, n_upper: int = 6) -> float:
    r"""Probability of the solid action above which expected TD(0) settles on Baird's counterexample with $m$ upper states.

    It is $(2 m \gamma - m - 4) / (4 m - 4 - 3 m \gamma)$, for m = 6 $(6 \gamma - 5) / (10 - 9 \gamma)$; 0 (it settles for every p) when the
    numerator is not positive, as for every discount when $m \le 4$. The book derives it in its chapter on the counterexample.

    Args:
        discount: $\gamma$, in [0, 1).
        n_upper: $m$, at least 1.

    Raises:
        ValueError: if `discount` is not in [0, 1) or `n_upper` is not positive.
    """
    discount, m = check_discount(discount), check_count("n_upper", n_upper)
    excess = 2 * m * discount - m - 4
    return float(excess / (4 * m - 4 - 3 * m * discount)) if excess > 0 else 0.0


def w_to_2w_boundary(discount: float) -> float:
    r"""Probability of the solid action above which expected TD(0) is stable on w -> 2w: $(2 \gamma - 1) / (3 - 2 \gamma)$, at least 0.

    Raises:
        ValueError: if `discount` is not in [0, 1).
    """
    discount = check_discount(discount)
    return max(0.0, (2 * discount - 1) / (3 - 2 * discount))


def _upper_and_lower(
    features: Float[np.ndarray, "S k"], start: Float[np.ndarray, " k"], discount: float, solid_probability: float
) -> Example:
    share = "lie in (0, 1], because the target policy takes the solid action"
    solid_probability = check_number("solid_probability", solid_probability, share, lambda number: 0 < number <= 1)
    n_states = len(features)
    transitions = np.zeros((n_states, 2, n_states))
    transitions[:, DASHED, :-1] = 1 / (n_states - 1)
    transitions[:, SOLID, -1] = 1
    mdp = MDP(transitions, np.zeros((n_states, 2)), discount)
    target = np.tile([0.0, 1.0], (n_states, 1))
    behaviour = np.tile([1 - solid_probability, solid_probability], (n_states, 1))
    return Example(mdp, features, target, behaviour, start)


def chain(n_states: int = 5, discount: float = 0.9) -> MDP:
    r"""A corridor: action 0 moves one state to the left, 1 to the right, a wall stops; moving right in the last state earns 1.

    Args:
        n_states: at least 2.
        discount: $\gamma$, in [0, 1).

    Raises:
        ValueError: if an argument is outside its range.
    """
    n_states = check_count("n_states", n_states, least=2)
    states = np.arange(n_states)
    transitions = np.zeros((n_states, 2, n_states))
    transitions[states, 0, np.maximum(states - 1, 0)] = 1
    transitions[states, 1, np.minimum(states + 1, n_states - 1)] = 1
    rewards = np.zeros((n_states, 2))
    rewards[-1, 1] = 1
    return MDP(transitions, rewards, discount)


def random_mdp(rng: np.random.Generator, n_states: int, n_actions: int = 2, *, discount: float = 0.9, branching: int | None = None) -> MDP:
    """A random MDP: each pair leads to `branching` random states with Dirichlet(1, …, 1) probabilities, rewards are standard normal.

    These are the Garnet problems (Archibald, McKinnon & Thomas 1995).

    Args:
        rng: source of all randomness.
        n_states: S.
        n_actions: A.
        discount: in [0, 1).
        branching: number of successors of a pair; all states by default.

    Raises:
        ValueError: if a size is not positive, `branching` exceeds `n_states`, or the discount is not in [0, 1).
    """
    check_is("rng", rng, np.random.Generator)
    n_states, n_actions = check_count("n_states", n_states), check_count("n_actions", n_actions)
    branching = n_states if branching is None else check_count("branching", branching, most=n_states)
    successors = np.argsort(rng.random((n_states, n_actions, n_states)), axis=-1)[..., :branching]
    probabilities = rng.dirichlet(np.ones(branching), size=(n_states, n_actions))
    transitions = np.zeros((n_states, n_actions, n_states))
    np.put_along_axis(transitions, successors, probabilities, axis=-1)
    return MDP(transitions, rng.standard_normal((n_states, n_actions)), discount)


def random_policy(rng: np.random.Generator, mdp: MDP) -> Float[np.ndarray, "S A"]:
    """A random policy with Dirichlet(1, …, 1) action probabilities, all positive, shape (S, A)."""
    check_is("rng", rng, np.random.Generator)
    check_is("mdp", mdp, MDP)
    return rng.dirichlet(np.ones(mdp.n_actions), size=mdp.n_states)
