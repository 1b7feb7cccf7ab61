"""`diagnosis`: the spectrum by three routes and against the network itself, the verdict on classical examples, rows in blocks."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.diagnosis import Diagnosis, diagnose, error_matrix, row_sums
from deadly_triad.diagnosis import _block_sums as block_sums
from deadly_triad.episodes import read_episodes
from deadly_triad.examples import baird, w_to_2w
from deadly_triad.kernel_updates import Coupling, theorem_2
from deadly_triad.networks import Dense, action_value_network, dense, init_mlp, value_network
from deadly_triad.ntk import Factors, kernel_factors, pull_back
from deadly_triad.stability import analyse_stability
from matplotlib.figure import Figure

KEY = jax.random.key(0)
TANH = value_network("tanh")
LAYERS = init_mlp(KEY, [2, 6, 1], "lecun")


def jacobian(network, parameters, inputs):
    """One row a sample, by reverse mode."""
    inputs = jax.tree.map(jnp.asarray, inputs)
    rows = jax.jit(jax.jacrev(lambda p: network(p, inputs, dense)))(parameters)
    return np.concatenate([np.asarray(leaf).reshape(len(jax.tree.leaves(inputs)[0]), -1) for leaf in jax.tree.leaves(rows)], axis=1)


def draw(n, m, seed=0):
    """A batch, bootstrap pairs and weights."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal((n, 2))), jnp.asarray(rng.standard_normal((m, 2))), rng.dirichlet(np.ones(n)), rng


def moving(eigenvalues, size):
    """The eigenvalues that are not zero up to rounding, in order."""
    kept = eigenvalues[np.abs(eigenvalues) > 1e-9 * size]
    return kept[np.lexsort((kept.imag.round(9), kept.real.round(9)))]


# --- The spectrum ----------------------------------------------------------------------------------------------------


# Each: how many bootstrap pairs a batch of 6 has, what is passed, and B as it is meant.
def one_each(_rng):
    return 6, {}, np.eye(6)


def ended(_rng):
    return 6, {"ends": np.arange(6) % 3 == 0}, np.diag(np.arange(6) % 3 != 0).astype(float)


def two_actions(rng):
    policy = rng.dirichlet(np.ones(2), 6)
    B = np.zeros((6, 12))
    for i in range(6):
        B[i, 2 * i], B[i, 2 * i + 1] = policy[i]
    return 12, {"bootstrap": policy}, B


def mixed_and_ended(rng):
    B = rng.dirichlet(np.ones(4), 6)
    return 4, {"bootstrap": B, "ends": np.arange(6) == 2}, np.where(np.arange(6)[:, None] == 2, 0, B)


@pytest.mark.parametrize("form", [one_each, ended, two_actions, mixed_and_ended])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_eigenvalues_are_those_of_the_parameters_and_of_all_pairs(form, weighted):
    n, discount = 6, 0.9
    m, told, B = form(np.random.default_rng(1))
    inputs, following, rho, _ = draw(n, m)
    seen = diagnose(TANH, LAYERS, inputs, following, discount=discount, step_size=0.1, **told, **({"rho": rho} if weighted else {}))
    rho = rho if weighted else np.full(n, 1 / n)
    J, ahead = jacobian(TANH, LAYERS, inputs), jacobian(TANH, LAYERS, following)
    np.testing.assert_allclose(seen.matrix, (J - discount * B @ ahead) @ J.T * rho, atol=1e-13)
    in_parameters = np.linalg.eigvals(J.T * rho @ (J - discount * B @ ahead))
    # All n + m pairs; from those that are not in the batch nothing is learned, so wherever they lead makes no difference.
    everything, D = np.concatenate([J, ahead]), np.diag([*rho, *np.zeros(m)])
    P = np.zeros((n + m, n + m))
    P[:n, n:] = B
    P[n:] = np.random.default_rng(2).dirichlet(np.ones(n + m), m)
    of_all = np.linalg.eigvals(everything @ everything.T @ D @ (np.eye(n + m) - discount * P))
    size = np.abs(seen.stability.eigenvalues).max()
    expected = moving(seen.stability.eigenvalues, size)
    assert len(expected) >= 5
    for other in (in_parameters, of_all):
        np.testing.assert_allclose(moving(other, size), expected, atol=1e-10 * size)
    # A bootstrap that is left out, or is another, has another spectrum.
    assert np.abs(moving(np.linalg.eigvals(J @ J.T * rho), size) - expected).max() > 1e-3 * size


