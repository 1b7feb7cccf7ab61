r"""Two loops that train an agent: one compiled, for environments in JAX; one on the host, for Gymnasium.

Both play random actions first, then play with exploration and update on minibatches of everything that the memory holds, stop every
`evaluate_every` updates to play without noise from the same starts as everybody else, and can write a checkpoint there. They share what
an agent is (`agents.Agent`: `init`, `act`, `update`) and what comes out (`Run`).

- `train`: every step of the environment is followed by one update; environment, memory and agent are one compiled program, and all seeds go
  through it together.
- `train_on_host`: `update_every` steps of the environment with an actor in NumPy, then as many updates in one compiled program. That is
  another algorithm than an update after each step, twice as fast where the environment is not in JAX.

A time limit cuts an episode off and the targets bootstrap through the cut; an end of the environment's own lets nothing follow.
"""

import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from deadly_triad.agents import Agent, Batch, HostMemory, Memory, empty_rows, remember, sample
from deadly_triad.environments import Environment

Progress = Callable[[Iterable[int]], Iterable[int]]
Record = dict[str, Any]


class Training(NamedTuple):
    r"""How long and on what an agent trains.

    Attributes:
        n_steps: steps with updates.
        random_steps: steps with random actions before, without.
        horizon: an episode is cut off after so many steps, if the environment has not done it before.
        batch_size: of a minibatch.
        capacity: how many transitions the memory holds; None holds all.
        evaluate_every: so many updates are a block, after which the agent is evaluated, and a checkpoint written where one is asked for.
        evaluation_episodes: episodes of an evaluation.
        evaluation_seed: of their starts, which are the same for every agent, every seed and every block.
        update_every: on the host, steps between two bursts of as many updates; it must divide `evaluate_every`.
    """

    n_steps: int = 7000
    random_steps: int = 1000
    horizon: int = 200
    batch_size: int = 100
    capacity: int | None = None
    evaluate_every: int = 500
    evaluation_episodes: int = 10
    evaluation_seed: int = 0
    update_every: int = 50


class Episodes(NamedTuple):
    """The completed episodes of one seed, with exploration.

    Attributes:
        returns: undiscounted, shape (episodes,).
        ends: after how many steps, the random ones among them, each was over, shape (episodes,).
    """

    returns: Float[np.ndarray, " episodes"]
    ends: Int[np.ndarray, " episodes"]


class Run(NamedTuple):
    """What came of a training, for R seeds and T updates.

    Attributes:
        episodes: of each seed.
        metrics: those of the agent's `update`, by name, each of shape (R, T).
        evaluations: returns without exploration, shape (R, evaluations, episodes).
        evaluated: after how many updates, shape (evaluations,).
        state: of the agent at the end, every leaf with a leading axis of the seeds.
    """

    episodes: list[Episodes]
    metrics: dict[str, np.ndarray]
    evaluations: Float[np.ndarray, "R evaluations episodes"]
    evaluated: Int[np.ndarray, " evaluations"]
    state: Any


def train(
    environment: Environment,
    agent: Agent,
    training: Training,
    seeds: Iterable[int],
    *,
    progress: Progress = lambda blocks: blocks,
    checkpoint: Path | None = None,
) -> Run:
    """Train one agent a seed in an environment in JAX, all at once.

    A second call with an equal environment, and settings that differ in numbers only, compiles nothing.

    Args:
        environment: a functional environment.
        agent: what learns.
        training: how long.
        seeds: one agent each.
        progress: wraps the loop over blocks, such as `tqdm.tqdm`.
        checkpoint: a file that is written after each block, and begun from if it is there: a run that was cut off and is called again
            gives the same run, bit for bit. For that the environment's `repr` must name what it is, as that of a dataclass does.

    Raises:
        ValueError: if a setting is outside its range, there is no seed, the environment has no bounded box of actions or a reward that is
            no scalar, or the checkpoint is of another run.
    """
    _check(training)
    seeds = [int(seed) for seed in seeds]
    if not seeds:
        raise ValueError("seeds must hold at least one seed, got none")
    _check_box("environment", environment.low, environment.high)
    loop = _Compiled(environment, agent, training, seeds)
    return _drive(loop, training, repr((environment, agent, training, seeds)), progress, checkpoint)


