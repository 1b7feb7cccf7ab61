r"""PreQN beside plain Q-learning, Adam, and both with target networks, on a problem whose Q* is known.

The problem is a corridor of 10 states on the interval [0, 5] with two actions, discount 0.95 and |Q*| = 20; the network is an MLP with two
hidden layers of 64 that maps position and action (-1 or 1) to a value. Each update uses 10 of the 20 pairs, drawn at random, with their
expected targets, so that the only noise is which pairs are used. Every method has 2000 updates and the same tuning: nine settings and
what the rule below adds to them, tried on three tuning seeds; the best of them (least median of the last error; a run that leaves the
numbers counts as infinitely bad) run on ten other seeds. Only the latter are reported.

An earlier version of this experiment gave every method four settings, with PreQN's step fixed at 0.3, which was known to work, and the best
setting of Adam with a target network at the corner of its grid. Therefore the nine here, written before they were run: one dial is tried on
nine values half a decade apart, two dials on three values each, around what was best before. "PreQN, no search" is PreQN that accepts every
finite step.

2026-11-29, before the run that it describes: with the nine settings four of six choices with a target network were the fastest rate on
offer, and several of PreQN's lay at an edge, too. So the nine are now a beginning, by one rule for every method: the neighbours of the best
setting on each of its dials, one rung up and one down with the other dials as they are, are tried as well, again and again until the best
has no neighbour that was not tried. Rungs are half a decade apart (shifts a decade; for a threshold it is 1 - eta that has the rungs).
Ladders end far outside the nine, but for two that have a natural end: a rate of 1, which is no target network, and a threshold of 0.
Errors below 1e-9 are rounding and count as equal; of equals the one tried first is chosen. Tuning and reporting seeds are what they were.
The chapter says how many settings each method had, and whether a choice lies at a natural end.

    python experiments/preqn_chain.py            into results/preqn_chain.csv and results/preqn_chain_tuning.csv
"""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from deadly_triad.agents import SGD, Adam, PreQN, Rule
from deadly_triad.examples import chain
from deadly_triad.mdp import optimal_action_values
from deadly_triad.networks import dense, init_mlp, value_network
from deadly_triad.preqn import Settings
from deadly_triad_book.provenance import Provenance
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
ACTIVATIONS = ("relu", "tanh", "sin")
N_UPDATES, KEEP_EVERY, BATCH = 2000, 40, 10
TUNING_SEEDS, REPORTING_SEEDS = range(3), range(100, 110)
FLOOR = 1e-9  # errors below are rounding


def ladder(first: int, last: int) -> list[float]:
    """Half a decade a rung, from 10^(first / 2) to 10^(last / 2)."""
    return [float(f"{10 ** (k / 2):.2g}") for k in range(first, last + 1)]


class Method(NamedTuple):
    """A way to learn.

    Attributes:
        dials: the rungs of each.
        make: from their values to a rule and the rate of the target network; 1 is no target network.
        first: the nine settings that are tried first.
    """

    dials: dict[str, list[float]]
    make: Callable[..., tuple[Rule, float]]
    first: list[tuple[float, ...]]


STEPS, RATES, ETAS = ladder(-14, 4), ladder(-10, 0), [0.0, 0.68, 0.9, 0.97, 0.99, 0.997, 0.999]
SHIFTS = [float(f"1e{k}") for k in range(-12, 3)]
FAST, SQUARE = (0.032, 0.1, 0.32), itertools.product  # three rates of a target network; three values of each of two dials
METHODS = {
    "SGD": Method({"step": STEPS}, lambda step: (SGD(step), 1.0), [(a,) for a in ladder(-8, 0)]),
    "Adam": Method({"step": STEPS}, lambda step: (Adam(step), 1.0), [(a,) for a in ladder(-10, -2)]),
    "SGD, target network": Method({"step": STEPS, "rate": RATES}, lambda step, rate: (SGD(step), rate), [*SQUARE(FAST, FAST)]),
    "Adam, target network": Method(
        {"step": STEPS, "rate": RATES}, lambda step, rate: (Adam(step), rate), [*SQUARE((0.0032, 0.01, 0.032), FAST)]
    ),
    "PreQN": Method(
        {"step": STEPS, "eta": ETAS, "shift": SHIFTS},
        lambda step, eta, shift: (PreQN(Settings(step_size=step, alignment=eta, shift=shift)), 1.0),
        [(a, *rest) for a, rest in SQUARE((0.1, 0.32, 1.0), ((0.9, 1e-3), (0.9, 1e-4), (0.97, 1e-4)))],
    ),
    "PreQN, no search": Method(
        {"step": STEPS, "shift": SHIFTS},
        lambda step, shift: (PreQN(Settings(step_size=step, alignment=-1.0, shift=shift)), 1.0),
        [*SQUARE((0.1, 0.32, 1.0), (1e-3, 1e-4, 1e-5))],
    ),
}

CORRIDOR = chain(10, 0.95)
INPUTS = np.column_stack([np.repeat(np.linspace(0, 5, 10), 2), np.tile([-1.0, 1.0], 10)])
EXACT = optimal_action_values(CORRIDOR).ravel()


