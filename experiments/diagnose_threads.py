r"""Six threads of public trackers, each rebuilt small: does the report say something true and useful of them?

    python experiments/diagnose_threads.py            into results/diagnose_threads.csv, a row a thread, change and seed

Protocol, written before the counted run. The threads are those of the last chapter. Of each we have the symptom and the advice, and neither
code nor data, so a situation here has what the thread says and our own small tasks: fixed records of 4000 transitions, cut off after 200
steps, minibatches of 64, two layers of 64, discount 0.99, 1500 updates. All settings below were fixed on the pilot seed 9000 alone, so that
the symptom appears there. The seeds 0 to 4 (other networks, minibatches and records) are reported.

- TD3, issue 24: a cart-pole that is balanced in 95 of 100 rows; TD3, whose target networks follow at the rate 0.5, so that values grow in
  1500 updates and not in a million. Advice: other data (half of them at random).
- Dreamer, issue 20: the pendulum, an actor and a critic without target network, gradients clipped to a length of 100. Advice: a slow
  target network.
- ReAgent, issue 189: double DQN on a cart-pole that is pushed at random, with the rate 0.2 and the step 1e-3 of its defaults. Advice: a
  slower target network.
- IQ-Learn, issue 11: soft Q-learning that imitates an expert on the cart-pole. Rewards are made up, r = Q - discount V; the penalty wants
  them between -1 and 1, so values beyond 100 are the symptom. Actions are two numbers, where the thread has SAC. Advice: a shorter step.
- DrQ, issue 26: the pendulum with rewards three times as large. The symptom is a loss above 1000, and nothing is wrong as long as |Q| stays
  within the bound. The question there: scale the rewards?
- pomdp-baselines, issue 16: the pendulum without its speed, a critic with a gated recurrent unit, and plain steps of 1e-3. (With Adam and
  steps of 3e-3, 1e-2 and 3e-2 nothing passed the bound on the pilot seed.) Advice: clip gradients, here to a length of 10.

The symptom is |Q| of a minibatch beyond max |r| / (1 - discount), but in DrQ. The report is asked for on 128 transitions after half as many
updates as the pilot seed took to the symptom, rounded down to a multiple of 25. What it favours is: for "step" a tenth of the step; for
"off-policy actions" targets with the data's actions; for another leg or "can't tell" a slow target network, if the report's table says
that errors grow less with it; otherwise nothing. Of every thread the three changes that can be favoured (in IQ-Learn, where every action is
weighed, the first two) and the advice are tested on the same seeds. A slow target network follows at the rate 0.01, and values grow slowly
with it whatever else it does; the same is true of a short step. So how large values are at the end is reported too.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import deadly_triad as dt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from deadly_triad.agents import ActorCritic
from deadly_triad.environments import Pendulum
from deadly_triad.episodes import read_episodes
from deadly_triad.networks import action_value_network, dense, init_mlp
from deadly_triad_book.provenance import Provenance
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
PILOT, SEEDS = (9000,), (0, 1, 2, 3, 4)
BATCH, BLOCK, BLOCKS, ROWS, LIMIT, DISCOUNT = 64, 25, 60, 4000, 200, 0.99
FRAMES = 5  # that a recurrent critic looks back

# --- Tasks and records -----------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A transition, as `agents.Batch` has it, with the action that followed in the data and whether the episode was cut off there."""

    observations: Any
    actions: Any
    rewards: Any
    next_observations: Any
    ends: Any
    following: Any
    cuts: Any


@dataclass(frozen=True)
class CartPole:
    """The cart-pole of Gymnasium, with a force of any size up to 10: a reward of 1 a step until it falls."""

    def initial(self, key: Any) -> Any:
        """Nearly at rest."""
        return jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)

    def observation(self, state: Any, key: Any) -> Any:  # noqa: ARG002
        """The state, each part in its own unit."""
        return state / jnp.array([1.0, 1.0, 0.1, 1.0])

    def transition(self, state: Any, action: Any, key: Any) -> Any:  # noqa: ARG002
        """A fiftieth of a second later."""
        _, speed, angle, turn = state
        push = (10 * action[0] + 0.05 * turn**2 * jnp.sin(angle)) / 1.1
        bend = (9.8 * jnp.sin(angle) - jnp.cos(angle) * push) / (0.5 * (4 / 3 - 0.1 * jnp.cos(angle) ** 2 / 1.1))
        shove = push - 0.05 * bend * jnp.cos(angle) / 1.1
        return state + 0.02 * jnp.array([speed, shove, turn, bend])

    def reward(self, *_: Any) -> Any:
        """One a step."""
        return jnp.array(1.0)

    def terminal(self, state: Any, key: Any) -> Any:  # noqa: ARG002
        """It has fallen, or left the track."""
        return (jnp.abs(state[0]) > 2.4) | (jnp.abs(state[2]) > 0.21)


