"""`agents`: what the loop records against environments that can be followed by hand, the critics' differences, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from deadly_triad.agents import Critic, Training, preqn_critic, td_critic, train
from deadly_triad.preqn import Settings
from gymnasium.envs.phys2d.cartpole import CartPoleFunctional
from gymnasium.envs.phys2d.pendulum import PendulumFunctional
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box

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
        "target": td_critic(optax.adam(1e-3), target_rate=0.01),
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


# --- Environments that can be followed by hand -----------------------------------------------------------------------


class Road(FuncEnv):
    """A road: the state counts the steps since the start. Nothing depends on the action but, where it is asked for, the reward."""

    observation_space = Box(0, 1, (1,))

    def __init__(self, pay=lambda *_: 1.0, length=10**6, low=-1.0, high=1.0):
        super().__init__()
        self.pay, self.length, self.action_space = pay, length, Box(low, high, (1,))

    def initial(self, *_):
        return jnp.zeros(())

    def observation(self, *_):
        return jnp.zeros(1)

    def transition(self, state, *_):
        return state + 1

    def reward(self, state, action, *_):
        return self.pay(state, action[0])

    def terminal(self, state, *_):
        return state >= self.length


def one_pair(critic, length):
    """|Q| and |target - Q| before each update, where there is one state and one action, so that every minibatch is the same."""
    training = SMALL._replace(discount=0.5, n_steps=60)
    run = train(Road(lambda *_: 3.0, length, low=0.3, high=0.3), critic, training, [0])
    return run.diagnosis.largest_value[0], run.diagnosis.td_error[0]


SGD_FAST = td_critic(optax.sgd(0.05))


def test_targets_bootstrap_and_not_beyond_an_end():
    for length, discount in ((10**6, 0.5), (1, 0.0)):
        Q, error = one_pair(SGD_FAST, length)
        tail = slice(20, None)  # by then the value has the sign of the reward
        np.testing.assert_allclose(error[tail], np.abs(3 + discount * Q[tail] - Q[tail]), rtol=1e-4, atol=1e-5)
        assert Q[-1] == pytest.approx(3 / (1 - discount), rel=0.1)


def test_a_target_network_that_stands_still_gives_the_targets_of_the_start():
    Q, error = one_pair(td_critic(optax.sgd(0.05), target_rate=1e-9), 10**6)
    # |Q_0| is known, its sign is not; only with the right one does the last error vanish.
    assert min(abs(3 + 0.5 * sign * Q[0] - Q[-1]) for sign in (1, -1)) == pytest.approx(error[-1], rel=1e-3, abs=1e-5)
    assert error[-1] < 0.05


def test_the_target_actor_lags_behind():
    """The critic stands still, so all that the targets of two runs can differ in is the actor that looks ahead."""
    training = SMALL._replace(actor_step_size=0.1)
    with_lag, without = (train(Road(), td_critic(optax.sgd(0.0), rate), training, [0]).diagnosis.td_error[0] for rate in (1e-9, 1.0))
    assert with_lag[0] == pytest.approx(without[0], rel=1e-6)
    assert np.abs(with_lag - without).max() > 1e-3


def test_episodes_begin_again_at_an_end_and_at_the_horizon():
    def count(state, _):
        return state

    cut = train(Road(count), SGD, SMALL._replace(horizon=5), [0]).returns
    np.testing.assert_array_equal(cut, np.full((1, 10), 0 + 1 + 2 + 3 + 4))
    ended = train(Road(count, length=2), SGD, SMALL._replace(horizon=10), [0]).returns
    np.testing.assert_array_equal(ended, np.full((1, 5), 5 * (0 + 1)))


def test_minibatches_are_drawn_from_all_steps_so_far():
    late = Road(lambda state, _: 1e3 * (state >= 20))
    run = train(late, td_critic(optax.sgd(0.0)), SMALL._replace(horizon=100, batch_size=64), [0])
    assert run.diagnosis.td_error[0, -1] > 500


def test_actions_are_explored_within_the_box():
    def size(_, action):
        return jnp.abs(action)

    for noise, least, most in ((0.0, 0.0, 0.3), (100.0, 0.9, 1.0)):
        run = train(Road(size), SGD, SMALL._replace(noise=noise, actor_step_size=1e-9), [0])
        mean = run.returns[0, -3:] / 10
        assert np.all((mean >= least) & (mean <= most))


def test_the_actor_climbs_the_critic_of_after_its_update():
    """A critic that is zero after its update gives the actor nothing to climb, whatever it was before."""

    def vanish(_network, parameters, state, _inputs, _targets):
        return jax.tree.map(jnp.zeros_like, parameters), state, jnp.array(1.0), jnp.array(0)

    critic, training = Critic(lambda _: (), vanish, 1.0), SMALL._replace(n_steps=1)
    fast, slow = (train(Road(), critic, training._replace(actor_step_size=size), [0]).actor for size in (0.1, 1e-12))
    np.testing.assert_allclose(flatten(fast), flatten(slow), atol=1e-9)


def test_the_actor_climbs_to_the_best_action():
    peak = Road(lambda _, action: -((action - 0.5) ** 2), length=1)
    training = Training(n_steps=600, random_steps=100, horizon=10, batch_size=32, hidden=(16, 16), activation="tanh", noise=0.1)
    run = train(peak, preqn_critic(Settings(step_size=0.3)), training, [0])
    assert np.mean(run.returns[0, -10:]) / 10 == pytest.approx(-(0.1**2), abs=0.01)


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
