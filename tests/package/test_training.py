"""`training`: what both loops record against environments that can be followed by hand, cut runs, and refusals."""

import sys
from dataclasses import dataclass, replace
from functools import cache

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad import training
from deadly_triad.agents import SGD, ActorCritic, Adam, PreQN
from deadly_triad.environments import Pendulum
from deadly_triad.preqn import Settings
from deadly_triad.training import Training, train, train_on_host

SMALL = Training(
    n_steps=30, random_steps=20, horizon=10, batch_size=8, evaluate_every=10, evaluation_episodes=3, update_every=5, capacity=60
)
AGENT = ActorCritic(SGD(1e-3), hidden=(8,), target_rate=0.01)


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def same(run, other):
    """Bit for bit."""
    for a, b in zip(jax.tree.leaves(run), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


# --- Environments that can be followed by hand -----------------------------------------------------------------------


@dataclass(frozen=True)
class Road:
    """A road: the state counts the steps since the start, and pays them; the box of actions has unequal sides around 0.5."""

    length: int = 10**6
    pay: str = "count"
    low: tuple[float, ...] = (-2.0, 0.0)
    high: tuple[float, ...] = (2.0, 1.0)

    def initial(self, *_):
        return jnp.zeros(())

    def observation(self, state, *_):
        return jnp.where(state >= self.length, jnp.nan, state * 0.1)[None]  # what is seen after an end is no number

    def transition(self, state, *_):
        return state + 1

    def reward(self, state, action, *_):
        return {"count": state, "three": jnp.array(3.0), "size": jnp.max(jnp.abs(action)), "first": action[0], "column": action}[self.pay]

    def terminal(self, state, *_):
        return state >= self.length


@dataclass(frozen=True)
class Noise:
    """Everything is a draw of its own: the state, what is seen of it, the reward, the end."""

    low: tuple[float, ...] = (-1.0,)
    high: tuple[float, ...] = (1.0,)

    def initial(self, key):
        return jax.random.normal(key)

    def observation(self, state, key):
        return jnp.array([state, jax.random.normal(key)])

    def transition(self, _state, _action, key):
        return jax.random.normal(key)

    def reward(self, _state, _action, _next, key):
        return jax.random.normal(key)

    def terminal(self, _state, key):
        return jax.random.uniform(key) < 0.1


class HostRoad(gymnasium.Env):
    """The same road for the other loop; every call of `step` is counted, and one of them can be made to fail."""

    def __init__(self, length=10**6, pay="count", fail_at=None):
        self.road, self.n_calls, self.fail_at = Road(length, pay), 0, fail_at
        self.action_space = gymnasium.spaces.Box(np.array([-2, 0], np.float32), np.array([2, 1], np.float32))
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))

    def __str__(self):
        return f"HostRoad({self.road})"

    def look(self):
        return np.array([np.nan if self.place >= self.road.length else self.place * 0.1])

    def reset(self, *, seed=None, **_):
        super().reset(seed=seed)
        self.place = 0
        return self.look(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.n_calls += 1
        if self.n_calls == self.fail_at:
            raise KeyboardInterrupt
        reward = self.road.reward(float(self.place), action, None, None)
        self.place += 1
        return self.look(), float(reward), self.place >= self.road.length, False, {}


@cache
def run_on(driver, length, pay="count", settings=SMALL, agent=AGENT):
    if driver == "compiled":
        return train(Road(length, pay), agent, settings, [0])
    return train_on_host(lambda: HostRoad(length, pay), agent, settings, 0)


BOTH = pytest.mark.parametrize("driver", ["compiled", "host"])


# --- What is recorded ------------------------------------------------------------------------------------------------


@BOTH
def test_returns_are_those_of_the_completed_episodes_whatever_their_length(driver):
    """50 steps; ends after 3 steps do not divide the horizon of 10, so a clock that goes on through an end would cut episodes short."""
    ended = run_on(driver, 3).episodes[0]
    np.testing.assert_array_equal(ended.returns, np.full(16, 0 + 1 + 2))
    np.testing.assert_array_equal(ended.ends, 3 * np.arange(1, 17))
    cut = run_on(driver, 10**6).episodes[0]
    np.testing.assert_array_equal(cut.returns, np.full(5, 45))
    np.testing.assert_array_equal(cut.ends, 10 * np.arange(1, 6))


@BOTH
def test_an_evaluation_ends_where_the_episode_ends(driver):
    for length, total in ((3, 3), (10**6, 45)):
        run = run_on(driver, length)
        np.testing.assert_array_equal(run.evaluations, np.full((1, 3, 3), total))
        np.testing.assert_array_equal(run.evaluated, [10, 20, 30])


@BOTH
def test_there_are_exactly_as_many_updates_as_were_asked_for(driver):
    one, many = run_on(driver, 3, settings=SMALL._replace(n_steps=21)), run_on(driver, 3)
    np.testing.assert_array_equal(one.evaluated, [10, 20, 21])
    for name, values in one.metrics.items():
        assert values.shape == (1, 21)
        np.testing.assert_array_equal(values[:, :20], many.metrics[name][:, :20])
    assert np.abs(flatten(one.state.critics) - flatten(many.state.critics)).max() > 0
    again = run_on(driver, 3, settings=SMALL._replace(n_steps=20))
    assert np.abs(flatten(one.state.critics) - flatten(again.state.critics)).max() > 0


@BOTH
def test_what_is_seen_after_an_end_poisons_nothing(driver):
    run = run_on(driver, 3)
    assert all(np.all(np.isfinite(values)) for values in run.metrics.values())
    assert np.all(run.metrics["actor_moved"])


@BOTH
def test_targets_bootstrap_through_a_cut_and_not_beyond_an_end(driver):
    """Each step pays 3, so the value is 3 where every step is the last and 3 / (1 - discount) where none is."""
    agent = ActorCritic(SGD(0.05), hidden=(8,), discount=0.5)
    for length, value in ((1, 3.0), (10**6, 6.0)):
        run = run_on(driver, length, "three", SMALL._replace(n_steps=400, capacity=500), agent)
        assert run.metrics["largest_value"][0, -1] == pytest.approx(value, rel=0.1)


@BOTH
def test_actions_are_scaled_to_a_box_with_unequal_sides(driver):
    """Random actions fill the box; explored ones stay within it, and differ from the actor's by noise in units of half a side."""
    box = {"low": (-2.0, 0.0), "high": (2.0, 1.0)}
    assert {name: getattr(Road(), name) for name in box} == box
    sizes = SMALL._replace(horizon=1, random_steps=200, capacity=300, n_steps=40)
    quiet, loud = (
        run_on(driver, 10**6, "first", sizes, replace(AGENT, exploration=noise, actor_step_size=1e-9)).episodes[0].returns
        for noise in (0.1, 100.0)
    )
    assert -2 <= quiet[:200].min() < -1.8
    assert 1.8 < quiet[:200].max() <= 2
    assert quiet[:200].mean() == pytest.approx(0, abs=0.3)
    assert quiet[200:].std() == pytest.approx(0.1 * 2, rel=0.4)
    assert np.abs(loud).max() == 2
    assert np.mean(np.abs(loud[200:]) == 2) > 0.9


@BOTH
def test_the_actor_climbs_to_the_best_action(driver):
    """Each episode is one step that pays the first action: the best is 2, the edge of the box."""
    agent = ActorCritic(Adam(1e-2), hidden=(16,), actor_step_size=1e-2, exploration=0.2)
    run = run_on(driver, 1, "first", SMALL._replace(n_steps=400, capacity=500), agent)
    assert run.evaluations[0, 0].max() < 1
    assert run.evaluations[0, -1].min() > 1.8


# --- Randomness ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy():
    """The transitions of a noisy environment in the order of their steps, and the agent that played."""
    agent = replace(AGENT, exploration=0.5, actor_step_size=1e-9)
    settings = SMALL._replace(random_steps=50, n_steps=400, capacity=1000)
    loop = training._Compiled(Noise(), agent, settings, [0])
    loop.begin()
    loop.advance(0, 400)
    return agent, loop.carry, jax.tree.map(lambda rows: np.asarray(rows[0])[50:450], loop.carry.memory.rows)


def test_the_memory_has_what_the_actor_saw(noisy):
    agent, carry, rows = noisy
    actor = jax.tree.map(lambda leaf: leaf[0], carry.agent.actor)  # it hardly moved
    noise = (rows.actions - np.asarray(agent.act(actor, rows.observations))) / 0.5
    inside = np.abs(rows.actions[:, 0]) < 1
    assert inside.sum() > 200
    # Were another draw stored, the differences would not be normal numbers independent of what was seen.
    assert noise[inside].std() == pytest.approx(1, abs=0.2)
    assert np.abs(np.corrcoef(np.column_stack([rows.observations, noise])[inside].T)[2, :2]).max() < 0.2
    going_on = ~rows.ends[:-1] & (np.arange(51, 450) % 1000 > 0)
    continued = np.all(rows.next_observations[:-1] == rows.observations[1:], axis=1)
    assert continued.mean() > 0.7, "what was seen next is not what the actor saw then"
    assert not np.any(continued[rows.ends[:-1]])
    assert np.all(going_on[continued])


def test_no_two_draws_are_of_one_key(noisy):
    """Noise of the action, both parts of an observation, the next one and the reward are five unrelated numbers."""
    agent, carry, rows = noisy
    actor = jax.tree.map(lambda leaf: leaf[0], carry.agent.actor)
    noise = (rows.actions - np.asarray(agent.act(actor, rows.observations)))[:, 0] / 0.5
    inside = np.abs(rows.actions[:, 0]) < 1
    draws = np.column_stack([noise, rows.observations, rows.next_observations, rows.rewards])[inside]
    correlations = np.corrcoef(draws.T) - np.eye(6)
    assert np.abs(correlations).max() < 0.25
    for i in range(6):
        for j in range(i):
            assert not np.any(np.isclose(draws[:, i], draws[:, j], atol=1e-7))
    assert rows.ends.mean() == pytest.approx(0.1, abs=0.05)


def test_seeds_differ_repeat_and_do_not_depend_on_their_neighbours():
    both, one = train(Noise(), AGENT, SMALL, [0, 1]), train(Noise(), AGENT, SMALL, [1])
    np.testing.assert_allclose(both.metrics["td_error"][1], one.metrics["td_error"][0], rtol=1e-6)
    np.testing.assert_array_equal(both.episodes[1].ends, one.episodes[0].ends)
    assert np.abs(both.metrics["td_error"][0] - both.metrics["td_error"][1]).max() > 1e-3
    same(one, train(Noise(), AGENT, SMALL, [1]))


def test_evaluations_begin_alike_for_all_and_are_without_noise():
    """Agents that do not learn and differ in their exploration and seed of play are judged alike; another evaluation seed is not."""
    still = replace(AGENT, actor_step_size=1e-30)
    run = train(Pendulum(), still, SMALL, [0])
    loud = train(Pendulum(), replace(still, exploration=100.0), SMALL, [0])
    np.testing.assert_array_equal(run.evaluations, loud.evaluations)
    np.testing.assert_array_equal(run.evaluations[:, 0], run.evaluations[:, -1])
    assert len(np.unique(run.evaluations)) == 3
    other = train(Pendulum(), still, SMALL._replace(evaluation_seed=1), [0])
    assert not np.any(np.isin(other.evaluations, run.evaluations))
    first, second = (train_on_host("Pendulum-v1", replace(still, exploration=e), SMALL, 0).evaluations for e in (0.1, 100.0))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[:, 0], first[:, -1])


