r"""Which number, computed from the kernel at initialisation, tells best whether deep Q-learning will diverge?

Each problem is a random MDP of 8 states and 2 actions whose states lie at random points of a square of random size (side 1 to 8), random
data weights, a small MLP of random initialisation (PyTorch's, LeCun's or He's) that maps the point and the action to a value, and
expected Q-learning with the maximum,

    theta' = theta + step_size * J^T D_rho (T* Q - Q),    step_size = 0.5 / (largest eigenvalue of K D_rho at the start),

for 10,000 sweeps. It counts as diverged when a value passes ten times the bound max|r| / (1 - discount) on every true value, or is not
finite. The candidates are computed once, before the first sweep. Half of the problems, drawn at random, choose sign and threshold of
each candidate; the other half judges it.

    python experiments/which_scalar.py           all problems, into results/which_scalar.csv (about twenty minutes on one core)

The table of results has one row a problem; `results/which_scalar.json` says what ran, where and when.
"""

import argparse
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from deadly_triad.examples import random_mdp
from deadly_triad.kernel_updates import Coupling, theorem_2
from deadly_triad.mdp import MDP, deterministic_policy, optimal_action_values, pair_transitions
from deadly_triad.networks import dense, init_mlp, value_network
from deadly_triad.ntk import kernel_factors
from deadly_triad_book.provenance import Provenance
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
SEED = 20261122
N_STATES, N_ACTIONS = 8, 2
N_SWEEPS = 10_000
ACTIVATIONS, WIDTHS, DEPTHS = ("relu", "tanh", "sin"), (16, 64, 128), (1, 2)
DISCOUNTS, DRAWS = (0.5, 0.8, 0.9, 0.95, 0.99), 16
CELLS = list(itertools.product(ACTIVATIONS, WIDTHS, DEPTHS))


def problem(cell: int, discount: float, draw: int) -> tuple[MDP, np.ndarray, np.ndarray, np.random.Generator]:
    """MDP, inputs of its pairs, shape (16, 3), data weights, shape (16,), and the generator that goes on to draw the network."""
    rng = np.random.default_rng([SEED, cell, DISCOUNTS.index(discount), draw])
    mdp = random_mdp(rng, N_STATES, N_ACTIONS, discount=discount, branching=2)
    points = np.exp(rng.uniform(np.log(0.5), np.log(4))) * np.repeat(rng.uniform(-1, 1, (N_STATES, 2)), N_ACTIONS, axis=0)
    actions = np.tile([-1.0, 1.0], N_STATES)[:, None]
    weights = rng.dirichlet(np.full(N_STATES * N_ACTIONS, 2.0))
    return mdp, np.hstack([points, actions]), weights, rng


def candidates(
    mdp: MDP, kernel: np.ndarray, rho: np.ndarray, values: np.ndarray, step_size: float, rng: np.random.Generator
) -> dict[str, float]:
    """Everything that is asked to predict, by name."""
    n, discount = len(rho), mdp.discount
    seen = theorem_2(Coupling(kernel, rho), discount, step_size)
    ratios = Coupling(kernel, np.ones(n)).rows.ratios
    fastest = np.linalg.eigvalsh(np.sqrt(rho)[:, None] * kernel * np.sqrt(rho))[-1]

    def growth(actions: np.ndarray) -> float:
        """Largest real part of an eigenvalue of K D (gamma P - I), in units of the fastest rate of supervised learning."""
        P = pair_transitions(mdp, deterministic_policy(actions, N_ACTIONS))
        return float(np.linalg.eigvals(kernel * rho @ (discount * P - np.eye(n))).real.max() / fastest)

    def one_transition(actions: np.ndarray) -> float:
        """How much an update is expected to raise its own target, in units of its own value, at worst."""
        P = pair_transitions(mdp, deterministic_policy(actions, N_ACTIONS))
        return float(np.max(discount * np.einsum("ij,ji->i", P, kernel) / np.diag(kernel)))

    greedy, best = values.argmax(axis=1), optimal_action_values(mdp).argmax(axis=1)
    P = pair_transitions(mdp, deterministic_policy(greedy, N_ACTIONS))
    G = rho[:, None] * (np.eye(n) - discount * P)
    return {
        "row ratio, mean": float(ratios.mean()),
        "row ratio, largest": float(ratios.max()),
        "condition (17), worst row": float(np.max((1 + discount) * seen.rows.others / ((1 - discount) * seen.rows.own))),
        "beta(K)": seen.modulus,
        "spectrum, greedy policy": growth(greedy),
        "spectrum, optimal policy": growth(best),
        "spectrum, worst of 30 policies": max(growth(rng.integers(0, N_ACTIONS, N_STATES)) for _ in range(30)),
        "one transition, greedy policy": one_transition(greedy),
        "condition number of K": float(np.linalg.cond(kernel)),
        "key matrix alone (no K)": -float(np.linalg.eigvalsh(G + G.T)[0]),
        "discount alone": discount,
    }


