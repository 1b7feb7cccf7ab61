"""What made a committed result: written beside it, so that a reader can tell and repeat it."""

import json
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


class Provenance:
    """Commit and clock at the start of a run; `write` them at its end.

    The commit is that of the start, because that is the code which runs.
    """

    def __init__(self) -> None:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        self.commit, self.begun = found.stdout.strip(), time.time()

    def write(self, path: Path, **settings: object) -> None:
        """Write settings, versions, date and duration as JSON.

        Args:
            path: of the file; its name, without the ending, is the experiment's.
            settings: seeds, sizes and whatever else the run was told; they must be JSON.
        """
        record = {
            "experiment": path.stem,
            **settings,
            "seconds": round(time.time() - self.begun),
            "finished": datetime.now(UTC).date().isoformat(),
            "commit": self.commit,
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "jax": version("jax"),
            "machine": f"{platform.machine()}, one core",
        }
        path.write_text(json.dumps(record, indent=2) + "\n")
