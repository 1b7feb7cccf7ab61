r"""A deterministic actor and a critic on a continuous task, environment and agent in one compiled loop.

The critic's update is a parameter: PreQN, or temporal differences with any optimiser, with or without a target network (DDPG, Lillicrap
et al. 2016). Everything else is the same for all, so that a difference between two runs is a difference of their critics. Each step of
the loop is one step of the environment and, after a start with random actions, one update of the critic on a minibatch from everything
seen so far and one of the actor, which ascends $Q_\theta(s, \mu(s))$ (Silver et al. 2014).

Environments are the functional ones of `gymnasium.experimental.functional.FuncEnv`, written in JAX, such as
`gymnasium.envs.phys2d.pendulum.PendulumFunctional`. All seeds of a run go through the loop together.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from gymnasium.experimental.functional import FuncEnv
from jaxtyping import Array, Float, Int, Key, PyTree

from deadly_triad import preqn
from deadly_triad.networks import Network, activation, dense, init_mlp, mlp, value_network
from deadly_triad.preqn import Settings, alignment, check_settings

Environment = FuncEnv[Any, Any, Any, Any, Any, Any, Any]
Progress = Callable[[Iterable[int]], Iterable[int]]


class Diagnosis(NamedTuple):
    """What one update of a critic did on its minibatch; every entry a scalar, or one per seed and step.

    Attributes:
        alignment: cosine between how the values moved and where the targets pulled them; minus infinity if it is not defined.
        backtracks: how often PreQN shortened its step; 0 for other critics.
        largest_value: largest |Q|, infinity once a value is not a number.
        td_error: root mean square of the temporal-difference errors.
    """

    alignment: Float[Array, "..."]
    backtracks: Int[Array, "..."]
    largest_value: Float[Array, "..."]
    td_error: Float[Array, "..."]


class Critic(NamedTuple):
    r"""How a critic learns.

    Attributes:
        init: from parameters to the state of the learner.
        update: from network, parameters, state, inputs and targets to parameters, state, cosine and backtracks.
        target_rate: $\tau$ of the target networks of critic and actor, $\bar\theta \leftarrow \bar\theta + \tau (\theta - \bar\theta)$;
            1 is no target network.
    """

    init: Callable[[PyTree], Any]
    update: Callable[[Network, PyTree, Any, PyTree, Array], tuple[PyTree, Any, Array, Array]]
    target_rate: float


def preqn_critic(settings: Settings) -> Critic:
    """PreQN, without a target network.

    Raises:
        ValueError: if a setting is outside its range.
    """
    check_settings(settings)

    def update(network: Network, parameters: PyTree, state: Any, inputs: PyTree, targets: Array) -> tuple[PyTree, Any, Array, Array]:
        after, report = preqn.step(network, preqn.init(parameters), inputs, targets, settings)
        return after.parameters, state, report.alignment, report.backtracks

    return Critic(lambda _: (), update, 1.0)


def td_critic(optimiser: optax.GradientTransformation, target_rate: float = 1.0) -> Critic:
    """Semi-gradient temporal differences on the mean squared error of the minibatch.

    Args:
        optimiser: from optax, which owns the step size.
        target_rate: see `Critic`.

    Raises:
        ValueError: if `target_rate` is not in (0, 1].
    """
    if not 0 < target_rate <= 1:
        raise ValueError(f"target_rate must lie in (0, 1], got {target_rate}")

    def update(network: Network, parameters: PyTree, state: Any, inputs: PyTree, targets: Array) -> tuple[PyTree, Any, Array, Array]:
        def loss(p: PyTree) -> tuple[Array, Array]:
            values = network(p, inputs, dense)
            return 0.5 * jnp.mean((targets - values) ** 2), values

        gradient, values = jax.grad(loss, has_aux=True)(parameters)
        change, state = optimiser.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, change)
        return parameters, state, alignment(network(parameters, inputs, dense) - values, targets - values), jnp.array(0)

    return Critic(optimiser.init, update, target_rate)


class Training(NamedTuple):
    r"""What is the same for every critic.

    Attributes:
        n_steps: steps with updates.
        random_steps: steps with random actions before, without.
        horizon: an episode is cut off after so many steps, and the targets bootstrap through the cut.
        discount: $\gamma$.
        batch_size: of a minibatch.
        hidden: widths of the hidden layers of both networks.
        activation: of the critic; the actor's is relu.
        actor_step_size: of Adam, for the actor.
        noise: standard deviation of the exploration, in units of half the range of an action.
    """

    n_steps: int = 7000
    random_steps: int = 1000
    horizon: int = 200
    discount: float = 0.99
    batch_size: int = 100
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "sin"
    actor_step_size: float = 1e-3
    noise: float = 0.1


class Run(NamedTuple):
    """What came of a training, for R seeds and T steps with updates.

    Attributes:
        returns: undiscounted return of each episode that was completed, with exploration, shape (R, episodes).
        diagnosis: of each update of the critic, entries of shape (R, T).
        actor: the parameters of the actors at the end.
        critic: those of the critics.
    """

    returns: Float[np.ndarray, "R episodes"]
    diagnosis: Diagnosis
    actor: PyTree
    critic: PyTree


class _Memory(NamedTuple):
    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    ends: Array


class _State(NamedTuple):
    key: Key[Array, ""]
    environment: Array
    time: Array
    n_seen: Array
    memory: _Memory
    actor: PyTree
    critic: PyTree
    target_actor: PyTree
    target_critic: PyTree
    actor_state: Any
    critic_state: Any


def train(
    environment: Environment, critic: Critic, training: Training, seeds: Iterable[int], *, progress: Progress = lambda steps: steps
) -> Run:
    """Train one agent a seed, all at once.

    Args:
        environment: a functional environment with a box of actions, in JAX.
        critic: how the critic learns.
        training: everything else.
        seeds: one agent each.
        progress: wraps the loop over blocks of steps, such as `tqdm.tqdm`.

    Raises:
        ValueError: if a setting of `training` is outside its range, there is no seed, or the action space is not a bounded box.
    """
    _check(environment, training)
    seeds = list(seeds)
    if not seeds:
        raise ValueError("seeds must hold at least one seed, got none")
    step = _step(environment, critic, training)
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    # The start does not depend on how the critic learns, so critics that differ in that alone share what is compiled.
    state, rewards = _start(environment, training._replace(activation="relu"), keys)
    state = state._replace(critic_state=jax.vmap(critic.init)(state.critic))
    block = max(1, min(500, training.n_steps))
    n_blocks = -(-training.n_steps // block)
    blocks = [rewards]
    diagnoses = []
    run = jax.jit(jax.vmap(lambda s: jax.lax.scan(step, s, None, length=block)))
    for _ in progress(range(n_blocks)):
        state, (rewards, diagnosis) = run(state)
        blocks.append(np.asarray(rewards))
        diagnoses.append(jax.tree.map(np.asarray, diagnosis))
    rewards = np.concatenate([np.asarray(b) for b in blocks], axis=1)[:, : training.random_steps + training.n_steps]
    n_episodes = rewards.shape[1] // training.horizon
    returns = rewards[:, : n_episodes * training.horizon].reshape(len(rewards), n_episodes, training.horizon).sum(axis=2)
    diagnosis = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1)[:, : training.n_steps], *diagnoses)
    return Run(returns, diagnosis, state.actor, state.critic)


def _box(environment: Environment) -> tuple[Array, Array]:
    space: Any = environment.action_space
    return jnp.asarray(space.low, float), jnp.asarray(space.high, float)


def _interact(environment: Environment, training: Training, state: _State, action: Array) -> tuple[_State, Array]:
    """One step of the environment; the memory holds every step, so nothing is ever dropped from it."""
    key, reset_key, step_key = jax.random.split(state.key, 3)
    here = environment.observation(state.environment, step_key)
    after = environment.transition(state.environment, action, step_key)
    reward = jnp.asarray(environment.reward(state.environment, action, after, step_key), float)
    there, end = environment.observation(after, step_key), environment.terminal(after, step_key)
    entry = _Memory(here, action, reward, there, jnp.asarray(end, float))
    memory = jax.tree.map(lambda all_, new: all_.at[state.n_seen].set(new), state.memory, entry)
    time = state.time + 1
    over = (time >= training.horizon) | jnp.asarray(end, bool)
    following = jnp.where(over, environment.initial(reset_key), after)
    state = state._replace(key=key, environment=following, time=jnp.where(over, 0, time), n_seen=state.n_seen + 1, memory=memory)
    return state, reward


@partial(jax.jit, static_argnames=("environment", "training"))
def _start(environment: Environment, training: Training, keys: Key[Array, " R"]) -> tuple[_State, Array]:
    """States of all seeds after the random steps, without that of the critic's learner, and the rewards."""
    low, high = _box(environment)
    n_actions, n_observations = int(np.prod(low.shape)), int(np.prod(environment.observation_space.shape or ()))

    def initial(key: Key[Array, ""]) -> tuple[_State, Array]:
        key, actor_key, critic_key, start_key = jax.random.split(key, 4)
        actor = init_mlp(actor_key, [n_observations, *training.hidden, n_actions])
        parameters = init_mlp(critic_key, [n_observations + n_actions, *training.hidden, 1])
        size = training.random_steps + training.n_steps + 500  # the last block of steps may be longer than is asked for
        memory = _Memory(
            jnp.zeros((size, n_observations)),
            jnp.zeros((size, *low.shape)),
            jnp.zeros(size),
            jnp.zeros((size, n_observations)),
            jnp.zeros(size),
        )
        zero = jnp.array(0)
        state = _State(
            key, environment.initial(start_key), zero, zero, memory, actor, parameters, actor, parameters,
            optax.adam(training.actor_step_size).init(actor), None,
        )  # fmt: skip

        def random_step(state: _State, _: None) -> tuple[_State, Array]:
            key, action_key = jax.random.split(state.key)
            return _interact(
                environment, training, state._replace(key=key), jax.random.uniform(action_key, low.shape, minval=low, maxval=high)
            )

        return jax.lax.scan(random_step, state, None, length=training.random_steps)

    return jax.vmap(initial)(keys)


