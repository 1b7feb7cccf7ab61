"""TD3 and SAC of stable-baselines3 and ours on Pendulum, with the settings that tuning chose, compared in returns.

    make experiments EXPERIMENT=control_sb3            with torch, stable-baselines3 and what `make experiments` needs in the environment

The loop is each one's own, the library's told to do as ours does: random steps first, then bursts of as many updates as steps. A run that
is cut off begins again.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import control
import gymnasium
import numpy as np
from deadly_triad.training import train_on_host
from runner import Place, Run, read_results

VERSIONS = ("torch", "stable-baselines3", "gymnasium", "mujoco")
TASK, METHODS, STEPS, SEEDS = "Pendulum-v1", ("TD3", "SAC"), 10_000, range(10)
TRAINING = control.TRAININGS[TASK]._replace(n_steps=STEPS, evaluate_every=2500, evaluation_episodes=10)
TUNED = str(Path(__file__).parent / "results" / "control")


def declare(source: str, results: Mapping[str, Any]) -> list[Run]:  # noqa: ARG001
    """Both methods, one seed of both first."""
    chosen = control.choose("tuning", control.METHODS, read_results(Place("", TUNED, TUNED, "")))
    return [
        Run(
            f"{source}/{TASK}/{method}/seed-{seed}",
            {"source": source, "task": TASK, "method": method, "dials": chosen[method], "hidden": [64, 64], "seed": seed, "steps": STEPS},
        )
        for seed in SEEDS
        for method in METHODS
    ]


STAGES = {source: partial(declare, source) for source in ("library", "own")}


def run(settings: Mapping[str, Any], checkpoint: Path, progress: Callable[[Iterable[int]], Iterable[int]]) -> dict[str, Any]:
    """Train, and the returns of the evaluations."""
    if settings["source"] == "library":
        return train_theirs(settings, progress)
    trained = train_on_host(TASK, control.make_agent(settings), TRAINING, settings["seed"], progress=progress, checkpoint=checkpoint)
    return {"evaluated": trained.evaluated.tolist(), "returns": trained.evaluations[0].round(2).tolist()}


def train_theirs(settings: Mapping[str, Any], progress: Callable[[Iterable[int]], Iterable[int]]) -> dict[str, Any]:
    """The library's agent in the library's loop."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.noise import NormalActionNoise

    torch.set_num_threads(1)
    training, block = TRAINING, TRAINING.evaluate_every
    environment, judge = gymnasium.make(TASK), gymnasium.make(TASK)
    n_actions = environment.action_space.shape[0]
    noise = {"action_noise": NormalActionNoise(np.zeros(n_actions), np.full(n_actions, 0.1))} if settings["method"] == "TD3" else {}
    model = getattr(stable_baselines3, settings["method"])(
        "MlpPolicy",
        environment,
        learning_rate=settings["dials"]["step"],
        buffer_size=training.random_steps + settings["steps"],
        learning_starts=training.random_steps,
        batch_size=training.batch_size,
        tau=0.005,
        gamma=control.DISCOUNT,
        train_freq=training.update_every,
        gradient_steps=training.update_every,
        policy_kwargs={"net_arch": list(settings["hidden"])},
        seed=settings["seed"],
        device="cpu",
        **noise,
    )
    evaluated, returns = [], []
    for index in progress(range(STEPS // block)):
        model.learn(block + (training.random_steps if index == 0 else 0), reset_num_timesteps=False)
        evaluated.append((index + 1) * block)
        returns.append(
            [round(play(model, judge, training.evaluation_seed + i, training.horizon), 2) for i in range(training.evaluation_episodes)]
        )
    return {"evaluated": evaluated, "returns": returns}


def play(model: Any, environment: Any, seed: int, horizon: int) -> float:
    """The return of one episode without exploration."""
    observation, total = environment.reset(seed=seed)[0], 0.0
    for _ in range(horizon):
        observation, reward, end, cut, _ = environment.step(model.predict(observation, deterministic=True)[0])
        total += float(reward)
        if end or cut:
            break
    return total
