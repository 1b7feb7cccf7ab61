"""The experiment on early warning: what is declared, what is measured, and an analysis that finds what is planted and nothing in noise."""

import importlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.agents import SGD, ActorCritic, Adam, Batch
from deadly_triad.networks import dense

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))
warning, summary, runner = (importlib.import_module(name) for name in ("early_warning", "early_warning_summary", "runner"))
RESULTS = EXPERIMENTS / "results" / "early_warning"
COMMITTED = runner.read_results(runner.Place(str(EXPERIMENTS / "early_warning.py"), str(RESULTS), str(RESULTS), ""))


def test_the_runs_are_those_of_the_protocol():
    runs = warning.STAGES["runs"]({})
    assert len({run.name for run in runs}) == len(runs) == 128
    for what, values in (("task", warning.TASKS), ("data", warning.DATA), ("seed", warning.SEEDS), ("activation", warning.ACTIVATIONS)):
        counts = {value: sum(run.settings[what] == value for run in runs) for value in values}
        assert set(counts.values()) == {128 // len(values)}
    protocol = (EXPERIMENTS / "early_warning.md").read_text()
    assert all(f"`{name}`" in protocol for name in summary.CANDIDATES)
    assert set(COMMITTED) == {run.name for run in runs}


def batch(n, n_actions, seed=0):
    rng = np.random.default_rng(seed)
    ends = rng.random(n) < 0.2
    return Batch(rng.standard_normal((n, 3)), rng.uniform(-1, 1, (n, n_actions)), rng.standard_normal(n), rng.standard_normal((n, 3)), ends)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("rule", [SGD(0.01), Adam(0.001)])
def test_the_candidates_by_another_route(discrete, rule):
    with jax.enable_x64(True):
        agent = warning.Greedy(critic=rule, hidden=(5,)) if discrete else ActorCritic(critic=rule, hidden=(5,))
        rows = batch(7, 2)
        state = agent.init(jax.random.key(0), 3, 2)
        for i in range(3):  # so that Adam has something behind it
            state, _ = agent.update(state, batch(7, 2, i + 1), 1, jax.random.key(i))
        found = warning.look(agent, state, rows, jax.random.key(0))
        critic = state.critics[0]
        if discrete:
            here = rows.observations, rows.actions.argmax(axis=1)
            every = np.stack([agent.network(critic, (rows.next_observations, jnp.full(7, a)), dense) for a in range(2)], axis=1)
            ahead, following = (rows.next_observations, every.argmax(axis=1)), every.max(axis=1)
        else:
            here = np.hstack([rows.observations, rows.actions])
            ahead = np.hstack([rows.next_observations, agent.act(state.actor, rows.next_observations)])
            following = np.asarray(agent.network(critic, ahead, dense))

        def errors(p):
            after = agent.discount * np.where(rows.ends, 0, 1) * agent.network(p, jax.tree.map(jnp.asarray, ahead), dense)
            return agent.network(p, jax.tree.map(jnp.asarray, here), dense) - after

        targets = rows.rewards + agent.discount * np.where(rows.ends, 0, following)
        values = np.asarray(agent.network(critic, jax.tree.map(jnp.asarray, here), dense))
        assert float(found["td_error"]) == pytest.approx(np.sqrt(np.mean((targets - values) ** 2)))
        # M is what the errors move by, in the direction of the gradients of the values: differentiate both at once.
        wide = jax.jacrev(errors)(critic), jax.jacrev(lambda p: agent.network(p, jax.tree.map(jnp.asarray, here), dense))(critic)
        both, alone = (np.concatenate([np.reshape(leaf, (7, -1)) for leaf in jax.tree.leaves(J)], axis=1) for J in wide)
        np.testing.assert_allclose(found["M"], both @ alone.T / 7, rtol=1e-9, atol=1e-12)
        measured = warning.measure(found, 2.0)
        in_parameters = -np.linalg.eigvals(alone.T @ both / 7).real.min()  # which has zeros besides
        assert max(measured["growth"], 0.0) == pytest.approx(in_parameters, abs=1e-9)
        assert measured["largest_value"] == pytest.approx(np.abs(values).max() / 2)
        if isinstance(rule, SGD):
            assert measured["step_share"] == pytest.approx(0.01 * np.linalg.norm(alone, 2) ** 2 / 7 / 2)
            assert measured["growth_own"] == pytest.approx(0.01 * measured["growth"])
        else:  # a step of Adam without momentum, along the gradient of the mean squared error, is the preconditioned one
            v = warning.flat(state.critic_states[0].nu) / (1 - 0.999 ** int(state.critic_states[0].count))
            scale = 2 * 0.001 / (np.sqrt(v) + 1e-8)
            np.testing.assert_allclose(found["K_own"], (alone * np.asarray(scale)) @ alone.T, rtol=1e-6)


def planted(kind, n_runs=12, seed=0):
    """Runs of one cell, half of which pass at 2000, with columns that know it, do not, or say the opposite."""
    rng, made = np.random.default_rng(seed), []
    for i in range(n_runs):
        passes = i % 2 == 0
        column = rng.random(39 if passes else 60) + {"knows": 2.0, "not": 0.0, "opposite": -2.0}[kind] * passes
        columns = np.tile(column[:, None], (1, len(summary.CANDIDATES)))
        made.append(summary.Series("task/online", warning.SEEDS[i // 2 % 2], 1975 if passes else None, columns))
    return made


def test_the_analysis_finds_what_is_planted_and_nothing_in_noise(monkeypatch):
    monkeypatch.setattr(summary, "REPLICATES", 50)
    sure, none, wrong = (summary.table(planted(kind), "").iloc[0] for kind in ("knows", "not", "opposite"))
    assert (sure["auc"], wrong["auc"]) == (1.0, 0.0)
    assert none["low"] < 0.5 < none["high"]
    assert (sure["warned"], sure["false"], wrong["warned"]) == (1.0, 0.0, 0.0)
    assert sure["lead"] > 1000
    assert (sure["passing"], sure["quiet"]) == (3, 3)


def test_a_record_counts_as_quiet_only_where_the_run_was_watched_long_enough_after_it():
    """Beside one run that passes at the end there are negatives at those times alone from which a whole horizon is left."""
    every, end = warning.EVERY, warning.N_UPDATES
    columns = np.arange(end // every)[:, None] * np.ones((1, len(summary.CANDIDATES)))
    passes, quiet = (summary.Series("task/online", 0, passed, columns) for passed in (end, None))
    found = list(summary.strata([passes, quiet]))
    times = [(int(positive[0, 0]) + 1) * every for positive, _ in found]
    assert times == [end - summary.AHEAD]
    assert all((positive == negative).all() for positive, negative in found)
    _, met = summary.wins([passes, quiet])
    assert met.tolist() == [[0, 1], [0, 0]]


def test_a_warning_needs_two_records_in_a_row():
    assert summary.warned_at(np.array([0.0, 2.0, 0.0, 2.0, 2.0, 2.0]), 1.0) == 250
    assert summary.warned_at(np.array([0.0, 2.0, 0.0, 2.0]), 1.0) is None
    # Of twenty quiet runs two may be above.
    quiet = [np.full(3, float(i)) for i in range(20)]
    limit = summary.threshold(quiet)
    assert sum(summary.warned_at(column, limit) is not None for column in quiet) == 2


@pytest.mark.parametrize("task", ["Pendulum-v1", "CartPole-v1"])
def test_a_run_begins_as_it_did(task):
    name = f"{task}/fixed/Adam_no-target_relu/seed-{warning.SEEDS[0]}"
    committed = COMMITTED[name]
    with jax.enable_x64(False):
        again = warning.run(committed["settings"] | {"updates": 100}, Path(), lambda blocks: blocks)
    for key in ("largest_value", "td_error", "gap", "slope"):
        np.testing.assert_allclose(again["log"][key], committed["outcome"]["log"][key][:2], rtol=1e-2)


def test_the_area_under_a_curve_is_the_share_of_comparisons_won(monkeypatch):
    monkeypatch.setattr(summary, "RATES", np.linspace(0, 1, 20001))
    cells = [planted("not", seed=0), planted("knows", seed=1), planted("not", seed=2)]
    (area, *_) = summary.areas([summary.wins(cell) for cell in cells], [np.ones(len(cell)) for cell in cells])
    found = summary.curve(cells, 0)
    assert 0.5 < area < 1
    assert np.trapezoid(found, summary.RATES) == pytest.approx(area, abs=1e-3)
    assert found[-1] == 1
    assert (np.diff(found) >= 0).all()