def _step(environment: Environment, critic: Critic, training: Training) -> Callable[[_State, None], tuple[_State, tuple[Array, Diagnosis]]]:
    """One step of the environment and one update of each network, for `jax.lax.scan`."""
    low, high = _box(environment)
    centre, half = (low + high) / 2, (high - low) / 2
    actor_optimiser, activate = optax.adam(training.actor_step_size), activation("relu")
    network = value_network(training.activation)

    def act(actor: PyTree, observations: Float[Array, "n d"]) -> Float[Array, "n a"]:
        return centre + half * jnp.tanh(mlp(actor, observations, dense, activate))

    def value(parameters: PyTree, observations: Float[Array, "n d"], actions: Float[Array, "n a"]) -> Float[Array, " n"]:
        return network(parameters, _join(observations, actions), dense)

    def step(state: _State, _: None) -> tuple[_State, tuple[Array, Diagnosis]]:
        key, noise_key, batch_key = jax.random.split(state.key, 3)
        observation = environment.observation(state.environment, noise_key)
        noise = training.noise * half * jax.random.normal(noise_key, low.shape)
        action = jnp.clip(act(state.actor, observation[None])[0] + noise, low, high)
        state, reward = _interact(environment, training, state._replace(key=key), action)
        chosen = jax.random.randint(batch_key, (training.batch_size,), 0, state.n_seen)
        batch = jax.tree.map(lambda all_: all_[chosen], state.memory)
        ahead = value(state.target_critic, batch.next_observations, act(state.target_actor, batch.next_observations))
        targets = batch.rewards + training.discount * (1 - batch.ends) * ahead
        inputs = _join(batch.observations, batch.actions)
        values = network(state.critic, inputs, dense)
        parameters, critic_state, cosine, backtracks = critic.update(network, state.critic, state.critic_state, inputs, targets)
        gradient = jax.grad(lambda p: -jnp.mean(value(parameters, batch.observations, act(p, batch.observations))))(state.actor)
        change, actor_state = actor_optimiser.update(gradient, state.actor_state, state.actor)
        # A critic that has blown up has nothing to say: the actor then stays as it is, and so does the state of its optimiser.
        sound = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)]))
        keep = partial(jax.tree.map, lambda new, old: jnp.where(sound, new, old))
        actor, actor_state = keep(optax.apply_updates(state.actor, change), state.actor), keep(actor_state, state.actor_state)
        move = partial(jax.tree.map, lambda old, new: old + critic.target_rate * (new - old))
        largest = jnp.max(jnp.abs(values))
        diagnosis = Diagnosis(
            cosine,
            backtracks,
            jnp.where(jnp.isfinite(largest), largest, jnp.inf),
            jnp.sqrt(jnp.mean((targets - values) ** 2)),
        )
        state = state._replace(
            actor=actor,
            critic=parameters,
            target_actor=move(state.target_actor, actor),
            target_critic=move(state.target_critic, parameters),
            actor_state=actor_state,
            critic_state=critic_state,
        )
        return state, (reward, diagnosis)

    return step


def _join(observations: Float[Array, "n d"], actions: Float[Array, "n ..."]) -> Float[Array, "n inputs"]:
    return jnp.concatenate([observations, actions.reshape(len(actions), -1)], axis=1)


def _check(environment: Environment, training: Training) -> None:
    low, high = getattr(environment.action_space, "low", None), getattr(environment.action_space, "high", None)
    if low is None or high is None or not (np.all(np.isfinite(low)) and np.all(np.isfinite(high))):
        raise ValueError(f"environment must have a bounded box of actions, got {environment.action_space}")
    for name in ("n_steps", "random_steps", "horizon", "batch_size"):
        if getattr(training, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(training, name)}")
    if not 0 <= training.discount < 1:
        raise ValueError(f"discount must lie in [0, 1), got {training.discount}")
    if not 0 < training.actor_step_size < np.inf:
        raise ValueError(f"actor_step_size must be positive and finite, got {training.actor_step_size}")
    if not 0 <= training.noise < np.inf:
        raise ValueError(f"noise must be at least 0 and finite, got {training.noise}")
    if not training.hidden or min(training.hidden) < 1:
        raise ValueError(f"hidden must hold at least one width, all positive, got {training.hidden}")
