r"""Run what an experiment declares, with Dask, on this machine or on a cluster, and only what is missing.

    python experiments/runner.py experiments/control.py                      everything, stage by stage
    python experiments/runner.py experiments/control.py --stage tuning       one stage; --only TEXT keeps runs whose names contain the text
    python experiments/runner.py experiments/control.py --status             what is there, what runs, what is missing
    python experiments/runner.py experiments/control.py --scheduler tcp://…  on a scheduler that is there already

An experiment is a module with `STAGES`, a table of functions from the results so far (by name) to a list of `Run`s; with
`run(settings, checkpoint, progress)`, which makes a dictionary of one run's settings; and with `VERSIONS`, packages whose versions belong
to a result. Whoever runs it, client or worker, sees this folder and those of results and scratch files at the same place.

**Files decide.** A run is done when its file `results/NAME.json` is there. The worker writes it under another name, flushes it to the disk
and renames it, so that there is a whole file or none. Nothing that Dask says of a future is believed: a scheduler that was killed and comes
back has forgotten what it was asked. What is not done when nothing runs any more is missing, and the exit status is 1.

**A run goes on where it was.** While it runs, its checkpoint and how far it is lie in the scratch folder; both go when the result is there.
A checkpoint that another commit has made is not used.
"""

import argparse
import contextlib
import fcntl
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PINS = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"),
}
"""What a worker's environment must say before it begins: one thread a worker."""
DASK = {
    "distributed.scheduler.allowed-failures": 10,  # a run that a killed worker had is tried again, this often
    "distributed.scheduler.worker-ttl": None,  # a long computation may keep a worker from answering
    "distributed.scheduler.work-stealing": False,  # it would move what waits, never what runs
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.limit": "10s",
}


class Run(NamedTuple):
    """One run: a name, which is the path of its result without the ending, and settings, which are JSON."""

    name: str
    settings: dict[str, Any]


class Place(NamedTuple):
    """Where an experiment and its files are. All are paths as text, so that they travel.

    Attributes:
        module: of the experiment.
        results: folder of the results that are there.
        into: folder where new ones go, and where those are looked for that are not to be made again; as a rule the same.
        scratch: folder of what has begun.
    """

    module: str
    results: str
    into: str
    scratch: str

    def result(self, name: str) -> Path:
        """The file of a run that is done."""
        return Path(self.into) / f"{name}.json"

    def begun(self, name: str, ending: str) -> Path:
        """A file of a run that is not."""
        return Path(self.scratch) / f"{name}{ending}"


def load(place: Place) -> Any:
    """The module of the experiment, which may import its neighbours and `runner`."""
    path = Path(place.module)
    for folder in (str(Path(__file__).parent), str(path.parent)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    return importlib.import_module(path.stem)


# --- Files -----------------------------------------------------------------------------------------------------------


def write_whole(path: Path, text: str) -> None:
    """The file with this text, or none and an error: never half of it, whoever is killed when."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.half")
    try:
        with half.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process is in here with the same path. A process that dies is out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_results(place: Place) -> dict[str, Any]:
    """All results, by name."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for folder in (Path(place.results), Path(place.into))
        for path in sorted(folder.rglob("seed-*.json"))
    }


