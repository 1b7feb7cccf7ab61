r"""What the package is measured against, written for JAX with the same care: the naive kernel, and TD3.

Both sides of the comparison of whole updates live here. `preqn_pair` and `td3_pair` do two consecutive updates of actor and critic on
two minibatches, because TD3 moves its actor at every second one (Fujimoto, van Hoof & Meger 2018); half their time is that of an update.
Both have an actor with relu, which is the same for both, and critics with the activation that is asked for.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from deadly_triad.networks import Dense, Network, activation, dense, init_mlp, mlp, value_network
from deadly_triad.ntk import SMALLEST_SPLIT
from deadly_triad.preqn import Settings, State, init, step
from jax import Array

DISCOUNT, TARGET_RATE, POLICY_NOISE, NOISE_CLIP = 0.99, 0.005, 0.2, 0.5
ADAM = optax.adam(1e-3)
N_OBSERVATIONS, N_ACTIONS = 17, 6
N_INPUTS = N_OBSERVATIONS + N_ACTIONS
Layers = list[Dense]


class Batch(NamedTuple):
    """A minibatch of transitions, and the standard normal numbers that TD3 smooths its targets with."""

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    ends: Array
    noise: Array


class PreQNState(NamedTuple):
    """Parameters of the two networks, and the state of the actor's optimiser."""

    actor: Layers
    critic: Layers
    actor_state: Any


class TD3State(NamedTuple):
    """Parameters of the actor, the twin critics and their three targets, and the states of the optimisers."""

    actor: Layers
    critics: tuple[Layers, Layers]
    target_actor: Layers
    target_critics: tuple[Layers, Layers]
    actor_state: Any
    critic_state: Any


def random_batch(key: Array, n: int) -> Batch:
    """Transitions without an environment, in the shapes of a running robot: speed less effort is the reward, states change slowly."""
    keys = jax.random.split(key, 5)
    observations = jax.random.normal(keys[0], (n, N_OBSERVATIONS))
    actions = jax.random.uniform(keys[1], (n, N_ACTIONS), minval=-1, maxval=1)
    return Batch(
        observations,
        actions,
        observations[:, 0] - 0.1 * jnp.sum(actions**2, axis=1),
        observations + 0.1 * jax.random.normal(keys[2], (n, N_OBSERVATIONS)),
        (jax.random.uniform(keys[3], (n,)) < 0.01).astype(float),
        jax.random.normal(keys[4], (n, N_ACTIONS)),
    )


def act(actor: Layers, observations: Array) -> Array:
    """The action of a deterministic actor, within plus and minus 1."""
    return jnp.tanh(mlp(actor, observations, dense, activation("relu")))


def value(network: Network, critic: Layers, observations: Array, actions: Array) -> Array:
    """The values that a critic gives to pairs of observation and action."""
    return network(critic, jnp.concatenate([observations, actions], axis=1), dense)


def improve(network: Network, critic: Layers, actor: Layers, state: Any, observations: Array) -> tuple[Layers, Any]:
    """One step of Adam up the deterministic policy gradient."""
    gradient = jax.grad(lambda p: -jnp.mean(value(network, critic, observations, act(p, observations))))(actor)
    change, state = ADAM.update(gradient, state, actor)
    return optax.apply_updates(actor, change), state


def start_preqn(key: Array, hidden: Sequence[int]) -> PreQNState:
    """Networks of PyTorch's initialisation and an optimiser that has seen nothing."""
    keys = jax.random.split(key)
    actor = init_mlp(keys[0], [N_OBSERVATIONS, *hidden, N_ACTIONS])
    return PreQNState(actor, init_mlp(keys[1], [N_INPUTS, *hidden, 1]), ADAM.init(actor))


def start_td3(key: Array, hidden: Sequence[int]) -> TD3State:
    """Networks of PyTorch's initialisation, targets equal to them, and optimisers that have seen nothing."""
    keys = jax.random.split(key, 3)
    actor = init_mlp(keys[0], [N_OBSERVATIONS, *hidden, N_ACTIONS])
    first, second = (init_mlp(k, [N_INPUTS, *hidden, 1]) for k in keys[1:])
    critics = (first, second)
    return TD3State(actor, critics, actor, critics, ADAM.init(actor), ADAM.init(critics))


def td_targets(network: Network, state: PreQNState, batch: Batch) -> Array:
    """What the critic is to reach on a batch, by the present networks."""
    ahead = value(network, state.critic, batch.next_observations, act(state.actor, batch.next_observations))
    return batch.rewards + DISCOUNT * (1 - batch.ends) * ahead


def preqn_step(
    network: Network,
    settings: Settings,
    state: PreQNState,
    batch: Batch,
    *,
    update: Callable[..., tuple[State, Any]],
    with_actor: bool,
) -> PreQNState:
    """A step of the critic with targets of the present networks; with it, one of the actor."""
    inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
    learner, _ = update(network, init(state.critic), inputs, td_targets(network, state, batch), settings)
    critic = learner.parameters
    if not with_actor:
        return state._replace(critic=critic)
    actor, actor_state = improve(network, critic, state.actor, state.actor_state, batch.observations)
    return PreQNState(actor, critic, actor_state)


