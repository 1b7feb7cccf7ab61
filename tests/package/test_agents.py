"""`agents`: one update by hand in NumPy and against stable-baselines3, the rules of critics, the memory, refusals."""

import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.agents import DDPG, PREQN, SGD, TD3, ActorCritic, Adam, Batch, HostMemory, Memory, PreQN, empty_rows, remember, sample
from deadly_triad.networks import Dense, dense, init_mlp, value_network
from deadly_triad.preqn import Settings, init, step

KEY = jax.random.key(3)
SMALL = {"hidden": (8, 8)}
D, K, N = 3, 2, 16


@jax.jit
def update(agent, *arguments):
    """Compiled once for each structure, numbers traced; eagerly each test would compile every operation anew."""
    return agent.update(*arguments)


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def drawn(n=N, seed=0):
    """A minibatch with ends, in float64."""
    rng = np.random.default_rng(seed)
    return Batch(
        jnp.asarray(rng.normal(size=(n, D))),
        jnp.asarray(rng.uniform(-1, 1, (n, K))),
        jnp.asarray(rng.normal(size=n)),
        jnp.asarray(rng.normal(size=(n, D))),
        jnp.arange(n) % 4 == 0,
    )


def moved_apart(agent):
    """A state in which no two networks are equal, so that a wrong one is seen."""
    state = agent.init(KEY, D, K)
    other = agent.init(jax.random.key(4), D, K)
    return state if agent.target_rate is None else state._replace(target_actor=other.actor, target_critics=other.critics)


def by_hand(layers, x, last=lambda z: z):
    """A relu network in NumPy."""
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ np.asarray(weight) + np.asarray(bias), 0)
    weight, bias = layers[-1]
    return last(x @ np.asarray(weight) + np.asarray(bias))


def targets_by_hand(agent, actor, critics, batch, noise):
    actions = np.clip(by_hand(actor, np.asarray(batch.next_observations), np.tanh) + noise, -1, 1)
    ahead = np.hstack([batch.next_observations, actions])
    least = np.min([by_hand(critic, ahead)[:, 0] for critic in critics], axis=0)
    return np.asarray(batch.rewards) + agent.discount * np.where(batch.ends, 0, least)


# --- Acting ----------------------------------------------------------------------------------------------------------


def test_actions_are_those_of_a_relu_network_in_jax_and_in_numpy():
    actor, observations = DDPG.init(KEY, D, K).actor, drawn().observations
    expected = by_hand(actor, np.asarray(observations), np.tanh)
    np.testing.assert_allclose(DDPG.act(actor, observations), expected, rtol=1e-12)
    on_host = jax.tree.map(np.asarray, actor)
    for row in range(3):
        np.testing.assert_allclose(DDPG.act(on_host, np.asarray(observations)[row], None, np), expected[row], rtol=1e-12)


def test_exploration_is_noise_of_the_stated_size_within_the_box():
    actor, observation = DDPG.init(KEY, D, K).actor, np.ones(D)
    agent = replace(DDPG, exploration=0.3)
    still = np.asarray(agent.act(actor, observation))
    np.testing.assert_allclose(agent.act(actor, observation, np.array([0.5, -1.0])) - still, [0.15, -0.3], rtol=1e-6)
    np.testing.assert_array_equal(agent.act(actor, observation, np.array([100.0, -100.0])), [1, -1])


# --- Targets ---------------------------------------------------------------------------------------------------------


def test_targets_are_the_least_of_the_target_critics_at_the_smoothed_action_of_the_target_actor():
    agent, batch = replace(TD3, smoothing=0.4, **SMALL), drawn()
    state = moved_apart(agent)
    noise = np.clip(0.4 * np.asarray(jax.random.normal(KEY, (N, K))), -0.5, 0.5)
    assert np.mean(np.abs(noise) == 0.5) > 0.05
    expected = targets_by_hand(agent, state.target_actor, state.target_critics, batch, noise)
    np.testing.assert_allclose(agent.targets(state, batch, KEY), expected, rtol=1e-10)


