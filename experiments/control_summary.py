r"""Tables of the experiments on control, from the files of their runs: what the chapter reads.

    python experiments/control_summary.py            into results/control_*.csv and results/control.json

Statistics as Agarwal et al. 2021 have them (*Deep Reinforcement Learning at the Edge of the Statistical Precipice*): the interquartile mean
over runs, intervals by a bootstrap that draws the runs of each task with replacement, the probability that a run of one method is above a
run of another, meaned over tasks. A test holds them to what rliable, their authors' library, makes of the same numbers.

While a sweep runs, only seeds count that are complete, in every cell of a stage: what is compared is always balanced, and a column says
how many seeds it has.
"""

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import control
import control_sb3
import gymnasium
import numpy as np
import pandas as pd
from deadly_triad_book.provenance import Provenance
from runner import Place, Run, read_results
from scipy.stats import trim_mean

RESULTS = Path(__file__).parent / "results"
REPLICATES, LEVEL, SEED = 5000, 0.95, 0
RANDOM_EPISODES = 20
REPORTED = ("reporting_64", "ablation", "variants", "reporting_256")


# --- Statistics ------------------------------------------------------------------------------------------------------


def interquartile_mean(scores: np.ndarray) -> Any:
    """Of scores of shape (..., runs, tasks): the mean of the middle half of all."""
    return trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1)


def probability_of_improvement(first: np.ndarray, second: np.ndarray) -> Any:
    """That a run of the first is above one of the second on the same task, a tie counting half; shapes (..., runs, tasks)."""
    above = first[..., :, None, :] - second[..., None, :, :]
    return np.mean((np.sign(above) + 1) / 2, axis=(-3, -2, -1))


