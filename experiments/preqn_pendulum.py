r"""PreQN and three other critics as agents on the torque-limited pendulum: three activations, ten seeds each.

Everything but the critic is the same (`deadly_triad.agents`, two hidden layers of 64, 1000 random steps and 6000 with updates, float32).
None was tuned for this: PreQN's settings were known to work on this task, step size and target rate of the others are those of DDPG. A row
of the table is one seed: the mean return of a hundred episodes after the last update, without exploration and from the same starts for all;
the largest |Q| of any minibatch over the largest that a true value can be (infinity if it left the numbers); and how often the critic took
a step.

    python experiments/preqn_pendulum.py            into results/preqn_pendulum.csv
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from deadly_triad.agents import DDPG, SGD, ActorCritic, PreQN
from deadly_triad.environments import Pendulum
from deadly_triad.preqn import Settings
from deadly_triad.training import Training, train
from deadly_triad_book.provenance import Provenance
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
SEEDS = range(10)
TRAINING = Training(n_steps=6000, evaluate_every=2000, evaluation_episodes=100)
ACTIVATIONS = ("relu", "tanh", "sin")
AGENTS: dict[str, ActorCritic] = {
    "PreQN": ActorCritic(PreQN(Settings(step_size=0.1, alignment=0.97))),
    "SGD": ActorCritic(SGD(1e-3)),
    "Adam": replace(DDPG, target_rate=None),
    "Adam, target network": DDPG,
}
# The most that a step can cost: half a turn away, at the largest speed and torque.
BOUND = (np.pi**2 + 0.1 * 8**2 + 0.001 * 2**2) / (1 - DDPG.discount)


def outcomes(critic: str, activation: str, seeds: Sequence[int] = SEEDS, training: Training = TRAINING) -> pd.DataFrame:
    """One row a seed."""
    run = train(Pendulum(), replace(AGENTS[critic], activation=activation), training, seeds)
    return pd.DataFrame(
        {
            "critic": critic,
            "activation": activation,
            "seed": list(seeds),
            "first_error": run.metrics["td_error"][:, 0],
            "last_return": run.evaluations[:, -1].mean(axis=1),
            "largest_over_bound": run.metrics["largest_value"].max(axis=1) / BOUND,
            "median_cosine": np.median(run.metrics["alignment"], axis=1),
            "mean_backtracks": run.metrics["backtracks"].mean(axis=1),
            "accepted": run.metrics["accepted"].mean(axis=1),
        }
    )


def main() -> None:
    """Run all and write the results with their provenance."""
    provenance = Provenance()
    table = pd.concat([outcomes(*pair) for pair in tqdm(list(itertools.product(AGENTS, ACTIVATIONS)))], ignore_index=True)
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "preqn_pendulum.csv", index=False, float_format="%.6g")
    provenance.write(RESULTS / "preqn_pendulum.json", seeds=list(SEEDS), steps=TRAINING.n_steps)


if __name__ == "__main__":
    main()