@pytest.mark.parametrize("agent", [replace(DDPG, **SMALL), replace(PREQN, activation="relu", **SMALL)])
def test_without_smoothing_and_without_target_networks(agent):
    state, batch = moved_apart(agent), drawn()
    actor = state.actor if agent.target_rate is None else state.target_actor
    critics = state.critics if agent.target_rate is None else state.target_critics
    np.testing.assert_allclose(agent.targets(state, batch, KEY), targets_by_hand(agent, actor, critics, batch, 0.0), rtol=1e-10)


def test_what_is_seen_after_an_end_does_not_matter():
    batch = drawn()
    poisoned = batch._replace(next_observations=jnp.where(batch.ends[:, None], jnp.nan, batch.next_observations))
    for agent in (replace(TD3, **SMALL), replace(PREQN, **SMALL)):
        state = moved_apart(agent)
        after, metrics = update(agent, state, poisoned, 2, KEY)
        expected, _ = update(agent, state, batch, 2, KEY)
        np.testing.assert_array_equal(flatten(after), flatten(expected))
        assert metrics["accepted"]
        assert metrics["actor_moved"]


# --- One update ------------------------------------------------------------------------------------------------------


def last_layer_gradient(critic, batch, targets):
    """Gradient of half the mean squared error in the weights of the last layer."""
    inputs = np.hstack([batch.observations, batch.actions])
    features = by_hand([*critic[:-1], (np.eye(8), np.zeros(8))], inputs)
    return features.T @ (by_hand(critic, inputs)[:, 0] - targets) / len(targets)


def test_an_update_of_sgd_is_a_step_of_semi_gradient_td():
    agent, batch = replace(DDPG, critic=SGD(0.5), **SMALL), drawn()
    state = moved_apart(agent)
    after, metrics = update(agent, state, batch, 1, KEY)
    targets = targets_by_hand(agent, state.target_actor, state.target_critics, batch, 0.0)
    gradient = last_layer_gradient(state.critics[0], batch, targets)
    expected = np.asarray(state.critics[0][-1].weight)[:, 0] - 0.5 * gradient
    np.testing.assert_allclose(after.critics[0][-1].weight[:, 0], expected, rtol=1e-10)
    inputs = np.hstack([batch.observations, batch.actions])
    values = by_hand(state.critics[0], inputs)[:, 0]
    delta, change = targets - values, by_hand(after.critics[0], inputs)[:, 0] - values
    assert metrics["td_error"] == pytest.approx(np.sqrt(np.mean(delta**2)))
    assert metrics["largest_value"] == pytest.approx(np.abs(values).max())
    assert metrics["alignment"] == pytest.approx(delta @ change / np.linalg.norm(delta) / np.linalg.norm(change))
    assert [float(metrics[name]) for name in ("step_size", "backtracks", "accepted", "residual")] == [0.5, 0, 1, 0]


def test_adam_steps_by_its_moments_of_the_gradient_of_the_mean_squared_error():
    agent, batch = replace(DDPG, critic=Adam(0.01), target_rate=None, **SMALL), drawn()
    state, mean, square = agent.init(KEY, D, K), 0.0, 0.0
    for t in (1, 2, 3):
        critic = state.critics[0]
        gradient = 2 * last_layer_gradient(critic, batch, targets_by_hand(agent, state.actor, state.critics, batch, 0.0))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        step = 0.01 * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        state, _ = update(agent, state, batch, t, KEY)
        np.testing.assert_allclose(state.critics[0][-1].weight[:, 0], np.asarray(critic[-1].weight)[:, 0] - step, atol=1e-9)


