r"""Why does deep Q-learning diverge on small problems: is it the triad, or a step that has become too large for the kernel?

`divergence_causes.md` is the protocol, committed before the runs.

A problem is a random MDP of 8 states and 2 actions whose states lie at random points of a square of random size, random data weights, and a
small network of random initialisation that maps point and action to a value. It learns by expected Q-learning on all pairs,

    theta' = theta + step * J^T D (target - Q),

under the five conditions of `CONDITIONS`. A sixth run is the linear one with the kernel of the start, Q' = Q + step * K D (T* Q - Q).

    python experiments/divergence_causes.py           into results/divergence_causes.csv, one row a problem
    python experiments/divergence_causes.py --longer  into results/divergence_causes_longer.csv, one row a run that is undecided there
"""

import argparse
import itertools
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from deadly_triad.examples import random_mdp
from deadly_triad.kernel_updates import Coupling, theorem_2
from deadly_triad.mdp import MDP, deterministic_policy, optimal_action_values, pair_transitions
from deadly_triad.networks import init_mlp, value_network
from deadly_triad.ntk import kernel_factors, pull_back
from deadly_triad_book.provenance import Provenance
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
SEED = 20261129
N_STATES, N_ACTIONS, N = 8, 2, 16
SHAPES = tuple(itertools.product(("relu", "tanh", "sin"), (16, 64), (1, 2)))
INITIALISATIONS, DISCOUNTS = ("pytorch", "lecun", "he"), (0.9, 0.95, 0.99)
DRAWS = {"relu": 8, "tanh": 2, "sin": 2}
FRACTION, TENTH, MARK, WARNING, FROZEN_SWEEPS = 0.5, 0.05, 10.0, 30, 20_000
ERRORS_AT = (10.0, 100.0)
LONGER, BLOCK = 200_000, 1000


BOOTSTRAPPED, FIXED, REWARDS = range(3)


class Condition(NamedTuple):
    """What is learned, with which step, for how many sweeps."""

    follows: bool
    target: int
    n_sweeps: int


CONDITIONS = {
    "constant": Condition(False, BOOTSTRAPPED, 2000),
    "followed": Condition(True, BOOTSTRAPPED, 4000),
    "constant, fixed target": Condition(False, FIXED, 300),
    "followed, fixed target": Condition(True, FIXED, 300),
    "constant, discount 0": Condition(False, REWARDS, 300),
}


class Problem(NamedTuple):
    """What is learned and from what; leaves of an array of problems have one more axis."""

    transitions: np.ndarray
    rewards: np.ndarray
    discount: np.ndarray
    exact: np.ndarray
    inputs: np.ndarray
    rho: np.ndarray


class Run(NamedTuple):
    """A run on its way. Times are sums of steps, in units of one over the largest eigenvalue of K D at the start."""

    layers: list
    sweep: jax.Array
    time: jax.Array
    gone: jax.Array  # whether a value has passed the mark, at this sweep and time, and then nothing moves any more
    gone_sweep: jax.Array
    gone_time: jax.Array
    beyond_sweep: jax.Array  # first sweep at which a value passed what a true value can be, -1 before
    limit_sweep: jax.Array  # first sweep at which step * (largest eigenvalue of K D) passed 2, -1 before
    largest_step: jax.Array  # largest step * (largest eigenvalue of K D) before a value went beyond
    errors: jax.Array  # largest error over largest true value, when the times of ERRORS_AT were reached


def draw(shape: int, initialisation: str, discount: float, number: int) -> tuple[MDP, Problem, list, np.random.Generator]:
    """A problem, its network, and the generator for what is drawn later."""
    made = [SEED, shape, INITIALISATIONS.index(initialisation), DISCOUNTS.index(discount), number]
    rng = np.random.default_rng(made)
    mdp = random_mdp(rng, N_STATES, N_ACTIONS, discount=discount, branching=2)
    points = np.exp(rng.uniform(np.log(0.5), np.log(4))) * np.repeat(rng.uniform(-1, 1, (N_STATES, 2)), N_ACTIONS, axis=0)
    inputs = np.hstack([points, np.tile([-1.0, 1.0], N_STATES)[:, None]])
    exact = optimal_action_values(mdp).ravel()
    problem = Problem(mdp.transitions, mdp.rewards, np.array(discount), exact, inputs, rng.dirichlet(np.full(N, 2.0)))
    _, width, depth = SHAPES[shape]
    layers = init_mlp(jax.random.key(int(rng.integers(2**31))), [3, *[width] * depth, 1], initialisation)
    return mdp, problem, layers, rng


