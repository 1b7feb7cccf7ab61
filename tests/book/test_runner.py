"""The runner of long experiments, with runs that only sleep: whoever is killed, what is finished stays, and the exit status is right."""

import contextlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

RUNNER = Path(__file__).parents[2] / "experiments" / "runner.py"
N_RUNS, N_BLOCKS = 4, 5
# Each run adds up its blocks in a checkpoint, and tells in a common log which process did which block.
NAPS = f"""
import json, os, time
from pathlib import Path
from runner import Run

VERSIONS = ()
N_BLOCKS = {N_BLOCKS}
STAGES = {{"naps": lambda results: [Run(f"naps/{{i}}/seed-0", {{"i": i}}) for i in range({N_RUNS})]}}


def run(settings, checkpoint, progress):
    state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {{"done": 0, "sum": settings["i"]}}
    for block in progress(range(state["done"], N_BLOCKS)):
        with (Path(__file__).parent / "log").open("a") as log:
            log.write(f"{{os.getpid()}} {{settings['i']}} {{block}}\\n")
        time.sleep(NAP)
        state = {{"done": block + 1, "sum": state["sum"] + 10 * block}}
        half = checkpoint.with_name("half")
        half.write_text(json.dumps(state))
        half.replace(checkpoint)
    return {{"sum": state["sum"], "ballast": "x" * (BALLAST if settings["i"] == 2 else 1)}}
"""


