"""The tables of the experiments on control: statistics against rliable, and tables of made-up runs."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from deadly_triad.training import Episodes
from deadly_triad.training import Run as Trained

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
control, summary = (importlib.import_module(name) for name in ("control", "control_summary"))


@pytest.fixture(scope="module")
def reference():
    found = json.loads(Path(__file__).with_name("rliable_reference.json").read_text())
    found["scores"] = {name: np.array(table) for name, table in found["scores"].items()}
    return found


def test_statistics_are_those_of_rliable(reference):
    first, second = reference["scores"].values()
    for name, table in reference["scores"].items():
        assert summary.interquartile_mean(table) == pytest.approx(reference["interquartile_mean"][name], rel=1e-12)
        # Both are random: the ends of such an interval scatter by a hundredth at this number of replicates.
        np.testing.assert_allclose(summary.interval(summary.interquartile_mean, table), reference["interval"][name], atol=0.04)
    assert summary.probability_of_improvement(first, second) == pytest.approx(reference["probability"], rel=1e-12)
    assert summary.probability_of_improvement(second, first) == pytest.approx(1 - reference["probability"], rel=1e-12)
    found = summary.interval(summary.probability_of_improvement, first, second)
    np.testing.assert_allclose(found, reference["probability_interval"], atol=0.03)


def test_the_bootstrap_keeps_to_the_tasks():
    """Without strata the difference between tasks would be taken for one between runs."""

    def mean(scores):
        return scores.mean(axis=(-2, -1))

    apart = np.array([[0.0, 100.0]] * 5)
    assert summary.interval(mean, apart) == (50.0, 50.0)
    low, high = summary.interval(mean, apart.reshape(-1, 1))
    assert high - low > 20


def outcome(score, steps, *, left=False):
    """What a run of constant returns would leave."""
    n = 3000
    values = np.full(n, np.inf if left else 12.0)
    metrics = {name: np.full(n, 0.5) for name in ("alignment", "accepted", "backtracks", "step_size", "td_error", *control.PROBES)}
    metrics |= {"largest_value": values, "largest_reward": np.full(n, 3.0)}
    evaluations = np.full((1, 2, 5), score)
    rows = {name: row[None] for name, row in metrics.items()}
    return control.sum_up(Trained([Episodes(np.zeros(2), np.arange(2))], rows, evaluations, np.array([steps // 2, steps]), None))


def made(run, score, **how):
    provenance = {"seconds": 2.0, "cpu_seconds": 1.0, "commit": "0" * 40}
    settings = json.loads(json.dumps(run.settings))
    return {"name": run.name, "settings": settings, "outcome": outcome(score, settings["steps"], **how), "provenance": provenance}


@pytest.fixture(scope="module")
def results():
    """A whole tuning, and a table that lacks one run of the last seed; PreQN has twice the return of the others."""
    found = {}
    while lacking := [run for run in control.STAGES["tuning"](found) if run.name not in found]:
        for run in lacking:
            rungs = [round(2 * np.log10(value)) for value in run.settings["dials"].values()]
            found[run.name] = made(run, 100.0 - sum(abs(rung - at) for rung, at in zip(rungs, (-4, -3), strict=False)))
    for run in control.STAGES["reporting_64"](found)[:-1]:
        best, left = run.settings["method"] == "PreQN", run.settings["method"] == "DDPG-no-target"
        found[run.name] = made(run, 20.0 + run.settings["seed"] if best else 10.0 + run.settings["seed"], left=left)
    return found


@pytest.fixture
def units(monkeypatch):
    """Returns of random actions that are easily reckoned with."""
    monkeypatch.setattr(summary, "random_return", lambda task: -10.0 if task == "Ant-v5" else 0.0)


@pytest.mark.usefixtures("units")
def test_a_cell_that_no_run_has_begun_makes_no_seed_complete(results):
    first = {name: result for name, result in results.items() if name.startswith("tuning") or "/Ant-v5/PreQN/seed-0" in name}
    assert "scores" not in summary.summarise(first)


@pytest.mark.usefixtures("units")
def test_tables_say_what_the_runs_say(results):
    tables = summary.summarise(results)
    assert len(tables["runs"]) == len(results)
    scores = tables["scores"].set_index(["stage", "task", "method"])
    # The seed that one cell lacks counts for none.
    assert set(scores["seeds"]) == {4}
    assert set(tables["scores"]["task"]) == {*control.TASKS, "all"}
    assert scores.loc[("reporting_64", "Ant-v5", "PreQN"), "iqm"] == pytest.approx(21.5)
    assert scores.loc[("reporting_64", "all", "PreQN"), "iqm"] == pytest.approx(1.0)
    # Four seeds and five tasks: ten scores in the middle, of which the largest are those of Ant, from a base below 0.
    units = np.sort([(10 + seed + base) / (21.5 + base) for seed in range(4) for base in (10, 0, 0, 0, 0)])
    assert scores.loc[("reporting_64", "all", "TD3"), "iqm"] == pytest.approx(units[5:15].mean())
    assert (scores["low"] <= scores["iqm"]).all()
    assert (scores["iqm"] <= scores["high"]).all()
    chances = tables["improvement"].set_index(["first", "second"])["probability"]
    assert chances["PreQN", "TD3"] == 1
    assert chances["TD3", "SAC"] == 0.5
    assert len(chances) == 10
    assert set(tables["curves"]["update"]) == {150_000, 300_000}
    assert len(tables["traces"]) == 25 * 30
    runs = tables["runs"].loc["reporting_64/Ant-v5/PreQN/seed-0"]
    assert runs["value_over_bound"] == pytest.approx(12 / 300)
    left = tables["traces"].query("method == 'DDPG-no-target'")
    assert np.isinf(left["largest_value"]).all()
    assert tables["runs"].query("stage == 'reporting_64' and method == 'DDPG-no-target'")["left_numbers_at"].eq(1).all()
    tuning = tables["tuning"].query("chosen").set_index("method")["setting"]
    assert tuning["TD3"] == "step 0.01"
    assert set(tuning.index) == set(control.METHODS)


def test_the_library_is_compared_method_by_method_once_all_of_its_runs_are_there():
    def runs(source, method, level):
        return {
            f"{source}/{method}/{seed}": {
                "settings": {"source": source, "method": method, "seed": seed},
                "outcome": {"returns": [[0.0], [-900.0, -900.0], [level + seed, level + seed], [level + seed, level + seed]]},
            }
            for seed in range(10)
        }

    library = runs("own", "TD3", -150.0) | runs("library", "TD3", -160.0) | runs("own", "SAC", -150.0)
    (row,) = summary.library_rows(library)
    assert row["method"] == "TD3"
    assert (row["own"], row["library"], row["difference"]) == (-145.5, -155.5, 10.0)
    assert row["low"] < 10 < row["high"] < 20


def test_random_actions_on_the_pendulum_are_bad_and_the_same_each_time():
    found = summary.random_return("Pendulum-v1")
    assert -1600 < found < -800
    summary.random_return.cache_clear()
    assert summary.random_return("Pendulum-v1") == found


@pytest.mark.usefixtures("units")
def test_all_is_written_with_what_made_it(results, tmp_path):
    for name, result in results.items():
        path = tmp_path / "control" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    summary.main(tmp_path)
    written = {path.name for path in tmp_path.glob("control*")} - {"control"}
    assert written == {f"control_{name}.csv" for name in ("runs", "tuning", "scores", "improvement", "curves", "traces")} | {"control.json"}
    record = json.loads((tmp_path / "control.json").read_text())
    assert record["runs"] == {"tuning": sum(name.startswith("tuning/") for name in results), "reporting_64": 124}
    assert record["commits_of_runs"] == ["0" * 40]