def test_starts_of_episodes_differ_on_the_host():
    run = train_on_host("Pendulum-v1", AGENT, SMALL, 0)
    assert len(np.unique(run.episodes[0].returns)) == len(run.episodes[0].returns) == 5
    same(run, train_on_host("Pendulum-v1", AGENT, SMALL, 0))
    assert not np.any(np.isin(run.episodes[0].returns, train_on_host("Pendulum-v1", AGENT, SMALL, 1).episodes[0].returns))


def test_the_host_updates_in_bursts_of_the_asked_length():
    """With one update a step the run is another one; the first burst is on the same batches only where it has the same steps."""
    bursts, single = (train_on_host(HostRoad, AGENT, SMALL._replace(update_every=every), 0) for every in (5, 1))
    assert single.metrics["td_error"].shape == bursts.metrics["td_error"].shape == (1, 30)
    assert np.abs(single.metrics["td_error"] - bursts.metrics["td_error"]).max() > 1e-6


# --- Cut and resumed -------------------------------------------------------------------------------------------------


def cut_after(n_blocks):
    def watch(blocks):
        for i, block in enumerate(blocks):
            if i == n_blocks:
                raise KeyboardInterrupt
            yield block

    return watch


NOISY = ActorCritic(PreQN(Settings(step_size=0.1)), hidden=(8,), n_critics=2, policy_delay=2, smoothing=0.2, target_rate=0.1)


