"""TD3 and SAC of stable-baselines3 on HalfCheetah, with the settings that tuning chose, to hold ours to in returns.

    make experiments EXPERIMENT=control_sb3            with torch, stable-baselines3 and what `make experiments` needs in the environment

The loop is the library's own, told to do as ours does: random steps first, then bursts of as many updates as steps. A run that is cut off
begins again.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import control
import gymnasium
import numpy as np
from runner import Place, Run, read_results

VERSIONS = ("torch", "stable-baselines3", "gymnasium", "mujoco")
TASK, METHODS, STEPS = "HalfCheetah-v5", ("TD3", "SAC"), control.SHORT
TUNED = str(Path(__file__).parent / "results" / "control")


def declare(results: Mapping[str, Any]) -> list[Run]:  # noqa: ARG001
    """Both methods with the seeds of reporting."""
    chosen = control.choose("tuning", control.METHODS, read_results(Place("", TUNED, TUNED, "")))
    return [
        Run(
            f"library/{TASK}/{method}/seed-{seed}",
            {"task": TASK, "method": method, "dials": chosen[method], "hidden": [64, 64], "seed": seed, "steps": STEPS},
        )
        for seed in control.REPORTING_SEEDS
        for method in METHODS
    ]


STAGES = {"library": declare}


def run(settings: Mapping[str, Any], checkpoint: Path, progress: Callable[[Iterable[int]], Iterable[int]]) -> dict[str, Any]:  # noqa: ARG001
    """Train with the library, and the returns of the evaluations."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.noise import NormalActionNoise

    torch.set_num_threads(1)
    training = control.TRAININGS[settings["task"]]
    block = min(training.evaluate_every, settings["steps"])
    environment, judge = gymnasium.make(settings["task"]), gymnasium.make(settings["task"])
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
    for index in progress(range(settings["steps"] // block)):
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
