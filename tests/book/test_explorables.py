"""The figures that a reader moves: their mathematics in node against the package, what the prose says of them, and a reader's hands."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad import linear_td as td
from deadly_triad.cures import covariance, emphatic_td, frozen_target_update, inner_steps_matrix, tdc_ratio
from deadly_triad.examples import baird, baird_boundary, chain, w_to_2w
from deadly_triad.fixed_point import Norm
from deadly_triad.kernel_updates import Coupling, kernel_modulus
from deadly_triad.linear_q import LinearQ, expected_sarsa
from deadly_triad.mdp import MDP, deterministic_policy, policy_transitions, stationary_distribution
from deadly_triad.networks import Dense, action_value_network, dense, init_mlp
from deadly_triad.ntk import kernel_factors, pull_back
from deadly_triad.stability import analyse_stability, spectral_radius
from deadly_triad_book.handover import PREFIX, hand_over
from deadly_triad_book.pages.explorables import MODULES, joined, names, still
from deadly_triad_book.pages.formulas import NODE
from playwright.sync_api import Browser, Page

CALL = """
import { readFileSync } from "fs";
const module = await import(process.argv[1]);
const calls = JSON.parse(readFileSync(0, "utf-8"));
console.log(JSON.stringify(calls.map(([name, ...arguments_]) => module[name](...arguments_))));
"""


def call(module: str, calls: list) -> list:
    """What functions of a module return, all called in one node."""
    command = [NODE, "--input-type=module", "-e", CALL, (MODULES / f"{module}.mjs").as_uri()]
    ran = subprocess.run(command, input=json.dumps(calls), capture_output=True, text=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


# --- the mathematics ---------------------------------------------------------------------------------------------------

SETTINGS = list(product((0.5, 0.8, 15 / 17, 0.95, 0.999), (0.01, 1 / 7, 0.5, 0.93)))


def problem(discount, solid):
    return {"discount": discount, "solid": solid}


def test_baird_has_the_spectrum_of_the_package():
    spectra = call("baird", [["eigenvalues", problem(*setting)] for setting in SETTINGS])
    for setting, found in zip(SETTINGS, spectra, strict=True):
        computed = analyse_stability(baird(*setting).off_policy.A).eigenvalues
        moving = computed[np.abs(computed) > 1e-9]
        assert len(moving) == 7
        for real, imaginary in found:
            assert np.abs(moving - complex(real, imaginary)).min() < 1e-7
        assert all(np.abs(np.array([complex(*value) for value in found]) - value).min() < 1e-7 for value in moving)


def test_baird_has_the_verdict_steps_and_factors_of_the_package():
    steps = (0.01, 0.1, 0.9)
    settings = [(setting, step) for setting in SETTINGS if abs(setting[1] - baird_boundary(setting[0])) > 1e-9 for step in steps]
    calls = [[name, problem(*setting), step] for setting, step in settings for name in ("verdict", "errorFactor")]
    answers = iter(call("baird", calls))
    largest = dict(zip(SETTINGS, call("baird", [["largestStep", problem(*setting)] for setting in SETTINGS]), strict=True))
    seen = set()
    for setting, step in settings:
        verdict, factor = next(answers), next(answers)
        stability = analyse_stability(baird(*setting).off_policy.A)
        assert factor == pytest.approx(stability.error_factor(step), rel=1e-9)
        assert largest[setting] == pytest.approx(stability.largest_stable_step, rel=1e-7)
        never = stability.verdict == "unstable"
        assert verdict == ("diverges at every step" if never else "settles" if step < stability.largest_stable_step else "too large a step")
        seen.add(verdict)
    assert len(seen) == 3  # the grid meets every answer


def test_baird_has_the_boundary_of_the_package():
    discounts = np.linspace(0.84, 0.999, 7).tolist()
    assert call("baird", [["boundary", g] for g in discounts]) == pytest.approx([baird_boundary(g) for g in discounts], abs=1e-12)
    assert max(call("baird", [["boundary", g] for g in (0.5, 0.8, 0.83)])) < 0  # where every share is safe


def test_baird_runs_as_the_expected_iteration_does():
    for setting in SETTINGS[::3]:
        example = baird(*setting)
        sweeps = td.expected_iteration(example.off_policy, example.start, step_size=0.1, n_steps=50)
        values = sweeps.points @ example.features[[0, 6]].T
        (found,) = call("baird", [["run", problem(*setting), 0.1, values[0].tolist(), 50]])
        np.testing.assert_allclose(found, values, rtol=1e-9)


def test_baird_counts_sweeps():
    doubling, tenth = call("baird", [["sweepsTo", 1.1], ["sweepsTo", 0.9]])
    assert 1.1**doubling == pytest.approx(2)
    assert 0.9**tenth == pytest.approx(0.1)


PROBLEMS = {
    "both lead to the second": [[0, 1], [0, 1]],
    "each leads to the other": [[0, 1], [1, 0]],
    "each leads to itself": [[1, 0], [0, 1]],
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_three_bars_are_those_of_the_package(problem):
    settings = list(product((-0.9, 0.0, 0.3, 1.0), (0.0, 0.8, 0.99), (0.4, 2.5), (0.5, 1.0, 2.0)))
    named = [
        {"leak": c, "discount": gamma, "step": step, "length": length, "problem": problem} for c, gamma, step, length in settings
    ]  # as the page names them
    answers = iter(call("leak", [[name, setting] for setting in named for name in ("theorem", "supNorm", "growth")]))
    below = np.zeros(3, dtype=int)
    for c, gamma, step, length in settings:
        coupling = Coupling(np.array([[1.0, c * length], [c * length, length**2]]), np.full(2, 0.5))
        matrix = np.eye(2) - step * coupling.matrix @ (np.eye(2) - gamma * np.array(PROBLEMS[problem]))
        expected = [kernel_modulus(coupling, gamma, step), np.linalg.norm(matrix, np.inf), spectral_radius(matrix)]
        found = [next(answers) for _ in range(3)]
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-7)
        assert found[0] >= found[1] - 1e-9
        assert found[1] >= found[2] - 1e-9
        below += np.array(found) < 1
    assert 0 < below[0] < below[2] < len(settings)  # the grid meets both answers, and the gap between the bars


def waiting(example, discount) -> td.LinearTD:
    """The examples of the target that waits, without rewards."""
    if example == "Baird":
        return baird(discount).off_policy
    pair = w_to_2w(discount).off_policy
    return pair if example == "w → 2w" else replace(pair, features=np.array([[1.0], [-2.0]]), weighting=np.array([0.95, 0.05]))


WAITING = list(product(("Baird", "w → 2w", "w → −2w"), (0.5, 0.9, 0.95, 0.999), (0.02, 0.1, 0.5)))


def test_a_target_that_waits_has_the_factors_of_the_package():
    settings = [{"example": example, "discount": discount, "step": step} for example, discount, step in WAITING]
    every, seen = call("target", [["factors", setting, 300] for setting in settings]), set()
    told = call("target", [["settling", found] for found in every])
    for (example, discount, step), found, words in zip(WAITING, every, told, strict=True):
        system = waiting(example, discount)
        for n in (1, 2, 9, 30, 300):
            S = inner_steps_matrix(system, step, n)
            assert found[n - 1] == pytest.approx(analyse_stability(S @ system.A).error_factor(1.0), rel=1e-6), (example, discount, step, n)
            assert frozen_target_update(system, step, n) == pytest.approx(np.eye(len(S)) - S @ system.A)
        good = [n for n, factor in enumerate(found, start=1) if factor < 1]
        known = {"all": range(1, 301), "none": [], **{("from", n): range(n, 301) for n in range(2, 301)}}
        known |= {("up to", n): range(1, n + 1) for n in range(1, 300)}
        assert words == "some" or list(known[words if isinstance(words, str) else tuple(words)]) == good
        seen.add(words if isinstance(words, str) else words[0])
    assert seen >= {"all", "none", "from", "up to"}  # the grid meets every answer
    assert call("target", [["settling", [0.5, 2, 0.5]], ["settling", [2, 0.5, 2]]]) == ["some", "some"]


@pytest.mark.parametrize("example", ["Baird", "w → 2w", "w → −2w"])
@pytest.mark.parametrize("n", [1, 7, 30])
def test_a_target_that_waits_runs_as_the_updates_of_the_package_do(example, n):
    system, step, seen = waiting(example, 0.95), 0.1, []
    (found,) = call("target", [["run", {"example": example, "discount": 0.95, "step": step, "n": n}, 90]])
    places = [0, -1]  # an upper state, and the lower one
    start = np.array(found[0][:2])[[0] * 6 + [1]] if example == "Baird" else np.array(found[0][:2])
    theta = frozen = np.linalg.lstsq(system.features, start, rcond=None)[0]
    C = covariance(system)
    for k in range(91):
        frozen = theta if k % n == 0 else frozen
        target = system.discount * system.transitions @ system.features @ frozen
        assert np.ptp(target) == pytest.approx(0, abs=1e-9)  # all states have one target
        seen.append([*(system.features @ theta)[places], target[0]])
        theta = theta + step * (system.b + (C - system.A) @ frozen - C @ theta)
    np.testing.assert_allclose(found, seen, rtol=1e-9, atol=1e-9)


MAPS = {"shear": [[0.5, 2], [0, 0.5]], "spiral": [[1, -1.2], [0.5, -0.2]], "saddle": [[0.2, 1.2], [0.5, 0.35]]}
ELLIPSES = list(product((1.0, 1.5, 3.0, 8.0, 15.0), (-90.0, -31.0, 0.0, 12.0, 35.0, 90.0)))


def norm_of(ratio, tilt) -> Norm:
    """The norm whose ball is the ellipse with the half axes of the square roots of ratio and of its inverse."""
    angle = np.radians(tilt)
    turned_back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return Norm(2, scale=np.diag([ratio**-0.5, ratio**0.5]) @ turned_back)


@pytest.mark.parametrize("name", MAPS)
def test_a_norm_has_the_modulus_and_the_powers_of_the_package(name):
    matrix, fits = np.array(MAPS[name]), 0
    calls = [[what, {"ratio": r, "tilt": t}, MAPS[name], *n] for r, t in ELLIPSES for what, n in NORM_CALLS]
    answers = iter(call("norm", calls))
    for ellipse in ELLIPSES:
        modulus, sizes, around = next(answers), next(answers), next(answers)
        norm = norm_of(*ellipse)
        assert modulus == pytest.approx(norm.of_matrix(matrix), rel=1e-9)
        assert sizes == pytest.approx([norm.of_matrix(np.linalg.matrix_power(matrix, k)) for k in range(7)], rel=1e-9)
        for at in around:
            assert norm(np.array(at["point"])) == pytest.approx(1)
            np.testing.assert_allclose(matrix @ at["point"], at["image"], atol=1e-12)
            assert norm(np.array(at["image"])) == pytest.approx(at["length"], rel=1e-9)
        assert max(at["length"] for at in around) == pytest.approx(modulus, rel=1e-3)  # the farthest of 400 points
        fits += modulus < 1
    (radius,) = call("norm", [["radius", MAPS[name]]])
    assert radius == pytest.approx(spectral_radius(matrix), rel=1e-7)
    assert f"no norm has one below {spectral_radius(matrix):.3g}." in still("norm", f"matrix={name}")["says"]
    assert (fits > 0) == (radius < 1)
    assert fits < len(ELLIPSES) / 2  # it takes a search


NORM_CALLS = (("modulus", []), ("powers", [6]), ("ball", [400]))


def test_what_the_ellipses_show_is_what_the_chapter_says_of_them():
    """The shear comes as close to its spectral radius as one likes and never there; the spiral has a best ellipse."""
    shear = call("norm", [["modulus", {"ratio": ratio, "tilt": 0}, MAPS["shear"]] for ratio in (3.0, 20.0, 1000.0)])
    assert shear == sorted(shear, reverse=True)
    assert 0.5 < shear[-1] < 0.502
    _, vectors = np.linalg.eig(np.array(MAPS["spiral"]))
    axes, lengths, _ = np.linalg.svd(np.column_stack([vectors[:, 0].real, vectors[:, 0].imag]))
    best = {"ratio": lengths[0] / lengths[1], "tilt": np.degrees(np.arctan(axes[1, 0] / axes[0, 0]))}
    found, floor = call("norm", [["modulus", best, MAPS["spiral"]], ["radius", MAPS["spiral"]]])
    assert found == pytest.approx(floor, rel=1e-9)
    assert best["ratio"] < 15


EIGENVALUES = [(0.5, 1.0), (2.0, 0.0), (0.0, 1.0), (-0.3, 0.4), (0.0, 0.0), (3.0, -2.0)]


def test_the_disc_has_the_verdict_and_the_steps_of_the_package():
    for re_, im in EIGENVALUES:
        found = analyse_stability(np.array([[re_, -im], [im, re_]]))
        for step in (0.05, 0.7, 2.0):
            factor, largest, orbit = call("disc", [[name, [re_, im], step, 7][:n] for name, n in CALLS])
            expected = found.error_factor(step) if (re_, im) != (0.0, 0.0) else 1.0
            assert factor == pytest.approx(expected)
            assert largest == (None if found.largest_stable_step == np.inf else pytest.approx(found.largest_stable_step))
            powers = (1 - step * complex(re_, im)) ** np.arange(8)
            np.testing.assert_allclose(np.array(orbit) @ [1, 1j], powers, rtol=1e-12, atol=1e-12)


CALLS = (("errorFactor", 3), ("largestStep", 2), ("orbit", 4))


def layers_of(seed, hidden):
    return init_mlp(jax.random.key(seed), [1, *hidden, 2], "pytorch", dtype=jnp.float64)


def as_lists(layers, name, scale=1.0):
    pieces = [{"weight": np.asarray(layer.weight).tolist(), "bias": np.asarray(layer.bias).tolist()} for layer in layers]
    return {"layers": pieces, "activation": name, "scale": scale}


PAIRS = [(-1.0, 0), (-0.2, 1), (0.35, 0), (0.35, 1), (1.0, 1)]


@pytest.mark.parametrize("name", ["tanh", "relu", "sin"])
@pytest.mark.parametrize(("hidden", "scale"), [([5], 1.0), ([7, 4], 1.0), ([6, 6, 6], 4.0)])
def test_the_network_has_the_values_and_the_kernel_of_the_package(name, hidden, scale):
    with jax.enable_x64(True):
        layers, network = layers_of(3, hidden), action_value_network(name)
        inputs = (scale * jnp.array([[place] for place, _ in PAIRS]), jnp.array([action for _, action in PAIRS]))
        factors = kernel_factors(network, layers, inputs)
        Q, K = np.asarray(factors.Q), np.asarray(factors.kernel())
        lifted = pull_back(factors, layers, jnp.eye(5)[1] * 0.2 / K[1, 1])
        after = np.asarray(network([Dense(*map(jnp.add, *both)) for both in zip(layers, lifted, strict=True)], inputs, dense))
    ours = as_lists(layers, name, scale)
    values = call("network", [["values", ours, place] for place, _ in PAIRS])
    assert [value[action] for value, (_, action) in zip(values, PAIRS, strict=True)] == pytest.approx(Q.tolist(), rel=1e-9)
    kernel = call("network", [["kernel", ours, here, there] for here in PAIRS for there in PAIRS])
    np.testing.assert_allclose(np.reshape(kernel, (5, 5)), K, rtol=1e-9, atol=1e-12)
    (raised,) = call("network", [["raised", ours, PAIRS[1], 0.2]])
    values = call("network", [["values", raised, place] for place, _ in PAIRS])
    assert [value[action] for value, (_, action) in zip(values, PAIRS, strict=True)] == pytest.approx(after.tolist(), rel=1e-9)


@pytest.mark.parametrize("divided", [False, True])
def test_the_chase_is_td_in_the_package(divided):
    pair, discount, rate = [(0.35, 1), (1.0, 1)], 0.95, 0.5
    with jax.enable_x64(True):
        layers, network = layers_of(1, [6]), action_value_network("tanh")
        first, seen, own = layers, [], None
        inputs = (jnp.array([[place] for place, _ in pair]), jnp.array([action for _, action in pair]))
        for _ in range(9):
            factors = kernel_factors(network, layers, inputs)
            K, Q = np.asarray(factors.kernel()), np.asarray(factors.Q)
            own = own or K[0, 0]
            seen.append(Q)
            error = np.array([discount * Q[1] - Q[0], 0.0])
            zeta = rate * (np.linalg.solve(K, error) if divided else error / own)
            change = pull_back(factors, layers, jnp.asarray(zeta))
            layers = [Dense(*map(jnp.add, *both)) for both in zip(layers, change, strict=True)]
    settings = {"discount": discount, "rate": rate, "divided": divided, "n": 8}
    (found,) = call("network", [["chase", as_lists(first, "tanh"), *pair, settings]])
    np.testing.assert_allclose(found, seen, rtol=1e-8)


def test_networks_are_drawn_as_pytorch_does():
    ((first, second),) = call("network", [["draw", 5, [1, 400, 2]]])
    assert np.shape(first["weight"]) == (1, 400)
    for numbers, bound in ((first["weight"], 1.0), (first["bias"], 1.0), (second["weight"], 0.05), (second["bias"], 0.05)):
        assert np.abs(numbers).max() <= bound
    for numbers, bound in ((first["weight"], 1.0), (first["bias"], 1.0), (second["weight"], 0.05)):
        assert np.var(numbers) == pytest.approx(bound**2 / 3, rel=0.15)
        assert np.mean(numbers) == pytest.approx(0, abs=0.1 * bound)


def test_the_chase_runs_away_though_its_first_kernel_held_fixed_would_not():
    """What the chapter on the kernel says under the figure, of the network that it shows first."""
    ((layers),) = call("network", [["draw", 0, [1, 32, 2]]])
    network, here, there = {"layers": layers, "activation": "relu", "scale": 1}, [1 / 3, 1], [1, 1]
    across, own = call("network", [["kernel", network, here, there], ["kernel", network, here, here]])
    assert 0 < 0.95 * across / own < 1
    plain, divided = (
        call("network", [["chase", network, here, there, {"discount": 0.95, "rate": 0.5, "divided": how, "n": 300}]])[0]
        for how in (False, True)
    )
    assert np.abs(plain[-1]).max() > 1e6
    assert np.abs(divided[-1][0] - 0.95 * divided[-1][1]) < 1e-6


# --- the board of cures, which the chapter computes: every cell again, update by update, as the text writes the updates ---


DATA = {"cures": "cure-board"}


@pytest.fixture(scope="module")
def handed_over(chapters):
    """What cells of the chapters have handed over to figures in the last build, by name."""
    outputs = [output for chapter in chapters for cell in chapter.executed.cells for output in cell.get("outputs", [])]
    kept = {out.metadata["scrapbook"]["name"]: out.data for out in outputs if "scrapbook" in out.get("metadata", {})}
    return {name: text for name, data in kept.items() if (text := data.get(f"{PREFIX}application/json")) is not None}


@pytest.fixture(scope="module")
def drawn(handed_over):
    """A figure in a state, with what it was handed over."""
    return lambda name, query="": still(name, query, "", handed_over.get(DATA.get(name), ""))


@pytest.fixture(scope="module")
def board(handed_over):
    return json.loads(handed_over["cure-board"])


def evaluations() -> dict:
    """The examples with a policy: the system and the start."""
    star, pair = (replace(example.off_policy, rewards=np.ones(len(example.features))) for example in (baird(), w_to_2w()))
    arc = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6]])
    left, right = np.tile([0.6, 0.4], (5, 1)), np.tile([0.2, 0.8], (5, 1))
    line = np.column_stack([np.ones(5), [-1, -0.5, 0, 0.5, 1]])
    found = {
        "Baird": star,
        "w → 2w": pair,
        "w → −2w": td.LinearTD(np.array([[1.0], [-2.0]]), np.array([0.95, 0.05]), pair.transitions, np.ones(2), 0.9),
        "averager": td.LinearTD(np.array([[1, 0], [2 / 3, 1 / 3]]), np.array([3, 10]) / 13, np.array([[1.0, 0], [1, 0]]), np.ones(2), 0.9),
        "arc": td.LinearTD(arc, np.array([0.5, 0.5, 0, 0]), np.eye(4)[[2, 3, 1, 0]], np.ones(4), 0.9),
        "corridor": td.linear_td(
            chain(5, 0.9), line, target=right, weighting=stationary_distribution(policy_transitions(chain(5, 0.9), left))
        ),
    }
    return {name: (system, baird().start if name == "Baird" else np.ones(system.features.shape[1])) for name, system in found.items()}


def controls() -> dict:
    """The examples with the maximum."""
    to_y, into_y = np.zeros((2, 2, 2)), np.zeros((4, 2, 4))
    to_y[..., 1], into_y[..., 3] = 1, 1
    far = np.array([[2, 0, 0], [2, 0, 0], [0, 2, 0], [0, 2, 0], [0, 0, 2], [0, 0, 2], [0, -3, 5], [-4, 0, 3.0]])
    turning = LinearQ(
        MDP(to_y, np.array([[-1.7, -1.7], [-0.7, 0.3]]), 0.9), np.array([[1.0, 0], [1, 0], [1, 1], [1, 2]]), np.array([2, 2, 2, 1]) / 7
    )
    switching = LinearQ(MDP(into_y, np.zeros((4, 2)), 0.9), far, np.array([2, 2, 8, 8, 15, 15, 0, 0]) / 50)
    return {"cycle": (turning, np.array([1.5, 1])), "switching": (switching, np.array([1, 0.3, -0.2]))}


def changed(cure, system):
    match cure:
        case "D: on-policy":
            return replace(system, weighting=stationary_distribution(system.transitions))
        case "D: emphatic":
            return emphatic_td(system)
        case "unit rows":
            return replace(system, features=system.features / np.linalg.norm(system.features, axis=1)[:, None])
    return system


def pulls(system, cure) -> np.ndarray:
    """What PreQN makes of the errors of all states, in the mean over its minibatches, shape (k, n)."""
    seen, n = np.flatnonzero(system.weighting), len(system.weighting)
    draws = {"PreQN, one draw": 1, "PreQN, three": 3}.get(cure)
    batches = [(seen, 1.0)] if draws is None else [(list(b), np.prod(system.weighting[list(b)])) for b in product(seen, repeat=draws)]
    found = np.zeros((system.features.shape[1], n))
    for batch, chance in batches:
        states = sorted(set(batch))
        found[:, states] += chance * np.linalg.pinv(system.features[states])
    return found


def update(system, cure, x, step, decay):
    """One update, or cycle, of a cure, as the text writes it. What it learns beside theta stands after theta in x."""
    A, b, C, k = system.A, system.b, system.features.T @ np.diag(system.weighting) @ system.features, len(system.b)
    theta, other, inner = x[:k], x[k:], 0.5 / np.linalg.eigvalsh(C)[-1]
    match cure:
        case "GTD2":
            return np.append(theta + step * A.T @ other, other + step * (b - A @ theta - C @ other))
        case "TDC":
            return np.append(theta + step * (b - A @ theta - (C - A.T) @ other), other + step * (b - A @ theta - C @ other))
        case "K: whitened":
            return theta + step * np.linalg.pinv(C, rcond=1e-12) @ (b - A @ theta)
        case "PreQN, one draw" | "PreQN, three" | "PreQN, all":
            values = system.features @ theta
            return theta + step * pulls(system, cure) @ (system.rewards + system.discount * system.transitions @ values - values)
        case "target, n = 10" | "target, n = 1000":
            fitted = theta
            for _ in range(int(cure.split()[-1])):
                fitted = fitted + inner * (b + (C - A) @ theta - C @ fitted)
            return fitted
        case "target follows":
            theta = theta + inner * (b + (C - A) @ other - C @ theta)
            return np.append(theta, other + 0.05 * (theta - other))
        case "weight decay":
            return theta + step * (b - A @ theta - decay * theta)
    return theta + step * (b - A @ theta)


def as_matrix(system, cure, decay):
    """M and c of an update, read off what it does to the axes."""
    size = len(system.b) * (2 if cure in ("GTD2", "TDC", "target follows") else 1)
    c = update(system, cure, np.zeros(size), 1.0, decay)
    return np.eye(size) - np.column_stack([update(system, cure, axis, 1.0, decay) - c for axis in np.eye(size)]), c


def fixed_step(cure):
    return 1.0 if "target" in cure else None


def needed(systems) -> float:
    return max(0.01, -1.1 * min(np.linalg.eigvals(system.A).real.min() for system in systems))


def logarithm(features, theta, truth):
    return np.log10(np.clip(np.abs(features @ theta - truth).max(), 1e-6, 1e9))


def near(values, others):
    """Whether two lists of complex numbers are one up to their order."""
    return len(values) == len(others) and all(np.abs(np.asarray(others) - value).min() < 1e-6 for value in values)


@pytest.mark.parametrize("example", evaluations())
def test_every_cell_of_the_board_with_a_policy(example, board):
    system, start = evaluations()[example]
    for cure in board["cures"]:
        cell, now = board["cells"][cure][example], changed(cure, system)
        M, c = as_matrix(now, cure, needed([now]))
        found = analyse_stability(M)
        step = fixed_step(cure) or found.largest_stable_step / 2 or 0.1
        assert (cell["word"] == "✗") == (found.error_factor(step) >= 1), cure
        assert near(step * found.eigenvalues, [complex(*value) for value in cell["spectra"][0]]), cure
        np.testing.assert_allclose(cell["truth"], system.true_values, atol=1e-4)
        x, k = np.append(start, np.zeros(len(c) - len(start))), len(start)
        for time in range(200):
            if time in board["times"] and (i := board["times"].index(time)) < len(cell["trace"]):
                assert cell["trace"][i] == pytest.approx(logarithm(now.features, x[:k], system.true_values), abs=0.006), (cure, time)
            x = x - step * (M @ x - c)
        if cell["values"] is not None:  # at a fixed point, and the run goes there
            theta = np.linalg.lstsq(now.features, np.array(cell["values"]), rcond=None)[0]
            error = np.abs(np.array(cell["values"]) - system.true_values).max()
            assert error == pytest.approx(cell["error"], abs=2e-4)
            rest = theta if len(c) == k else np.append(theta, theta if "follows" in cure else 0 * theta)
            assert np.abs(now.features @ (M @ rest - c)[:k]).max() < 1e-3 * max(1, np.abs(M).max())
            assert error < 0.1 or cell["trace"][-1] == pytest.approx(np.log10(error), abs=0.01)


@pytest.mark.parametrize("example", controls())
def test_every_cell_of_the_board_with_the_maximum(example, board):
    problem, start = controls()[example]
    (n_states, n_actions), k = problem.mdp.rewards.shape, len(start)
    for cure in board["cures"]:
        cell, systems = board["cells"][cure][example], {}
        for actions in product(range(n_actions), repeat=n_states):
            policy = deterministic_policy(np.array(actions), n_actions)
            system = expected_sarsa(problem.mdp, problem.features, target=policy, weighting=problem.weighting)
            systems[actions] = changed(cure, system)
        decay = needed(systems.values())
        matrices = {actions: as_matrix(system, cure, decay) for actions, system in systems.items()}
        step = fixed_step(cure) or 0.1 / max(np.linalg.norm(M, 2) for M, _ in matrices.values())
        features = next(iter(systems.values())).features
        x, bootstrap = np.append(start, np.zeros(len(matrices[(0,) * n_states][1]) - k)), slice(k, 2 * k) if "follows" in cure else slice(k)
        for time in range(3000):
            if time in board["times"] and (i := board["times"].index(time)) < len(cell["trace"]):
                assert cell["trace"][i] == pytest.approx(logarithm(features, x[:k], cell["truth"]), abs=0.006), (cure, time)
            M, c = matrices[tuple((features @ x[bootstrap]).reshape(n_states, n_actions).argmax(axis=1).tolist())]
            x = x - step * (M @ x - c)
        spectra = [step * np.linalg.eigvals(M) for M, _ in matrices.values()]
        for shown in cell["spectra"]:
            assert any(near(spectrum, [complex(*value) for value in shown]) for spectrum in spectra), cure
        tail = np.diff(cell["trace"][-4:])
        assert cell["word"] != "✗" or (tail > 0).all()
        assert cell["word"] != "settles" or np.abs(tail).max() < 1.5


def test_the_marks_of_the_board_and_its_neighbours(board):
    cells = {(cure, example): board["cells"][cure][example] for cure in board["cures"] for example in board["examples"]}
    fates = dict(zip(cells, call("cures", [["fate", cell] for cell in cells.values()]), strict=True))
    for place, cell in cells.items():
        settled = cell["word"] not in ("✗", "slow", "cycles")
        right = settled and np.abs(np.subtract(cell["values"], cell["truth"])).max() < 0.1
        assert fates[place] == ("truth" if right else "elsewhere" if settled else "diverges" if cell["word"] == "✗" else "unsettled")
    assert set(fates.values()) == {"truth", "elsewhere", "unsettled", "diverges"}
    (tally,) = call("cures", [["tally", board, "GTD2"]])
    assert tally == {fate: sum(fates["GTD2", e] == fate for e in board["examples"]) for fate in tally}
    first, last = board["examples"][0], board["examples"][-1]
    keys = [("none", first, "ArrowUp"), ("none", first, "ArrowDown"), ("none", first, "x"), ("GTD2", last, "ArrowRight")]
    beside = call("cures", [["beside", board, {"cure": cure, "example": example}, key] for cure, example, key in keys])
    assert beside == [None, {"cure": board["cures"][1], "example": first}, None, None]


REASONS = {
    "eigenvalue": lambda z: z.real.min() < 0,
    "determinant": lambda z: z.prod().real < 0,
    "overshoot": lambda z: z.real.min() > 0 and z.real.max() > 2,
    **dict.fromkeys(("on-policy", "emphatic", "gtd2", "tdc", "kernel", "stable", "decay"), lambda z: np.abs(1 - z).max() < 1),
}


def test_the_reasons_under_the_board_are_so(board, chapters):
    """Each reason holds where it is given, and each that is written is given somewhere."""
    given = set()
    for cure, example in product(board["cures"], board["examples"]):
        cell = board["cells"][cure][example]
        spectra = [np.array([complex(*value) for value in part]) for part in cell["spectra"]]
        moving = [z[np.abs(z) > 1e-9] for z in spectra]
        given |= set(cell["whys"])
        for why in cell["whys"]:
            if why in REASONS:
                assert REASONS[why](moving[0]), (cure, example, why)
        if example in evaluations():
            system, features = evaluations()[example][0], changed(cure, evaluations()[example][0]).features
            assert ("determinant" in cell["whys"]) <= (np.linalg.det(system.A) < 0)
            assert ("tdc" in cell["whys"]) <= (tdc_ratio(system) < 1)
            missed = np.abs(features @ np.linalg.pinv(features) @ cell["truth"] - cell["truth"]).max() > 1e-6
            assert ("span" in cell["whys"]) == (missed and cell["values"] is not None), (cure, example)
        if "unseen" in cell["whys"]:  # something does not move, and more than the features' own null directions
            assert sum(np.abs(z) <= 1e-9 for z in spectra[0]) > len(spectra[0]) - np.linalg.matrix_rank(
                evaluations()[example][0].features if example in evaluations() else controls()[example][0].features
            )
        if "switching" in cell["whys"]:
            assert len(moving) == 2
            assert all(np.abs(1 - z).max() < 1 for z in moving)
            assert cell["word"] == "✗"
    written = [
        key for chapter in chapters for cell in chapter.prose for key in re.findall(r"^:::\{why\} (\S+)$", cell.source, re.MULTILINE)
    ]
    assert sorted(written) == sorted(given)


# --- the figures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_a_figure_is_one_script_without_modules(name, tmp_path):
    script = joined(name)
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    (tmp_path / "joined.js").write_text(script, encoding="utf-8")
    assert subprocess.run([NODE, "--check", tmp_path / "joined.js"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", names())
def test_a_still_picture_has_words_and_finite_numbers(name, drawn):
    found = drawn(name)
    assert not re.search(r"NaN|Infinity|undefined|\[object", found["picture"] + found["says"])
    assert all(len(words) > 40 for words in re.findall(r'<svg data-panel[^>]*aria-label="([^"]*)"', found["picture"]))
    assert found["says"].endswith(".")


def test_a_picture_follows_its_state():
    assert still("baird", "g=0.87")["alarm"] is False
    assert still("baird", "g=0.99")["alarm"] is True
    assert still("baird", "g=0.87")["picture"] != still("baird", "g=0.99")["picture"]
    assert still("baird", "g=7&nonsense=1") == still("baird", "g=0.999")  # kept within its range, and nothing else taken


def sentences(pages) -> list[tuple[str, str]]:
    """The words of the prose that set a figure, and what they set."""
    sources = [cell.source for page in pages for cell in page.prose]
    return [match for source in sources for match in re.findall(r"\{sets\}`([^`<]*) <explore-([^`>]*)>`", source)]


def test_what_the_prose_says_of_a_figure_is_so(pages, drawn):
    """A sentence that says "diverges" or "settles" sets a figure that says the same."""
    told = sentences(pages)
    assert len(told) > 4
    for words, target in told:
        found = drawn(*target.split("?"))
        if "diverge" in words:
            assert found["alarm"], words
        if "settle" in words:
            assert not found["alarm"], words


def test_what_json_cannot_hold_is_not_handed_over():
    with pytest.raises(ValueError, match="not JSON compliant"):
        hand_over("a-name", {"error": float("inf")})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (".. explorable:: nothing\n\n   Why?\n", "explorable must be one of"),
        (".. explorable:: cures\n   :data: nothing\n\n   Why?\n", "data must be what a cell of the page hands over, got nothing"),
        (":sets:`no state <explore-baird>`\n", "sets must read"),
    ],
)
def test_what_is_not_there_fails_the_build(text, complaint, tmp_path):
    (tmp_path / "index.rst").write_text(f"Title\n=====\n\n{text}", encoding="utf-8")
    settings = ["-D", "extensions=deadly_triad_book.pages.explorables", "-D", "html_theme=basic"]
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-C", *settings, tmp_path, tmp_path / "html"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert complaint in ran.stderr


# --- in a reader's hands -----------------------------------------------------------------------------------------------


@contextmanager
def opened(browser: Browser, path: Path, hash_: str = "", **options) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, offline=True, **options)
    page = context.new_page()
    page.goto(path.as_uri() + hash_)
    yield page
    context.close()


@pytest.fixture
def chapter_of_baird(html):
    return html / "chapters" / "04_bairds_counterexample.html"


def said(page: Page) -> str:
    return page.locator("#explore-baird .ex-said").inner_text()


def test_without_scripts_there_is_a_picture_and_a_sentence(browser, chapter_of_baird):
    with opened(browser, chapter_of_baird, java_script_enabled=False) as page:
        figure = page.locator("#explore-baird")
        assert figure.locator("svg[data-panel]").count() == 4
        assert figure.locator("svg[data-panel] path").first.is_visible()
        assert "it diverges" in said(page)
        assert figure.locator("input").count() == 0


def test_a_slider_moves_the_figure_the_sentence_and_the_address(browser, chapter_of_baird):
    with opened(browser, chapter_of_baird) as page:
        before = page.locator("#explore-baird svg[data-panel=error]").inner_html()
        slider = page.get_by_label("discount γ")
        slider.focus()
        for _ in range(3):
            page.keyboard.press("PageDown")
        assert "it settles" in said(page)
        assert page.locator("#explore-baird svg[data-panel=error]").inner_html() != before
        page.wait_for_function("location.hash.includes('explore-baird?g=')")
        assert page.locator("#explore-baird [role=status]").inner_text() == said(page)
        address, sentence = page.evaluate("location.hash"), said(page)
    with opened(browser, chapter_of_baird, address) as page:
        assert said(page) == sentence
        page.get_by_role("button", name="Back to the beginning").click()
        assert "it diverges" in said(page)


def test_a_handle_can_be_dragged(browser, chapter_of_baird):
    with opened(browser, chapter_of_baird) as page:
        handle = page.locator("#explore-baird [data-drag=map]")
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] - 100, box["y"] - 40, steps=4)
        page.mouse.up()
        assert "it settles" in said(page)
        assert float(page.get_by_label("discount γ").input_value()) < 0.9


def test_a_sentence_sets_the_figure(browser, chapter_of_baird):
    with opened(browser, chapter_of_baird) as page:
        page.get_by_role("link", name="With a lower discount it settles").click()
        assert "it settles" in said(page)
        assert "ex-is-set" in page.get_by_role("link", name="With a lower discount it settles").get_attribute("class")


def test_nothing_moves_by_itself_for_those_who_asked_for_stillness(browser, chapter_of_baird):
    for motion, buttons in (("reduce", 0), ("no-preference", 1)):
        with opened(browser, chapter_of_baird, reduced_motion=motion) as page:
            assert page.get_by_role("button", name="Play").count() == buttons


def test_an_ellipse_is_dragged_until_the_image_fits(browser, html):
    with opened(browser, html / "chapters" / "01_contraction_maps.html") as page:
        figure = page.locator("#explore-norm")
        ring, panel = figure.locator("[data-drag=axis]"), figure.locator("svg[data-panel=ball]")
        ring.scroll_into_view_if_needed()
        box, unit = ring.bounding_box(), panel.bounding_box()["width"] * 32.5 / 300
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        assert "is no contraction" in figure.locator(".ex-said").inner_text()
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 1.5 * unit, y, steps=4)
        page.mouse.up()
        assert "it contracts, and so it settles" in figure.locator(".ex-said").inner_text()
        assert 10 ** float(figure.get_by_label("long axis over").input_value()) == pytest.approx(2.5**2, rel=0.05)


@pytest.fixture
def chapter_of_cures(html):
    (page,) = (html / "chapters").glob("*_other_cures.html")
    return page


def test_the_board_without_scripts_is_a_table_with_all_reasons(browser, chapter_of_cures):
    with opened(browser, chapter_of_cures, java_script_enabled=False) as page:
        figure = page.locator("#explore-cures")
        assert figure.locator("table [role=img]").count() == figure.locator("tbody tr").count() * figure.locator("thead th").count()
        assert figure.locator("button, input, select").count() == 0
        assert figure.locator("[data-why]").last.is_visible()
        assert figure.locator(".ex-reasons").is_visible()
        assert figure.get_by_role("link").first.get_attribute("href").endswith("#thm-largest-step")


def test_the_board_is_walked_by_keys_and_pressed(browser, chapter_of_cures):
    with opened(browser, chapter_of_cures) as page:
        figure = page.locator("#explore-cures")
        told, cell = figure.locator(".ex-said"), figure.locator("button[tabindex='0']")
        assert cell.count() == 1
        cell.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert told.inner_text().startswith("D: emphatic on Baird: it settles at the truth")
        assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        assert figure.locator("[data-why]:visible").evaluate_all("all => all.map((one) => one.dataset.why)") == ["emphatic", "truth"]
        figure.get_by_role("button", name="GTD2 on w → 2w").click()
        assert "not at the truth" in told.inner_text()
        assert figure.locator("select").last.input_value() == "GTD2"
        page.wait_for_function("location.hash.includes('GTD2')")
        assert figure.locator("[role=status]").inner_text() == told.inner_text()
        address, sentence = page.evaluate("location.hash"), told.inner_text()
    with opened(browser, chapter_of_cures, address) as page:
        assert page.locator("#explore-cures .ex-said").inner_text() == sentence