def test_a_compiled_run_that_is_cut_and_resumed_is_the_same_run(tmp_path):
    path, settings = tmp_path / "run", SMALL._replace(n_steps=25, capacity=27)
    whole = train(Noise(), AGENT, settings, [0, 1])
    for n_blocks in (0, 1, 1):
        with pytest.raises(KeyboardInterrupt):
            train(Noise(), AGENT, settings, [0, 1], checkpoint=path, progress=cut_after(n_blocks))
        assert path.exists() == (n_blocks > 0)
    same(train(Noise(), AGENT, settings, [0, 1], checkpoint=path), whole)
    # A run that is complete comes out again, without a step.
    same(train(Noise(), AGENT, settings, [0, 1], checkpoint=path, progress=cut_after(0)), whole)


@pytest.mark.parametrize("fail_at", [1, 19, 31, 42, 44])
def test_a_run_on_the_host_that_is_cut_anywhere_and_resumed_is_the_same_run(tmp_path, fail_at):
    path, settings = tmp_path / "run", SMALL._replace(n_steps=25, capacity=17)
    whole = train_on_host(lambda: HostRoad(7), AGENT, settings, 0)
    with pytest.raises(KeyboardInterrupt):
        train_on_host(lambda: HostRoad(7, fail_at=fail_at), AGENT, settings, 0, checkpoint=path)
    assert path.exists() == (fail_at > 30)
    same(train_on_host(lambda: HostRoad(7), AGENT, settings, 0, checkpoint=path), whole)


