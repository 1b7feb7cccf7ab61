r"""Do the cures of the linear table cure networks that are trained, and whose are the divergences: the triad's or the step's?

`deep_cures.md` is the protocol, committed before the script and before the runs.

A network of two hidden layers of 64 learns, on minibatches drawn from the data of a small problem whose true values are known,

    theta' = theta + step * (J^T (target - Q) / m - decay * theta),

with one cure of `METHODS` and one rule of `RULES` for the step. Everything that differs between the runs of one compiled loop (problem,
start, draws, step, decay, how often targets are copied) is a number with an axis of runs.

    python experiments/deep_cures.py            into results/deep_cures.csv, deep_cures_tuning.csv and deep_cures.npz
"""

import argparse
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from deadly_triad import cures
from deadly_triad.examples import baird, chain, random_mdp
from deadly_triad.linear_td import LinearTD
from deadly_triad.mdp import optimal_action_values, policy_rewards, policy_transitions, state_values, stationary_distribution
from deadly_triad.networks import Dense, Hook, Network, activation, dense, init_mlp
from deadly_triad.ntk import kernel_factors, pull_back
from deadly_triad.preqn import solve_kernel
from deadly_triad.stability import spectral_radius
from deadly_triad_book.provenance import Provenance
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
SEED = 20261130
ACTIVATIONS, HIDDEN, INPUTS = ("relu", "sin"), (64, 64), 8
N_UPDATES, BLOCK, MARK, LEARNED = 2000, 10, 2.0, 0.05
LOOKS = (0, 30, 100, 300, 1000, 2000)
TUNING_SEEDS, REPORTING_SEEDS = range(3), range(10, 20)
COPIED_EVERY, RATE, DECAY, NEVER, N_DRAWN = 20, 0.05, 0.001, 10**9, 200
N_GARNETS, TUNING_GARNETS = 10, range(10, 13)
CHUNKS = {20: 5, 40: 25, 8: 20}  # runs at a time by the number of pairs: about what the cache of a core holds


class Method(NamedTuple):
    """A cure: one change of plain Q-learning, or two."""

    normalised: bool = False
    decay: float = 0.0
    target: str = "none"  # or "copied", or "follows"
    n_critics: int = 1


METHODS: Final = {
    "none": Method(),
    "target, copied": Method(target="copied"),
    "target, follows": Method(target="follows"),
    "layer norm": Method(normalised=True),
    "weight decay": Method(decay=DECAY),
    "layer norm, decay": Method(normalised=True, decay=DECAY),
    "least of two": Method(n_critics=2),
    "PreQN": Method(),
}
RULES: Final = ("follows", "constant", "Adam")
# Five values half a decade apart; where the best lies at an edge, the next beyond it is tried too.
LADDERS: Final = {"follows": (-4, 0), "Adam": (-8, -4), "PreQN": (-4, 0)}


def rung(k: int) -> float:
    """Half a decade a rung; 1 is rung 0."""
    return float(f"{10 ** (k / 2):.2g}")


# --- Problems --------------------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """What is learned from what, for n = S A pairs; one action where a policy is evaluated."""

    inputs: np.ndarray  # (n, INPUTS), filled up with zeros
    transitions: np.ndarray  # (S, A, S)
    rewards: np.ndarray  # (S, A)
    discount: np.ndarray
    rho: np.ndarray  # (n,)
    truth: np.ndarray  # (n,)
    bound: np.ndarray  # on every true value
    n_inputs: np.ndarray


def make(inputs: np.ndarray, P: np.ndarray, r: np.ndarray, discount: float, rho: np.ndarray, truth: np.ndarray, most: float) -> Problem:
    """The problem, with inputs of the common length: weights on zeros get no gradient, and theirs are zero."""
    wide = np.pad(inputs, ((0, 0), (0, INPUTS - inputs.shape[1])))
    return Problem(wide, P, r, np.array(discount), rho, truth, np.array(most / (1 - discount)), np.array(inputs.shape[1]))