def test_an_update_of_preqn_is_that_of_its_module_and_says_what_it_did():
    settings = Settings(step_size=0.2, shift=1e-3)
    agent, batch = ActorCritic(PreQN(settings), activation="tanh", **SMALL), drawn()
    state = agent.init(KEY, D, K)
    after, metrics = update(agent, state, batch, 1, KEY)
    inputs = jnp.hstack([batch.observations, batch.actions])
    learner, report = step(value_network("tanh"), init(state.critics[0]), inputs, agent.targets(state, batch, KEY), settings)
    np.testing.assert_allclose(flatten(after.critics), flatten(learner.parameters), rtol=1e-9)
    assert set(metrics) - {"actor_moved"} == set(report._fields) - {"failed"}
    for name in set(report._fields) - {"failed"}:
        value = getattr(report, name)
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-6)
    assert metrics["accepted"]
    # A critic that stalls is seen: nothing is aligned well enough within no backtracks.
    stalled = replace(agent, critic=PreQN(Settings(step_size=50.0, alignment=0.999999, max_backtracks=1)))
    after, metrics = update(stalled, state, batch, 1, KEY)
    np.testing.assert_array_equal(flatten(after.critics), flatten(state.critics))
    assert (bool(metrics["accepted"]), float(metrics["step_size"]), int(metrics["backtracks"])) == (False, 0.0, 1)
    assert bool(metrics["actor_moved"])


def test_of_several_critics_the_metrics_are_the_worst():
    agent, batch = replace(TD3, critic=PreQN(Settings(max_backtracks=4)), activation="tanh", smoothing=None, **SMALL), drawn()
    state = agent.init(KEY, D, K)
    _, both = update(agent, state, batch, 1, KEY)
    inputs, targets = jnp.hstack([batch.observations, batch.actions]), agent.targets(state, batch, KEY)
    each = [agent.critic.step(value_network("tanh"), critic, (), inputs, targets)[2] for critic in state.critics]
    for name, value in both.items():
        if name != "actor_moved":
            worst = min if name in {"alignment", "accepted", "step_size"} else max
            assert float(value) == pytest.approx(worst(float(m[name]) for m in each), rel=1e-6)
    assert float(each[0]["td_error"]) != pytest.approx(float(each[1]["td_error"]), rel=1e-3)


def test_the_actor_climbs_the_first_critic_of_after_its_update():
    agent, batch = replace(TD3, actor_step_size=1e-3, **SMALL), drawn()
    state = moved_apart(agent)
    after, _ = update(agent, state, batch, 2, KEY)

    def score(critic, actor):
        return jnp.mean(agent.value(critic, batch.observations, agent.act(actor, batch.observations)))

    gradient = flatten(jax.grad(lambda actor: score(after.critics[0], actor))(state.actor))
    step = flatten(after.actor) - flatten(state.actor)
    np.testing.assert_allclose(step, 1e-3 * gradient / (np.abs(gradient) + 1e-8), rtol=1e-6, atol=1e-12)
    before = flatten(jax.grad(lambda actor: score(state.critics[0], actor))(state.actor))
    assert np.abs(gradient - before).max() > 1e-6, "the critic did not move, so the test could not see which one was climbed"


def test_actor_and_targets_wait_for_their_turn():
    agent, batch = replace(TD3, policy_delay=3, target_rate=0.1, **SMALL), drawn()
    start = moved_apart(agent)
    for n_updates in range(1, 7):
        after, metrics = update(agent, start, batch, n_updates, KEY)
        turn = n_updates % 3 == 0
        assert bool(metrics["actor_moved"]) == turn
        assert (np.abs(flatten(after.actor) - flatten(start.actor)).max() > 0) == turn
        assert np.abs(flatten(after.critics) - flatten(start.critics)).max() > 0
        for name in ("actor", "critics"):
            old, new = (flatten(getattr(s, f"target_{name}")) for s in (start, after))
            expected = 0.9 * old + 0.1 * flatten(getattr(after, name)) if turn else old
            np.testing.assert_allclose(new, expected, rtol=1e-12)


def test_a_critic_that_has_blown_up_leaves_the_actor_as_it_is():
    agent, batch = replace(DDPG, **SMALL), drawn()
    state = agent.init(KEY, D, K)
    broken = state._replace(critics=jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state.critics))
    after, metrics = update(agent, broken, batch, 1, KEY)
    assert not metrics["actor_moved"]
    assert metrics["largest_value"] == np.inf
    assert metrics["alignment"] == -np.inf
    np.testing.assert_array_equal(flatten((after.actor, after.actor_state)), flatten((state.actor, state.actor_state)))