@dataclass(frozen=True)
class Blind(Pendulum):
    """The pendulum without its speed: cosine, sine and the last action, of the last few steps. The state holds these frames too."""

    def initial(self, key: Any) -> Any:
        """The same frame again and again."""
        state = super().initial(key)
        return state, jnp.tile(jnp.array([jnp.cos(state[0]), jnp.sin(state[0]), 0.0]), (FRAMES, 1))

    def observation(self, state: Any, key: Any) -> Any:  # noqa: ARG002
        """All frames in a row, the oldest first."""
        return state[1].ravel()

    def transition(self, state: Any, action: Any, key: Any) -> Any:
        """One frame more."""
        after = super().transition(state[0], action, key)
        frame = jnp.array([jnp.cos(after[0]), jnp.sin(after[0]), action[0] / self.max_torque])
        return after, jnp.concatenate([state[1][1:], frame[None]])

    def reward(self, state: Any, action: Any, next_state: Any, key: Any) -> Any:
        """That of the pendulum."""
        return super().reward(state[0], action, next_state[0], key)


def at_random(state: Any, key: Any) -> Any:  # noqa: ARG001
    """Any action of the box."""
    return jax.random.uniform(key, (1,), minval=-1, maxval=1)


def to_a_side(state: Any, key: Any) -> Any:
    """With all force to the left or to the right."""
    return jnp.sign(at_random(state, key))


def upright(state: Any, key: Any) -> Any:
    """Linear feedback that balances the cart-pole, and a little noise."""
    return jnp.clip(state @ jnp.array([0.1, 0.2, 3.0, 0.6]) + 0.05 * jax.random.normal(key, (1,)), -1, 1)


def record(task: Any, policy: Callable[[Any, Any], Any], key: Any, n: int = ROWS) -> Row:
    """Transitions in their order; episodes are cut off after `LIMIT` steps."""
    force = getattr(task, "max_torque", 1.0)

    def step(carry: Any, key: Any) -> Any:
        state, time = carry
        act_key, start_key = jax.random.split(key)
        action = policy(state, act_key)
        after = task.transition(state, force * action, None)
        reward, end = task.reward(state, force * action, after, None), task.terminal(after, None)
        cut = ~end & (time + 1 == LIMIT)
        row = task.observation(state, None), action, reward, task.observation(after, None), end, cut
        begin = lambda new, old: jnp.where(end | cut, new, old)  # noqa: E731
        return (jax.tree.map(begin, task.initial(start_key), after), jnp.where(end | cut, 0, time + 1)), row

    keys = jax.random.split(key, n + 1)
    *rows, cuts = jax.lax.scan(step, (task.initial(keys[0]), 0), keys[1:])[1]
    return Row(*rows, jnp.roll(rows[1], -1, axis=0), cuts | (~rows[-1] & (jnp.arange(n) == n - 1)))