def with_actions(states: np.ndarray) -> np.ndarray:
    """Inputs of pairs: a state's and the action, -1 or 1."""
    return np.column_stack([np.repeat(states, 2, axis=0), np.tile([-1.0, 1.0], len(states))])


def corridor() -> Problem:
    """That of `preqn_chain`."""
    mdp = chain(10, 0.95)
    inputs = with_actions(np.linspace(0, 5, 10)[:, None])
    return make(inputs, mdp.transitions, mdp.rewards, 0.95, np.full(20, 1 / 20), optimal_action_values(mdp).ravel(), 1.0)


def walk(code: np.ndarray) -> Problem:
    """A corridor that the target walks to the right, on the data of a behaviour that goes to the left."""
    mdp, target = chain(8, 0.99), np.tile([0.2, 0.8], (8, 1))
    d = stationary_distribution(policy_transitions(mdp, np.tile([0.8, 0.2], (8, 1))))
    P, r = policy_transitions(mdp, target), policy_rewards(mdp, target)
    return make(code[:, None], P[:, None], r[:, None], 0.99, d, state_values(mdp, target), 1.0)


def garnet(number: int) -> Problem:
    """A random problem with observations that say nothing but which state it is."""
    rng = np.random.default_rng([SEED, number])
    mdp = random_mdp(rng, 20, 2, discount=0.95, branching=3)
    inputs, rho = with_actions(rng.standard_normal((20, 5))), rng.dirichlet(np.ones(40))
    most = float(np.abs(mdp.rewards).max())
    return make(inputs, mdp.transitions, mdp.rewards, 0.95, rho, optimal_action_values(mdp).ravel(), most)


def star() -> Problem:
    """Baird's, each step paid 1, and an eighth state that is the seventh once more and is never drawn."""
    system = baird(0.99).off_policy
    again = np.append(np.arange(7), 6)
    P = np.pad(system.transitions[again], ((0, 0), (0, 1)))
    return make(system.features[again], P[:, None], np.ones((8, 1)), 0.99, np.append(np.full(7, 1 / 7), 0.0), np.full(8, 100.0), 1.0)


@cache
def problems() -> dict[str, Problem]:
    """All of them, by name."""
    codes = {"-1 to 1": np.linspace(-1, 1, 8), "1, 2, 3": np.arange(1, 9.0), "1, 2, 4": 2.0 ** np.arange(8)}
    found = {"corridor": corridor(), **{f"walk, {name}": walk(code) for name, code in codes.items()}, "star": star()}
    return found | {f"garnet {number}": garnet(number) for number in (*range(N_GARNETS), *TUNING_GARNETS)}


TUNED_ON: Final = [name for name in problems() if not name.startswith("garnet")] + [f"garnet {number}" for number in TUNING_GARNETS]
REPORTED: Final = [name for name in problems() if name not in TUNED_ON or not name.startswith("garnet")]


def size(problem: Problem) -> int:
    """Pairs in a minibatch: a quarter of those that are drawn."""
    return max(2, round(int(np.sum(problem.rho > 0)) / 4))


# --- Learning --------------------------------------------------------------------------------------------------------


_ODD = [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(11)]
_EVEN = [(-1.0) ** k / math.factorial(2 * k) for k in range(12)]
_PI = (3.1415926218032837, 3.1786509424591713e-08)  # few digits, so that a multiple of it is exact, and the rest


def _series(x: Any) -> tuple[Any, Any]:
    k = jnp.round(x / np.pi)
    r = (x - k * _PI[0]) - k * _PI[1]
    sign, square = 1 - 2 * jnp.mod(k, 2), r * r
    sine, cosine = jnp.zeros_like(r), jnp.zeros_like(r)
    for c in reversed(_ODD):
        sine = sine * square + c
    for c in reversed(_EVEN):
        cosine = cosine * square + c
    return sign * r * sine, sign * cosine


@jax.custom_jvp
def sine(x: Any) -> Any:
    """The sine to 1e-13, by its series: that of XLA costs four times the rest of an update in float64."""
    return _series(x)[0]