def test_new_numbers_compile_nothing_and_updates_keep_their_types():
    batch = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, drawn())
    with jax.enable_x64(False):
        for agent in (replace(TD3, **SMALL), replace(DDPG, critic=SGD(), **SMALL)):
            count = update._cache_size()
            state = agent.init(KEY, D, K)
            for n_updates in (1, 2, 3):
                state, _ = update(agent, state, batch, n_updates, KEY)
            other = replace(agent, critic=type(agent.critic)(0.5), discount=0.5, target_rate=0.5, exploration=0.0)
            moved, _ = update(other, state, batch, 4, KEY)
            assert update._cache_size() == count + 1
            assert np.abs(flatten(moved.critics) - flatten(update(agent, state, batch, 4, KEY)[0].critics)).max() > 1e-3
            update(replace(agent, target_rate=None), agent.init(KEY, D, K)._replace(target_actor=None, target_critics=None), batch, 1, KEY)
            assert update._cache_size() == count + 2, "the count can see a second program"


def test_a_new_state_holds_no_array_twice_and_can_be_donated():
    agent = replace(TD3, **SMALL)
    state = agent.init(KEY, D, K)
    addresses = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(addresses)) == len(addresses)


# --- stable-baselines3 -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference():
    """What td3_reference.py beside this file wrote: weights, batches, and what the library's TD3 made of them in float64."""
    with np.load(Path(__file__).with_name("td3_reference.npz")) as file:
        return dict(file)


def layers(reference, prefix):
    return [
        Dense(jnp.asarray(reference[f"{prefix}/{i}/weight"].T), jnp.asarray(reference[f"{prefix}/{i}/bias"]))
        for i in range(len([name for name in reference if name.startswith(f"{prefix}/") and name.endswith("bias")]))
    ]


def test_twenty_updates_are_those_of_stable_baselines3(reference):
    agent = replace(TD3, hidden=(8, 8), smoothing=None)
    names = ("actor", "critic0", "critic1", "target_actor", "target_critic0", "target_critic1")

    def networks(when):
        actor, first, second, target_actor, *targets = (layers(reference, f"{when}/{name}") for name in names)
        return {"actor": actor, "critics": (first, second), "target_actor": target_actor, "target_critics": tuple(targets)}

    start = networks("start")
    n_observations, n_actions = start["actor"][0].weight.shape[0], start["actor"][-1].weight.shape[1]
    state = agent.init(KEY, n_observations, n_actions)._replace(**start)
    for i in range(20):
        batch = Batch(*(jnp.asarray(reference[f"batches/{name}"][i]) for name in Batch._fields))
        targets = agent.targets(state, batch, KEY)
        np.testing.assert_allclose(targets, reference["targets"][i], atol=1e-6)
        losses = sum(jnp.mean((agent.value(critic, batch.observations, batch.actions) - targets) ** 2) for critic in state.critics)
        np.testing.assert_allclose(losses, reference["losses"][i], rtol=1e-6)
        state, _ = update(agent, state, batch, i + 1, KEY)
        if i in (0, 1):
            for name, expected in networks(f"after{i + 1}").items():
                np.testing.assert_allclose(flatten(getattr(state, name)), flatten(expected), atol=1e-9)
    for name, expected in networks("after20").items():
        np.testing.assert_allclose(flatten(getattr(state, name)), flatten(expected), atol=1e-6)
        assert np.abs(flatten(expected) - flatten(start[name])).max() > 1e-4


# --- Memory ----------------------------------------------------------------------------------------------------------


def transition(i):
    return Batch(np.full(2, i), np.full(1, i), np.asarray(float(i)), np.full(2, i + 1), np.asarray(i % 2 == 0))


