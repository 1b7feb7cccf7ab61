"""The committed results belong to the scripts that are said to have made them: their beginnings are computed again."""

import importlib.util
import json
import os
import platform
import re
import subprocess
import threading
import time
from pathlib import Path

import deadly_triad_book
import jax
import numpy as np
import pandas as pd
import pytest
from deadly_triad.networks import init_mlp, value_network
from deadly_triad.ntk import kernel_factors
from deadly_triad_book.provenance import Provenance

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RESULTS = EXPERIMENTS / "results"
# What is run by the runner keeps a file for every run, which says more: see test_runner and test_control.
OTHERS = {"runner", "control", "control_methods", "control_sb3", "control_summary", "early_warning", "early_warning_summary", "sac"}
SCRIPTS = sorted({path.stem for path in EXPERIMENTS.glob("*.py")} - OTHERS)


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_chapters_in_a_checkout_read_its_results():
    assert deadly_triad_book.RESULTS == RESULTS


def test_nothing_but_scripts_protocols_and_results_is_kept(root):
    kept = subprocess.run(["git", "ls-files", "experiments"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in kept if not re.search(r"^experiments/(\w+\.(py|md)|results/.*\.(csv|json|npz))$", name)]


@pytest.mark.parametrize("name", [*SCRIPTS, "divergence_causes_longer"])
def test_every_result_says_what_made_it(name):
    provenance = json.loads((RESULTS / f"{name}.json").read_text())
    assert provenance["experiment"] == name
    assert re.fullmatch(r"[0-9a-f]{40}", provenance["commit"])
    assert provenance["seconds"] > 0
    for key in ("finished", "python", "numpy", "jax", "machine"):
        assert provenance[key]
    assert (RESULTS / f"{name}.csv").is_file()


def test_the_first_sweeps_of_the_study_of_causes_come_out_again():
    table = pd.read_csv(RESULTS / "divergence_causes.csv").query("activation == 'relu' and width == 16 and depth == 1 and draw == 0")
    with jax.enable_x64(True):
        again = load("divergence_causes").run_shape(0, draws=1, cap=30)
    assert len(again) == len(table) == 9
    assert list(again["initialisation"]) == list(table["initialisation"])
    names = list(again.columns[again.columns.get_loc("half") + 1 : again.columns.get_loc("frozen: gone")])
    # The condition number is that of a nearly singular matrix: it depends on the last bits.
    names.remove("condition number of K")
    names += [f"{way}: {what} at 30" for way in ("constant", "followed", "constant, discount 0") for what in ("share", "kernel")]
    np.testing.assert_allclose(again[names].to_numpy(), table[names].to_numpy(), rtol=1e-4, atol=1e-7)
    early = table["constant, fixed target: gone sweep"].between(0, 29).to_numpy()
    assert early.any()
    np.testing.assert_array_equal(again["constant, fixed target: gone"], early)


def test_exactly_the_undecided_runs_were_run_longer_and_the_rule_of_the_protocol_says_what_they_are():
    study = load("divergence_causes")
    table = pd.read_csv(RESULTS / "divergence_causes.csv")
    later = pd.read_csv(RESULTS / "divergence_causes_longer.csv")
    made = ["activation", "width", "depth", "initialisation", "discount", "draw"]
    undecided = table[study.undecided(table)].reset_index(drop=True)
    pd.testing.assert_frame_equal(later[made], undecided[made])
    assert len(later) == 17
    np.testing.assert_array_equal(later["until"], undecided["constant: gone time"])
    # It is the same run: after as many sweeps as before it is at the same time.
    np.testing.assert_allclose(later["time at 4000"], undecided["followed: last time"], rtol=1e-5)
    assert (later["sweeps"] > 4000).all()
    assert (later["sweeps"] <= 200_000).all()
    np.testing.assert_array_equal(later["stayed"], ~later["left"] & (later["time"] >= later["until"]))
    alone = np.where(undecided["constant, fixed target: gone"], "step alone", "step and bootstrapping")
    triad = np.where(later["left closely"], "triad", "undecided")
    np.testing.assert_array_equal(later["cause"], np.where(later["stayed"], alone, np.where(later["left"], triad, "undecided")))


def test_a_run_that_is_undecided_comes_out_again_and_one_of_the_triad_leaves():
    study = load("divergence_causes")
    table = pd.read_csv(RESULTS / "divergence_causes.csv")
    later = pd.read_csv(RESULTS / "divergence_causes_longer.csv")
    short = later["sweeps"].idxmin()
    gone = table["constant: gone"] & table["followed: gone"]
    triad = table[gone].nsmallest(1, "followed: gone sweep").iloc[0]
    # No undecided row is like this: it has left before the time that is asked for, so both steps have to be tried.
    asked = [triad.copy() for _ in range(2)]
    for row, share in zip(asked, (1.5, 0.5), strict=True):
        row["constant: gone time"] = share * triad["followed: gone time"]
    with jax.enable_x64(True):
        again = study.run_longer(table[study.undecided(table)].iloc[short])
        found, before = (study.run_longer(row) for row in asked)
    for name in later.columns:
        assert again[name] == (pytest.approx(later[name][short], rel=1e-4) if isinstance(again[name], float) else later[name][short]), name
    assert found["left"]
    assert not found["stayed"]
    assert found["sweeps"] == triad["followed: gone sweep"]
    assert found["left closely"]
    assert found["cause"] == "triad"
    # Who leaves later than its twin had stayed until then.
    assert before["stayed"]
    assert not before["left"]
    assert before["cause"].startswith("step")


def test_a_step_that_is_too_large_leaves_on_fixed_targets_and_one_that_follows_does_not():
    """The control of the study must be able to find what it looks for: ten times the step leaves without any bootstrapping."""
    with jax.enable_x64(True):
        study = load("divergence_causes")
        cases = [study.draw(3, "lecun", 0.99, number) for number in range(4)]
        problem = study.Problem(*(np.stack(leaves) for leaves in zip(*(case[1] for case in cases), strict=True)))
        layers = jax.tree.map(lambda *leaves: np.stack(leaves), *(case[2] for case in cases))
        way = study.CONDITIONS["constant, fixed target"]
        large = study.learn("relu", way, layers, problem, fraction=5.0, n_sweeps=100)
        followed = study.learn("relu", study.CONDITIONS["followed, fixed target"], layers, problem, n_sweeps=100)
    assert large["gone"].all()
    assert not followed["gone"].any()


def test_the_first_updates_on_the_corridor_come_out_again():
    table = pd.read_csv(RESULTS / "preqn_chain.csv").query("seed == 100")
    chosen = pd.read_csv(RESULTS / "preqn_chain_tuning.csv").query("chosen").set_index(["activation", "method"])["setting"]
    with jax.enable_x64(True):
        chain = load("preqn_chain")
        for activation, method in (("tanh", "PreQN"), ("tanh", "Adam, target network")):
            critic = chain.METHODS[method].make(*(float(part.split()[1]) for part in chosen[activation, method].split(", ")))
            again = chain.runs(activation, critic, range(100, 101))[0]
            committed = table[(table["activation"] == activation) & (table["method"] == method)]["error"].to_numpy()
            assert len(committed) == len(again) == 51
            np.testing.assert_allclose(again[:5], committed[:5], rtol=1e-3)


def test_grids_grow_until_the_best_has_no_neighbour_that_was_not_tried():
    chain = load("preqn_chain")
    table = pd.read_csv(RESULTS / "preqn_chain_tuning.csv")
    assert table.groupby("activation").ngroups == 3
    for (_, name), part in table.groupby(["activation", "method"]):
        method, errors = chain.METHODS[name], part.set_index("setting")["median last error"]
        # The search over the committed errors tries the committed settings, in their order, and chooses the committed one.
        tried, best = chain.tune(method, lambda values, method=method, errors=errors: errors[chain.named(method, values)])
        assert [chain.named(method, values) for values in tried] == list(part["setting"])
        assert list(part.loc[part["chosen"], "setting"]) == [chain.named(method, best)]
        assert len(method.first) == 9
        assert len(tried) >= 9
        for k, rungs in enumerate(method.dials.values()):
            assert rungs == sorted(rungs)
            for there in (rungs.index(best[k]) - 1, rungs.index(best[k]) + 1):
                if 0 <= there < len(rungs):
                    assert (*best[:k], rungs[there], *best[k + 1 :]) in tried
                else:
                    assert best[k] in (0.0, 1.0)  # natural ends only


def test_a_grid_climbs_to_a_best_setting_outside_it_and_takes_rounding_for_no_gain():
    chain = load("preqn_chain")
    method = chain.METHODS["SGD, target network"]
    tried, best = chain.tune(method, lambda values: abs(np.log10(values[0]) - 0.5) + abs(np.log10(values[1])))
    assert best == (3.2, 1.0)  # four half decades of the step and one of the rate away
    assert len(tried) == len(set(tried)) < 9 + 4 * 6
    tried, best = chain.tune(method, lambda values: 1e-12 / values[0])
    assert (best, len(tried)) == (method.first[0], 9 + 2)


def test_a_cell_of_the_search_comes_out_again():
    table = pd.read_csv(RESULTS / "preqn_search.csv")
    assert len(table) == 3 * 2 * (2 * 5 + 4 * 3) * 10
    with jax.enable_x64(True):
        again = load("preqn_search").outcomes("plain", "sin", 20, "step 0.001", seeds=range(200, 202))
    made = ["rule", "activation", "batch", "settings", "threshold", "seed"]
    rows = again.merge(table, on=made, suffixes=("", " committed"))
    assert len(rows) == len(again) == 6
    for name in ("error", "accepted", "late"):
        np.testing.assert_allclose(rows[name], rows[f"{name} committed"], rtol=1e-3)


def test_the_agents_begin_again_as_they_did():
    table = pd.read_csv(RESULTS / "preqn_pendulum.csv").query("critic == 'PreQN' and activation == 'relu'")
    assert len(table) == 10
    with jax.enable_x64(False):
        pendulum = load("preqn_pendulum")
        again = pendulum.outcomes("PreQN", "relu", range(2), pendulum.TRAINING._replace(n_steps=1))
    np.testing.assert_allclose(again["first_error"], table["first_error"][:2], rtol=1e-3)


def test_the_committed_pairs_are_those_of_the_tasks():
    contents = pd.read_csv(RESULTS / "random_pairs.csv", index_col="task")
    assert (RESULTS / "random_pairs.npz").stat().st_size < 500_000
    with np.load(RESULTS / "random_pairs.npz") as file:
        for task, row in contents.iterrows():
            here, ahead = file[f"{task}/observations"], file[f"{task}/next_observations"]
            actions, after = file[f"{task}/actions"], file[f"{task}/next_actions"]
            assert here.shape == ahead.shape == (1000, row["observation"])
            assert actions.shape == after.shape == (1000, row["action"])
            assert all(np.isfinite(file[f"{task}/{name}"]).all() for name in ("observations", "next_observations", "rewards"))
            assert file[f"{task}/ends"].sum() == row["ends"]
            # Uniform: mean 0 and variance a third of the square of the box's reach, to four standard errors.
            for drawn in (actions.astype(float), after.astype(float)):
                reach = np.abs(actions).max()
                assert np.all(np.abs(drawn.mean(axis=0)) < 4 * reach / np.sqrt(3 * len(drawn)))
                assert np.all(np.abs(drawn.var(axis=0) / (reach**2 / 3) - 1) < 4 * np.sqrt(0.8 / len(drawn)))
            # The next observation belongs to its own: a place moves little in a step.
            assert np.corrcoef(here[:, 0].astype(float), ahead[:, 0].astype(float))[0, 1] > 0.95


@pytest.mark.parametrize("architecture", ["plain", "layernorm", "residual"])
@pytest.mark.parametrize("name", ["relu", "tanh", "sin"])
def test_the_fast_kernel_is_that_of_the_package(architecture, name):
    study = load("kernel_study")
    with jax.enable_x64(True):
        layers = [layer._replace(bias=layer.bias + 0.1) for layer in init_mlp(jax.random.key(3), [5, 8, 8, 8, 1], "he")]
        inputs = np.random.default_rng(0).standard_normal((9, 5))
        exact = kernel_factors(study.network(architecture, name), layers, inputs)
        fast = study.kernel(architecture, name, jax.device_get(layers), inputs)
        np.testing.assert_allclose(fast, exact.kernel(), rtol=1e-6 if name == "sin" else 1e-10, atol=1e-10)
        across = study.kernel(architecture, name, jax.device_get(layers), inputs[:4], inputs[4:])
        np.testing.assert_allclose(across, fast[:4, 4:], rtol=1e-10)
        if architecture != "plain":
            assert np.abs(fast - study.kernel("plain", name, jax.device_get(layers), inputs)).max() > 0.01 * fast.max()


def test_the_architecture_study_comes_out_again():
    study = load("kernel_study")
    committed = np.load(RESULTS / "kernel_study.npz")["measures"]
    axes = json.loads((RESULTS / "kernel_study.json").read_text())["axes"]
    assert committed.shape == tuple(len(values) for values in axes.values())
    assert axes["make"] == list(study.MAKES)
    again = study.run_shape("Walker2d-v5", 64, 2, range(2))
    here = committed[4, :, :, :, 1, 1, :2]
    np.testing.assert_allclose(again[..., :3], here[..., :3], rtol=1e-4)
    # The growth is the largest of 64 real parts, most of them small beside 1.
    np.testing.assert_allclose(again[..., 3], here[..., 3], atol=1e-4)


def test_the_verdicts_are_those_of_the_measures():
    study = load("kernel_study")
    with np.load(RESULTS / "kernel_study.npz") as file:
        pd.testing.assert_frame_equal(study.judge(file["measures"]), pd.read_csv(RESULTS / "kernel_study.csv"))


def test_a_claim_is_judged_by_what_it_says():
    """Made-up measures in which every claim is true, and each in turn is made false."""
    study = load("kernel_study")
    width, depth = np.log2(study.WIDTHS)[:, None, None], np.array(study.DEPTHS, float)[:, None]
    noise = 1e-3 * np.random.default_rng(0).standard_normal((5, 3, 5, 4, 10, 4))
    level = np.array([2.0, 1.0, 0.0])[:, None, None, None]
    logs = np.stack([level + width - depth, level + 0.5 * depth + 0 * width, *[level + 0 * (width + depth)] * 2], -1)
    measures = np.exp(logs + noise)
    assert [study.verdict(*study.counts(measures, claim)) for claim in study.CLAIMS] == ["holds"] * 8
    turned = np.exp(-logs + noise)
    assert [study.verdict(*study.counts(turned, claim)) for claim in study.CLAIMS[:7]] == ["fails"] * 7
    measures[..., 1] *= np.exp(0.2 * width)
    assert study.verdict(*study.counts(measures, study.CLAIMS[7])) == "fails"
    # Noise alone is evidence of nothing.
    alike = np.exp(np.random.default_rng(1).standard_normal((5, 3, 5, 4, 10, 4)))
    assert study.verdict(*study.counts(alike, "the diagonal grows with width")) == "in part"


def test_the_learners_begin_again_as_they_did():
    training = load("kernel_training")
    table = pd.read_csv(RESULTS / "kernel_training.csv")
    assert len(table) == 900
    with jax.enable_x64(False):
        again = training.runs("Hopper-v5", "raw", "layernorm", "tanh", False, range(2), n_blocks=0)
    made = again.columns[:5]
    rows = table.merge(again[[*made, "seed"]]).sort_values("seed")
    assert len(rows) == 2
    for name in ("diagonal 0", "row ratio 0"):
        np.testing.assert_allclose(again[name], rows[name], rtol=1e-3)
    np.testing.assert_allclose(again["growth"], rows["growth"], atol=1e-4)
    assert (table["left"] == ~(table["largest over bound"] <= 1)).all()


@pytest.fixture(scope="module")
def deep():
    return load("deep_cures")


def rows_of(table, **wanted):
    return np.flatnonzero(np.all([table[name] == value for name, value in wanted.items()], axis=0))


def test_the_first_updates_of_the_cures_come_out_again(deep):
    table = pd.read_csv(RESULTS / "deep_cures.csv")
    assert len(table) == (7 * 3 + 1) * 2 * 15 * 10
    with np.load(RESULTS / "deep_cures.npz") as file:
        committed, looks = file["measures"], file["looks"].tolist()
    assert (len(committed), looks) == (len(table), list(deep.LOOKS))
    with jax.enable_x64(True):
        for method, rule in (("layer norm, decay", "constant"), ("target, follows", "Adam")):
            rows = rows_of(table, method=method, rule=rule, activation="sin", problem="walk, 1, 2, 3")[:2]
            tasks = [deep.Task("walk, 1, 2, 3", int(table["seed"][k]), float(table["step"][k])) for k in rows]
            _, again = deep.learn("sin", deep.METHODS[method], rule, tasks, looks=(0, 30, 100))
            np.testing.assert_allclose(again, committed[rows, :3], rtol=2e-3, atol=1e-5)
            fraction = float(table["step"][rows_of(table, method=method, rule="follows")[0]])
            verdicts = [deep.predict("sin", method, task.problem, task.seed, fraction) for task in tasks]
            assert verdicts == table["predicted"][rows].tolist()


def test_the_chosen_steps_are_those_that_were_reported():
    """A choice at the edge of what was tried would be none."""
    tried = pd.read_csv(RESULTS / "deep_cures_tuning.csv")
    table = pd.read_csv(RESULTS / "deep_cures.csv")
    for (method, rule), part in tried.groupby(["method", "rule"]):
        assert len(part) >= 5
        chosen = part[part["chosen"]]
        assert len(chosen) == 1
        assert part["error"].min() == chosen["error"].iloc[0]
        assert part["step"].min() < chosen["step"].iloc[0] < part["step"].max()
        for also in (rule, "constant") if rule == "follows" else (rule,):
            assert set(table["step"][rows_of(table, method=method, rule=also)]) == {chosen["step"].iloc[0]}
    assert set(tried["runs"]) == {3 * 2 * 8}


def test_the_verdict_on_no_cure_is_the_sign_of_the_growth_at_birth():
    """By another route: the spectrum of the kernel as it was looked at before the first update."""
    table = pd.read_csv(RESULTS / "deep_cures.csv")
    growth = np.load(RESULTS / "deep_cures.npz")["measures"][:, 0, 3]
    for method in ("none", "layer norm"):
        rows = rows_of(table, method=method, rule="follows")
        clear = rows[np.abs(growth[rows]) > 1e-6]
        assert len(clear) > 0.8 * len(rows)
        assert ((growth[clear] > 0) == (table["predicted"][clear] == "unstable")).all()
        assert set(table["predicted"][clear]) == {"stable", "unstable"}


def test_a_long_step_leaves_on_the_targets_of_birth_and_one_that_follows_does_not(deep):
    """The rerun must be able to find what it looks for, a divergence without bootstrapping; and its targets must not move."""
    with jax.enable_x64(True):
        tasks = [deep.Task("star", seed, 3.0) for seed in range(3)]
        long, _ = deep.learn("relu", deep.METHODS["none"], "constant", tasks, frozen=True, looks=(0, 200))
        assert (long["gone"] >= 0).all()
        assert np.isinf(long["error"]).all()
        short = [task._replace(step=0.3) for task in tasks]
        kept, _ = deep.learn("relu", deep.METHODS["none"], "follows", short, frozen=True, looks=(0, 200))
        assert (kept["gone"] == -1).all()


def test_targets_are_copied_when_they_are_due_and_else_stay(deep):
    with jax.enable_x64(True):
        tasks = [deep.Task("star", 0, 0.1)] * 2
        for frozen, moved in ((False, True), (True, False)):
            loop, run, _ = deep.start("sin", deep.METHODS["target, copied"], "follows", tasks, frozen)
            at = []
            for _ in range(4):
                run = deep.advance(loop, run, 1)
                at.append(np.asarray(run.ahead[0]))
            np.testing.assert_array_equal(at[0], at[1])
            np.testing.assert_array_equal(at[2], at[3])
            assert np.any(at[0] != at[2]) == moved
            problem = deep.problems()["star"]
            values, _, _ = deep.at_birth("sin", False, "star", 0)
            np.testing.assert_allclose(at[0], problem.rewards[:, 0] + 0.99 * problem.transitions[:, 0] @ values, rtol=1e-12)


def test_inputs_that_are_filled_up_change_nothing(deep):
    """The corridor's networks are those of two inputs, before and after learning."""
    with jax.enable_x64(True):
        loop, run, _ = deep.start("relu", deep.METHODS["none"], "Adam", [deep.Task("corridor", 3, 0.01)] * 2, frozen=False)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 0), 0)
        plain = init_mlp(key, [2, 64, 64, 1])
        inputs = deep.problems()["corridor"].inputs[:, :2]
        values, kernel, _ = deep.at_birth("relu", False, "corridor", 3)
        factors = kernel_factors(value_network("relu"), plain, inputs)
        np.testing.assert_allclose(values, factors.Q, rtol=1e-12)
        np.testing.assert_allclose(kernel, factors.kernel(), rtol=1e-12)
        weights = deep.advance(loop, run, 2).critics[0].weight[0, 0]
        assert np.any(weights[:2] != plain[0].weight)
        assert not np.any(weights[2:])


