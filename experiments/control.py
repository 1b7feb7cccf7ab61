r"""The experiments on continuous control, declared: which method runs on which task, with which settings and seeds, and what is kept.

`runner.py` runs them; `control.md` is the protocol, which was written before the first run; `control_summary.py` makes the tables.

    make experiments STAGE=tuning                                    every run of a stage that has no result yet
    make experiments STAGE=reporting_64 ONLY=Hopper-v5/PreQN/seed-0  one run

A stage is a function of the results so far to the runs that it wants: tuning wants more as long as a best setting lies at the edge of
what was tried, and reporting takes what tuning chose.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from control_methods import KernelStep, Normalised, Probed, Searched
from deadly_triad.agents import DDPG, TD3, ActorCritic, Adam, PreQN
from deadly_triad.preqn import Settings
from deadly_triad.training import Run as Trained
from deadly_triad.training import Training, train_on_host
from runner import Run
from sac import SAC

VERSIONS = ("optax", "gymnasium", "mujoco")
Results = Mapping[str, Mapping[str, Any]]
"""By the names of their runs."""

# --- Tasks, methods, dials -------------------------------------------------------------------------------------------

TASKS = ("Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Swimmer-v5", "Walker2d-v5")
TUNING_TASKS = ("HalfCheetah-v5", "Hopper-v5")
ABLATION_TASKS = ("Pendulum-v1", "HalfCheetah-v5", "Hopper-v5")
TUNING_SEEDS, REPORTING_SEEDS = (1000, 1001), (0, 1, 2, 3, 4)
SHORT, LONG = 100_000, 300_000
DISCOUNT = 0.99
MUJOCO = Training(random_steps=10_000, horizon=1000, batch_size=100, evaluate_every=20_000, evaluation_episodes=5, update_every=50)
TRAININGS = dict.fromkeys(TASKS, MUJOCO) | {"Pendulum-v1": MUJOCO._replace(random_steps=1000, horizon=200)}
SHIFT = 1e-4

Dials = tuple[int, ...]
"""Where the dials of a method stand, on the ladder of half decades."""


def rung(k: int) -> float:
    """The k-th number of the ladder, ten to the k/2, with two digits."""
    return float(f"{10 ** (k / 2):.2g}")


class Method(NamedTuple):
    """A method with dials, all of them on the ladder.

    Attributes:
        dials: their names; each turns up to the rung 0, which is 1.
        make: the agent for their values and for the widths of the hidden layers.
        grid: the positions that are tried first.
    """

    dials: tuple[str, ...]
    make: Callable[..., Any]
    grid: tuple[Dials, ...]

    def values(self, dials: Dials) -> dict[str, float]:
        """What the positions of the dials mean."""
        return dict(zip(self.dials, map(rung, dials), strict=True))


def preconditioned(step: float, slack: float, **others: Any) -> ActorCritic:
    """PreQN; eta is 1 - slack."""
    return ActorCritic(PreQN(Settings(step_size=step, alignment=1 - slack, shift=SHIFT)), activation="sin", **others)


def plain(step: float, slack: float | None = None, *, make: Callable[..., ActorCritic] = ActorCritic, **others: Any) -> ActorCritic:
    """PreQN without its preconditioner; without slack also without the line search."""
    return make(Searched(Settings(step_size=step, alignment=-1 if slack is None else 1 - slack)), activation="sin", **others)


def with_step(agent: ActorCritic) -> Callable[..., ActorCritic]:
    """The agent, whose critics and actor have one step size."""
    return lambda step, **others: replace(agent, critic=Adam(step), actor_step_size=step, **others)


LINE = tuple((k,) for k in (-8, -7, -6, -5, -4))
CROSS = ((-2, -3), (-3, -3), (-1, -3), (-2, -4), (-2, -2))
# Plain semi-gradients point less straight to the targets: at the slack of PreQN hardly a step of theirs would be accepted.
PLAIN_CROSS = ((-3, -1), (-4, -1), (-2, -1), (-3, -2), (-3, 0))
METHODS = {
    "PreQN": Method(("step", "slack"), preconditioned, CROSS),
    "TD3": Method(("step",), with_step(TD3), LINE),
    "SAC": Method(("step",), lambda step, **others: SAC(step, **others), LINE),
    "DDPG": Method(("step",), with_step(DDPG), LINE),
    "DDPG-no-target": Method(("step",), with_step(ActorCritic()), LINE),
}
WIDE_METHODS = ("PreQN", "TD3", "DDPG-no-target")
# Critics that only the ablation has; all else is as in PreQN.
PLAIN_METHODS = {
    "constant-step": Method(("step",), plain, LINE),
    "line-search": Method(("step", "slack"), plain, PLAIN_CROSS),
    "kernel-step": Method(
        ("fraction",),
        lambda fraction, **others: ActorCritic(KernelStep(fraction), activation="sin", **others),
        tuple((k,) for k in (-4, -3, -2, -1, 0)),
    ),
}
FACTORS = tuple(itertools.product((True, False), repeat=4))
"""The cells of the ablation: preconditioner, line search, target network, normalisation."""


def name_cell(preconditioner: bool, line_search: bool, target: bool, normalised: bool) -> str:
    """Such as `K1_search0_target1_norm0`."""
    marks = zip(("K", "search", "target", "norm"), (preconditioner, line_search, target, normalised), strict=True)
    return "_".join(f"{word}{on:d}" for word, on in marks)


def make_cell(
    preconditioner: bool, line_search: bool, target: bool, normalised: bool, chosen: Mapping[str, Mapping[str, float]], hidden: Any
) -> ActorCritic:
    """The agent of a cell, with what tuning chose for its preconditioner and line search; those two are tuned with the others off."""
    make = Normalised if normalised else ActorCritic
    others = {"target_rate": DDPG.target_rate if target else None, "hidden": hidden}
    if not preconditioner:
        return plain(**chosen["line-search" if line_search else "constant-step"], make=make, **others)
    step, slack = chosen["PreQN"]["step"], chosen["PreQN"]["slack"]
    return make(PreQN(Settings(step_size=step, alignment=1 - slack if line_search else -1, shift=SHIFT)), activation="sin", **others)


def make_agent(settings: Mapping[str, Any]) -> Any:
    """The agent that the settings of a run describe."""
    method, hidden = settings.get("of", settings["method"]), tuple(settings["hidden"])
    if "factors" in settings:
        return make_cell(*settings["factors"], settings["chosen"], hidden)
    if method == "Adam":
        return ActorCritic(Adam(settings["dials"]["step"]), activation="sin", hidden=hidden)
    others = {"activation": settings["activation"]} if "activation" in settings else {}
    return replace((METHODS | PLAIN_METHODS)[method].make(**settings["dials"], hidden=hidden), **others)


# --- Tuning ----------------------------------------------------------------------------------------------------------


def tuning_run(stage: str, method: str, dials: Mapping[str, float], task: str, seed: int) -> Run:
    """One run of a tuning stage."""
    setting = "_".join(f"{name}={value:g}" for name, value in dials.items())
    settings = {"task": task, "method": method, "dials": dict(dials), "hidden": [64, 64], "seed": seed, "steps": SHORT}
    return Run(f"{stage}/{task}/{method}/{setting}/seed-{seed}", settings)


def tuning_runs(stage: str, method: str, dials: Mapping[str, float]) -> list[Run]:
    """All runs of one setting."""
    return [tuning_run(stage, method, dials, task, seed) for seed in TUNING_SEEDS for task in TUNING_TASKS]


def last_return(result: Mapping[str, Any]) -> float:
    """The mean return of the evaluations in the last quarter of a run; minus infinity if one is no number."""
    outcome, first = result["outcome"], 0.75 * result["settings"]["steps"]
    late = [x for at, row in zip(outcome["evaluated"], outcome["returns"], strict=True) if at > first for x in row]
    return -math.inf if None in late else float(np.mean(late))


class Tuned(NamedTuple):
    """What tuning knows of one method.

    Attributes:
        scores: by the positions of the dials; only of settings whose runs are all there.
        best: the positions with the highest score, None before any is known.
        missing: positions that are wanted and have no score yet.
    """

    scores: dict[Dials, float]
    best: Dials | None
    missing: list[Dials]


def judge(stage: str, methods: Mapping[str, Method], results: Results) -> dict[str, Tuned]:
    """The rule of choice. A score is the mean over tasks of the last return, in units of the best that any method has on that task.

    A grid is complete when its first positions are tried and, once all methods are so far, the neighbours of its best on every dial.
    """

    def returns(method: str, dials: Dials) -> list[float] | None:
        """Over seeds, for each task; None where a run is missing."""
        runs = tuning_runs(stage, method, methods[method].values(dials))
        if any(run.name not in results for run in runs):
            return None
        by_task = [[last_return(results[run.name]) for run in runs if run.settings["task"] == task] for task in TUNING_TASKS]
        return [float(np.mean(seeds)) for seeds in by_task]

    tried: dict[str, dict[Dials, list[float]]] = {name: {} for name in methods}
    for name, method in methods.items():
        wanted = list(method.grid)
        while wanted:
            dials = wanted.pop()
            found = returns(name, dials)
            if found is not None and dials not in tried[name]:
                tried[name][dials] = found
                wanted += neighbours(dials)
    best = np.max([found for each in tried.values() for found in each.values()] or [np.ones(len(TUNING_TASKS))], axis=0)
    complete = all(dials in tried[name] for name, method in methods.items() for dials in method.grid)
    judged = {}
    for name, method in methods.items():
        scores = {dials: float(np.mean(found / best)) for dials, found in tried[name].items()}
        top = max(scores, key=lambda dials: scores[dials]) if scores else None
        wanted = list(method.grid) + (neighbours(top) if complete and top else [])
        judged[name] = Tuned(scores, top, [dials for dials in wanted if dials not in scores])
    return judged


def neighbours(dials: Dials) -> list[Dials]:
    """One rung up and one down on each dial, no further than 1."""
    moved = [(*dials[:i], dials[i] + by, *dials[i + 1 :]) for i in range(len(dials)) for by in (-1, 1)]
    return [each for each in moved if max(each) <= 0]


def choose(stage: str, methods: Mapping[str, Method], results: Results) -> dict[str, dict[str, float]]:
    """The best setting of each method.

    Raises:
        ValueError: if tuning is not complete.
    """
    judged = judge(stage, methods, results)
    missing = [name for name, tuned in judged.items() if tuned.missing or tuned.best is None]
    if missing:
        raise ValueError(f"the stage {stage} must be complete first: runs are missing of {', '.join(missing)}")
    return {name: methods[name].values(tuned.best) for name, tuned in judged.items() if tuned.best is not None}


# --- Stages ----------------------------------------------------------------------------------------------------------


def tune(stage: str, methods: Mapping[str, Method]) -> Callable[[Results], list[Run]]:
    """The first grids and what the results so far ask for beyond them; one seed of every setting first."""

    def declare(results: Results) -> list[Run]:
        judged = judge(stage, methods, results)
        wanted = [(name, dials) for name, tuned in judged.items() for dials in dict.fromkeys([*tuned.scores, *tuned.missing])]
        runs = [tuning_runs(stage, name, methods[name].values(dials)) for name, dials in wanted]
        return [run for turn in zip(*runs, strict=True) for run in turn]

    return declare


def report(width: int, methods: Iterable[str]) -> Callable[[Results], list[Run]]:
    """All methods on all tasks, one seed of everything first."""

    def declare(results: Results) -> list[Run]:
        chosen = choose("tuning", METHODS, results)
        return [
            Run(
                f"reporting_{width}/{task}/{method}/seed-{seed}",
                {"task": task, "method": method, "dials": chosen[method], "hidden": [width] * 2, "seed": seed, "steps": LONG},
            )
            for seed in REPORTING_SEEDS
            for task in TASKS
            for method in methods
        ]

    return declare


def ablate(results: Results) -> list[Run]:
    """The cells, and two critics with other steps beside them."""
    chosen = choose("tuning", METHODS, results) | choose("tuning_plain", PLAIN_METHODS, results)
    cells = [
        {"method": name_cell(*factors), "factors": list(factors), "chosen": {name: chosen[name] for name in ("PreQN", *PLAIN_METHODS)}}
        for factors in FACTORS
    ]
    cells += [{"method": "kernel-step", "dials": chosen["kernel-step"]}, {"method": "Adam", "dials": chosen["DDPG-no-target"]}]
    return [
        Run(
            f"ablation/{task}/{cell['method']}/seed-{seed}",
            {"task": task, **cell, "hidden": [64, 64], "seed": seed, "steps": SHORT},
        )
        for seed in REPORTING_SEEDS
        for task in ABLATION_TASKS
        for cell in cells
    ]


# What is changed in one method at a time, to see whether it matters.
VARIANTS: dict[str, dict[str, Any]] = {
    "PreQN-relu": {"of": "PreQN", "activation": "relu"},
    "PreQN-tanh": {"of": "PreQN", "activation": "tanh"},
    "PreQN-every-step": {"of": "PreQN", "update_every": 1},
    "TD3-every-step": {"of": "TD3", "update_every": 1},
}
VARIANT_TASKS = ("HalfCheetah-v5",)


def vary(results: Results) -> list[Run]:
    """The variants, with the settings of the method that they vary."""
    chosen = choose("tuning", METHODS, results)
    return [
        Run(
            f"variants/{task}/{name}/seed-{seed}",
            {"task": task, "method": name, **what, "dials": chosen[what["of"]], "hidden": [64, 64], "seed": seed, "steps": LONG},
        )
        for seed in REPORTING_SEEDS
        for task in VARIANT_TASKS
        for name, what in VARIANTS.items()
    ]


STAGES: dict[str, Callable[[Results], list[Run]]] = {
    "tuning": tune("tuning", METHODS),
    "reporting_64": report(64, METHODS),
    "tuning_plain": tune("tuning_plain", PLAIN_METHODS),
    "ablation": ablate,
    "variants": vary,
    "reporting_256": report(256, WIDE_METHODS),
}
"""In the order in which they run."""

# --- One run ---------------------------------------------------------------------------------------------------------

N_BINS = 30
PROBE_EVERY = 100
PROBES = ("mean_diagonal", "row_ratio", "largest_eigenvalue", "alignment_current")
LARGEST = ("largest_value", "residual")
"""Metrics of which a bin keeps the largest; of all others it keeps the mean."""


def run(settings: Mapping[str, Any], checkpoint: Path, progress: Callable[[Iterable[int]], Iterable[int]]) -> dict[str, Any]:
    """Train, and sum up: what the result file holds beside settings and provenance. A run that left the numbers is a result like others."""
    training = TRAININGS[settings["task"]]._replace(n_steps=settings["steps"])
    training = training._replace(
        evaluate_every=min(training.evaluate_every, training.n_steps), update_every=settings.get("update_every", training.update_every)
    )
    agent = Probed(make_agent(settings), every=PROBE_EVERY)
    return sum_up(train_on_host(settings["task"], agent, training, settings["seed"], progress=progress, checkpoint=checkpoint))


def sum_up(trained: Trained) -> dict[str, Any]:
    """Returns, and the metrics in bins; what is no finite number is None."""
    metrics = {name: rows[0] for name, rows in trained.metrics.items()}
    largest_reward, values = float(metrics.pop("largest_reward").max()), metrics["largest_value"]
    bound = largest_reward / (1 - DISCOUNT)
    bins = {}
    for name, row in metrics.items():
        row = row[PROBE_EVERY - 1 :: PROBE_EVERY] if name in PROBES else row
        parts = np.array_split(row.astype(float), min(N_BINS, len(row)))
        # A move of no length has no direction: its alignment says so by minus infinity, and does not count.
        counted = [part[part > -np.inf] if name.startswith("alignment") else part for part in parts]
        bins[name] = [_number((np.max if name in LARGEST else np.mean)(part)) if len(part) else None for part in counted]
    return {
        "evaluated": [int(at) for at in trained.evaluated],
        "returns": [[round(float(x), 2) if math.isfinite(x) else None for x in row] for row in trained.evaluations[0]],
        "episodes": len(trained.episodes[0].returns),
        "largest_reward": _number(largest_reward),
        "largest_value": _number(values.max()),
        "above_bound_at": _first(values > bound),
        "left_numbers_at": _first(~np.isfinite(values)),
        "bins": bins,
    }


def _number(x: Any) -> float | None:
    return float(f"{float(x):.5g}") if math.isfinite(x) else None


def _first(holds: np.ndarray) -> int | None:
    """The first update, counted from 1, at which it holds."""
    return int(np.argmax(holds)) + 1 if holds.any() else None