def interval(statistic: Callable[..., Any], *tables: np.ndarray) -> tuple[float, float]:
    """The middle of the statistic's distribution when the runs of each task in each table are drawn with replacement."""
    rng = np.random.default_rng(SEED)

    def redraw(table: np.ndarray) -> np.ndarray:
        return np.take_along_axis(table[None], rng.integers(0, len(table), (REPLICATES, *table.shape)), axis=1)

    low, high = np.quantile(statistic(*map(redraw, tables)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


# --- Tables ----------------------------------------------------------------------------------------------------------


def describe(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """One row: a run and what it came to."""
    settings, outcome, made = (result[part] for part in ("settings", "outcome", "provenance"))
    bins = {key: np.array(row, float) for key, row in outcome["bins"].items()}
    bound = outcome["largest_reward"] / (1 - control.DISCOUNT)
    finite = outcome["largest_value"] is not None
    means = ("alignment", "alignment_current", "accepted", "backtracks", "step_size", "td_error", "mean_diagonal", "row_ratio")
    return {
        "stage": name.split("/")[0],
        "task": settings["task"],
        "method": settings["method"],
        "seed": settings["seed"],
        "steps": settings["steps"],
        "setting": " ".join(f"{dial} {value:g}" for dial, value in settings.get("dials", {}).items()),
        "score": control.last_return(result),
        "largest_reward": outcome["largest_reward"],
        "value_over_bound": outcome["largest_value"] / bound if finite else np.inf,
        "above_bound_at": outcome["above_bound_at"],
        "left_numbers_at": outcome["left_numbers_at"],
        **{key: float(np.nanmean(bins[key])) if np.isfinite(bins[key]).any() else np.nan for key in means},
        "largest_eigenvalue": float(np.nanmax(bins["largest_eigenvalue"])) if np.isfinite(bins["largest_eigenvalue"]).any() else np.nan,
        "seconds": made["seconds"],
        "cpu_seconds": made["cpu_seconds"],
        "commit": made["commit"],
    }


def balanced(runs: pd.DataFrame, declared: list[Run]) -> pd.DataFrame:
    """The runs of those seeds of which none that is declared is missing."""
    missing = {run.settings["seed"] for run in declared if run.name not in runs.index}
    return runs[~runs["seed"].isin(missing)]


def table_of(runs: pd.DataFrame, method: str, column: str = "score") -> np.ndarray:
    """The scores of a method, shape (seeds, tasks)."""
    return runs[runs["method"] == method].pivot_table(index="seed", columns="task", values=column).to_numpy()


@cache
def random_return(task: str) -> float:
    """The mean return of random actions, from as many fixed starts as there are episodes."""
    environment, rng = gymnasium.make(task), np.random.default_rng(SEED)
    low, high = environment.action_space.low, environment.action_space.high
    returns = []
    for episode in range(RANDOM_EPISODES):
        environment.reset(seed=episode)
        total = 0.0
        for _ in range(control.TRAININGS[task].horizon):
            _, reward, end, cut, _ = environment.step(rng.uniform(low, high).astype(low.dtype))
            total += float(reward)
            if end or cut:
                break
        returns.append(total)
    return float(np.mean(returns))


def score_rows(stage: str, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Interquartile means with intervals: for each task, and over tasks, where random actions are 0 and the best method's mean is 1."""
    best = runs.groupby(["task", "method"])["score"].mean().groupby("task").max()
    base = pd.Series({task: random_return(task) for task in best.index})
    runs = runs.assign(unit=(runs["score"] - runs["task"].map(base)) / runs["task"].map(best - base))
    rows = []
    for method in dict.fromkeys(runs["method"]):
        mine = runs[runs["method"] == method]
        tables = {task: mine[mine["task"] == task][["score"]].to_numpy() for task in dict.fromkeys(mine["task"])}
        for task, scores in {**tables, "all": table_of(runs, method, "unit")}.items():
            low, high = interval(interquartile_mean, scores)
            found = {"iqm": interquartile_mean(scores), "low": low, "high": high, "seeds": len(scores)}
            rows.append({"stage": stage, "task": task, "method": method, **found})
    return rows


def improvement_rows(stage: str, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """For each pair of methods, how often a run of the first is above one of the second."""
    rows = []
    for first, second in itertools.combinations(dict.fromkeys(runs["method"]), 2):
        tables = table_of(runs, first), table_of(runs, second)
        low, high = interval(probability_of_improvement, *tables)
        found = {"probability": probability_of_improvement(*tables), "low": low, "high": high, "seeds": len(tables[0])}
        rows.append({"stage": stage, "first": first, "second": second, **found})
    return rows


def curve_rows(stage: str, runs: pd.DataFrame, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Interquartile means of the evaluations against steps."""
    rows = []
    for (task, method), mine in runs.groupby(["task", "method"], sort=False):
        outcomes = [results[name]["outcome"] for name in mine.index]
        returns = np.array([[np.mean(row) for row in outcome["returns"]] for outcome in outcomes])
        for at, scores in zip(outcomes[0]["evaluated"], returns.T, strict=True):
            low, high = interval(interquartile_mean, scores[:, None])
            rows.append(
                {
                    "stage": stage,
                    "task": task,
                    "method": method,
                    "update": at,
                    "iqm": interquartile_mean(scores[:, None]),
                    "low": low,
                    "high": high,
                }
            )
    return rows


def trace_rows(stage: str, runs: pd.DataFrame, results: dict[str, Any]) -> list[dict[str, Any]]:
    """The medians over seeds of what the theory is about, along the run; infinity where half of them have left the numbers."""
    kept = ("largest_value", "alignment", "alignment_current", "accepted", "backtracks", "mean_diagonal", "row_ratio", "largest_eigenvalue")
    rows = []
    for (task, method), mine in runs.groupby(["task", "method"], sort=False):
        bins = [results[name]["outcome"]["bins"] for name in mine.index]
        columns = {key: np.array([row[key] for row in bins], float) for key in kept}
        columns["largest_value"] = np.nan_to_num(columns["largest_value"], nan=np.inf)
        for i in range(columns["accepted"].shape[1]):
            at = {"stage": stage, "task": task, "method": method, "bin": i}
            rows.append(at | {key: float(np.median(column[:, i])) for key, column in columns.items()})
    return rows


def tuning_rows(stage: str, methods: dict[str, control.Method], results: dict[str, Any]) -> list[dict[str, Any]]:
    """Every setting that was tried, its score, and which was chosen (none before the tuning is complete)."""
    rows = []
    for name, tuned in control.judge(stage, methods, results).items():
        complete = not tuned.missing
        for dials, score in sorted(tuned.scores.items()):
            setting = " ".join(f"{dial} {value:g}" for dial, value in methods[name].values(dials).items())
            rows.append({"stage": stage, "method": name, "setting": setting, "score": score, "chosen": complete and dials == tuned.best})
    return rows


def library_rows(library: dict[str, Any]) -> list[dict[str, Any]]:
    """For each method of which all runs are there: ours and the library's, as interquartile means over seeds, and their difference."""
    last: dict[tuple[str, str], list[float]] = {}
    for _, result in sorted(library.items()):
        settings, outcome = result["settings"], result["outcome"]
        last.setdefault((settings["method"], settings["source"]), []).append(float(np.mean(outcome["returns"][-2:])))
    rows = []
    for method in control_sb3.METHODS:
        own, theirs = (np.array(last.get((method, source), []))[:, None] for source in ("own", "library"))
        if len(own) == len(theirs) == len(control_sb3.SEEDS):
            low, high = interval(lambda a, b: interquartile_mean(a) - interquartile_mean(b), own, theirs)
            means = {"own": float(interquartile_mean(own)), "library": float(interquartile_mean(theirs))}
            rows.append({"method": method, **means, "difference": means["own"] - means["library"], "low": low, "high": high})
    return rows


def summarise(results: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """All tables, by the ends of their names."""
    described = {name: describe(name, result) for name, result in results.items()}
    runs = pd.DataFrame.from_dict(described, orient="index") if described else pd.DataFrame(columns=["stage"])
    parts: dict[str, list[dict[str, Any]]] = {"scores": [], "improvement": [], "curves": [], "traces": []}
    for stage in REPORTED:
        mine = runs[runs["stage"] == stage]
        mine = balanced(mine, control.STAGES[stage](results)) if len(mine) else mine
        if len(mine):
            parts["scores"] += score_rows(stage, mine)
            parts["improvement"] += improvement_rows(stage, mine)
            parts["curves"] += curve_rows(stage, mine, results)
            parts["traces"] += trace_rows(stage, mine, results)
    parts["tuning"] = tuning_rows("tuning", control.METHODS, results) + tuning_rows("tuning_plain", control.PLAIN_METHODS, results)
    return {"runs": runs, **{name: pd.DataFrame(rows) for name, rows in parts.items() if rows}}


def main(folder: Path = RESULTS) -> None:
    """Read the runs, write the tables and what made them."""
    provenance = Provenance()
    place = Place(control.__file__, str(folder / "control"), str(folder / "control"), "")
    results = read_results(place)
    tables = summarise(results)
    if library := read_results(Place("", str(folder / "control_sb3"), str(folder / "control_sb3"), "")):
        tables["library"] = pd.DataFrame(library_rows(library))
    for name, table in tables.items():
        table.to_csv(
            folder / f"control_{name}.csv", index=name == "runs", index_label="run" if name == "runs" else None, float_format="%.5g"
        )
    counts = tables["runs"]["stage"].value_counts().to_dict()
    commits = sorted(set(tables["runs"]["commit"]))
    worked = round(float(tables["runs"]["cpu_seconds"].sum()))
    provenance.write(folder / "control.json", runs=counts, commits_of_runs=commits, cpu_seconds_of_runs=worked)


if __name__ == "__main__":
    main()