def train_on_host(
    environment: str | Callable[[], Any],
    agent: Agent,
    training: Training,
    seed: int,
    *,
    progress: Progress = lambda blocks: blocks,
    checkpoint: Path | None = None,
) -> Run:
    """Train an agent in an environment of Gymnasium; arguments, result and errors are those of `train`, for one seed.

    A resumed run plays the unfinished episode again, from its seed and the actions in memory. So the environment must do the same again
    when it is reset with the same seed, and the memory must hold a whole episode.

    Args:
        environment: its name, such as "Pendulum-v1", or a function that makes it, which is called twice: evaluations have their own.
        agent: what learns.
        training: how long.
        seed: of everything random.
        progress: wraps the loop over blocks.
        checkpoint: a file to begin from and to write to.

    Raises:
        ValueError: as `train`; or if `update_every` does not divide `evaluate_every`.
        ModuleNotFoundError: if Gymnasium is not installed and a name was given.
        RuntimeError: if the environment did not do the same again when the run was resumed.
    """
    _check(training)
    if training.evaluate_every % training.update_every:
        raise ValueError(f"evaluate_every must be a multiple of update_every, got {training.evaluate_every} and {training.update_every}")
    if checkpoint is not None and training.capacity is not None and training.capacity < training.horizon:
        raise ValueError(f"capacity must be at least horizon for a checkpoint, got {training.capacity} and {training.horizon}")
    make = partial(_gymnasium().make, environment) if isinstance(environment, str) else environment
    loop = _OnHost(make, agent, training, seed)
    try:
        return _drive(loop, training, repr((str(loop.environment), agent, training, seed)), progress, checkpoint)
    finally:
        loop.environment.close()
        loop.judge.close()


# --- What both loops do ----------------------------------------------------------------------------------------------


@runtime_checkable
class _Loop(Protocol):
    """A run at some step. Records are arrays of shape (steps, R): `over` and `total`, the return so far, and with updates the metrics."""

    def begin(self) -> Record:
        """Play the random steps."""

    def advance(self, done: int, count: int) -> Record:
        """`count` more steps with updates, after `done`."""

    def evaluate(self) -> np.ndarray:
        """Returns of an evaluation, shape (R, episodes)."""

    def pack(self) -> dict[str, np.ndarray]:
        """All that the run needs to go on."""

    def unpack(self, packed: dict[str, np.ndarray]) -> None:
        """Go on from there."""

    def state(self) -> Any:
        """The agent's, with a leading axis of the seeds."""


