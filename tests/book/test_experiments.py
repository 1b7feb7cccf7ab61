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

import jax
import numpy as np
import pandas as pd
import pytest
from deadly_triad_book.provenance import Provenance

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RESULTS = EXPERIMENTS / "results"
# What is run by the runner keeps a file for every run, which says more: see test_runner and test_control.
OTHERS = {"runner", "control", "control_methods", "control_sb3", "control_summary", "sac"}
SCRIPTS = sorted({path.stem for path in EXPERIMENTS.glob("*.py")} - OTHERS)


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_result_says_what_made_it(name):
    provenance = json.loads((RESULTS / f"{name}.json").read_text())
    assert provenance["experiment"] == name
    assert re.fullmatch(r"[0-9a-f]{40}", provenance["commit"])
    assert provenance["seconds"] > 0
    for key in ("finished", "python", "numpy", "jax", "machine"):
        assert provenance[key]
    assert (RESULTS / f"{name}.csv").is_file()


def test_the_candidates_of_the_study_come_out_again():
    table = pd.read_csv(RESULTS / "which_scalar.csv")
    with jax.enable_x64(True):
        study = load("which_scalar")
        for cell in (0, 8):
            again = study.run_cell(cell, discounts=(0.5, 0.9), draws=2, n_sweeps=1)
            made = dict(zip(("activation", "width", "depth"), study.CELLS[cell], strict=True))
            here = np.all([table[key] == value for key, value in made.items()], axis=0)
            rows = table[here & table["discount"].isin((0.5, 0.9)) & (table["draw"] < 2)]
            names = list(table.columns[table.columns.get_loc("initialisation") + 1 : table.columns.get_loc("diverged")])
            # The condition number is that of a nearly singular matrix: it depends on the last bits.
            names.remove("condition number of K")
            np.testing.assert_allclose(again[names].to_numpy(), rows[names].to_numpy(), rtol=1e-5, atol=1e-7)
            assert list(again["initialisation"]) == list(rows["initialisation"])


def test_the_first_updates_on_the_corridor_come_out_again():
    table = pd.read_csv(RESULTS / "preqn_chain.csv").query("seed == 100")
    chosen = pd.read_csv(RESULTS / "preqn_chain_tuning.csv").query("chosen").set_index(["activation", "method"])["setting"]
    with jax.enable_x64(True):
        chain = load("preqn_chain")
        for activation, method in (("sin", "PreQN"), ("tanh", "Adam, target network")):
            critic = chain.METHODS[method][chosen[activation, method]]
            again = chain.runs(activation, critic, range(100, 101))[0]
            committed = table[(table["activation"] == activation) & (table["method"] == method)]["error"].to_numpy()
            assert len(committed) == len(again) == 51
            np.testing.assert_allclose(again[:5], committed[:5], rtol=1e-3)


def test_the_agents_begin_again_as_they_did():
    table = pd.read_csv(RESULTS / "preqn_pendulum.csv").query("critic == 'PreQN' and activation == 'relu'")
    assert len(table) == 10
    with jax.enable_x64(False):
        pendulum = load("preqn_pendulum")
        again = pendulum.outcomes("PreQN", "relu", range(2), pendulum.TRAINING._replace(n_steps=1))
    np.testing.assert_allclose(again["first_error"], table["first_error"][:2], rtol=1e-3)


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
