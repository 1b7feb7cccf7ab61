r"""The table of the experiment on early warning, from the files of its runs: what the chapter reads; `early_warning.md` says what and why.

python experiments/early_warning_summary.py            into results/early_warning{,_roc,_runs}.csv and early_warning.json
"""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import early_warning
import numpy as np
import pandas as pd
from deadly_triad_book.provenance import Provenance
from runner import Place, read_results

RESULTS = Path(__file__).parent / "results"
AHEAD, DRIFT, LEAD = 1000, 5, 100
REPLICATES, LEVEL, SEED = 2000, 0.95, 0
RATES = np.linspace(0, 1, 41)
CALIBRATE, REPORT = early_warning.SEEDS
FALSE_ALARMS = 0.1
CANDIDATES = (
    *("largest_value", "drift", "td_error", "gap", "slope", "linearisation", "misalignment", "diagonal", "row_ratio"),
    *("growth", "growth_own", "step_share", "noise"),
)
NEW, OLD = ("slope", "growth", "growth_own", "step_share"), ("largest_value", "td_error")


class Series(NamedTuple):
    """A run: its cell and seed, when it passed the bound (None: it did not), and a column a candidate, shape (records, candidates)."""

    cell: str
    seed: int
    passed: int | None
    columns: np.ndarray


def series(name: str, result: dict[str, Any]) -> Series:
    """The candidates of one run. A number that is missing is an infinite one: it left the numbers."""
    log = {key: np.array([np.inf if x is None else x for x in row], float) for key, row in result["outcome"]["log"].items()}
    n = len(next(iter(log.values()), ()))
    if n:
        size = np.log(log["largest_value"])
        log["drift"] = size - size[np.maximum(np.arange(n) - DRIFT, 0)]
        log["noise"] = np.random.default_rng(sum(name.encode())).random(n)
    columns = np.stack([log[key] for key in CANDIDATES], axis=1) if n else np.empty((0, len(CANDIDATES)))
    task, data, *_ = name.split("/")
    return Series(f"{task}/{data}", result["settings"]["seed"], result["outcome"]["passed_at"], columns)