def test_the_sine_is_one(deep):
    with jax.enable_x64(True):
        x = np.concatenate([np.linspace(-50, 50, 20001), [0, np.pi / 2, 1e3]])
        np.testing.assert_allclose(deep.sine(x), np.sin(x), atol=1e-13)
        np.testing.assert_allclose(jax.vmap(jax.grad(deep.sine))(x), np.cos(x), atol=1e-13)


def test_the_measures_of_a_kernel_that_is_known(deep):
    """A table on the star: K is the identity, so the growth is that of D (discount P - I), which never is positive."""
    star = deep.problems()["star"]
    diagonal, ratio, fastest, growth = deep.measures(star, np.zeros(8), np.eye(8))
    assert (diagonal, ratio) == (1, 0)
    np.testing.assert_allclose(fastest, 1 / 7)
    np.testing.assert_allclose(growth, -0.01 / 7)
    # Baird's own features grow, as the chapter on them has it.
    assert deep.measures(star, np.zeros(8), star.inputs @ star.inputs.T)[3] > 0.01
    assert np.isnan(deep.measures(star, np.zeros(8), np.full((8, 8), np.inf))).all()


def test_provenance_names_the_commit_of_the_start_and_the_settings(tmp_path):
    provenance = Provenance()
    provenance.write(tmp_path / "a_run.json", seed=7, sizes=[1, 2])
    record = json.loads((tmp_path / "a_run.json").read_text())
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert (record["experiment"], record["seed"], record["sizes"], record["commit"]) == ("a_run", 7, [1, 2], head)