def test_the_errors_of_the_network_itself_move_so_up_to_second_order():
    n, discount = 5, 0.9
    inputs, following, rho, rng = draw(n, 10, seed=3)
    policy, rewards = rng.dirichlet(np.ones(2), n), rng.standard_normal(n)

    def errors(parameters):
        ahead = np.asarray(TANH(parameters, following, dense)).reshape(n, 2)
        return rewards + discount * np.sum(policy * ahead, axis=1) - np.asarray(TANH(parameters, inputs, dense))

    def excess(step_size):
        seen = diagnose(TANH, LAYERS, inputs, following, discount=discount, step_size=step_size, rho=rho, bootstrap=policy)
        before = errors(LAYERS)
        direction = pull_back(kernel_factors(TANH, LAYERS, inputs), LAYERS, jnp.asarray(rho * before))
        after = errors(jax.tree.map(lambda p, d: p + step_size * d, LAYERS, direction))
        return np.abs(after - (np.eye(n) - step_size * seen.matrix) @ before).max()

    assert excess(2e-3) / excess(1e-3) == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize(("make", "discount"), [(baird, 0.9), (w_to_2w, 0.8), (w_to_2w, 0.9)])
def test_linear_networks_get_the_verdict_of_linear_td(make, discount):
    example = make(discount)
    system, features = example.off_policy, jnp.asarray(example.features)
    line = Dense(jnp.asarray(example.start)[:, None], None)
    seen = diagnose(
        lambda p, x, hook: hook(p, x)[:, 0],
        line,
        features,
        features,
        discount=discount,
        step_size=0.1,
        rho=system.weighting,
        bootstrap=system.transitions,
    )
    expected = analyse_stability(system.A)
    assert (seen.stability.verdict == "unstable") == (expected.verdict == "unstable")
    assert seen.stability.largest_stable_step == pytest.approx(expected.largest_stable_step, rel=1e-9)
    np.testing.assert_allclose(moving(seen.stability.eigenvalues, 1), moving(expected.eigenvalues, 1), atol=1e-9)
    assert seen.settles == (expected.largest_stable_step > 0.1)


# --- The verdict -----------------------------------------------------------------------------------------------------


def test_iterated_errors_die_out_exactly_below_the_largest_step():
    # Each pair leads to the next one, all with one weight: safe, for K is symmetric and I - discount P positive definite.
    inputs, _, _, rng = draw(4, 4)
    following, errors = jnp.roll(inputs, 1, axis=0), rng.standard_normal(4)
    largest = diagnose(TANH, LAYERS, inputs, following, discount=0.5, step_size=0.1).stability.largest_stable_step
    for share, settles in ((0.99, True), (1.01, False)):
        seen = diagnose(TANH, LAYERS, inputs, following, discount=0.5, step_size=share * largest)
        assert seen.stability.verdict == "stable"
        assert seen.settles == settles == (seen.factor < 1)
        after = np.linalg.matrix_power(np.eye(4) - share * largest * seen.matrix, 1000) @ errors
        assert (np.abs(after).max() < np.abs(errors).max()) == settles


def test_with_every_transition_at_an_end_it_is_regression():
    inputs, following, rho, _ = draw(5, 5)
    seen = diagnose(TANH, LAYERS, inputs, jnp.full_like(following, jnp.nan), discount=0.99, step_size=0.1, rho=rho, ends=np.ones(5, bool))
    J = jacobian(TANH, LAYERS, inputs)
    np.testing.assert_allclose(seen.matrix, J @ J.T * rho, atol=1e-13)
    largest = 2 / np.linalg.norm(np.sqrt(rho)[:, None] * J, 2) ** 2
    assert seen.largest_step_with_fixed_targets == pytest.approx(largest, rel=1e-10)
    assert seen.stability.largest_stable_step == pytest.approx(largest, rel=1e-8)
    # Where nothing is at an end, the step with fixed targets is the same and the other is not.
    moved = diagnose(TANH, LAYERS, inputs, following, discount=0.99, step_size=0.1, rho=rho)
    assert moved.largest_step_with_fixed_targets == pytest.approx(largest, rel=1e-10)
    assert moved.stability.largest_stable_step != pytest.approx(largest, rel=1e-3)


def test_a_pair_that_occurs_twice_leaves_an_error_that_cannot_move():
    inputs, _, _, _ = draw(3, 3)
    twice = jnp.concatenate([inputs, inputs[:1]])
    seen = diagnose(TANH, LAYERS, twice, twice, discount=0.5, step_size=0.01)
    assert (seen.stability.verdict, seen.stability.n_null) == ("semistable", 1)
    assert diagnose(TANH, LAYERS, inputs, inputs, discount=0.5, step_size=0.01).stability.verdict == "stable"


def test_what_ended_is_not_looked_at_and_what_did_not_is():
    inputs, following, _, _ = draw(4, 4)
    spoiled, ends = following.at[2].set(jnp.nan), np.arange(4) == 2
    seen = diagnose(TANH, LAYERS, inputs, spoiled, discount=0.9, step_size=0.1, ends=ends)
    np.testing.assert_array_equal(seen.matrix, diagnose(TANH, LAYERS, inputs, following, discount=0.9, step_size=0.1, ends=ends).matrix)
    with pytest.raises(ValueError, match="inputs must be finite"):
        diagnose(TANH, LAYERS, inputs, spoiled, discount=0.9, step_size=0.1)


