"""The benchmark's rivals compute the right thing, its arithmetic is right, and its committed results are whole."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.networks import value_network

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
    ends = jnp.arange(n) % 2 == 1  # drawn at random, most batches of this size have none
    batches = tuple(rivals.random_batch(key, n)._replace(ends=ends) for key in keys[:2])
    preqn = rivals.preqn_agent("relu", rivals.Settings())
    return rivals.start(rivals.td3_agent("relu"), keys[2], hidden), rivals.start(preqn, keys[3], hidden), batches


def leaves(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_the_naive_kernel_is_that_of_central_differences(rivals):
    _, state, (batch, _) = drawn(rivals, n=5, hidden=(4,))
    network, critic = value_network("tanh"), state.critics[0]
    inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
    flat, unravel = jax.flatten_util.ravel_pytree(critic)
    columns = [
        (network(unravel(flat + h), inputs, rivals.dense) - network(unravel(flat - h), inputs, rivals.dense)) / 0.02
        for h in 0.01 * jnp.eye(len(flat))
    ]
    J = np.stack(columns, axis=1)
    np.testing.assert_allclose(rivals.naive_kernel(network, critic, inputs), J @ J.T, rtol=1e-3, atol=1e-3)


def test_a_pair_is_two_updates_and_the_actor_moves_when_it_is_its_turn(rivals):
    """Of TD3 and of PreQN with a delayed actor at the second update only; what an update does is tested with the package."""
    td3, preqn, batches = drawn(rivals)
    settings = rivals.Settings()
    for agent, state, at_first in (
        (rivals.td3_agent("tanh"), td3, False),
        (rivals.preqn_agent("tanh", settings), preqn, True),
        (rivals.preqn_agent("tanh", settings, delayed=True), preqn, False),
    ):
        after = rivals.pair(agent, state, batches)
        keys = jax.random.split(rivals.KEY)
        between, metrics = agent.update(state, batches[0], 1, keys[0])
        assert bool(metrics["actor_moved"]) == at_first
        expected, metrics = agent.update(between, batches[1], 2, keys[1])
        assert bool(metrics["actor_moved"])
        for name in ("actor", "critics"):
            np.testing.assert_allclose(leaves(getattr(after, name)), leaves(getattr(expected, name)), atol=1e-4)
            assert np.abs(leaves(getattr(after, name)) - leaves(getattr(between, name))).max() > 1e-4


def test_naive_preqn_is_preqn_without_shift_and_search(rivals):
    """On a batch whose kernel is well conditioned the two agree."""
    _, preqn, (batch, _) = drawn(rivals, n=4, hidden=(16, 16))
    settings = rivals.Settings(step_size=0.01, alignment=-1.0, shift=1e-6)
    agents = rivals.preqn_agent("tanh", settings), rivals.naive_agent("tanh", settings)
    ours, naive = (leaves(agent.update(preqn, batch, 1, rivals.KEY)[0].critics) for agent in agents)
    start = leaves(preqn.critics)
    np.testing.assert_allclose(naive - start, ours - start, atol=1e-2 * np.abs(ours - start).max())


@pytest.mark.parametrize(("hidden", "n"), [((64, 64), 128), ((256, 256), 256)])
@pytest.mark.parametrize("delayed", [False, True])
def test_counted_operations_are_those_that_the_compiler_counts(rivals, hidden, n, delayed):
    td3, preqn, batches = drawn(rivals, n, hidden)
    counted = rivals.update_flops(hidden, n, delayed=delayed)
    ours = rivals.pair.lower(rivals.preqn_agent("relu", rivals.Settings(), delayed=delayed), preqn, batches)
    for lowered, operations in zip((ours, rivals.pair.lower(rivals.td3_agent("relu"), td3, batches)), counted, strict=True):
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
    assert all(row["ratio"] > 0.5 for row in results["passes"]), "half a pass cannot be: something was kept from the round before"
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