def run_cell(cell: int, discounts: tuple[float, ...] = DISCOUNTS, draws: int = DRAWS, n_sweeps: int = N_SWEEPS) -> pd.DataFrame:
    """All problems of one network make: candidates and fate, one row a problem."""
    activation, width, depth = CELLS[cell]
    network = value_network(activation)
    rows, stacked = [], []
    for discount, draw in itertools.product(discounts, range(draws)):
        mdp, inputs, rho, rng = problem(cell, discount, draw)
        key = jax.random.key(int(rng.integers(2**31)))
        initialisation = ("pytorch", "lecun", "he")[int(rng.integers(3))]
        layers = init_mlp(key, [3, *[width] * depth, 1], initialisation)
        factors = kernel_factors(network, layers, jnp.asarray(inputs))
        kernel = np.asarray(factors.kernel())
        kernel = (kernel + kernel.T) / 2
        step_size = float(0.5 / np.linalg.eigvalsh(np.sqrt(rho)[:, None] * kernel * np.sqrt(rho))[-1])
        values = np.asarray(factors.Q).reshape(N_STATES, N_ACTIONS)
        made = {
            "activation": activation,
            "width": width,
            "depth": depth,
            "discount": discount,
            "draw": draw,
            "initialisation": initialisation,
        }
        rows.append(made | candidates(mdp, kernel, rho, values, step_size, rng))
        bound = float(np.abs(mdp.rewards).max() / (1 - discount))
        exact = optimal_action_values(mdp).ravel()
        stacked.append((layers, mdp.transitions, mdp.rewards, discount, inputs, rho, step_size, bound, exact))

    def fate(layers, transitions, rewards, discount, inputs, rho, step_size, bound, exact):  # type: ignore[no-untyped-def]
        def sweep(carry, _):  # type: ignore[no-untyped-def]
            layers, diverged = carry
            values, pull = jax.vjp(lambda p: network(p, inputs, dense), layers)
            best = values.reshape(N_STATES, N_ACTIONS).max(axis=1)
            errors = (rewards + discount * transitions @ best).ravel() - values
            diverged |= ~(jnp.max(jnp.abs(values)) <= 10 * bound)
            (direction,) = pull(rho * errors)
            # A run that has diverged is held where it is.
            layers = jax.tree.map(lambda p, g: jnp.where(diverged, p, p + step_size * g), layers, direction)
            return (layers, diverged), jnp.max(jnp.abs(values - exact))

        (layers, diverged), errors = jax.lax.scan(sweep, (layers, jnp.array(False)), None, length=n_sweeps)
        return diverged, errors[-1] / errors[0], jnp.max(errors) / errors[0]

    columns = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *stacked)
    diverged, left, largest = jax.jit(jax.vmap(fate))(*columns)
    table = pd.DataFrame(rows)
    table["diverged"] = np.asarray(diverged)
    table["error, last over first"], table["error, largest over first"] = np.asarray(left), np.asarray(largest)
    return table


def main() -> None:
    """Run every cell and write the results with their provenance."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    jax.config.update("jax_enable_x64", True)
    provenance = Provenance()
    table = pd.concat([run_cell(cell) for cell in tqdm(range(len(CELLS)))], ignore_index=True)
    rng = np.random.default_rng(SEED)
    table["half"] = np.where(rng.permutation(len(table)) % 2 == 0, "choose", "judge")
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "which_scalar.csv", index=False, float_format="%.9g")
    provenance.write(RESULTS / "which_scalar.json", seed=SEED, problems=len(table), sweeps=N_SWEEPS)


if __name__ == "__main__":
    main()