def td3_step(network: Network, state: TD3State, batch: Batch, *, with_actor: bool) -> TD3State:
    """A step of both critics; with it, at every second update, one of the actor and one of the targets."""
    noise = jnp.clip(POLICY_NOISE * batch.noise, -NOISE_CLIP, NOISE_CLIP)
    smoothed = jnp.clip(act(state.target_actor, batch.next_observations) + noise, -1, 1)
    first, second = (value(network, critic, batch.next_observations, smoothed) for critic in state.target_critics)
    targets = batch.rewards + DISCOUNT * (1 - batch.ends) * jnp.minimum(first, second)

    def loss(critics: tuple[Layers, Layers]) -> Array:
        inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
        return sum((jnp.mean((network(critic, inputs, dense) - targets) ** 2) for critic in critics), jnp.zeros(()))

    change, critic_state = ADAM.update(jax.grad(loss)(state.critics), state.critic_state, state.critics)
    state = state._replace(critics=optax.apply_updates(state.critics, change), critic_state=critic_state)
    if not with_actor:
        return state
    actor, actor_state = improve(network, state.critics[0], state.actor, state.actor_state, batch.observations)
    follow = partial(jax.tree.map, lambda old, new: old + TARGET_RATE * (new - old))
    return state._replace(
        actor=actor,
        actor_state=actor_state,
        target_actor=follow(state.target_actor, actor),
        target_critics=follow(state.target_critics, state.critics),
    )


@partial(jax.jit, static_argnames=("name", "settings", "delayed", "update"))
def preqn_pair(
    name: str,
    settings: Settings,
    state: PreQNState,
    batches: tuple[Batch, Batch],
    *,
    delayed: bool = False,
    update: Callable[..., tuple[State, Any]] = step,
) -> PreQNState:
    """Two updates of PreQN, each with its actor, or, `delayed`, only the second one, as in TD3."""
    network, (first, second) = value_network(name), batches
    state = preqn_step(network, settings, state, first, update=update, with_actor=not delayed)
    return preqn_step(network, settings, state, second, update=update, with_actor=True)


@partial(jax.jit, static_argnames="name")
def td3_pair(name: str, state: TD3State, batches: tuple[Batch, Batch]) -> TD3State:
    """Two updates of TD3, the second one with its actor and its targets."""
    network = value_network(name)
    state = td3_step(network, state, batches[0], with_actor=False)
    return td3_step(network, state, batches[1], with_actor=True)


def jacobian(network: Network, parameters: Layers, inputs: Array) -> Array:
    """The gradients of all samples, one row each, by reverse mode sample by sample."""
    rows = jax.vmap(jax.grad(lambda p, x: network(p, x[None], dense)[0]), (None, 0))(parameters, inputs)
    return jnp.concatenate([leaf.reshape(len(inputs), -1) for leaf in jax.tree.leaves(rows)], axis=1)


@partial(jax.jit, static_argnums=0)
def naive_kernel(network: Network, parameters: Layers, inputs: Array) -> Array:
    """The kernel as it is defined: the Jacobian times its transpose."""
    J = jacobian(network, parameters, inputs)
    return J @ J.T


# --- Operations ---------------------------------------------------------------------------------------------------------


def passes(n: int, widths: Iterable[int]) -> tuple[int, int]:
    """Floating-point operations of a forward pass (and of the weights' gradient), and of a backward pass as far as the first layer."""
    layers = list(pairwise(widths))
    return 2 * n * sum(i * o for i, o in layers), 2 * n * sum(i * o for i, o in layers[1:])


def kernel_flops(hidden: Sequence[int], n: int) -> int:
    """Of forming the kernel as the package does: values, gradients of the hidden layers, and the products of rows with rows."""
    layers = pairwise([N_INPUTS, *hidden, 1])
    return sum(passes(n, [N_INPUTS, *hidden, 1])) + 2 * entries(n) * sum(i + o for i, o in layers)


def update_flops(hidden: Sequence[int], n: int, *, delayed: bool = False) -> tuple[int, int]:
    """Of an update of PreQN and of one of TD3 (the mean of two): the matrix products, and the Cholesky factor."""
    critic, to_first = passes(n, [N_INPUTS, *hidden, 1])
    actor, to_first_of_actor = passes(n, [N_OBSERVATIONS, *hidden, N_ACTIONS])
    improvement = 2 * critic + 2 * actor + to_first_of_actor  # through the critic to its inputs, and the actor's own gradient
    # Targets, kernel, factor, the weights' step, the values that the line search looks at, the actor.
    preqn = (actor + critic) + kernel_flops(hidden, n) + n**3 // 3 + critic + critic + improvement // (1 + delayed)
    # Targets of two critics, their gradients, the actor every second time.
    td3 = (actor + 2 * critic) + 2 * (2 * critic + to_first) + improvement // 2
    return preqn, td3


def entries(n: int) -> int:
    """How many entries of a kernel are computed, the others being their mirror images."""
    return n**2 if n < SMALLEST_SPLIT else entries(n // 2) + entries(n - n // 2) + (n // 2) * (n - n // 2)
