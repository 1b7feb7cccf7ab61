r"""The paper's architecture study: mean diagonal and row ratio of the kernel at initialisation, on five tasks, and which claims hold.

A *cell* is a task, raw or normalised observations, an initialisation, an architecture, an activation, a width and a depth (hidden layers).
In each, ten networks are drawn; seeds are shared by all cells of one shape, so that two activations, or raw and normalised inputs, are
compared on the same weights. Computed are, on 256 of the committed pairs of a random policy (`random_pairs.py`), in float32,

- the mean of K's diagonal;
- the mean row ratio R_i = (1/N) sum_{j != i} |K_ij| / K_ii;
- on the first 64 transitions the growth: the largest real part of an eigenvalue of K D (discount P - I), as a share of the largest
  eigenvalue of K D, with the random policy's own next actions and discount 0.99. Above 0 some error of the batch grows at first.

The architectures: "plain", an MLP; "layernorm", the same with each sample's pre-activations brought to mean 0 and variance 1 in every
hidden layer (no learned scale); "residual", in which every hidden layer but the first adds to its input. "normalised" observations have
mean 0 and variance 1 over the 1000 pairs of the task; one that does not vary becomes 0. Actions stay as they are.

Protocol, fixed before the runs. Every claim is asked in every cell about the mean over seeds of a logarithm, with Student's 95 % interval:

- *relu, diagonal*, and *relu, row ratio*: relu's over the larger of the other two is above 1 (a cell: task, width, depth);
- *sin, row ratio*: sin's over the smaller of the other two is below 1;
- *sin, off-diagonals*: the same for the mean of |K_ij|, j != i;
- *diagonal grows with width* (slope per doubling above 0; a cell: task, activation, depth), *falls with depth* (slope per layer below 0; a
  cell: task, activation, width), *row ratio grows with depth*;
- *row ratio, no trend in width*: the whole interval of the slope per doubling lies within log 1.05 of 0.

A cell says "yes" if its interval lies on the claimed side, "no" if it lies on the other, else "open". A claim *holds* under an
initialisation and a normalisation if at least 95 % of its cells say yes, *fails* if at least half say no, else it holds *in part*.

    python experiments/kernel_study.py            the measures into results/kernel_study.npz, the verdicts into kernel_study.csv
    python experiments/kernel_study.py --judge    the verdicts again, from the measures
"""

import argparse
import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from deadly_triad.networks import INITIALISATIONS, Dense, activation, init_mlp
from deadly_triad_book.provenance import Provenance
from scipy.special import stdtrit
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
TASKS = ("Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Swimmer-v5", "Walker2d-v5")
INPUTS = ("raw", "normalised")
ARCHITECTURES = ("plain", "layernorm", "residual")
# How the network is made: an initialisation of the plain MLP, or one of the other architectures, which start as PyTorch's does.
MAKES = ("pytorch", "glorot", "he", "lecun", "layernorm", "residual")
ACTIVATIONS = ("relu", "tanh", "sin")
WIDTHS, DEPTHS, SEEDS = (32, 64, 128, 256, 512), (1, 2, 3, 4), range(10)
MEASURES = ("diagonal", "row_ratio", "off_diagonal", "growth")
N_PAIRS, N_TRANSITIONS, DISCOUNT, EPSILON = 256, 64, 0.99, 1e-5
Layers = list[Dense]

_SHAPES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sin": (np.sin, np.cos),
}
"""Each activation and its derivative."""


# --- The networks, in JAX for training and for the test that both routes agree ------------------------------------------


@cache
def network(architecture: str, name: str):  # type: ignore[no-untyped-def]
    """The value network of that architecture and activation, in the form of `deadly_triad.networks`."""
    activate = activation(name)

    def values(layers, inputs, hook):  # type: ignore[no-untyped-def]
        a = inputs
        for i, layer in enumerate(layers[:-1]):
            z = hook(layer, a)
            if architecture == "layernorm":
                z = z - z.mean(axis=1, keepdims=True)
                z = z / jnp.sqrt((z * z).mean(axis=1, keepdims=True) + EPSILON)
            a = a + activate(z) if architecture == "residual" and i else activate(z)
        return hook(layers[-1], a)[:, 0]

    return values


# --- The kernel, in NumPy: JAX would compile each of the shapes -------------------------------------------------------