def test_provenance_is_measured(tmp_path, monkeypatch):
    for command in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    provenance, begun = Provenance(), time.process_time()
    assert provenance.record()["dirty"] is False
    left = tmp_path / "experiments" / "results" / "control" / "a.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}", encoding="utf-8")
    assert Provenance().record()["dirty"] is False
    (tmp_path / "new.py").write_text("changed = True\n", encoding="utf-8")
    assert Provenance().record()["dirty"] is True

    while time.process_time() < begun + 0.3:
        sum(range(1000))
    before, cores = provenance.record(), os.sched_getaffinity(0)
    assert before["cpu_seconds"] >= 0.3
    assert before["seconds"] >= 0.3
    try:
        os.sched_setaffinity(0, {min(cores)})
        waiting = [threading.Thread(target=time.sleep, args=(0.5,)) for _ in range(3)]
        for thread in waiting:
            thread.start()
        after = provenance.record()
    finally:
        os.sched_setaffinity(0, cores)
    assert (before["cores"], after["cores"]) == (len(cores), 1)
    assert after["threads"] == before["threads"] + 3
    assert after["processor"] in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    assert platform.node() not in json.dumps(after)


def test_where_linux_does_not_tell_provenance_says_that_it_does_not_know(monkeypatch):
    read = Path.read_text

    def refuse(path, *arguments, **named):
        if path.is_relative_to("/proc"):
            raise FileNotFoundError
        return read(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.delattr(os, "sched_getaffinity")
    record = Provenance().record()
    assert (record["processor"], record["threads"], record["cores"]) == ("unknown", "unknown", os.cpu_count())