def test_single_precision_gets_the_verdict_of_double():
    """The kernel as float32 multiplies it has negative eigenvalues, which would be directions that grow."""
    single = init_mlp(KEY, [1, 16, 16, 1], dtype=jnp.float32)
    places = jnp.linspace(-1, 1, 24, dtype=jnp.float32)[:, None]
    seen = diagnose(TANH, single, places, places, discount=0.5, step_size=0.1)
    double = diagnose(TANH, jax.tree.map(jnp.float64, single), places, places, discount=0.5, step_size=0.1)
    assert seen.stability.verdict == double.stability.verdict != "unstable"
    assert seen.stability.largest_stable_step == pytest.approx(double.stability.largest_stable_step, rel=1e-5)
    K = np.asarray(kernel_factors(TANH, single, places).kernel(), float)
    assert analyse_stability((K - 0.5 * K) / 24).verdict == "unstable"


def test_networks_with_one_output_an_action_bootstrap_from_the_greedy_one():
    layers, network, rng = init_mlp(KEY, [2, 6, 3], "lecun"), action_value_network("sin"), np.random.default_rng(0)
    states, following, actions = rng.standard_normal((5, 2)), rng.standard_normal((5, 2)), jnp.asarray(rng.integers(3, size=5))
    everywhere = (jnp.repeat(jnp.asarray(following), 3, axis=0), jnp.tile(jnp.arange(3), 5))
    values = np.asarray(network(layers, everywhere, dense)).reshape(5, 3)
    greedy = np.eye(3)[values.argmax(axis=1)]
    seen = diagnose(network, layers, (states, actions), everywhere, discount=0.9, step_size=0.1, bootstrap=greedy)
    best = (jnp.asarray(following), jnp.asarray(values.argmax(axis=1)))
    again = diagnose(network, layers, (states, actions), best, discount=0.9, step_size=0.1)
    np.testing.assert_allclose(seen.matrix, again.matrix, atol=1e-14)
    # Numbers of actions stay whole numbers wherever pairs are looked at: at a step, under scales, at the policy's actions.
    told = {"discount": 0.9, "step_size": 0.1, "rewards": rng.standard_normal(5), "at_policy": (states, actions)}
    ones = jax.tree.map(jnp.ones_like, layers)
    plain, scaled = (diagnose(network, layers, (states, actions), best, **told, **more) for more in ({}, {"scales": ones}))
    assert plain.numbers["overestimation"] == pytest.approx(0, abs=1e-6)
    assert scaled.numbers == pytest.approx(plain.numbers, rel=1e-3, abs=1e-5, nan_ok=True)


# --- The report ------------------------------------------------------------------------------------------------------


def test_theorem_2_is_asked_about_the_batch_and_the_report_says_all():
    inputs, following, rho, _ = draw(3, 3)
    seen = diagnose(TANH, LAYERS, inputs, following, discount=0.9, step_size=0.25, rho=rho, names=["a", "b", "c"])
    J = jacobian(TANH, LAYERS, inputs)
    expected = theorem_2(Coupling(J @ J.T, rho), 0.9, 0.25, ["a", "b", "c"])
    np.testing.assert_allclose(seen.theorem_2.rows.others, expected.rows.others, rtol=1e-12)
    np.testing.assert_allclose(seen.theorem_2.rows.own, expected.rows.own, rtol=1e-12)
    assert (seen.discount, seen.step_size) == (0.9, 0.25)

    class Printer:
        def text(self, text):
            self.kept = text

    printer = Printer()
    seen._repr_pretty_(printer, False)
    text = printer.kept
    assert text == str(seen)
    assert all(line in text for line in str(expected).splitlines())
    assert f"Errors of 3 pairs, discount 0.9: {seen.stability.verdict}, die out " in text
    assert f"factor {seen.factor:.6g} an update" in text
    assert f"With fixed targets: settles below step size {seen.largest_step_with_fixed_targets:.6g}" in text


def test_the_report_tells_growth_from_decay():
    pair, ahead, line = jnp.ones((1, 1)), 2 * jnp.ones((1, 1)), Dense(jnp.ones((1, 1)), None)

    grows = diagnose(one, line, pair, ahead, discount=0.75, step_size=0.5)
    text = str(grows).replace(" [From parameters to values]", "")
    assert "Errors of 1 pairs, discount 0.75: unstable, die out at no step size\n     at step size 0.5: do not, factor 1.25" in text
    decays = diagnose(one, line, pair, ahead, discount=0.25, step_size=0.5)
    text = str(decays).replace(" [From parameters to values]", "")
    assert "stable, die out below step size 4\n     at step size 0.5: die out, factor 0.75 an update" in text
    assert isinstance(decays, Diagnosis)