@partial(jax.jit, static_argnums=0)
def look(name, layers, problem):  # type: ignore[no-untyped-def]
    """Values and kernel of all runs."""

    def one(layers, inputs):  # type: ignore[no-untyped-def]
        factors = kernel_factors(value_network(name), layers, inputs)
        return factors.Q, factors.kernel()

    return jax.vmap(one)(layers, problem.inputs)


def fastest(kernel, rho):  # type: ignore[no-untyped-def]
    """Largest eigenvalue of K D."""
    root = jnp.sqrt(rho)
    return jnp.linalg.eigvalsh(root[:, None] * kernel * root)[-1]


def begin(layers: list, problem: Problem) -> Run:
    """All runs before the first sweep."""
    n = len(problem.rho)
    zero, none, no = jnp.zeros(n), jnp.full(n, -1), jnp.zeros(n, bool)
    return Run(layers, jnp.zeros(n, int), zero, no, none, zero, none, none, zero, jnp.full((n, len(ERRORS_AT)), jnp.nan))


@partial(jax.jit, static_argnums=0)
def advance(name, condition, run, problem, first, fraction, n_sweeps):  # type: ignore[no-untyped-def]
    """`n_sweeps` sweeps of all runs; `first` is the largest eigenvalue of K D at the start."""
    network = value_network(name)

    def sweep(run, problem, first):  # type: ignore[no-untyped-def]
        factors = kernel_factors(network, run.layers, problem.inputs)
        Q, now = factors.Q, fastest(factors.kernel(), problem.rho)
        step = fraction / jnp.where(condition.follows, now, first)
        discount = jnp.where(condition.target == REWARDS, 0.0, problem.discount)
        exact = jnp.where(condition.target == REWARDS, problem.rewards.ravel(), problem.exact)
        bootstrapped = (problem.rewards + discount * problem.transitions @ Q.reshape(N_STATES, N_ACTIONS).max(axis=1)).ravel()
        target = jnp.where(condition.target == FIXED, exact, bootstrapped)
        bound = jnp.abs(problem.rewards).max() / (1 - discount)
        beyond, gone = ~(jnp.abs(Q).max() <= bound), ~(jnp.abs(Q).max() <= MARK * bound)
        newly = gone & ~run.gone
        beyond_sweep = jnp.where(beyond & (run.beyond_sweep < 0), run.sweep, run.beyond_sweep)
        limit_sweep = jnp.where((step * now > 2) & (run.limit_sweep < 0), run.sweep, run.limit_sweep)
        error = jnp.abs(Q - exact).max() / jnp.abs(exact).max()
        reached = jnp.isnan(run.errors) & (run.time >= jnp.array(ERRORS_AT))
        moves = ~(run.gone | gone)
        direction = pull_back(factors, run.layers, problem.rho * (target - Q))
        return Run(
            jax.tree.map(lambda p, g: jnp.where(moves, p + step * g, p), run.layers, direction),
            run.sweep + moves,
            run.time + jnp.where(moves, step * first, 0),
            run.gone | gone,
            jnp.where(newly, run.sweep, run.gone_sweep),
            jnp.where(newly, run.time, run.gone_time),
            jnp.where(moves | newly, beyond_sweep, run.beyond_sweep),
            jnp.where(moves | newly, limit_sweep, run.limit_sweep),
            jnp.where(beyond_sweep < 0, jnp.maximum(run.largest_step, step * now), run.largest_step),
            jnp.where(moves & reached, error, run.errors),
        )

    every = jax.vmap(sweep)
    return jax.lax.fori_loop(0, n_sweeps, lambda _, run: every(run, problem, first), run)


def logged(n_sweeps: int) -> list[int]:
    """The sweeps at which the spectrum is looked at: 0, and 8 times in each power of ten."""
    times = {round(10 ** (k / 8)) for k in range(8 * 7)}
    return sorted({0, WARNING, n_sweeps, *(time for time in times if time < n_sweeps)})


