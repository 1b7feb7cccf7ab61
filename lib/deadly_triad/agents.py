r"""A deterministic actor and its critics: what the agent does, and what one update on a minibatch changes.

The actor $\mu$ maps an observation to an action in the box $[-1, 1]^k$ (whoever plays scales it to the box of the environment), the critics
$Q_\theta$ value pairs of the two. One update moves every critic towards the targets

$$y = r + \gamma \, (1 - \text{end}) \, \min_i \bar Q_i(s', \bar\mu(s') + \text{noise})$$

and then the actor up the first critic, $\nabla \tfrac1n \sum Q_\theta(s, \mu(s))$ (Silver et al. 2014), and the target networks after both.
DDPG (Lillicrap et al. 2016), TD3 (Fujimoto, van Hoof & Meger 2018) and PreQN (Achiam, Knight & Abbeel 2019) are settings of this one thing:
how a critic learns (`Adam`, `SGD`, `PreQN`), how many there are, whether they have target networks, whether the targets are smoothed, and
how seldom the actor moves.

>>> from dataclasses import replace
>>> agent = replace(TD3, hidden=(8,), target_rate=0.01)
>>> state = agent.init(jax.random.key(0), n_observations=3, n_actions=1)
>>> agent.act(state.actor, jnp.zeros((5, 3))).shape
(5, 1)

Everything here is a pure function and nothing is compiled: callers use `jit`, `vmap` and `scan`. Numbers are leaves of the settings and so
traced: a new step size compiles nothing. Strings, sizes and counts are static.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from deadly_triad import preqn
from deadly_triad.networks import Dense, Network, activation, dense, init_mlp, value_network
from deadly_triad.preqn import Settings, alignment, check_settings

try:
    import optax
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError('deadly_triad.agents needs optax: pip install "deadly-triad[agents]"', name=missing.name) from missing

Layers = list[Dense]
Metrics = dict[str, Array]
_STATIC: Final = {"static": True}

# --- Refusals --------------------------------------------------------------------------------------------------------


def _check_vector(name: str, array: Any, n: int) -> None:
    """A column would be broadcast against a row to a square, and the step be wrong without a word."""
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {array.shape}")


def _check_between(name: str, number: Any, what: str, holds: Callable[[Any], bool]) -> None:
    if isinstance(number, int | float | np.number) and not holds(number):
        raise ValueError(f"{name} must {what}, got {number}")


def _check_positive(name: str, number: Any) -> None:
    _check_between(name, number, "be positive and finite", lambda x: 0 < x < np.inf)


# --- How a critic learns ---------------------------------------------------------------------------------------------


@runtime_checkable
class Rule(Protocol):
    """How one critic learns; a pytree whose leaves are its numbers."""

    def init(self, parameters: PyTree) -> Any:
        """State of the learner for parameters that it has not seen."""

    def step(self, network: Network, parameters: PyTree, state: Any, inputs: PyTree, targets: Array) -> tuple[PyTree, Any, Metrics]:
        """Parameters and state after one minibatch, and what happened.

        The metrics are scalars: `td_error` (root mean square), `largest_value` (infinity once a value is not a number), `alignment` (cosine
        between how the values moved and where the targets pulled them, minus infinity if it is not defined), `accepted` (whether there
        was a step), its `step_size`, `backtracks` (how often it was shortened) and `residual` (of the linear system, 0 without one).
        """


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Adam:
    """Semi-gradient temporal differences: Adam on the mean squared error, as in DDPG and TD3.

    Raises:
        ValueError: if `step_size` is not positive and finite.
    """

    step_size: float | Any = 1e-3

    def __post_init__(self) -> None:
        _check_positive("step_size", self.step_size)

    def init(self, parameters: PyTree) -> Any:
        """Moments of zero."""
        return optax.scale_by_adam().init(parameters)

    def step(self, network: Network, parameters: PyTree, state: Any, inputs: PyTree, targets: Array) -> tuple[PyTree, Any, Metrics]:
        """See `Rule`."""

        def change(half_gradient: PyTree) -> tuple[PyTree, Any]:
            # Adam forgets the scale of the gradient but for its epsilon, which is meant for that of the mean squared error, not of half.
            moved, after = optax.scale_by_adam().update(jax.tree.map(lambda g: 2 * g, half_gradient), state)
            return jax.tree.map(lambda m: -self.step_size * m, moved), after

        return _semi_gradient(network, parameters, inputs, targets, change, self.step_size)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SGD:
    r"""Semi-gradient temporal differences as they stand, $\theta' = \theta + \alpha \tfrac1n \sum \delta \nabla Q_\theta$.

    Raises:
        ValueError: if `step_size` is not positive and finite.
    """

    step_size: float | Any = 1e-3

    def __post_init__(self) -> None:
        _check_positive("step_size", self.step_size)

    def init(self, parameters: PyTree) -> Any:  # noqa: ARG002
        """Nothing is remembered."""
        return ()

    def step(self, network: Network, parameters: PyTree, state: Any, inputs: PyTree, targets: Array) -> tuple[PyTree, Any, Metrics]:
        """See `Rule`."""

        def change(half_gradient: PyTree) -> tuple[PyTree, Any]:
            return jax.tree.map(lambda g: -self.step_size * g, half_gradient), state

        return _semi_gradient(network, parameters, inputs, targets, change, self.step_size)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PreQN:
    """The update that `preqn` defines.

    Raises:
        ValueError: if a setting is outside its range.
    """

    settings: Settings = field(default=Settings())

    def __post_init__(self) -> None:
        if all(isinstance(number, int | float | np.number) for number in self.settings):
            check_settings(self.settings)

    def init(self, parameters: PyTree) -> Any:  # noqa: ARG002
        """Nothing is remembered."""
        return ()

    def step(self, network: Network, parameters: PyTree, state: Any, inputs: PyTree, targets: Array) -> tuple[PyTree, Any, Metrics]:
        """See `Rule`."""
        after, report = preqn.step(network, preqn.init(parameters), inputs, targets, self.settings)
        found = report._asdict()
        del found["failed"]  # the residual says it too, and other rules solve nothing
        return after.parameters, state, found | {"largest_value": _or_infinity(found["largest_value"])}


def _semi_gradient(
    network: Network,
    parameters: PyTree,
    inputs: PyTree,
    targets: Array,
    change: Callable[[PyTree], tuple[PyTree, Any]],
    step_size: float | Array,
) -> tuple[PyTree, Any, Metrics]:
    """A step along `change` of the gradient of half the mean squared error, targets held fixed."""
    _check_vector("targets", targets, len(jax.tree.leaves(inputs)[0]))

    def loss(p: PyTree) -> tuple[Array, Array]:
        values = network(p, inputs, dense)
        return 0.5 * jnp.mean((targets - values) ** 2), values

    gradient, values = jax.grad(loss, has_aux=True)(parameters)
    moved, state = change(gradient)
    parameters, delta = optax.apply_updates(parameters, moved), targets - values
    return (
        parameters,
        state,
        {
            "alignment": alignment(network(parameters, inputs, dense) - values, delta),
            "backtracks": jnp.array(0),
            "accepted": jnp.array(True),
            "step_size": jnp.asarray(step_size, values.dtype),
            "residual": jnp.zeros_like(delta, shape=()),
            "td_error": jnp.sqrt(jnp.mean(delta**2)),
            "largest_value": _or_infinity(jnp.max(jnp.abs(values))),
        },
    )


# --- Minibatches and the memory they come from -----------------------------------------------------------------------


class Batch(NamedTuple):
    """Transitions, one a row; in a memory, in a minibatch, or one alone without the leading axis.

    Attributes:
        observations: what the actor saw, shape (n, d).
        actions: in the box from -1 to 1, shape (n, k).
        rewards: shape (n,).
        next_observations: shape (n, d); whatever they are after an end, nothing looks at them.
        ends: whether the episode ended there, so that nothing follows; not set where it was cut off. Shape (n,).
    """

    observations: Any
    actions: Any
    rewards: Any
    next_observations: Any
    ends: Any


class Memory(NamedTuple):
    """A ring buffer of transitions in JAX: the newest takes the place of the oldest.

    Attributes:
        rows: as many as it can hold.
        n_seen: how many it was ever given.
    """

    rows: Batch
    n_seen: Int[Array, ""]


def empty_rows(capacity: int, n_observations: int, n_actions: int, xp: ModuleType = jnp) -> Batch:
    """Rows for `capacity` transitions, in JAX or (`xp` is NumPy) in NumPy, in JAX's default precision.

    Raises:
        ValueError: if `capacity` is not positive.
    """
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1, got {capacity}")
    dtype = jnp.result_type(float)
    observations, actions = xp.zeros((capacity, n_observations), dtype), xp.zeros((capacity, n_actions), dtype)
    return Batch(observations, actions, xp.zeros(capacity, dtype), xp.zeros_like(observations), xp.zeros(capacity, bool))


def remember(memory: Memory, transition: Batch) -> Memory:
    """The memory with one more transition."""
    place = memory.n_seen % len(memory.rows.rewards)
    return Memory(jax.tree.map(lambda rows, new: rows.at[place].set(new), memory.rows, transition), memory.n_seen + 1)


def sample(memory: Memory, key: Key[Array, ""], batch_size: int) -> Batch:
    """Transitions drawn with replacement from those it holds, all with the same chance."""
    filled = jnp.minimum(memory.n_seen, len(memory.rows.rewards)).astype(jnp.uint32)
    # The remainder favours the first rows by a part in 2^32 / filled; `jax.random.randint` is no better and draws, and compiles, twice.
    chosen = jax.random.bits(key, (batch_size,), jnp.uint32) % filled
    return jax.tree.map(lambda rows: rows[chosen], memory.rows)


class HostMemory:
    """The same ring in NumPy, written in place, for environments that JAX cannot compile."""

    def __init__(self, capacity: int, n_observations: int, n_actions: int) -> None:
        self.rows, self.n_seen = empty_rows(capacity, n_observations, n_actions, np), 0

    def remember(self, transition: Batch) -> None:
        """Write one more transition."""
        for rows, new in zip(self.rows, transition, strict=True):
            rows[self.n_seen % len(rows)] = new
        self.n_seen += 1

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Batch:
        """Transitions drawn with replacement from those it holds, in arrays that begin with `shape`."""
        chosen = rng.integers(0, min(self.n_seen, len(self.rows.rewards)), shape)
        return Batch(*(rows[chosen] for rows in self.rows))


# --- The agent -------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """What an agent learns. Target networks are None where there are none.

    Attributes:
        actor: layers of the actor.
        critics: those of each critic.
        target_actor: the actor that the targets look ahead with.
        target_critics: the critics that they do it with.
        actor_state: of the actor's Adam.
        critic_states: of each critic's rule.
    """

    actor: Layers
    critics: tuple[Layers, ...]
    target_actor: Layers | None
    target_critics: tuple[Layers, ...] | None
    actor_state: Any
    critic_states: tuple[Any, ...]


@runtime_checkable
class Agent(Protocol):
    """What the loops of `training` ask of an agent: a pytree, hashable but for its leaves. Its state has the field `actor`."""

    def init(self, key: Key[Array, ""], n_observations: int, n_actions: int) -> Any:
        """State before anything was seen."""

    def act(self, actor: Any, observations: Any, noise: Any = None, xp: ModuleType = jnp) -> Any:
        """Actions in the box from -1 to 1; with standard normal noise, explored."""

    def update(self, state: Any, batch: Batch, n_updates: Any, key: Key[Array, ""]) -> tuple[Any, Metrics]:
        """State after one minibatch, the `n_updates`-th, counted from 1, and scalars with names."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ActorCritic:
    r"""A deterministic actor with one or several critics.

    Numbers are checked where the settings are made; what is traced is not.

    Attributes:
        critic: how each critic learns.
        actor_step_size: of Adam, for the actor.
        discount: $\gamma$.
        target_rate: $\tau$ of the target networks, $\bar\theta \leftarrow \bar\theta + \tau (\theta - \bar\theta)$; None for none.
        smoothing: standard deviation of the noise on the action that the targets look ahead with; None is no noise.
        smoothing_clip: largest such noise.
        exploration: standard deviation of the noise on the action that is played.
        n_critics: the targets take the least of their values.
        policy_delay: the actor, and the target networks, move at every so many-th update.
        hidden: widths of the hidden layers of all networks.
        activation: of the critics; the actor's is relu.

    Raises:
        ValueError: if a setting is outside its range.
    """

    critic: Rule = field(default=Adam())
    actor_step_size: float | Any = 1e-3
    discount: float | Any = 0.99
    target_rate: float | Any | None = None
    smoothing: float | Any | None = None
    smoothing_clip: float | Any = 0.5
    exploration: float | Any = 0.1
    n_critics: int = field(default=1, metadata=_STATIC)
    policy_delay: int = field(default=1, metadata=_STATIC)
    hidden: tuple[int, ...] = field(default=(64, 64), metadata=_STATIC)
    activation: str = field(default="relu", metadata=_STATIC)

    def __post_init__(self) -> None:
        _check_positive("actor_step_size", self.actor_step_size)
        _check_between("discount", self.discount, "lie in [0, 1)", lambda x: 0 <= x < 1)
        _check_between("target_rate", self.target_rate, "lie in (0, 1]", lambda x: 0 < x <= 1)
        for name in ("smoothing", "smoothing_clip", "exploration"):
            _check_between(name, getattr(self, name), "be at least 0 and finite", lambda x: 0 <= x < np.inf)
        for name in ("n_critics", "policy_delay"):
            _check_between(name, getattr(self, name), "be at least 1", lambda x: x >= 1)
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must hold at least one width, all positive, got {self.hidden}")
        activation(self.activation)

    @property
    def network(self) -> Network:
        """That of the critics, as a function of their layers and of rows of observation and action."""
        return value_network(self.activation)

    def init(self, key: Key[Array, ""], n_observations: int, n_actions: int) -> State:
        """Networks of PyTorch's initialisation, target networks equal to them, learners that have seen nothing."""
        actor_key, *critic_keys = jax.random.split(key, 1 + self.n_critics)
        actor = init_mlp(actor_key, [n_observations, *self.hidden, n_actions])
        critics = tuple(init_mlp(k, [n_observations + n_actions, *self.hidden, 1]) for k in critic_keys)
        # Copies, because a state that is donated must not hold one array twice.
        copied = None if self.target_rate is None else jax.tree.map(jnp.copy, (actor, critics))
        target_actor, target_critics = copied or (None, None)
        states = tuple(self.critic.init(parameters) for parameters in critics)
        return State(actor, critics, target_actor, target_critics, optax.scale_by_adam().init(actor), states)

    def act(self, actor: Layers, observations: Any, noise: Any = None, xp: ModuleType = jnp) -> Any:
        """Actions in the box from -1 to 1, with a leading axis or none as the observations have it.

        Args:
            actor: its layers; NumPy arrays if `xp` is NumPy.
            observations: shape (..., d).
            noise: standard normal numbers, shape (..., k), for exploration.
            xp: `jax.numpy`, or `numpy` where a call of one row must be cheap.
        """
        actions = _policy(actor, observations, xp)
        return actions if noise is None else xp.clip(actions + self.exploration * noise, -1, 1)

    def targets(self, state: State, batch: Batch, key: Key[Array, ""]) -> Float[Array, " n"]:
        """What the critics are to reach on a minibatch; `key` is that of the smoothing."""
        critics = state.critics if state.target_critics is None else state.target_critics
        actions = _policy(state.actor if state.target_actor is None else state.target_actor, batch.next_observations)
        if self.smoothing is not None:
            noise = self.smoothing * jax.random.normal(key, actions.shape, actions.dtype)
            actions = jnp.clip(actions + jnp.clip(noise, -self.smoothing_clip, self.smoothing_clip), -1, 1)
        values = jnp.stack([self.value(critic, batch.next_observations, actions) for critic in critics])
        # A product with 1 - end would let through what is seen after an end, if that is not a number.
        return batch.rewards + self.discount * jnp.where(batch.ends, 0.0, jnp.min(values, axis=0))

    def value(self, critic: Layers, observations: Float[Array, "n d"], actions: Float[Array, "n k"]) -> Float[Array, " n"]:
        """The value that a critic gives to pairs of observation and action."""
        return self.network(critic, jnp.concatenate([observations, actions], axis=1), dense)

    def update(self, state: State, batch: Batch, n_updates: int | Int[Array, ""], key: Key[Array, ""]) -> tuple[State, Metrics]:
        """One step of each critic and, in its turn, of the actor and the target networks.

        Args:
            state: before.
            batch: a minibatch.
            n_updates: the number of this update, counted from 1. It is no part of the state so that it stays one number for all seeds under
                `vmap`: then an actor whose turn it is not costs nothing.
            key: of the smoothing noise.

        Returns:
            The state after, and metrics: those of `Rule.step`, the worst of all critics; and `actor_moved`, which is false where it was
            not its turn or the critic has left the numbers.

        Raises:
            ValueError: if rewards or ends of the batch have another shape than (n,).
        """
        for name in ("rewards", "ends"):
            _check_vector(f"batch.{name}", getattr(batch, name), len(batch.observations))
        targets = self.targets(state, batch, key)
        inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
        steps = [
            self.critic.step(self.network, parameters, learner, inputs, targets)
            for parameters, learner in zip(state.critics, state.critic_states, strict=True)
        ]
        critics, learners, metrics = zip(*steps, strict=True)
        state = state._replace(critics=critics, critic_states=learners)
        improve = partial(self._improve, observations=batch.observations)
        if self.policy_delay == 1:
            state, moved = improve(state)
        else:
            state, moved = jax.lax.cond(n_updates % self.policy_delay == 0, improve, lambda s: (s, jnp.array(False)), state)
        return state, _worst(metrics) | {"actor_moved": moved}

    def _improve(self, state: State, observations: Float[Array, "n d"]) -> tuple[State, Bool[Array, ""]]:
        """The actor one step up the first critic, and the target networks one step after both."""

        def loss(actor: Layers) -> Array:
            return -jnp.mean(self.value(state.critics[0], observations, _policy(actor, observations)))

        gradient = jax.grad(loss)(state.actor)
        change, actor_state = optax.scale_by_adam().update(gradient, state.actor_state)
        actor = jax.tree.map(lambda p, c: p - self.actor_step_size * c, state.actor, change)
        # A critic that has blown up has nothing to say: the actor then stays as it is, and so does the state of its optimiser.
        sound = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)]))
        keep = partial(jax.tree.map, lambda new, old: jnp.where(sound, new, old))
        state = state._replace(actor=keep(actor, state.actor), actor_state=keep(actor_state, state.actor_state))
        if self.target_rate is None:
            return state, sound
        follow = partial(jax.tree.map, lambda old, new: old + self.target_rate * (new - old))
        return state._replace(
            target_actor=follow(state.target_actor, state.actor), target_critics=follow(state.target_critics, state.critics)
        ), sound


DDPG: Final = ActorCritic(target_rate=0.005)
"""One critic with Adam, and target networks; rates and noise as TD3 has them."""
TD3: Final = ActorCritic(target_rate=0.005, smoothing=0.2, n_critics=2, policy_delay=2)
"""The settings of Fujimoto, van Hoof & Meger 2018, with smaller layers."""
PREQN: Final = ActorCritic(critic=PreQN(), activation="sin")
"""Preconditioned, with the paper's activation, and no target network."""


def _policy(layers: Sequence[Dense], observations: Any, xp: ModuleType = jnp) -> Any:
    """A relu network with a tanh at its end, the same lines for JAX and NumPy."""
    a = observations
    for layer in layers[:-1]:
        z = a @ layer.weight + layer.bias
        a = xp.where(z > 0, z, 0)
    return xp.tanh(a @ layers[-1].weight + layers[-1].bias)


def _worst(metrics: Sequence[Metrics]) -> Metrics:
    least = {"alignment", "accepted", "step_size"}
    return {name: (jnp.min if name in least else jnp.max)(jnp.array([m[name] for m in metrics]), axis=0) for name in metrics[0]}


def _or_infinity(largest: Array) -> Array:
    return jnp.where(jnp.isfinite(largest), largest, jnp.inf)