def _drive(loop: _Loop, training: Training, identity: str, progress: Progress, checkpoint: Path | None) -> Run:
    """Blocks, evaluations and checkpoints."""
    packed = None if checkpoint is None or not checkpoint.exists() else _read(checkpoint, identity)
    if packed is None:
        log, done = {f"first/{name}": value for name, value in loop.begin().items()}, 0
    else:
        loop.unpack(packed)
        log, done = {name: value for name, value in packed.items() if name.startswith(("first/", "then/"))}, int(packed["done"])
    n_blocks, block = -(-training.n_steps // training.evaluate_every), training.evaluate_every
    for index in progress(range(-(-done // block), n_blocks)):
        count = min(block, training.n_steps - index * block)
        record = loop.advance(index * block, count)
        done = index * block + count
        record |= {"evaluations": loop.evaluate()[None], "evaluated": np.array([done])}
        for name, new in record.items():
            old = log.get(f"then/{name}")
            log[f"then/{name}"] = new if old is None else np.concatenate([old, new])
        if checkpoint is not None:
            _write(checkpoint, {**loop.pack(), **log, "done": np.array(done), "identity": np.array(identity)})
    then = {name.removeprefix("then/"): value for name, value in log.items() if name.startswith("then/")}
    over, total = (np.concatenate([log[f"first/{name}"], then.pop(name)]).T for name in ("over", "total"))
    evaluations, evaluated = np.swapaxes(then.pop("evaluations"), 0, 1), then.pop("evaluated")
    episodes = [Episodes(total[r, over[r]], 1 + np.flatnonzero(over[r])) for r in range(len(over))]
    return Run(episodes, {name: value.T for name, value in then.items()}, evaluations, evaluated, loop.state())


def _repeat(step: Callable[[PyTree, Any], tuple[PyTree, Record]], carry: PyTree, count: Any, n_rows: int) -> tuple[PyTree, Record]:
    """`carry, record = step(carry, i)` for each i below `count`, which may be traced: one program for every count up to `n_rows`."""
    step = jax.jit(step)  # traced once for both uses
    blank = jax.tree.map(lambda leaf: jnp.zeros((n_rows, *leaf.shape), leaf.dtype), jax.eval_shape(step, carry, 0)[1])

    def body(i: Any, loop: tuple[PyTree, Record]) -> tuple[PyTree, Record]:
        carry, record = step(loop[0], i)
        return carry, jax.tree.map(lambda rows, new: rows.at[i].set(new), loop[1], record)

    return jax.lax.fori_loop(0, count, body, (carry, blank))


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The whole file or none: it gets its name when it is complete."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _read(path: Path, identity: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        packed = dict(file)
    if str(packed["identity"]) != identity:
        raise ValueError(f"checkpoint {path} must be of this run, {identity}, got one of {packed['identity']}")
    return packed


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _pack(tree: PyTree) -> dict[str, np.ndarray]:
    return {f"leaf/{i}": np.asarray(jax.random.key_data(x) if _is_key(x) else x) for i, x in enumerate(jax.tree.leaves(tree))}


def _unpack(packed: dict[str, np.ndarray], like: PyTree) -> PyTree:
    leaves, treedef = jax.tree.flatten(like)
    arrays = [jnp.asarray(packed[f"leaf/{i}"]) for i in range(len(leaves))]
    keyed = [jax.random.wrap_key_data(new) if _is_key(old) else new for new, old in zip(arrays, leaves, strict=True)]
    return jax.tree.unflatten(treedef, keyed)


def _numbers(agent: Agent) -> Agent:
    """The agent with Python's own numbers: they follow the precision of the networks, as those of NumPy would not."""
    return jax.tree.map(lambda number: number if isinstance(number, int) else float(number), agent)


def _scale(actions: Any, low: Any, high: Any) -> Any:
    """From the box between -1 and 1 to that of the environment."""
    return low + (actions + 1) / 2 * (high - low)


# --- Environments in JAX ---------------------------------------------------------------------------------------------


class _Play(NamedTuple):
    """An episode at some step. What the actor sees is drawn once and kept, so that the memory gets what the actor saw."""

    environment: Any
    observation: Array
    time: Array
    total: Array


class _Carry(NamedTuple):
    key: Key[Array, ""]
    play: _Play
    memory: Memory
    agent: Any


class _Compiled:
    """All seeds in one program; see `_Loop`."""

    def __init__(self, environment: Environment, agent: Agent, training: Training, seeds: list[int]) -> None:
        self.environment, self.agent, self.training = environment, _numbers(agent), training
        keys = [jax.random.split(jax.random.key(seed)) for seed in seeds]
        capacity = training.capacity or training.random_steps + training.n_steps
        self.carry = _begin(environment, jnp.stack([play_key for play_key, _ in keys]), capacity)
        sizes = self.carry.play.observation.shape[1], len(environment.low)
        # One by one and not compiled: compiling all draws together takes longer than everything else before the first step.
        agents = [agent.init(agent_key, *sizes) for _, agent_key in keys]
        self.carry = self.carry._replace(agent=jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *agents))

    def begin(self) -> Record:
        carry, record = _play_at_random(
            self.environment, self.carry._replace(agent=None), self.training.horizon, self.training.random_steps
        )
        self.carry = carry._replace(agent=self.carry.agent)
        return jax.tree.map(np.asarray, record)

    def advance(self, done: int, count: int) -> Record:
        sizes = (self.training.batch_size, self.training.evaluate_every)
        self.carry, record = _advance(self.environment, *sizes, self.agent, self.carry, self.training.horizon, done, count)
        return {name: np.array(rows[:count]) for name, rows in record.items()}

    def evaluate(self) -> np.ndarray:
        settings = self.training
        key = jax.random.key(settings.evaluation_seed)
        actors = self.carry.agent.actor
        return np.asarray(_evaluate(self.environment, settings.evaluation_episodes, self.agent, actors, key, settings.horizon))

    def pack(self) -> dict[str, np.ndarray]:
        return _pack(self.carry)

    def unpack(self, packed: dict[str, np.ndarray]) -> None:
        self.carry = _unpack(packed, self.carry)

    def state(self) -> Any:
        return self.carry.agent


def _begin_episode(environment: Environment, keys: Key[Array, "2"]) -> _Play:
    state = environment.initial(keys[0])
    return _Play(state, _seen(environment, state, keys[1]), jnp.array(0), jnp.zeros(()))


def _seen(environment: Environment, state: Any, key: Key[Array, ""]) -> Array:
    return jnp.ravel(jnp.asarray(environment.observation(state, key), float))


def _go_on(environment: Environment, play: _Play, action: Array, keys: Key[Array, "4"]) -> tuple[_Play, Batch]:
    """One step of the environment, each of its methods with a key of its own."""
    scaled = _scale(action, jnp.asarray(environment.low), jnp.asarray(environment.high))
    after = environment.transition(play.environment, scaled, keys[0])
    reward = jnp.asarray(environment.reward(play.environment, scaled, after, keys[1]), float)
    if reward.shape:
        raise ValueError(f"the reward of environment must be a scalar, got shape {reward.shape}")
    seen, end = _seen(environment, after, keys[2]), jnp.asarray(environment.terminal(after, keys[3]), bool)
    return _Play(after, seen, play.time + 1, play.total + reward), Batch(play.observation, action, reward, seen, end)


def _interact(environment: Environment, horizon: Any, play: _Play, action: Array, keys: list[Array]) -> tuple[_Play, Batch, Record]:
    """One step and, where the episode is over, the start of the next; also whether it was over, and the return so far."""
    play, transition = _go_on(environment, play, action, jnp.stack(keys[:4]))
    over = transition.ends | (play.time >= horizon)
    following = jax.tree.map(lambda new, old: jnp.where(over, new, old), _begin_episode(environment, jnp.stack(keys[4:])), play)
    return following, transition, {"over": over, "total": play.total}


@partial(jax.jit, static_argnames=("environment", "capacity"))
def _begin(environment: Environment, keys: Key[Array, " R"], capacity: int) -> _Carry:
    def begin(key: Key[Array, ""]) -> _Carry:
        keys = jax.random.split(key, 3)
        play = _begin_episode(environment, keys[1:])
        memory = Memory(empty_rows(capacity, len(play.observation), len(environment.low)), jnp.array(0))
        return _Carry(keys[0], play, memory, None)

    return jax.vmap(begin)(keys)


@partial(jax.jit, static_argnames=("environment", "n_steps"), donate_argnames="carry")
def _play_at_random(environment: Environment, carry: _Carry, horizon: Any, n_steps: int) -> tuple[_Carry, Record]:
    def step(carry: _Carry) -> tuple[_Carry, Record]:
        key, action_key, *play_keys = jax.random.split(carry.key, 8)
        action = jax.random.uniform(action_key, (len(environment.low),), minval=-1, maxval=1)
        play, transition, record = _interact(environment, horizon, carry.play, action, play_keys)
        return carry._replace(key=key, play=play, memory=remember(carry.memory, transition)), record

    return _repeat(lambda carry, _: jax.vmap(step)(carry), carry, n_steps, n_steps)


@partial(jax.jit, static_argnames=("environment", "batch_size", "n_rows"), donate_argnames="carry")
def _advance(
    environment: Environment, batch_size: int, n_rows: int, agent: Agent, carry: _Carry, horizon: Any, done: Any, count: Any
) -> tuple[_Carry, Record]:
    """`count` times one step of the environment and one update, for all seeds."""

    def step(carry: _Carry, n_updates: Any) -> tuple[_Carry, Record]:
        key, noise_key, batch_key, update_key, *play_keys = jax.random.split(carry.key, 10)
        noise = jax.random.normal(noise_key, (len(environment.low),))
        action = agent.act(carry.agent.actor, carry.play.observation, noise)
        play, transition, record = _interact(environment, horizon, carry.play, action, play_keys)
        memory = remember(carry.memory, transition)
        state, metrics = agent.update(carry.agent, sample(memory, batch_key, batch_size), n_updates, update_key)
        return _Carry(key, play, memory, state), record | metrics

    return _repeat(lambda carry, i: jax.vmap(step, (0, None))(carry, done + i + 1), carry, count, n_rows)


@partial(jax.jit, static_argnames=("environment", "n_episodes"))
def _evaluate(
    environment: Environment, n_episodes: int, agent: Agent, actors: PyTree, key: Key[Array, ""], horizon: Any
) -> Float[Array, "R episodes"]:
    """Returns of episodes without exploration, whose starts and chances are the same for every actor."""

    def episode(actor: PyTree, key: Key[Array, ""]) -> Array:
        def step(i: Any, state: tuple[_Play, Array, Array]) -> tuple[_Play, Array, Array]:
            play, total, over = state
            keys = jax.random.split(jax.random.fold_in(chance, i), 4)
            play, transition = _go_on(environment, play, agent.act(actor, play.observation), keys)
            return play, total + jnp.where(over, 0, transition.rewards), over | transition.ends

        chance, *start_keys = jax.random.split(key, 3)
        return jax.lax.fori_loop(0, horizon, step, (_begin_episode(environment, jnp.stack(start_keys)), jnp.zeros(()), jnp.array(False)))[1]

    keys = jax.random.split(key, n_episodes)
    return jax.vmap(lambda actor: jax.vmap(partial(episode, actor))(keys))(actors)


# --- Environments of Gymnasium ---------------------------------------------------------------------------------------


class _OnHost:
    """One seed, the environment and the memory in Python; see `_Loop`."""

    def __init__(self, make: Callable[[], Any], agent: Agent, training: Training, seed: int) -> None:
        self.environment, self.judge = make(), make()
        self.agent, self.training = _numbers(agent), training
        box = self.environment.action_space
        _check_box("environment", getattr(box, "low", None), getattr(box, "high", None))
        self.low, self.high = np.ravel(box.low), np.ravel(box.high)
        self.rng = np.random.default_rng(seed)
        self.begin_episode(self.draw_seed())
        agent_key, self.key = jax.random.split(jax.random.key(seed))
        self.learner = agent.init(agent_key, len(self.observation), len(self.low))
        capacity = training.capacity or training.random_steps + training.n_steps
        self.memory = HostMemory(capacity, len(self.observation), len(self.low))

    def draw_seed(self) -> int:
        return int(self.rng.integers(2**31))

    def begin_episode(self, seed: int) -> None:
        self.episode_seed, self.time, self.total = seed, 0, 0.0
        self.observation = np.ravel(self.environment.reset(seed=seed)[0])

    def play(self, environment: Any, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        space = environment.action_space
        scaled = _scale(action, self.low, self.high).reshape(space.shape).astype(space.dtype)
        observation, reward, end, cut, _ = environment.step(scaled)
        return np.ravel(observation), float(reward), bool(end), bool(cut)

    def step(self, action: np.ndarray) -> tuple[bool, float]:
        """One step of the environment; whether it was the last of its episode, and the return so far."""
        action = action.astype(self.memory.rows.actions.dtype)  # as the memory has it, so that an episode can be played again
        seen, reward, end, cut = self.play(self.environment, action)
        self.memory.remember(Batch(self.observation, action, np.asarray(reward), seen, np.asarray(end)))
        self.observation, self.time, self.total = seen, self.time + 1, self.total + reward
        over, total = end or cut or self.time >= self.training.horizon, self.total
        if over:
            self.begin_episode(self.draw_seed())
        return over, total

    def begin(self) -> Record:
        steps = [self.step(self.rng.uniform(-1, 1, len(self.low))) for _ in range(self.training.random_steps)]
        return _columns(steps)

    def advance(self, done: int, count: int) -> Record:
        steps, metrics, every = [], [], self.training.update_every
        for first in range(done, done + count, every):
            n = min(every, done + count - first)
            actor = self.actor()
            for _ in range(n):
                noise = self.rng.standard_normal(len(self.low))
                steps.append(self.step(self.agent.act(actor, self.observation, noise, np)))
            batches = self.memory.sample(self.rng, (every, self.training.batch_size))
            self.learner, record = _update(self.agent, self.learner, batches, self.key, first, n)
            metrics.append({name: np.array(rows[:n, None]) for name, rows in record.items()})
        return _columns(steps) | {name: np.concatenate([m[name] for m in metrics]) for name in metrics[0]}

    def actor(self) -> PyTree:
        """A copy in NumPy: the next update takes the arrays themselves."""
        return jax.tree.map(np.array, self.learner.actor)

    def evaluate(self) -> np.ndarray:
        actor, returns = self.actor(), []
        for episode in range(self.training.evaluation_episodes):
            observation, total = np.ravel(self.judge.reset(seed=self.training.evaluation_seed + episode)[0]), 0.0
            for _ in range(self.training.horizon):
                observation, reward, end, cut = self.play(self.judge, self.agent.act(actor, observation, None, np))
                total += reward
                if end or cut:
                    break
            returns.append(total)
        return np.array([returns])

    def pack(self) -> dict[str, np.ndarray]:
        n = min(self.memory.n_seen, len(self.memory.rows.rewards))
        rows = {f"memory/{name}": column[:n] for name, column in self.memory.rows._asdict().items()}
        counts = {"n_seen": self.memory.n_seen, "episode_seed": self.episode_seed, "time": self.time}
        random = np.array(json.dumps(self.rng.bit_generator.state))
        return _pack(self.learner) | rows | {"counts": np.array(list(counts.values())), "random": random, "observation": self.observation}

    def unpack(self, packed: dict[str, np.ndarray]) -> None:
        self.learner = _unpack(packed, self.learner)
        self.rng.bit_generator.state = json.loads(str(packed["random"]))
        self.memory.n_seen, episode_seed, time = (int(count) for count in packed["counts"])
        for name, column in self.memory.rows._asdict().items():
            column[: len(packed[f"memory/{name}"])] = packed[f"memory/{name}"]
        self.begin_episode(episode_seed)
        for row in range(self.memory.n_seen - time, self.memory.n_seen):
            action = self.memory.rows.actions[row % len(self.memory.rows.actions)]
            self.observation, reward, *_ = self.play(self.environment, action)
            self.total += reward
        self.time = time
        if not np.array_equal(self.observation, packed["observation"]):
            raise RuntimeError("the environment did not do the same again from the same seed, so the run cannot be resumed")

    def state(self) -> Any:
        return jax.tree.map(lambda leaf: leaf[None], self.learner)


@partial(jax.jit, donate_argnames="state")
def _update(agent: Agent, state: Any, batches: Batch, key: Key[Array, ""], done: Any, count: Any) -> tuple[Any, Record]:
    """As many updates as `count` says, on the first of the minibatches."""

    def step(state: Any, i: Any) -> tuple[Any, Record]:
        return agent.update(state, jax.tree.map(lambda rows: rows[i], batches), done + i + 1, jax.random.fold_in(key, done + i + 1))

    return _repeat(step, state, count, len(batches.rewards))


def _columns(steps: list[tuple[bool, float]]) -> Record:
    over, total = zip(*steps, strict=True)
    return {"over": np.array(over)[:, None], "total": np.array(total)[:, None]}


def _gymnasium() -> Any:
    try:
        import gymnasium
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            'an environment by name needs gymnasium: pip install "deadly-triad[agents]"', name=missing.name
        ) from missing
    return gymnasium


# --- Refusals --------------------------------------------------------------------------------------------------------


def _check_box(name: str, low: Any, high: Any) -> None:
    if low is None or high is None or not (np.all(np.isfinite(low)) and np.all(np.isfinite(high))):
        raise ValueError(f"{name} must have a bounded box of actions, got one from {low} to {high}")


def _check(training: Training) -> None:
    for name in ("n_steps", "random_steps", "horizon", "batch_size", "evaluate_every", "evaluation_episodes", "update_every"):
        if getattr(training, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(training, name)}")
    if training.capacity is not None and training.capacity < 1:
        raise ValueError(f"capacity must be at least 1, got {training.capacity}")
