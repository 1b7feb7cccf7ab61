"""The committed results belong to the scripts that are said to have made them: their beginnings are computed again."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from deadly_triad_book.provenance import Provenance

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RESULTS = EXPERIMENTS / "results"
SCRIPTS = sorted(path.stem for path in EXPERIMENTS.glob("*.py"))


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
    assert record["seconds"] >= 0
