"""The report on a saved agent of stable-baselines3 and recorded transitions, as a command.

    python -m deadly_triad.diagnose agent.zip --transitions batch.npz

The transitions are arrays in a file of NumPy: observations, actions, rewards, next_observations, ends and, if there are any, cuts, in the
order in which they were made. Nothing is unpickled, neither of the agent nor of the transitions, unless `--unpickle` says so.

This is a script and no module: the name belongs to the function.
"""

import argparse
import json
import sys
from typing import Any

import numpy as np

if __name__ != "__main__":
    raise ImportError(
        "deadly_triad.diagnose is a function; run the command as: python -m deadly_triad.diagnose agent.zip --transitions batch.npz"
    )

from deadly_triad.adapters.sb3 import Transitions, from_sb3, read_agent, read_zip
from deadly_triad.diagnosis import diagnose

NEEDED = ("observations", "actions", "rewards", "next_observations", "ends")


def read_transitions(path: str, agent: Any, scaled: bool) -> Transitions:
    """The arrays of the file, each in its shape.

    Raises:
        ValueError: if one is missing or does not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except OSError as reason:
        raise ValueError(f"{path} cannot be read: {reason.strerror or reason}") from reason
    except Exception as reason:  # of zip, of pickle, of NumPy
        raise ValueError(f"{path} must be a file of numpy.savez with arrays of numbers: {reason}") from reason
    if missing := [name for name in NEEDED if name not in arrays]:
        raise ValueError(f"{path} must hold {', '.join(NEEDED)}, and lacks {', '.join(missing)}")
    n = len(np.atleast_1d(arrays["rewards"]))
    for name in (*NEEDED, *(("cuts",) if "cuts" in arrays else ())):
        if arrays[name].shape[:1] != (n,) or not arrays[name].size:
            raise ValueError(f"{name} in {path} must have {n} rows, one a reward, got shape {arrays[name].shape}")
    for name in ("observations", "rewards"):
        if not np.all(np.isfinite(arrays[name])):
            raise ValueError(f"{name} in {path} must be finite, got NaN or infinity")
    ends, cuts = (np.asarray(arrays.get(name, np.zeros(n))).reshape(n).astype(bool) for name in ("ends", "cuts"))
    actions = arrays["actions"].reshape(n, -1)
    if agent.kind == "DQN":
        actions = actions[:, 0].astype(int)
    elif not scaled:
        if agent.low is None:
            raise ValueError("the box of actions is not written out in the agent: pass actions between -1 and 1, with --scaled")
        if actions.shape[1] != len(agent.low):
            raise ValueError(f"actions in {path} must have {len(agent.low)} columns, got {actions.shape[1]}")
        actions = 2 * (actions - agent.low) / (agent.high - agent.low) - 1
    seen = (arrays[name].reshape(n, -1).astype(np.float32) for name in ("observations", "next_observations"))
    observations, after = seen
    return Transitions(observations, actions, arrays["rewards"].reshape(n).astype(float), after, ends & ~cuts, cuts)


def unpickled(path: str) -> Any:
    """The agent, by the library itself."""
    import stable_baselines3

    kind = read_zip(path).kind  # which reads weights alone
    return read_agent(getattr(stable_baselines3, kind).load(path, device="cpu"))


def main(arguments: list[str]) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m deadly_triad.diagnose", description="Report on a saved agent of stable-baselines3.")
    parser.add_argument("agent", help="the zip file that agent.save() wrote")
    parser.add_argument("--transitions", required=True, help="file of numpy.savez")
    parser.add_argument("--pairs", type=int, default=256, help="so many transitions make the batch")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--step-size", type=float, default=None, help="of plain semi-gradients, for an agent without Adam")
    parser.add_argument("--scaled", action="store_true", help="the actions are between -1 and 1 already, as in the agent's replay buffer")
    parser.add_argument("--json", action="store_true", help="numbers for a log instead of text")
    parser.add_argument("--unpickle", action="store_true", help="load the whole agent, WHICH RUNS WHATEVER CODE THE FILE HOLDS")
    told = parser.parse_args(arguments)
    try:
        if told.unpickle:
            sys.stderr.write(f"Warning: {told.agent} is unpickled, and whatever code it holds is run.\n")
        agent = unpickled(told.agent) if told.unpickle else read_zip(told.agent)
        transitions = read_transitions(told.transitions, agent, told.scaled)
        found = from_sb3(agent, transitions, n=told.pairs, seed=told.seed, step_size=told.step_size)
        reports = {name: diagnose(**arguments) for name, arguments in found.items()}
    except (ValueError, ImportError) as reason:
        sys.stderr.write(f"{reason}\n")
        return 2
    if told.json:
        sys.stdout.write(json.dumps({name: report.numbers for name, report in reports.items()}) + "\n")
    else:
        sys.stdout.write("".join(f"{name}\n{report}\n" for name, report in reports.items()))
    return 0


sys.exit(main(sys.argv[1:]))