def strata(runs: list[Series]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Records of one cell at one time, those before a passage and those of quiet runs, each of shape (records, candidates)."""
    for k in range(early_warning.N_UPDATES // early_warning.EVERY):
        t = (k + 1) * early_warning.EVERY
        there = [run for run in runs if len(run.columns) > k]
        positive = [run.columns[k] for run in there if run.passed is not None and t < run.passed <= t + AHEAD]
        rest = [run for run in there if run.passed is None or run.passed > t + AHEAD]
        negative = [run.columns[k] for run in rest if t + AHEAD <= early_warning.N_UPDATES]
        if positive and negative:
            yield np.array(positive), np.array(negative)


def curve(cells: Iterable[list[Series]], k: int) -> np.ndarray:
    """Share of positives above a threshold by share of negatives above it, averaged as comparisons are: shape of `RATES`.

    The area under it is the AUC of `areas`.
    """
    total, weight = np.zeros(len(RATES)), 0
    for positive, negative in (stratum for cell in cells for stratum in strata(cell)):
        limits = np.unique(np.concatenate([positive[:, k], negative[:, k]]))[::-1]
        hits, false = (np.array([0.0, *((rows[:, k] >= limit).mean() for limit in limits)]) for rows in (positive, negative))
        total += len(positive) * len(negative) * np.interp(RATES, false, hits)  # where it jumps, the upper end
        weight += len(positive) * len(negative)
    return total / weight if weight else np.full(len(RATES), np.nan)


def wins(runs: list[Series]) -> tuple[np.ndarray, np.ndarray]:
    """Between each two runs of a cell: what the first, as the positive, wins of the second, summed over times; and how often they meet.

    Shapes (runs, runs, candidates) and (runs, runs).
    """
    every, n_updates = early_warning.EVERY, early_warning.N_UPDATES
    won, met = np.zeros((len(runs), len(runs), len(CANDIDATES))), np.zeros((len(runs), len(runs)))
    for i, first in enumerate(runs):
        if first.passed is None:
            continue
        for j, second in enumerate(runs):
            for k in range(min(len(first.columns), len(second.columns))):
                t = (k + 1) * every
                positive = t < first.passed <= t + AHEAD
                negative = t + AHEAD <= n_updates and (second.passed is None or second.passed > t + AHEAD)
                if positive and negative:
                    won[i, j] += (np.sign(first.columns[k] - second.columns[k]) + 1) / 2
                    met[i, j] += 1
    return won, met


def areas(cells: Iterable[tuple[np.ndarray, np.ndarray]], draws: Iterable[np.ndarray]) -> np.ndarray:
    """The AUC of every candidate, with the runs of each cell drawn so often."""
    total, count = np.zeros(len(CANDIDATES)), 0.0
    for (won, met), times in zip(cells, draws, strict=True):
        total += np.einsum("i,j,ijc->c", times, times, won)
        count += times @ met @ times
    return total / count if count else np.full(len(CANDIDATES), np.nan)


def warned_at(column: np.ndarray, threshold: float) -> int | None:
    """The update of the second of two records in a row above the threshold."""
    above = column > threshold
    twice = np.flatnonzero(above[1:] & above[:-1])
    return int((twice[0] + 2) * early_warning.EVERY) if len(twice) else None


def threshold(columns: list[np.ndarray]) -> float:
    """The least one at which at most a tenth of the quiet runs raise a warning."""
    peaks = sorted((float(np.minimum(c[1:], c[:-1]).max()) for c in columns), reverse=True)
    return peaks[int(FALSE_ALARMS * len(peaks))]


def rule(runs: dict[str, list[Series]], k: int) -> list[tuple[bool, int | None]]:
    """Of the reporting runs of all cells that can be judged: whether each passed, and how long before (at the end: when) it was warned."""
    judged = []
    for cell in runs.values():
        quiet = [run.columns[:, k] for run in cell if run.seed == CALIBRATE and run.passed is None]
        if not quiet:
            continue
        limit = threshold(quiet)
        for run in cell:
            if run.seed == REPORT:
                at = warned_at(run.columns[:, k], limit)
                lead = None if at is None else (early_warning.N_UPDATES if run.passed is None else run.passed) - at
                judged.append((run.passed is not None, lead))
    return judged


def rates(judged: list[tuple[bool, int | None]]) -> tuple[float, float, float]:
    """Share of passing runs that are warned in time, their median lead, and share of quiet runs that are warned."""
    passing, quiet = ([lead for passed, lead in judged if passed is want] for want in (True, False))
    leads = [lead for lead in passing if lead is not None and lead >= LEAD]
    share = len(leads) / len(passing) if passing else np.nan
    false = sum(lead is not None for lead in quiet) / len(quiet) if quiet else np.nan
    return share, float(np.median(leads)) if leads else np.nan, false


def interval(values: Any) -> tuple[float, float]:
    """The middle of a bootstrap distribution."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where there is none, as of leads where nothing was warned, it is NaN
        low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def table(runs: list[Series], data: str) -> pd.DataFrame:
    """A row a candidate, for the runs whose cell name ends so."""
    rng = np.random.default_rng(SEED)
    cells = {cell: [run for run in runs if run.cell == cell] for cell in sorted({run.cell for run in runs}) if cell.endswith(data)}
    counted = [wins(cell) for cell in cells.values()]
    once = [np.ones(len(cell)) for cell in cells.values()]
    drawn = [
        [rng.multinomial(len(cell), np.full(len(cell), 1 / len(cell))).astype(float) for cell in cells.values()] for _ in range(REPLICATES)
    ]
    area, spread = areas(counted, once), np.array([areas(counted, draws) for draws in drawn])
    low, high = interval(spread)
    rows = []
    for k, name in enumerate(CANDIDATES):
        judged = rule(cells, k)
        share, lead, false = rates(judged)
        again = (
            [rates([judged[i] for i in rng.integers(0, len(judged), len(judged))]) for _ in range(REPLICATES)]
            if judged
            else [(np.nan,) * 3]
        )
        (share_low, lead_low, false_low), (share_high, lead_high, false_high) = interval(np.array(again))
        row = {"data": data or "both", "candidate": name, "auc": area[k], "low": low[k], "high": high[k]}
        row |= {"warned": share, "warned_low": share_low, "warned_high": share_high}
        row |= {"lead": lead, "lead_low": lead_low, "lead_high": lead_high}
        row |= {"false": false, "false_low": false_low, "false_high": false_high}
        row |= {"passing": sum(passed for passed, _ in judged), "quiet": sum(not passed for passed, _ in judged)}
        for other in OLD:
            difference = spread[:, k] - spread[:, CANDIDATES.index(other)]
            row |= dict(zip((f"over_{other}_low", f"over_{other}_high"), interval(difference), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """See the module."""
    provenance = Provenance()
    folder = str(RESULTS / "early_warning")
    results = read_results(Place(str(Path(early_warning.__file__)), folder, folder, ""))
    runs = [series(name, result) for name, result in sorted(results.items())]
    tables = pd.concat([table(runs, data) for data in ("", *early_warning.DATA)])
    tables.round(4).to_csv(RESULTS / "early_warning.csv", index=False)
    by_cell = [[run for run in runs if run.cell == cell] for cell in sorted({run.cell for run in runs})]
    curves = {name: curve(by_cell, k) for k, name in enumerate(CANDIDATES)}
    pd.DataFrame({"false": RATES, **curves}).round(4).to_csv(RESULTS / "early_warning_roc.csv", index=False)
    pd.DataFrame(
        [
            {"task": r["settings"]["task"], **{k: r["settings"][k] for k in ("data", "learner", "target", "activation", "seed")}}
            | {"passed_at": r["outcome"]["passed_at"]}
            for _, r in sorted(results.items())
        ]
    ).to_csv(RESULTS / "early_warning_runs.csv", index=False)
    provenance.write(RESULTS / "early_warning.json", runs=len(runs), replicates=REPLICATES, seed=SEED)


if __name__ == "__main__":
    main()