def factors(architecture: str, name: str, layers: Layers, inputs: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What enters each layer, and the gradients of each sample's value in what leaves it."""
    f, slope = _SHAPES[name]
    entered, kept, a = [], [], inputs
    for i, layer in enumerate(layers[:-1]):
        entered.append(a)
        z, deviation = a @ layer.weight + layer.bias, None
        if architecture == "layernorm":
            z = z - z.mean(axis=1, keepdims=True)
            deviation = np.sqrt((z * z).mean(axis=1, keepdims=True) + EPSILON)
            z = z / deviation
        out = f(z)
        kept.append((slope(z), z, deviation))
        a = a + out if architecture == "residual" and i else out
    entered.append(a)
    gradients = [np.ones((len(inputs), 1), inputs.dtype)]
    back = np.broadcast_to(layers[-1].weight[:, 0], a.shape)
    for i in reversed(range(len(layers) - 1)):
        steep, z, deviation = kept[i]
        g = back * steep
        if deviation is not None:
            g = (g - g.mean(axis=1, keepdims=True) - z * (g * z).mean(axis=1, keepdims=True)) / deviation
        gradients.insert(0, g)
        if i:
            back = back + g @ layers[i].weight.T if architecture == "residual" else g @ layers[i].weight.T
    return entered, gradients


def kernel(architecture: str, name: str, layers: Layers, here: np.ndarray, there: np.ndarray | None = None) -> np.ndarray:
    """The kernel between two batches, the same one by default."""
    A, G = factors(architecture, name, layers, here)
    B, H = (A, G) if there is None else factors(architecture, name, layers, there)
    return sum((a @ b.T + 1) * (g @ h.T) for a, b, g, h in zip(A, B, G, H, strict=True))


def measures(architecture: str, name: str, layers: Layers, pairs: np.ndarray, ahead: np.ndarray, ends: np.ndarray) -> tuple[float, ...]:
    """`MEASURES` of the kernel on `pairs`, of which the first ones bootstrap from `ahead` unless the episode `ends`."""
    K, n, m = kernel(architecture, name, layers, pairs), len(pairs), len(ahead)
    own, sizes = np.diag(K).astype(float), np.abs(K).sum(axis=1).astype(float)
    across = kernel(architecture, name, layers, ahead, pairs[:m])
    M = K[:m, :m] - DISCOUNT * ~ends[:, None] * across
    return (
        own.mean(),
        np.mean((sizes - own) / own) / n,
        (sizes - own).sum() / (n * (n - 1)),
        np.linalg.eigvals(-M).real.max() / np.linalg.eigvalsh(K[:m, :m])[-1],
    )


# --- The data and the cells -------------------------------------------------------------------------------------------


@cache
def batch(task: str, inputs: str) -> dict[str, np.ndarray]:
    """Pairs and next pairs of a task, shape (1000, d), rewards and ends, in an order that has nothing to do with time."""
    with np.load(RESULTS / "random_pairs.npz") as file:
        found = {
            name: file[f"{task}/{name}"] for name in ("observations", "actions", "rewards", "next_observations", "next_actions", "ends")
        }
    here, ahead = found["observations"].astype(np.float32), found["next_observations"].astype(np.float32)
    if inputs == "normalised":
        mean, spread = here.mean(axis=0), here.std(axis=0)
        varies = spread > 1e-6
        here, ahead = (np.where(varies, (x - mean) / np.where(varies, spread, 1), 0).astype(np.float32) for x in (here, ahead))
    order = np.random.default_rng(0).permutation(len(here))
    return {
        "pairs": np.hstack([here, found["actions"].astype(np.float32)])[order],
        "ahead": np.hstack([ahead, found["next_actions"].astype(np.float32)])[order],
        "next_observations": ahead[order],
        "rewards": found["rewards"][order],
        "ends": found["ends"][order],
    }


def draw(initialisation: str, sizes: list[int], seed: int) -> Layers:
    """The network of a seed, as NumPy arrays in float32."""
    return jax.device_get(init_mlp(jax.random.key(seed), sizes, initialisation, dtype=jnp.float32))


def run_shape(task: str, width: int, depth: int, seeds: range = SEEDS) -> np.ndarray:
    """All cells of one task and shape: `MEASURES` for inputs, makes, activations and seeds, shape (2, 6, 3, seeds, 4)."""
    n_inputs = batch(task, "raw")["pairs"].shape[1]
    found = np.empty((len(INPUTS), len(MAKES), len(ACTIVATIONS), len(seeds), len(MEASURES)), np.float32)
    for (m, make), (s, seed) in itertools.product(enumerate(MAKES), enumerate(seeds)):
        architecture, initialisation = ("plain", make) if make in INITIALISATIONS else (make, "pytorch")
        layers = draw(initialisation, [n_inputs, *[width] * depth, 1], seed)
        for (i, inputs), (a, name) in itertools.product(enumerate(INPUTS), enumerate(ACTIVATIONS)):
            data = batch(task, inputs)
            ahead, ends = data["ahead"][:N_TRANSITIONS], data["ends"][:N_TRANSITIONS]
            found[i, m, a, s] = measures(architecture, name, layers, data["pairs"][:N_PAIRS], ahead, ends)
    return found


# --- The claims --------------------------------------------------------------------------------------------------------

MARGIN = np.log(1.05)
CLAIMS = (
    "relu has the largest diagonal",
    "relu has the largest row ratio",
    "sin has the smallest off-diagonals",
    "sin has the smallest row ratio",
    "the diagonal grows with width",
    "the diagonal falls with depth",
    "the row ratio grows with depth",
    "the row ratio has no trend in width",
)


def evidence(found: np.ndarray, claim: str) -> np.ndarray:
    """The number that a claim is about, one row a cell and one column a seed.

    Args:
        found: measures of one make and kind of inputs, shape (tasks, activations, widths, depths, seeds, measures).
        claim: one of `CLAIMS`.
    """
    quantity = next(i for word, i in {"off-diagonal": 2, "row ratio": 1, "diagonal": 0}.items() if word in claim)
    logs = np.log(found[..., quantity].astype(float))
    if "est " in claim:
        relu, tanh, sin = np.moveaxis(logs, 1, 0)
        value = relu - np.maximum(tanh, sin) if "relu" in claim else np.minimum(relu, tanh) - sin
    else:
        axis, x = (2, np.log2(WIDTHS)) if "width" in claim else (3, np.array(DEPTHS, float))
        slope = np.moveaxis(logs, axis, -1) @ (x - x.mean()) / np.sum((x - x.mean()) ** 2)
        value = -slope if "falls" in claim else slope
    return value.reshape(-1, value.shape[-1])


def intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Student's 95 % interval for the mean over the last axis."""
    n = values.shape[-1]
    mean, reach = values.mean(axis=-1), stdtrit(n - 1, 0.975) * values.std(axis=-1, ddof=1) / np.sqrt(n)
    return mean - reach, mean + reach


def counts(found: np.ndarray, claim: str) -> tuple[int, int, int]:
    """How many cells say yes, say no, and there are."""
    low, high = intervals(evidence(found, claim))
    if "no trend" in claim:
        yes, no = (low > -MARGIN) & (high < MARGIN), (low > MARGIN) | (high < -MARGIN)
    else:
        yes, no = low > 0, high < 0
    return int(yes.sum()), int(no.sum()), len(low)


def verdict(yes: int, no: int, cells: int) -> str:
    """What is said of a claim."""
    if yes >= 0.95 * cells:
        return "holds"
    return "fails" if no >= 0.5 * cells else "in part"


def judge(found: np.ndarray) -> pd.DataFrame:
    """Every claim under every make and kind of inputs."""
    rows = []
    for (m, make), (i, inputs), claim in itertools.product(enumerate(MAKES), enumerate(INPUTS), CLAIMS):
        yes, no, cells = counts(found[:, i, m], claim)
        rows.append(
            {"make": make, "inputs": inputs, "claim": claim, "yes": yes, "no": no, "cells": cells, "verdict": verdict(yes, no, cells)}
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Run every cell, judge every claim, and write both with their provenance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", action="store_true", help="only judge the measures that are there")
    if parser.parse_args().judge:
        with np.load(RESULTS / "kernel_study.npz") as file:
            judge(file["measures"]).to_csv(RESULTS / "kernel_study.csv", index=False)
        return
    provenance = Provenance()
    shapes = list(itertools.product(TASKS, WIDTHS, DEPTHS))
    found = np.stack([run_shape(*shape) for shape in tqdm(shapes)])
    # Axes: task, inputs, make, activation, width, depth, seed, measure.
    found = np.moveaxis(found.reshape(len(TASKS), len(WIDTHS), len(DEPTHS), *found.shape[1:]), (1, 2), (4, 5))
    RESULTS.mkdir(exist_ok=True)
    np.savez_compressed(RESULTS / "kernel_study.npz", measures=found)
    judge(found).to_csv(RESULTS / "kernel_study.csv", index=False)
    axes = {
        "task": TASKS, "inputs": INPUTS, "make": MAKES, "activation": ACTIVATIONS, "width": WIDTHS, "depth": DEPTHS,
        "seed": list(SEEDS), "measure": MEASURES,
    }  # fmt: skip
    provenance.write(RESULTS / "kernel_study.json", axes=axes, pairs=N_PAIRS, transitions=N_TRANSITIONS, discount=DISCOUNT)


if __name__ == "__main__":
    main()
