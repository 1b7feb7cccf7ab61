"""What made a committed result: written beside it, so that a reader can tell and repeat it. Everything here is measured, nothing typed."""

import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

VERSIONS = ("numpy", "scipy", "jax", "jaxlib")
RESULTS = ":(top,exclude)experiments/results"


class Provenance:
    """Commit and clocks at the start of a run; `record` or `write` them at its end.

    The commit is that of the start, because that is the code which runs; so is the word on whether anything differed from it.
    """

    def __init__(self) -> None:
        self.commit, self.dirty = _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--", ":/", RESULTS))
        self.begun, self.worked = time.monotonic(), _cpu_seconds()

    def record(self, **settings: object) -> dict[str, object]:
        """Settings, versions, date, durations, and what it ran on; no name of the machine.

        `dirty` says whether files differed from the commit, new ones included, but for results that earlier runs have left; `cores` how
        many the process may use; `threads` how many it has at the end; `cpu_seconds` what it and its children have worked.

        Args:
            settings: seeds, sizes and whatever else the run was told; they must be JSON.
        """
        return {
            **settings,
            "seconds": round(time.monotonic() - self.begun, 1),
            "cpu_seconds": round(_cpu_seconds() - self.worked, 1),
            "finished": datetime.now(UTC).date().isoformat(),
            "commit": self.commit,
            "dirty": self.dirty,
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONS},
            "machine": platform.machine(),
            "processor": _told("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": int(_told("/proc/self/status", "Threads") or 0) or "unknown",
        }

    def write(self, path: Path, **settings: object) -> None:
        """Write the record of an experiment as JSON; the name of the file, without its ending, is the experiment's."""
        path.write_text(json.dumps({"experiment": path.stem, **self.record(**settings)}, indent=2) + "\n", encoding="utf-8")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _told(path: str, key: str) -> str:
    """What Linux tells in a file of lines `key : value`; nothing elsewhere."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")