@sine.defjvp
def _sine_jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    value, slope = _series(primals[0])
    return value, slope * tangents[0]


@cache
def network(name: str, normalised: bool) -> Network:
    """The value network, with layer normalisation before each activation if that is asked for, as chapter 'Other cures' has it."""
    activate = sine if name == "sin" else activation(name)

    def values(layers: Sequence[Dense], inputs: Any, hook: Hook) -> Any:
        a = inputs
        for layer in layers[:-1]:
            z = hook(layer, a)
            if normalised:
                z = z - z.mean(axis=1, keepdims=True)
                z = z / jnp.sqrt((z * z).mean(axis=1, keepdims=True) + 1e-8)
            a = activate(z)
        return hook(layers[-1], a)[:, 0]

    return values


class Compiled(NamedTuple):
    """What a loop is compiled for."""

    activation: str
    normalised: bool
    target: str
    rule: str
    batch: int


class Run(NamedTuple):
    """One run on its way; all runs of a loop have one more axis."""

    problem: Problem
    critics: Any  # layers with an axis of critics
    ahead: Any  # what targets are made of: nothing, frozen targets, or the critics that follow
    optimiser: Any
    key: Any
    step: Any
    decay: Any
    period: Any  # targets are copied every so many updates
    update: Any
    time: Any  # sum of the steps, in units of one over the largest eigenvalue of K D at birth
    gone: Any  # the update by which a value was seen to have left, -1 before; nothing moves after it
    largest: Any  # largest |Q| over the bound so far


def values_of(loop: Compiled, critics: Any, problem: Problem) -> Any:
    """Values of all critics of one run at every pair, shape (critics, n)."""
    return jax.vmap(lambda layers: network(loop.activation, loop.normalised)(layers, problem.inputs, dense))(critics)


@partial(jax.jit, static_argnums=0)
def all_values(loop: Compiled, critics: Any, problem: Problem) -> Any:
    """The same of all runs."""
    return jax.vmap(partial(values_of, loop))(critics, problem)


def back_up(problem: Problem, values: Any) -> Any:
    """Expected targets of all pairs; with several critics from the least of their values."""
    best = values.min(axis=0).reshape(problem.rewards.shape).max(axis=1)
    return (problem.rewards + problem.discount * problem.transitions @ best).ravel()


def draw(problem: Problem, key: Any, n: int) -> Any:
    """So many pairs from the data, with replacement."""
    cumulative = jnp.cumsum(problem.rho)
    return jnp.searchsorted(cumulative, cumulative[-1] * jax.random.uniform(key, (n,)), side="right")


def fastest(kernel: Any) -> Any:
    """Largest eigenvalue of K D on a minibatch, whose D is one over its size."""
    return jnp.linalg.eigvalsh(kernel)[-1] / len(kernel)


@partial(jax.jit, static_argnums=(0, 1))
def born(n_inputs: int, n_critics: int, keys: Any) -> Any:
    """Networks of PyTorch's initialisation, with zero weights on the inputs that were filled up; axes of runs and of critics."""

    def one(key: Any, critic: int) -> Any:
        first, *rest = init_mlp(jax.random.fold_in(key, critic), [n_inputs, *HIDDEN, 1])
        return [first._replace(weight=jnp.pad(first.weight, ((0, INPUTS - n_inputs), (0, 0)))), *rest]

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(keys, jnp.arange(n_critics))


@partial(jax.jit, static_argnums=(0, 1, 2))
def birth(name: str, normalised: bool, batch: int, problem: Problem, layers: Any, keys: Any) -> tuple[Any, Any, Any]:
    """Values and kernel at all pairs, and 2 over the largest eigenvalue of K D on a minibatch, in the mean of 100 of them; all runs."""

    def one(problem: Problem, layers: Any, key: Any) -> tuple[Any, Any, Any]:
        factors = kernel_factors(network(name, normalised), layers, problem.inputs)
        K = factors.kernel()
        rows = jax.vmap(lambda key: draw(problem, key, batch))(jax.random.split(jax.random.fold_in(key, 1), 100))
        return factors.Q, K, jnp.mean(jax.vmap(lambda r: 2 / fastest(K[r][:, r]))(rows))

    return jax.vmap(one)(problem, layers, keys)