def test_a_ring_keeps_the_newest_in_jax_and_in_numpy():
    ring, host = Memory(empty_rows(5, 2, 1), jnp.array(0)), HostMemory(5, 2, 1)
    for i in range(1, 14):
        ring = remember(ring, transition(i))
        host.remember(transition(i))
        for rows in (ring.rows, host.rows):
            kept = np.asarray(rows.rewards)
            assert sorted(kept[kept > 0]) == list(range(max(1, i - 4), i + 1))
        drawn_rows = sample(ring, jax.random.key(i), 200)
        on_host = host.sample(np.random.default_rng(i), (2, 100))
        assert on_host.observations.shape == (2, 100, 2)
        for rewards, following in (
            (drawn_rows.rewards, drawn_rows.next_observations[:, 0]),
            (on_host.rewards.ravel(), on_host.next_observations.reshape(-1, 2)[:, 0]),
        ):
            assert set(np.asarray(rewards)) == set(range(max(1, i - 4), i + 1)), "empty rows were drawn, or kept ones never"
            np.testing.assert_array_equal(following, rewards + 1)
    assert int(ring.n_seen) == host.n_seen == 13


def test_every_row_has_the_same_chance():
    ring = Memory(empty_rows(7, 2, 1)._replace(rewards=jnp.arange(7.0)), jnp.array(7))
    counts = np.bincount(np.asarray(sample(ring, KEY, 70_000).rewards, int))
    assert np.sum((counts - 10_000) ** 2 / 10_000) < 22.5  # chi-squared with 6 degrees of freedom, one in a thousand


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(ActorCritic, discount=1.0), r"discount must lie in \[0, 1\), got 1.0"),
        (partial(ActorCritic, discount=float("nan")), "discount must lie"),
        (partial(ActorCritic, actor_step_size=0.0), "actor_step_size must be positive and finite, got 0.0"),
        (partial(ActorCritic, target_rate=0.0), r"target_rate must lie in \(0, 1\], got 0.0"),
        (partial(ActorCritic, target_rate=1.5), "target_rate must"),
        (partial(ActorCritic, smoothing=-0.1), "smoothing must be at least 0 and finite, got -0.1"),
        (partial(ActorCritic, smoothing_clip=-0.1), "smoothing_clip must be at least 0"),
        (partial(ActorCritic, exploration=-1.0), "exploration must be at least 0 and finite, got -1.0"),
        (partial(ActorCritic, n_critics=0), "n_critics must be at least 1, got 0"),
        (partial(ActorCritic, policy_delay=0), "policy_delay must be at least 1, got 0"),
        (partial(ActorCritic, hidden=()), r"hidden must hold at least one width, all positive, got \(\)"),
        (partial(ActorCritic, hidden=(8, 0)), "hidden must hold"),
        (partial(ActorCritic, activation="cubic"), "activation must be one of"),
        (partial(Adam, -1.0), "step_size must be positive and finite, got -1.0"),
        (partial(SGD, float("inf")), "step_size must be positive and finite, got inf"),
        (partial(PreQN, Settings(decay=2.0)), "decay must"),
        (partial(empty_rows, 0, 1, 1), "capacity must be at least 1, got 0"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.usefixtures("unchecked")
def test_targets_and_columns_of_a_wrong_shape_are_refused_by_name():
    parameters, inputs, column = init_mlp(KEY, [2, 4, 1]), jnp.ones((5, 2)), jnp.ones((5, 1))
    for rule in (Adam(), SGD(), PreQN()):
        for targets in (column, jnp.ones(1), jnp.ones(())):
            with pytest.raises(ValueError, match=r"targets must have shape \(5,\)"):
                rule.step(value_network("relu"), parameters, rule.init(parameters), inputs, targets)
    agent = replace(DDPG, **SMALL)
    for name in ("rewards", "ends"):
        batch = drawn()
        wrong = batch._replace(**{name: getattr(batch, name)[:, None]})
        with pytest.raises(ValueError, match=rf"batch.{name} must have shape \(16,\), got \(16, 1\)"):
            agent.update(agent.init(KEY, D, K), wrong, 1, KEY)
    assert dense(parameters[0], inputs).shape == (5, 4)


def test_without_optax_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    monkeypatch.delitem(sys.modules, "deadly_triad.agents")
    with pytest.raises(ModuleNotFoundError, match=r'pip install "deadly-triad\[agents\]"'):
        import_module("deadly_triad.agents")