def join(*parts: Row) -> Row:
    """One record after the other."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


# --- Agents ----------------------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Clipped:
    """Adam, or plain steps, along the gradient of the mean squared error or another one, shortened to a largest length before."""

    step_size: Any = 1e-3
    largest: Any = jnp.inf
    adam: bool = field(default=True, metadata={"static": True})

    def init(self, parameters: Any) -> Any:
        """Moments of zero."""
        return optax.scale_by_adam().init(parameters)

    def descend(self, parameters: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        """One step."""
        gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, self.largest / optax.tree.norm(gradient)), gradient)
        change, state = optax.scale_by_adam().update(gradient, state) if self.adam else (gradient, state)
        return jax.tree.map(lambda p, c: p - self.step_size * c, parameters, change), state

    def step(self, network: Any, parameters: Any, state: Any, inputs: Any, targets: Any) -> tuple[Any, Any, dict[str, Any]]:
        """See `deadly_triad.agents.Rule`."""

        def loss(p: Any) -> Any:
            values = network(p, inputs, dense)
            return jnp.mean((targets - values) ** 2), jnp.max(jnp.abs(values))

        (error, largest), gradient = jax.value_and_grad(loss, has_aux=True)(parameters)
        return *self.descend(parameters, state, gradient), {"loss": error, "largest_value": largest}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Actor(ActorCritic):
    """Targets may look ahead, in part, with the action that followed in the data."""

    follow: Any = 0.0

    def targets(self, state: Any, batch: Any, key: Any) -> Any:
        """See `ActorCritic`."""
        chosen = super().targets(state, batch, key)
        values = [self.value(critic, batch.next_observations, batch.following) for critic in state.target_critics]
        follows = batch.rewards + self.discount * jnp.where(batch.ends, 0.0, jnp.min(jnp.stack(values), axis=0))
        return chosen + self.follow * jnp.where(batch.cuts, 0.0, follows - chosen)

    def told(self, state: Any, rows: Any) -> dict[str, Any]:
        """What the report wants of the first critic."""
        pair = lambda observations, actions: jnp.concatenate([observations, actions], axis=1)  # noqa: E731
        here, there = rows.observations, rows.next_observations
        chosen = self.act(state.actor, there)
        return {
            "inputs": pair(here, rows.actions),
            "next_inputs": pair(there, chosen),
            "next_of_data": pair(there, jnp.where(rows.cuts[:, None], chosen, rows.following)),
            "rewards": np.asarray(rows.rewards),
            "targets": np.asarray(self.targets(state, rows, jax.random.key(0))),
            "step_size": 2 * float(self.critic.step_size),
        }


def recurrent(layers: Any, pairs: Any, hook: Any) -> Any:
    """Values of pairs of frames and action: a gated recurrent unit reads one frame after the other, a relu layer its end and the action."""
    gates, rest, hidden, head = layers
    h = jnp.zeros((len(pairs), 32), pairs.dtype)
    for frame in jnp.split(pairs[:, :-1], FRAMES, axis=1):
        keep, reset = jnp.split(jax.nn.sigmoid(hook(gates, jnp.concatenate([frame, h], axis=1))), 2, axis=1)
        h = keep * h + (1 - keep) * jnp.tanh(hook(rest, jnp.concatenate([frame, reset * h], axis=1)))
    return hook(head, jax.nn.relu(hook(hidden, jnp.concatenate([h, pairs[:, -1:]], axis=1))))[:, 0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Recurrent(Actor):
    """Its critic is recurrent, its actor sees all frames at once."""

    @property
    def network(self) -> Any:
        """See `recurrent`."""
        return recurrent

    def init(self, key: Any, n_observations: int, n_actions: int) -> Any:
        """See `ActorCritic`."""
        sizes = ([35, 64], [35, 32], [33, 64, 1])
        critic = [layer for part, k in zip(sizes, jax.random.split(key, 3), strict=True) for layer in init_mlp(k, part)]
        state = super().init(key, n_observations, n_actions)
        return state._replace(critics=(critic,), target_critics=(critic,), critic_states=(self.critic.init(critic),))


class GreedyState(NamedTuple):
    """What `Greedy` learns."""

    critics: tuple[Any]
    target_critics: tuple[Any]
    critic_states: tuple[Any]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Greedy:
    """Double deep Q-learning; or, if it imitates, soft Q-learning with rewards that it makes up, r = Q - discount V (IQ-Learn)."""

    critic: Any = field(default=Clipped())
    discount: Any = DISCOUNT
    target_rate: Any = 1.0
    follow: Any = 0.0
    temperature: Any = 1e-3
    imitates: bool = field(default=False, metadata={"static": True})

    @property
    def network(self) -> Any:
        """An output an action, of which there are two."""
        return action_value_network("relu")

    def init(self, key: Any, n_observations: int, n_actions: int) -> GreedyState:  # noqa: ARG002
        """Networks of PyTorch's initialisation."""
        critic = init_mlp(key, [n_observations, 64, 64, 2])
        return GreedyState((critic,), (critic,), (self.critic.init(critic),))

    def number(self, actions: Any) -> Any:
        """0 for a push to the left, 1 for one to the right."""
        return (actions[:, 0] > 0).astype(int)

    def every(self, critic: Any, observations: Any) -> Any:
        """Values of all actions, shape (n, k)."""
        n = len(observations)
        return self.network(critic, (jnp.repeat(observations, 2, axis=0), jnp.tile(jnp.arange(2), n)), dense).reshape(n, 2)

    def soft(self, values: Any) -> Any:
        """Value of a state."""
        return self.temperature * jax.nn.logsumexp(values / self.temperature, axis=1)

    def ahead(self, state: GreedyState, batch: Any) -> Any:
        """What is bootstrapped from."""
        values = self.every(state.target_critics[0], batch.next_observations)
        if self.imitates:
            return jnp.where(batch.ends, 0.0, self.soft(values))
        best = jnp.argmax(self.every(state.critics[0], batch.next_observations), axis=1)
        best, follows = (jnp.take_along_axis(values, a[:, None], axis=1)[:, 0] for a in (best, self.number(batch.following)))
        return jnp.where(batch.ends, 0.0, best + self.follow * jnp.where(batch.cuts, 0.0, follows - best))

    def update(self, state: GreedyState, batch: Any, n_updates: Any, key: Any) -> tuple[GreedyState, dict[str, Any]]:  # noqa: ARG002
        """See `deadly_triad.agents.Agent`."""
        y, pairs = self.discount * self.ahead(state, batch), (batch.observations, self.number(batch.actions))

        def loss(p: Any) -> Any:
            # The expert's rows are those with a reward. Alone, they would want made-up rewards of 1, the others of -1.
            values, expert = self.network(p, pairs, dense), batch.rewards > 0
            states = self.soft(self.every(p, batch.observations))
            made_up = jnp.where(expert, values, states) - y
            total = jnp.mean(states - y) - jnp.sum(expert * made_up) / jnp.sum(expert) + jnp.mean(made_up**2) / 2
            return total, {"loss": total, "largest_value": jnp.max(jnp.abs(values))}

        critic, learner = state.critics[0], state.critic_states[0]
        if self.imitates:
            gradient, metrics = jax.grad(loss, has_aux=True)(critic)
            critic, learner = self.critic.descend(critic, learner, gradient)
        else:
            critic, learner, metrics = self.critic.step(self.network, critic, learner, pairs, batch.rewards + y)
        target = jax.tree.map(lambda old, new: old + self.target_rate * (new - old), state.target_critics[0], critic)
        return GreedyState((critic,), (target,), (learner,)), metrics

    def told(self, state: GreedyState, rows: Any) -> dict[str, Any]:
        """What the report wants."""
        critic, n = state.critics[0], len(rows.rewards)
        here, y = (rows.observations, self.number(rows.actions)), self.discount * self.ahead(state, rows)
        values = self.every(critic, rows.next_observations)
        policy = jax.nn.softmax(values / self.temperature, axis=1) if self.imitates else jax.nn.one_hot(jnp.argmax(values, axis=1), 2)
        follows = jnp.where(rows.cuts, jnp.argmax(values, axis=1), self.number(rows.following))
        rewards = self.network(critic, here, dense) - y if self.imitates else rows.rewards
        return {
            "inputs": here,
            "next_inputs": (jnp.repeat(rows.next_observations, 2, axis=0), jnp.tile(jnp.arange(2), n)),
            "bootstrap": np.asarray(policy),
            "next_of_data": (rows.next_observations, follows),
            "rewards": np.asarray(rewards),
            "targets": np.asarray(rewards + y),
            "step_size": (1 if self.imitates else 2) * float(self.critic.step_size),
        }


