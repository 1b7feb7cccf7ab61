r"""PreQN and three other critics as agents on the torque-limited pendulum: three activations, ten seeds each.

Everything but the critic is the same (`deadly_triad.agents`, two hidden layers of 64, 1000 random steps and 6000 with updates, float32).
None was tuned for this: PreQN's settings were known to work on this task, step size and target rate of the others are those of DDPG. A row
of the table is one seed: the mean return of its last five episodes, and the largest |Q| of any minibatch over the largest that a true
value can be (infinity if it left the numbers).

    python experiments/preqn_pendulum.py            into results/preqn_pendulum.csv
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optax
import pandas as pd
from deadly_triad.agents import Critic, Training, preqn_critic, td_critic, train
from deadly_triad.preqn import Settings
from deadly_triad_book.provenance import Provenance
from gymnasium.envs.phys2d.pendulum import PendulumFunctional
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
SEEDS = range(10)
TRAINING = Training(n_steps=6000)
ACTIVATIONS = ("relu", "tanh", "sin")
CRITICS: dict[str, Critic] = {
    "PreQN": preqn_critic(Settings(step_size=0.1, alignment=0.97)),
    "SGD": td_critic(optax.sgd(1e-3)),
    "Adam": td_critic(optax.adam(1e-3)),
    "Adam, target network": td_critic(optax.adam(1e-3), target_rate=0.005),
}
# The most that a step can cost: half a turn away, at the largest speed and torque.
BOUND = (np.pi**2 + 0.1 * 8**2 + 0.001 * 2**2) / (1 - TRAINING.discount)
PENDULUM = PendulumFunctional()


def outcomes(critic: str, activation: str, seeds: Sequence[int] = SEEDS, training: Training = TRAINING) -> pd.DataFrame:
    """One row a seed."""
    run = train(PENDULUM, CRITICS[critic], training._replace(activation=activation), seeds)
    return pd.DataFrame(
        {
            "critic": critic,
            "activation": activation,
            "seed": list(seeds),
            "first_error": run.diagnosis.td_error[:, 0],
            "last_return": run.returns[:, -5:].mean(axis=1),
            "largest_over_bound": run.diagnosis.largest_value.max(axis=1) / BOUND,
            "median_cosine": np.median(run.diagnosis.alignment, axis=1),
            "mean_backtracks": run.diagnosis.backtracks.mean(axis=1),
        }
    )


def main() -> None:
    """Run all and write the results with their provenance."""
    provenance = Provenance()
    table = pd.concat([outcomes(*pair) for pair in tqdm(list(itertools.product(CRITICS, ACTIVATIONS)))], ignore_index=True)
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "preqn_pendulum.csv", index=False, float_format="%.6g")
    provenance.write(RESULTS / "preqn_pendulum.json", seeds=list(SEEDS), steps=TRAINING.n_steps)


if __name__ == "__main__":
    main()