class Naps:
    """An experiment in a folder of its own, and the processes that a test starts for it."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.module, self.results = folder / "naps.py", folder / "results"

    def write(self, nap, ballast=1):
        self.module.write_text(f"NAP, BALLAST = {nap}, {ballast}\n" + NAPS)

    def start(self, *command, **options):
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen([sys.executable, *command], cwd=self.folder, **(streams | options))
        self.processes.append(process)
        return process

    def client(self, *more, **options):
        places = ("--results", str(self.results), "--scratch", str(self.folder / "scratch"))
        return self.start(str(RUNNER), str(self.module), *places, *more, **options)

    def cluster(self):
        """A scheduler and a worker that are processes of their own, and the scheduler's address."""
        found = self.folder / f"scheduler-{len(self.processes)}.json"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        dask = ("-m", "dask")
        where = ("--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--no-show")
        scheduler = self.start(*dask, "scheduler", *where, "--scheduler-file", str(found), **quiet)
        worker = self.start(
            *dask, "worker", "--scheduler-file", str(found), "--nthreads", "1", "--name", "0", "--no-dashboard",
            "--local-directory", str(self.folder), "--memory-limit", "0", "--death-timeout", "60", **quiet,
        )  # fmt: skip
        wait_for(found.exists)
        return scheduler, worker, json.loads(found.read_text())["address"]

    def log(self):
        """Rows of process, run and block."""
        log = self.folder / "log"
        return [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []

    def finished(self):
        return {path.parent.name: json.loads(path.read_text()) for path in self.results.rglob("*.json")}

    def is_amid(self):
        """Whether some run is finished, and another has a checkpoint."""
        found = self.finished()
        return bool(found) and any(block >= 1 and str(i) not in found for _, i, block in self.log())

    def check_all(self):
        """All results are there and right, nothing is left over, and no run that was finished was begun again."""
        found = self.finished()
        assert {name: result["outcome"]["sum"] for name, result in found.items()} == {
            str(i): i + 10 * sum(range(N_BLOCKS)) for i in range(N_RUNS)
        }
        assert all(result["settings"] == {"i": int(name)} for name, result in found.items())
        leftovers = [path for folder in (self.results, self.folder / "scratch") for path in folder.rglob("*") if path.is_file()]
        assert all(path.name in ("seed-0.json", "seed-0.lock") for path in leftovers), leftovers
        return found


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def is_gone(pid):
    """Whether there is no such process, or one that only waits to be asked how it ended."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def naps(tmp_path):
    experiment = Naps(tmp_path)
    yield experiment
    for process in experiment.processes:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    for pid in {pid for pid, *_ in experiment.log()} - {os.getpid()}:
        if not is_gone(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_killed_worker_costs_a_block(naps):
    naps.write(nap=0.2)
    client = naps.client("--workers", "1")
    wait_for(lambda: any(block == 2 for *_, block in naps.log()))
    status = naps.client("--status")
    told = status.communicate()[0]
    assert status.returncode == 1
    assert f"naps: {len(naps.finished())} of {N_RUNS} done" in told
    assert "begun: naps/" in told
    pid, killed, _ = naps.log()[-1]
    os.kill(pid, signal.SIGKILL)
    told = client.communicate()[0]
    assert client.returncode == 0, told
    assert "dashboard: http://" in told
    found = naps.check_all()
    assert {name: result["provenance"]["attempts"] for name, result in found.items()} == {str(i): 1 + (i == killed) for i in range(N_RUNS)}
    blocks = Counter((i, block) for _, i, block in naps.log())
    assert [key for key, count in blocks.items() if count > 1 and key[0] != killed] == []
    assert sum(blocks.values()) <= N_RUNS * N_BLOCKS + 1
    assert blocks[killed, 0] == 1

    status = naps.client("--status")
    assert f"naps: {N_RUNS} of {N_RUNS} done" in status.communicate()[0]
    assert status.returncode == 0


def test_a_killed_scheduler_is_told_by_the_exit_status_and_costs_nothing_finished(naps):
    naps.write(nap=0.15)
    scheduler, _, address = naps.cluster()
    client = naps.client("--scheduler", address)
    wait_for(naps.is_amid)
    scheduler.kill()
    told = client.communicate(timeout=180)[0]
    assert client.returncode == 1, told
    assert "NOT DONE" in told
    assert "missing naps/" in told
    before = set(naps.finished())
    assert 1 <= len(before) < N_RUNS

    *_, address = naps.cluster()
    n_before = len(naps.log())
    again = naps.client("--scheduler", address)
    told = again.communicate(timeout=180)[0]
    assert again.returncode == 0, told
    naps.check_all()
    assert not before & {str(i) for _, i, _ in naps.log()[n_before:]}


def test_a_killed_client_takes_its_workers_with_it_and_a_second_one_finishes(naps):
    naps.write(nap=0.5)  # long enough that the kill comes in the midst of a run on a busy machine, too
    client = naps.client("--workers", "2")
    wait_for(naps.is_amid)
    client.kill()
    client.wait()
    wait_for(lambda: all(is_gone(pid) for pid, *_ in naps.log()))
    before, n_before = set(naps.finished()), len(naps.log())
    assert before
    again = naps.client("--workers", "1")
    told = again.communicate()[0]
    assert again.returncode == 0, told
    naps.check_all()
    later = [(i, block) for _, i, block in naps.log()[n_before:]]
    assert not before & {str(i) for i, _ in later}
    # What was cut off goes on from its checkpoint.
    assert any(block > 0 and (i, block - 1) not in later for i, block in later)


class Here:
    """In place of a client: what is submitted is done at once, in this process."""

    def submit(self, function, *arguments, **_):
        try:
            function(*arguments)
        except OSError as error:
            reason = error
            return SimpleNamespace(status="error", exception=lambda: reason)
        return SimpleNamespace(status="finished")


@pytest.fixture
def here(naps, monkeypatch):
    """The runner with the arguments of `naps`, in this process and without Dask."""
    monkeypatch.syspath_prepend(RUNNER.parent)
    runner = importlib.import_module("runner")
    monkeypatch.setattr(runner, "connected", lambda *_: contextlib.nullcontext(Here()))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, value in runner.PINS.items():
        monkeypatch.setenv(name, os.environ.get(name, value))

    def call(*more):
        monkeypatch.delitem(sys.modules, "naps", raising=False)
        return runner.main([str(naps.module), "--results", str(naps.results), "--scratch", str(naps.folder / "scratch"), *more])

    return call


def test_a_write_that_fails_half_way_leaves_no_file_and_is_told(naps, here, capsys):
    """Where no disk of its own can be had: a limit on the size of files, too, takes the first part and refuses the rest."""
    naps.write(nap=0.0, ballast=3_000_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        assert here() == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "NOT DONE naps/2/seed-0: OSError" in capsys.readouterr().out
    assert set(naps.finished()) == {"0", "1", "3"}
    assert [path.name for path in naps.results.rglob("*") if path.is_file()] == ["seed-0.json"] * 3

    n_before = len(naps.log())
    assert here() == 0
    assert len(naps.check_all()["2"]["outcome"]["ballast"]) == 3_000_000
    assert naps.log()[n_before:] == []  # all its blocks were in the checkpoint


@pytest.fixture
def small_disk(naps):
    """The folder of results on a disk of its own, of 64 kB, where that can be had; calling it gives the disk room."""
    naps.results.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(naps.results)]
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk of its own takes a Linux that lets this user mount one")
    yield lambda: subprocess.run([mount, "-o", "remount,size=8m", str(naps.results)], check=True)
    subprocess.run([shutil.which("umount"), str(naps.results)], check=True)


def test_a_full_disk_costs_only_what_has_no_room(naps, here, small_disk, capsys):
    naps.write(nap=0.0, ballast=3_000_000)
    assert here() == 1
    assert "No space left on device" in capsys.readouterr().out
    assert set(naps.finished()) == {"0", "1", "3"}
    assert [path.name for path in naps.results.rglob("*") if path.is_file()] == ["seed-0.json"] * 3
    small_disk()
    n_before = len(naps.log())
    assert here() == 0
    naps.check_all()
    assert naps.log()[n_before:] == []


def test_a_checkpoint_of_another_commit_is_not_used(naps, here):
    naps.write(nap=0.0)
    begun = naps.folder / "scratch" / "naps" / "1"
    begun.mkdir(parents=True)
    (begun / "seed-0.npz").write_text(json.dumps({"done": N_BLOCKS, "sum": -1}))
    (begun / "seed-0.progress").write_text(json.dumps({"commit": "0" * 40, "seconds": 50, "cpu_seconds": 50, "attempts": 1}))
    (begun / "seed-0.progress.123.half").write_text("{")
    assert here("--only", "naps/1/") == 0
    (result,) = naps.finished().values()
    assert result["outcome"]["sum"] == 1 + 10 * sum(range(N_BLOCKS))
    assert result["provenance"]["attempts"] == 1
    assert result["provenance"]["seconds"] < 50
    assert [path.name for path in begun.iterdir()] == ["seed-0.lock"]


def test_a_result_is_repeated_elsewhere(naps, here):
    naps.write(nap=0.0)
    assert here("--only", "naps/1/") == 0
    assert here("--only", "naps/1/") == 0
    # Nor is it done again by a worker that is asked once more, as after a kill between the writing and the telling.
    runner = sys.modules["runner"]
    place = runner.Place(str(naps.module), str(naps.results), str(naps.results), str(naps.folder / "scratch"))
    assert runner.work(place, runner.Run("naps/1/seed-0", {"i": 1})) == "naps/1/seed-0"
    assert len(naps.log()) == N_BLOCKS
    there = naps.folder / "again"
    assert here("--only", "naps/1/", "--into", str(there)) == 0
    assert len(naps.log()) == 2 * N_BLOCKS
    first, second = (json.loads(path.read_text()) for folder in (naps.results, there) for path in folder.rglob("*.json"))
    assert first["outcome"] == second["outcome"]


def test_two_workers_do_not_do_one_run_at_once(naps, here):
    """As when a client was killed whose worker goes on, and another client asks for the same run."""
    naps.write(nap=0.0)
    assert here("--only", "naps/1/") == 0
    runner = sys.modules["runner"]
    place = runner.Place(str(naps.module), str(naps.results), str(naps.results), str(naps.folder / "scratch"))
    n_before = len(naps.log())
    waiting = [threading.Thread(target=runner.work, args=(place, runner.Run(f"naps/{i}/seed-0", {"i": i}))) for i in (0, 2)]
    with runner.alone(place.begun("naps/0/seed-0", ".lock")), runner.alone(place.begun("naps/2/seed-0", ".lock")):
        for thread in waiting:
            thread.start()
        time.sleep(0.5)
        assert len(naps.log()) == n_before
        runner.write_whole(place.result("naps/0/seed-0"), "{}")
    for thread in waiting:
        thread.join()
    assert [(i, block) for _, i, block in naps.log()[n_before:]] == [(2, block) for block in range(N_BLOCKS)]


def test_a_name_that_no_run_has_is_no_success(naps, here, capsys):
    naps.write(nap=0.0)
    assert here("--only", "nap/1/") == 1
    assert "no run has 'nap/1/' in its name" in capsys.readouterr().out


def test_an_unknown_stage_is_refused(naps, here, capsys):
    naps.write(nap=0.0)
    with pytest.raises(SystemExit) as refusal:
        here("--stage", "dreams")
    assert refusal.value.code == 2
    assert "stage must be among naps, got dreams" in capsys.readouterr().err