def test_a_network_that_nothing_moves_has_no_largest_step():
    """At weights of zero a product of two layers has no gradient at all."""
    zeros = jax.tree.map(jnp.zeros_like, init_mlp(KEY, [2, 3, 1], bias=False))
    inputs, following, _, _ = draw(2, 2)
    seen = diagnose(TANH, zeros, inputs, following, discount=0.9, step_size=1.0)
    assert seen.largest_step_with_fixed_targets == np.inf
    assert seen.stability.n_null == 2


# --- Values, the next step, where the fault lies ----------------------------------------------------------------------


def one(p, x, hook):
    """A network with one weight, whose value at x is w x."""
    return hook(p, x)[:, 0]


def doubled(discount=0.9, step_size=0.5, here=((1.0,),), ahead=((2.0,),), weight=1.0, **told):
    """w -> 2w, with K = 1 and K' = 2."""
    line = Dense(jnp.full((1, 1), weight), None)
    return diagnose(one, line, jnp.asarray(here), jnp.asarray(ahead), discount=discount, step_size=step_size, **told)


def test_values_and_targets_are_held_against_what_rewards_allow():
    inputs, following, rho, rng = draw(5, 5)
    rewards, ends = rng.standard_normal(5), np.arange(5) == 3
    seen = diagnose(TANH, LAYERS, inputs, following, discount=0.9, step_size=0.1, rho=rho, ends=ends, rewards=rewards)
    Q, ahead = (np.asarray(TANH(LAYERS, x, dense)) for x in (inputs, following))
    targets = rewards + 0.9 * np.where(ends, 0, ahead)
    assert seen.values.largest_value == pytest.approx(np.abs(Q).max())
    assert seen.values.largest_target == pytest.approx(np.abs(targets).max())
    assert seen.values.bound == pytest.approx(10 * np.abs(rewards).max())
    assert seen.values.td_error == pytest.approx(np.sqrt(np.mean((targets - Q) ** 2)))
    assert not seen.values.out_of_bound
    assert "within" in str(seen)
    # Targets that come from elsewhere, and a bound that the batch does not show.
    other = diagnose(
        TANH, LAYERS, inputs, following, discount=0.9, step_size=0.1, rewards=rewards, targets=targets + 100.0, largest_reward=5.0
    )
    assert other.values.bound == pytest.approx(50)
    assert other.values.out_of_bound
    assert "OUT OF BOUND" in str(other)


@pytest.mark.parametrize("step_size", [0.01, 0.02])
def test_the_next_step_is_the_one_that_the_update_takes(step_size):
    inputs, following, rho, rng = draw(5, 5)
    rewards = rng.standard_normal(5)
    seen = diagnose(TANH, LAYERS, inputs, following, discount=0.9, step_size=step_size, rho=rho, rewards=rewards)

    def values(p):
        return TANH(p, inputs, dense)

    delta = rewards + 0.9 * np.asarray(TANH(LAYERS, following, dense)) - np.asarray(values(LAYERS))
    gradient = jax.grad(lambda p: jnp.sum(rho * delta * values(p)))(LAYERS)
    after = values(jax.tree.map(lambda p, g: p + step_size * g, LAYERS, gradient))
    moved, first = np.asarray(after - values(LAYERS)), step_size * seen.coupling.kernel @ (rho * delta)
    assert seen.move.alignment == pytest.approx(moved @ delta / np.linalg.norm(moved) / np.linalg.norm(delta), rel=1e-9)
    assert seen.move.second_order == pytest.approx(np.linalg.norm(moved - first) / np.linalg.norm(moved), rel=1e-6)


def test_what_is_not_of_first_order_falls_with_the_step():
    inputs, following, _, rng = draw(5, 5)
    rewards = rng.standard_normal(5)
    shares = [
        diagnose(TANH, LAYERS, inputs, following, discount=0.9, step_size=step, rewards=rewards).move.second_order for step in (1e-3, 2e-3)
    ]
    assert shares[1] / shares[0] == pytest.approx(2, rel=0.02)


def test_the_policy_is_told_from_the_data():
    inputs, following, _, rng = draw(5, 5)
    played = inputs.at[:, 1].add(jnp.asarray(rng.standard_normal(5)))
    seen = diagnose(TANH, LAYERS, inputs, following, discount=0.9, step_size=0.1, at_policy=played, n_action_columns=1)

    def values(x):
        return np.asarray(TANH(LAYERS, x, dense))

    assert seen.values.overestimation == pytest.approx(np.mean(values(played) - values(inputs)))
    slopes = (values(played.at[:, 1].add(1e-5)) - values(played.at[:, 1].add(-1e-5))) / 2e-5
    assert seen.values.slope == pytest.approx(np.mean(np.abs(slopes)), rel=1e-6)
    assert f"slope of Q in the action there {seen.values.slope:.4g}" in str(seen)
    discrete = diagnose(TANH, LAYERS, inputs, following, discount=0.9, step_size=0.1, at_policy=played)
    assert np.isnan(discrete.values.slope)
    assert "slope" not in str(discrete)


