"""`environments`: the pendulum is Gymnasium's, step by step."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.environments import Pendulum


def walk(pendulum, n_steps=300):
    """Observations and rewards of both, from one start and the same torques, some beyond the box."""
    theirs = gymnasium.make("Pendulum-v1").unwrapped
    seen = [theirs.reset(seed=5)[0]]
    state = jnp.asarray(theirs.state)
    ours, rewards = [pendulum.observation(state, None)], []
    step = jax.jit(lambda state, action: (pendulum.transition(state, action, None), pendulum.reward(state, action, None, None)))
    for torque in np.random.default_rng(0).uniform(-3, 3, n_steps):
        observation, reward, end, *_ = theirs.step(np.array([torque]))
        state, own = step(state, jnp.array([torque]))
        assert end == bool(pendulum.terminal(state, None)) == False  # noqa: E712
        seen.append(observation)
        ours.append(pendulum.observation(state, None))
        rewards.append((reward, float(own)))
    theirs.close()
    return np.array(seen), np.array(ours), np.array(rewards).T


def test_the_pendulum_is_that_of_gymnasium():
    seen, ours, rewards = walk(Pendulum())
    np.testing.assert_allclose(ours, seen, atol=2e-6)  # Gymnasium's observations are float32
    np.testing.assert_allclose(rewards[1], rewards[0], rtol=1e-9)
    assert np.abs(seen[:, 2]).max() == 8, "the speed was never clipped"


@pytest.mark.parametrize("constant", ["gravity", "mass", "length", "dt", "max_torque", "max_speed"])
def test_with_another_constant_it_is_not(constant):
    seen, ours, _ = walk(Pendulum(**{constant: 0.9 * getattr(Pendulum(), constant)}))
    assert np.abs(ours - seen).max() > 1e-2


def test_its_starts_and_its_box_are_those_of_gymnasium():
    pendulum, theirs = Pendulum(), gymnasium.make("Pendulum-v1")
    starts = np.asarray(jax.vmap(pendulum.initial)(jax.random.split(jax.random.key(0), 2000)))
    np.testing.assert_allclose(starts.min(axis=0), [-np.pi, -1], rtol=0.02)
    np.testing.assert_allclose(starts.max(axis=0), [np.pi, 1], rtol=0.02)
    np.testing.assert_allclose(starts.mean(axis=0), [0, 0], atol=0.15)
    assert (list(theirs.action_space.low), list(theirs.action_space.high)) == (list(pendulum.low), list(pendulum.high))
    theirs.close()


def test_an_equal_pendulum_made_anew_hashes_alike():
    assert hash(Pendulum()) == hash(Pendulum())
    assert Pendulum() == Pendulum()
    assert Pendulum() != Pendulum(gravity=9.81)