def test_the_pendulum_of_gymnasium_is_resumed_in_the_middle_of_an_episode(tmp_path):
    path, settings = tmp_path / "run", SMALL._replace(horizon=23, n_steps=25)
    whole = train_on_host("Pendulum-v1", AGENT, settings, 0)
    with pytest.raises(KeyboardInterrupt):
        train_on_host("Pendulum-v1", AGENT, settings, 0, checkpoint=path, progress=cut_after(1))
    same(train_on_host("Pendulum-v1", AGENT, settings, 0, checkpoint=path), whole)


def test_an_environment_that_does_not_repeat_itself_is_not_resumed(tmp_path):
    class Forgetful(HostRoad):
        def look(self):
            return np.random.default_rng().normal(size=1)

    with pytest.raises(KeyboardInterrupt):
        train_on_host(Forgetful, AGENT, SMALL, 0, checkpoint=tmp_path / "run", progress=cut_after(1))
    with pytest.raises(RuntimeError, match="did not do the same again"):
        train_on_host(Forgetful, AGENT, SMALL, 0, checkpoint=tmp_path / "run")


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(Noise(), AGENT, SMALL, [0], checkpoint=path, progress=cut_after(1))
    before = path.read_bytes()

    def half(file, **_):
        file.write(b"half")
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half)
        with pytest.raises(OSError, match="no space"):
            train(Noise(), AGENT, SMALL, [0], checkpoint=path)
    assert path.read_bytes() == before
    same(train(Noise(), AGENT, SMALL, [0], checkpoint=path), train(Noise(), AGENT, SMALL, [0]))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run"
    train(Noise(), AGENT, SMALL, [0], checkpoint=path)
    for environment, agent, seeds in (
        (Road(), AGENT, [0]),
        (Noise(), replace(AGENT, discount=0.5), [0]),
        (Noise(), AGENT, [1]),
    ):
        with pytest.raises(ValueError, match="must be of this run"):
            train(environment, agent, SMALL, seeds, checkpoint=path)


