r"""Soft actor-critic with a tuned temperature, for the loops of `deadly_triad.training`.

The policy is a normal distribution whose mean and deviation a network gives, squashed by tanh into the box of actions. Values count the
entropy of the policy, with the temperature $\tau$:

$$y = r + \gamma \, (1 - \text{end}) \, \bigl( \min_i \bar Q_i(s', a') - \tau \log \pi(a' \mid s') \bigr), \qquad a' \sim \pi(s') .$$

The actor descends the mean of $\tau \log \pi(a \mid s) - \min_i Q_i(s, a)$, and the temperature falls where the entropy is above minus the
number of actions. Haarnoja et al. 2018, *Soft Actor-Critic Algorithms and Applications*; the order of the steps and all constants are those
of stable-baselines3, against which `tests/package/test_sac.py` holds every update.
"""

from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from deadly_triad.agents import Adam, Batch, Layers, Metrics, _semi_gradient, _worst
from deadly_triad.networks import Network, dense, init_mlp, value_network


class State(NamedTuple):
    """What the agent learns: policy, two critics, their target networks, the logarithm of the temperature, and what the optimisers keep."""

    actor: Layers
    critics: tuple[Layers, ...]
    target_critics: tuple[Layers, ...]
    log_temperature: Any
    actor_state: Any
    critic_states: tuple[Any, ...]
    temperature_state: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Halved(Adam):
    """Adam on half the mean squared error, as the library has it for this method: the factor meets Adam's epsilon only."""

    def step(self, network: Network, parameters: Any, state: Any, inputs: Any, targets: Any) -> tuple[Any, Any, Metrics]:
        """See `deadly_triad.agents.Rule`."""
        change = partial(descend, step_size=self.step_size, state=state)
        return _semi_gradient(network, parameters, inputs, targets, change, self.step_size)


def descend(gradient: Any, *, step_size: Any, state: Any) -> tuple[Any, Any]:
    """The change that Adam makes, and its state after it."""
    moved, after = optax.scale_by_adam().update(gradient, state)
    return jax.tree.map(lambda m: -step_size * m, moved), after


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SAC:
    """Soft actor-critic; an `Agent`.

    Attributes:
        step_size: of Adam, for the actor, the critics and the logarithm of the temperature.
        discount: of the return.
        target_rate: how fast the target networks follow.
        hidden: widths of the hidden layers of all networks.
        activation: of the critics; the actor's is relu.
    """

    step_size: float | Any = 3e-4
    discount: float | Any = 0.99
    target_rate: float | Any = 0.005
    hidden: tuple[int, ...] = field(default=(64, 64), metadata={"static": True})
    activation: str = field(default="relu", metadata={"static": True})

    @property
    def network(self) -> Network:
        """That of the critics."""
        return value_network(self.activation)

    def init(self, key: Any, n_observations: int, n_actions: int) -> State:
        """Networks of PyTorch's initialisation, and a temperature of 1."""
        actor_key, *critic_keys = jax.random.split(key, 3)
        actor = init_mlp(actor_key, [n_observations, *self.hidden, 2 * n_actions])
        critics = tuple(init_mlp(k, [n_observations + n_actions, *self.hidden, 1]) for k in critic_keys)
        temperature, adam = jnp.zeros(()), optax.scale_by_adam()
        states = tuple(adam.init(critic) for critic in critics)
        return State(actor, critics, jax.tree.map(jnp.copy, critics), temperature, adam.init(actor), states, adam.init(temperature))

    def act(self, actor: Layers, observations: Any, noise: Any = None, xp: ModuleType = jnp) -> Any:
        """The squashed mean; with standard normal noise, a draw of the policy."""
        mean, log_deviation = _policy(actor, observations, xp)
        return xp.tanh(mean if noise is None else mean + xp.exp(log_deviation) * noise)

    def targets(self, state: State, batch: Batch, noise: Any) -> Any:
        """What the critics are to reach on a minibatch, with the target networks."""
        actions, log_density = _draw(state.actor, batch.next_observations, noise)
        least = self._least(state.target_critics, batch.next_observations, actions)
        ahead = least - jnp.exp(state.log_temperature) * log_density
        return batch.rewards + self.discount * jnp.where(batch.ends, 0.0, ahead)

    def update(self, state: State, batch: Batch, n_updates: Any, key: Any) -> tuple[State, Metrics]:  # noqa: ARG002
        """One step of the temperature, the critics, the actor and the target networks."""
        now, following = jax.random.normal(key, (2, *batch.actions.shape), batch.actions.dtype)
        return self.learn(state, batch, now, following)

    def learn(self, state: State, batch: Batch, now: Any, following: Any) -> tuple[State, Metrics]:
        """The update, with the noise of the actions at the observations and at the next ones."""
        targets = self.targets(state, batch, following)
        temperature = jnp.exp(state.log_temperature)
        _, log_density = _draw(state.actor, batch.observations, now)
        change, temperature_state = descend(
            -jnp.mean(log_density - batch.actions.shape[1]), step_size=self.step_size, state=state.temperature_state
        )
        inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
        steps = [
            Halved(self.step_size).step(self.network, critic, learner, inputs, targets)
            for critic, learner in zip(state.critics, state.critic_states, strict=True)
        ]
        critics, learners, metrics = zip(*steps, strict=True)

        def loss(actor: Layers) -> Any:
            actions, log_density = _draw(actor, batch.observations, now)
            return jnp.mean(temperature * log_density - self._least(critics, batch.observations, actions))

        gradient = jax.grad(loss)(state.actor)
        moved, actor_state = descend(gradient, step_size=self.step_size, state=state.actor_state)
        # As in `ActorCritic`: critics that have blown up move the actor no more.
        sound = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)]))
        keep = partial(jax.tree.map, lambda new, old: jnp.where(sound, new, old))
        state = State(
            keep(jax.tree.map(jnp.add, state.actor, moved), state.actor),
            critics,
            jax.tree.map(lambda old, new: old + self.target_rate * (new - old), state.target_critics, critics),
            state.log_temperature + change,
            keep(actor_state, state.actor_state),
            learners,
            temperature_state,
        )
        return state, _worst(metrics) | {"actor_moved": sound, "temperature": temperature}

    def _least(self, critics: tuple[Layers, ...], observations: Any, actions: Any) -> Any:
        inputs = jnp.concatenate([observations, actions], axis=1)
        return jnp.min(jnp.stack([self.network(critic, inputs, dense) for critic in critics]), axis=0)


def _policy(layers: Layers, observations: Any, xp: ModuleType = jnp) -> tuple[Any, Any]:
    """Mean, and logarithm of the deviation, before the squashing."""
    a = observations
    for layer in layers[:-1]:
        z = a @ layer.weight + layer.bias
        a = xp.where(z > 0, z, 0)
    both = a @ layers[-1].weight + layers[-1].bias
    k = both.shape[-1] // 2
    return both[..., :k], xp.clip(both[..., k:], -20, 2)


def _draw(layers: Layers, observations: Any, noise: Any) -> tuple[Any, Any]:
    """Actions, and the logarithm of their density."""
    mean, log_deviation = _policy(layers, observations)
    actions = jnp.tanh(mean + jnp.exp(log_deviation) * noise)
    normal = -0.5 * noise**2 - log_deviation - 0.5 * np.log(2 * np.pi)
    return actions, jnp.sum(normal - jnp.log(1 - actions**2 + 1e-6), axis=-1)