def test_what_may_stay_of_each_leg_in_closed_form():
    # M = 1 - 2 gamma; a share t of the discount leaves 1 - 2 gamma t, and the table's M is 1: the two are the same line.
    seen = doubled(0.9, 0.5)
    expected = (1 + 1 / (1000 * 0.5)) / 1.8
    assert seen.legs == pytest.approx({"bootstrapping": expected, "generalisation": expected}, abs=0.011)
    assert seen.fault.name == "can't tell"
    # The data would have bootstrapped from the pair itself, M = 1 - gamma: more of that leg may stay.
    told = doubled(0.9, 0.5, next_of_data=jnp.ones((1, 1)))
    assert told.legs["off-policy actions"] == pytest.approx((0.1 + 1 / 500) / 0.9, abs=0.011)
    # With a successor four times as large under the data's actions too, that leg carries nothing.
    worse = doubled(0.9, 0.5, next_of_data=4 * jnp.ones((1, 1)))
    assert np.isnan(worse.legs["off-policy actions"])
    assert "off-policy" not in worse.fault.reason
    assert worse.fault.reason.endswith("with the data's actions they grow too")


def test_the_leg_of_which_least_has_to_go_is_named():
    # At the policy's action the value is 1.2 times that of the pair, at the data's it is equal to it, and the discount is next to 1.
    seen = doubled(0.99, 0.1, ahead=((1.2,),), next_of_data=-5 * jnp.ones((1, 1)))
    assert seen.legs["off-policy actions"] > seen.legs["bootstrapping"] + 0.1
    assert seen.fault.name == "off-policy actions"
    assert "least of it has to go" in seen.fault.reason