@partial(jax.jit, static_argnums=0)
def advance(loop: Compiled, run: Run, n_blocks: Any) -> Run:
    """So many blocks of `BLOCK` updates of all runs; who has left is looked for between them."""
    return jax.lax.fori_loop(0, n_blocks, lambda _, run: jax.vmap(partial(block, loop))(run), run)


def block(loop: Compiled, run: Run) -> Run:
    """A block of updates of one run."""
    values = values_of(loop, run.critics, run.problem)
    share = jnp.abs(values).max() / run.problem.bound
    gone = (run.gone >= 0) | ~(share <= MARK)
    if loop.target == "copied":
        copies = run.update % run.period == 0
        run = run._replace(ahead=jnp.where(copies, back_up(run.problem, values), run.ahead))
    after = jax.lax.fori_loop(0, BLOCK, lambda _, run: update(loop, run), run)
    keep = partial(jax.tree.map, lambda new, old: jnp.where(gone, old, new))
    return keep(after, run)._replace(
        gone=jnp.where(gone & (run.gone < 0), run.update, run.gone), largest=jnp.where(share > run.largest, share, run.largest)
    )


def update(loop: Compiled, run: Run) -> Run:
    """One update of all critics of one run."""
    problem, net = run.problem, network(loop.activation, loop.normalised)
    rows = draw(problem, jax.random.fold_in(run.key, run.update + 2), loop.batch)
    if loop.target == "copied":
        targets = run.ahead
    else:
        targets = back_up(problem, values_of(loop, run.critics if loop.target == "none" else run.ahead, problem))

    def direction(layers: Any) -> tuple[Any, Any]:
        factors = kernel_factors(net, layers, problem.inputs[rows])
        errors = targets[rows] - factors.Q
        zeta = solve_kernel(factors.kernel(), errors).solution if loop.rule == "PreQN" else errors / loop.batch
        way = jax.tree.map(lambda g, p: g - run.decay * p, pull_back(factors, layers, zeta), layers)
        return way, run.step * (2 / fastest(factors.kernel()) if loop.rule == "follows" else 1.0)

    ways, steps = jax.vmap(direction)(run.critics)
    optimiser = run.optimiser
    if loop.rule == "Adam":
        ways, optimiser = optax.scale_by_adam().update(ways, optimiser)
    critics = jax.tree.map(lambda p, g: p + steps.reshape(-1, *[1] * (p.ndim - 1)) * g, run.critics, ways)
    ahead = run.ahead
    if loop.target == "follows":
        ahead = jax.tree.map(lambda old, new: old + RATE * (new - old), ahead, critics)
    return run._replace(critics=critics, ahead=ahead, optimiser=optimiser, update=run.update + 1, time=run.time + steps[0])


@partial(jax.jit, static_argnums=(0, 1))
def look(name: str, normalised: bool, critics: Any, problem: Problem) -> tuple[Any, Any]:
    """Values and kernel of the first critic at all pairs, of all runs."""

    def one(critics: Any, problem: Problem) -> tuple[Any, Any]:
        layers = jax.tree.map(lambda leaf: leaf[0], critics)
        factors = kernel_factors(network(name, normalised), layers, problem.inputs)
        return factors.Q, factors.kernel()

    return jax.vmap(one)(critics, problem)


class Task(NamedTuple):
    """One run that is asked for: a problem by name, a seed, and the fraction or step of its rule."""

    problem: str
    seed: int
    step: float