def growths(kernel: np.ndarray, rho: np.ndarray, transitions: np.ndarray, discount: np.ndarray) -> np.ndarray:
    """Largest real part of an eigenvalue of K D (discount P - I) over the largest eigenvalue of K D; -inf where it is not finite."""
    B = kernel * rho[:, None, :]
    M = B @ (discount[:, None, None] * transitions - np.eye(N))
    fine = np.all(np.isfinite(M), axis=(1, 2))
    rates = np.linalg.eigvals(np.where(fine[:, None, None], M, 0)).real.max(axis=1)
    fast = np.linalg.eigvals(np.where(fine[:, None, None], B, np.eye(N))).real.max(axis=1)
    return np.where(fine, rates / fast, -np.inf)


def greedy_transitions(problem: Problem, values: np.ndarray) -> np.ndarray:
    """From pair to pair, for the policy that is greedy for the values of each problem."""
    best = np.eye(N_ACTIONS)[values.reshape(-1, N_STATES, N_ACTIONS).argmax(axis=2)]
    flat = problem.transitions.reshape(-1, N, N_STATES)
    return (flat[..., None] * best[:, None]).reshape(-1, N, N)


def learn(
    name: str, condition: Condition, layers: list, problem: Problem, fraction: float = FRACTION, n_sweeps: int | None = None
) -> pd.DataFrame:
    """All runs under one condition, one row each."""
    n_sweeps = n_sweeps or condition.n_sweeps
    values, kernel = (np.asarray(x) for x in look(name, layers, problem))
    first = np.asarray(jax.vmap(fastest)(kernel, problem.rho))
    discount = problem.discount * (condition.target == BOOTSTRAPPED)
    bound = np.abs(problem.rewards).max(axis=(1, 2)) / (1 - problem.discount * (condition.target != REWARDS))
    run, growth, seen = begin(layers, problem), np.full(len(bound), -np.inf), {}
    times = logged(n_sweeps)
    for before, time in zip([0, *times], times, strict=False):
        run = advance(name, condition, run, problem, first, fraction, time - before)
        values, kernel = (np.asarray(x) for x in look(name, run.layers, problem))
        within = np.asarray(run.beyond_sweep) < 0
        now = growths(kernel, problem.rho, greedy_transitions(problem, values), discount)
        growth = np.where(within, np.maximum(growth, now), growth)
        grown = np.asarray(jax.vmap(fastest)(kernel, problem.rho)) / first
        if time == WARNING:
            step = fraction if condition.follows else fraction * grown
            seen = {"share at 30": np.abs(values).max(axis=1) / bound, "step at 30": step, "growth at 30": now, "kernel at 30": grown}
        if np.all(run.gone):
            break
    exact = problem.rewards.reshape(-1, N) if condition.target == REWARDS else problem.exact
    error = np.abs(values - exact).max(axis=1) / np.abs(exact).max(axis=1)
    columns = {
        "gone": np.asarray(run.gone),
        "gone sweep": np.asarray(run.gone_sweep),
        "gone time": np.asarray(run.gone_time),
        "beyond sweep": np.asarray(run.beyond_sweep),
        "limit sweep": np.asarray(run.limit_sweep),
        "largest step": np.asarray(run.largest_step),
        "largest growth": growth,
        "last growth": now,
        "last kernel": grown,
        "last time": np.asarray(run.time),
        "last share": np.abs(values).max(axis=1) / bound,
        "last error": error,
        **{f"error at time {time:.0f}": np.asarray(run.errors)[:, k] for k, time in enumerate(ERRORS_AT)},
        **seen,
    }
    return pd.DataFrame(columns)


def learn_frozen(kernel: np.ndarray, values: np.ndarray, problem: Problem, n_sweeps: int) -> pd.DataFrame:
    """The linear iteration with the kernel of the start and the constant step, one row a run."""
    first = np.asarray(jax.vmap(fastest)(kernel, problem.rho))
    B = FRACTION / first[:, None, None] * kernel * problem.rho[:, None, :]
    bound = np.abs(problem.rewards).max(axis=(1, 2)) / (1 - problem.discount)
    Q, gone_sweep = values.copy(), np.full(len(values), -1)
    for sweep in range(n_sweeps + 1):
        gone_sweep = np.where((np.abs(Q).max(axis=1) > MARK * bound) & (gone_sweep < 0), sweep, gone_sweep)
        best = Q.reshape(-1, N_STATES, N_ACTIONS).max(axis=2)
        ahead = np.einsum("bsat,bt->bsa", problem.transitions, best)
        targets = (problem.rewards + problem.discount[:, None, None] * ahead).reshape(Q.shape)
        moved = Q + np.einsum("bij,bj->bi", B, targets - Q)
        Q = np.where(gone_sweep[:, None] < 0, moved, Q)
    error = np.abs(Q - problem.exact).max(axis=1) / np.abs(problem.exact).max(axis=1)
    return pd.DataFrame({"gone": gone_sweep >= 0, "gone sweep": gone_sweep, "last error": error})