def test_other_faults_come_before_the_legs():
    long = doubled(0.3, 6.0)  # M = 0.4
    assert (long.fault.name, long.factor) == ("step", pytest.approx(1.4))
    assert long.updates_to_grow == pytest.approx(1 / np.log(1.4))
    longer = doubled(0.9, 2.5)  # M = -0.8: it grows at every step, and 2 is the most that fixed targets bear
    assert (longer.fault.name, doubled(0.9, 1.5).fault.name) == ("step", "can't tell")
    assert "shorten it and ask again" in longer.fault.reason
    quiet = doubled(0.3, 0.5)
    assert (quiet.fault.name, quiet.updates_to_grow) == ("none", np.inf)
    assert quiet.legs == {"bootstrapping": 1.0, "generalisation": 1.0}
    slow = doubled(0.5 + 1e-5, 0.5)  # grows, and by too little to matter
    assert slow.fault.name == "none"
    assert 1000 < slow.updates_to_grow < np.inf
    high = doubled(0.3, 0.5, rewards=np.array([1.0]), weight=10.0)
    assert high.fault.name == "can't tell"
    assert "what blew up has passed" in high.fault.reason
    seen = np.arange(12.0)[:, None] + 100 * (np.arange(12.0)[:, None] // 3)
    episodes = read_episodes(seen, seen + 1, np.arange(12) % 3 == 2)
    assert doubled(0.9, 2.0, episodes=episodes).fault.name == "record"
    assert "Record: 3 episodes over: 3 ends after 3 steps" in str(doubled(0.9, 2.0, episodes=episodes))
    assert "they look like cuts by a time limit" in str(doubled(0.9, 2.0, episodes=episodes))


def test_cures_in_closed_form():
    step, M = 0.01, 1 - 2 * 0.9
    cures = doubled(0.9, step).cures
    assert cures["as it is"] == pytest.approx((1 - step * M) ** 1000, rel=1e-9)
    assert cures["preconditioned"] == 1e12  # it moves further in each update, in the direction that grows
    assert cures["unit gradients"] == 1  # the successor's gradient is twice as long, and that was all
    moved = 1 - (1 - step) ** 200  # how far 200 updates carry the value to a fixed target
    assert cures["target network"] == pytest.approx((1 - M * moved) ** 5, rel=1e-9)
    assert doubled(0.9, step).decay_needed == pytest.approx(0.8)
    assert doubled(0.3, step).cures == dict.fromkeys(cures, 1.0)
    text = str(doubled(0.9, step))
    assert "target network: by" in text
    assert "preconditioned: by more than 1e12" in text
    assert "unit gradients: none" in text
    assert doubled(0.9, 1e9).cures["target network"] == 1e12  # sums that leave the numbers


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_moves_the_limit_with_fixed_targets(momentum):
    limit = doubled(0.9, 0.01, momentum=momentum).largest_step_with_fixed_targets
    assert limit == pytest.approx(2 * (1 + momentum) / (1 - momentum))
    sizes = []
    for step in (0.99 * limit, 1.01 * limit):
        w, m = 1.0, 0.0
        for _ in range(2000):
            m = momentum * m - (1 - momentum) * w
            w += step * m
        sizes.append(abs(w))
    assert sizes[0] < 1 < sizes[1]
    # With the bootstrap: the growth of the pair itself.
    w, m, last = 1.0, 0.0, 1.0
    for _ in range(400):
        m = momentum * m + (1 - momentum) * (0.9 * 2 - 1) * w
        last, w = w, w + 0.05 * m
    assert doubled(0.9, 0.05, momentum=momentum).factor == pytest.approx(w / last, rel=1e-9)
    assert ("without momentum" in str(doubled(0.9, 0.05, momentum=momentum))) == (momentum > 0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("hold", [2, 7, 200])
def test_targets_that_are_held_are_waited_for(hold, momentum):
    """One weight, update by update, with a target that is renewed after `hold` of them."""
    w, m = 1.0, 0.0
    for _ in range(hold):
        m = momentum * m + (1 - momentum) * (0.9 * 2 - w)
        w += 0.01 * m
    seen = doubled(0.9, 0.01, hold=hold, momentum=momentum)
    assert seen.updates_to_grow == pytest.approx(hold / np.log(w), rel=1e-9)
    assert ("With targets held" in str(seen)) == (hold > 1)
    assert ("no target network" in seen.cures) == (hold > 1)
    assert "none grows" in str(doubled(0.3, 0.01, hold=3))


def test_scales_are_a_change_of_the_parameters():
    """With theta = sqrt(p) phi, plain updates of phi are scaled ones of theta: the same kernel by two routes."""
    inputs, following, rho, rng = draw(5, 5)
    rewards = rng.standard_normal(5)
    scales = jax.tree.map(lambda p: jnp.asarray(rng.uniform(0.5, 2, p.shape)), LAYERS)
    told = {"discount": 0.9, "step_size": 0.01, "rho": rho, "rewards": rewards}
    seen = diagnose(TANH, LAYERS, inputs, following, scales=scales, **told)
    p = np.concatenate([np.ravel(s) for s in jax.tree.leaves(scales)])
    J, ahead = jacobian(TANH, LAYERS, inputs), jacobian(TANH, LAYERS, following)
    np.testing.assert_allclose(seen.matrix, (J - 0.9 * ahead) * p @ J.T * rho, atol=1e-12)
    Q = np.asarray(TANH(LAYERS, inputs, dense))
    delta = rewards + 0.9 * np.asarray(TANH(LAYERS, following, dense)) - Q
    gradient = jax.grad(lambda q: jnp.sum(rho * delta * TANH(q, inputs, dense)))(LAYERS)
    after = TANH(jax.tree.map(lambda q, g, s: q + 0.01 * s * g, LAYERS, gradient, scales), inputs, dense)
    moved = np.asarray(after) - Q
    assert seen.move.alignment == pytest.approx(moved @ delta / np.linalg.norm(moved) / np.linalg.norm(delta))
    assert seen.move.second_order == pytest.approx(
        np.linalg.norm(moved - 0.01 * seen.coupling.kernel @ (rho * delta)) / np.linalg.norm(moved), rel=1e-6
    )
    ones = jax.tree.map(jnp.ones_like, LAYERS)
    plain, same = (diagnose(TANH, LAYERS, inputs, following, **told, **more) for more in ({}, {"scales": ones}))
    np.testing.assert_allclose(same.matrix, plain.matrix, atol=1e-12)


def test_the_preconditioner_makes_a_table_of_the_batch():
    """Where the batch holds its own successors nothing grows once K is divided out."""
    inputs, _, _, _ = draw(5, 5)
    following = jnp.roll(inputs, 1, axis=0)
    rho = np.array([0.96, 0.01, 0.01, 0.01, 0.01])
    K = np.asarray(kernel_factors(TANH, LAYERS, inputs).kernel())
    seen = diagnose(TANH, LAYERS, inputs, following, discount=0.99, step_size=0.1, rho=rho)
    np.testing.assert_allclose(seen.matrix, (K - 0.99 * np.roll(K, 1, axis=0)) * rho, atol=1e-12)
    assert seen.cures["preconditioned"] == 1


def test_numbers_are_flat_and_known():
    inputs, following, _, rng = draw(5, 5)
    bare = diagnose(TANH, LAYERS, inputs, following, discount=0.9, step_size=0.1)
    assert {"bound", "alignment", "slope"}.isdisjoint(bare.numbers)
    told = {"rewards": rng.standard_normal(5), "at_policy": inputs, "n_action_columns": 1}
    full = diagnose(TANH, LAYERS, inputs, following, discount=0.9, step_size=0.1, **told)
    assert len(full.numbers) == 20
    assert all(type(value) is float for value in full.numbers.values())
    assert full.numbers["row_ratio"] == pytest.approx(row_sums(TANH, LAYERS, inputs).ratios.mean())
    eigenvalues = np.linalg.eigvalsh(full.coupling.kernel)
    assert full.numbers["condition"] == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=1e-6)


@pytest.mark.parametrize("discount", [0.9, 0.3])
def test_the_report_can_be_drawn(discount):
    axes = Figure().subplots(1, 4)
    seen = doubled(discount, 0.5, rewards=np.array([1.0]))
    seen.draw(axes)
    assert [bar.get_width() for bar in axes[0].patches] == [1.0, 1.0 + 2 * discount, pytest.approx(1 / (1 - discount))]
    assert axes[2].lines[1].get_xdata()[0] == pytest.approx(1 - 0.5 * (1 - 2 * discount))
    assert len(axes[3].patches) == (2 if discount == 0.9 else 0)
    with pytest.raises(ValueError, match="axes must be four, got 1"):
        seen.draw(axes[:1])


# --- Rows in blocks --------------------------------------------------------------------------------------------------


@cache
def small_problem(n):
    """A network with one output for each of two actions, n pairs, and their kernel from the Jacobian."""
    rng = np.random.default_rng(n)
    inputs = (rng.standard_normal((n, 3)), jnp.asarray(rng.integers(2, size=n)))
    layers, network = init_mlp(KEY, [3, 8, 8, 2]), action_value_network("relu")
    J = jacobian(network, layers, inputs)
    return network, layers, inputs, J @ J.T


@pytest.mark.parametrize(("n", "block_size"), [(1, 512), (7, 512), (7, 3), (40, 16)])
@pytest.mark.parametrize("weighted", [False, True])
def test_row_sums_do_not_depend_on_the_blocks(n, block_size, weighted):
    network, layers, inputs, K = small_problem(n)
    weights = np.random.default_rng(0).dirichlet(np.ones(n)) if weighted else np.ones(n)
    sums = row_sums(network, layers, inputs, weights if weighted else None, block_size=block_size)
    np.testing.assert_allclose(sums.own, np.diag(K) * weights, rtol=1e-12)
    np.testing.assert_allclose(sums.others, (np.abs(K) - np.diag(np.diag(K))) @ weights, rtol=1e-12, atol=1e-14)
    if not weighted:
        expected = [sum(abs(K[i, j]) for j in range(n) if j != i) / K[i, i] / n for i in range(n)]
        np.testing.assert_allclose(sums.ratios, expected, rtol=1e-12, atol=1e-14)


def test_signs_matter_for_row_sums():
    """Some entries of this kernel are negative, so a sum without absolute values would be another number."""
    layers, x = init_mlp(KEY, [3, 8, 1], bias=False), jax.random.normal(KEY, (9, 3))
    K = np.asarray(kernel_factors(value_network("tanh"), layers, x).kernel())
    assert K.min() < -0.1
    assert np.abs(row_sums(value_network("tanh"), layers, x).others - (K.sum(axis=1) - np.diag(K))).max() > 0.1


def test_row_sums_never_hold_all_entries():
    """By XLA's own account again: for 2048 samples the kernel takes 34 MB, and its rows in blocks of 128 are summed in a fraction."""
    N, layers, network = 2048, init_mlp(KEY, [2, 16, 1]), value_network("tanh")
    memory = block_sums.lower(network, layers, jnp.ones((16, 128, 2)), jnp.ones((16, 128))).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < N**2 * 8 / 10
    whole = jax.jit(lambda p, x: kernel_factors(network, p, x).kernel())
    memory = whole.lower(layers, jnp.ones((N, 2))).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes >= N**2 * 8


X = jax.random.normal(KEY, (8, 2))
TWO = Coupling(np.eye(2), np.ones(2))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"discount": 1.0}, "discount must lie in"),
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"rho": np.ones(3)}, r"rho must have shape \(4,\)"),
        ({"rho": -np.ones(4)}, "rho must hold non-negative weights"),
        ({"names": ["a"]}, "names must hold 4 names"),
        (
            {"next_inputs": jnp.ones((5, 2))},
            "next_inputs must hold 4 bootstrap pairs, .* unless bootstrap mixes them, got 5",
        ),
        ({"next_inputs": jnp.ones(())}, "inputs must be arrays with one row a sample"),
        ({"bootstrap": np.ones((4, 3))}, r"bootstrap must have shape \(4, 4\), or \(4, k\) with 4 k = 4 bootstrap pairs, got \(4, 3\)"),
        ({"bootstrap": np.ones(4)}, r"bootstrap must have shape .* got \(4,\)"),
        ({"bootstrap": np.ones((2, 2))}, r"bootstrap must have shape .* got \(2, 2\)"),
        ({"bootstrap": np.full((4, 4), 0.3)}, "bootstrap must hold weights of at least 0 that sum to at most 1"),
        ({"bootstrap": np.diag([1.0, -1.0, 0.0, 0.0])}, "bootstrap must hold weights of at least 0"),
        ({"bootstrap": np.full((4, 4), np.nan)}, "bootstrap must hold weights of at least 0"),
        ({"ends": np.zeros(3, bool)}, r"ends must be 4 booleans, one a transition, got shape \(3,\)"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"hold": 0}, "hold must be at least 1"),
        ({"scales": jax.tree.map(lambda p: -jnp.ones_like(p), LAYERS)}, "scales must be positive and finite, and shaped as the parameters"),
        ({"scales": jax.tree.map(jnp.zeros_like, LAYERS)}, "scales must be positive and finite, and shaped as the parameters"),
        ({"scales": jax.tree.map(lambda p: jnp.ones((1, *p.shape)), LAYERS)}, "scales must be positive and finite, and shaped as"),
        ({"targets": np.zeros(4)}, "targets must come with rewards"),
        ({"rewards": np.zeros((4, 1))}, r"rewards must have shape \(4,\), got \(4, 1\)"),
        ({"rewards": np.zeros(4), "targets": np.zeros(3)}, r"targets must have shape \(4,\), got \(3,\)"),
        ({"rewards": np.full(4, np.nan)}, "rewards must be finite"),
        ({"rewards": np.zeros(4), "largest_reward": -1.0}, "largest_reward must be positive"),
        ({"at_policy": jnp.ones((3, 2))}, "at_policy must hold 4 pairs"),
        ({"next_of_data": jnp.ones((3, 2))}, "next_of_data must hold 4 pairs"),
        ({"ends": np.zeros(4)}, r"ends must be 4 booleans, one a transition, got shape \(4,\) of float64"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    told = {"inputs": jnp.ones((4, 2)), "next_inputs": jnp.ones((4, 2)), "discount": 0.9, "step_size": 0.1} | changes
    with pytest.raises(ValueError, match=message):
        diagnose(TANH, LAYERS, told.pop("inputs"), told.pop("next_inputs"), **told)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: row_sums(TANH, LAYERS, X, block_size=0), "block_size must be at least 1, got 0"),
        (lambda: row_sums(TANH, LAYERS, X, np.ones(3)), r"rho must have shape \(8,\), got \(3,\)"),
        (lambda: row_sums(TANH, LAYERS, X, -np.ones(8)), "rho must hold non-negative, finite weights"),
        (lambda: row_sums(TANH, LAYERS, X, np.full(8, np.nan)), "rho must hold non-negative, finite weights"),
        (lambda: row_sums(TANH, LAYERS, X.at[7, 0].set(jnp.inf), block_size=4), "the kernel must be finite"),
        (lambda: error_matrix(TWO, np.ones((3, 1)), np.ones((2, 3)), 0.5), r"shapes \(m, 2\) and \(2, m\), got \(3, 1\)"),
        (lambda: error_matrix(TWO, np.ones((3, 2)), np.ones((2, 2)), 0.5), r"shapes \(m, 2\) and \(2, m\), got \(3, 2\) and \(2, 2\)"),
        (lambda: error_matrix(TWO, np.ones((3, 2)), np.ones((2, 3)), 1.0), "discount must lie in"),
    ],
)
def test_rows_and_matrices_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- A network that is no function in JAX -----------------------------------------------------------------------------