# --- Situations ------------------------------------------------------------------------------------------------------

SHORT, SLOW, ON_DATA = "a tenth of the step", "slow target network", "the data's actions"


class Situation(NamedTuple):
    """What a thread reports, small.

    Attributes:
        rows: the record, from a key.
        agent: as it is reported.
        advice: what is advised, an agent or a record.
        name: of the advice.
        loss: the loss above which the symptom has appeared; by default the symptom is |Q| above the bound.
        reach: the largest reward that can occur, where the record does not say so.
    """

    rows: Callable[[Any], Row]
    agent: Any
    name: str
    advice: Any = None
    loss: float = np.inf
    reach: float = np.nan

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Agent and record of everything that is tried."""
        short = replace(self.agent, critic=replace(self.agent.critic, step_size=self.agent.critic.step_size / 10))
        tried = {"as it is": self.agent, SHORT: short, SLOW: replace(self.agent, target_rate=0.01)}
        if not getattr(self.agent, "imitates", False):
            tried[ON_DATA] = replace(self.agent, follow=1.0)
        told = {name: (agent, self.rows) for name, agent in tried.items()}
        if self.advice is not None:
            told[self.name] = (self.agent, self.advice) if callable(self.advice) else (self.advice, self.rows)
        return told


def pendulum(key: Any, scale: float = 1.0) -> Row:
    """Pushed at random, with rewards of any scale."""
    rows = record(Pendulum(), at_random, key)
    return rows._replace(rewards=scale * rows.rewards)


def balanced(key: Any, other: int = ROWS // 20) -> Row:
    """A cart-pole that is balanced but for some rows."""
    keys = jax.random.split(key)
    return join(record(CartPole(), upright, keys[0], ROWS - other), record(CartPole(), at_random, keys[1], other))


def imitated(key: Any) -> Row:
    """Half of the rows are an expert's; only these have a reward."""
    keys = jax.random.split(key)
    expert = record(CartPole(), lambda state, key: jnp.sign(upright(state, key)), keys[0], ROWS // 2)
    other = record(CartPole(), to_a_side, keys[1], ROWS // 2)
    return join(expert, other._replace(rewards=0 * other.rewards))


def situations() -> dict[str, Situation]:
    """By thread."""
    plain = Actor(critic=Clipped(3e-3), target_rate=1.0, smoothing=0.0)
    clipped = replace(plain, critic=Clipped(3e-3, 100.0))
    td3 = replace(plain, n_critics=2, policy_delay=2, smoothing=0.2, target_rate=0.5)
    twins = replace(plain, critic=Clipped(1e-3), n_critics=2, target_rate=0.1)
    blind = Recurrent(critic=Clipped(1e-3, adam=False), target_rate=1.0, smoothing=0.0)
    double, soft = Greedy(target_rate=0.2), Greedy(critic=Clipped(3e-3), imitates=True)
    return {
        "TD3": Situation(balanced, td3, "half of the data at random", partial(balanced, other=ROWS // 2)),
        "Dreamer": Situation(pendulum, clipped, SLOW),
        "ReAgent": Situation(lambda key: record(CartPole(), to_a_side, key), double, SLOW),
        "IQ-Learn": Situation(imitated, soft, SHORT, reach=1.0),
        "DrQ": Situation(partial(pendulum, scale=3.0), twins, "a third of the rewards", pendulum, loss=1000.0),
        "pomdp-baselines": Situation(
            lambda key: record(Blind(), at_random, key), blind, "clipping", replace(blind, critic=replace(blind.critic, largest=10.0))
        ),
    }


@jax.jit
def learn(agents: Any, states: Any, rows: Row, numbers: Any, keys: Any) -> tuple[Any, tuple[Any, Any]]:
    """A block of updates for every change (first axis) and seed (second)."""

    def block(agent: Any, state: Any, rows: Row, keys: Any) -> Any:
        def update(state: Any, given: Any) -> Any:
            number, key = given
            chosen = jax.random.randint(key, (BATCH,), 0, len(rows.rewards))
            state, seen = agent.update(state, jax.tree.map(lambda x: x[chosen], rows), number, key)
            return state, (seen["loss"], seen["largest_value"])

        return jax.lax.scan(update, state, (numbers, keys))

    return jax.vmap(jax.vmap(block, (None, 0, 0, 0)), (0, 0, 0, None))(agents, states, rows, keys)


def stack(trees: Any) -> Any:
    """Trees of one make in one, with an axis more."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)


def run(situation: Situation, seeds: tuple[int, ...] = PILOT + SEEDS, blocks: int = BLOCKS) -> pd.DataFrame:
    """A row a change and seed; the first seed says when the others are looked at."""
    changes, keys = situation.changes(), jax.vmap(jax.random.key)(jnp.array(seeds))
    agents = stack([agent for agent, _ in changes.values()])
    records = {make: jax.jit(jax.vmap(make))(keys) for make in {make for _, make in changes.values()}}
    rows = stack([records[make] for _, make in changes.values()])
    reach = np.abs(rows.rewards).max(axis=2) if np.isnan(situation.reach) else situation.reach
    bounds = np.broadcast_to(reach / (1 - DISCOUNT), (len(changes), len(seeds)))
    start = jax.vmap(lambda agent, key: agent.init(key, rows.observations.shape[-1], 1), (None, 0))
    states = jax.jit(jax.vmap(start, (0, None)))(agents, keys)
    found, kept = [], []
    for block in range(blocks):
        numbers = block * BLOCK + 1 + jnp.arange(BLOCK)
        fresh = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(keys, numbers)
        states, seen = learn(agents, states, rows, numbers, fresh)
        found.append(seen)
        kept.append(jax.tree.map(lambda leaf: leaf[0], states))
    loss, largest = (np.concatenate(parts, axis=2) for parts in zip(*jax.device_get(found), strict=True))
    passed = first(~(largest <= bounds[:, :, None]))
    appeared = first(~(loss <= situation.loss)) if np.isfinite(situation.loss) else passed
    early = max(1, (appeared[0, 0] or BLOCK * blocks) // (2 * BLOCK))
    table = []
    for (i, name), (j, seed) in itertools.product(enumerate(changes), enumerate(seeds)):
        made = {"change": name, "advised": name == situation.name, "seed": seed, "appeared": appeared[i, j], "passed": passed[i, j]}
        made |= {"largest": largest[i, j, -BLOCK:].max() / bounds[i, j], "loss": loss[i, j, -BLOCK:].mean()}
        if i == 0:
            state = jax.tree.map(lambda leaf, j=j: leaf[j], kept[early - 1])
            made |= {"early": early * BLOCK} | read(situation.agent, state, jax.tree.map(lambda leaf, j=j: leaf[0, j], rows), seed)
        table.append(made)
    return pd.DataFrame(table)


def first(late: np.ndarray) -> np.ndarray:
    """Number of the first update at which it is so, counted from 1; 0 for never."""
    return np.where(late.any(axis=2), late.argmax(axis=2) + 1, 0)


def read(agent: Any, state: Any, rows: Row, seed: int, n: int = 128) -> dict[str, Any]:
    """What the report says of the first critic, and what it favours."""
    batch = jax.tree.map(lambda x: x[np.sort(np.random.default_rng(seed).permutation(len(x))[:n])], rows)
    learner, adam = state.critic_states[0], agent.critic.adam
    seen = dt.diagnose(
        agent.network, state.critics[0], discount=DISCOUNT, ends=np.asarray(batch.ends), hold=round(1 / float(agent.target_rate)),
        scales=jax.tree.map(lambda v: 1 / (jnp.sqrt(v / (1 - 0.999**learner.count)) + 1e-8), learner.nu) if adam else None,
        momentum=0.9 if adam else 0.0,
        episodes=read_episodes(*(np.asarray(x) for x in (rows.observations, rows.next_observations, rows.ends, rows.cuts))),
        **agent.told(state, batch),
    )  # fmt: skip
    return {
        "fault": seen.fault.name,
        "favours": favoured(seen.fault.name, seen.cures),
        "value": seen.numbers["largest_value"] / seen.numbers["bound"],
        "step": seen.step_size / seen.largest_step_with_fixed_targets,
        "updates": seen.updates_to_grow,
        "growth": seen.cures["as it is"],
        "held": seen.cures.get("target network", np.nan),
    }


def favoured(fault: str, cures: Mapping[str, float]) -> str:
    """The change that a report with this fault and these growths stands for."""
    told = {"step": SHORT, "off-policy actions": ON_DATA, "none": "nothing", "record": "nothing"}.get(fault)
    return told or (SLOW if cures.get("target network", np.nan) < cures["as it is"] else "nothing")


def main() -> None:
    """Run all and write the results with their provenance."""
    provenance = Provenance()
    table = pd.concat([run(told).assign(thread=thread) for thread, told in tqdm(situations().items())], ignore_index=True)
    table = table[["thread", *table.columns[:-1]]]
    table[table["seed"].isin(SEEDS)].to_csv(RESULTS / "diagnose_threads.csv", index=False, float_format="%.4g")
    provenance.write(RESULTS / "diagnose_threads.json", seeds=list(SEEDS), pilot=list(PILOT), updates=BLOCK * BLOCKS)


if __name__ == "__main__":
    main()
