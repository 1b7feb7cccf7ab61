"""The experiments on control: what is declared is fair, what only they need is right, and a run that is cut off is the run that is not."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad.agents import DDPG, PREQN, SGD, TD3, ActorCritic, Batch, PreQN
from deadly_triad.networks import dense, init_mlp, value_network
from deadly_triad.ntk import check_network, kernel_factors
from deadly_triad.preqn import Settings, alignment
from deadly_triad.training import Episodes, Training
from deadly_triad.training import Run as Trained

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))
control, methods, runner = (importlib.import_module(name) for name in ("control", "control_methods", "runner"))
RESULTS = EXPERIMENTS / "results" / "control"
COMMITTED = runner.read_results(runner.Place(str(EXPERIMENTS / "control.py"), str(RESULTS), str(RESULTS), ""))
ALL_METHODS = control.METHODS | control.PLAIN_METHODS

# --- The declaration -------------------------------------------------------------------------------------------------


def result(run, score):
    outcome = {"evaluated": [80_000, run.settings["steps"]], "returns": [[0.0] * 5, [score] * 5]}
    late = {"evaluated": [run.settings["steps"]], "returns": [[score] * 5]}
    return {"settings": run.settings, "outcome": outcome if run.settings["steps"] > control.SHORT else late}


def play(stage, peaks):
    """The results of a tuning stage whose scores fall with the distance of the dials from a peak, in rungs."""
    results, rounds = {}, []
    while lacking := [run for run in control.STAGES[stage](results) if run.name not in results]:
        rounds.append(lacking)
        for run in lacking:
            method, dials = run.settings["method"], run.settings["dials"]
            rungs = [round(2 * np.log10(value)) for value in dials.values()]
            distance = sum(abs(rung - peak) for rung, peak in zip(rungs, peaks[method], strict=True))
            results[run.name] = result(run, 1000.0 - 10 * distance)
        assert len(rounds) < 20
    return results, rounds


PEAKS = {"PreQN": (-2, -3), "TD3": (-6,), "SAC": (-10,), "DDPG": (-4,), "DDPG-no-target": (-3,)}
PLAIN_PEAKS = {"constant-step": (-6,), "line-search": (-5, 0), "kernel-step": (0,)}


def test_the_first_grids_are_of_one_size():
    assert {len(set(method.grid)) for method in ALL_METHODS.values()} == {5}
    first = control.STAGES["tuning"]({})
    counts = {name: sum(run.settings["method"] == name for run in first) for name in control.METHODS}
    assert set(counts.values()) == {5 * len(control.TUNING_TASKS) * len(control.TUNING_SEEDS)}
    assert {run.settings["steps"] for run in first} == {100_000}
    assert len({run.name for run in first}) == len(first)


def test_a_grid_grows_until_its_best_is_not_at_an_edge():
    results, rounds = play("tuning", PEAKS)
    assert control.choose("tuning", control.METHODS, results) == {name: control.METHODS[name].values(peak) for name, peak in PEAKS.items()}
    assert len(rounds) > 2
    # TD3 and PreQN had their best inside from the start: nothing is added for them.
    assert {run.settings["method"] for run in rounds[1]} == {"SAC", "DDPG", "DDPG-no-target"}
    judged = control.judge("tuning", control.METHODS, results)
    for name, tuned in judged.items():
        assert set(control.neighbours(tuned.best)) <= set(tuned.scores), name

    one = rounds[0][0].name
    without = {name: value for name, value in results.items() if name != one}
    with pytest.raises(ValueError, match="must be complete first: runs are missing of PreQN"):
        control.choose("tuning", control.METHODS, without)


def test_a_dial_ends_at_one():
    results, _ = play("tuning_plain", PLAIN_PEAKS)
    assert control.choose("tuning_plain", control.PLAIN_METHODS, results)["kernel-step"] == {"fraction": 1.0}
    assert all(value <= 1 for each in results.values() for value in each["settings"]["dials"].values())


def test_choice_is_by_the_mean_over_tasks_in_units_of_the_best():
    results, _ = play("tuning", PEAKS)
    # One setting is far above on the task with large returns, and one further below on the other.
    for run in control.tuning_runs("tuning", "TD3", {"step": 0.0032}):
        high = run.settings["task"] == "HalfCheetah-v5"
        results[run.name] = result(run, 4000.0 if high else 900.0)
    scores = control.judge("tuning", control.METHODS, results)["TD3"].scores
    assert scores[-5,] == pytest.approx((1 + 0.9) / 2)
    assert scores[-6,] == pytest.approx((1000 / 4000 + 1) / 2)


def test_seeds_of_tuning_and_of_reporting_have_nothing_in_common():
    results = play("tuning", PEAKS)[0] | play("tuning_plain", PLAIN_PEAKS)[0]
    seeds = {stage: {run.settings["seed"] for run in declare(results)} for stage, declare in control.STAGES.items()}
    tuning = seeds.pop("tuning") | seeds.pop("tuning_plain")
    assert set(seeds) == {"reporting_64", "ablation", "variants", "reporting_256"}
    for reporting in seeds.values():
        assert len(reporting) == 5
        assert not reporting & tuning


def test_every_cell_is_there_and_one_seed_of_all_comes_first():
    results = play("tuning", PEAKS)[0] | play("tuning_plain", PLAIN_PEAKS)[0]
    for stage, n_cells in (("reporting_64", 5 * 5), ("reporting_256", 5 * 3), ("ablation", 3 * 18), ("variants", 4)):
        runs = control.STAGES[stage](results)
        assert len({run.name for run in runs}) == len(runs) == 5 * n_cells
        for i in range(5):
            block = runs[i * n_cells : (i + 1) * n_cells]
            assert {run.settings["seed"] for run in block} == {i}
            assert len({(run.settings["task"], run.settings["method"]) for run in block}) == n_cells
    json.dumps([run.settings for run in runs])


def test_cells_are_what_their_names_say():
    chosen = {name: method.values(method.grid[0]) for name, method in ALL_METHODS.items()}
    for factors in control.FACTORS:
        agent = control.make_cell(*factors, chosen, (8, 8))
        preconditioner, search, target, normalised = factors
        assert isinstance(agent.critic, methods.Searched) != preconditioner
        assert (agent.critic.settings.alignment > -1) == search
        assert (agent.target_rate is not None) == target
        assert isinstance(agent, methods.Normalised) == normalised
        assert (agent.activation, agent.actor_step_size, agent.hidden) == ("sin", 1e-3, (8, 8))
    assert len({control.name_cell(*factors) for factors in control.FACTORS}) == 16


def test_a_variant_differs_in_one_thing():
    results = play("tuning", PEAKS)[0]
    usual = {run.settings["method"]: run.settings for run in control.STAGES["reporting_64"](results)}
    for run in control.STAGES["variants"](results):
        varied = run.settings
        agent, base = control.make_agent(varied), control.make_agent(usual[varied["of"]])
        assert varied["steps"] == usual[varied["of"]]["steps"]
        assert (agent == base) == ("update_every" in varied)
        assert replace(agent, activation=base.activation) == base


def test_methods_are_those_of_the_protocol():
    made = {name: method.make(**method.values(method.grid[0]), hidden=(8, 8)) for name, method in control.METHODS.items()}
    assert made["TD3"] == replace(TD3, critic=made["TD3"].critic, actor_step_size=1e-4, hidden=(8, 8))
    assert made["DDPG"] == replace(DDPG, critic=made["TD3"].critic, actor_step_size=1e-4, hidden=(8, 8))
    assert made["DDPG-no-target"] == replace(made["DDPG"], target_rate=None)
    settings = Settings(step_size=0.1, alignment=1 - 0.032, shift=1e-4)
    assert made["PreQN"] == replace(PREQN, critic=PreQN(settings), hidden=(8, 8))


@pytest.mark.skipif(not COMMITTED, reason="no results are committed")
def test_committed_results_are_of_declared_runs_and_no_best_is_at_an_edge():
    declared = {}
    for stage, declare in control.STAGES.items():
        try:
            declared |= {run.name: run for run in declare(COMMITTED)}
        except ValueError:  # its tuning is not complete
            assert not [name for name in COMMITTED if name.startswith(f"{stage}/")]
    assert set(COMMITTED) <= set(declared)
    for name, found in COMMITTED.items():
        assert (found["name"], found["settings"]) == declared[name]
        assert found["provenance"]["dirty"] is False
        assert len(json.dumps(found)) < 20_000
    for stage, table in (("tuning", control.METHODS), ("tuning_plain", control.PLAIN_METHODS)):
        try:
            chosen = control.choose(stage, table, COMMITTED)
        except ValueError:
            continue
        for method, dials in chosen.items():
            tried = [json.loads(text) for text in {json.dumps(found["settings"]["dials"]) for found in COMMITTED.values()
                     if found["name"].startswith(f"{stage}/") and found["settings"]["method"] == method}]  # fmt: skip
            for dial, value in dials.items():
                others = [each[dial] for each in tried if all(each[other] == dials[other] for other in dials if other != dial)]
                assert min(others) < value, (method, dial)
                assert max(others) > value or value == 1, (method, dial)


# --- Rules and probes ------------------------------------------------------------------------------------------------

SIN = value_network("sin")


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(3)
    return Batch(
        jnp.asarray(rng.normal(size=(32, 3))),
        jnp.asarray(rng.uniform(-1, 1, (32, 2))),
        jnp.asarray(rng.normal(size=32)),
        jnp.asarray(rng.normal(size=(32, 3))),
        jnp.asarray(rng.uniform(size=32) < 0.2),
    )


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.fixture(scope="module", autouse=True)
def float64():
    # What is compiled here runs once, on little.
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)


def step(rule, network, parameters, inputs, targets):
    return jax.jit(lambda *arrays: rule.step(network, arrays[0], (), *arrays[1:]))(parameters, inputs, targets)


def problem(batch, network=SIN):
    inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
    parameters = init_mlp(jax.random.key(1), [5, 16, 16, 1])
    return network, parameters, inputs, batch.rewards


def test_without_a_search_the_step_is_that_of_plain_semi_gradients(batch):
    network, parameters, inputs, targets = problem(batch)
    plain, told = step(SGD(0.01), network, parameters, inputs, targets)[::2]
    bare = methods.Searched(Settings(step_size=0.01, alignment=-1))
    same, found = step(bare, network, parameters, inputs, targets)[::2]
    np.testing.assert_allclose(flatten(same), flatten(plain), rtol=1e-12)
    assert set(told) == set(found)
    assert found["step_size"] == pytest.approx(0.01)
    assert found["alignment"] == pytest.approx(told["alignment"])


def test_the_search_shortens_a_step_that_is_too_long(batch):
    network, parameters, inputs, targets = problem(batch)
    rule = methods.Searched(Settings(step_size=100.0, alignment=0.5, max_backtracks=20))
    after, _, found = step(rule, network, parameters, inputs, targets)
    values = network(parameters, inputs, dense)
    assert found["backtracks"] > 3
    assert found["step_size"] == pytest.approx(100 * 0.5 ** int(found["backtracks"]))
    assert alignment(network(after, inputs, dense) - values, targets - values) >= 0.5


def test_the_kernel_step_is_a_fraction_of_the_largest_stable_one(batch):
    """With a network that is linear in its parameters: errors shrink in every direction below the whole, and grow in one above."""
    inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
    parameters = init_mlp(jax.random.key(1), [5, 1])
    K = np.asarray(kernel_factors(SIN, parameters, inputs).kernel())
    eigenvalues, vectors = np.linalg.eigh(K / len(K))
    # The spectrum of a linear network has no gap to speak of; thirty steps of the power method are close all the same.
    largest = float(methods.largest_eigenvalue(jnp.asarray(K))) / len(K)
    assert largest == pytest.approx(eigenvalues[-1], rel=0.02)
    values = SIN(parameters, inputs, dense)
    for fraction in (0.5, 0.97, 1.2):
        delta = jnp.asarray(vectors[:, -1])
        after, _, found = step(methods.KernelStep(fraction), SIN, parameters, inputs, values + delta)
        assert found["step_size"] == pytest.approx(fraction * 2 / largest)
        left = np.asarray(values + delta - SIN(after, inputs, dense))
        assert (np.linalg.norm(left) < 1) == (fraction < 1)


def test_normalised_critics_do_not_see_the_scale_of_their_layer(batch):
    network, parameters, inputs, _ = problem(batch, methods.normalised_network("sin"))
    check_network(network, parameters, inputs)
    larger = [jax.tree.map(lambda leaf: 10 * leaf, parameters[0]), *parameters[1:]]
    np.testing.assert_allclose(network(larger, inputs, dense), network(parameters, inputs, dense), atol=1e-3)
    assert np.abs(SIN(larger, inputs, dense) - SIN(parameters, inputs, dense)).max() > 0.1
    agent = methods.Normalised(hidden=(16, 16), activation="sin")
    assert agent.network is network
    assert ActorCritic(hidden=(16, 16), activation="sin").network is SIN


@pytest.mark.parametrize("agent", [PREQN, TD3, control.SAC(1e-3)], ids=["PreQN", "TD3", "SAC"])
def test_probes_change_nothing_and_measure_what_they_say(agent, batch):
    agent, key = replace(agent, hidden=(8, 8)), jax.random.key(5)
    probed = methods.Probed(agent, every=2)
    state = agent.init(jax.random.key(0), 3, 2)
    update = jax.jit(lambda state, n: probed.update(state, batch, n, key))
    bare, _ = jax.jit(lambda state: agent.update(state, batch, 2, key))(state)
    after, found = update(state, 2)
    np.testing.assert_array_equal(flatten(after), flatten(bare))
    assert found["largest_reward"] == np.abs(batch.rewards).max()

    inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)
    K = np.asarray(kernel_factors(agent.network, state.critics[0], inputs).kernel())
    own = np.diag(K)
    np.testing.assert_allclose(found["mean_diagonal"], own.mean(), rtol=1e-9)
    np.testing.assert_allclose(found["row_ratio"], np.mean((np.abs(K).sum(axis=1) - own) / own), rtol=1e-9)
    np.testing.assert_allclose(found["largest_eigenvalue"], np.linalg.eigvalsh(K)[-1] / 32, rtol=1e-3)
    if agent.__class__ is ActorCritic and agent.smoothing is None:
        np.testing.assert_allclose(found["alignment_current"], found["alignment"], rtol=1e-9)
    else:
        assert abs(found["alignment_current"] - found["alignment"]) > 1e-6
    _, quiet = update(state, 3)
    assert np.isnan([quiet[name] for name in control.PROBES]).all()
    assert np.isfinite([found[name] for name in control.PROBES]).all()


def test_current_targets_use_no_target_network_and_no_smoothing(batch):
    agent = replace(TD3, hidden=(8, 8), n_critics=1)
    state = agent.init(jax.random.key(0), 3, 2)
    shifted = state._replace(target_critics=jax.tree.map(lambda leaf: leaf + 1, state.critics), target_actor=None)
    found = methods.current_targets(agent, shifted, batch, jax.random.key(0))
    ahead = agent.value(state.critics[0], batch.next_observations, agent.act(state.actor, batch.next_observations))
    np.testing.assert_allclose(found, batch.rewards + 0.99 * jnp.where(batch.ends, 0, ahead), rtol=1e-12)


# --- One run ---------------------------------------------------------------------------------------------------------


def test_a_run_that_leaves_the_numbers_is_a_result():
    n = 600
    values = np.full(n, 2.0)
    values[400:] = 1e6
    values[500:] = np.inf
    aligned = np.full(n, 0.5)
    aligned[10:20] = -np.inf
    probe = np.full(n, np.nan)
    probe[99::100] = [1, 2, 3, 4, np.nan, np.nan]
    metrics = {"largest_value": values, "alignment": aligned, "mean_diagonal": probe, "largest_reward": np.full(n, 3.0)}
    episodes = [Episodes(np.zeros(4), np.arange(4))]
    trained = Trained(episodes, {name: row[None] for name, row in metrics.items()}, np.array([[[1.234, np.nan]]]), np.array([n]), None)
    outcome = json.loads(json.dumps(control.sum_up(trained), allow_nan=False))
    assert (outcome["above_bound_at"], outcome["left_numbers_at"]) == (401, 501)
    assert (outcome["largest_value"], outcome["largest_reward"], outcome["episodes"]) == (None, 3.0, 4)
    assert outcome["returns"] == [[1.23, None]]
    bins = outcome["bins"]
    assert bins["largest_value"] == [2.0] * 20 + [1e6] * 5 + [None] * 5
    assert bins["alignment"] == [0.5] * 30
    assert bins["mean_diagonal"] == [1, 2, 3, 4, None, None]
    assert control.last_return({"settings": {"steps": n}, "outcome": outcome}) == -np.inf


def test_a_run_that_is_cut_off_and_resumed_is_the_run_that_is_not(tmp_path, monkeypatch):
    """And the whole way of a run on a task of MuJoCo, in few steps."""
    monkeypatch.chdir(tmp_path)
    few = Training(random_steps=200, horizon=100, evaluate_every=150, evaluation_episodes=2, update_every=50)
    monkeypatch.setitem(control.TRAININGS, "Hopper-v5", few)
    settings = {"task": "Hopper-v5", "method": "PreQN", "dials": {"step": 0.1, "slack": 0.032}, "hidden": [8, 8], "seed": 3, "steps": 450}

    def cut(blocks):
        for block in blocks:
            if block == 2:
                raise KeyboardInterrupt
            yield block

    with jax.enable_x64(False):
        whole = control.run(settings, tmp_path / "whole.npz", iter)
        with pytest.raises(KeyboardInterrupt):
            control.run(settings, tmp_path / "cut.npz", cut)
        again = []
        resumed = control.run(settings, tmp_path / "cut.npz", lambda blocks: again.extend(blocks) or again)
    assert again == [2]
    assert json.dumps(resumed) == json.dumps(whole)
    assert whole["evaluated"] == [150, 300, 450]
    assert 0 < whole["largest_value"] < np.inf
    assert len(whole["bins"]["alignment"]) == 30
    assert len(whole["bins"]["row_ratio"]) == 4
