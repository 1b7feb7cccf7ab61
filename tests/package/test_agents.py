"""`agents`: what the loop records against a replay by hand, the critics' differences, and refusals."""

import jax
import numpy as np
import optax
import pytest
from deadly_triad.agents import Training, preqn_critic, td_critic, train
from deadly_triad.preqn import Settings
from gymnasium.envs.phys2d.cartpole import CartPoleFunctional
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

SMALL = Training(n_steps=30, random_steps=20, horizon=10, batch_size=8, hidden=(8,))
SGD = td_critic(optax.sgd(1e-3))


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.fixture(scope="module")
def runs():
    critics = {
        "preqn": preqn_critic(Settings(step_size=0.1)),
        "sgd": SGD,
        "still": td_critic(optax.sgd(0.0)),
        "target": td_critic(optax.sgd(1e-3), target_rate=0.01),
    }
    return {name: train(PendulumFunctional(), critic, SMALL, [0, 1]) for name, critic in critics.items()}


def test_a_run_has_the_stated_shapes_and_finite_numbers(runs):
    for run in runs.values():
        assert run.returns.shape == (2, 5)
        assert np.all((run.returns > -16.3 * 10) & (run.returns <= 0))
        for entry in run.diagnosis:
            assert entry.shape == (2, 30)
        assert np.all(np.isfinite(run.diagnosis.largest_value))
        assert np.all(run.diagnosis.td_error > 0)


def test_seeds_differ_and_repeat(runs):
    again = train(PendulumFunctional(), SGD, SMALL, [1])
    np.testing.assert_allclose(again.returns[0], runs["sgd"].returns[1], rtol=1e-9)
    np.testing.assert_allclose(again.diagnosis.td_error[0], runs["sgd"].diagnosis.td_error[1], rtol=1e-6)
    assert np.abs(runs["sgd"].returns[0] - runs["sgd"].returns[1]).max() > 1e-3


def test_all_critics_start_alike_and_learn_differently(runs):
    first = {name: run.diagnosis.td_error[:, 0] for name, run in runs.items()}
    for errors in first.values():
        np.testing.assert_allclose(errors, first["sgd"], rtol=1e-9)
    np.testing.assert_array_equal(runs["sgd"].returns[:, :2], runs["preqn"].returns[:, :2])
    for name in ("preqn", "still", "target"):
        assert np.abs(flatten(runs[name].critic) - flatten(runs["sgd"].critic)).max() > 1e-9


def test_a_critic_that_does_not_learn_reports_no_alignment(runs):
    assert np.all(runs["still"].diagnosis.alignment == -np.inf)
    assert np.all(runs["preqn"].diagnosis.alignment[:, 0] > 0.9)
    assert np.all(runs["sgd"].diagnosis.backtracks == 0)


def test_a_critic_that_blows_up_leaves_the_actor_and_the_returns_finite():
    run = train(PendulumFunctional(), td_critic(optax.sgd(1e6)), SMALL, [0])
    assert np.isinf(run.diagnosis.largest_value[0, -1])
    assert np.all(np.isfinite(run.returns))
    assert np.all(np.isfinite(flatten(run.actor)))


def test_progress_sees_every_block():
    seen = []

    def watch(blocks):
        for block in blocks:
            seen.append(block)
            yield block

    run = train(PendulumFunctional(), SGD, SMALL._replace(n_steps=501), [0], progress=watch)
    assert seen == [0, 1]
    assert run.diagnosis.td_error.shape == (1, 501)
    assert run.returns.shape == (1, 52)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
        ({"random_steps": 0}, "random_steps must be at least 1, got 0"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"discount": 1.0}, r"discount must lie in \[0, 1\), got 1.0"),
        ({"actor_step_size": 0.0}, "actor_step_size must be positive and finite, got 0.0"),
        ({"noise": -1.0}, "noise must be at least 0 and finite, got -1.0"),
        ({"hidden": ()}, r"hidden must hold at least one width, all positive, got \(\)"),
        ({"hidden": (8, 0)}, "hidden must hold"),
        ({"activation": "cubic"}, "activation must be one of"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        train(PendulumFunctional(), SGD, SMALL._replace(**changes), [0])


def test_other_refusals_name_what_is_wrong():
    with pytest.raises(ValueError, match="environment must have a bounded box of actions"):
        train(CartPoleFunctional(), SGD, SMALL, [0])
    for rate in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"target_rate must lie in \(0, 1\]"):
            td_critic(optax.sgd(0.1), rate)
    with pytest.raises(ValueError, match="decay must"):
        preqn_critic(Settings(decay=2.0))
    with pytest.raises(ValueError, match="seeds must hold at least one seed"):
        train(PendulumFunctional(), SGD, SMALL, [])