class Weights:
    """Values that are linear in the pairs, in NumPy."""

    def __init__(self, w):
        self.w = w

    def factors(self, pairs, scales=None):
        return Factors(pairs @ self.w, (), (pairs * np.sqrt(1.0 if scales is None else scales),))

    def values(self, pairs):
        return pairs @ self.w

    def stepped(self, pairs, zeta, scales=None):
        return pairs @ (self.w + (1.0 if scales is None else scales) * (zeta @ pairs))

    def slopes(self, pairs):
        return np.broadcast_to(self.w, pairs.shape)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_network_of_another_kind_has_the_report_of_its_twin_in_jax(scaled):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        w, here, there, policy = (rng.standard_normal(shape) for shape in ((3,), (6, 3), (6, 3), (6, 3)))
        scales = rng.uniform(0.5, 2, 3) if scaled else None
        told = {"discount": 0.9, "step_size": 0.2, "rewards": rng.standard_normal(6), "at_policy": policy, "n_action_columns": 1}
        found = diagnose(Weights(w), None, here, there, scales=scales, **told)
        of_layer = Dense(jnp.asarray(scales[:, None]), None) if scaled else None
        twin = diagnose(lambda p, x, hook: hook(p, x)[:, 0], Dense(jnp.asarray(w[:, None]), None), here, there, scales=of_layer, **told)
        assert found.numbers == pytest.approx(twin.numbers, rel=1e-9, nan_ok=True)
        np.testing.assert_allclose(found.matrix, twin.matrix, atol=1e-13)
    with pytest.raises(ValueError, match="parameters must be None with a network that has its own"):
        diagnose(Weights(w), w, here, there, discount=0.9, step_size=0.2)
