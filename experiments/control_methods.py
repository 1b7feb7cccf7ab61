r"""What the experiments on control need of agents beyond the package: rules of the ablation, normalised critics, and probes.

The rules differ in two things, what the errors $\delta = T Q - Q$ of a minibatch are multiplied with and how long the step is:

- `Searched`: $\theta' = \theta + \alpha J^\top \delta / n$, shortened until the values move towards the targets (or not);
- `KernelStep`: the same direction with $\alpha$ a fraction of $2 / \lambda_{\max}(K D)$, $D = 1/n$: the largest step at which
  regression to fixed targets with this kernel is stable.

With `deadly_triad.agents.PreQN` and an alignment of -1, which accepts every finite step, all four combinations of preconditioner and line
search are at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from deadly_triad import preqn
from deadly_triad.agents import ActorCritic, Batch, Metrics, PreQN, _or_infinity, _semi_gradient
from deadly_triad.networks import Dense, Hook, Network, activation, dense, mlp
from deadly_triad.ntk import kernel_factors
from deadly_triad.preqn import alignment
from sac import SAC

STATIC = {"static": True}


# --- Rules -----------------------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Searched(PreQN):
    """PreQN's line search along the plain semi-gradient of the mean over the minibatch."""

    def step(self, network: Network, parameters: Any, state: Any, inputs: Any, targets: Any) -> tuple[Any, Any, Metrics]:
        """See `deadly_triad.agents.Rule`."""
        settings = self.settings._replace(step_size=self.settings.step_size / len(targets))
        after, report = preqn.semi_gradient_step(network, preqn.init(parameters), inputs, targets, settings)
        found = report._asdict()
        del found["failed"]
        largest, step_size = _or_infinity(found["largest_value"]), found["step_size"] * len(targets)
        return after.parameters, state, found | {"largest_value": largest, "step_size": step_size}


POWER_STEPS = 30


def largest_eigenvalue(K: Any) -> Any:
    """Of a kernel, by the power method from the vector of ones; from below, and exact where one eigenvalue stands out, as here it does."""

    def multiply(_: Any, v: Any) -> Any:
        w = K @ v
        return w / jnp.linalg.norm(w)

    v = jax.lax.fori_loop(0, POWER_STEPS, multiply, jnp.ones(len(K), K.dtype))
    return v @ K @ v / (v @ v)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KernelStep:
    """Semi-gradients whose step is a fraction of the largest that the kernel of the minibatch allows.

    Attributes:
        fraction: of two over the largest eigenvalue of K D.
    """

    fraction: float | Any = 0.5

    def init(self, parameters: Any) -> Any:  # noqa: ARG002
        """Nothing is remembered."""
        return ()

    def step(self, network: Network, parameters: Any, state: Any, inputs: Any, targets: Any) -> tuple[Any, Any, Metrics]:
        """See `deadly_triad.agents.Rule`."""
        K = kernel_factors(network, parameters, inputs).kernel()
        step_size = self.fraction * 2 * len(targets) / largest_eigenvalue(K)

        def change(half_gradient: Any) -> tuple[Any, Any]:
            return jax.tree.map(lambda g: -step_size * g, half_gradient), state

        return _semi_gradient(network, parameters, inputs, targets, change, step_size)


# --- Normalised critics ----------------------------------------------------------------------------------------------


@cache
def normalised_network(name: str) -> Network:
    """An MLP whose activations see inputs of mean 0 and variance 1 over the units of their layer, without learned scales."""
    activate = activation(name)

    def normalised(z: Any) -> Any:
        z = z - jnp.mean(z, axis=1, keepdims=True)
        return activate(z / jnp.sqrt(jnp.mean(z**2, axis=1, keepdims=True) + 1e-5))

    def values(layers: Sequence[Dense], inputs: Any, hook: Hook) -> Any:
        return mlp(layers, inputs, hook, normalised)[:, 0]

    return values


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Normalised(ActorCritic):
    """An actor with normalised critics."""

    @property
    def network(self) -> Network:
        """That of the critics."""
        return normalised_network(self.activation)


# --- Probes ----------------------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Probed:
    """An agent that is looked at while it learns; what it learns is the same.

    Every update tells the largest reward of its minibatch too. Every `every`-th measures, for the first critic on its minibatch: mean
    diagonal and mean row ratio of K before the update, the largest eigenvalue of K D, and how the move of the values aligns with the
    errors to the targets of the *current* networks, whatever the method's own targets are. In between these are NaN.
    """

    agent: Any
    every: int = field(default=100, metadata=STATIC)

    def init(self, key: Any, n_observations: int, n_actions: int) -> Any:
        """That of the agent."""
        return self.agent.init(key, n_observations, n_actions)

    def act(self, actor: Any, observations: Any, noise: Any = None, xp: ModuleType = jnp) -> Any:
        """That of the agent."""
        return self.agent.act(actor, observations, noise, xp)

    def update(self, state: Any, batch: Batch, n_updates: Any, key: Any) -> tuple[Any, Metrics]:
        """That of the agent, and the probes."""
        after, metrics = self.agent.update(state, batch, n_updates, key)

        def look() -> Metrics:
            return measure(self.agent, state, after, batch, key)

        blank = jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), jax.eval_shape(look))
        probes = jax.lax.cond(n_updates % self.every == 0, look, lambda: blank)
        return after, metrics | probes | {"largest_reward": jnp.max(jnp.abs(batch.rewards))}


def measure(agent: Any, before: Any, after: Any, batch: Batch, key: Any) -> Metrics:
    """The probes of one update; see `Probed`."""
    inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
    factors = kernel_factors(agent.network, before.critics[0], inputs)
    K, values = factors.kernel(), factors.Q
    own = jnp.diagonal(K)
    moved = agent.network(after.critics[0], inputs, dense) - values
    return {
        "mean_diagonal": jnp.mean(own),
        "row_ratio": jnp.mean((jnp.sum(jnp.abs(K), axis=1) - own) / own),
        "largest_eigenvalue": largest_eigenvalue(K) / len(K),
        "alignment_current": alignment(moved, current_targets(agent, before, batch, key) - values),
    }


def current_targets(agent: Any, state: Any, batch: Batch, key: Any) -> Any:
    """The targets that the networks themselves would set: no target networks, no smoothing."""
    if isinstance(agent, SAC):
        noise = jax.random.normal(key, batch.actions.shape, batch.actions.dtype)
        return agent.targets(state._replace(target_critics=state.critics), batch, noise)
    bare = replace(agent, smoothing=None)
    return bare.targets(state._replace(target_actor=None, target_critics=None), batch, key)
