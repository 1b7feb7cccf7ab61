r"""Which part of PreQN does what on the corridor: the preconditioner or the line search?

Protocol, written before the runs. The problem and the network are those of `preqn_chain` (20 pairs, |Q*| = 20, two layers of 64, float64).
Four rules: with and without the preconditioner, with and without the line search; "without" is a threshold of -1, which every finite step
passes.

- With the preconditioner: the package's defaults (step 0.1, shift 1e-4, ten backtracks) and the settings of the chapter's stall (step 0.3,
  shift 1e-4, forty backtracks), each with the thresholds -1, 0.5, 0.7, 0.9 and 0.97.
- Without it: steps of 0.001, 0.003, 0.01 and 0.03 (times the sum of the errors' gradients), each with the thresholds -1, 0.5 and 0.9, ten
  backtracks. A reader may take the best step of each threshold: that favours these rules, which is what a rival should be.

Each with relu, tanh and sin, on all 20 pairs at every update and on 10 random ones, 1000 updates, the seeds 200 to 209, which no other
experiment uses. A row is one seed: the largest error after the last update (infinity if it left the numbers), the share of updates that
were accepted, and how many of the last 100 were. A run has **learned** if its error ends below 1, a twentieth of the largest true value; it
has **stalled** if none of the last 100 updates was accepted. All rows are reported.

    python experiments/preqn_search.py            into results/preqn_search.csv
"""

import itertools
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from deadly_triad import preqn
from deadly_triad.examples import chain
from deadly_triad.mdp import optimal_action_values
from deadly_triad.networks import dense, init_mlp, value_network
from deadly_triad.preqn import Settings
from deadly_triad_book.provenance import Provenance
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
ACTIVATIONS, BATCHES = ("relu", "tanh", "sin"), (20, 10)
N_UPDATES, SEEDS = 1000, range(200, 210)
PRECONDITIONED = {"default": Settings(), "long": Settings(step_size=0.3, max_backtracks=40)}
PLAIN = {f"step {step}": Settings(step_size=step) for step in (0.001, 0.003, 0.01, 0.03)}
# What each rule is tried with: settings by name, and thresholds.
RULES = {"preconditioned": (PRECONDITIONED, (-1.0, 0.5, 0.7, 0.9, 0.97)), "plain": (PLAIN, (-1.0, 0.5, 0.9))}
STEPS = {"preconditioned": preqn.step, "plain": preqn.semi_gradient_step}

CORRIDOR = chain(10, 0.95)
INPUTS = np.column_stack([np.repeat(np.linspace(0, 5, 10), 2), np.tile([-1.0, 1.0], 10)])
EXACT = optimal_action_values(CORRIDOR).ravel()


@partial(jax.jit, static_argnames=("rule", "activation", "batch", "n_updates"))
def learn(rule: str, activation: str, batch: int, settings: Settings, key: jax.Array, n_updates: int) -> tuple[jax.Array, jax.Array]:
    """Largest error at the end, and which updates were accepted."""
    network, step = value_network(activation), STEPS[rule]
    start_key, batch_key = jax.random.split(key)
    inputs, transitions = jnp.asarray(INPUTS), jnp.asarray(CORRIDOR.transitions)

    def update(state: preqn.State, key: jax.Array) -> tuple[preqn.State, jax.Array]:
        ahead = network(state.parameters, inputs, dense).reshape(CORRIDOR.rewards.shape).max(axis=1)
        targets = (CORRIDOR.rewards + CORRIDOR.discount * transitions @ ahead).ravel()
        chosen = jax.random.permutation(key, len(inputs))[:batch]
        state, report = step(network, state, inputs[chosen], targets[chosen], settings)
        return state, report.accepted

    state = preqn.init(init_mlp(start_key, [2, 64, 64, 1]))
    state, accepted = jax.lax.scan(update, state, jax.random.split(batch_key, n_updates))
    worst = jnp.max(jnp.abs(network(state.parameters, inputs, dense) - EXACT))
    return jnp.where(jnp.isfinite(worst), worst, jnp.inf), accepted


def outcomes(rule: str, activation: str, batch: int, name: str, n_updates: int = N_UPDATES, seeds: range = SEEDS) -> pd.DataFrame:
    """One row a threshold and seed."""
    settings, thresholds = RULES[rule]
    keys = jax.vmap(jax.random.key)(jnp.asarray(list(seeds)))
    rows = []
    for threshold in thresholds:
        one = settings[name]._replace(alignment=threshold)
        errors, accepted = jax.vmap(partial(learn, rule, activation, batch, one, n_updates=n_updates))(keys)
        made = {"rule": rule, "activation": activation, "batch": batch, "settings": name, "threshold": threshold}
        shares, late = accepted.mean(axis=1), accepted[:, -100:].sum(axis=1)
        rows += [
            {**made, "seed": seed, "error": float(error), "accepted": float(share), "late": int(n)}
            for seed, error, share, n in zip(seeds, errors, shares, late, strict=True)
        ]
    return pd.DataFrame(rows)


def main() -> None:
    """Run all and write the results with their provenance."""
    jax.config.update("jax_enable_x64", True)
    provenance = Provenance()
    cells = [(r, a, b, n) for (r, (settings, _)), a, b in itertools.product(RULES.items(), ACTIVATIONS, BATCHES) for n in settings]
    table = pd.concat([outcomes(*cell) for cell in tqdm(cells)], ignore_index=True)
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "preqn_search.csv", index=False, float_format="%.6g")
    provenance.write(RESULTS / "preqn_search.json", seeds=list(SEEDS), updates=N_UPDATES)


if __name__ == "__main__":
    main()
