"""Soft actor-critic of experiments/sac.py, against stable-baselines3."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.agents import Agent, Batch
from deadly_triad.networks import Dense

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
from sac import SAC

AGENT = SAC(hidden=(8, 8))
NAMES = ("actor", "critic0", "critic1", "target_critic0", "target_critic1")
learn = jax.jit(lambda state, batch, now, following: AGENT.learn(state, batch, now, following))
update = jax.jit(AGENT.update)


@pytest.fixture(scope="module")
def reference():
    """What sac_reference.py beside this file wrote: weights, batches, noise, and what the library's SAC made of them in float64."""
    with np.load(Path(__file__).with_name("sac_reference.npz")) as file:
        return dict(file)


def networks(reference, when):
    def layers(name):
        count = len([key for key in reference if key.startswith(f"{when}/{name}/") and key.endswith("bias")])
        parts = [[jnp.asarray(reference[f"{when}/{name}/{i}/{part}"]) for part in ("weight", "bias")] for i in range(count)]
        return [Dense(weight.T, bias) for weight, bias in parts]

    actor, first, second, *targets = map(layers, NAMES)
    log_temperature = jnp.asarray(reference[f"{when}/log_temperature"])
    return {"actor": actor, "critics": (first, second), "target_critics": tuple(targets), "log_temperature": log_temperature}


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_twenty_updates_are_those_of_stable_baselines3(reference):
    start = networks(reference, "start")
    state = AGENT.init(jax.random.key(0), start["actor"][0].weight.shape[0], 2)._replace(**start)
    for i in range(20):
        batch = Batch(*(jnp.asarray(reference[f"batches/{name}"][i]) for name in Batch._fields))
        now, following = reference["noise"][i]
        np.testing.assert_allclose(AGENT.targets(state, batch, following), reference["targets"][i], atol=1e-9)
        state, metrics = learn(state, batch, now, following)
        assert metrics["td_error"] > 0
        if i + 1 in (1, 2, 20):
            for name, expected in networks(reference, f"after{i + 1}").items():
                np.testing.assert_allclose(flatten(getattr(state, name)), flatten(expected), atol=1e-9)
                assert np.abs(flatten(expected) - flatten(start[name])).max() > 1e-4 or i + 1 < 20


def test_the_reference_would_tell_a_wrong_factor(reference):
    """The match is not one of everything: a temperature, a deviation and a target network that are left out are seen."""
    start = networks(reference, "start")
    state = AGENT.init(jax.random.key(0), start["actor"][0].weight.shape[0], 2)._replace(**start)
    batch = Batch(*(jnp.asarray(reference[f"batches/{name}"][0]) for name in Batch._fields))
    _, following = reference["noise"][0]
    for wrong, noise in (
        (state._replace(log_temperature=jnp.array(0.0)), following),
        (state._replace(target_critics=state.critics), following),
        (state, 0 * following),
    ):
        assert np.abs(AGENT.targets(wrong, batch, noise) - reference["targets"][0]).max() > 1e-3
    deviations = (np.asarray(state.actor[-1].bias)[2:], start["actor"][-1].bias.shape)
    assert deviations[1] == (4,)
    assert deviations[0].max() > 1.5


def test_it_is_an_agent_whose_critics_may_leave_the_numbers():
    assert isinstance(AGENT, Agent)
    state = AGENT.init(jax.random.key(0), 3, 1)
    observations = jnp.ones((4, 3))
    batch = Batch(observations, jnp.zeros((4, 1)), jnp.full(4, np.inf), observations, jnp.zeros(4, bool))
    for i in range(2):
        state, metrics = update(state, batch, i + 1, jax.random.key(i))
    assert metrics["largest_value"] == np.inf
    assert not metrics["actor_moved"]
    mean = AGENT.act(state.actor, observations)
    assert np.all(np.isfinite(mean))
    np.testing.assert_allclose(AGENT.act(state.actor, np.ones((4, 3)), None, np), mean, rtol=1e-6)
    assert np.abs(AGENT.act(state.actor, observations, np.ones((4, 1))) - mean).max() > 0.1
