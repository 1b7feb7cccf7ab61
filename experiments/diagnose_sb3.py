r"""A DQN of stable-baselines3 that leaves the range of its rewards, and the same one mended: what the last chapter walks through.

    PYTHONPATH=lib _build/torch/bin/python experiments/diagnose_sb3.py

It needs stable-baselines3 (`make adapters` makes an environment that has it). CartPole-v1; settings of the library but for a step size of
3e-3, an update a step from step 500 on, and how often the target network is renewed: after every update, which is to have none, or after
every 500 steps. Every 100 steps the largest |Q| of a thousand transitions is kept. Weights, and what `from_sb3` makes of the first agent of
each kind after 600 steps and at the end, go into `results/diagnose_sb3.npz`: the chapter needs no PyTorch.
"""

import csv
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from deadly_triad.adapters import from_sb3
from deadly_triad.adapters.sb3 import read_buffer
from deadly_triad.networks import dense
from deadly_triad_book.provenance import Provenance
from stable_baselines3 import DQN

RESULTS = Path(__file__).parent / "results"
INTERVALS = {"without": 1, "with": 500}
SEEDS = (0, 1, 2)
STEPS, EVERY, EARLY, STEP_SIZE = 3000, 100, 600, 3e-3


def train(interval: int, seed: int) -> tuple[dict[str, dict[str, np.ndarray]], list[dict[str, Any]]]:
    """What is kept of an agent early and late, and the largest |Q| on the way."""
    agent = DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=STEP_SIZE,
        learning_starts=500,
        train_freq=1,
        target_update_interval=interval,
        exploration_fraction=0.5,
        policy_kwargs={"net_arch": [64, 64]},
        device="cpu",
        seed=seed,
    )
    rows, kept = [], {}
    for done in range(EVERY, STEPS + 1, EVERY):
        agent.learn(EVERY, reset_num_timesteps=False, progress_bar=False)
        told = from_sb3(agent, n=1000, step_size=1.0)["critic 0"]
        values = np.asarray(told["network"](told["parameters"], jax.tree.map(jnp.asarray, told["inputs"]), dense))
        rows.append({"interval": interval, "seed": seed, "steps": done, "largest_value": round(float(np.abs(values).max()), 3)})
        if done in (EARLY, STEPS):
            kept["early" if done == EARLY else "late"] = pack(agent)
    return kept, rows


def pack(agent: DQN) -> dict[str, np.ndarray]:
    """Weights, the batch, and the record that it is from."""
    told = from_sb3(agent)["critic 0"]
    kept: dict[str, Any] = {f"weight_{i}": layer.weight for i, layer in enumerate(told["parameters"])}
    kept |= {f"bias_{i}": layer.bias for i, layer in enumerate(told["parameters"])}
    kept |= {f"scale_weight_{i}": layer.weight for i, layer in enumerate(told["scales"])}
    kept |= {f"scale_bias_{i}": layer.bias for i, layer in enumerate(told["scales"])}
    for key in ("inputs", "next_inputs", "at_policy", "next_of_data"):
        observations, actions = told[key]
        kept |= {f"{key}_observations": observations.astype(np.float32), f"{key}_actions": actions.astype(np.int8)}
    kept |= {key: told[key] for key in ("rewards", "targets", "ends", "step_size", "hold", "largest_reward", "discount")}
    record = read_buffer(agent)
    kept |= {"record_ends": np.flatnonzero(record.ends), "record_cuts": np.flatnonzero(record.cuts)}
    return {key: np.asarray(value, np.float32) if key.startswith("scale") else np.asarray(value) for key, value in kept.items()}


def main() -> None:
    """See the module."""
    provenance = Provenance()
    rows: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for name, interval in INTERVALS.items():
        for seed in SEEDS:
            kept, found = train(interval, seed)
            rows += found
            if seed == SEEDS[0]:
                arrays |= {f"{name}/{when}/{key}": value for when, packed in kept.items() for key, value in packed.items()}
    with (RESULTS / "diagnose_sb3.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    np.savez_compressed(RESULTS / "diagnose_sb3.npz", **arrays)
    provenance.write(RESULTS / "diagnose_sb3.json", seeds=list(SEEDS), steps=STEPS, step_size=STEP_SIZE)


if __name__ == "__main__":
    main()