def candidates(mdp: MDP, kernel: np.ndarray, rho: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Everything computed before the first sweep that is asked to foretell; for each a larger number is meant as the worse one."""
    root = np.sqrt(rho)
    fast = np.linalg.eigvalsh(root[:, None] * kernel * root)[-1]
    seen = theorem_2(Coupling(kernel, rho), mdp.discount, float(FRACTION / fast))
    ratios = Coupling(kernel, np.ones(N)).rows.ratios

    def pairs(actions: np.ndarray) -> np.ndarray:
        return pair_transitions(mdp, deterministic_policy(actions, N_ACTIONS))

    def growth(actions: np.ndarray, rho: np.ndarray = rho) -> float:
        return float(growths(kernel[None], rho[None], pairs(actions)[None], np.array([mdp.discount]))[0])

    greedy, best = values.reshape(N_STATES, N_ACTIONS).argmax(axis=1), optimal_action_values(mdp).argmax(axis=1)
    G = rho[:, None] * (np.eye(N) - mdp.discount * pairs(greedy))
    return {
        "row ratio, mean": float(ratios.mean()),
        "row ratio, largest": float(ratios.max()),
        "condition (17), worst row": float(np.max((1 + mdp.discount) * seen.rows.others / ((1 - mdp.discount) * seen.rows.own))),
        "beta(K)": seen.modulus,
        "growth, greedy policy": growth(greedy),
        "growth, greedy policy, even weights": growth(greedy, np.full(N, 1 / N)),
        "growth, optimal policy": growth(best),
        "growth, worst of 30 policies": max(growth(rng.integers(0, N_ACTIONS, N_STATES)) for _ in range(30)),
        "one transition, greedy policy": float(np.max(mdp.discount * np.einsum("ij,ji->i", pairs(greedy), kernel) / np.diag(kernel))),
        "condition number of K": float(np.linalg.cond(kernel)),
        "key matrix alone (no K)": -float(np.linalg.eigvalsh(G + G.T)[0]),
    }


def run_shape(shape: int, draws: int | None = None, cap: int | None = None) -> pd.DataFrame:
    """All problems of one shape of network, one row each; `cap` is for a few sweeps only."""
    name, width, depth = SHAPES[shape]
    cases = list(itertools.product(INITIALISATIONS, DISCOUNTS, range(draws or DRAWS[name])))
    drawn = [draw(shape, *case) for case in cases]
    problem = Problem(*(np.stack(leaves) for leaves in zip(*(d[1] for d in drawn), strict=True)))
    layers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(d[2] for d in drawn))
    values, kernel = (np.asarray(x) for x in look(name, layers, problem))
    kernel = (kernel + kernel.swapaxes(1, 2)) / 2
    rows = []
    for k, ((initialisation, discount, number), (mdp, *_, rng)) in enumerate(zip(cases, drawn, strict=True)):
        made = {"activation": name, "width": width, "depth": depth, "initialisation": initialisation}
        made |= {"discount": discount, "draw": number, "half": "first" if number % 2 == 0 else "second"}
        rows.append(made | candidates(mdp, kernel[k], problem.rho[k], values[k], rng))
    table = pd.DataFrame(rows)
    frozen = learn_frozen(kernel, values, problem, cap or FROZEN_SWEEPS)
    parts = [table, frozen.add_prefix("frozen: ")]
    for label, condition in CONDITIONS.items():
        found = learn(name, condition, layers, problem, n_sweeps=cap and min(cap, condition.n_sweeps))
        parts.append(found.add_prefix(f"{label}: "))
    # Who leaves although the step follows is asked again, with a tenth of it, ten times as long.
    again = parts[3]["followed: gone"].to_numpy()
    small = pd.DataFrame({"gone": np.zeros(len(table), bool)})
    if again.any():
        some = jax.tree.map(lambda leaf: leaf[again], (layers, problem))
        small = learn(name, CONDITIONS["followed"], *some, fraction=TENTH, n_sweeps=10 * (cap or CONDITIONS["followed"].n_sweeps))
        small.index = np.flatnonzero(again)
        small = small.reindex(range(len(table)))
    return pd.concat([*parts, small[["gone"]].fillna(False).astype(bool).add_prefix("followed closely: ")], axis=1)


def undecided(table: pd.DataFrame) -> pd.Series:
    """Who left with the constant step for a cause that the followed runs do not tell: the fourth class of the protocol."""
    gone = table["followed: gone"]
    short = table["followed: last time"] < table["constant: gone time"]
    return table["constant: gone"] & np.where(gone, ~table["followed closely: gone"], short)


def learn_until(
    name: str, layers: list, problem: Problem, time: float, fraction: float = FRACTION, n_sweeps: int = LONGER
) -> dict[str, float]:
    """One run with the step that follows, until it has left or its time is `time`; layers and problem have an axis of length 1.

    It is looked at after each block of sweeps, so it may go on a little: who leaves later than `time` has stayed until then.
    """
    first = jax.vmap(fastest)(look(name, layers, problem)[1], problem.rho)
    run, times = begin(layers, problem), []
    while len(times) * BLOCK < n_sweeps and not run.gone[0] and run.time[0] < time:
        run = advance(name, CONDITIONS["followed"], run, problem, first, fraction, BLOCK)
        times.append(float(run.time[0]))
    at = CONDITIONS["followed"].n_sweeps // BLOCK
    left = bool(run.gone[0] and run.gone_time[0] < time)
    stayed = bool(not left and run.time[0] >= time)
    first_times = times[at - 1] if len(times) >= at else np.nan
    return {"left": left, "stayed": stayed, "sweeps": int(run.sweep[0]), "time": float(run.time[0]), "time at 4000": first_times}


def run_longer(row: pd.Series) -> dict[str, object]:
    """What becomes of an undecided run when it is given more sweeps, and whose doing it then is."""
    shape = SHAPES.index((row["activation"], row["width"], row["depth"]))
    _, problem, layers, _ = draw(shape, row["initialisation"], row["discount"], row["draw"])
    layers, problem = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (layers, problem))
    until = row["constant: gone time"]
    followed = learn_until(row["activation"], layers, problem, until)
    closely = {"left": False}
    if followed["left"]:
        closely = learn_until(row["activation"], layers, problem, until, TENTH, 10 * LONGER)
    cause = "triad" if closely["left"] else "undecided"
    if followed["stayed"]:
        cause = "step alone" if row["constant, fixed target: gone"] else "step and bootstrapping"
    made = row[["activation", "width", "depth", "initialisation", "discount", "draw"]].to_dict()
    return made | {"until": until, **followed, "left closely": closely["left"], "cause": cause}


def longer() -> None:
    """Run the undecided ones longer and write what came of them, with its provenance."""
    provenance = Provenance()
    table = pd.read_csv(RESULTS / "divergence_causes.csv")
    rows = [run_longer(row) for _, row in tqdm(list(table[undecided(table)].iterrows()))]
    pd.DataFrame(rows).to_csv(RESULTS / "divergence_causes_longer.csv", index=False, float_format="%.6g")
    provenance.write(RESULTS / "divergence_causes_longer.json", seed=SEED, runs=len(rows), sweeps=LONGER, sweeps_closely=10 * LONGER)


def main() -> None:
    """Run what is asked for and write the results with their provenance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longer", action="store_true", help="only the undecided runs of the committed table, longer")
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if asked.longer:
        longer()
        return
    provenance = Provenance()
    sweeps = {label: condition.n_sweeps for label, condition in CONDITIONS.items()}
    table = pd.DataFrame()
    for shape in tqdm(range(len(SHAPES))):
        table = pd.concat([table, run_shape(shape)], ignore_index=True)
        table.to_csv(RESULTS / "divergence_causes.csv", index=False, float_format="%.6g")
        provenance.write(RESULTS / "divergence_causes.json", seed=SEED, problems=len(table), sweeps=sweeps)


if __name__ == "__main__":
    main()
