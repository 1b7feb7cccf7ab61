r"""Transitions of a uniformly random policy on five MuJoCo tasks, small enough to be committed: the ground of the kernel study.

Of each task (Gymnasium's v5, with its default settings) 20,000 steps are played with actions drawn uniformly from the box, and 1000 of the
transitions, drawn without replacement, are kept: observation, action, reward, next observation, an action drawn for it, and whether the
episode ended there. A time limit does not end it. Everything is stored in 16 bits but the rewards, as raw as the task gives it.

    python experiments/random_pairs.py           into results/random_pairs.npz, with a table of what is in it in random_pairs.csv

It needs gymnasium and mujoco (`pip install 'gymnasium[mujoco]'`); whoever only reads the result does not.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from deadly_triad_book.provenance import Provenance
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
TASKS = ("Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Swimmer-v5", "Walker2d-v5")
SEED, N_STEPS, N_KEPT = 20261127, 20_000, 1000


def play(task: str, n_steps: int = N_STEPS, n_kept: int = N_KEPT) -> dict[str, np.ndarray]:
    """The kept transitions of one task, in the order in which they came."""
    import gymnasium

    environment = gymnasium.make(task)
    rng = np.random.default_rng([SEED, TASKS.index(task)])
    low, high = environment.action_space.low, environment.action_space.high
    actions = rng.uniform(low, high, (n_steps + 1, len(low)))
    after = rng.uniform(low, high, (n_steps, len(low)))
    kept = np.sort(rng.choice(n_steps, n_kept, replace=False))
    observation, _ = environment.reset(seed=int(rng.integers(2**31)))
    rows = []
    for step in tqdm(range(n_steps), task):
        ahead, reward, ends, cut, _ = environment.step(actions[step])
        rows.append((observation, ahead, reward, ends))
        observation = environment.reset()[0] if ends or cut else ahead
    here, ahead, rewards, ends = (np.array([rows[step][column] for step in kept]) for column in range(4))
    return {
        "observations": here.astype(np.float16),
        "actions": actions[kept].astype(np.float16),
        "rewards": rewards.astype(np.float32),
        "next_observations": ahead.astype(np.float16),
        "next_actions": after[kept].astype(np.float16),
        "ends": ends.astype(bool),
    }


def main() -> None:
    """Play all tasks and write what is kept."""
    from importlib.metadata import version

    provenance, arrays, table = Provenance(), {}, []
    for task in TASKS:
        found = play(task)
        arrays |= {f"{task}/{name}": array for name, array in found.items()}
        spread = found["observations"].astype(float).std(axis=0)
        table.append(
            {
                "task": task,
                "pairs": len(found["rewards"]),
                "observation": found["observations"].shape[1],
                "action": found["actions"].shape[1],
                "ends": int(found["ends"].sum()),
                "constant": int(np.sum(spread == 0)),
                "least spread": spread[spread > 0].min(),
                "largest spread": spread.max(),
                "mean square norm": np.mean(np.sum(found["observations"].astype(float) ** 2, axis=1)),
                "largest reward": np.abs(found["rewards"]).max(),
            }
        )
    RESULTS.mkdir(exist_ok=True)
    np.savez_compressed(RESULTS / "random_pairs.npz", **arrays)
    pd.DataFrame(table).to_csv(RESULTS / "random_pairs.csv", index=False, float_format="%.6g")
    provenance.write(
        RESULTS / "random_pairs.json",
        seed=SEED,
        steps=N_STEPS,
        gymnasium=version("gymnasium"),
        mujoco=version("mujoco"),
    )


if __name__ == "__main__":
    main()
