r"""What the package is measured against, written for JAX with the same care: the naive kernel; and pairs of whole updates.

TD3 is the package's own (checked against stable-baselines3 in the tests). `pair` does two consecutive updates of actor and critic on two
minibatches, because TD3 moves its actor at every second one (Fujimoto, van Hoof & Meger 2018); half its time is that of an update. The
actor has relu, which is the same for all, and critics the activation that is asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
from deadly_triad.agents import TD3, ActorCritic, Batch, PreQN, State
from deadly_triad.networks import Dense, Network, dense
from deadly_triad.ntk import SMALLEST_SPLIT
from deadly_triad.preqn import Settings
from jax import Array

N_OBSERVATIONS, N_ACTIONS = 17, 6
N_INPUTS = N_OBSERVATIONS + N_ACTIONS
KEY = jax.random.key(0)
Layers = list[Dense]


def preqn_agent(name: str, settings: Settings, *, delayed: bool = False) -> ActorCritic:
    """PreQN, with an actor that moves at every update or, `delayed`, at every second one, as in TD3."""
    return ActorCritic(PreQN(settings), activation=name, policy_delay=1 + delayed)


def td3_agent(name: str) -> ActorCritic:
    """TD3 with the activation."""
    return replace(TD3, activation=name)


def naive_agent(name: str, settings: Settings) -> ActorCritic:
    """PreQN done naively."""
    return ActorCritic(Naive(settings), activation=name)


def start(agent: ActorCritic, key: Array, hidden: Sequence[int]) -> State:
    """Networks of PyTorch's initialisation, and optimisers that have seen nothing."""
    return replace(agent, hidden=tuple(hidden)).init(key, N_OBSERVATIONS, N_ACTIONS)


@jax.jit
def pair(agent: ActorCritic, state: State, batches: tuple[Batch, Batch]) -> State:
    """Two updates, the second one that of an actor which waits."""
    first, second = jax.random.split(KEY)
    state, _ = agent.update(state, batches[0], 1, first)
    return agent.update(state, batches[1], 2, second)[0]


def random_batch(key: Array, n: int) -> Batch:
    """Transitions without an environment, in the shapes of a running robot: speed less effort is the reward, states change slowly."""
    keys = jax.random.split(key, 4)
    observations = jax.random.normal(keys[0], (n, N_OBSERVATIONS))
    actions = jax.random.uniform(keys[1], (n, N_ACTIONS), minval=-1, maxval=1)
    return Batch(
        observations,
        actions,
        observations[:, 0] - 0.1 * jnp.sum(actions**2, axis=1),
        observations + 0.1 * jax.random.normal(keys[2], (n, N_OBSERVATIONS)),
        jax.random.uniform(keys[3], (n,)) < 0.01,
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Naive:
    """PreQN as its equation stands: a Jacobian, least squares by singular values, the line search left out."""

    settings: Settings = field(metadata={"static": True})

    def init(self, parameters: Layers) -> tuple[()]:  # noqa: ARG002
        """Nothing is remembered."""
        return ()

    def step(self, network: Network, parameters: Layers, state: Any, inputs: Array, targets: Array) -> tuple[Layers, Any, dict[str, Array]]:
        """One step, of which nothing is reported."""
        J, (flat, unravel) = jacobian(network, parameters, inputs), jax.flatten_util.ravel_pytree(parameters)
        zeta = jnp.linalg.lstsq(J @ J.T, targets - network(parameters, inputs, dense))[0]
        # The rows of J follow the leaves of the parameters, as `ravel_pytree` does.
        return unravel(flat + self.settings.step_size * J.T @ zeta), state, {}


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
