r"""Does anything warn before |Q| explodes? Short runs that are looked at every 50 updates, declared; `early_warning.md` is the protocol.

    make experiments EXPERIMENT=early_warning WORKERS=1      every run that has no result yet
    python experiments/early_warning_summary.py              the tables that the chapter reads

Every run has one critic. On the tasks with real actions it is that of `deadly_triad.agents.ActorCritic`; on CartPole, with two actions, it
has an output an action and is greedy (`Greedy`). Online, 50 steps of the environment are followed by 50 updates; on fixed data, all
transitions are those of random actions and none is added. A run is over when it passes the bound, or after 3000 updates.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from deadly_triad.agents import SGD, ActorCritic, Adam, Batch, HostMemory
from deadly_triad.networks import action_value_network, dense, init_mlp
from deadly_triad.preqn import alignment
from deadly_triad.training import _update
from runner import Run

VERSIONS = ("optax", "gymnasium", "mujoco")
TASKS = ("Pendulum-v1", "Hopper-v5", "HalfCheetah-v5", "CartPole-v1")
DATA = ("online", "fixed")
LEARNERS: dict[str, Any] = {"Adam": Adam(1e-3), "SGD": SGD(3e-3)}
TARGETS: dict[str, float | None] = {"no target": None, "target": 0.05}
ACTIVATIONS = ("relu", "tanh")
SEEDS = (2000, 2001)
N_UPDATES, EVERY, BATCH = 3000, 50, 128
RANDOM_STEPS = {"online": 1000, "fixed": 5000}
DISCOUNT = 0.99


def declare(_: object) -> list[Run]:
    """Every combination on every task, one seed of everything first."""
    return [
        Run(
            f"{task}/{data}/{learner}_{target.replace(' ', '-')}_{activation}/seed-{seed}",
            {"task": task, "data": data, "learner": learner, "target": target, "activation": activation, "seed": seed},
        )
        for seed, task, learner, target, activation, data in itertools.product(SEEDS, TASKS, LEARNERS, TARGETS, ACTIVATIONS, DATA)
    ]


STAGES = {"runs": declare}

# --- A critic with an output an action -------------------------------------------------------------------------------


class GreedyState(NamedTuple):
    """What `Greedy` learns; the actor is the critic."""

    critics: tuple[Any]
    target_critics: tuple[Any] | None
    critic_states: tuple[Any]

    @property
    def actor(self) -> Any:
        """Whoever plays looks at the values."""
        return self.critics[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Greedy:
    """Deep Q-learning, with fields as `ActorCritic`. An action is a row with its largest entry where the action is."""

    critic: Any = field(default=Adam())
    discount: float | Any = DISCOUNT
    target_rate: float | Any | None = None
    exploration: float | Any = 0.5
    hidden: tuple[int, ...] = field(default=(64, 64), metadata={"static": True})
    activation: str = field(default="relu", metadata={"static": True})

    @property
    def network(self) -> Any:
        """Of pairs of observation and action number."""
        return action_value_network(self.activation)

    def init(self, key: Any, n_observations: int, n_actions: int) -> GreedyState:
        """Networks of PyTorch's initialisation."""
        critic = init_mlp(key, [n_observations, *self.hidden, n_actions])
        target = None if self.target_rate is None else (jax.tree.map(jnp.copy, critic),)
        return GreedyState((critic,), target, (self.critic.init(critic),))

    def act(self, actor: Any, observations: Any, noise: Any = None, xp: ModuleType = np) -> Any:
        """The greedy action; noise of deviation 0.5 on its row makes it another one in about one step of twelve."""
        a = observations
        for layer in actor[:-1]:
            z = a @ layer.weight + layer.bias
            a = xp.where(z > 0, z, 0) if self.activation == "relu" else xp.tanh(z)
        values = a @ actor[-1].weight + actor[-1].bias
        row = xp.eye(values.shape[-1])[values.argmax(-1)]
        return row if noise is None else row + self.exploration * noise

    def every_value(self, critic: Any, observations: Any) -> Any:
        """Of all actions, shape (n, k)."""
        n, k = len(observations), critic[-1].weight.shape[1]
        pairs = jnp.repeat(observations, k, axis=0), jnp.tile(jnp.arange(k), n)
        return self.network(critic, pairs, dense).reshape(n, k)

    def update(self, state: GreedyState, batch: Batch, n_updates: Any, key: Any) -> tuple[GreedyState, dict[str, Any]]:  # noqa: ARG002
        """See `deadly_triad.agents.Agent`."""
        inputs, targets = batch.observations, greedy_targets(self, state, batch)
        pairs = inputs, jnp.argmax(batch.actions, axis=1)
        critic, learner, metrics = self.critic.step(self.network, state.critics[0], state.critic_states[0], pairs, targets)
        target = state.target_critics
        if target is not None:
            target = (jax.tree.map(lambda old, new: old + self.target_rate * (new - old), target[0], critic),)
        return GreedyState((critic,), target, (learner,)), metrics


