"""Write rliable_reference.json: what rliable makes of some made-up scores, for `test_control_summary`.

    python tests/book/rliable_reference.py            where rliable is installed (with a pandas before 3, which its bootstrap wants)

It is not in our locks: its newest release is no wheel, and it brings nine packages for statistics of thirty lines.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rliable import library, metrics

REPLICATES = 20_000


def main() -> None:
    """Compute and write."""
    rng = np.random.default_rng(4)
    scores = {"first": rng.normal(1, 1, (5, 3)).round(3), "second": rng.normal(0.6, 1, (5, 3)).round(3)}
    scores["second"][0, 0] = scores["first"][1, 0]  # a tie

    def iqm(table):
        return np.array([metrics.aggregate_iqm(table)])

    means, intervals = library.get_interval_estimates(scores, iqm, reps=REPLICATES)
    pair = {"pair": (scores["first"], scores["second"])}
    chance, spread = library.get_interval_estimates(pair, metrics.probability_of_improvement, reps=REPLICATES)
    found = {
        "scores": {name: table.tolist() for name, table in scores.items()},
        "interquartile_mean": {name: float(means[name][0]) for name in scores},
        "interval": {name: np.ravel(intervals[name]).tolist() for name in scores},
        "probability": float(np.ravel(chance["pair"])[0]),
        "probability_interval": np.ravel(spread["pair"]).tolist(),
        "versions": {name: version(name) for name in ("rliable", "arch", "numpy")},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