def read_progress(place: Place, name: str) -> dict[str, Any] | None:
    """How far a run is; None if it has not begun or is done."""
    try:
        return json.loads(place.begun(name, ".progress").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


# --- One run, on a worker --------------------------------------------------------------------------------------------


def work(place: Place, run: Run) -> str:
    """Do a run and write its result; this is what a worker does.

    Whose client was killed does not know, and goes on. So a second worker that is asked for the same run waits, and finds the result.
    """
    with alone(place.begun(run.name, ".lock")):
        if not place.result(run.name).exists():
            do(place, run)
    return run.name


def do(place: Place, run: Run) -> None:
    """The run itself; see `work`."""
    from deadly_triad_book.provenance import Provenance

    pin()
    module = load(place)
    with contextlib.chdir(ROOT):
        provenance = Provenance()
    checkpoint, said = place.begun(run.name, ".npz"), place.begun(run.name, ".progress")
    for path in (place.result(run.name), said):
        for half in path.parent.glob(f"{path.name}.*.half"):  # of a process that was killed as it wrote
            half.unlink(missing_ok=True)
    before = read_progress(place, run.name) or {}
    if before.get("commit") != provenance.commit:
        checkpoint.unlink(missing_ok=True)
        before = {}

    def spent() -> dict[str, Any]:
        """Of this attempt and those before it."""
        now = provenance.record()
        clocks = {clock: round(before.get(clock, 0) + now[clock], 1) for clock in ("seconds", "cpu_seconds")}
        versions = {name: version(name) for name in module.VERSIONS}
        return {**now, **versions, **clocks, "attempts": before.get("attempts", 0) + 1}

    def progress(blocks: Iterable[int]) -> Iterator[int]:
        """The blocks, and after each how many of them are done."""
        blocks = list(blocks)
        for block in blocks:
            write_whole(said, json.dumps(spent() | {"done": block, "of": blocks[-1] + 1}))
            yield block

    # MuJoCo writes a log where it runs.
    with contextlib.chdir(checkpoint.parent):
        outcome = module.run(run.settings, checkpoint, progress)
    record = {"name": run.name, "settings": run.settings, "outcome": outcome, "provenance": spent()}
    write_whole(place.result(run.name), json.dumps(record, allow_nan=False) + "\n")
    for leftover in (checkpoint, said, checkpoint.with_name(checkpoint.name + ".unfinished")):
        leftover.unlink(missing_ok=True)


def pin() -> None:
    """Keep a worker that has a number to one core: XLA makes as many threads as it sees cores, and they wait for each other busily."""
    from distributed import get_worker

    try:
        number = re.search(r"\d+$", str(get_worker().name))
    except ValueError:  # no worker
        return
    if number and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(number[0]) % len(cores)]})


# --- All runs, from a client -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(scheduler: str | None, n_workers: int) -> Iterator[Any]:
    """A client of the scheduler at that address, or of one with so many workers that is started here."""
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(DASK))
        if scheduler is None:
            scheduler = stack.enter_context(
                LocalCluster(n_workers=n_workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address="127.0.0.1:0")
            )
        client = stack.enter_context(Client(scheduler, timeout=60, set_as_default=False))
        print(f"Dask's dashboard: {client.dashboard_link}", flush=True)
        yield client


def finish(client: Any, place: Place, runs: list[Run], say: Callable[[str], None], every: float = 60.0) -> None:
    """Have the runs done, and return when none of them runs any more, whether all are done or not."""

    def there(folder: str, place: tuple[str, ...], run: tuple[str, Any]) -> str:
        """What is sent, whole, because scheduler and workers that were started elsewhere do not find this module."""
        import sys

        if folder not in sys.path:
            sys.path.insert(0, folder)
        import runner

        return runner.work(runner.Place(*place), runner.Run(*run))

    folder, where = str(Path(__file__).parent), tuple(place)
    futures = {
        run.name: client.submit(there, folder, where, tuple(run), key=run.name, priority=-i, pure=False) for i, run in enumerate(runs)
    }
    left, told = dict(futures), time.monotonic()
    while left:
        time.sleep(0.2)
        for name in [name for name, future in left.items() if future.status != "pending"]:
            future = left.pop(name)
            if place.result(name).exists():
                say(f"{len(futures) - len(left)}/{len(futures)} {name}")
            else:
                reason = repr(future.exception()) if future.status == "error" else f"Dask says {future.status}"
                say(f"NOT DONE {name}: {reason}")
        if time.monotonic() > told + every:
            told = time.monotonic()
            say(running(place, left))


def running(place: Place, names: Iterable[str]) -> str:
    """How far those are that have begun."""
    begun = {name: read_progress(place, name) for name in names}
    parts = [f"{name} {p['done']}/{p['of']} after {p['seconds']:.0f} s" for name, p in begun.items() if p]
    return "running: " + ("; ".join(parts) or "nothing has begun")