def greedy_targets(agent: Greedy, state: GreedyState, batch: Batch) -> Any:
    """Rewards and the best value that follows."""
    critics = state.critics if state.target_critics is None else state.target_critics
    ahead = jnp.max(agent.every_value(critics[0], batch.next_observations), axis=1)
    return batch.rewards + agent.discount * jnp.where(batch.ends, 0.0, ahead)


def make_agent(settings: Mapping[str, Any]) -> Any:
    """The agent of a run."""
    told = {"critic": LEARNERS[settings["learner"]], "target_rate": TARGETS[settings["target"]], "activation": settings["activation"]}
    return Greedy(**told) if settings["task"] == "CartPole-v1" else ActorCritic(discount=DISCOUNT, **told)


# --- What is looked at -----------------------------------------------------------------------------------------------


@jax.jit
def look(agent: Any, state: Any, batch: Batch, key: Any) -> dict[str, Any]:
    """All that the candidates are made of, on one minibatch; the update that is tried here is not kept."""
    critic = state.critics[0]
    if isinstance(agent, Greedy):
        here, targets = (batch.observations, jnp.argmax(batch.actions, axis=1)), greedy_targets(agent, state, batch)
        every = agent.every_value(critic, batch.observations)
        at_policy, slope = jnp.max(every, axis=1), jnp.std(every, axis=1)
        ahead = batch.next_observations, jnp.argmax(agent.every_value(critic, batch.next_observations), axis=1)
    else:
        here, targets = jnp.concatenate([batch.observations, batch.actions], axis=1), agent.targets(state, batch, key)
        ahead = jnp.concatenate([batch.next_observations, agent.act(state.actor, batch.next_observations)], axis=1)
        played = agent.act(state.actor, batch.observations)
        at_policy = agent.value(critic, batch.observations, played)
        slopes = jax.grad(lambda a: jnp.sum(agent.value(critic, batch.observations, a)))(played)
        slope = jnp.linalg.norm(slopes, axis=1)
    values, after = agent.network(critic, here, dense), agent.update(state, batch, 1, key)[0].critics[0]
    moved = agent.network(after, here, dense) - values
    J, following = jacobian(agent.network, critic, here), jacobian(agent.network, critic, ahead)
    first_order = J @ (flat(after) - flat(critic))
    scale = preconditioner(agent.critic, state.critic_states[0], len(J[0]))
    through = jnp.where(batch.ends[:, None], 0.0, agent.discount * following)
    return {
        "values": values,
        "td_error": jnp.sqrt(jnp.mean((targets - values) ** 2)),
        "gap": jnp.mean(at_policy - values),
        "slope": jnp.mean(slope),
        "linearisation": jnp.linalg.norm(moved - first_order) / jnp.linalg.norm(moved),
        "misalignment": 1 - alignment(moved, targets - values),
        "K": J @ J.T,
        "K_own": (J * scale) @ J.T,
        "M": (J - through) @ J.T / len(J),
        "M_own": ((J - through) * scale) @ J.T / len(J),
    }


