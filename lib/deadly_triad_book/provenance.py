"""What made a committed result: written beside it, so that a reader can tell and repeat it."""

import json
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


class Provenance:
    """Commit and clock at the start of a run; `record` or `write` them at its end.

    The commit is that of the start, because that is the code which runs.
    """

    def __init__(self) -> None:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        self.commit, self.begun = found.stdout.strip(), time.time()

    def record(self, **settings: object) -> dict[str, object]:
        """Settings, versions, date and duration; no name of the machine.

        Args:
            settings: seeds, sizes and whatever else the run was told; they must be JSON.
        """
        return {
            **settings,
            "seconds": round(time.time() - self.begun),
            "finished": datetime.now(UTC).date().isoformat(),
            "commit": self.commit,
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "jax": version("jax"),
            "machine": f"{platform.machine()}, one core",
        }

    def write(self, path: Path, **settings: object) -> None:
        """Write the record of an experiment as JSON; the name of the file, without its ending, is the experiment's."""
        path.write_text(json.dumps({"experiment": path.stem, **self.record(**settings)}, indent=2) + "\n", encoding="utf-8")
