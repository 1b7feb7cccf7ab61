r"""Diagonal and row ratio while networks learn from the committed transitions; and which of them tells at the start who will diverge.

Three activations times three architectures (`kernel_study.py`), two hidden layers of 64 with PyTorch's initialisation, on five tasks, with
raw and with normalised observations, five seeds each, in float32. The problem is Q-learning on 64 transitions of a random policy,

    theta' = theta + step J^T D (r + 0.99 max_k Q(s', a_k) - Q(s, a)),

where the maximum is over three actions that are drawn once for each transition, nothing bootstraps past an end, and D is 1/64. It is off
policy: the maximum follows other actions than the data. The step is 0.1 / (largest eigenvalue of K D at the start), a twentieth of the
largest one with which fixed targets are learned while the kernel stays as it is, so that all networks learn equally fast at first.
1000 updates. As a control every run is repeated with the targets of its start, which never change: what leaves there is not the doing of
bootstrapping. (With five times the step, on other seeds of one task, relu left within a hundred updates; that was all that was tried.)

Protocol, fixed before the runs: a run *left* if some |Q| passed max|r| / (1 - 0.99), which no true value can (or is not finite); else
it stayed. The candidates, computed before the first update: diagonal, row ratio and growth (`kernel_study.py`, here with the pairs that the
maximum chooses).

    python experiments/kernel_training.py         into results/kernel_training.csv, one row a run
"""

import importlib.util
import itertools
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from deadly_triad.networks import dense
from deadly_triad.ntk import kernel_factors
from deadly_triad_book.provenance import Provenance
from tqdm import tqdm

_SPEC = importlib.util.spec_from_file_location("kernel_study", Path(__file__).with_name("kernel_study.py"))
study = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(study)

RESULTS = Path(__file__).parent / "results"
SEEDS, N, CHOICES, HIDDEN, DISCOUNT = range(5), 64, 3, (64, 64), 0.99
N_UPDATES, EVERY, LOGGED = 1000, 100, (0, 100, 300, 1000)


@partial(jax.jit, static_argnums=(0, 1, 8))
def learn(architecture, name, layers, *rest):  # type: ignore[no-untyped-def]
    """All seeds at once."""
    *data, n_blocks = rest
    return jax.vmap(lambda p: learn_one(architecture, name, p, *data, n_blocks))(layers)


def learn_one(architecture, name, layers, pairs, ahead, rewards, ends, frozen, n_blocks):  # type: ignore[no-untyped-def]
    """Of one seed: the first kernel with the next pairs, largest |Q| and mean squared error at each update, measures every `EVERY`."""
    network = study.network(architecture, name)

    def kernel(layers, *more):  # type: ignore[no-untyped-def]
        return kernel_factors(network, layers, jnp.concatenate([pairs, *more])).kernel()

    def following(layers):  # type: ignore[no-untyped-def]
        return network(layers, ahead.reshape(N * CHOICES, -1), dense).reshape(N, CHOICES)

    def errors(layers):  # type: ignore[no-untyped-def]
        best = jnp.where(frozen, following(start), following(layers)).max(axis=1)
        return rewards + DISCOUNT * jnp.where(ends, 0, best) - network(layers, pairs, dense)

    start = layers
    chosen = following(layers).argmax(axis=1)
    both = kernel(layers, ahead[jnp.arange(N), chosen])
    first = both[:N, :N]
    step = 0.1 * N / jnp.linalg.eigvalsh(first)[-1]

    def update(layers, _):  # type: ignore[no-untyped-def]
        values, pull = jax.vjp(lambda p: network(p, pairs, dense), layers)
        delta = errors(layers)
        (direction,) = pull(delta / N)
        layers = jax.tree.map(lambda p, g: p + step * g, layers, direction)
        return layers, (jnp.max(jnp.abs(values)), jnp.mean(delta**2))

    def seen(layers):  # type: ignore[no-untyped-def]
        K = kernel(layers)
        own, sizes = jnp.diag(K), jnp.abs(K).sum(axis=1)
        return jnp.array([own.mean(), jnp.mean((sizes - own) / own) / N, jnp.sum(K * first) / jnp.linalg.norm(K) / jnp.linalg.norm(first)])

    def block(layers, _):  # type: ignore[no-untyped-def]
        layers, curve = jax.lax.scan(update, layers, length=EVERY)
        return layers, (curve, seen(layers))

    _, ((largest, squares), logs) = jax.lax.scan(block, layers, length=n_blocks)
    return both, largest.ravel(), squares.ravel(), jnp.concatenate([seen(layers)[None], logs])


def growth(both: np.ndarray, ends: np.ndarray) -> float:
    """Largest real part of an eigenvalue of K D (discount P - I), as a share of the largest eigenvalue of K D."""
    both = both.astype(float)
    M = both[:N, :N] - DISCOUNT * ~ends[:, None] * both[N:, :N]
    return float(np.linalg.eigvals(-M).real.max() / np.linalg.eigvalsh(both[:N, :N])[-1])


def runs(
    task: str, inputs: str, architecture: str, name: str, frozen: bool, seeds: range = SEEDS, n_blocks: int = N_UPDATES // EVERY
) -> pd.DataFrame:
    """One row a seed."""
    data = study.batch(task, inputs)
    pairs, rewards, ends = data["pairs"][:N], data["rewards"][:N], data["ends"][:N]
    n_actions = pairs.shape[1] - data["next_observations"].shape[1]
    # The box is symmetric in all five tasks; the data say how large it is.
    reach = np.abs(data["pairs"][:, -n_actions:]).max()
    actions = np.random.default_rng(study.TASKS.index(task)).uniform(-reach, reach, (N, CHOICES, n_actions)).astype(np.float32)
    ahead = np.concatenate([np.repeat(data["next_observations"][:N, None], CHOICES, axis=1), actions], axis=2)
    networks = [study.draw("pytorch", [pairs.shape[1], *HIDDEN, 1], seed) for seed in seeds]
    layers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)
    found = learn(architecture, name, layers, pairs, ahead, rewards, ends, frozen, n_blocks)
    both, largest, squares, logs = jax.device_get(found)
    bound = float(np.abs(rewards).max()) / (1 - DISCOUNT)
    rows = []
    for s, seed in enumerate(seeds):
        row: dict[str, object] = {
            "task": task,
            "inputs": inputs,
            "architecture": architecture,
            "activation": name,
            "targets": "fixed" if frozen else "moving",
            "seed": seed,
        }
        row["growth"] = growth(both[s], ends)
        for time in LOGGED[: 1 if not n_blocks else None]:
            diagonal, ratio, cosine = logs[s, time // EVERY]
            row |= {f"diagonal {time}": diagonal, f"row ratio {time}": ratio, f"cosine {time}": cosine}
        if n_blocks:
            peak = float(np.max(np.where(np.isfinite(largest[s]), largest[s], np.inf))) / bound
            row |= {"largest over bound": peak, "left": not peak <= 1, "error left": float(np.sqrt(squares[s][-1] / squares[s][0]))}
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Run all and write the results with their provenance."""
    provenance = Provenance()
    cells = list(itertools.product(study.TASKS, study.INPUTS, study.ARCHITECTURES, study.ACTIVATIONS, (False, True)))
    table = pd.concat([runs(*cell) for cell in tqdm(cells)], ignore_index=True)
    table.to_csv(RESULTS / "kernel_training.csv", index=False, float_format="%.5g")
    provenance.write(RESULTS / "kernel_training.json", seeds=list(SEEDS), updates=N_UPDATES, transitions=N, choices=CHOICES)


if __name__ == "__main__":
    main()