def flat(parameters: Any) -> Any:
    """All parameters in a row."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(parameters)])


def jacobian(network: Any, parameters: Any, inputs: Any) -> Any:
    """One row a sample."""

    def value(p: Any, sample: Any) -> Any:
        return network(p, jax.tree.map(lambda leaf: leaf[None], sample), dense)[0]

    return jax.vmap(lambda sample: flat(jax.grad(value)(parameters, sample)))(inputs)


def preconditioner(rule: Any, state: Any, size: int) -> Any:
    r"""What a step multiplies $J^\top D \delta$ with: the step size, for Adam parameter by parameter (its momentum left out)."""
    if isinstance(rule, SGD):
        return jnp.full(size, rule.step_size)
    second = flat(state.nu) / (1 - 0.999 ** jnp.maximum(state.count, 1))
    return 2 * rule.step_size / (jnp.sqrt(second) + 1e-8)


def measure(found: Mapping[str, Any], bound: float) -> dict[str, float]:
    """The candidates, from what `look` found; those that are measured in rewards are given in units of the bound."""
    K, K_own, M, M_own = (np.asarray(found[name], float) for name in ("K", "K_own", "M", "M_own"))
    own = np.diag(K)
    return {
        "largest_value": float(np.abs(found["values"]).max()) / bound,
        "td_error": float(found["td_error"]) / bound,
        "gap": float(found["gap"]) / bound,
        "slope": float(found["slope"]) / bound,
        "linearisation": float(found["linearisation"]),
        "misalignment": float(found["misalignment"]),
        "diagonal": float(own.mean()),
        "row_ratio": float(np.mean((np.abs(K).sum(axis=1) - own) / own)) / len(K),
        "step_share": float(np.linalg.eigvalsh(K_own / len(K))[-1]) / 2,
        "growth": float(np.max(-np.linalg.eigvals(M).real)),
        "growth_own": float(np.max(-np.linalg.eigvals(M_own).real)),
    }


# --- One run ---------------------------------------------------------------------------------------------------------


class Player:
    """An environment and the memory of what was played in it."""

    def __init__(self, task: str, capacity: int, seed: int) -> None:
        self.environment, self.rng = gymnasium.make(task), np.random.default_rng(seed)
        space = self.environment.action_space
        self.n_actions = int(getattr(space, "n", 0)) or space.shape[0]
        self.low, self.high = (None, None) if hasattr(space, "n") else (space.low, space.high)
        self.begin()
        self.memory = HostMemory(capacity, len(self.observation), self.n_actions)

    def begin(self) -> None:
        """Another episode."""
        self.observation = self.environment.reset(seed=int(self.rng.integers(2**31)))[0]

    def play(self, row: np.ndarray) -> None:
        """One step: in the box from -1 to 1, or the action where the row is largest."""
        row = row.astype(self.memory.rows.actions.dtype)
        action = int(row.argmax()) if self.low is None else (self.low + (row + 1) / 2 * (self.high - self.low)).astype(np.float32)
        after, reward, end, cut, _ = self.environment.step(action)
        self.memory.remember(Batch(self.observation, row, np.asarray(reward), after, np.asarray(end)))
        self.observation = after
        if end or cut:
            self.begin()


def run(settings: Mapping[str, Any], checkpoint: Path, progress: Callable[[Iterable[int]], Iterable[int]]) -> dict[str, Any]:  # noqa: ARG001
    """Train until the bound is passed or the updates are over, and look every 50 updates."""
    seed, data = settings["seed"], settings["data"]
    n_updates = settings.get("updates", N_UPDATES)
    player = Player(settings["task"], RANDOM_STEPS[data] + n_updates, seed)
    for _ in range(RANDOM_STEPS[data]):
        player.play(player.rng.uniform(-1, 1, player.n_actions))
    agent_key, key = jax.random.split(jax.random.key(seed))
    agent = make_agent(settings)
    state = agent.init(agent_key, len(player.observation), player.n_actions)
    agent = jax.tree.map(float, agent)
    log: dict[str, list[float | None]] = {}
    passed, bound = None, 0.0
    for block in progress(range(n_updates // EVERY)):
        if data == "online":
            actor = jax.tree.map(np.asarray, state.actor)
            for _ in range(EVERY):
                player.play(agent.act(actor, player.observation, player.rng.standard_normal(player.n_actions), np))
        seen = min(player.memory.n_seen, len(player.memory.rows.rewards))
        bound = float(np.abs(player.memory.rows.rewards[:seen]).max()) / (1 - DISCOUNT)
        state, record = _update(agent, state, player.memory.sample(player.rng, (EVERY, BATCH)), key, block * EVERY, EVERY)
        found = look(agent, state, player.memory.sample(player.rng, (BATCH,)), jax.random.fold_in(key, 2**31 + block))
        above = ~(np.asarray(record["largest_value"]) <= bound)
        if above.any() or not all(np.all(np.isfinite(x)) for x in found.values()):
            passed = block * EVERY + 1 + int(np.argmax(above) if above.any() else EVERY)
            break
        for name, value in measure(found, bound).items():
            log.setdefault(name, []).append(_number(value))
    player.environment.close()
    return {"passed_at": passed, "bound": _number(bound), "updates": n_updates, "every": EVERY, "log": log}


def _number(x: float) -> float | None:
    return float(f"{x:.5g}") if math.isfinite(x) else None