def start(name: str, method: Method, rule: str, tasks: Sequence[Task], frozen: bool) -> tuple[Compiled, Run, np.ndarray]:
    """Runs before the first update, and the constant step of fraction 1 of each; `frozen` leaves the targets at those of birth."""
    found = [problems()[task.problem] for task in tasks]
    problem = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
    order = list(problems())
    keys = jax.vmap(lambda seed, k: jax.random.fold_in(jax.random.key(seed), k))(
        jnp.array([task.seed for task in tasks]), jnp.array([order.index(task.problem) for task in tasks])
    )
    # All runs are born at once for each number of inputs, and those with another number are not used.
    wide = {int(k): born(int(k), method.n_critics, keys) for k in np.unique(problem.n_inputs)}
    critics = jax.tree.map(
        lambda *leaves: jnp.stack([leaves[list(wide).index(int(k))][i] for i, k in enumerate(problem.n_inputs)]), *wide.values()
    )
    first = jax.tree.map(lambda leaf: leaf[:, 0], critics)
    batch = size(found[0])
    values, _, limit = birth(name, method.normalised, batch, problem, first, keys)
    fractions = np.array([task.step for task in tasks])
    loop = Compiled(name, method.normalised, "copied" if frozen else method.target, rule, batch)
    # A loop that copies does so before the first update, whatever the period.
    ahead = {"none": (), "copied": np.zeros(values.shape), "follows": critics}[loop.target]
    n, zeros = len(tasks), np.zeros(len(tasks))
    run = Run(
        problem,
        critics,
        ahead,
        jax.vmap(optax.scale_by_adam().init)(critics) if rule == "Adam" else (),
        keys,
        jnp.asarray(fractions * limit if rule == "constant" else fractions),
        np.full(n, method.decay),
        np.full(n, NEVER if frozen else COPIED_EVERY),
        np.zeros(n, int),
        zeros,
        np.full(n, -1),
        zeros,
    )
    return loop, jax.tree.map(jnp.asarray, run), np.asarray(limit)


