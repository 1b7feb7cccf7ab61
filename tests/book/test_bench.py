"""The benchmark's rivals compute the right thing, its arithmetic is right, and its committed results are whole."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def rivals():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import rivals

        yield rivals
    finally:
        sys.path.remove(str(BENCHMARKS))
        sys.modules.pop("rivals", None)


def drawn(rivals, n=16, hidden=(8, 8)):
    keys = jax.random.split(jax.random.key(0), 4)
    ends = jnp.arange(n) % 2.0  # drawn at random, most batches of this size have none
    batches = tuple(rivals.random_batch(key, n)._replace(ends=ends) for key in keys[:2])
    return rivals.start_td3(keys[2], hidden), rivals.start_preqn(keys[3], hidden), batches


def by_hand(layers, x, last=lambda z: z):
    """A relu network in NumPy."""
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ np.asarray(weight) + np.asarray(bias), 0)
    weight, bias = layers[-1]
    return last(x @ np.asarray(weight) + np.asarray(bias))


def leaves(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_the_naive_kernel_is_that_of_central_differences(rivals):
    _, state, (batch, _) = drawn(rivals, n=5, hidden=(4,))
    network = rivals.value_network("tanh")
    inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
    flat, unravel = jax.flatten_util.ravel_pytree(state.critic)
    columns = [
        (network(unravel(flat + h), inputs, rivals.dense) - network(unravel(flat - h), inputs, rivals.dense)) / 0.02
        for h in 0.01 * jnp.eye(len(flat))
    ]
    J = np.stack(columns, axis=1)
    np.testing.assert_allclose(rivals.naive_kernel(network, state.critic, inputs), J @ J.T, rtol=1e-3, atol=1e-3)


def test_a_step_of_td3_without_its_actor_is_adam_on_the_smaller_of_two_targets(rivals):
    state, _, (batch, _) = drawn(rivals)
    after = rivals.td3_step(rivals.value_network("relu"), state, batch, with_actor=False)
    noise = np.clip(0.2 * np.asarray(batch.noise), -0.5, 0.5)
    actions = np.clip(by_hand(state.target_actor, np.asarray(batch.next_observations), np.tanh) + noise, -1, 1)
    ahead = np.hstack([batch.next_observations, actions])
    smaller = np.minimum(*(by_hand(critic, ahead)[:, 0] for critic in state.target_critics))
    targets = np.asarray(batch.rewards) + 0.99 * (1 - np.asarray(batch.ends)) * smaller
    inputs = np.hstack([batch.observations, batch.actions])
    means = after.critic_state[0].mu  # a tenth of the first gradient; the step itself only has its signs
    for before, moved, mean in zip(state.critics, after.critics, means, strict=True):
        # In its last layer the gradient is at hand; the first step of Adam has the size of the step in every coordinate with a gradient.
        error = by_hand(before, inputs)[:, 0] - targets
        features = by_hand([*before[:-1], (np.eye(8), np.zeros(8))], inputs)
        gradient = 2 * features.T @ error / len(error)
        np.testing.assert_allclose(np.asarray(mean[-1].weight)[:, 0], 0.1 * gradient, atol=1e-6)
        expected = np.asarray(before[-1].weight)[:, 0] - 1e-3 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(np.asarray(moved[-1].weight)[:, 0], expected, atol=1e-6)
    # Actor and targets wait.
    for name in ("actor", "target_actor", "target_critics"):
        np.testing.assert_array_equal(leaves(getattr(after, name)), leaves(getattr(state, name)))


def test_every_second_step_of_td3_moves_actor_and_targets(rivals):
    state, _, batches = drawn(rivals)
    network = rivals.value_network("relu")
    after = rivals.td3_pair("relu", state, batches)
    between = rivals.td3_step(network, state, batches[0], with_actor=False)
    expected = rivals.td3_step(network, between, batches[1], with_actor=True)
    np.testing.assert_allclose(leaves(after.critics), leaves(expected.critics), atol=1e-5)
    for target, old, new in (
        (after.target_actor, state.actor, after.actor),
        (after.target_critics, state.critics, after.critics),
    ):
        np.testing.assert_allclose(leaves(target), 0.995 * leaves(old) + 0.005 * leaves(new), atol=1e-6)

    def score(actor):
        observations = batches[1].observations
        return float(jnp.mean(rivals.value(network, after.critics[0], observations, rivals.act(actor, observations))))

    assert score(after.actor) > score(state.actor)


@pytest.mark.parametrize("delayed", [False, True])
def test_a_pair_of_preqn_is_two_updates_of_the_package(rivals, delayed):
    _, state, batches = drawn(rivals)
    network, settings = rivals.value_network("tanh"), rivals.Settings()
    after = rivals.preqn_pair("tanh", settings, state, batches, delayed=delayed)
    for batch, moves in zip(batches, (not delayed, True), strict=True):
        actions = rivals.act(state.actor, batch.next_observations)
        targets = batch.rewards + 0.99 * (1 - batch.ends) * rivals.value(network, state.critic, batch.next_observations, actions)
        inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
        learner, report = rivals.step(network, rivals.init(state.critic), inputs, targets, settings)
        critic = learner.parameters
        assert bool(report.accepted)
        actor, actor_state = state.actor, state.actor_state
        if moves:
            actor, actor_state = rivals.improve(network, critic, actor, actor_state, batch.observations)
        state = rivals.PreQNState(actor, critic, actor_state)
    np.testing.assert_allclose(leaves(after.critic), leaves(state.critic), atol=1e-4)
    np.testing.assert_allclose(leaves(after.actor), leaves(state.actor), atol=1e-4)


@pytest.mark.parametrize(("hidden", "n"), [((64, 64), 128), ((256, 256), 256)])
@pytest.mark.parametrize("delayed", [False, True])
def test_counted_operations_are_those_that_the_compiler_counts(rivals, hidden, n, delayed):
    td3, preqn, batches = drawn(rivals, n, hidden)
    counted = rivals.update_flops(hidden, n, delayed=delayed)
    ours = rivals.preqn_pair.lower("relu", rivals.Settings(), preqn, batches, delayed=delayed)
    for lowered, operations in zip((ours, rivals.td3_pair.lower("relu", td3, batches)), counted, strict=True):
        # The compiler also counts what goes entry by entry, and not the operations inside the factor.
        assert lowered.compile().cost_analysis()["flops"] / 2 == pytest.approx(operations, rel=0.1)


# --- The committed results -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results():
    return json.loads((BENCHMARKS / "results" / "bench.json").read_text(encoding="utf-8"))


def test_every_comparison_is_whole(results):
    comparisons = [
        *results["kernel"],
        *results["updates"],
        *results["solvers"],
        *results["passes"],
        *results["growth"]["n"],
        *results["growth"]["width"],
    ]
    for row in comparisons:
        assert row["ratio"] == pytest.approx(row["top_us"] / row["bottom_us"], rel=5e-3)
        assert 0 < row["low"] <= row["high"]
        assert row["rounds"] >= 10
    for group in ("kernel", "updates", "solvers"):
        assert all(set(row) >= {"hidden", "n", "activation", "rival"} for row in results[group])
    assert all(set(row) >= {"residual_rival", "residual_ours"} for row in results["solvers"])


def test_every_case_of_the_targets_is_there(results):
    cases = {(*hidden, n, name) for hidden in ((64, 64), (256, 256)) for n in (128, 256) for name in ("relu", "tanh", "sin")}

    def found(group, rival=None):
        return {(*row["hidden"], row["n"], row["activation"]) for row in results[group] if rival is None or row["rival"] == rival}

    assert found("kernel", "naive Jacobian") == found("updates", "JAX TD3") == found("share") == cases
    assert all(row["backtracks"] == 0 for row in results["updates"] if row["rival"] == "JAX TD3"), "the page says that none was rejected"
    assert [row["what"] for row in results["passes"]] == ["U3", "beta(K)"]
    assert results["rows"][-1]["N"] == 20_000
    assert set(results["rows"][0]) == {"N", "seconds", "added_megabytes", "kernel_megabytes"}
    assert set(results["growth"]) == {"n", "width"}
    rivals = {row["rival"] for group in ("kernel", "updates") for row in results[group]}
    ran = sum(any(name in rival for rival in rivals) for name in ("neural-tangents", "PyTorch"))
    assert ran + len(results["missing"]) >= 2, "what did not run must say so"


def test_results_say_where_they_come_from(results):
    origin = results["provenance"]
    assert set(origin) >= {"seconds", "finished", "commit", "python", "numpy", "jax", "jaxlib", "machine", "cores", "rivals"}
    assert len(origin["commit"]) == 40
    assert results["peak_gflops"] > 0