# --- Compiling -------------------------------------------------------------------------------------------------------


def test_equal_settings_and_new_numbers_compile_nothing():
    programs = (training._begin, training._play_at_random, training._advance, training._evaluate, training._update)

    def count():
        return [program._cache_size() for program in programs]

    train(Noise(), AGENT, SMALL, [0])
    train_on_host(HostRoad, AGENT, SMALL, 0)
    before = count()
    other = replace(AGENT, critic=SGD(0.1), discount=0.5, actor_step_size=0.1, target_rate=0.2, exploration=0.3)
    train(Noise(), AGENT, SMALL, [0])
    moved = train(Noise(), other, SMALL._replace(n_steps=17, horizon=7), [5])
    train_on_host(HostRoad, other, SMALL._replace(n_steps=17, horizon=7), 5)
    assert count() == before
    assert np.abs(moved.metrics["step_size"] - 0.1).max() < 1e-6
    train(Noise(), replace(AGENT, critic=Adam(0.1)), SMALL, [0])
    assert count() != before, "the count can see a new program"


def test_numbers_of_numpy_do_not_change_the_precision():
    with jax.enable_x64(True):
        agent = replace(AGENT, critic=SGD(np.float64(1e-3)), discount=np.float32(0.99))
        assert train(Noise(), agent, SMALL, [0]).metrics["td_error"].dtype == np.float64


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["n_steps", "random_steps", "horizon", "batch_size", "evaluate_every", "evaluation_episodes", "update_every", "capacity"]
)
def test_sizes_below_one_are_refused_by_name(name):
    settings = SMALL._replace(**{name: 0})
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        train(Noise(), AGENT, settings, [0])
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        train_on_host(HostRoad, AGENT, settings, 0)


def test_other_refusals_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="seeds must hold at least one seed, got none"):
        train(Noise(), AGENT, SMALL, [])
    with pytest.raises(ValueError, match="environment must have a bounded box of actions, got one from"):
        train(Noise(high=(np.inf,)), AGENT, SMALL, [0])
    with pytest.raises(ValueError, match="environment must have a bounded box of actions, got one from None to None"):
        train_on_host("CartPole-v1", AGENT, SMALL, 0)
    with pytest.raises(ValueError, match=r"reward of environment must be a scalar, got shape \(2,\)"):
        train(Road(pay="column"), AGENT, SMALL, [0])
    with pytest.raises(ValueError, match="evaluate_every must be a multiple of update_every, got 10 and 3"):
        train_on_host(HostRoad, AGENT, SMALL._replace(update_every=3), 0)
    with pytest.raises(ValueError, match="capacity must be at least horizon for a checkpoint, got 9 and 10"):
        train_on_host(HostRoad, AGENT, SMALL._replace(capacity=9), 0, checkpoint=tmp_path / "run")


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "deadly-triad\[agents\]"'):
        train_on_host("Pendulum-v1", AGENT, SMALL, 0)