def measures(problem: Problem, values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Mean diagonal, row ratio, largest eigenvalue of K D and abscissa of K D (discount P - I), greedy now, of one kernel, shape (4,)."""
    seen = problem.rho > 0
    K, rho = kernel[np.ix_(seen, seen)], problem.rho[seen]
    if not np.abs(K).max() < 1e100:  # of who has left
        return np.full(4, np.nan)
    P = greedy(problem, values)[np.ix_(seen, seen)]
    diagonal, root = np.diag(K), np.sqrt(rho)
    ratio = np.mean((np.abs(K).sum(axis=1) - diagonal) / (len(K) * diagonal))
    growth = np.linalg.eigvals(K * rho @ (problem.discount * P - np.eye(len(K)))).real.max()
    return np.array([diagonal.mean(), ratio, np.linalg.eigvalsh(root[:, None] * K * root)[-1], growth])


def greedy(problem: Problem, values: np.ndarray) -> np.ndarray:
    """From pair to pair under the policy that is greedy for the values, shape (n, n)."""
    n_states, n_actions = problem.rewards.shape
    best = np.eye(n_actions)[values.reshape(n_states, n_actions).argmax(axis=1)]
    return (problem.transitions.reshape(len(values), n_states)[..., None] * best).reshape(len(values), len(values))


def learn(
    name: str, method: Method, rule: str, tasks: Sequence[Task], *, frozen: bool = False, looks: Sequence[int] = (0, N_UPDATES)
) -> tuple[pd.DataFrame, np.ndarray]:
    """What came of all tasks, one a row, and the measures at each look, shape (tasks, looks, 4).

    The tasks must be of one number of pairs. With two looks, begin and end, no measures are taken.
    """
    chunk, rows, seen = CHUNKS[len(problems()[tasks[0].problem].rho)], [], []
    for first in range(0, len(tasks), chunk):
        here = list(tasks[first : first + chunk])
        filled = [*here, *[here[-1]] * (chunk - len(here))]
        loop, run, limit = start(name, method, rule, filled, frozen)
        found, before = [], 0
        for update in looks:
            run = advance(loop, run, (update - before) // BLOCK)
            values, kernel = (np.asarray(x) for x in look(name, method.normalised, run.critics, run.problem))
            if len(looks) > 2:
                found.append([measures(problems()[task.problem], v, K) for task, v, K in zip(here, values, kernel, strict=False)])
            before = update
        seen.append(np.array(found).transpose(1, 0, 2) if found else np.zeros((len(here), 0, 4)))
        values = np.asarray(all_values(loop, run.critics, run.problem))
        for k, task in enumerate(here):
            problem = problems()[task.problem]
            largest, gone = np.abs(values[k]).max() / problem.bound, int(run.gone[k])
            gone = gone if gone >= 0 or largest <= MARK else int(run.update[k])
            error = np.abs(values[k, 0] - problem.truth).max() / np.abs(problem.truth).max()
            kept = {"gone": gone, "error": error if gone < 0 else np.inf, "largest": max(largest, float(run.largest[k]))}
            rows.append(task._asdict() | kept | {"time": float(run.time[k]) / limit[k]})
    return pd.DataFrame(rows), np.concatenate(seen)


# --- What the linear table says ---------------------------------------------------------------------------------------


def predict(name: str, method: str, where: str, seed: int, fraction: float) -> str:
    """The verdict of the cure's matrix with the kernel of birth and the policy that is greedy at birth; nothing for the least of two.

    A factor of the error beyond 1 by less than 1e-9 is no verdict of instability: a kernel has directions that hardly move.
    """
    if method == "least of two":
        return ""
    problem = problems()[where]
    values, K, limit = at_birth(name, METHODS[method].normalised, where, seed)
    seen = problem.rho > 0
    eigenvalues, vectors = np.linalg.eigh((K + K.T)[np.ix_(seen, seen)] / 2)
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0)) @ vectors.T
    P, n = greedy(problem, values)[np.ix_(seen, seen)], int(seen.sum())
    system = LinearTD(root, problem.rho[seen], P, problem.rewards.ravel()[seen], float(problem.discount))
    if method == "target, copied":
        factor = spectral_radius(cures.frozen_target_update(system, fraction * limit, COPIED_EVERY))
    elif method == "target, follows":
        factor = spectral_radius(cures.averaged_target_update(system, fraction * limit, RATE))
    else:
        if method == "PreQN":
            rng = np.random.default_rng([SEED, seed, list(problems()).index(where)])
            sets = np.zeros((N_DRAWN, n))
            np.put_along_axis(sets, rng.choice(n, (N_DRAWN, size(problem)), p=system.weighting), 1, axis=1)
            M = cures.preqn_matrix(system, sets)
        else:
            M = system.A + METHODS[method].decay * np.eye(n)
        # For small steps the least real part decides; here in units of the largest eigenvalue.
        spectrum = np.linalg.eigvals(M)
        factor = 1 - spectrum.real.min() / np.abs(spectrum).max()
    return "unstable" if factor > 1 + 1e-9 else "stable"


@cache
def at_birth(name: str, normalised: bool, where: str, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Values, kernel, and the constant step of fraction 1, before the first update."""
    problem, place = problems()[where], list(problems()).index(where)
    keys = jax.random.fold_in(jax.random.key(seed), place)[None]
    layers = jax.tree.map(lambda leaf: leaf[:, 0], born(int(problem.n_inputs), 1, keys))
    one = jax.tree.map(lambda leaf: np.asarray(leaf)[None], problem)
    values, kernel, limit = birth(name, normalised, size(problem), one, layers, keys)
    return np.asarray(values[0]), np.asarray(kernel[0]), float(limit[0])


# --- The study --------------------------------------------------------------------------------------------------------


def in_groups(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """The tasks by the number of pairs of their problem."""
    for n in CHUNKS:
        if group := [task for task in tasks if len(problems()[task.problem].rho) == n]:
            yield group


def tune(method: str, rule: str, seeds: Sequence[int] = TUNING_SEEDS, n_updates: int = N_UPDATES) -> pd.DataFrame:
    """Every value that is tried, one a row, and which is chosen."""
    low, high = LADDERS["PreQN" if method == "PreQN" else rule]
    wanted, table = range(low, high + 1), pd.DataFrame()
    while wanted:
        tasks = [Task(p, s, rung(k)) for p, s, k in itertools.product(TUNED_ON, seeds, wanted)]
        cells = itertools.product(ACTIVATIONS, in_groups(tasks))
        found = pd.concat([learn(a, METHODS[method], rule, group, looks=(0, n_updates))[0] for a, group in cells])
        found["left"] = found["gone"] >= 0
        by = found.groupby("step").agg(error=("error", "median"), left=("left", "mean"), runs=("error", "size")).reset_index()
        table = pd.concat([table, by], ignore_index=True).sort_values("step", ignore_index=True)
        best = int(table["error"].argmin())
        low, high = low - (best == 0), high + (best == len(table) - 1)
        wanted = [k for k in (low, high) if rung(k) not in set(table["step"])]
    table.insert(0, "method", method)
    table.insert(1, "rule", rule)
    table["chosen"] = table.index == best
    return table


def report(
    method: str, rule: str, step: float, fraction: float, seeds: Sequence[int] = REPORTING_SEEDS, n_updates: int = N_UPDATES
) -> tuple[pd.DataFrame, np.ndarray]:
    """All reported runs of a method and rule, with the prediction and, of those that left, whether they leave on the targets of birth."""
    looks, tables, kept = [look for look in LOOKS if look <= n_updates], [], []
    how = METHODS[method]
    for name, group in itertools.product(ACTIVATIONS, in_groups([Task(p, s, step) for p, s in itertools.product(REPORTED, seeds)])):
        table, seen = learn(name, how, rule, group, looks=looks)
        table.insert(0, "activation", name)
        again = [task for task, gone in zip(group, table["gone"], strict=True) if gone >= 0]
        table["gone, fixed"] = ""
        if again:
            fixed, _ = learn(name, how, rule, again, frozen=True, looks=(0, n_updates))
            table.loc[table["gone"] >= 0, "gone, fixed"] = [str(gone >= 0) for gone in fixed["gone"]]
        table["predicted"] = [predict(name, method, task.problem, task.seed, fraction) for task in group]
        tables.append(table)
        kept.append(seen)
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "method", method)
    table.insert(1, "rule", rule)
    return table, np.concatenate(kept)


def whole(path: Path, write: Any) -> None:
    """A file that is there whole or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    write(unfinished)
    os.replace(unfinished, path)


def main() -> None:
    """Tune, run, and write the results with their provenance."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    jax.config.update("jax_enable_x64", True)
    provenance, tuning, tables, kept = Provenance(), [], [], []
    for method in tqdm(METHODS):
        rules = ("PreQN",) if method == "PreQN" else RULES
        steps = {}
        for rule in rules:
            if rule != "constant":
                tuning.append(tune(method, rule))
                steps[rule] = float(tuning[-1].query("chosen")["step"].iloc[0])
        fraction = steps[rules[0]]
        for rule in rules:
            table, seen = report(method, rule, steps.get(rule, fraction), fraction)
            tables.append(table)
            kept.append(seen)
    tuned, table, arrays = pd.concat(tuning), pd.concat(tables), np.concatenate(kept).astype(np.float32)
    whole(RESULTS / "deep_cures_tuning.csv", lambda path: tuned.to_csv(path, index=False, float_format="%.5g"))
    whole(RESULTS / "deep_cures.csv", lambda path: table.to_csv(path, index=False, float_format="%.5g"))
    with open(RESULTS / "deep_cures.npz.unfinished", "wb") as file:
        np.savez_compressed(file, measures=arrays, looks=np.array(LOOKS))
    os.replace(RESULTS / "deep_cures.npz.unfinished", RESULTS / "deep_cures.npz")
    seeds = {"tuning_seeds": list(TUNING_SEEDS), "reporting_seeds": list(REPORTING_SEEDS)}
    provenance.write(RESULTS / "deep_cures.json", **seeds, updates=N_UPDATES, runs=len(table))


if __name__ == "__main__":
    main()
