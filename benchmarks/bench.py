"""How fast the kernel, the solver and a whole PreQN update are, each as a ratio to something else in the same run.

    make bench                               everything, into results/bench.json
    python benchmarks/bench.py --offline     without the rivals that need an environment of their own

One core, float32. The two sides of a comparison take turns, each with a call to warm up and one that counts; the ratio is that of their
medians, with the quartiles of the ratios of the single rounds. What is timed is the CPU time of the process, not the clock on the wall:
on a core that nobody else uses the two agree, and elsewhere only the first means anything. Foreign packages live in processes of their
own, which answer one request at a time and time themselves, so they take turns in the same way. What cannot run says so in a sentence,
and the rest runs.
"""

import os

# Before JAX starts: it counts the cores then.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from deadly_triad.diagnosis import row_sums
from deadly_triad.kernel_updates import Coupling, Theorem2, kernel_modulus, kernel_update
from deadly_triad.networks import value_network
from deadly_triad.ntk import kernel_factors
from deadly_triad.preqn import Settings, solve_kernel
from deadly_triad_book.provenance import Provenance
from rivals import (
    Batch,
    Layers,
    kernel_flops,
    naive_agent,
    naive_kernel,
    pair,
    preqn_agent,
    random_batch,
    start,
    td3_agent,
    update_flops,
)

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "bench.json"
ENVIRONMENTS = HERE.parent / "_build" / "bench"
HIDDEN, SAMPLES, ACTIVATIONS = ((64, 64), (256, 256)), (128, 256), ("relu", "tanh", "sin")
SETTINGS = Settings()
RIVALS = {
    "neural_tangents": ["jax==0.4.25", "jaxlib==0.4.25", "neural-tangents==0.6.5", "numpy<2", "scipy<1.13"],
    "torch": ["torch==2.14.1", "stable-baselines3==2.9.2"],
}
QUESTIONS = {
    "neural_tangents": {
        "default": ("neural-tangents, default", ("relu",)),
        "best": ("neural-tangents, structured derivatives", ACTIVATIONS),
    },
    "torch": {
        "loop": ("PyTorch, loop over samples", ("relu",)),
        "vmap": ("PyTorch, vmap of grad", ("relu",)),
        "td3": ("stable-baselines3 TD3", ACTIVATIONS),
    },
}
LONG_ENOUGH = 1.0  # seconds of both sides together
Timer = Callable[[], float]


# --- Time ------------------------------------------------------------------------------------------------------------


def timer(function: Callable[..., Any], *arguments: Any, **named: Any) -> Timer:
    """A call that takes the CPU seconds of `function` on the arguments."""

    def run() -> float:
        start = time.process_time()
        jax.block_until_ready(function(*arguments, **named))
        return time.process_time() - start

    return run


def warm(side: Timer) -> float:
    """One turn: a call that is not counted, then one that is.

    Without it each side would start with the caches as the other one left them, and pay for returning its memory to the system: that
    goes on for milliseconds after a Jacobian, in a thread of its own, hence the pause.
    """
    time.sleep(0.01)
    side()
    return side()