@partial(jax.jit, static_argnames="activation")
def learn(activation: str, critic: Rule, target_rate: float, key: jax.Array) -> jax.Array:
    """Largest error of the values after every `KEEP_EVERY` updates, from 0 updates on."""
    network = value_network(activation)
    start_key, batch_key = jax.random.split(key)
    layers = init_mlp(start_key, [2, 64, 64, 1])
    inputs, exact = jnp.asarray(INPUTS), jnp.asarray(EXACT)
    transitions, rewards = jnp.asarray(CORRIDOR.transitions), jnp.asarray(CORRIDOR.rewards)

    def error(parameters):  # type: ignore[no-untyped-def]
        worst = jnp.max(jnp.abs(network(parameters, inputs, dense) - exact))
        return jnp.where(jnp.isfinite(worst), worst, jnp.inf)

    def update(carry, key):  # type: ignore[no-untyped-def]
        parameters, target, state = carry
        ahead = network(target, inputs, dense).reshape(rewards.shape).max(axis=1)
        targets = (rewards + CORRIDOR.discount * transitions @ ahead).ravel()
        batch = jax.random.permutation(key, len(inputs))[:BATCH]
        parameters, state, *_ = critic.step(network, parameters, state, inputs[batch], targets[batch])
        target = jax.tree.map(lambda old, new: old + target_rate * (new - old), target, parameters)
        return (parameters, target, state), None

    def block(carry, keys):  # type: ignore[no-untyped-def]
        carry, _ = jax.lax.scan(update, carry, keys)
        return carry, error(carry[0])

    keys = jax.random.split(batch_key, (N_UPDATES // KEEP_EVERY, KEEP_EVERY))
    _, errors = jax.lax.scan(block, (layers, layers, critic.init(layers)), keys)
    return jnp.concatenate([error(layers)[None], errors])


def runs(activation: str, setting: tuple[Rule, float], seeds: range) -> np.ndarray:
    """Errors of several seeds, shape (seeds, times)."""
    return np.asarray(jax.vmap(partial(learn, activation, *setting))(jax.vmap(jax.random.key)(jnp.asarray(list(seeds)))))


def neighbours(method: Method, values: tuple[float, ...]) -> list[tuple[float, ...]]:
    """The settings one rung up or down on one dial."""
    found = []
    for k, rungs in enumerate(method.dials.values()):
        at = rungs.index(values[k])
        found += [(*values[:k], rung, *values[k + 1 :]) for rung in (*rungs[max(at - 1, 0) : at], *rungs[at + 1 : at + 2])]
    return found


def tune(method: Method, error: Callable[[tuple[float, ...]], float]) -> tuple[dict[tuple[float, ...], float], tuple[float, ...]]:
    """The errors of all that was tried, and the best: the first settings, then neighbours of the best until it has none untried."""
    tried, wanted = {}, method.first
    while wanted:
        tried |= {values: error(values) for values in wanted}
        best = min(tried, key=lambda values: max(tried[values], FLOOR))
        wanted = [values for values in neighbours(method, best) if values not in tried]
    return tried, best


def named(method: Method, values: tuple[float, ...]) -> str:
    """A setting as the tables call it."""
    return ", ".join(f"{dial} {value}" for dial, value in zip(method.dials, values, strict=True))


def main() -> None:
    """Tune, run, and write the results with their provenance."""
    jax.config.update("jax_enable_x64", True)
    provenance, tuning, reported = Provenance(), [], []
    for activation, (name, method) in tqdm(list(itertools.product(ACTIVATIONS, METHODS.items()))):

        def error(values: tuple[float, ...], activation: str = activation, method: Method = method) -> float:
            return float(np.median(runs(activation, method.make(*values), TUNING_SEEDS)[:, -1]))

        tried, chosen = tune(method, error)
        tuning += [
            {
                "activation": activation,
                "method": name,
                "setting": named(method, values),
                "median last error": last,
                "chosen": values == chosen,
            }
            for values, last in tried.items()
        ]
        for seed, errors in zip(REPORTING_SEEDS, runs(activation, method.make(*chosen), REPORTING_SEEDS), strict=True):
            updates = KEEP_EVERY * np.arange(len(errors))
            reported += [
                {"activation": activation, "method": name, "seed": seed, "update": u, "error": e}
                for u, e in zip(updates, errors, strict=True)
            ]
    RESULTS.mkdir(exist_ok=True)
    pd.DataFrame(tuning).to_csv(RESULTS / "preqn_chain_tuning.csv", index=False, float_format="%.6g")
    pd.DataFrame(reported).to_csv(RESULTS / "preqn_chain.csv", index=False, float_format="%.6g")
    provenance.write(
        RESULTS / "preqn_chain.json", tuning_seeds=list(TUNING_SEEDS), reporting_seeds=list(REPORTING_SEEDS), updates=N_UPDATES
    )


if __name__ == "__main__":
    main()