def missing(place: Place, runs: Iterable[Run]) -> list[Run]:
    """The runs without a result."""
    return [run for run in runs if not place.result(run.name).exists()]


def declared(module: Any, place: Place, stage: str, only: str) -> list[Run]:
    """The runs of a stage, as the results are now."""
    return [run for run in module.STAGES[stage](read_results(place)) if only in run.name]


def tell(module: Any, place: Place, stages: Iterable[str], only: str) -> bool:
    """Print how far each stage is, and whether all are done."""
    done = True
    for stage in stages:
        try:
            runs = declared(module, place, stage, only)
        except ValueError as reason:
            print(f"{stage}: not yet known, because {reason}")
            done = False
            continue
        lacking = missing(place, runs)
        print(f"{stage}: {len(runs) - len(lacking)} of {len(runs)} done")
        if begun := [run.name for run in lacking if read_progress(place, run.name)]:
            print("  begun: " + running(place, begun).removeprefix("running: "))
        done &= not lacking
    return done


def sweep(module: Any, place: Place, stages: Iterable[str], only: str, client: Any) -> bool:
    """Run what is missing, stage by stage, and say whether nothing is missing now."""

    def say(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    known = 0
    for stage in stages:
        tried: set[str] = set()
        while True:
            try:
                runs = declared(module, place, stage, only)
            except ValueError as reason:
                say(f"{stage} cannot run: {reason}")
                return False
            lacking, known = missing(place, runs), known + len(runs)
            say(f"{stage}: {len(runs) - len(lacking)} of {len(runs)} done")
            if not lacking:
                break
            if tried.issuperset(run.name for run in lacking):
                say(f"{stage}: missing {', '.join(run.name for run in lacking)}")
                return False
            # What did not succeed is not tried again in the same call; results may ask for more runs.
            fresh = [run for run in lacking if run.name not in tried]
            tried |= {run.name for run in fresh}
            finish(client, place, fresh, say)
    if not known:
        say(f"no run has {only!r} in its name")
    return known > 0


def main(arguments: list[str]) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="Run what an experiment declares and has no result yet.")
    parser.add_argument("experiment", type=Path, help="its module, such as experiments/control.py")
    parser.add_argument("--stage", default="all", help="one of the experiment's stages, several with commas, or all")
    parser.add_argument("--only", default="", help="runs whose names contain this")
    parser.add_argument("--scheduler", default=None, help="address of a Dask scheduler")
    parser.add_argument("--workers", type=int, default=int(os.environ.get("WORKERS", "2")), help="without a scheduler: how many to start")
    parser.add_argument("--results", type=Path, default=None, help="folder of results")
    parser.add_argument("--into", type=Path, default=None, help="another folder for new results: repeat there what is in the former")
    parser.add_argument("--scratch", type=Path, default=None, help="folder of checkpoints")
    parser.add_argument("--status", action="store_true", help="only say how far it is")
    told = parser.parse_args(arguments)
    os.environ.update({name: os.environ.get(name, value) for name, value in PINS.items()})
    name = told.experiment.stem
    results = told.results or ROOT / "experiments" / "results" / name
    scratch = told.scratch or ROOT / "_build" / "experiments" / name
    place = Place(*(str(path.resolve()) for path in (told.experiment, results, told.into or results, scratch)))
    module = load(place)
    stages = list(module.STAGES) if told.stage == "all" else told.stage.split(",")
    if unknown := [stage for stage in stages if stage not in module.STAGES]:
        parser.error(f"stage must be among {', '.join(module.STAGES)}, got {', '.join(unknown)}")
    if told.status:
        return 0 if tell(module, place, stages, told.only) else 1
    with connected(told.scheduler, told.workers) as client:
        done = sweep(module, place, stages, told.only, client)
    return 0 if done else 1


if __name__ == "__main__":
    # Under its own name, so that workers can import what they are sent.
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(importlib.import_module("runner").main(sys.argv[1:]))