def compare(top: Timer, bottom: Timer, rounds: int) -> dict[str, Any]:
    """The ratio of the first to the second, in turns: `rounds` of them, or up to five times as many where they are short."""
    for side in (top, bottom, top, bottom):
        side()
    turns: list[tuple[float, float]] = []
    while len(turns) < rounds or (len(turns) < 5 * rounds and np.sum(turns) < LONG_ENOUGH):
        turns.append((warm(top), warm(bottom)))
    seconds = np.array(turns)
    low, high = np.quantile(seconds[:, 0] / seconds[:, 1], [0.25, 0.75])
    above, below = np.median(seconds, axis=0)
    return {
        "top_us": round(above * 1e6, 1),
        "bottom_us": round(below * 1e6, 1),
        "ratio": round(above / below, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "rounds": len(turns),
    }


# --- Rivals in environments of their own -----------------------------------------------------------------------------


class Rival:
    """A process with its own Python environment, made here if it is missing."""

    def __init__(self, name: str, limit: float) -> None:
        place = ENVIRONMENTS / name
        python, complete, wanted = place / "bin" / "python", place / "complete", "\n".join(RIVALS[name])
        if not complete.exists() or complete.read_text(encoding="utf-8") != wanted:
            print(f"making the environment for {name} (at most {limit / 60:.0f} minutes)")
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *RIVALS[name]]
            for command in ([sys.executable, "-m", "venv", "--clear", place], install):
                subprocess.run(command, check=True, timeout=limit, capture_output=True)
            complete.write_text(wanted, encoding="utf-8")
        command = [python, HERE / f"in_{name}.py"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            RuntimeError: with the last line that the process wrote, if it has ended.
        """
        stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except BrokenPipeError:
            pass
        if answer := stdout.readline():
            return json.loads(answer)
        reasons = [line.strip() for line in stderr.read().splitlines() if line.strip()]
        raise RuntimeError(reasons[-1] if reasons else "its process ended without a word")

    def seconds(self, what: str) -> float:
        """CPU seconds of one run of what was loaded."""
        return float(self.ask(time=what)["seconds"])


def hire(names: Iterable[str], limit: float, missing: list[str]) -> dict[str, Rival]:
    """Those rivals that can be had; for each of the others a sentence in `missing`."""
    hired = {}
    for name in names:
        try:
            hired[name] = Rival(name, limit)
        except subprocess.TimeoutExpired:
            missing.append(f"{name} did not run: its environment was not ready within {limit / 60:.0f} minutes.")
        except (subprocess.CalledProcessError, OSError):
            missing.append(f"{name} did not run: its environment could not be installed (no network, or nothing for this Python?).")
    return hired


# --- What is measured ------------------------------------------------------------------------------------------------


def our_kernel(name: str) -> Callable[[Layers, jax.Array], jax.Array]:
    """The package's kernel of a batch, compiled."""
    network = value_network(name)
    return jax.jit(lambda parameters, inputs: kernel_factors(network, parameters, inputs).kernel())


def draw(hidden: tuple[int, ...], n: int) -> tuple[Any, Any, tuple[Batch, Batch], jax.Array]:
    """States of both agents, two minibatches, and the critic's inputs in the first."""
    keys = jax.random.split(jax.random.key(20261122), 4)
    batches = (random_batch(keys[0], n), random_batch(keys[1], n))
    inputs = jnp.concatenate([batches[0].observations, batches[0].actions], axis=1)
    preqn, td3 = preqn_agent("relu", SETTINGS), td3_agent("relu")  # the activation does not enter the start
    return start(preqn, keys[2], hidden), start(td3, keys[3], hidden), batches, inputs


def peak_flops(rounds: int) -> float:
    """Floating-point operations a second in the product of two square matrices, the best of three sizes and two libraries."""
    best = 0.0
    product = jax.jit(jnp.matmul)
    for n in (512, 1024, 2048):
        x = np.random.default_rng(0).standard_normal((n, n), np.float32)
        y = jnp.asarray(x)
        for run in (timer(product, y, y), timer(np.matmul, x, x)):
            run()
            best = max(best, 2 * n**3 / float(np.median([run() for _ in range(max(5, rounds // 2))])))
    return best


def export(hidden: tuple[int, ...], n: int) -> Path:
    """Weights and batch in a file for the rivals."""
    state, _, (batch, _), inputs = draw(hidden, n)
    columns = {name: np.asarray(getattr(batch, name)) for name in ("observations", "actions", "next_observations", "ends", "rewards")}
    for i, layer in enumerate(state.critics[0]):
        columns |= {f"weight{i}": np.asarray(layer.weight), f"bias{i}": np.asarray(layer.bias)}
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    path = ENVIRONMENTS / "case.npz"
    np.savez(path, inputs=np.asarray(inputs), **columns)
    return path


def measure_kernels(rounds: int, peak: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The kernel against the naive way, and its share of the peak."""
    ratios, shares = [], []
    for hidden in HIDDEN:
        for n in SAMPLES:
            state, _, _, inputs = draw(hidden, n)
            for name in ACTIVATIONS:
                network, ours = value_network(name), timer(our_kernel(name), state.critics[0], inputs)
                found = compare(timer(naive_kernel, network, state.critics[0], inputs), ours, rounds)
                case = {"hidden": list(hidden), "n": n, "activation": name}
                ratios.append(case | {"rival": "naive Jacobian"} | found)
                shares.append(case | {"share": round(kernel_flops(hidden, n) / (found["bottom_us"] * 1e-6) / peak, 4)})
    return ratios, shares


def measure_rivals(rounds: int, rivals: dict[str, Rival], missing: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The kernel against other libraries' kernels, and PreQN against a library's TD3."""
    kernels: list[dict[str, Any]] = []
    updates: list[dict[str, Any]] = []
    for rival, process in rivals.items():
        try:
            for hidden, n, name in product(HIDDEN, SAMPLES, ACTIVATIONS):
                state, _, batches, inputs = draw(hidden, n)
                kernel = our_kernel(name)
                answer = process.ask(load=str(export(hidden, n)), hidden=list(hidden), activation=name)
                for corner in answer.values():
                    np.testing.assert_allclose(corner, kernel(state.critics[0], inputs)[:2, :4], rtol=1e-3, atol=1e-4)
                for what, (title, activations) in QUESTIONS[rival].items():
                    if name not in activations:
                        continue
                    case = {"hidden": list(hidden), "n": n, "activation": name, "rival": title}
                    theirs = partial(process.seconds, what)
                    if what == "td3":
                        ours = timer(pair, preqn_agent(name, SETTINGS), state, batches)
                        updates.append(case | halved(compare(ours, theirs, rounds)))
                    else:
                        kernels.append(case | compare(theirs, timer(kernel, state.critics[0], inputs), rounds))
        except RuntimeError as reason:
            missing.append(f"{rival} did not run: {str(reason)[:160].rstrip('.')}.")
    return kernels, updates


def halved(found: dict[str, Any]) -> dict[str, Any]:
    """The times of one update, from those of two."""
    return found | {side: round(found[side] / 2, 1) for side in ("top_us", "bottom_us")}


def measure_updates(rounds: int) -> list[dict[str, Any]]:
    """Whole updates of PreQN against TD3, and against PreQN done naively."""
    found = []
    for hidden in HIDDEN:
        for n in SAMPLES:
            preqn, td3, batches, _ = draw(hidden, n)
            for name in ACTIVATIONS:
                case, theirs = {"hidden": list(hidden), "n": n, "activation": name}, timer(pair, td3_agent(name), td3, batches)
                agent = preqn_agent(name, SETTINGS)
                _, metrics = agent.update(preqn, batches[0], 1, jax.random.key(0))
                ratio = compare(timer(pair, agent, preqn, batches), theirs, rounds)
                told = {"rival": "JAX TD3", "backtracks": int(metrics["backtracks"]), "operations": update_flops(hidden, n)}
                found.append(case | told | halved(ratio))
                ratio = compare(timer(pair, preqn_agent(name, SETTINGS, delayed=True), preqn, batches), theirs, rounds)
                told = {"rival": "JAX TD3, both with a delayed actor", "operations": update_flops(hidden, n, delayed=True)}
                found.append(case | told | halved(ratio))
            naive = timer(pair, naive_agent("relu", SETTINGS), preqn, batches)
            ratio = compare(timer(pair, preqn_agent("relu", SETTINGS), preqn, batches), naive, min(rounds, 20))
            found.append({"hidden": list(hidden), "n": n, "activation": "relu", "rival": "naive PreQN"} | halved(ratio))
    return found


def measure_solvers(rounds: int) -> list[dict[str, Any]]:
    """Least squares by singular values against the Cholesky factor with refinement, with the residuals of both."""
    found = []
    least_squares = jax.jit(lambda K, delta: jnp.linalg.lstsq(K, delta)[0])
    ours = jax.jit(lambda K, delta: solve_kernel(K, delta).solution)
    for hidden in HIDDEN:
        for n in SAMPLES:
            state, _, (batch, _), inputs = draw(hidden, n)
            K = our_kernel("tanh")(state.critics[0], inputs)
            residuals = [
                float(jnp.linalg.norm(K @ solve(K, batch.rewards) - batch.rewards) / jnp.linalg.norm(batch.rewards))
                for solve in (least_squares, ours)
            ]
            case = {"hidden": list(hidden), "n": n, "activation": "tanh", "rival": "least squares by singular values"}
            residual = {"residual_rival": residuals[0], "residual_ours": residuals[1]}
            ratio = compare(timer(least_squares, K, batch.rewards), timer(ours, K, batch.rewards), rounds)
            found.append(case | residual | ratio)
    return found


def measure_growth(rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Time of the kernel against the number of samples and the width, with that of the naive way."""

    def at(width: int, n: int) -> dict[str, Any]:
        hidden = (width, width)
        state, _, _, inputs = draw(hidden, n)
        naive = timer(naive_kernel, value_network("tanh"), state.critics[0], inputs)
        return {"n": n, "width": width} | compare(naive, timer(our_kernel("tanh"), state.critics[0], inputs), max(5, rounds // 2))

    return {"n": [at(256, n) for n in (32, 64, 128, 256, 512)], "width": [at(width, 128) for width in (32, 64, 128, 256, 512)]}


def measure_rows(counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """Row sums of many pairs, each count in a process of its own whose largest memory is its own."""
    found = []
    for N in counts:
        answer = subprocess.run([sys.executable, __file__, "--rows", str(N)], check=True, capture_output=True, text=True).stdout
        found.append(json.loads(answer.splitlines()[-1]))
    return found


def largest_memory() -> int:
    """Bytes that this process held at most; `getrusage` alone counts, on Linux, those of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rows(N: int) -> dict[str, Any]:
    """Row sums, row ratios and the modulus of N pairs: the time of a second call, and the largest memory of the process."""
    state, _, _, inputs = draw((64, 64), N)
    network, rho = value_network("tanh"), np.full(N, 1 / N)
    before = largest_memory()

    def run() -> tuple[Any, float]:
        sums = row_sums(network, state.critics[0], inputs, rho)
        return sums.ratios, Theorem2(sums, discount=0.9, step_size=0.5 / sums.own.max()).modulus

    run()
    start = time.process_time()
    run()
    seconds = time.process_time() - start
    return {
        "N": N,
        "seconds": round(seconds, 4),
        "added_megabytes": round((largest_memory() - before) / 1e6, 1),
        "kernel_megabytes": round(4 * N**2 / 1e6, 1),
    }


def measure_passes(rounds: int) -> list[dict[str, Any]]:
    """One update with the kernel, and the modulus, of 5000 pairs, against one product of that matrix with a vector (BLAS, float64)."""
    N = 5000
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N, 40))
    coupling = Coupling(features @ features.T, np.full(N, 1 / N))
    values, target = rng.standard_normal(N), rng.standard_normal(N)

    def modulus() -> float:
        for kept in vars(coupling).keys() - {"kernel", "rho"}:  # what is timed is the first use
            del coupling.__dict__[kept]
        return kernel_modulus(coupling, 0.9, 0.01)

    single = timer(lambda: coupling.kernel @ target)
    update = timer(kernel_update, lambda _: target, values, coupling, 0.01)
    return [{"N": N, "what": what} | compare(run, single, rounds) for what, run in (("U3", update), ("beta(K)", timer(modulus)))]


# --- All of it -------------------------------------------------------------------------------------------------------


def show(title: str, found: list[dict[str, Any]]) -> None:
    """One line a comparison: both sides and the ratio with its quartiles."""
    print(f"\n{title}")
    for row in found:
        case = ", ".join(str(row[key]) for key in ("hidden", "n", "width", "N", "activation", "rival", "what") if key in row)
        if "ratio" in row:
            interval = f"{row['ratio']:8.2f}  [{row['low']:.2f}, {row['high']:.2f}]"
            print(f"  {interval:32}{row['top_us']:12.0f} us / {row['bottom_us']:10.0f} us   {case}")
        else:
            print("  " + ", ".join(f"{key} {value}" for key, value in row.items()))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="of each comparison, at least")
    parser.add_argument("--limit", type=float, default=900, help="seconds for making one environment")
    parser.add_argument("--offline", action="store_true", help="leave the rivals out that need an environment of their own")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rows:
        print(json.dumps(rows(options.rows)))
        return
    provenance, rounds = Provenance(), options.rounds
    missing: list[str] = []
    peak = peak_flops(rounds)
    print(f"peak of a matrix product: {peak / 1e9:.0f} GFLOP/s")
    found: dict[str, Any] = {"peak_gflops": round(peak / 1e9, 1), "missing": missing}
    found["kernel"], found["share"] = measure_kernels(rounds, peak)
    show("K: rival / ours", found["kernel"])
    show("K: share of the peak", found["share"])
    found["updates"] = measure_updates(rounds)
    show("Whole update: PreQN / rival", found["updates"])
    found["solvers"] = measure_solvers(rounds)
    show("Solver: rival / ours", found["solvers"])
    found["growth"] = measure_growth(rounds)
    for axis, points in found["growth"].items():
        show(f"Growth with {axis}: naive / ours", points)
    found["rows"] = measure_rows((1000, 2500, 5000, 10_000, 20_000))
    show("Row ratio and beta(K) in blocks", found["rows"])
    found["passes"] = measure_passes(rounds)
    show("Ours / one product with a vector", found["passes"])
    if options.offline:
        missing += [f"{name} did not run: this run was asked to stay offline." for name in RIVALS]
    else:
        kernels, updates = measure_rivals(rounds, hire(RIVALS, options.limit, missing), missing)
        show("K: other libraries / ours", kernels)
        show("Whole update: PreQN / other libraries", updates)
        found["kernel"] += kernels
        found["updates"] += updates
    for sentence in missing:
        print(f"\n{sentence}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"provenance": provenance.record(rivals=RIVALS)} | found, indent=1) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
